package payment

// ResponseCode is DE 39 as it travelled: two characters in 1987, three digits
// in 1993, four in 2003. Unused bytes are zero.
type ResponseCode [4]byte

// MakeResponseCode copies up to four characters.
func MakeResponseCode(b []byte) ResponseCode {
	var c ResponseCode
	copy(c[:], b)
	return c
}

// Bytes is the code without padding.
func (c *ResponseCode) Bytes() []byte { return trimZero(c[:]) }

// String is the code, "" when absent.
func (c ResponseCode) String() string { return string(trimZero(c[:])) }

// ApprovalCode is DE 38, an6. The zero value is absent.
type ApprovalCode [6]byte

// String is the code, "" when absent.
func (c ApprovalCode) String() string { return string(trimZero(c[:])) }

// NetworkTransactionID identifies a payment in its scheme for ever: Visa's
// transaction id, Mastercard's Banknet reference and date, and so on. Its
// composition is the dialect's. The zero value is absent.
type NetworkTransactionID [24]byte

// String is the identifier, "" when absent.
func (n NetworkTransactionID) String() string { return string(trimZero(n[:])) }

func trimZero(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// Action is what a DE 39 decides about a request.
type Action uint8

// The actions.
const (
	ActionNone             Action = iota // nothing usable: unknown outcome, reverse
	ActionApprove                        // approved in full
	ActionApprovePartially               // approved for DE 4 of the answer
	ActionDecline                        // an explicit no
)

// Flags are what else a DE 39 triggers (docs/iso8583-behaviour.md §7).
type Flags uint16

// The flags.
const (
	MayRetry        Flags = 1 << iota // R: the gateway may try again later
	TryOther                          // F: another route now
	TryOtherNoHold                    // F only where the dialect says the acquirer keeps no hold
	TryOtherTerms                     // F only under another contract
	MustReverse                       // V: reverse, as after a timeout
	MayStandIn                        // S: stand-in may decide
	BlockToken                        // the card is lost or stolen
	StopMandate                       // the cardholder stopped recurring payments
	RaiseAlarm                        // somebody must look at our side
	NeedsAuth                         // soft decline: authenticate with 3-D Secure, then again
	NeedsNewData                      // only after the data changed
	SecurityTrouble                   // PIN or key trouble
	NeedsIdentity                     // approved if somebody at the counter sees an identity document
)

// Has says whether all of f are set.
func (fl Flags) Has(f Flags) bool { return fl&f == f }

// Verdict is the meaning of a DE 39 in a dialect.
type Verdict struct {
	Action Action
	Flags  Flags
	Reason Reason
}

// Retry is the advice a gateway gets with a decline.
func (v Verdict) Retry() string {
	switch {
	case v.Action == ActionApprove || v.Action == ActionApprovePartially:
		return ""
	case v.Flags.Has(NeedsAuth):
		return "authenticate"
	case v.Flags.Has(NeedsNewData):
		return "after_change"
	case v.Flags.Has(MayRetry):
		return "later"
	}
	return "never"
}

// Reason is the stable name of a decline in the API.
type Reason uint8

// The reasons.
const (
	ReasonNone Reason = iota
	ReasonApproved
	ReasonReferToIssuer
	ReasonInvalidMerchant
	ReasonPickUpCard
	ReasonLostCard
	ReasonStolenCard
	ReasonDoNotHonour
	ReasonInvalidTransaction
	ReasonInvalidAmount
	ReasonInvalidCard
	ReasonNoSuchIssuer
	ReasonNotPermitted
	ReasonMandateStopped
	ReasonFormatError
	ReasonExpiredCard
	ReasonWrongPIN
	ReasonWrongCVV
	ReasonInsufficientFunds
	ReasonSuspectedFraud
	ReasonLimitExceeded
	ReasonRestrictedCard
	ReasonFrequencyExceeded
	ReasonPINTriesExceeded
	ReasonAuthenticationRequired
	ReasonMalfunction
	ReasonIssuerUnavailable
	ReasonTooLate
	ReasonDuplicate
	ReasonNotFound
	ReasonSecurityViolation
	ReasonKeyError
	ReasonTotalsDiffer
	ReasonRetryLater
	ReasonPartialRefused // the merchant cannot take a partial approval
	ReasonUnknownCode
	ReasonIdentityRequired // approved only for a cardholder who is there with an identity document
	reasons
)

var reasonNames = [reasons]string{
	"", "approved", "refer_to_issuer", "invalid_merchant", "pick_up_card", "lost_card", "stolen_card", "do_not_honour",
	"invalid_transaction", "invalid_amount", "invalid_card", "no_such_issuer", "not_permitted", "mandate_stopped", "format_error",
	"expired_card", "wrong_pin", "wrong_cvv", "insufficient_funds", "suspected_fraud", "limit_exceeded", "restricted_card",
	"frequency_exceeded", "pin_tries_exceeded", "authentication_required", "malfunction", "issuer_unavailable", "too_late",
	"duplicate", "not_found", "security_violation", "key_error", "totals_differ", "retry_later", "partial_approval_refused", "unknown_code", "identity_required",
}

// String is the reason's name in API and dialect files.
func (r Reason) String() string {
	if r >= reasons {
		return "invalid"
	}
	return reasonNames[r]
}

// ParseReason reads a name as String writes it.
func ParseReason(name string) (Reason, bool) {
	for r := ReasonApproved; r < reasons; r++ {
		if reasonNames[r] == name {
			return r, true
		}
	}
	return ReasonNone, false
}

// AdviceVerdict is what an answer to a reversal or advice means.
type AdviceVerdict uint8

// The verdicts (docs/iso8583-behaviour.md §5).
const (
	AdviceRepeat       AdviceVerdict = iota // no usable answer: 91/92/96, security trouble, silence
	AdviceAcknowledged                      // accepted
	AdviceNotFound                          // the original is unknown to the acquirer
	AdviceExceptional                       // anything else: still owed, for a person to see
	AdviceUnknown                           // of an online request: no usable answer, and none can come
	AdviceNotSent                           // proof that the claimed message never left
	AdviceDecided                           // of an online request: the response's verdict decides
	AdviceSilent                            // of an online request: whoever claimed it has not told in its time
)

// Response is what a decoded answer says. It holds no slices, so that it can
// be copied and kept.
type Response struct {
	Code            ResponseCode
	Verdict         Verdict
	Advice          AdviceVerdict // of a reversal's answer
	ApprovalCode    ApprovalCode
	Amount          Amount // DE 4 and 49 of the answer; zero currency when absent
	CVVResult       byte   // 0 when absent
	AdviceCode      [2]byte
	NetworkID       NetworkTransactionID
	SettlementDate  [4]byte // MMDD
	ActionCodeClass byte    // first digit of a 1993/2003 action code, else 0
	// Chip is what the issuer sends to the chip: tags 91, 71, 72 and 8A of DE 55,
	// in their order, "" when absent. A string, so that the answer stays a value.
	Chip string
}

// Slot is a place in a link's window, with the numbers its message travels
// under. A link fills it in Reserve and takes it back in Exchange or Release.
type Slot struct {
	Link        LinkName
	Priority    Priority // of who asks for the place; Reserve reads it
	STAN        STAN
	RRN         RRN
	Transmitted Transmitted
	SendBy      Instant // no byte leaves after this
	AnswerBy    Instant // then the outcome is unknown
	LifeOver    Instant // then "not found" is final
	Place       any     // the link's own handle
}

// NetworkFunction is what a network management message (0800) is for.
type NetworkFunction uint8

// The functions, DE 70 in 1987.
const (
	NetworkOther NetworkFunction = iota
	SignOn
	SignOff
	Echo
	CutOver
	KeyExchange
	TargetDown
)

// NetworkRequest is an 0800 to send, or an 0810 to answer one with.
type NetworkRequest struct {
	Function    NetworkFunction
	Response    bool // answer a peer's 0800
	Code        ResponseCode
	STAN        STAN
	Transmitted Transmitted
	Terms       Terms // identifies the institution where the dialect asks
	// Of a key exchange: the key under the zone's key, its check value and what
	// it is for, as the dialect's places hold them; nil where there is none.
	Key, Check []byte
	KeyUsage   string // "pin", "mac", "" where the key says it itself
}

// NetworkMessage is a received 0800 or 0810.
type NetworkMessage struct {
	Function    NetworkFunction
	Response    bool
	Code        ResponseCode
	Accepted    bool // a response that says yes
	STAN        STAN
	Transmitted Transmitted
	// Of a key exchange. The slices alias the message that was read.
	Key, Check []byte
	KeyUsage   string
}
