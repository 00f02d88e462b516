package journal

import (
	"cmp"
	"fmt"
	"slices"

	"authswitch/payment"
)

const (
	writeOffVersion = 1
	// One that decides about operations says how.
	writeOffOperationsVersion = 2
)

// CheckWriteOff says whether a write-off can be proposed: without a person and
// a reason it is no audited decision.
func CheckWriteOff(w *payment.WriteOff) error {
	for _, text := range [...]struct{ name, value string }{{"operator", w.Operator}, {"reason", w.Reason}} {
		if text.value == "" || len(text.value) > maxText {
			return fmt.Errorf("%w: %s: 1 to %d bytes are needed", ErrInvalid, text.name, maxText)
		}
	}
	if w.Operations > payment.NotTaken {
		return fmt.Errorf("%w: operations: taken or not_taken", ErrInvalid)
	}
	return nil
}

// AppendWriteOff writes a KindWriteOff command.
func AppendWriteOff(b []byte, w *payment.WriteOff) []byte {
	version := byte(writeOffVersion)
	if w.Operations != payment.Undecided {
		version = writeOffOperationsVersion
	}
	b = append(b, version)
	b = append(b, w.ID[:]...)
	b = putText(b, w.Operator)
	b = putText(b, w.Reason)
	if version == writeOffOperationsVersion {
		b = append(b, byte(w.Operations))
	}
	return b
}

// readWriteOff reads what stands behind the reversal on a line of history.
func readWriteOff(c *cursor, w *payment.WriteOff) {
	version := c.u8()
	if version != writeOffVersion && version != writeOffOperationsVersion {
		c.broken = true
	}
	w.Operator = string(c.text())
	w.Reason = string(c.text())
	if version == writeOffOperationsVersion {
		w.Operations = payment.Resolution(c.u8())
	}
}

// applyWriteOff ends every exception that a payment owes. What is owed and no
// exception stays: a machine still settles it. Result.Count is how many ended.
func (m *Machine) applyWriteOff(c *cursor, r *Result) error {
	version := c.u8()
	if version != writeOffVersion && version != writeOffOperationsVersion {
		return ErrCorrupt
	}
	id := c.id()
	operator, reason := c.text(), c.text()
	how := payment.Undecided
	if version == writeOffOperationsVersion {
		how = payment.Resolution(c.u8())
	}
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
		// What an operation owes has a life of its own, below.
		if o.Exception && o.Operation.IsZero() && m.writeOff(l, o, operator, reason) {
			r.Count++
		}
	}
	if how == payment.Taken || how == payment.NotTaken {
		r.Count += m.writeOffOperations(l, how, operator, reason)
	}
	r.State = l.state
	return nil
}

// writeOffOperations ends the operations of a payment that are exceptions, and
// the reversals of attempts that were thought closed. A refund that was taken
// stays counted; one that was not is free again.
func (m *Machine) writeOffOperations(l *life, how payment.Resolution, operator, reason []byte) (count int) {
	var exceptions []*owing
	for _, lane := range m.lanes {
		for _, o := range lane.owed {
			if o.Exception && o.ID == l.id && !o.Operation.IsZero() {
				exceptions = append(exceptions, o)
			}
		}
	}
	slices.SortFunc(exceptions, func(a, b *owing) int { // lanes and their entries are maps
		return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Seq, b.Seq))
	})
	for _, o := range exceptions {
		var op payment.Operation
		if !m.operation(o.Operation, &op) {
			m.view.fail(ErrCorrupt)
			return count
		}
		m.drop(l, o)
		m.body = appendOwed(m.body[:0], &o.Owed, o.by)
		m.body = append(m.body, writeOffOperationsVersion)
		m.body = putText(m.body, operator)
		m.body = append(putText(m.body, reason), byte(how))
		m.write(l, payment.EntryWrittenOff, payment.EventWrittenOff, m.body)
		count++
		if op.Seq != o.Seq || op.State != payment.OperationException {
			continue // the attempt was closed already
		}
		a := &m.scratchAccount
		m.account(l, a)
		m.resolve(l, a, &op, how)
		m.setAccount(l, a)
	}
	return count
}

// resolve ends an operation as a person found it to have ended.
func (m *Machine) resolve(l *life, a *account, op *payment.Operation, how payment.Resolution) {
	var capture payment.Operation
	if op.Kind == payment.OpVoid {
		if !m.operation(op.Parent, &capture) {
			m.view.fail(ErrCorrupt)
			return
		}
		if how == payment.Taken {
			a.Captured -= capture.Amount.Value
			capture.State = payment.OperationUndone
		} else {
			capture.Parent = payment.ID{} // it stands, and may be undone another way
		}
		m.writeOperation(l, &capture)
		if how == payment.Taken {
			m.captureUndone(l, a, &capture, op)
		}
	}
	to := payment.OperationDone
	if how == payment.NotTaken {
		to = payment.OperationFailed
	}
	m.finish(l, a, op, to)
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
