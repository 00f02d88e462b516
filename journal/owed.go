package journal

import (
	"time"

	"authswitch/payment"
)

// The pace of repeats: one second after the first transmission, doubling to a
// minute; an exception is for a person to see, and is repeated hourly.
const (
	firstRepeat     = payment.Instant(time.Second)
	longestRepeat   = payment.Instant(time.Minute)
	exceptionRepeat = payment.Instant(time.Hour)
)

func repeatAfter(tries uint16, exception bool) payment.Instant {
	if exception {
		return exceptionRepeat
	}
	if tries > 6 { // 2^6 s is past the longest
		return longestRepeat
	}
	return min(firstRepeat<<(max(tries, 1)-1), longestRepeat)
}

// owe puts the reversal of the current attempt into the outbox, in the command
// that made it owed.
func (m *Machine) owe(l *life, event payment.Event, reason payment.ReversalReason) {
	m.post(l, event, &owing{Owed: payment.Owed{
		Link: payment.LinkName(l.link), ID: l.id, Attempt: l.attempt, Reason: reason,
		Approved: l.known, ApprovalCode: l.approval, LifeOver: m.over(l.lifeOver, l.opened),
	}})
}

// post gives a reversal its number and journals it.
func (m *Machine) post(l *life, event payment.Event, o *owing) {
	link := string(o.Link)
	n := m.numbersOf(link)
	n.owed++
	o.Seq, o.Since, o.Due = n.owed, m.now, m.now
	m.setNumbers(link, n)
	l.owed = append(l.owed, owedRef{attempt: o.Attempt, seq: o.Seq, link: link})
	m.enlist(link, o)
	m.setOwed(o)
	m.writeOwed(l, payment.EntryReversalOwed, event, o, nil)
}

func (m *Machine) setOwed(o *owing) {
	m.keyA = appendOwedKey(m.keyA[:0], o.Link, o.Seq)
	m.value = appendOwed(m.value[:0], &o.Owed, o.by)
	m.view.writes.set(m.keyA, m.value)
}

// writeOwed adds a line about a reversal, with the answer it got where there is
// one.
func (m *Machine) writeOwed(l *life, kind payment.EntryKind, event payment.Event, o *owing, answer *payment.Response) {
	m.body = appendOwed(m.body[:0], &o.Owed, o.by)
	m.body = putBool(m.body, answer != nil)
	if answer != nil {
		m.body = appendResponse(m.body, answer)
	}
	m.write(l, kind, event, m.body)
}

// arm makes an approval that we do not stand by go away: what is owed already
// learns of it and is due at once, an exception included; otherwise a reversal
// becomes owed (again).
func (m *Machine) arm(l *life, event payment.Event, attempt uint8, link string, lifeOver payment.Instant) {
	code := m.late.Response.ApprovalCode
	ref := l.owes(attempt)
	if ref == nil {
		m.post(l, event, &owing{Owed: payment.Owed{
			Link: payment.LinkName(link), ID: l.id, Attempt: attempt, Reason: payment.ReversalLate,
			Approved: true, ApprovalCode: code, LifeOver: lifeOver,
		}})
		return
	}
	lane := m.lane(ref.link)
	o := lane.owed[ref.seq]
	if o == nil {
		m.view.fail(ErrCorrupt)
		return
	}
	exception := o.Exception
	o.Approved, o.ApprovalCode, o.Exception, o.Due = true, code, false, m.now
	lane.changed(o, exception)
	m.setOwed(o)
	m.writeOwed(l, payment.EntryReversalOwed, event, o, nil)
}

// applyClaim journals an attempt to send, before its first byte.
func (m *Machine) applyClaim(c *cursor, r *Result) error {
	var k payment.Claim
	by := readClaim(c, &k)
	if err := c.end(); err != nil {
		return err
	}
	link := m.names.of([]byte(k.Link))
	lane := m.lane(link)
	o := lane.owed[k.Seq]
	switch {
	case o == nil:
		r.Err = payment.ErrNotFound
		return nil
	case !m.alive(by.session) || m.fence.holds(link):
		r.Err = payment.ErrUnavailable
		return nil
	case o.by == by: // this very claim, proposed twice
		r.Owed = o.Owed
		return nil
	case o.Due > m.now: // somebody else's, or too early
		r.Owed, r.Err = o.Owed, payment.ErrBusy
		return nil
	case o.STAN == 0 && k.STAN == 0, o.Online() && (o.Tries > 0 || k.Patience <= 0):
		r.Err = ErrInvalid
		return nil
	}
	if o.STAN == 0 {
		o.STAN = k.STAN
	}
	o.by, o.Transmitted, o.Tries = by, k.Transmitted, nextTries(o.Tries)
	o.Due = m.repeatAt(o)
	if o.Online() {
		o.Due, o.LifeOver = m.now+k.Patience, m.now+k.Life
		if o.Since < m.step {
			o.Since = m.now // its life begins after the step, which says nothing about it
		}
	}
	lane.changed(o, o.Exception)
	m.setOwed(o)
	l := m.load(o.ID)
	if l == nil {
		m.view.fail(ErrCorrupt)
		return nil
	}
	if !m.claimedOperation(l, o) {
		m.writeOwed(l, payment.EntryReversalSent, ownEvent(l), o, nil)
	}
	r.Owed = o.Owed
	return nil
}

