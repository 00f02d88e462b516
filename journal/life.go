package journal

import (
	"bytes"

	"authswitch/payment"
)

// life is one payment as Apply works on it: the head of its newest line and
// what Apply needs of its newest intent.
type life struct {
	id    payment.ID
	state payment.State
	lines uint32 // how many there are: the next one's number
	// Where the newest intent and the outcome stand. The first line is an
	// intent, so that 0 is no outcome.
	intentAt, outcomeAt uint32
	attempt             uint8
	// known is set by an approval that came for the current attempt in any way:
	// its reversal carries DE 38 and "not found" does not end it.
	known    bool
	approval payment.ApprovalCode
	owed     []owedRef

	session     payment.Session
	amount      payment.Amount
	deadline    payment.Instant // for the answer, in the journal's time
	span        payment.Instant // from the request to its deadline
	lifeOver    payment.Instant // in the journal's time
	opened      payment.Instant // this attempt, in the journal's time
	merchant    string
	link        string
	fingerprint [32]byte
	capture     payment.Capturing
	captureBy   payment.Instant // in the journal's time; 0: for ever
	token, save payment.ID
	paymentLink payment.ID
}

// owedRef says where a reversal stands that this payment owes.
type owedRef struct {
	attempt uint8
	seq     uint64
	link    string
}

// A line is a head, the same for every kind, and a body:
//
//	version 1 | kind 1 | event 1 | state 1 | at 8 | attempt 1 | intentAt 4 | outcomeAt 4 | known 1 [approval 6] | owed 1 {attempt, seq 8, link}* | body
//
// so that the newest line alone says where the payment stands and every write
// to a payment is one blind put.
const lineVersion = 1

type lineHead struct {
	kind  payment.EntryKind
	event payment.Event
	at    payment.Instant
}

func appendLine(b []byte, l *life, h lineHead) []byte {
	b = append(b, lineVersion, byte(h.kind), byte(h.event), byte(l.state))
	b = putTime(b, h.at)
	b = append(b, l.attempt)
	b = put32(b, l.intentAt)
	b = put32(b, l.outcomeAt)
	b = putBool(b, l.known)
	if l.known {
		b = append(b, l.approval[:]...)
	}
	b = append(b, byte(len(l.owed)))
	for i := range l.owed {
		r := &l.owed[i]
		b = append(b, r.attempt)
		b = put64(b, r.seq)
		b = putText(b, r.link)
	}
	return b
}

func readLine(c *cursor, l *life) (h lineHead) {
	c.version(lineVersion)
	h.kind = payment.EntryKind(c.u8())
	h.event = payment.Event(c.u8())
	l.state = payment.State(c.u8())
	h.at = c.time()
	l.attempt = c.u8()
	l.intentAt = c.u32()
	l.outcomeAt = c.u32()
	l.known = c.flag()
	l.approval = payment.ApprovalCode{}
	if l.known {
		c.copy(l.approval[:])
	}
	n := int(c.u8())
	l.owed = l.owed[:0]
	for range n {
		r := owedRef{attempt: c.u8(), seq: c.u64()}
		r.link = string(c.text())
		l.owed = append(l.owed, r)
	}
	return h
}

// take keeps what Apply needs of an intent that was journalled at a moment. Its
// deadlines are of its node's clock, which may be behind the journal's time (a
// clock set back, another node's); only how far they are from the request's
// arrival is the same on both.
func (l *life) take(h *intentHead, at payment.Instant, names names) {
	l.attempt, l.session, l.amount, l.fingerprint = h.attempt, h.session, h.amount, h.fingerprint
	l.span = h.answerBy - h.receivedAt
	l.deadline = inJournalTime(h.answerBy, at, l.span)
	l.lifeOver, l.opened = h.lifeOverAt(at), at
	l.merchant, l.link = names.of(h.merchant), names.of(h.link)
	l.known, l.approval = false, payment.ApprovalCode{}
	l.capture, l.captureBy = h.capture, 0
	l.token, l.save, l.paymentLink = h.token, h.save, h.paymentLink
	if h.capture.Within > 0 {
		l.captureBy = at + h.capture.Within
	}
}

func (h *intentHead) lifeOverAt(at payment.Instant) payment.Instant {
	return inJournalTime(h.lifeOver, at, h.lifeOver-h.receivedAt)
}

