package journal

import (
	"authswitch/payment"
)

// applyOperate decides on a capture, refund, increment, partial reversal or
// void. Every rule about amounts is here, and counts what is in doubt: two
// nodes cannot both be right about the same money.
func (m *Machine) applyOperate(c *cursor, r *Result) error {
	op := &m.scratchOperation
	*op = payment.Operation{}
	readOperation(c, op)
	if err := c.end(); err != nil {
		return err
	}
	m.operate(op, r)
	return nil
}

func (m *Machine) operate(op *payment.Operation, answer *Result) {
	r := &answer.Operated
	if m.operation(op.ID, &r.Operation) { // proposed twice
		r.Verdict = payment.OperateAgain
		return
	}
	var own keyHash
	if len(op.Key) > 0 {
		own = hashOf(domainKey, []byte(op.Merchant), op.Key)
		if m.usedBefore(op, own, r) {
			return
		}
	}
	var parent payment.Operation
	l := m.operated(op, &parent)
	if m.fencesOperation(l) {
		answer.Err = payment.ErrUnavailable
		return
	}
	if l == nil {
		r.Verdict, r.Refused = payment.OperateRefused, payment.RefusedUnknown
		return
	}
	a := &m.scratchAccount
	m.account(l, a)
	if why, left := m.refusal(l, a, op, &parent); why != payment.NotRefused {
		r.Verdict, r.Refused, r.Left = payment.OperateRefused, why, left
		return
	}
	m.take(l, a, op, &parent)
	m.setAccount(l, a)
	if len(op.Key) > 0 {
		m.setOperationKey(op, own)
	}
	r.Verdict, r.Operation = payment.OperateNew, *op
}

// usedBefore answers an operation whose key was used.
func (m *Machine) usedBefore(op *payment.Operation, own keyHash, r *payment.Operated) bool {
	var k keyRecord
	merchant := []byte(op.Merchant)
	found := m.findKey(merchant, own, &k)
	if !found && (op.Kind == payment.OpRefund || op.Kind == payment.OpVoid) {
		m.keyA = appendRefundKeyKey(m.keyA[:0], merchant, own)
		value, known := m.view.get(m.value[:0], m.keyA)
		m.value = value
		if found = known; found {
			m.view.fail(k.read(value))
		}
	}
	switch {
	case !found, m.freed(&k):
		return false
	case k.kind != keyOperation || k.fingerprint != op.Fingerprint:
		r.Verdict = payment.OperateConflict
	case !m.operation(k.id, &r.Operation):
		m.view.fail(ErrCorrupt)
	default:
		r.Verdict = payment.OperateAgain
	}
	return true
}

// setOperationKey remembers a key; a refund's for as long as the refund.
func (m *Machine) setOperationKey(op *payment.Operation, own keyHash) {
	k := keyRecord{kind: keyOperation, id: op.ID, fingerprint: op.Fingerprint}
	m.setKey([]byte(op.Merchant), own, &k)
	if op.Kind != payment.OpRefund {
		return
	}
	m.keyA = appendRefundKeyKey(m.keyA[:0], []byte(op.Merchant), own)
	m.value = appendKeyRecord(m.value[:0], &k)
	m.view.writes.set(m.keyA, m.value)
}

// operated finds the payment that an operation is about, and the capture where
// it is about one; nil when there is none of the merchant's.
func (m *Machine) operated(op, parent *payment.Operation) *life {
	if op.Kind == payment.OpRefund || op.Kind == payment.OpVoid {
		if !m.operation(op.Parent, parent) || parent.Kind != payment.OpCapture || parent.Merchant != op.Merchant {
			return nil
		}
		op.Payment = parent.Payment
	}
	l := m.load(op.Payment)
	if l == nil || l.merchant != string(op.Merchant) {
		return nil
	}
	return l
}

// refusal is why an operation cannot be, and what could. It sets the amount of
// one that asks for all there is.
func (m *Machine) refusal(l *life, a *account, op, parent *payment.Operation) (payment.OperationRefusal, int64) {
	switch {
	case l.state != payment.StateApproved || a.cancel != payment.NoReversal:
		return payment.RefusedState, 0
	case op.Amount.Currency != 0 && op.Amount.Currency != l.amount.Currency:
		return payment.RefusedCurrency, 0
	case len(a.operations) >= MaxOperations:
		return payment.RefusedTooMany, 0
	case op.Kind == payment.OpCorrection:
		return m.refusalOfCorrection(l, a, op)
	case op.Kind == payment.OpVoid:
		op.Amount = parent.Amount
		return m.refusalOfVoid(op, parent), 0
	}
	left := int64(0)
	switch op.Kind {
	case payment.OpCapture, payment.OpIncrement:
		if a.Closed || l.captureBy > 0 && m.now >= l.captureBy {
			return payment.RefusedClosed, 0
		}
		left = a.Capturable()
		if op.Kind == payment.OpIncrement {
			left = payment.MaxAmount - a.Authorized - a.Incremented
		}
	case payment.OpRelease:
		left = a.Capturable()
	case payment.OpRefund:
		if parent.Undone() {
			return payment.RefusedUndone, 0
		}
		left = parent.Amount.Value - parent.Refunded
	}
	if op.Amount.Value == 0 && op.Kind != payment.OpIncrement {
		op.Amount.Value = left
	}
	op.Amount.Currency = l.amount.Currency
	switch {
	case left <= 0:
		return payment.RefusedNothingLeft, 0
	case op.Amount.Value <= 0 || op.Amount.Value > left:
		return payment.RefusedAmount, left
	case op.Kind == payment.OpRelease && a.Captured == 0 && op.Amount.Value == left:
		return payment.RefusedWhole, left
	}
	return payment.NotRefused, left
}

