package payment

// OperationKind is what is done with an approved authorization's money.
type OperationKind uint8

// The kinds. The numbers are in the journal.
const (
	NoOperation  OperationKind = iota
	OpCapture                  // the merchant takes what was authorized, or a part
	OpRefund                   // captured money goes back
	OpIncrement                // more is authorized
	OpRelease                  // a partial reversal: less is held
	OpVoid                     // a capture is undone before its settlement
	OpCorrection               // what a payment comes to is changed: the difference is charged or refunded
	operationKinds
)

var operationKindNames = [operationKinds]string{"", "capture", "refund", "increment", "release", "void", "correction"}

// String is the kind's name in API and logs.
func (k OperationKind) String() string {
	if k >= operationKinds {
		return "invalid"
	}
	return operationKindNames[k]
}

// prefixes stand before an operation's id in the API; read-only.
var operationPrefixes = [operationKinds]string{"", "cap_", "ref_", "inc_", "rev_", "rev_", "cor_"}

// Prefix stands before an operation's id in the API.
func (k OperationKind) Prefix() string {
	if k >= operationKinds {
		return ""
	}
	return operationPrefixes[k]
}

// OperationState is where an operation stands.
type OperationState uint8

// The states. An operation holds its amount in every state but the last five.
const (
	OperationNone      OperationState = iota
	OperationWaiting                  // an earlier message of its payment comes first
	OperationOwed                     // in the outbox; a claim may have been made
	OperationReversing                // its last attempt has no answer: that attempt's reversal is owed first
	OperationException                // needs a person; its amount stays held
	OperationDone                     // the acquirer took it
	OperationDeclined                 // an explicit no
	OperationFailed                   // no attempt got an answer, and every attempt is reversed
	OperationWithdrawn                // taken back before any byte of it left
	OperationUndone                   // a capture that a void undid
	operationStates
)

var operationStateNames = [operationStates]string{
	"none", "waiting", "owed", "reversing", "exception", "done", "declined", "failed", "withdrawn", "undone",
}

// String is the state's name in API and logs.
func (s OperationState) String() string {
	if s >= operationStates {
		return "invalid"
	}
	return operationStateNames[s]
}

// Over says whether nothing more happens to an operation by itself.
func (s OperationState) Over() bool { return s >= OperationDone }

// Holds says whether an operation's amount counts: it is done, or in doubt.
func (s OperationState) Holds() bool { return s > OperationNone && s <= OperationDone }

// Status is what a gateway is told of it.
func (s OperationState) Status() string {
	switch s {
	case OperationDone:
		return "approved"
	case OperationDeclined:
		return "declined"
	case OperationFailed:
		return "failed"
	case OperationWithdrawn, OperationUndone:
		return "reversed"
	}
	return "pending"
}

// OperationMeans is how an operation reaches the acquirer.
type OperationMeans uint8

// The means.
const (
	MeansNone     OperationMeans = iota // nothing travels: it is decided here
	MeansAdvice                         // stored and forwarded until it is accepted
	MeansOnline                         // a request that may be declined
	MeansReversal                       // a reversal, stored and forwarded
	MeansFile                           // a line of the link's next clearing file
	MeansSale                           // the authorization itself was the financial message
	MeansPayment                        // a payment of its own, linked to this one
	MeansUpload                         // an advice of the link's next batch upload, sent once its day is over
	operationMeans
)

var operationMeansNames = [operationMeans]string{"none", "advice", "online", "reversal", "file", "sale", "payment", "upload"}

// String is the name in API and logs.
func (m OperationMeans) String() string {
	if m >= operationMeans {
		return "invalid"
	}
	return operationMeansNames[m]
}

// Message names one message on a link: what DE 90 or DE 56 says of an original.
type Message struct {
	MTI         uint16 // as BCD nibbles
	STAN        STAN
	Transmitted Transmitted
}

