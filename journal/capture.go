package journal

import (
	"slices"

	"authswitch/payment"
)

// approved does what an approval brings with it, in the approval's own command:
// an automatic capture of the approved amount, and the day on which captures
// are over.
func (m *Machine) approved(l *life, o *payment.Outcome) {
	if l.capture.Mode == payment.CaptureAutomatic || l.capture.Mode == payment.CaptureCorrection {
		m.captureAll(l, o)
		return
	}
	if l.captureBy > 0 {
		m.keyA = appendDueKey(m.keyA[:0], l.captureBy, l.id)
		m.view.writes.set(m.keyA, nil)
	}
}

// captureAll is the automatic capture. It shares its payment's id: there is one
// at most, and no node has to mint another.
func (m *Machine) captureAll(l *life, o *payment.Outcome) {
	op := payment.Operation{
		ID: l.id, Kind: payment.OpCapture, Payment: l.id, Merchant: payment.MerchantID(l.merchant), Link: payment.LinkName(l.link),
		Amount: o.Amount, Last: true, Automatic: true, Means: l.capture.Means, MTI: l.capture.MTI, CreatedAt: m.now,
	}
	a := &m.scratchAccount
	*a = account{waiting: a.waiting[:0], operations: append(a.operations[:0], op.ID)}
	a.Authorized, a.Captured, a.Closed = o.Amount.Value, o.Amount.Value, true
	m.enqueue(l, a, &op)
	m.setAccount(l, a)
}

// MaxExpire is how many payments one KindExpire command names.
const MaxExpire = 256

// AppendExpire writes a KindExpire command about what ReadDue found.
func AppendExpire(b []byte, due []payment.DueCapture) []byte {
	b = append(b, commandVersion)
	b = put16(b, uint16(len(due)))
	for i := range due {
		b = putTime(b, due[i].Due)
		b = append(b, due[i].ID[:]...)
	}
	return b
}

// applyExpire ends the time for captures of the payments it names: what nobody
// captured is reversed. By the journal's time, and only what its own record
// says is due: a second node that names the same changes nothing.
func (m *Machine) applyExpire(c *cursor, r *Result) error {
	c.version(commandVersion)
	list := make([]payment.DueCapture, 0, MaxExpire)
	for range c.u16() {
		if c.broken {
			break
		}
		list = append(list, payment.DueCapture{Due: c.time(), ID: c.id()})
	}
	if err := c.end(); err != nil {
		return err
	}
	if m.at(versionMarks) && m.fence.on { // it may have been captured since the backup
		r.Err = payment.ErrUnavailable
		return nil
	}
	for i := range list {
		if list[i].Due <= m.now && (m.expireCapture(&list[i]) || m.expireCorrection(&list[i])) {
			r.Count++
		}
	}
	return nil
}

func (m *Machine) expireCapture(d *payment.DueCapture) bool {
	l := m.load(d.ID)
	if l == nil || l.captureBy != d.Due {
		return false
	}
	m.keyA = appendDueKey(m.keyA[:0], d.Due, d.ID)
	m.view.writes.delete(m.keyA)
	if l.state != payment.StateApproved {
		return false
	}
	a := &m.scratchAccount
	m.account(l, a)
	if a.Closed || a.cancel != payment.NoReversal {
		return false
	}
	a.Closed = true
	rest := m.giveUpRest(l, a, d.ID)
	m.setAccount(l, a)
	return rest > 0
}

// giveUpRest reverses what is held and not captured: all of it, or the rest. It
// says how much that was.
func (m *Machine) giveUpRest(l *life, a *account, id payment.ID) int64 {
	rest := a.Capturable()
	switch {
	case a.Captured == 0 && l.state == payment.StateApproved:
		m.cancelAccount(l, a, payment.ReversalCustomer)
	case rest > 0:
		id[len(id)-1] |= 1
		m.release(l, a, id, rest)
	}
	return rest
}