// repeatAt is when a claimed reversal is due again. Its pace does not step over
// the moment from which "not found" ends it: a merchant's money, or a link, would
// wait up to a minute for what could be known at once. What is approved, or an
// exception, does not end so, and an original whose life is over is no reason
// to hurry.
func (m *Machine) repeatAt(o *owing) payment.Instant {
	due := m.now + repeatAfter(o.Tries, o.Exception)
	if over := m.believedFrom(o); m.now < over && over < due && !o.Approved && !o.Exception {
		return over
	}
	return due
}

// believedFrom is from when on "not found" is believed: until then the original
// can still arrive behind its reversal.
func (m *Machine) believedFrom(o *owing) payment.Instant { return m.over(o.LifeOver, o.Since) }

// over is when a time that began at since is over. After a step of the clock the
// rest of it begins again: nobody knows how much has passed.
func (m *Machine) over(at, since payment.Instant) payment.Instant {
	if since < m.step {
		return max(at, m.step+at-since)
	}
	return at
}

// ownEvent is the event under which a transmission is listed: it changes
// nothing, so it carries the one that put the payment where it is.
func ownEvent(l *life) payment.Event {
	if l.state == payment.StateException {
		return payment.EventReversalExceptional
	}
	return payment.EventUnknown
}

// applyAcknowledge journals what the acquirer said to what was owed.
func (m *Machine) applyAcknowledge(c *cursor, r *Result) error {
	a := &m.answer
	*a = payment.Acknowledgement{}
	readAcknowledge(c, a)
	if err := c.end(); err != nil {
		return err
	}
	o := m.lane(m.names.of([]byte(a.Link))).owed[a.Seq]
	if o == nil {
		if !m.lateOperation(a) {
			r.Err = payment.ErrNotFound
		}
		return nil
	}
	l := m.load(o.ID)
	if l == nil {
		m.view.fail(ErrCorrupt)
		return nil
	}
	if a.Verdict == payment.AdviceSilent {
		if m.now < m.over(o.Due, o.Since) { // the clock of who says so is ahead: its message may not have left yet
			r.Err = payment.ErrBusy
			return nil
		}
		a.Verdict = payment.AdviceUnknown
	}
	o.LastCode = a.Response.Code
	if !o.Operation.IsZero() {
		m.answered(l, o, a)
		r.State = l.state
		return nil
	}
	answer, verdict := a.Response, a.Verdict
	switch verdict {
	case payment.AdviceAcknowledged:
		m.end(l, payment.EventReversalAcknowledged, o, &answer)
	case payment.AdviceNotFound:
		m.notFound(l, o, &answer)
	case payment.AdviceExceptional:
		m.except(l, o, &answer)
	default: // AdviceRepeat: no usable answer, the claim's repeat stands
		m.setOwed(o)
	}
	r.State = l.state
	return nil
}

// notFound judges "no such original". It ends a reversal only where the
// acquirer cannot still approve and never did as far as anybody knows: a
// reversal can overtake its own original. An exception stays one (the table).
func (m *Machine) notFound(l *life, o *owing, answer *payment.Response) {
	switch {
	case o.Approved:
		m.except(l, o, answer)
	case m.now < m.believedFrom(o):
		m.setOwed(o)
	default:
		m.end(l, payment.EventOriginalNotFound, o, answer)
	}
}

// end takes a reversal out of the outbox. One of an earlier attempt moves no
// state: the payment is about its last attempt.
func (m *Machine) end(l *life, event payment.Event, o *owing, answer *payment.Response) {
	if o.Attempt == l.attempt {
		next, ok := payment.Step(l.state, event)
		if !ok {
			m.setOwed(o)
			return
		}
		l.state = next
	}
	m.drop(l, o)
	m.writeOwed(l, payment.EntryReversalEnded, event, o, answer)
}

// drop takes an entry out of the outbox. The line that says why follows.
func (m *Machine) drop(l *life, o *owing) {
	link := string(o.Link)
	m.lane(link).remove(o)
	m.keyA = appendOwedKey(m.keyA[:0], o.Link, o.Seq)
	m.view.writes.delete(m.keyA)
	l.settled(link, o.Seq)
}

// except makes a reversal one for a person to see. It stays owed.
func (m *Machine) except(l *life, o *owing, answer *payment.Response) {
	if o.Attempt == l.attempt {
		next, ok := payment.Step(l.state, payment.EventReversalExceptional)
		if !ok {
			m.setOwed(o)
			return
		}
		l.state = next
	}
	was := o.Exception
	o.Exception, o.Due = true, m.now+exceptionRepeat
	m.lane(string(o.Link)).changed(o, was)
	m.setOwed(o)
	m.writeOwed(l, payment.EntryReversalOwed, payment.EventReversalExceptional, o, answer)
}
