package switching

import (
	"errors"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
	"authswitch/routing"
)

// Authorize takes one authorization from request to decided outcome and
// returns when the outcome is durable, or the journal could not make it so in
// time.
//
// out is what the gateway is told: it aliases a (key, reference, BIN) until a
// is wiped. The error is a *payment.Refusal where there is no decision; a
// StatusUnknown or StatusCancelled outcome is a decision.
//
// The order is the whole safety argument (docs/authorization-cycle.md): all
// that can fail without a byte sent comes before Open; after Open every way out
// closes or reverses, except a crash, which the journal reverses.
func (s *Switch) Authorize(a *payment.Authorization, out *payment.Payment) error {
	w := s.take()
	defer s.give(w)
	w.stages.start(a.ReceivedAt)

	if err := s.describe(a, w, &out.Intent); err != nil {
		return s.refuseCard(a, out, describeRefusal(err))
	}
	l, err := s.firstRoute(a, w, &out.Intent)
	if err != nil {
		if isElsewhere(err) {
			return err
		}
		return s.refuse(a, out, err)
	}
	w.stages.mark(stageEncode, s.Now())

	opened, err := s.Journal.Open(&out.Intent)
	if err != nil {
		// It may have committed. Nothing was written and nothing will be: the
		// journal reverses it when it is overdue.
		s.Exchanger.Release(&w.slot)
		if errors.Is(err, payment.ErrBusy) {
			return refusalUnavailable() // its queue was full: nothing was proposed
		}
		return refusalPending(out.Intent.ID)
	}
	w.stages.mark(stageOpen, s.Now())
	if opened.Verdict != payment.OpenNew && opened.Verdict != payment.OpenAgain {
		s.Exchanger.Release(&w.slot)
		return s.answerOther(a, opened, out)
	}
	return s.walk(a, w, l, out)
}

// walk exchanges on the opened attempt, goes on to other routes where that is
// safe, and settles.
func (s *Switch) walk(a *payment.Authorization, w *work, l *lane, out *payment.Payment) error {
	for {
		s.exchange(a, w, l, &out.Intent)
		which := mayTryOther(&w.outcome, l)
		if which == noOther {
			break
		}
		other := s.otherRoute(a, w, &out.Intent, which)
		if other == nil {
			break
		}
		settled, err := s.Journal.Next(&w.outcome, &out.Intent)
		if err != nil {
			s.Exchanger.Release(&w.slot)
			return refusalPending(out.Intent.ID)
		}
		if settled.SessionEnded || settled.Outcome.Status != payment.StatusNone {
			s.Exchanger.Release(&w.slot)
			return s.told(w, l, settled, out)
		}
		l = other
	}
	return s.settle(a, w, l, out)
}

// settle makes the outcome durable and returns what stands in the journal.
func (s *Switch) settle(a *payment.Authorization, w *work, l *lane, out *payment.Payment) error {
	o := &w.outcome
	if a.Capture == payment.CaptureNever {
		verified(o)
	}
	o.At = s.Now()
	o.ProcessingMS = elapsedMS(a.ReceivedAt, o.At)
	w.stages.mark(stageExchange, o.At)
	var settled payment.Settled
	var err error
	if o.Reversal != payment.NoReversal {
		s.Sealer.Hold(&a.Card, o.ID) // before: once it is owed, the outbox wants the card
		settled, err = s.Journal.Reverse(o)
	} else {
		settled, err = s.Journal.Close(o)
	}
	if err != nil {
		return refusalPending(o.ID)
	}
	if o.Reversal == payment.NoReversal && settled.State == payment.StateReversing {
		s.Sealer.Hold(&a.Card, o.ID) // its gateway cancelled it meanwhile
	}
	w.stages.mark(stageClose, s.Now())
	return s.told(w, l, settled, out)
}

// told turns what stands in the journal into the gateway's answer.
func (s *Switch) told(w *work, l *lane, settled payment.Settled, out *payment.Payment) error {
	out.Outcome, out.State = settled.Outcome, settled.State
	out.Intent.Sealed = nil // its memory goes back to the pool
	switch settled.Outcome.Status {
	case payment.StatusNone:
		return refusalPending(out.Intent.ID)
	case payment.StatusNotSent:
		l.metrics.refused.Inc()
		return refusalNotSent()
	}
	l.metrics.observe(out.Intent.Scheme, &settled.Outcome, &w.stages)
	return nil
}

