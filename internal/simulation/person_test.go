package simulation_test

import (
	"authswitch/journal"
	"authswitch/payment"
)

// person is who settles what no machine may, once all else is over: one
// operation after the other, by the acquirer's books. What an acquirer did for
// another amount, or for an operation that came to nothing, it puts right in its
// own books.
func (w *world) person() (busy bool) {
	n := w.someNode()
	if n == nil {
		return true
	}
	for _, o := range w.check.opOrder {
		op := &w.check.ops[o].op
		if op.State != payment.OperationException {
			continue
		}
		how := payment.NotTaken
		if w.hosts[w.check.linkIndex(op.Link)].took(op) {
			how = payment.Taken
		}
		w.tracef("a person finds that the %s %s was %v", op.Kind, op.ID, how == payment.Taken)
		n.spare(journal.KindWriteOff, journal.AppendWriteOff(nil, &payment.WriteOff{ID: op.Payment, Operator: "ana", Reason: "their books", Operations: how}))
		return true
	}
	if w.reversals(n) {
		return true
	}
	for _, h := range w.hosts {
		h.correctBooks()
	}
	return false
}

// reversals settles one payment whose reversal its acquirer refused: the acquirer
// takes it out of its books, and the operator writes that down.
func (w *world) reversals(n *node) bool {
	for _, id := range w.check.excepted {
		p, err := journal.ReadPayment(w.check.disk, id)
		if err != nil || p.State != payment.StateException {
			continue
		}
		for _, h := range w.hosts {
			for _, d := range h.order {
				if d.rrn == p.Intent.RRN.String() && (d.kind == holdAuthorization || d.kind == holdSale) {
					d.reversed = true
				}
			}
		}
		w.tracef("a person writes %s off", id)
		n.spare(journal.KindWriteOff, journal.AppendWriteOff(nil, &payment.WriteOff{ID: id, Operator: "ana", Reason: "their books"}))
		return true
	}
	return false
}

// took says whether an operation that needs a person happened, as far as this
// acquirer knows; what it did for another amount is put right.
func (h *host) took(op *payment.Operation) bool {
	c := h.w.check
	if op.Kind == payment.OpVoid {
		for _, d := range c.takenFor(h, op.Parent) {
			if !d.reversed {
				return false
			}
		}
		return true
	}
	for _, d := range c.takenFor(h, op.ID) {
		if d.live() {
			if d.kind != holdRelease {
				d.value = op.Amount.Value
			}
			return true
		}
	}
	return false
}

// correctBooks takes back what was done for operations that are over as
// something else: what was said twice, differently, and told once.
func (h *host) correctBooks() {
	c := h.w.check
	for _, d := range h.order {
		x := c.claims[wireKey{linkName(h.index), d.stan}]
		if !d.live() || !d.whispered || x == nil || x.op.IsZero() {
			continue
		}
		y := c.ops[x.op]
		reversible := c.w.plan.styles[h.index] != styleFinal
		if !y.op.State.Holds() && !(y.both && c.noneLost() && reversible) {
			d.reversed = true
		}
	}
}
