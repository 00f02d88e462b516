package payment

// Intent is everything about one attempt that must be durable before its first
// byte leaves: enough to reverse it and to answer for it after any crash. It
// holds no clear card number and no sensitive authentication data.
type Intent struct {
	ID          ID
	Attempt     uint8 // 1 for the first route
	Session     Session
	Node        NodeID
	Gateway     GatewayID
	Merchant    MerchantID
	Key         []byte   // Idempotency-Key as given
	Fingerprint [32]byte // HMAC of the parsed request without sensitive data (vault.Fingerprint)
	Reference   []byte
	Amount      Amount
	Channel     Channel
	Capture     Capturing
	Partial     bool // the merchant can take a partial approval
	Scheme      Scheme
	Link        LinkName
	Dialect     DialectName
	MTI         uint16 // as BCD nibbles: 0x0100
	STAN        STAN
	RRN         RRN
	Transmitted Transmitted
	Local       LocalTime
	ReceivedAt  Instant
	SendBy      Instant // no byte leaves after this
	AnswerBy    Instant // SendBy + the acquirer's timer: after this the outcome is unknown
	LifeOver    Instant // latest possible write + the acquirer's own maximum: "not found" is final after this
	Terms       Terms
	Sealed      []byte   // vault envelope of card number and expiry
	BlindIndex  [32]byte // HMAC of the card number
	BIN         []byte   // 6 or 8 digits
	Last4       [4]byte
	// NetworkTransactionID of the payment this one continues, where given.
	NetworkTransactionID []byte
	OnFile               bool    // the card was stored before, here or by the gateway
	Token                ID      // of the stored card that is paid with; zero: none
	Save                 ID      // the token to give the card if it is approved and has none yet
	Expiry               [4]byte // with Save, for people
	Holder               []byte  // with Save: the cardholder's name
	Tags                 []byte  // the merchant's own, a line each
	CardScope            string  // with Save: who may pay with the card, see StoredCard; "": Merchant
	Follows              ID      // the soft decline that this payment tries again, authenticated; zero: none
	PaymentLink          ID      // that is paid; zero: none

	Priority Priority // while it is on its way; not journalled
}

// Terms are the merchant's contract with the acquirer, as the wire wants them.
type Terms struct {
	Terminal     string // DE 41
	Acceptor     string // DE 42
	AcceptorName string // DE 43: name, city, country, unpadded, separated by '/'
	MCC          string // DE 18
	Acquirer     string // DE 32
	Forwarder    string // DE 33
	Country      string // ISO 3166 numeric, DE 19
}

// Status is what a payment's gateway is told.
type Status uint8

// The statuses.
const (
	StatusNone Status = iota
	StatusApproved
	StatusPartiallyApproved
	StatusDeclined
	StatusUnknown   // no usable answer: reversed; 504 acquirer_timeout
	StatusNotSent   // nothing left; 503, not stored
	StatusCancelled // reversed by the gateway before an answer came
	statuses
)

var statusNames = [statuses]string{"none", "approved", "partially_approved", "declined", "unknown", "not_sent", "cancelled"}

// String is the status's name in the API.
func (s Status) String() string {
	if s >= statuses {
		return "invalid"
	}
	return statusNames[s]
}

// Approved says whether the cardholder's money is held.
func (s Status) Approved() bool { return s == StatusApproved || s == StatusPartiallyApproved }

// Outcome is how an authorization ended, with every field its answer shows, so
// that the answer can be given again byte for byte.
type Outcome struct {
	ID           ID
	Attempt      uint8
	Session      Session
	Event        Event // what decided it: EventApproved, EventDeclined, EventUnknown, …
	Status       Status
	Cause        Cause
	Response     Response
	Amount       Amount // approved amount; the asked one when nothing was approved
	ProcessingMS uint32 // taken before Close is proposed
	At           Instant
	Encoder      uint8          // version of the answer's encoder
	Reversal     ReversalReason // not NoReversal: what is owed with this outcome
	Token        ID             // of the card that was saved with this outcome
}