// describe fills the intent with what does not depend on the route.
func (s *Switch) describe(a *payment.Authorization, w *work, i *payment.Intent) (err error) {
	if a.ID.IsZero() {
		a.ID = s.Mint()
	}
	token := payment.ID{}
	if a.Card.Token != "" {
		if err := s.unveil(a, &w.network); err != nil {
			return err
		}
		token, _ = payment.ParseID(string(a.Card.Token), payment.CardPrefix) // unveil found it
	}
	if w.sealed, err = s.Sealer.Seal(w.sealed[:0], &a.Card, a.Merchant, a.ID); err != nil {
		return err
	}
	*i = payment.Intent{
		ID:         a.ID,
		Session:    s.Session(),
		Node:       s.Node,
		Gateway:    a.Gateway,
		Merchant:   a.Merchant,
		Key:        a.Key,
		Reference:  a.Reference,
		Amount:     a.Amount,
		Channel:    a.Channel,
		Priority:   a.Priority(),
		Capture:    payment.Capturing{Mode: a.Capture},
		ReceivedAt: a.ReceivedAt,
		Sealed:     w.sealed,
		BlindIndex: s.Sealer.BlindIndex(&a.Card.PAN),
		BIN:        a.Card.PAN.BIN(),

		NetworkTransactionID: a.StoredCredential.NetworkTransactionID,
		OnFile:               a.OnFile(), Token: token, Follows: a.RetryOf, PaymentLink: a.PaymentLink,
	}
	i.Tags = a.Tags
	if a.SaveCard && token.IsZero() {
		i.Save, i.Holder, i.CardScope = s.Mint(), a.Holder, s.scope(a.Merchant)
		copy(i.Expiry[:], a.Card.Expiry.RevealExpiry())
	}
	i.Fingerprint = s.fingerprint(a, i)
	copy(i.Last4[:], a.Card.PAN.Last4())
	if err := s.payLink(a); err != nil {
		return err
	}
	return s.retryOf(a, i)
}

// firstRoute picks the first route with room and encodes for it. Its errors
// are refusals: nothing is durable yet.
func (s *Switch) firstRoute(a *payment.Authorization, w *work, i *payment.Intent) (*lane, error) {
	w.query = routing.Query{
		Merchant: a.Merchant, PAN: &a.Card.PAN, Brand: a.Brand, Amount: a.Amount,
		Channel: a.Channel, CVVPresent: a.Card.CVV.Present(),
		MerchantInitiated: a.StoredCredential.MerchantInitiated, StoredCard: a.OnFile(),
	}
	if err := s.Table.Load().Route(&w.query, &w.routes); err != nil {
		return nil, refusalOfRouting(err)
	}
	var first error
	for w.next = 0; w.next < w.routes.N; {
		l, err := s.reserve(a, w, i)
		if err == nil {
			return l, nil
		}
		if isElsewhere(err) {
			return nil, err // what another node has is not worth less than the next route
		}
		if first == nil {
			first = err
		}
	}
	return nil, refusalOfReserve(first)
}

// otherRoute picks a later route for another attempt, nil when none has room
// or the gateway's budget is over. The intent is changed only with a lane.
func (s *Switch) otherRoute(a *payment.Authorization, w *work, i *payment.Intent, which others) *lane {
	before, failed := *i, w.routes.Route[w.next-1].Contract
	for w.next < w.routes.N && s.Now() < a.Deadline {
		if which == otherContract && w.routes.Route[w.next].Contract == failed {
			w.next++
			continue
		}
		if l, err := s.reserve(a, w, i); err == nil {
			return l
		}
		*i = before
	}
	return nil
}

// reserve takes a place and numbers on the next route's link, and encodes the
// request there.
func (s *Switch) reserve(a *payment.Authorization, w *work, i *payment.Intent) (*lane, error) {
	r := &w.routes.Route[w.next]
	w.next++
	l := s.lanes[r.Link]
	if l == nil {
		return nil, s.notHere(a, r.Link, i.Attempt, ErrUnknownLane)
	}
	if a.Over != "" && a.Over != r.Link {
		return nil, payment.ErrUnavailable
	}
	attempt := i.Attempt + 1
	w.slot = payment.Slot{Link: r.Link, Priority: i.Priority}
	if err := s.Exchanger.Reserve(&w.slot, i.ID, attempt); err != nil {
		return nil, s.notHere(a, r.Link, i.Attempt, err)
	}
	i.Attempt = attempt
	i.Scheme = r.Scheme
	i.Link = r.Link
	i.Dialect = payment.DialectName(l.Dialect.Name())
	i.STAN, i.Transmitted = w.slot.STAN, w.slot.Transmitted
	if attempt == 1 {
		i.RRN = w.slot.RRN // constant for the life of the payment
		i.Local = payment.LocalTimeAt(a.ReceivedAt, r.Contract.TimeZone)
	}
	i.SendBy, i.AnswerBy, i.LifeOver = w.slot.SendBy, w.slot.AnswerBy, w.slot.LifeOver
	i.ReceivedAt = arrival(i.ReceivedAt, s.Now())
	i.Terms = r.Contract.Terms
	i.Partial = a.AcceptsPartial || r.Contract.PartialApproval
	i.Capture.Within = payment.Instant(r.Contract.CaptureWithin)
	if err := capturing(a, l, r.Contract, i); err != nil {
		s.Exchanger.Release(&w.slot)
		i.Attempt = attempt - 1
		return nil, err
	}
	if err := s.prepare(a, w, l, i); err != nil {
		s.Exchanger.Release(&w.slot)
		i.Attempt = attempt - 1
		return nil, err
	}
	return l, nil
}