// inJournalTime is a moment of a node's clock, span after its request came, in
// the time of the journal, which stood at at when the request was opened. It is
// not before its own span is over, nor before the node's clock says so while
// that clock may be the right one; a clock that is further ahead than a step is
// wrong, and would keep for its hours what it opened.
func inJournalTime(moment, at, span payment.Instant) payment.Instant {
	return min(max(moment, at+span), at+span+longestStep)
}

func (l *life) owes(attempt uint8) *owedRef {
	for i := range l.owed {
		if l.owed[i].attempt == attempt {
			return &l.owed[i]
		}
	}
	return nil
}

func (l *life) settled(link string, seq uint64) {
	for i := range l.owed {
		if l.owed[i].seq == seq && l.owed[i].link == link {
			l.owed = append(l.owed[:i], l.owed[i+1:]...)
			return
		}
	}
}

// names are the merchants' and links' names seen so far, kept once. There are
// as many as are configured.
type names map[string]string

func (n names) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	n[s] = s
	return s
}

// load finds a payment: in memory while it is open, else from its newest line.
// What it returns of a decided one is valid until the next load.
func (m *Machine) load(id payment.ID) *life {
	if l, ok := m.open[id]; ok {
		return l
	}
	l := &m.decidedLife
	l.id = id
	from := appendLineKey(m.keyA[:0], id, 0)
	to := after(m.keyB[:0], from[:17])
	m.keyA, m.keyB = from, to
	var broken bool
	found := m.view.last(from, to, func(key, value []byte) {
		l.lines = lineOf(key) + 1
		c := cursor{b: value}
		readLine(&c, l)
		broken = c.broken
	})
	if !found {
		return nil
	}
	h, at, ok := m.intentAt(id, l.intentAt)
	if broken || !ok {
		m.view.fail(ErrCorrupt)
		return nil
	}
	known, approval := l.known, l.approval
	l.take(&h, at, m.names)
	l.known, l.approval = known, approval
	return l
}

// intentAt reads the head of the intent on a line, and when it was written.
func (m *Machine) intentAt(id payment.ID, line uint32) (h intentHead, at payment.Instant, ok bool) {
	m.keyA = appendLineKey(m.keyA[:0], id, line)
	value, found := m.view.get(m.value[:0], m.keyA)
	if !found {
		return h, 0, false
	}
	m.value = value
	c := cursor{b: value}
	var discard life
	head := readLine(&c, &discard)
	if head.kind != payment.EntryIntent {
		return h, 0, false
	}
	h.read(&c)
	return h, head.at, !c.broken
}

// intentOf reads the head of an attempt's intent. Attempts are few, and only a
// late answer to an earlier one asks.
func (m *Machine) intentOf(l *life, attempt uint8) (h intentHead, written payment.Instant, ok bool) {
	for line := range l.lines {
		m.keyA = appendLineKey(m.keyA[:0], l.id, line)
		value, found := m.view.get(m.value[:0], m.keyA)
		if !found {
			return h, 0, false
		}
		m.value = value
		c := cursor{b: value}
		var at life
		head := readLine(&c, &at)
		if head.kind != payment.EntryIntent || at.attempt != attempt {
			continue
		}
		h.read(&c)
		h.merchant, h.link = bytes.Clone(h.merchant), bytes.Clone(h.link)
		return h, head.at, !c.broken
	}
	return h, 0, false
}

// outcome reads what a payment's gateway is told; zero while it is open.
func (m *Machine) outcome(l *life, o *payment.Outcome) {
	*o = payment.Outcome{}
	if l.outcomeAt == 0 {
		return
	}
	m.keyA = appendLineKey(m.keyA[:0], l.id, l.outcomeAt)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	c := cursor{b: value}
	var discard life
	if !found || readLine(&c, &discard).kind != payment.EntryOutcome {
		m.view.fail(ErrCorrupt)
		return
	}
	readOutcome(&c, o)
	m.view.fail(c.end())
}

// write adds a line to a payment's history.
func (m *Machine) write(l *life, kind payment.EntryKind, event payment.Event, body []byte) {
	m.keyA = appendLineKey(m.keyA[:0], l.id, l.lines)
	m.value = append(appendLine(m.value[:0], l, lineHead{kind: kind, event: event, at: m.now}), body...)
	m.view.writes.set(m.keyA, m.value)
	l.lines++
}