// captureFailed goes on after a capture that its acquirer declined, or whose
// attempt was reversed: its amount is free again. The last one was not, after
// all; but where the time for captures is over, what is left is given back.
func (m *Machine) captureFailed(l *life, a *account, op *payment.Operation) {
	var behind payment.Operation
	for _, id := range slices.Clone(a.operations) {
		if !m.operation(id, &behind) || behind.Parent != op.ID || behind.State != payment.OperationWaiting && !inFile(&behind) {
			continue
		}
		// What waited to undo it has nothing to undo. A line of a closed batch stays in
		// it, and does not leave.
		failed := payment.OperationFailed
		if inFile(&behind) && m.unfile(&behind) {
			failed = payment.OperationWithdrawn
		}
		a.remove(id)
		behind.State = failed
		m.giveBack(l, a, &behind)
		m.writeOperation(l, &behind)
	}
	if op.Last {
		a.Closed = false
	}
	if l.captureBy > 0 && m.now >= l.captureBy && a.cancel == payment.NoReversal {
		a.Closed = true
		id := op.ID
		if m.at(versionVoids) {
			id[len(id)-1] |= 4 // what it left may be given back already, under an id of its own
		}
		m.giveUpRest(l, a, id)
	}
}

// captureUndone goes on after a void: the capture's amount is free again. A last
// capture was not the last, after all, and another may follow. Where none can — the
// authorization was captured by itself, another last one stands, or the time for
// captures is over — what is left is given back; it was held until somebody
// reversed it.
func (m *Machine) captureUndone(l *life, a *account, capture, void *payment.Operation) {
	if !m.at(versionVoids) || a.cancel != payment.NoReversal {
		return
	}
	if capture.Last {
		a.Closed = false
	}
	if capture.Automatic || l.captureBy > 0 && m.now >= l.captureBy {
		a.Closed = true
	}
	if a.Closed && !m.lastInDoubt(a) {
		m.giveUpRest(l, a, void.ID)
	}
}

// lastInDoubt says whether the acquirer has yet to take a last capture: what that
// one leaves is given back once it has.
func (m *Machine) lastInDoubt(a *account) bool {
	var op payment.Operation
	for _, id := range a.operations {
		if m.operation(id, &op) && op.Kind == payment.OpCapture && op.Last && op.Means == payment.MeansOnline && op.InDoubt() {
			return true
		}
	}
	return false
}

// voidSale undoes a capture that was the authorization's own message: the
// payment is reversed, and its own life says how far that is.
func (m *Machine) voidSale(l *life, a *account, op, capture *payment.Operation) {
	m.undoSale(l, a, capture)
	op.State = payment.OperationDone
	m.writeOperation(l, op)
	m.cancelAccount(l, a, op.Reason)
}

func (m *Machine) undoSale(l *life, a *account, capture *payment.Operation) {
	a.Captured -= capture.Amount.Value
	capture.State = payment.OperationUndone
	m.writeOperation(l, capture)
}

// cancelAccount reverses the whole authorization as soon as nothing of it is in
// doubt: the next message of a payment leaves only when the one before is over.
func (m *Machine) cancelAccount(l *life, a *account, reason payment.ReversalReason) {
	a.cancel = reason
	m.advance(l, a)
}

// cancelCaptured undoes every capture of a payment, then the payment: its
// gateway never got an answer and wants none of it.
func (m *Machine) cancelCaptured(l *life, a *account, reason payment.ReversalReason) {
	var op payment.Operation
	for _, id := range slices.Clone(a.operations) {
		if !m.operation(id, &op) || op.Kind != payment.OpCapture || refusalOfUndoing(&op) != payment.NotRefused {
			continue
		}
		if m.withdraw(l, a, &op) {
			continue
		}
		if op.Means == payment.MeansSale {
			m.undoSale(l, a, &op)
			continue
		}
		void := payment.Operation{
			ID: id, Kind: payment.OpVoid, Payment: l.id, Parent: id, Merchant: op.Merchant, Link: op.Link, Amount: op.Amount,
			Automatic: true, Means: payment.MeansReversal, Reason: reason, CreatedAt: m.now,
		}
		void.ID[len(id)-1] |= 2
		op.Parent = void.ID
		m.writeOperation(l, &op)
		a.operations = append(a.operations, void.ID)
		m.enqueue(l, a, &void)
	}
	m.cancelAccount(l, a, reason)
}
