package simulation_test

import (
	"authswitch/journal"
	"authswitch/payment"
)

// final compares the ledgers when all is quiet: I2, I3, I6, and the bars.
func (c *checks) final() {
	w := c.w
	for _, n := range w.nodes {
		if n.m != nil && n.disk.sum != c.sums[len(w.order.log)] {
			c.fail("I4", "%s ends with another state", n.id)
		}
	}
	for _, cl := range w.clients {
		c.finalClient(cl)
	}
	c.finalFiles()
	held := map[attemptKey]*hold{}
	for i, h := range w.hosts {
		for _, d := range h.order {
			c.finalHold(i, d, held)
		}
	}
	c.finalClearing()
	for _, m := range merchants {
		ids, _, err := journal.ReadList(c.disk, m, payment.ID{}, 10_000)
		if err != nil {
			c.fail("N", "list: %v", err)
		}
		for _, id := range ids {
			c.finalPayment(id, held)
		}
	}
}

func (c *checks) finalClient(cl *client) {
	p, err := c.byKey(cl.merchant, cl.key)
	switch {
	case cl.final.refused != "":
		if err == nil && p.State == payment.StateApproved {
			c.fail("I1", "client %d was refused, %s, and is approved", cl.number, cl.final.refused)
		}
	case cl.final.barred:
		if err == nil && p.State == payment.StateApproved {
			c.fail("I1", "client %d is barred, and approved", cl.number)
		}
	case cl.barred:
		c.fail("bar", "client %d's cancellation found nothing, and then it was told %s", cl.number, cl.final.status)
	case cl.cancelled && p.State == payment.StateApproved && !c.keptByPerson(p.Intent.ID):
		c.fail("bar", "client %d's cancellation was answered, and it stays approved", cl.number)
	case err != nil || p.Outcome.Status != cl.final.status:
		c.fail("I1", "client %d was told %s; the journal says %s, %v", cl.number, cl.final.status, p.Outcome.Status, err)
	}
}

// finalHold: I2, nobody's money is held without a payment that says so.
func (c *checks) finalHold(host int, d *hold, held map[attemptKey]*hold) {
	if !d.live() || d.kind != holdAuthorization && d.kind != holdSale {
		return
	}
	var rrn payment.RRN
	copy(rrn[:], d.rrn)
	id := c.byRRN[rrn]
	p, err := journal.ReadPayment(c.disk, id)
	if err == nil && p.State == payment.StateApproved && p.Intent.Link == linkName(host) {
		held[attemptKey{id, p.Intent.Attempt}] = d
		if want := p.Outcome.Amount.Value; want != d.value {
			c.fail("I3", "%s is approved for %d; the acquirer holds %d", id, want, d.value)
		}
		return
	}
	if p.State == payment.StateVerified && d.value == 0 { // nothing is held
		return
	}
	if p.State == payment.StateException { // still owed, for a person to see
		return
	}
	if d.whispered && !c.calm() {
		return
	}
	c.fail("I2", "%s holds %d for %s, rrn %s, which is %s: %v", linkName(host), d.value, id, d.rrn, p.State, err)
}

// calm says that no answer of an acquirer can have been lost in this run.
func (c *checks) calm() bool {
	p := &c.w.plan
	return p.crashes+p.powerCuts+p.partitions+p.linkCuts+p.hostMischief == 0
}

// noneLost says that what reached a node cannot have been lost there.
func (c *checks) noneLost() bool {
	p := &c.w.plan
	return p.crashes+p.powerCuts+p.partitions+p.lose == 0
}

// finalPayment: I3 and I6, an approved payment is held; nothing is pending.
func (c *checks) finalPayment(id payment.ID, held map[attemptKey]*hold) {
	p, err := journal.ReadPayment(c.disk, id)
	if err != nil {
		c.fail("N", "%s: %v", id, err)
		return
	}
	switch p.State {
	case payment.StateApproved:
		if held[attemptKey{id, p.Intent.Attempt}] == nil {
			c.fail("I3", "%s is approved, and no acquirer holds it", id)
		}
	case payment.StateVerified, payment.StateRefundOnly, payment.StateDeclined, payment.StateNotSent, payment.StateReversed, payment.StateException, payment.StateWrittenOff:
	default:
		c.fail("I6", "%s ends as %s", id, p.State)
	}
	c.finalMoney(&p)
}

// finalMoney: each operation is over, and its acquirer has what the journal says
// of it: once and whole, or not at all.
func (c *checks) finalMoney(p *payment.Payment) {
	id := p.Intent.ID
	strange := false
	for _, op := range c.opsOf[id] {
		x := c.ops[op]
		o := &x.op
		if !o.State.Over() {
			c.fail("I6", "the %s %s, rrn %s, ends as %s", o.Kind, op, p.Intent.RRN, o.State)
			continue
		}
		want := 0
		if o.State == payment.OperationDone && (o.Means == payment.MeansAdvice || o.Means == payment.MeansOnline || o.Means == payment.MeansUpload || o.Means == payment.MeansFile || o.Kind == payment.OpRelease) {
			want = 1
		}
		live, whispered := 0, false
		for _, h := range c.w.hosts {
			for _, d := range c.takenFor(h, op) {
				whispered = whispered || d.whispered
				if !d.live() {
					continue
				}
				live++
				if d.kind != holdRelease && d.value != o.Amount.Value {
					c.fail("I11", "the %s %s is %s for %d; the acquirer has %d", o.Kind, op, o.State, o.Amount.Value, d.value)
				}
			}
		}
		strange = strange || whispered
		if live != want && (!whispered || x.both && c.noneLost()) {
			c.fail("I2", "the %s %s of %d, rrn %s, is %s; %s has it %d times", o.Kind, op, o.Amount.Value, p.Intent.RRN, o.State, o.Link, live)
		}
	}
	a := c.w.hosts[c.linkIndex(p.Intent.Link)].accounts[p.Intent.RRN.String()]
	switch {
	case strange || a == nil || a.base == nil || a.base.whispered:
	case p.State == payment.StateApproved:
		if want := p.Account.Authorized + p.Account.Incremented - p.Account.Released; a.held() != want {
			c.fail("I11", "%s, rrn %s, is authorized for %d; the acquirer: %s", id, p.Intent.RRN, want, a)
		}
	case p.State == payment.StateReversed && (a.sum(holdCapture) != 0 || a.sum(holdRefund) != 0):
		c.fail("I11", "%s, rrn %s, is reversed; the acquirer: %s", id, p.Intent.RRN, a)
	}
}

// keptByPerson says that a capture stands because its acquirer would not undo it.
func (c *checks) keptByPerson(id payment.ID) bool {
	for _, op := range c.opsOf[id] {
		if o := &c.ops[op].op; o.Kind == payment.OpVoid && o.State == payment.OperationFailed {
			return true
		}
	}
	return false
}
