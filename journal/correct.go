package journal

import (
	"slices"
	"time"

	"authswitch/payment"
)

// A correction brings what a captured payment comes to, all in all, to another
// total: the difference is charged as a payment of its own, on the stored card,
// or refunded. What was charged and refunded before, and what of it is in doubt,
// counts, so that two nodes that correct to the same total do it once.

// correctionLife is how long a correction waits for its payment to be opened.
// Nobody opens one later: its correction is over by then.
const correctionLife = payment.Instant(30 * time.Second)

// refundPart is a refund that a correction makes.
type refundPart struct {
	owner, capture payment.ID
	amount         int64
}

// refusalOfCorrection is why a total cannot be; it sets what the correction
// does about the difference.
func (m *Machine) refusalOfCorrection(l *life, a *account, op *payment.Operation) (payment.OperationRefusal, int64) {
	op.Amount.Currency = l.amount.Currency
	if a.Captured == 0 {
		return payment.RefusedNotCaptured, 0
	}
	net := m.net(l, a)
	difference := op.Amount.Value - net
	switch {
	case difference == 0:
		return payment.RefusedNoDifference, net
	case difference > 0 && !op.Last:
		return payment.RefusedNoCard, 0
	case difference > 0:
		op.Means, op.Amount.Value, op.MTI, op.Reversible = payment.MeansPayment, difference, 0, false
		return payment.NotRefused, 0
	}
	op.Means, op.Amount.Value = payment.MeansNone, -difference
	parts, left := m.refundParts(l, a, op)
	if left > 0 || len(parts) > payment.MaxCorrectionRefunds {
		return payment.RefusedAmount, net - (-difference - left)
	}
	return payment.NotRefused, 0
}

// net is what a payment comes to: what it and the charges that corrected it
// captured, without what was refunded. What is in doubt counts as done.
func (m *Machine) net(l *life, a *account) int64 {
	own, net := l.id, a.Captured-a.Refunded
	for _, c := range m.charges(a) {
		if c.State != payment.OperationDone {
			net += c.Amount.Value // on its way
			continue
		}
		of := m.chargeAccount(c.ID)
		net += of.Captured - of.Refunded
	}
	m.load(own) // the accounts of others were read with lives of others, in l's place
	return net
}

// charges are the corrections of a payment that charge, and may still.
func (m *Machine) charges(a *account) (list []payment.Operation) {
	var op payment.Operation
	for _, id := range a.operations {
		if m.operation(id, &op) && op.Kind == payment.OpCorrection && op.Means == payment.MeansPayment && op.State.Holds() {
			list = append(list, op)
		}
	}
	return list
}

// chargeAccount is the account of the payment that charges a correction.
func (m *Machine) chargeAccount(correction payment.ID) (of account) {
	if l := m.load(payment.ChargeOf(correction)); l != nil {
		m.account(l, &of)
	}
	return of
}

// refundParts divides what a correction gives back among the captures, the
// newest charge first. Left is what none of them can give.
func (m *Machine) refundParts(l *life, a *account, op *payment.Operation) (parts []refundPart, left int64) {
	own := l.id
	left = op.Amount.Value
	take := func(owner payment.ID, of *account) {
		var capture payment.Operation
		for _, id := range slices.Backward(of.operations) {
			if left == 0 || !m.operation(id, &capture) || capture.Kind != payment.OpCapture || capture.Undone() || op.MTI == 0 && !collected(&capture) {
				continue
			}
			if n := min(left, capture.Amount.Value-capture.Refunded); n > 0 {
				parts, left = append(parts, refundPart{owner, id, n}), left-n
			}
		}
	}
	for _, c := range slices.Backward(m.charges(a)) {
		if c.State == payment.OperationDone {
			of := m.chargeAccount(c.ID)
			take(payment.ChargeOf(c.ID), &of)
		}
	}
	m.load(own)
	take(own, a)
	return parts, left
}

