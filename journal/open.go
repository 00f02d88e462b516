package journal

import (
	"encoding/binary"

	"authswitch/payment"
)

// What a key's record in the generations says.
const (
	keyPayment      = 1 // id, fingerprint: a payment holds the key
	keyCancellation = 2 // the key of a request to cancel: its answer, and a hash of what it asked
	keyBarred       = 3 // a cancellation of this key or reference came before its original
	keyOperation    = 4 // id, fingerprint: an operation holds the key
	keyPaymentLink  = 5 // id, fingerprint: a payment link holds the key
)

const keyVersion = 1

type keyRecord struct {
	kind        uint8
	id          payment.ID
	fingerprint [32]byte
	cancelled   payment.Cancelled
}

func appendKeyRecord(b []byte, k *keyRecord) []byte {
	b = append(b, keyVersion, k.kind)
	switch k.kind {
	case keyPayment, keyOperation, keyPaymentLink:
		b = append(b, k.id[:]...)
		b = append(b, k.fingerprint[:]...)
	case keyCancellation:
		b = append(b, k.fingerprint[:]...)
		b = putBool(b, k.cancelled.Found)
		b = append(b, k.cancelled.ID[:]...)
		b = append(b, byte(k.cancelled.Before), byte(k.cancelled.State))
	}
	return b
}

func (k *keyRecord) read(b []byte) error {
	c := cursor{b: b}
	c.version(keyVersion)
	*k = keyRecord{kind: c.u8()}
	switch k.kind {
	case keyPayment, keyOperation, keyPaymentLink:
		k.id = c.id()
		c.copy(k.fingerprint[:])
	case keyCancellation:
		c.copy(k.fingerprint[:])
		k.cancelled.Found = c.flag()
		k.cancelled.ID = c.id()
		k.cancelled.Before = payment.State(c.u8())
		k.cancelled.State = payment.State(c.u8())
	case keyBarred:
	default:
		return ErrCorrupt
	}
	return c.end()
}

// findKey looks a key or reference up: today's generation and the two before.
func (m *Machine) findKey(merchant []byte, h keyHash, k *keyRecord) bool {
	// New keys, nearly all, end here: it costs a cache line, the maps cost six.
	if !m.seen.perhaps(h) {
		return false
	}
	if id, ok := m.keys.find(h); ok {
		if l := m.open[id]; l != nil {
			*k = keyRecord{kind: keyPayment, id: id, fingerprint: l.fingerprint}
			return true
		}
	}
	for n := len(m.days) - 1; n >= max(0, len(m.days)-keptGenerations); n-- {
		m.keyA = appendKeyKey(m.keyA[:0], m.days[n], merchant, h)
		value, found := m.view.get(m.value[:0], m.keyA)
		m.value = value
		if found {
			m.view.fail(k.read(value))
			return true
		}
	}
	return false
}

// setKey writes a key's record into the newest generation.
func (m *Machine) setKey(merchant []byte, h keyHash, k *keyRecord) {
	day := dayOf(m.now)
	m.generation(day)
	m.keyA = appendKeyKey(m.keyA[:0], day, merchant, h)
	m.value = appendKeyRecord(m.value[:0], k)
	m.view.writes.set(m.keyA, m.value)
	m.seen.add(day, h)
	m.keys.add(h, k.id)
}

// applyOpen journals the first attempt of a payment. The body is the intent.
func (m *Machine) applyOpen(body []byte, r *Result) error {
	c := cursor{b: body}
	var h intentHead
	h.read(&c)
	if err := h.rest(&c); err != nil {
		return err
	}
	if r.Opened = m.admit(&h); r.Opened.Verdict != payment.OpenNew {
		return nil
	}
	if h.capture.Mode == payment.CaptureCorrection && !m.corrects(h.id) {
		r.Opened = payment.Opened{Verdict: payment.OpenBarred}
		return nil
	}
	if !h.paymentLink.IsZero() {
		if v := m.payLink(&h); v != payment.OpenNew {
			r.Opened = payment.Opened{Verdict: v}
			return nil
		}
	}
	l := m.newLife(h.id)
	l.state, _ = payment.Step(payment.StateNone, payment.EventOpened)
	l.take(&h, m.now, m.names)
	m.write(l, payment.EntryIntent, payment.EventOpened, body)
	if len(h.key) > 0 {
		m.setKey(h.merchant, hashOf(domainKey, h.merchant, h.key), &keyRecord{kind: keyPayment, id: h.id, fingerprint: h.fingerprint})
	}
	m.keyA = appendMerchantKey(m.keyA[:0], h.merchant, h.id)
	m.view.writes.set(m.keyA, nil)
	if len(h.reference) > 0 {
		m.keyA = append(appendReferencePrefix(m.keyA[:0], h.merchant, h.reference), h.id[:]...)
		m.view.writes.set(m.keyA, nil)
	}
	m.tag(&h)
	m.track(l)
	return nil
}

