package journal

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"authswitch/payment"
)

// applyCancel is a gateway's reversal. What it names and does not find is
// barred: the original may still be on its way to us.
func (m *Machine) applyCancel(c *cursor, r *Result) error {
	var x cancellation
	readCancel(c, &x)
	if err := c.end(); err != nil {
		return err
	}
	asked := sha256.Sum256(x.named())
	own := hashOf(domainKey, x.merchant, x.requestKey)
	if len(x.requestKey) > 0 {
		var k keyRecord
		if m.findKey(x.merchant, own, &k) && !m.freed(&k) {
			if k.kind == keyCancellation && k.fingerprint == asked {
				r.Cancelled = k.cancelled
			} else {
				r.Cancelled.Conflict = true
			}
			return nil
		}
	}
	if m.fence.on {
		r.Err = payment.ErrUnavailable
		return nil
	}
	if l := m.target(&x); l != nil {
		m.cancel(l, &x, &r.Cancelled)
	} else {
		m.bar(&x)
	}
	if len(x.requestKey) > 0 && !r.Cancelled.Captured { // nothing was done: the key is free
		m.setKey(x.merchant, own, &keyRecord{kind: keyCancellation, fingerprint: asked, cancelled: r.Cancelled})
	}
	return nil
}

// named is what a cancellation asks for, so that its key's second use can be
// told from another request.
func (x *cancellation) named() []byte {
	b := append([]byte(nil), x.id[:]...)
	b = putText(b, x.key)
	b = putText(b, x.reference)
	return append(b, byte(x.reason))
}

// freed says whether a key's holder gave it back.
func (m *Machine) freed(k *keyRecord) bool {
	if k.kind != keyPayment {
		return false
	}
	l := m.load(k.id)
	if l == nil {
		m.view.fail(ErrCorrupt)
		return false
	}
	_, free := payment.Step(l.state, payment.EventOpened)
	return free
}

// target finds the payment that is named: by id, else by key, else by
// reference.
func (m *Machine) target(x *cancellation) *life {
	switch {
	case !x.id.IsZero():
		if l := m.load(x.id); l != nil && l.merchant == string(x.merchant) {
			return l
		}
	case len(x.key) > 0:
		var k keyRecord
		if m.findKey(x.merchant, hashOf(domainKey, x.merchant, x.key), &k) && k.kind == keyPayment {
			return m.load(k.id)
		}
	case len(x.reference) > 0:
		return m.referred(x)
	}
	return nil
}

// referred is the newest payment with a reference that a cancellation would
// change, else the newest: a declined attempt may have been followed by an
// approved one, or the other way round.
func (m *Machine) referred(x *cancellation) *life {
	from := appendReferencePrefix(nil, x.merchant, x.reference)
	to := after(nil, from)
	var ids []payment.ID
	collect := func(key, _ []byte) bool {
		ids = append(ids, payment.ID(key[len(from):]))
		return len(ids) < maxReferred
	}
	m.view.fail(m.view.state.Scan(from, to, true, collect))
	for i := range m.view.writes.list {
		if key := m.view.writes.keyOf(int32(i)); bytes.HasPrefix(key, from) {
			ids = append(ids, payment.ID(key[len(from):]))
		}
	}
	// The newest of both lists together, whatever was flushed when.
	slices.SortFunc(ids, func(a, b payment.ID) int { return bytes.Compare(b[:], a[:]) })
	ids = ids[:min(len(ids), maxReferred)]
	var newest, best payment.ID
	for _, id := range ids {
		l := m.load(id)
		if l == nil {
			m.view.fail(ErrCorrupt)
			return nil
		}
		if l.capture.Mode == payment.CaptureCorrection {
			continue // it has its payment's reference, and is the switch's own
		}
		if bytes.Compare(id[:], newest[:]) > 0 {
			newest = id
		}
		if next, _ := payment.Step(l.state, payment.EventCancelled); next != l.state && bytes.Compare(id[:], best[:]) > 0 {
			best = id
		}
	}
	if !best.IsZero() {
		return m.load(best)
	}
	if !newest.IsZero() {
		return m.load(newest)
	}
	return nil
}