// Operation is a capture, refund, increment, partial reversal or void of a
// payment, as the journal has it.
type Operation struct {
	ID          ID
	Kind        OperationKind
	Payment     ID
	Parent      ID // the capture that a refund or void is of
	Merchant    MerchantID
	Gateway     GatewayID
	Key         []byte // Idempotency-Key as given; none where the journal made the operation
	Fingerprint [32]byte
	Text        []byte // the merchant's own reason
	Amount      Amount
	Refunded    int64 // of a capture: what refunds hold of it
	Last        bool  // of a capture: no other follows, what remains is released; of a correction: there is a stored card to charge
	Automatic   bool  // made by the journal with the approval, or with another operation
	Reversible  bool  // an online attempt without an answer may be reversed
	Reason      ReversalReason
	Means       OperationMeans
	State       OperationState
	Link        LinkName
	MTI         uint16 // of its message
	Attempt     uint8  // of an online operation, from 1; of a correction that gives back, how many refunds it made
	Seq         uint64 // of what it has in its link's outbox, 0: nothing
	STAN        STAN
	Transmitted Transmitted // of the last transmission
	Response    Response
	CreatedAt   Instant
	DecidedAt   Instant // 0: it is not over
	Batch       ID      // of a refund that is a batch's line
	Line        uint32
	Tallied     OperationState // as which its batch counts it
	File        uint64         // of MeansFile and MeansUpload: the clearing batch of its link, from 1
	FileLine    uint32         // in it, in the order of acceptance
}

// InDoubt says whether it is not known yet what becomes of an operation.
func (o *Operation) InDoubt() bool { return !o.State.Over() }

// Account is what has become of an approved payment's money, in minor units of
// its currency. What is in doubt is counted as if it had happened, but for an
// increment, which counts when it is approved.
type Account struct {
	Authorized  int64 // by the first approval
	Incremented int64
	Released    int64 // by partial reversals
	Captured    int64
	Refunded    int64
	Closed      bool // a last capture was made, or the time for captures is over
}

// Capturable is what a capture may still take, and a partial reversal release.
func (a *Account) Capturable() int64 {
	return a.Authorized + a.Incremented - a.Released - a.Captured
}

// OperationVerdict is what the journal said to a proposed operation.
type OperationVerdict uint8

// The verdicts.
const (
	OperateNone     OperationVerdict = iota
	OperateNew                       // it stands
	OperateAgain                     // its key, or this very proposal, was used for it before
	OperateConflict                  // the key was used for something else
	OperateRefused                   // Refused says why; nothing was done
)

// Undone says whether a capture came to nothing, or is being undone: nothing of
// it can be refunded.
func (o *Operation) Undone() bool {
	return o.State.Over() && o.State != OperationDone || !o.Parent.IsZero()
}

// OperationRefusal is why the journal refuses an operation.
type OperationRefusal uint8

// The refusals.
const (
	NotRefused          OperationRefusal = iota
	RefusedUnknown                       // no such payment or capture of this merchant
	RefusedState                         // the payment is not approved
	RefusedAmount                        // more than there is
	RefusedNothingLeft                   // all of it is captured, released or refunded already
	RefusedCurrency                      // another currency than the payment's
	RefusedClosed                        // captures are over
	RefusedUndone                        // the capture is undone, or being undone
	RefusedHasRefunds                    // the capture has refunds
	RefusedTooMany                       // the payment has as many operations as it may have
	RefusedWhole                         // a release of all that is held: reverse the authorization
	RefusedNotCaptured                   // a correction of what nothing was captured of
	RefusedNoDifference                  // a correction to what it comes to already
	RefusedNoCard                        // a correction that charges, without a stored card
	RefusedSettled                       // a void after the cut-over, where nothing can refund
	operationRefusals
)

var operationRefusalNames = [operationRefusals]string{
	"", "not_found", "not_approved", "amount_too_large", "nothing_left", "currency_mismatch", "captures_over", "capture_reversed", "capture_refunded", "too_many_operations", "whole",
	"not_captured", "no_difference", "no_stored_card", "capture_settled",
}

// String is the refusal's code in the API.
func (r OperationRefusal) String() string {
	if r >= operationRefusals {
		return "invalid"
	}
	return operationRefusalNames[r]
}

// Operated is the answer to a proposed operation. Left is what the rule that
// refused it would have allowed.
type Operated struct {
	Verdict   OperationVerdict
	Refused   OperationRefusal
	Left      int64
	Operation Operation
}
