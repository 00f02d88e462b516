package switching

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Operations is the journal's side of captures, refunds and the like.
type Operations interface {
	Operate(o *payment.Operation) (payment.Operated, error)
	Operation(id payment.ID) (payment.Operation, error)
	// AwaitOperation returns when nothing more happens to an operation by
	// itself, or payment.ErrPending at the deadline.
	AwaitOperation(id payment.ID, until payment.Instant) (payment.Operation, error)
}

// Operate takes an operation on an approved payment: durable when it returns.
// What a request to the acquirer decides is waited for until the deadline; what
// is stored and forwarded is not.
//
// The answer is the operation as it stands; its error a *payment.Refusal where
// nothing was done.
func (s *Switch) Operate(o *payment.Operation, until payment.Instant) (payment.Operation, error) {
	if o.ID.IsZero() {
		o.ID = s.Mint()
	}
	o.Fingerprint = fingerprintOf(o)
	if err := s.shape(o); err != nil {
		return payment.Operation{}, err
	}
	operated, err := s.Operations.Operate(o)
	switch {
	case errors.Is(err, payment.ErrBusy), errors.Is(err, payment.ErrUnavailable):
		return payment.Operation{}, refusalUnavailable()
	case err != nil:
		return payment.Operation{}, refusalPending(o.ID)
	}
	switch operated.Verdict {
	case payment.OperateConflict:
		return payment.Operation{}, refusalConflict()
	case payment.OperateRefused:
		return payment.Operation{}, refusalOfOperation(o.Kind, &operated)
	}
	return s.await(&operated.Operation, until), nil
}

// await waits for what an acquirer decides, where its question is on its way.
func (s *Switch) await(o *payment.Operation, until payment.Instant) payment.Operation {
	if o.Means != payment.MeansOnline || o.State != payment.OperationOwed {
		return *o
	}
	known, err := s.Operations.AwaitOperation(o.ID, until)
	if err != nil && !errors.Is(err, payment.ErrPending) {
		return *o
	}
	return known
}

// shape says how an operation reaches its acquirer: what the dialect of its
// payment's link has for it.
func (s *Switch) shape(o *payment.Operation) error {
	id := o.Payment
	var capture payment.Operation
	if o.Kind == payment.OpRefund || o.Kind == payment.OpVoid {
		var err error
		if capture, err = s.Operations.Operation(o.Parent); err != nil {
			return unread(o.Kind, err)
		}
		id = capture.Payment
	}
	p, err := s.Records.Payment(id)
	if err != nil {
		return unread(o.Kind, err)
	}
	l := s.lanes[p.Intent.Link]
	if l == nil {
		return s.otherLane(o.Kind, p.Intent.Link)
	}
	o.Means, o.MTI, o.Reversible = l.means(o.Kind)
	switch {
	case o.Kind == payment.OpCapture && p.Intent.Capture.Means == payment.MeansSale:
		return refusalOfOperation(o.Kind, &payment.Operated{Refused: payment.RefusedClosed}) // its one message captured it
	case o.Kind == payment.OpCapture && p.Intent.Capture.Means != payment.MeansNone: // the contract said how
		o.Means, o.MTI = p.Intent.Capture.Means, p.Intent.Capture.MTI
	case o.Means == payment.MeansNone && o.Kind == payment.OpRefund && capture.Means == payment.MeansFile:
		o.Means = payment.MeansFile
	case o.Means == payment.MeansNone && o.Kind == payment.OpRefund && capture.Means == payment.MeansUpload:
		o.Means, o.MTI = payment.MeansUpload, capture.MTI
	case o.Means == payment.MeansNone:
		return refusalOfMeans(o.Kind)
	}
	return nil
}

// Means says how a link carries a kind of operation; false where it is not there
// or has no message for it.
func (s *Switch) Means(link payment.LinkName, k payment.OperationKind) (means payment.OperationMeans, mti uint16, reversible, ok bool) {
	l := s.lanes[link]
	if l == nil {
		return payment.MeansNone, 0, false, false
	}
	means, mti, reversible = l.means(k)
	return means, mti, reversible, means != payment.MeansNone
}

// means is how a link carries a kind of operation: as its dialect says, unless
// its acquirer reverses no refunds.
func (l *lane) means(k payment.OperationKind) (means payment.OperationMeans, mti uint16, reversible bool) {
	means, mti, reversible = meansOf(k, l.Dialect)
	if l.RefundsFinal && (k == payment.OpRefund || k == payment.OpVoid) {
		reversible = false
	}
	return means, mti, reversible
}

// unread refuses an operation on what cannot be read: without its link nobody
// knows how it would reach the acquirer, and none may stand that never does.
func unread(k payment.OperationKind, err error) error {
	if errors.Is(err, payment.ErrNotFound) {
		return refusalOfOperation(k, &payment.Operated{Refused: payment.RefusedUnknown})
	}
	return refusalUnavailable()
}

