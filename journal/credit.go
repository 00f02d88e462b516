package journal

import "authswitch/payment"

// A refund that names no payment of this switch has a payment of its own all the
// same: what stands there of card, terms and numbers is what its messages need.
// Nothing is authorized by it, and nothing can be captured.

// AppendCredit writes a KindCredit command: the refund, and the intent that has
// its card. They share their id.
func AppendCredit(b []byte, o *payment.Operation, i *payment.Intent) []byte {
	return appendIntent(appendOperation(b, o), i)
}

// CheckCredit says whether a refund without a payment can be proposed.
func CheckCredit(o *payment.Operation, i *payment.Intent) error {
	if o.Kind != payment.OpRefund || o.ID != i.ID || o.Payment != i.ID || !o.Parent.IsZero() || o.Amount != i.Amount || o.Amount.Value <= 0 || o.Merchant != i.Merchant {
		return errInvalidCredit
	}
	probe := *o
	probe.Parent = o.ID
	if err := CheckOperation(&probe); err != nil {
		return err
	}
	return CheckIntent(i)
}

func (m *Machine) applyCredit(body []byte, r *Result) error {
	op := &m.scratchOperation
	*op = payment.Operation{}
	c := cursor{b: body}
	readOperation(&c, op)
	intent := c.b
	var h intentHead
	h.read(&c)
	if err := h.rest(&c); err != nil {
		return err
	}
	m.credit(op, &h, intent, r)
	return nil
}

func (m *Machine) credit(op *payment.Operation, h *intentHead, intent []byte, r *Result) {
	answer := &r.Operated
	if m.operation(op.ID, &answer.Operation) {
		answer.Verdict = payment.OperateAgain
		return
	}
	own := hashOf(domainKey, []byte(op.Merchant), op.Key)
	if len(op.Key) > 0 && m.usedBefore(op, own, answer) {
		return
	}
	if m.fence.on || m.load(h.id) != nil {
		r.Err = payment.ErrUnavailable
		return
	}
	l := &m.decidedLife
	*l = life{id: h.id, owed: l.owed[:0]}
	l.state, _ = payment.Step(payment.StateNone, payment.EventCredited)
	l.take(h, m.now, m.names)
	m.write(l, payment.EntryIntent, payment.EventCredited, intent)
	m.keyA = appendMerchantKey(m.keyA[:0], h.merchant, h.id)
	m.view.writes.set(m.keyA, nil)
	if len(h.reference) > 0 {
		m.keyA = append(appendReferencePrefix(m.keyA[:0], h.merchant, h.reference), h.id[:]...)
		m.view.writes.set(m.keyA, nil)
	}
	a := &m.scratchAccount
	*a = account{waiting: a.waiting[:0], operations: append(a.operations[:0], op.ID)}
	a.Closed, a.Refunded = true, op.Amount.Value
	op.Link, op.CreatedAt = payment.LinkName(l.link), m.now
	op.Refunded, op.Attempt, op.Seq, op.STAN, op.Transmitted, op.File, op.FileLine = 0, 0, 0, 0, 0, 0, 0
	m.enqueue(l, a, op)
	m.setAccount(l, a)
	if len(op.Key) > 0 {
		m.setOperationKey(op, own)
	}
	answer.Verdict, answer.Operation = payment.OperateNew, *op
}