// admit decides whether an intent is the first with its key. The order is the
// rule: what the key's owner is told comes before what its session may do.
func (m *Machine) admit(h *intentHead) payment.Opened {
	if _, ok := m.open[h.id]; ok {
		return payment.Opened{Verdict: payment.OpenAgain, ID: h.id}
	}
	// A payment proposed again after it ended is found by its key while the
	// generations last. Without a key, or with an id that is not of these days,
	// its lines are looked for: they must never be written over.
	if (len(h.key) == 0 || !m.recentID(h.id)) && m.load(h.id) != nil {
		return payment.Opened{Verdict: payment.OpenDecided, ID: h.id}
	}
	var k keyRecord
	if len(h.key) > 0 && m.findKey(h.merchant, hashOf(domainKey, h.merchant, h.key), &k) {
		switch k.kind {
		case keyBarred:
			return payment.Opened{Verdict: payment.OpenBarred}
		case keyCancellation, keyOperation, keyPaymentLink:
			return payment.Opened{Verdict: payment.OpenConflict}
		}
		if v := m.holder(h, &k); v != payment.OpenNew {
			return payment.Opened{Verdict: v, ID: k.id}
		}
		if m.load(h.id) != nil { // it gave the key back itself, and so did who had it since
			return payment.Opened{Verdict: payment.OpenDecided, ID: h.id}
		}
	}
	if len(h.reference) > 0 && m.findKey(h.merchant, hashOf(domainReference, h.merchant, h.reference), &k) && k.kind == keyBarred {
		return payment.Opened{Verdict: payment.OpenBarred}
	}
	if !m.alive(h.session) || m.fence.holds(string(h.link)) {
		return payment.Opened{Verdict: payment.OpenSessionEnded}
	}
	return payment.Opened{Verdict: payment.OpenNew, ID: h.id}
}

// recentID says whether an id was minted within a day of the entry: its first
// 48 bits are milliseconds.
func (m *Machine) recentID(id payment.ID) bool {
	minted := int64(binary.BigEndian.Uint64(id[:])>>16) - int64(m.now)/1_000_000
	const millisecondsPerDay = nanosecondsPerDay / 1_000_000
	return -millisecondsPerDay < minted && minted < millisecondsPerDay
}

// holder decides between an intent and the payment that holds its key. OpenNew
// means that the holder gave the key back: nothing of it was ever written.
func (m *Machine) holder(h *intentHead, k *keyRecord) payment.OpenVerdict {
	l := m.load(k.id)
	if l == nil {
		m.view.fail(ErrCorrupt)
		return payment.OpenConflict
	}
	if k.id == h.id {
		return payment.OpenDecided // proposed again after it ended
	}
	if _, free := payment.Step(l.state, payment.EventOpened); free {
		return payment.OpenNew
	}
	switch {
	case k.fingerprint != h.fingerprint:
		return payment.OpenConflict
	case l.state == payment.StateOpen:
		return payment.OpenRunning
	}
	return payment.OpenDecided
}

// applyNext ends attempt n and opens attempt n+1 in one command.
func (m *Machine) applyNext(body []byte, r *Result) error {
	c := cursor{b: body}
	o := &m.scratchOutcome
	*o = payment.Outcome{}
	readOutcome(&c, o)
	ended, intent := body[:len(body)-len(c.b)], c.b
	var h intentHead
	h.read(&c)
	if err := h.rest(&c); err != nil {
		return err
	}
	l := m.load(h.id)
	if l == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	next, ok := payment.Step(l.state, payment.EventNextAttempt)
	took := l.state == payment.StateOpen && l.attempt == h.attempt // this very command, proposed twice
	switch {
	case took || !ok || !m.alive(h.session):
		m.stored(l, &r.Settled)
	case m.at(versionMarks) && m.fence.holds(string(h.link)):
		r.Err = payment.ErrUnavailable
	case l.attempt != o.Attempt || h.attempt != o.Attempt+1 || h.id != o.ID || h.session != l.session:
		r.Err = ErrInvalid // must not look as if it had taken
	case o.Event != payment.EventNeverSent && o.Event != payment.EventDeclined || o.Reversal != payment.NoReversal:
		r.Err = ErrInvalid
	default:
		l.state = next
		m.write(l, payment.EntryOutcome, payment.EventNextAttempt, ended)
		if l.known { // the attempt that ends here was approved by a second answer
			m.owe(l, payment.EventLateApproval, payment.ReversalLate)
		}
		l.intentAt = l.lines
		l.take(&h, m.now, m.names)
		m.write(l, payment.EntryIntent, payment.EventNextAttempt, intent)
		r.Settled.State = l.state
	}
	r.Settled.SessionEnded = !m.alive(h.session)
	return nil
}