// meansOf is how a dialect carries a kind of operation.
func meansOf(k payment.OperationKind, d *iso8583.Dialect) (means payment.OperationMeans, mti uint16, reversible bool) {
	var m iso8583.MTI
	switch k {
	case payment.OpCapture:
		return captureMeans(d)
	case payment.OpRefund:
		m, reversible = d.RefundMTI(), d.RefundReversible()
	case payment.OpIncrement:
		m, reversible = d.AuthorizationMTI(), true
	case payment.OpRelease:
		if d.ReversesPartially() {
			return payment.MeansReversal, 0, false
		}
	case payment.OpVoid:
		// After the cut-over the journal makes it a refund, and says so.
		return payment.MeansReversal, uint16(d.RefundMTI()), d.RefundReversible()
	}
	switch {
	case m == 0:
		return payment.MeansNone, 0, false
	case m.IsAdvice():
		return payment.MeansAdvice, uint16(m), false
	}
	return payment.MeansOnline, uint16(m), reversible
}

// fingerprintOf tells one request under an idempotency key from another. There
// is no card in it.
func fingerprintOf(o *payment.Operation) [32]byte {
	b := make([]byte, 0, 128)
	kind := o.Kind
	if kind == payment.OpVoid {
		kind = payment.OpRefund // the same request may become either
		b = append(b, 1)
	}
	b = append(b, byte(kind), byte(o.Reason))
	b = append(b, o.Payment[:]...)
	b = append(b, o.Parent[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(o.Amount.Value))
	b = binary.BigEndian.AppendUint16(b, uint16(o.Amount.Currency))
	if o.Last {
		b = append(b, 1)
	}
	b = append(b, 0)
	b = append(b, o.Text...)
	return sha256.Sum256(b)
}

// refusalOfMeans: the acquirer's link has no message for it.
func refusalOfMeans(k payment.OperationKind) error {
	return &payment.Refusal{
		Kind: payment.RefusedInvalid, Code: "not_supported_by_link",
		Detail: "the acquirer's link has no message for this: " + k.String(),
	}
}

// refusalOfOperation names the rule that an operation breaks.
func refusalOfOperation(k payment.OperationKind, r *payment.Operated) error {
	refused := &payment.Refusal{Kind: payment.RefusedInvalid, Code: r.Refused.String()}
	switch r.Refused {
	case payment.RefusedUnknown:
		refused.Kind, refused.Detail = payment.RefusedMissing, "no such "+about(k)
		if k == payment.OpRefund {
			refused.Pointer = "/capture"
		}
	case payment.RefusedState:
		refused.Detail = "the authorization is not approved, or is being reversed"
	case payment.RefusedAmount:
		refused.Pointer, refused.Detail = "/amount/value", overWhat(k)
	case payment.RefusedNothingLeft:
		refused.Pointer, refused.Detail = "/amount/value", "nothing is left: "+overWhat(k)
	case payment.RefusedCurrency:
		refused.Pointer, refused.Detail = "/amount/currency", "must be the authorization's currency"
	case payment.RefusedClosed:
		refused.Detail = "the last capture was made, or the time for captures is over"
	case payment.RefusedUndone:
		refused.Detail = "the capture is reversed, or being reversed"
	case payment.RefusedHasRefunds:
		refused.Detail = "the capture has refunds: refund what remains instead"
	case payment.RefusedNotCaptured:
		refused.Detail = "nothing of the payment is captured: capture another amount instead"
	case payment.RefusedNoDifference:
		refused.Pointer, refused.Detail = "/amount/value", "the payment comes to this already, what is in doubt counted"
	case payment.RefusedNoCard:
		refused.Detail = "there is no stored card to charge the difference to"
	case payment.RefusedSettled:
		refused.Detail = "the capture was settled at the link's cut-over, and the acquirer's link has no message for a refund"
	case payment.RefusedTooMany:
		refused.Detail = "the authorization has as many operations as it may have"
	case payment.RefusedWhole:
		refused.Kind, refused.Detail = payment.RefusedWholeRelease, "this is all that is held: reverse the authorization"
	default:
		refused.Code, refused.Detail = "refused", "the operation is refused"
	}
	return refused
}

func about(k payment.OperationKind) string {
	if k == payment.OpRefund || k == payment.OpVoid {
		return "capture"
	}
	return "authorization"
}

func overWhat(k payment.OperationKind) string {
	switch k {
	case payment.OpRefund:
		return "refunds, those in doubt counted, must not pass what was captured"
	case payment.OpCorrection:
		return "so much cannot be refunded: what is in doubt, or was captured in another way, is not"
	case payment.OpIncrement:
		return "the authorization would be over the largest amount"
	}
	return "captures and partial reversals, those in doubt counted, must not pass what was authorized"
}
