package switching

import (
	"cmp"
	"errors"

	"authswitch/card"
	"authswitch/payment"
	"authswitch/routing"
)

// Moves is the journal's side of corrections and of refunds without a payment.
type Moves interface {
	// Credit journals a refund and the intent that has its card.
	Credit(o *payment.Operation, i *payment.Intent) (payment.Operated, error)
	// RefundByKey finds the refund that holds an idempotency key.
	RefundByKey(merchant payment.MerchantID, key []byte) (payment.ID, error)
	// Abandon fails a correction whose payment was not opened, and will not be.
	Abandon(correction payment.ID) error
}

// usageUnscheduled is what a charge is that the merchant makes later. Read-only.
var usageUnscheduled = []byte("unscheduled")

// Correct brings what a captured payment comes to, all in all, to another total
// (o.Amount). The journal says whether the difference is charged, on the stored
// card and as a payment of its own over the original's link, or refunded.
//
// Only the request that made the correction charges it: whoever asks again
// waits for what comes of it. If this process dies in between, nothing was
// charged and the journal ends the correction.
func (s *Switch) Correct(o *payment.Operation, until payment.Instant) (payment.Operation, error) {
	original, err := s.Records.Payment(o.Payment)
	if err != nil {
		return payment.Operation{}, unread(o.Kind, err)
	}
	l := s.lanes[original.Intent.Link]
	if l == nil {
		return payment.Operation{}, s.otherLane(o.Kind, original.Intent.Link)
	}
	if s.onlyElsewhere(original.Intent.Link) {
		return payment.Operation{}, &payment.Elsewhere{Link: original.Intent.Link} // before the correction is durable: its charge is made where it was asked for
	}
	token := original.Outcome.Token
	if token.IsZero() {
		token = original.Intent.Token
	}
	charge := s.Mint()
	o.ID, o.Means = payment.CorrectionOf(charge), payment.MeansPayment
	o.Last, o.MTI, o.Reversible = !token.IsZero(), uint16(l.Dialect.RefundMTI()), l.Dialect.RefundReversible() && !l.RefundsFinal
	o.Fingerprint = fingerprintOf(&payment.Operation{Kind: o.Kind, Payment: o.Payment, Amount: o.Amount, Text: o.Text})
	operated, err := s.Operations.Operate(o)
	switch {
	case errors.Is(err, payment.ErrBusy), errors.Is(err, payment.ErrUnavailable):
		return payment.Operation{}, refusalUnavailable()
	case err != nil:
		return payment.Operation{}, refusalPending(o.ID)
	}
	done := operated.Operation
	switch operated.Verdict {
	case payment.OperateConflict:
		return payment.Operation{}, refusalConflict()
	case payment.OperateRefused:
		return payment.Operation{}, refusalOfOperation(o.Kind, &operated)
	case payment.OperateNew:
		if done.Means == payment.MeansPayment {
			s.charge(&done, charge, token, &original, until)
		}
	}
	if done.State.Over() {
		return done, nil
	}
	known, err := s.Operations.AwaitOperation(done.ID, until)
	if err != nil && !errors.Is(err, payment.ErrPending) {
		return done, nil
	}
	return known, nil
}

// charge is the payment of a correction.
func (s *Switch) charge(o *payment.Operation, id, token payment.ID, original *payment.Payment, until payment.Instant) {
	i := &original.Intent
	a := payment.Authorization{
		ID: id, Gateway: o.Gateway, Merchant: i.Merchant, Reference: i.Reference, Amount: o.Amount, Channel: i.Channel, Capture: payment.CaptureCorrection, Brand: i.Scheme, Over: i.Link,
		StoredCredential: payment.StoredCredential{MerchantInitiated: true, Usage: usageUnscheduled},
		ReceivedAt:       s.Now(), Deadline: until,
	}
	if id := original.Outcome.Response.NetworkID; id != (payment.NetworkTransactionID{}) {
		a.StoredCredential.NetworkTransactionID = []byte(id.String())
	}
	a.Card.Token = card.Token(token.Append(nil, payment.CardPrefix))
	defer a.Wipe()
	var out payment.Payment
	err := s.Authorize(&a, &out)
	if err == nil {
		return
	}
	s.Log.Warn("correction not charged", "correction", o.ID.String(), "payment", i.ID.String(), "error", err)
	// Where it was opened all the same, its outcome ends the correction.
	if err := s.Moves.Abandon(o.ID); err != nil {
		s.Log.Warn("correction not ended; the schedule ends it", "correction", o.ID.String(), "error", err)
	}
}

