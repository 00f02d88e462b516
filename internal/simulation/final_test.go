package simulation_test

import (
	"fmt"

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
	held := map[attemptKey]*hold{}
	for i, h := range w.hosts {
		for _, d := range h.order {
			c.finalHold(i, d, held)
		}
	}
	for _, m := range []payment.MerchantID{"parcels", "museum"} {
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
	case cl.final.barred:
		if err == nil && p.State == payment.StateApproved {
			c.fail("I1", "client %d is barred, and approved", cl.number)
		}
	case cl.barred:
		c.fail("bar", "client %d's cancellation found nothing, and then it was told %s", cl.number, cl.final.status)
	case cl.cancelled && p.State == payment.StateApproved:
		c.fail("bar", "client %d's cancellation was answered, and it stays approved", cl.number)
	case err != nil || p.Outcome.Status != cl.final.status:
		c.fail("I1", "client %d was told %s; the journal says %s, %v", cl.number, cl.final.status, p.Outcome.Status, err)
	}
}

// finalHold: I2, nobody's money is held without a payment that says so.
func (c *checks) finalHold(host int, d *hold, held map[attemptKey]*hold) {
	if !d.approved || d.reversed {
		return
	}
	var rrn payment.RRN
	copy(rrn[:], d.rrn)
	id := c.byRRN[rrn]
	p, err := journal.ReadPayment(c.disk, id)
	if err == nil && p.State == payment.StateApproved && p.Intent.Link == linkName(host) {
		held[attemptKey{id, p.Intent.Attempt}] = d
		if want := fmt.Sprintf("%012d", p.Outcome.Amount.Value); want != d.amount {
			c.fail("I3", "%s is approved for %s; the acquirer holds %s", id, want, d.amount)
		}
		return
	}
	if p.State == payment.StateException { // still owed, for a person to see
		return
	}
	if d.whispered && !c.calm() {
		return
	}
	c.fail("I2", "%s holds %s for %s, rrn %s, which is %s: %v", linkName(host), d.amount, id, d.rrn, p.State, err)
}

// calm says that no answer of an acquirer can have been lost in this run.
func (c *checks) calm() bool {
	p := &c.w.plan
	return p.crashes+p.powerCuts+p.partitions+p.linkCuts+p.hostMischief == 0
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
	case payment.StateDeclined, payment.StateNotSent, payment.StateReversed, payment.StateException:
	default:
		c.fail("I6", "%s ends as %s", id, p.State)
	}
}