// prepare puts the request into w.frame, as it leaves: the PIN under the
// acquirer's key, and the MAC.
func (s *Switch) prepare(a *payment.Authorization, w *work, l *lane, i *payment.Intent) error {
	if err := translatePIN(a, l, i.SendBy); err != nil {
		return err
	}
	frame, err := l.Dialect.EncodeAuthorization(w.frame[:0], a, i)
	if err != nil {
		return err
	}
	w.frame = frame
	if l.Zone == nil {
		return nil
	}
	return l.Zone.Protect(iso8583.MTI(i.MTI), w.frame, i.SendBy)
}

// arrival is when a request came, by the clock that its deadlines are of: the
// journal goes by how far these are from it. By a clock that was set back since,
// they would be over at once, with the request under way; by one that was set
// forward, "not found" would not be believed for as long as the step was.
func arrival(came, now payment.Instant) payment.Instant {
	if came > now || now-came > longestWait {
		return now
	}
	return came
}

// longestWait is more than a request waits for its numbers: its gateway goes sooner.
const longestWait = payment.Instant(time.Minute)

// translatePIN has the PIN block of a request made fit for a link. A block of
// another link's never stays behind, and one never leaves as it came.
func translatePIN(a *payment.Authorization, l *lane, by payment.Instant) error {
	a.Card.PIN.Wipe()
	switch {
	case !a.PIN.Present():
		return nil
	case l.Zone == nil:
		return errNoPIN
	}
	return l.Zone.TranslatePIN(a, by)
}

// errNoPIN is what a link without keys says to a PIN.
var errNoPIN = &iso8583.FieldError{DE: 52, Name: "PIN data", Pointer: "/card/pin", Reason: "this acquirer takes no PIN", Err: iso8583.ErrMapping}

// refuse answers a request for which nothing new could be opened. A key that
// was used before gets its first answer even now: a link that is down today
// does not change what was decided yesterday.
func (s *Switch) refuse(a *payment.Authorization, out *payment.Payment, err error) error {
	fingerprint := out.Intent.Fingerprint
	id, found := s.Records.ByKey(a.Merchant, a.Key)
	if found != nil {
		return err
	}
	known, found := s.Records.Payment(id)
	if found != nil || known.State == payment.StateNotSent {
		return err
	}
	if known.Intent.Fingerprint != fingerprint {
		return refusalConflict()
	}
	if known.State == payment.StateOpen {
		return s.answerOther(a, payment.Opened{Verdict: payment.OpenRunning, ID: id}, out)
	}
	*out = known
	return nil
}

// refuseCard is a refusal that is no answer to a request which was taken before:
// a stored card may have been blocked, or deleted, since its payment was opened,
// and whoever did not hear the answer would pay again. What such a card put into
// the request then stands in the payment.
func (s *Switch) refuseCard(a *payment.Authorization, out *payment.Payment, refusal error) error {
	if a.Card.Token == "" || len(a.Key) == 0 {
		return refusal
	}
	id, err := s.Records.ByKey(a.Merchant, a.Key)
	if err != nil {
		return refusal
	}
	known, err := s.Records.Payment(id)
	if err != nil {
		return refusal
	}
	sum, same := s.fingerprintWith(a, &known.Intent)
	if !same {
		return refusal
	}
	out.Intent.Fingerprint = sum
	return s.refuse(a, out, refusal)
}

// answerOther answers from another request with the same key.
func (s *Switch) answerOther(a *payment.Authorization, o payment.Opened, out *payment.Payment) error {
	switch o.Verdict {
	case payment.OpenConflict:
		return refusalConflict()
	case payment.OpenBarred:
		return refusalBarred()
	case payment.OpenSessionEnded:
		return refusalUnavailable()
	case payment.OpenLinkUnknown, payment.OpenLinkBusy, payment.OpenLinkOver:
		return refusalOfLink(o.Verdict)
	case payment.OpenRunning:
		if err := s.Records.Await(o.ID, a.Deadline); err != nil {
			return refusalRunning()
		}
	}
	known, err := s.Records.Payment(o.ID)
	if err != nil {
		return refusalPending(o.ID)
	}
	if known.State == payment.StateNotSent {
		return refusalNotSent() // the other request ended without a byte sent: the key is free
	}
	if known.Outcome.Status == payment.StatusNone {
		return refusalRunning()
	}
	*out = known
	return nil
}

// others says which other routes may be tried after an attempt.
type others uint8

const (
	noOther       others = iota
	otherContract        // only under another contract: this one, or its terminal, was refused
	anyOther
)

// mayTryOther says whether another route is safe: nothing was written, or an
// explicit no that the dialect marks so (docs/authorization-cycle.md, step 9).
func mayTryOther(o *payment.Outcome, l *lane) others {
	switch o.Event {
	case payment.EventNeverSent:
		return anyOther
	case payment.EventDeclined:
		f := o.Response.Verdict.Flags
		if f.Has(payment.TryOther) || f.Has(payment.TryOtherNoHold) && l.KeepsNoHold {
			return anyOther
		}
		if f.Has(payment.TryOtherTerms) {
			return otherContract
		}
	}
	return noOther
}

// asFieldError finds the dialect's complaint about one element.
func asFieldError(err error) (*iso8583.FieldError, bool) {
	var f *iso8583.FieldError
	ok := errors.As(err, &f)
	return f, ok
}
