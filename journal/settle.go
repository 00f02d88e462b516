package journal

import "authswitch/payment"

// applySettle ends an open payment: Close and Reverse. It takes only while the
// payment is open on the same attempt; whatever was proposed, the answer is
// what stands in the journal.
func (m *Machine) applySettle(c *cursor, r *Result) error {
	o := &m.scratchOutcome
	*o = payment.Outcome{}
	readOutcome(c, o)
	if err := c.end(); err != nil {
		return err
	}
	l := m.load(o.ID)
	if l == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	r.Settled.SessionEnded = !m.alive(o.Session)
	if l.state != payment.StateOpen || l.attempt != o.Attempt || l.session != o.Session || r.Settled.SessionEnded {
		ended := r.Settled.SessionEnded
		m.stored(l, &r.Settled)
		r.Settled.SessionEnded = ended
		return nil
	}
	next, ok := payment.Step(l.state, o.Event)
	reversing := next == payment.StateReversing
	if l.holdsNothing() && next != payment.StateVerified && next != payment.StateNotSent || !l.holdsNothing() && next == payment.StateVerified {
		ok = false // what is held is never forgotten, and what is not is never owed
	}
	if !ok || next == payment.StateOpen || reversing != (o.Reversal != payment.NoReversal) {
		r.Err = ErrInvalid
		return nil
	}
	approvedToo := l.known
	m.decide(l, o, next)
	switch {
	case next == payment.StateVerified:
	case reversing:
		m.owe(l, o.Event, o.Reversal)
	case approvedToo:
		m.disown(l)
	}
	r.Settled = payment.Settled{Outcome: *o, State: l.state}
	return nil
}

// disown reverses an approval that was journalled while its attempt was open,
// where the outcome is another: the acquirer answered twice, and its second
// answer overtook the outcome that the first one made. What the gateway is told
// stays the outcome.
func (m *Machine) disown(l *life) {
	next, ok := payment.Step(l.state, payment.EventLateApproval)
	if !ok || next == l.state {
		return
	}
	l.state = next
	m.owe(l, payment.EventLateApproval, payment.ReversalLate)
}

// stored answers with what the journal has.
func (m *Machine) stored(l *life, s *payment.Settled) {
	m.outcome(l, &s.Outcome)
	s.State = l.state
}

// decide writes the outcome, once in a payment's life.
func (m *Machine) decide(l *life, o *payment.Outcome, next payment.State) {
	if o.At == 0 {
		o.At = m.now
	}
	if approves(&o.Response) {
		l.known, l.approval = true, o.Response.ApprovalCode
	}
	switch {
	case !l.save.IsZero() && (next == payment.StateApproved || next == payment.StateVerified && o.Status.Approved()):
		o.Token = m.saveCard(l, o)
	case !l.token.IsZero() && o.Response.Verdict.Flags.Has(payment.BlockToken):
		m.blockCard(l.token)
	}
	if !l.paymentLink.IsZero() {
		m.linkPaid(l, next == payment.StateApproved)
	}
	l.state, l.outcomeAt = next, l.lines
	m.body = appendOutcome(m.body[:0], o)
	m.write(l, payment.EntryOutcome, o.Event, m.body)
	if l.capture != (payment.Capturing{}) && next == payment.StateApproved {
		m.approved(l, o)
	}
	if l.capture.Mode == payment.CaptureCorrection {
		m.corrected(l, next)
	}
	if _, ok := m.open[l.id]; ok {
		delete(m.open, l.id)
		m.retired = append(m.retired, l)
	}
	m.decided = append(m.decided, l.id)
}

// expire ends an open payment whose node will not: its outcome is unknown and a
// reversal is owed.
func (m *Machine) expire(l *life, event payment.Event, cause payment.Cause) {
	next, ok := payment.Step(l.state, event)
	if !ok {
		return
	}
	o := &m.scratchOutcome
	*o = payment.Outcome{
		ID: l.id, Attempt: l.attempt, Session: l.session, Event: event, Status: payment.StatusUnknown, Cause: cause,
		Amount: l.amount, Reversal: payment.ReversalTimeout,
	}
	if l.holdsNothing() {
		o.Event, o.Reversal = payment.EventVerified, payment.NoReversal
		m.decide(l, o, payment.StateVerified)
		return
	}
	m.decide(l, o, next)
	m.owe(l, event, o.Reversal)
}

// holdsNothing says whether a payment only asks about an account: there is
// nothing to reverse, whatever its acquirer answers or does not.
func (l *life) holdsNothing() bool { return l.capture.Mode == payment.CaptureNever }

// applyLate records an answer that came after its attempt was given up. It
// never decides anything for the gateway; an approval of what we did not
// approve arms a reversal.
func (m *Machine) applyLate(c *cursor, r *Result) error {
	late := &m.late
	*late = payment.Late{}
	c.version(commandVersion)
	body := c.b
	readLate(c, late)
	if err := c.end(); err != nil {
		return err
	}
	l := m.load(late.ID)
	if l == nil || late.Attempt > l.attempt || late.Attempt == 0 {
		r.Err = payment.ErrNotFound
		return nil
	}
	approved := approves(&late.Response) && !l.holdsNothing()
	event := payment.EventLateDecline
	if approved {
		event = payment.EventLateApproval
	}
	if late.Attempt != l.attempt {
		m.lateEarlier(l, event, body)
		r.State = l.state
		return nil
	}
	next, ok := payment.Step(l.state, event)
	if !ok {
		next = l.state // open: the attempt's own outcome is on its way and decides, and known tells it
	}
	if approved {
		l.known, l.approval = true, late.Response.ApprovalCode
	}
	l.state = next
	m.write(l, payment.EntryLateAnswer, event, body)
	if approved && next == payment.StateReversing {
		m.arm(l, event, l.attempt, l.link, m.over(l.lifeOver, l.opened))
	}
	r.State = l.state
	return nil
}

// lateEarlier is an answer to an attempt that was closed by Next: an explicit
// no, or proof that nothing was written. An approval all the same must be
// reversed, and changes nothing about the payment.
func (m *Machine) lateEarlier(l *life, event payment.Event, body []byte) {
	m.write(l, payment.EntryLateAnswer, event, body)
	if event != payment.EventLateApproval {
		return
	}
	late := m.late
	h, at, ok := m.intentOf(l, late.Attempt)
	if !ok {
		m.view.fail(ErrCorrupt)
		return
	}
	m.arm(l, event, late.Attempt, m.names.of(h.link), m.over(h.lifeOverAt(at), at))
}