// refusalOfVoid is why a capture cannot be undone. After the cut-over a refund
// undoes it, where there is a message for one or its line goes in a file too.
func (m *Machine) refusalOfVoid(op, parent *payment.Operation) payment.OperationRefusal {
	if why := refusalOfUndoing(parent); why != payment.NotRefused {
		return why
	}
	if op.MTI == 0 && !collected(parent) && m.settledBefore(parent) {
		return payment.RefusedSettled
	}
	return payment.NotRefused
}

// asRefund makes a void the refund that it has to be after the cut-over.
func asRefund(op, parent *payment.Operation) {
	op.Kind = payment.OpRefund
	switch {
	case op.MTI == 0 && parent.Means == payment.MeansUpload:
		op.Means, op.MTI = payment.MeansUpload, parent.MTI
	case op.MTI == 0:
		op.Means = payment.MeansFile
	case op.MTI>>4&0xF == 2:
		op.Means, op.Reversible = payment.MeansAdvice, false
	default:
		op.Means = payment.MeansOnline
	}
	op.Parent = parent.ID
}

func refusalOfUndoing(parent *payment.Operation) payment.OperationRefusal {
	switch {
	case parent.Undone():
		return payment.RefusedUndone
	case parent.Refunded > 0:
		return payment.RefusedHasRefunds
	}
	return payment.NotRefused
}

// take makes an operation stand: its amount is counted from here on.
func (m *Machine) take(l *life, a *account, op, parent *payment.Operation) {
	op.Link, op.CreatedAt = payment.LinkName(l.link), m.now
	op.Refunded, op.Attempt, op.Seq, op.STAN, op.Transmitted, op.File, op.FileLine = 0, 0, 0, 0, 0, 0, 0
	a.operations = append(a.operations, op.ID)
	v := op.Amount.Value
	if op.Kind == payment.OpVoid && m.settledBefore(parent) {
		asRefund(op, parent)
	}
	switch op.Kind {
	case payment.OpCapture:
		a.Captured += v
	case payment.OpRelease:
		a.Released += v
	case payment.OpRefund:
		a.Refunded += v
		parent.Refunded += v
		m.writeOperation(l, parent)
	case payment.OpCorrection:
		m.correct(l, a, op)
		return
	case payment.OpVoid:
		op.MTI, op.Reversible = 0, false
		if m.withdraw(l, a, parent) {
			op.Means, op.State = payment.MeansNone, payment.OperationDone
			m.writeOperation(l, op)
			m.advance(l, a) // what waits goes before what follows from the void
			m.captureUndone(l, a, parent, op)
			return
		}
		if parent.Means == payment.MeansSale {
			m.voidSale(l, a, op, parent)
			return
		}
		parent.Parent = op.ID
		m.writeOperation(l, parent)
	}
	m.enqueue(l, a, op)
	switch {
	case op.Kind != payment.OpCapture || !op.Last:
	case op.Means == payment.MeansOnline:
		a.Closed = true // what it leaves is given back once it is taken: it may be declined
	default:
		m.closeAccount(l, a, op)
	}
}

// closeAccount gives back what a last capture leaves.
func (m *Machine) closeAccount(l *life, a *account, last *payment.Operation) {
	a.Closed = true
	rest := a.Capturable()
	if rest == 0 {
		return
	}
	id := last.ID
	id[len(id)-1] |= 1 // minted ids end in six zero bits
	m.release(l, a, id, rest)
}

// release is a partial reversal that the journal itself decides.
func (m *Machine) release(l *life, a *account, id payment.ID, amount int64) {
	op := payment.Operation{
		ID: id, Kind: payment.OpRelease, Payment: l.id, Merchant: payment.MerchantID(l.merchant), Link: payment.LinkName(l.link),
		Amount: payment.Amount{Value: amount, Currency: l.amount.Currency}, Automatic: true, Means: payment.MeansReversal,
		Reason: payment.ReversalPartial, CreatedAt: m.now,
	}
	a.Released += amount
	a.operations = append(a.operations, op.ID)
	m.enqueue(l, a, &op)
}