// EncoderVersion is the form of the answers that api writes today. It is kept
// in every outcome: a change of the form takes a new number and keeps the old
// encoder beside the new one, so that the same outcome gives the same bytes for
// ever.
const EncoderVersion uint8 = 1

// Cause says why an outcome is unknown or was not sent.
type Cause uint8

// The causes.
const (
	NoCause Cause = iota
	CauseTimeout
	CauseLinkLost
	CauseUnparsable
	CauseRejected
	CauseMismatch // the answer carries another amount or currency
	CauseSessionEnded
	CauseOverdue
	CauseCancelled
	CauseNoRoute
	CauseTooLate // answered 68, or expired before a byte left
	causes
)

var causeNames = [causes]string{
	"", "timeout", "link_lost", "unparsable_answer", "rejected", "amount_mismatch", "session_ended", "overdue", "cancelled", "no_route", "too_late",
}

// String is the cause's name in events and logs.
func (c Cause) String() string {
	if c >= causes {
		return "invalid"
	}
	return causeNames[c]
}

// ReversalReason is why something is reversed; a dialect maps it to DE 39 or
// DE 25.
type ReversalReason uint8

// The reasons.
const (
	NoReversal ReversalReason = iota
	ReversalTimeout
	ReversalMalfunction
	ReversalCustomer
	ReversalPartial
	ReversalLate
	ReversalSuspectedFraud
	reversalReasons
)

var reversalNames = [reversalReasons]string{"", "timeout", "malfunction", "customer_cancellation", "partial", "late_response", "suspected_fraud"}

// String is the reason's name in events and logs.
func (r ReversalReason) String() string {
	if r >= reversalReasons {
		return "invalid"
	}
	return reversalNames[r]
}

// ParseReversalReason reads a name as String writes it.
func ParseReversalReason(name []byte) (ReversalReason, bool) {
	for r := ReversalTimeout; r < reversalReasons; r++ {
		if reversalNames[r] == string(name) {
			return r, true
		}
	}
	return NoReversal, false
}

// Owed is one entry of the outbox: a reversal, an advice or an operation's
// request, which a link must answer. It keeps fields, never packed bytes: the sender packs with its own keys.
type Owed struct {
	Link         LinkName
	Seq          uint64 // per link, in the order they became owed
	ID           ID
	Attempt      uint8 // of the original
	Reason       ReversalReason
	Since        Instant
	Due          Instant // next transmission
	Tries        uint16  // claims so far; above 1 the message travels with the repeat MTI
	STAN         STAN    // fixed by the first claim; 0 before
	Transmitted  Transmitted
	Approved     bool // the original is known to be approved
	ApprovalCode ApprovalCode
	LifeOver     Instant // of the original
	Exception    bool    // needs a person; still owed, repeated hourly
	LastCode     ResponseCode

	// Operation is whose message this is; zero for the reversal of an
	// authorization. The rest is set with it only.
	Operation ID
	Kind      OperationKind
	Means     OperationMeans
	MTI       uint16  // of the message that is owed, without the repeat bit
	Amount    Amount  // that travels in DE 4
	Remains   int64   // of a partial reversal: what DE 95 says is still held
	Original  Message // that a reversal names; zero: the payment's authorization
	File      uint64  // of MeansUpload: the number of the batch that it is a line of
}

// IsReversal says whether a reversal is owed, of whatever.
func (o *Owed) IsReversal() bool { return o.Operation.IsZero() || o.Means == MeansReversal }

// Online says whether what is owed is a request: sent once, and reversed where
// no answer comes.
func (o *Owed) Online() bool { return !o.Operation.IsZero() && o.Means == MeansOnline }

// Claim is an attempt to send what is owed, made before its first byte.
type Claim struct {
	Link        LinkName
	Seq         uint64
	STAN        STAN // fixed by the first claim
	Transmitted Transmitted
	// Patience is how long from the claim an online request's answer can come,
	// and Life how long its original can still reach the acquirer; both zero for
	// what is repeated until it is acknowledged.
	Patience, Life Instant
}