// maxReferred is how many payments with one reference are looked at, newest
// first.
const maxReferred = 100

// cancel reverses what is open or approved; anything else is already over.
func (m *Machine) cancel(l *life, x *cancellation, answer *payment.Cancelled) {
	answer.Found, answer.ID, answer.Before = true, l.id, l.state
	next, _ := payment.Step(l.state, payment.EventCancelled)
	switch {
	case l.state == payment.StateOpen:
		o := &m.scratchOutcome
		*o = payment.Outcome{
			ID: l.id, Attempt: l.attempt, Session: l.session, Event: payment.EventCancelled, Status: payment.StatusCancelled,
			Cause: payment.CauseCancelled, Amount: l.amount, Reversal: x.reason,
		}
		if l.holdsNothing() {
			o.Event, o.Reversal = payment.EventVerified, payment.NoReversal
			m.decide(l, o, payment.StateVerified)
			break
		}
		m.decide(l, o, next)
		m.owe(l, payment.EventCancelled, x.reason)
	case next == payment.StateReversing && l.state != next && m.hasAccount(l.id):
		if answer.State = l.state; m.cancelOperated(l, x, answer) {
			answer.State = next // or will be, when nothing of it is in doubt
		}
		return
	case next == payment.StateReversing && l.state != next:
		l.state = next
		m.owe(l, payment.EventCancelled, x.reason)
	case l.state == payment.StateNotSent:
		answer.State = l.state
		m.barNotSent(l, x)
		return
	}
	answer.State = l.state
}

// barNotSent keeps the cancelled request from using the key that it gave back.
// Where another payment has the key by now, that one's answer stands. l is no
// more its payment's afterwards: the other's was read in its place.
func (m *Machine) barNotSent(l *life, x *cancellation) {
	if h, _, ok := m.intentAt(l.id, l.intentAt); ok && len(h.key) > 0 {
		key := hashOf(domainKey, x.merchant, h.key)
		var k keyRecord
		if !m.findKey(x.merchant, key, &k) || m.freed(&k) {
			m.setKey(x.merchant, key, &keyRecord{kind: keyBarred})
		}
	}
	if len(x.reference) > 0 {
		m.setKey(x.merchant, hashOf(domainReference, x.merchant, x.reference), &keyRecord{kind: keyBarred})
	}
}

// cancelOperated reverses a payment that has operations. One named by its id
// is known to have been captured, and keeps what it has; so does one that was
// refunded or corrected, because a capture with refunds cannot be undone, and
// what is captured must stay authorized. One whose gateway never got an answer goes away
// whole. It says whether the payment is reversed.
func (m *Machine) cancelOperated(l *life, x *cancellation, answer *payment.Cancelled) bool {
	a := &m.scratchAccount
	m.account(l, a)
	switch {
	case a.Captured == 0:
		m.cancelAccount(l, a, x.reason)
	case x.id.IsZero() && a.Refunded == 0 && len(m.charges(a)) == 0 && !m.anySettled(a):
		m.cancelCaptured(l, a, x.reason)
	default:
		answer.Captured = true
		return false
	}
	m.setAccount(l, a)
	return true
}

// bar remembers what was cancelled before it came.
func (m *Machine) bar(x *cancellation) {
	if len(x.key) > 0 {
		h := hashOf(domainKey, x.merchant, x.key)
		var k keyRecord
		if !m.findKey(x.merchant, h, &k) {
			m.setKey(x.merchant, h, &keyRecord{kind: keyBarred})
		}
		return
	}
	if len(x.reference) > 0 {
		m.setKey(x.merchant, hashOf(domainReference, x.merchant, x.reference), &keyRecord{kind: keyBarred})
	}
}