// Credit refunds to a card without a payment of this switch, where a contract
// allows it: durable when it returns.
func (s *Switch) Credit(a *payment.Authorization, o *payment.Operation, until payment.Instant) (payment.Operation, error) {
	w := s.take()
	defer s.give(w)
	var i payment.Intent
	if err := s.describe(a, w, &i); err != nil {
		return s.refuseCredit(a, &i, describeRefusal(err), until)
	}
	w.query = routing.Query{Merchant: a.Merchant, PAN: &a.Card.PAN, Brand: a.Brand, Amount: a.Amount, Channel: a.Channel, MerchantInitiated: true, StoredCard: true}
	if err := s.Table.Load().Route(&w.query, &w.routes); err != nil {
		return s.refuseCredit(a, &i, refusalOfRouting(err), until)
	}
	if err := s.creditRoute(a, w, &i, o); err != nil {
		if isElsewhere(err) {
			return payment.Operation{}, err
		}
		return s.refuseCredit(a, &i, err, until)
	}
	o.ID, o.Payment, o.Amount, o.Fingerprint = i.ID, i.ID, a.Amount, i.Fingerprint
	i.Key, i.Save = nil, payment.ID{}
	operated, err := s.Moves.Credit(o, &i)
	switch {
	case errors.Is(err, payment.ErrBusy), errors.Is(err, payment.ErrUnavailable):
		return payment.Operation{}, refusalUnavailable()
	case err != nil:
		return payment.Operation{}, refusalPending(o.ID)
	case operated.Verdict == payment.OperateConflict:
		return payment.Operation{}, refusalConflict()
	}
	return s.await(&operated.Operation, until), nil
}

// refuseCredit answers a refund without a payment for which nothing new can be
// journalled: as refuse does, a key that was used before gets its first answer.
func (s *Switch) refuseCredit(a *payment.Authorization, i *payment.Intent, refusal error, until payment.Instant) (payment.Operation, error) {
	id, err := s.Moves.RefundByKey(a.Merchant, a.Key)
	if err != nil {
		return payment.Operation{}, refusal
	}
	known, err := s.Records.Payment(id)
	if err != nil {
		return payment.Operation{}, refusal
	}
	sum, described := i.Fingerprint, !i.ID.IsZero()
	if !described {
		if sum, described = s.fingerprintWith(a, &known.Intent); !described {
			return payment.Operation{}, refusal
		}
	}
	if known.Intent.Fingerprint != sum {
		return payment.Operation{}, refusalConflict()
	}
	o, err := s.Operations.Operation(id)
	if err != nil {
		return payment.Operation{}, refusal
	}
	return s.await(&o, until), nil
}

// creditRoute picks the first route whose contract allows a refund without a
// payment and whose link has a message for it. Numbers are taken for the
// intent; the refund's own message has others.
func (s *Switch) creditRoute(a *payment.Authorization, w *work, i *payment.Intent, o *payment.Operation) error {
	refusal := error(&payment.Refusal{
		Kind: payment.RefusedInvalid, Pointer: "/capture", Code: "unreferenced_refund_not_allowed",
		Detail: "the contract takes refunds of captures only: name one",
	})
	var later error // of a route that may have room then: not a last word
	for n := range w.routes.N {
		r := &w.routes.Route[n]
		l := s.lanes[r.Link]
		if !r.Contract.FreeRefunds {
			continue
		}
		if l == nil {
			if refusal = s.notHere(a, r.Link, 0, ErrUnknownLane); isElsewhere(refusal) {
				return refusal
			}
			later = refusalNotSent()
			continue
		}
		mti := l.Dialect.RefundMTI()
		if mti == 0 {
			refusal = refusalOfMeans(payment.OpRefund)
			continue
		}
		w.slot = payment.Slot{Link: r.Link}
		if err := s.Exchanger.Reserve(&w.slot, i.ID, 1); err != nil {
			if err = s.notHere(a, r.Link, 0, err); isElsewhere(err) {
				return err
			}
			later = refusalOfReserve(err)
			continue
		}
		i.Attempt, i.Scheme, i.Link, i.Dialect, i.MTI = 1, r.Scheme, r.Link, payment.DialectName(l.Dialect.Name()), uint16(mti)
		i.STAN, i.Transmitted, i.RRN = w.slot.STAN, w.slot.Transmitted, w.slot.RRN
		i.SendBy, i.AnswerBy, i.LifeOver = w.slot.SendBy, w.slot.AnswerBy, w.slot.LifeOver
		i.Local, i.Terms = payment.LocalTimeAt(a.ReceivedAt, r.Contract.TimeZone), r.Contract.Terms
		i.Capture = payment.Capturing{}
		s.Exchanger.Release(&w.slot)
		o.Means, o.MTI, o.Reversible = l.means(payment.OpRefund)
		return nil
	}
	return cmp.Or(later, refusal)
}

// verified is the outcome of an account verification: whatever was answered,
// nothing is held and nothing is reversed.
func verified(o *payment.Outcome) {
	if o.Event == payment.EventNeverSent {
		return
	}
	o.Event, o.Reversal = payment.EventVerified, payment.NoReversal
}