// withdraw takes a capture back of which no byte can have left.
func (m *Machine) withdraw(l *life, a *account, capture *payment.Operation) bool {
	switch {
	case inFile(capture):
		if !m.unfile(capture) {
			return false
		}
	case collected(capture):
		return false // its batch is closed: it is the acquirer's
	case capture.State == payment.OperationWaiting:
		a.remove(capture.ID)
	case capture.State == payment.OperationOwed && a.current == capture.ID:
		lane := m.lane(string(capture.Link))
		o := lane.owed[capture.Seq]
		if o == nil || o.Tries > 0 {
			return false
		}
		m.drop(l, o)
		a.current = payment.ID{}
	default:
		return false
	}
	a.Captured -= capture.Amount.Value
	capture.State, capture.Seq = payment.OperationWithdrawn, 0
	m.writeOperation(l, capture)
	return true
}

func (a *account) remove(id payment.ID) {
	for i := range a.waiting {
		if a.waiting[i] == id {
			a.waiting = append(a.waiting[:i], a.waiting[i+1:]...)
			return
		}
	}
}

// enqueue lets an operation's message leave now, or after those before it.
func (m *Machine) enqueue(l *life, a *account, op *payment.Operation) {
	switch {
	case op.Means == payment.MeansNone, op.Means == payment.MeansSale:
		op.State = payment.OperationDone
		m.writeOperation(l, op)
	case collected(op):
		m.file(l, op)
	case a.current.IsZero() && !m.waitsForFile(op):
		m.dispatch(l, a, op, m.now)
	default:
		op.State = payment.OperationWaiting
		a.waiting = append(a.waiting, op.ID)
		m.writeOperation(l, op)
	}
}

// advance goes on to the next operation, and in the end to the reversal of the
// whole where one waits.
func (m *Machine) advance(l *life, a *account) {
	if !a.current.IsZero() {
		return
	}
	var next payment.Operation
	for _, id := range a.waiting {
		if !m.operation(id, &next) {
			m.view.fail(ErrCorrupt)
			return
		}
		if m.waitsForFile(&next) {
			continue
		}
		a.remove(id)
		m.dispatch(l, a, &next, m.now)
		return
	}
	if len(a.waiting) > 0 {
		return // for a file
	}
	if a.cancel != payment.NoReversal {
		reason := a.cancel
		a.cancel = payment.NoReversal
		if a.Captured > 0 {
			return // a person found that a capture stands, and so must what it was taken of
		}
		// Not before: until its reversal is owed the payment is approved, and an
		// approval that comes again must not send one ahead of what is in doubt.
		l.state, _ = payment.Step(l.state, payment.EventCancelled)
		m.owe(l, payment.EventCancelled, reason)
	}
}

// dispatch puts an operation's message into the outbox.
func (m *Machine) dispatch(l *life, a *account, op *payment.Operation, due payment.Instant) {
	a.current = op.ID
	op.State = payment.OperationOwed
	op.STAN, op.Transmitted = 0, 0
	if op.Means == payment.MeansOnline {
		op.Attempt++
	}
	o := &owing{Owed: payment.Owed{
		Link: op.Link, ID: l.id, Attempt: l.attempt, Reason: op.Reason, Approved: l.state != payment.StateRefundOnly, ApprovalCode: l.approval,
		Operation: op.ID, Kind: op.Kind, Means: op.Means, MTI: op.MTI, Amount: op.Amount,
	}}
	if op.Means == payment.MeansUpload {
		o.File = op.File
	}
	switch op.Kind {
	case payment.OpRelease:
		o.Amount, o.Remains = l.amount, m.remains(a)
	case payment.OpVoid:
		var capture payment.Operation
		if !m.operation(op.Parent, &capture) {
			m.view.fail(ErrCorrupt)
			return
		}
		if capture.State.Over() && capture.State != payment.OperationDone {
			// It came to nothing by itself: nothing is there to undo.
			m.finish(l, a, op, payment.OperationWithdrawn)
			return
		}
		o.Original = payment.Message{MTI: capture.MTI, STAN: capture.STAN, Transmitted: m.firstSent(l, &capture)}
	}
	m.send(o, due)
	op.Seq = o.Seq
	m.writeOperation(l, op)
}

// remains is what is still held once the release that leaves now is done: those
// that wait behind it are not yet.
func (m *Machine) remains(a *account) int64 {
	left := a.Authorized + a.Incremented - a.Released
	var later payment.Operation
	for _, id := range a.waiting {
		if m.operation(id, &later) && later.Kind == payment.OpRelease {
			left += later.Amount.Value
		}
	}
	return left
}

// send gives an entry its number and puts it into its lane.
func (m *Machine) send(o *owing, due payment.Instant) {
	link := string(o.Link)
	n := m.numbersOf(link)
	n.owed++
	o.Seq, o.Since, o.Due = n.owed, m.now, due
	m.setNumbers(link, n)
	m.enlist(link, o)
	m.setOwed(o)
}