// DueCapture is a payment whose time for captures is over.
type DueCapture struct {
	Due Instant
	ID  ID
}

// Acknowledgement is the answer to what was owed, or what is known instead.
type Acknowledgement struct {
	Link     LinkName
	Seq      uint64
	ID       ID // of the payment, where the answer came late
	Verdict  AdviceVerdict
	Response Response
}

// Payment is one payment as read back: the intent of its last attempt, the
// state, and the outcome where there is one (Status not StatusNone).
type Payment struct {
	Intent  Intent
	State   State
	Outcome Outcome
	Account Account // of an approved one
}

// OpenVerdict is what Apply said to an intent.
type OpenVerdict uint8

// The verdicts.
const (
	OpenNone         OpenVerdict = iota
	OpenNew                      // this intent is the first with its key: send it
	OpenAgain                    // this very intent is already open: proposed twice, not sent twice
	OpenRunning                  // another request with this key is open; wait for ID
	OpenDecided                  // the key has an outcome; answer it from ID
	OpenConflict                 // the key was used with another body
	OpenBarred                   // a reversal by key or reference came before its original
	OpenSessionEnded             // this node's session is over; take a new one
	OpenLinkUnknown              // the merchant has no such payment link for that amount
	OpenLinkBusy                 // another payment of the link is under way
	OpenLinkOver                 // the link is paid, expired or cancelled
)

// Opened is the answer to an Open.
type Opened struct {
	Verdict OpenVerdict
	ID      ID // of the intent that holds the key
}

// Settled is the answer to a Close, Reverse or Next: what stands in the journal,
// which is what the gateway is told, whatever was proposed.
type Settled struct {
	Outcome      Outcome // StatusNone while the payment is still open (after a Next that took)
	State        State
	SessionEnded bool // nothing changed: the session that proposed it is over
}

// Cancellation is a gateway's reversal of a payment, named by ID, by its
// idempotency key or by its reference.
type Cancellation struct {
	Merchant   MerchantID
	Gateway    GatewayID
	RequestKey []byte // the reversal's own Idempotency-Key
	ID         ID
	Key        []byte
	Reference  []byte
	Reason     ReversalReason
}

// Cancelled is the answer to a Cancellation.
type Cancelled struct {
	Found    bool // false: nothing yet has that key or reference, and the bar is remembered
	Conflict bool // the request's own key was used for something else; nothing was done
	Captured bool // something of it is captured: nothing was done, what remains can be released
	ID       ID
	Before   State
	State    State
}

// Late is an answer that came after its outcome was decided.
type Late struct {
	ID       ID
	Attempt  uint8
	Link     LinkName
	Response Response
}

// Entry is one line of a payment's history, for GET /v1/payments/{id}/events.
type Entry struct {
	At    Instant
	State State // after it
	Event Event
	// Kind says which of the fields below are set:
	// intent, outcome, late_answer, reversal_owed, reversal_sent, reversal_ended,
	// written_off.
	Kind     EntryKind
	Intent   *Intent
	Outcome  *Outcome
	Response *Response
	Owed     *Owed
	WriteOff *WriteOff // without its ID, which is the payment's
	// Operation is as it stands after this line.
	Operation *Operation
}

// EntryKind is the kind of a history line.
type EntryKind uint8

// The kinds.
const (
	EntryIntent EntryKind = iota + 1
	EntryOutcome
	EntryLateAnswer
	EntryReversalOwed
	EntryReversalSent
	EntryReversalEnded
	EntryOperation // a capture, refund, increment, partial reversal or void went on
)

// String is the kind's name in the API.
func (k EntryKind) String() string {
	switch k {
	case EntryIntent:
		return "intent"
	case EntryOutcome:
		return "outcome"
	case EntryLateAnswer:
		return "late_answer"
	case EntryReversalOwed:
		return "reversal_owed"
	case EntryReversalSent:
		return "reversal_sent"
	case EntryReversalEnded:
		return "reversal_ended"
	case EntryWrittenOff:
		return "written_off"
	case EntryOperation:
		return "operation"
	}
	return "invalid"
}
