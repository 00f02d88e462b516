package outbox

import (
	"time"

	"authswitch/payment"
)

// overdueMargin is how long after its answer could last come a request's claim
// is left to whoever made it.
const overdueMargin = payment.Instant(2 * time.Second)

// operate makes one attempt at an operation's message and reports what came of
// it; the journal decides what that means.
func (s *Carrier) operate(o *payment.Owed, p *payment.Payment) (rest time.Duration) {
	if o.Online() && o.Tries > 0 {
		// Whoever claimed it did not live to tell: no answer can come any more. By
		// this node's clock; the journal goes by its own.
		s.answered(o, nil, payment.AdviceSilent)
		return unavailablePause
	}
	if o.STAN == 0 && o.IsReversal() && s.Dialect.SameSTAN() {
		o.STAN = original(o, &p.Intent)
	}
	defer s.card.Wipe()
	opener := s.Vault
	if !o.IsReversal() && s.Captures != nil {
		opener = s.Captures
	}
	if err := opener.Open(&s.card, &p.Intent); err != nil {
		return s.unopened(o, err)
	}
	i := p.Intent
	if id := p.Outcome.Response.NetworkID; id != (payment.NetworkTransactionID{}) {
		i.NetworkTransactionID = []byte(id.String()) // it names the original
	}
	claimed, response, verdict, sent := s.attempt(o, &i)
	if !sent {
		return unavailablePause
	}
	switch {
	case response != nil && o.Online():
		verdict = payment.AdviceDecided
	case response == nil && o.Online() && verdict == payment.AdviceRepeat:
		verdict = payment.AdviceUnknown
	case response == nil && verdict == payment.AdviceRepeat:
		return 0 // the claim's due time brings the repeat
	}
	s.answered(&claimed, response, verdict)
	return 0
}

// original is the trace number that a reversal keeps where the dialect says so.
func original(o *payment.Owed, i *payment.Intent) payment.STAN {
	if o.Original.STAN != 0 {
		return o.Original.STAN
	}
	return i.STAN
}

// answered journals what became of a claimed message.
func (s *Carrier) answered(o *payment.Owed, r *payment.Response, v payment.AdviceVerdict) {
	a := payment.Acknowledgement{Link: s.Link, Seq: o.Seq, ID: o.ID, Verdict: v}
	if r != nil {
		a.Response = *r
	}
	if c := s.metrics.results[v]; c != nil {
		c.Inc()
	}
	if err := s.Operations.Answer(&a); err != nil {
		s.metrics.failed.Inc()
		s.Log.Warn("operation's answer not journalled", "id", o.ID.String(), "link", s.Link, "kind", o.Kind.String(), "error", err)
		return
	}
	if v == payment.AdviceExceptional {
		s.Log.Error("operation needs a person", "id", o.ID.String(), "link", s.Link, "kind", o.Kind.String(), "response_code", a.Response.Code.String())
	}
}

// claim fixes the numbers of an entry's next transmission, before its first
// byte.
func (s *Carrier) claim(o *payment.Owed) (payment.Owed, error) {
	if !o.Online() {
		return s.Journal.Claim(s.Link, o.Seq, s.slot.STAN, s.slot.Transmitted)
	}
	now := s.Now()
	return s.Operations.ClaimOnline(&payment.Claim{
		Link: s.Link, Seq: o.Seq, STAN: s.slot.STAN, Transmitted: s.slot.Transmitted,
		Patience: max(s.slot.AnswerBy-now, 0) + overdueMargin, Life: max(s.slot.LifeOver-now, 0),
	})
}