// correct makes a correction stand: what it charges is a payment that follows,
// what it gives back are refunds made here.
func (m *Machine) correct(l *life, a *account, op *payment.Operation) {
	if op.Means == payment.MeansPayment {
		op.State = payment.OperationOwed
		m.writeOperation(l, op)
		m.keyA = appendDueKey(m.keyA[:0], op.CreatedAt+correctionLife, op.ID)
		m.view.writes.set(m.keyA, nil)
		return
	}
	parts, _ := m.refundParts(l, a, op)
	op.State, op.Attempt = payment.OperationDone, uint8(len(parts))
	m.writeOperation(l, op)
	owner := l.id
	for n := range parts {
		if parts[n].owner == owner {
			m.refundPart(l, a, op, payment.CorrectionRefund(op.ID, uint8(n)), &parts[n])
		}
	}
	for n := range parts {
		if parts[n].owner == owner {
			continue
		}
		charge := m.load(parts[n].owner)
		if charge == nil {
			m.view.fail(ErrCorrupt)
			return
		}
		var of account
		m.account(charge, &of)
		m.refundPart(charge, &of, op, payment.CorrectionRefund(op.ID, uint8(n)), &parts[n])
		m.setAccount(charge, &of)
	}
	m.load(owner)
}

// refundPart makes one refund of a correction.
func (m *Machine) refundPart(l *life, a *account, op *payment.Operation, id payment.ID, part *refundPart) {
	var capture payment.Operation
	if !m.operation(part.capture, &capture) {
		m.view.fail(ErrCorrupt)
		return
	}
	refund := payment.Operation{
		ID: id, Payment: l.id, Parent: part.capture, Merchant: op.Merchant, Gateway: op.Gateway, Text: op.Text, MTI: op.MTI, Reversible: op.Reversible,
		Amount: payment.Amount{Value: part.amount, Currency: l.amount.Currency}, Automatic: true, Reason: op.Reason,
	}
	asRefund(&refund, &capture)
	m.take(l, a, &refund, &capture)
}

// corrects says whether an intent's payment may be opened: its correction stands
// and waits for it.
func (m *Machine) corrects(charge payment.ID) bool {
	var op payment.Operation
	return m.operation(payment.CorrectionOf(charge), &op) && op.Means == payment.MeansPayment && op.State == payment.OperationOwed
}

// corrected ends a correction with the outcome of the payment that charges it.
func (m *Machine) corrected(l *life, next payment.State) {
	var op payment.Operation
	if !m.operation(payment.CorrectionOf(l.id), &op) || op.State != payment.OperationOwed {
		return
	}
	switch next {
	case payment.StateApproved:
		m.endCorrection(&op, payment.OperationDone)
	case payment.StateDeclined:
		m.endCorrection(&op, payment.OperationDeclined)
	default: // nothing was sent, or what was sent is reversed
		m.endCorrection(&op, payment.OperationFailed)
	}
}

func (m *Machine) endCorrection(op *payment.Operation, to payment.OperationState) {
	original := m.load(op.Payment)
	if original == nil {
		m.view.fail(ErrCorrupt)
		return
	}
	op.State = to
	m.writeOperation(original, op)
	m.keyA = appendDueKey(m.keyA[:0], op.CreatedAt+correctionLife, op.ID)
	m.view.writes.delete(m.keyA)
}

// abandon fails a correction whose payment was never opened.
func (m *Machine) abandon(correction payment.ID) bool {
	var op payment.Operation
	if !m.operation(correction, &op) || op.Kind != payment.OpCorrection || op.State != payment.OperationOwed || m.load(payment.ChargeOf(correction)) != nil {
		return false
	}
	m.endCorrection(&op, payment.OperationFailed)
	return true
}

// expireCorrection fails a correction whose time is over and whose payment was
// not opened; one whose payment is open ends with it.
func (m *Machine) expireCorrection(d *payment.DueCapture) bool {
	var op payment.Operation
	if !m.operation(d.ID, &op) || op.Kind != payment.OpCorrection || op.CreatedAt+correctionLife != d.Due {
		return false
	}
	m.keyA = appendDueKey(m.keyA[:0], d.Due, d.ID)
	m.view.writes.delete(m.keyA)
	return m.abandon(d.ID)
}

// AppendAbandon writes a KindAbandon command: the payment that was to charge a
// correction will not be opened.
func AppendAbandon(b []byte, correction payment.ID) []byte {
	return append(append(b, commandVersion), correction[:]...)
}

func (m *Machine) applyAbandon(c *cursor, r *Result) error {
	c.version(commandVersion)
	id := c.id()
	if err := c.end(); err != nil {
		return err
	}
	if m.abandon(id) {
		r.Count = 1
	}
	return nil
}
