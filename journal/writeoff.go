package journal

import (
	"fmt"
	"slices"

	"authswitch/payment"
)

const writeOffVersion = 1

// CheckWriteOff says whether a write-off can be proposed: without a person and
// a reason it is no audited decision.
func CheckWriteOff(w *payment.WriteOff) error {
	for _, text := range [...]struct{ name, value string }{{"operator", w.Operator}, {"reason", w.Reason}} {
		if text.value == "" || len(text.value) > maxText {
			return fmt.Errorf("%w: %s: 1 to %d bytes are needed", ErrInvalid, text.name, maxText)
		}
	}
	return nil
}

// AppendWriteOff writes a KindWriteOff command.
func AppendWriteOff(b []byte, w *payment.WriteOff) []byte {
	b = append(b, writeOffVersion)
	b = append(b, w.ID[:]...)
	b = putText(b, w.Operator)
	return putText(b, w.Reason)
}

// readWriteOff reads what stands behind the reversal on a line of history.
func readWriteOff(c *cursor, w *payment.WriteOff) {
	c.version(writeOffVersion)
	w.Operator = string(c.text())
	w.Reason = string(c.text())
}

// applyWriteOff ends every exception that a payment owes. What is owed and no
// exception stays: a machine still settles it. Result.Count is how many ended.
func (m *Machine) applyWriteOff(c *cursor, r *Result) error {
	c.version(writeOffVersion)
	id := c.id()
	operator, reason := c.text(), c.text()
	if err := c.end(); err != nil {
		return err
	}
	l := m.load(id)
	if l == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	for _, ref := range slices.Backward(l.owed) { // from the end: each that ends leaves the list
		o := m.lane(ref.link).owed[ref.seq]
		if o == nil {
			m.view.fail(ErrCorrupt)
			return nil
		}
		// What an operation owes has a life of its own, which this does not end.
		if o.Exception && o.Operation.IsZero() && m.writeOff(l, o, operator, reason) {
			r.Count++
		}
	}
	r.State = l.state
	return nil
}

// writeOff ends one exception. One of an earlier attempt moves no state: the
// payment is about its last attempt.
func (m *Machine) writeOff(l *life, o *owing, operator, reason []byte) bool {
	if o.Attempt == l.attempt {
		next, ok := payment.Step(l.state, payment.EventWrittenOff)
		if !ok {
			return false
		}
		l.state = next
	}
	m.drop(l, o)
	m.body = appendOwed(m.body[:0], &o.Owed, o.by)
	m.body = append(m.body, writeOffVersion)
	m.body = putText(m.body, operator)
	m.body = putText(m.body, reason)
	m.write(l, payment.EntryWrittenOff, payment.EventWrittenOff, m.body)
	return true
}
