// Package payment is the vocabulary of the switch: what is authorized, how it
// is numbered, how it ends, and which steps of its life follow which.
//
// It holds values and pure functions only: no clock, no randomness, no I/O, no
// lock. Every other package speaks in these types; this one imports only card.
package payment

import (
	"errors"

	"authswitch/card"
)

// Errors that cross packages. They say what is known of the wire, which is
// what decides between failover and reversal.
var (
	// ErrNotSent is proof that no byte of the message reached a socket.
	ErrNotSent = errors.New("never written")
	// ErrUnknownOutcome means that bytes may have left and no usable answer came.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrRejected means that the peer refused the message as such (0620, format
	// error) and keeps nothing of it. Its outcome is unknown all the same.
	ErrRejected = errors.New("rejected by the peer")
	// ErrTimeout, ErrConnectionLost and ErrUnparsable say why an outcome is
	// unknown; they are wrapped together with ErrUnknownOutcome.
	ErrTimeout        = errors.New("no answer in time")
	ErrConnectionLost = errors.New("connection lost")
	ErrUnparsable     = errors.New("answer cannot be decoded")
	// ErrExpired says why something was never written: its time was over.
	ErrExpired = errors.New("too late to send")
	// ErrBusy means that a limit is reached; nothing was done.
	ErrBusy = errors.New("busy")
	// ErrUnavailable means that a part is not there; nothing was done.
	ErrUnavailable = errors.New("unavailable")
	// ErrPending means that the outcome could not be learned or committed in
	// time: a non-final answer, settled later.
	ErrPending = errors.New("outcome pending")
	// ErrNotFound means that no such record exists.
	ErrNotFound = errors.New("not found")
	// ErrSecurity means that a PIN or MAC could not be worked on: no security
	// module, no key, or PIN traffic is stopped. Nothing is known to be wrong with
	// the message.
	ErrSecurity = errors.New("security module unavailable")
	// ErrPINRefused means that the security module does not take a PIN block. It
	// never says why.
	ErrPINRefused = errors.New("PIN block refused")
	// ErrBadMAC means that a message's MAC does not hold, or is missing.
	ErrBadMAC = errors.New("MAC does not hold")
)

// Instant is a moment in nanoseconds since 1970 UTC, from the wall clock of
// the process that wrote it. Zero is never.
type Instant int64

// Names of things that are configured. They are distinct so that one cannot
// stand where another is meant.
type (
	// MerchantID names a merchant, such as "parcels".
	MerchantID string
	// GatewayID names a caller of the API.
	GatewayID string
	// LinkName names a link to an acquirer or scheme, such as "cb-a".
	LinkName string
	// DialectName names a dialect file, such as "visa".
	DialectName string
	// NodeID names a member of the cluster, such as "n1".
	NodeID string
)

// Session is the epoch of a node's life: intents belong to the session that
// opened them, and its end turns them into reversals.
type Session uint64

// Scheme is the network a card is routed to. Zero is none.
type Scheme uint8

// The schemes.
const (
	NoScheme Scheme = iota
	CB
	Visa
	Mastercard
	Amex
	UnionPay
	JCB
	Discover
	ANCV
	schemes
)

var schemeNames = [schemes]string{"", "cb", "visa", "mastercard", "amex", "unionpay", "jcb", "discover", "ancv"}

// String is the scheme's name in API and configuration.
func (s Scheme) String() string {
	if s >= schemes {
		return "unknown"
	}
	return schemeNames[s]
}

// ParseScheme reads a name as String writes it; NoScheme when unknown.
// Diners shares Discover's network.
func ParseScheme(name []byte) Scheme {
	if string(name) == "diners" {
		return Discover
	}
	for s := CB; s < schemes; s++ {
		if schemeNames[s] == string(name) {
			return s
		}
	}
	return NoScheme
}

// Channel is how the cardholder's order reached the merchant.
type Channel uint8

// The channels. Each has its own DE 22 and DE 25 in a dialect.
const (
	NoChannel Channel = iota
	Ecommerce
	MOTO
	PayByLink
	CardPresent
	Recurring
	Instalment
	channels
)

var channelNames = [channels]string{"", "ecommerce", "moto", "pay_by_link", "card_present", "recurring", "instalment"}

// String is the channel's name in API and configuration.
func (c Channel) String() string {
	if c >= channels {
		return "unknown"
	}
	return channelNames[c]
}

// ParseChannel reads a name as String writes it; NoChannel when unknown.
func ParseChannel(name []byte) Channel {
	for c := Ecommerce; c < channels; c++ {
		if channelNames[c] == string(name) {
			return c
		}
	}
	return NoChannel
}

// CaptureMode says who captures an approved authorization.
type CaptureMode uint8

// The capture modes.
const (
	CaptureManual CaptureMode = iota
	CaptureAutomatic
	CaptureNever      // an account is verified: there is nothing to capture
	CaptureCorrection // automatic, of a payment that corrects another
)

// String is the mode's name in the API.
func (m CaptureMode) String() string {
	switch m {
	case CaptureAutomatic, CaptureCorrection:
		return "automatic"
	case CaptureNever:
		return "never"
	}
	return "manual"
}

// Capturing is how and until when an approved authorization is captured: the
// contract's and the dialect's part of it.
type Capturing struct {
	Mode  CaptureMode
	Means OperationMeans // of an automatic capture; MeansNone: nothing more travels
	MTI   uint16         // of its message
	// Within is how long after the request captures are taken; then what is left
	// is reversed. Zero: for ever.
	Within Instant
}

// ThreeDSecure is what the merchant's 3-D Secure server returned.
type ThreeDSecure struct {
	Version             []byte // "2.2.0"
	ECI                 []byte // two digits
	AuthenticationValue []byte // base64 of 20 bytes: CAVV, AAV, AEVV
	DSTransactionID     []byte // UUID of the directory server
}

// Present says whether there is any 3-D Secure data.
func (t *ThreeDSecure) Present() bool { return len(t.ECI) > 0 || len(t.AuthenticationValue) > 0 }

// StoredCredential says who starts a payment with stored card data, and why.
type StoredCredential struct {
	MerchantInitiated    bool
	Usage                []byte // first, recurring, instalment, unscheduled, subsequent
	NetworkTransactionID []byte // of the first payment, where there is one
}

// Authorization is what a gateway asks for. It lives in memory for one request
// and is wiped after it: it is the only type that holds clear card data. Byte
// slices alias the request's body.
type Authorization struct {
	ID               ID
	Gateway          GatewayID
	Merchant         MerchantID
	Key              []byte // Idempotency-Key
	Reference        []byte // the merchant's own, such as an order number
	Amount           Amount
	Channel          Channel
	Capture          CaptureMode
	Brand            Scheme // the cardholder's choice on a co-badged card
	AcceptsPartial   bool   // a partial approval is useful to the merchant
	SaveCard         bool   // keep the card, if this is approved
	Holder           []byte // the cardholder's name, to keep with it
	Tags             []byte // the merchant's own, such as a performance, a line each
	Card             card.Card
	PIN              PIN       // as it came
	Entry            EntryMode // how a card that is present was read
	ThreeDS          ThreeDSecure
	Exemption        []byte // sca.exemption: tra, low_value, mit, …
	StoredCredential StoredCredential
	RetryOf          ID       // the soft decline that this one tries again, authenticated; zero: none
	PaymentLink      ID       // that is paid; zero: none
	Over             LinkName // only over this link; "": any
	Handed           LinkName // another node handed it here for this link; "": it came from its gateway
	Here             bool     // no other node took it: only what this one has is tried
	ReceivedAt       Instant
	Deadline         Instant // the gateway's budget ends; an answer is given by then
}

// Wipe overwrites the card data and forgets everything else.
func (a *Authorization) Wipe() {
	a.Card.Wipe()
	a.PIN.Wipe()
	*a = Authorization{}
}

// OnFile says whether the card was stored before this payment.
func (a *Authorization) OnFile() bool {
	return a.Card.Token != "" || len(a.StoredCredential.Usage) > 0 && string(a.StoredCredential.Usage) != "first"
}
