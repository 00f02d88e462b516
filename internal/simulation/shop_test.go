package simulation_test

import (
	"errors"
	"fmt"
	"time"

	"authswitch/card"
	"authswitch/journal"
	"authswitch/payment"
)

// shop is a merchant that sends a payment link: several pay it, one may.
type shop struct {
	w        *world
	number   int
	merchant payment.MerchantID
	amount   int64
	id       payment.ID
	payers   []*client
	over     bool // the link is made
	ends     bool // and is cancelled again
}

// schedulePayLinks lets merchants send links.
func (w *world) schedulePayLinks() {
	for i := range w.plan.payLinks {
		p := &shop{w: w, number: i, merchant: merchants[w.r.IntN(2)], amount: 1000 + w.r.Int64N(9000), ends: w.r.IntN(4) == 0}
		w.shops = append(w.shops, p)
		for n := range 1 + w.r.IntN(4) {
			c := &client{
				w: w, number: 500 + 10*i + n, merchant: p.merchant, key: fmt.Appendf(nil, "link-%d-%d", i, n), reference: fmt.Appendf(nil, "link-%d", i),
				amount: p.amount, shop: p, automatic: w.r.IntN(2) == 0,
			}
			p.payers = append(p.payers, c)
			w.clients = append(w.clients, c)
		}
		w.after(w.between(300*time.Millisecond, w.plan.active), evClient, p.make)
	}
}

// make asks some node for the link, until there is one.
func (p *shop) make() {
	w := p.w
	if p.over {
		return
	}
	if n := w.someNode(); n != nil {
		w.spawn(n, func(*task) {
			k, err := n.sw.KeepLink(&payment.PayLink{
				Merchant: p.merchant, Gateway: "gw", Key: fmt.Appendf(nil, "make-%d", p.number), Fingerprint: [32]byte{byte(p.number)},
				Reference: fmt.Appendf(nil, "link-%d", p.number), Amount: payment.Amount{Value: p.amount, Currency: 978}, Uses: 1, ExpiresAt: n.wall() + payment.Instant(time.Hour),
			})
			if err == nil && !p.over {
				p.send(k.ID)
			}
		})
	}
	w.after(6*time.Second, evClient, p.make)
}

// send gives the link to those who pay it.
func (p *shop) send(id payment.ID) {
	w := p.w
	p.id, p.over = id, true
	for _, c := range p.payers {
		w.after(w.between(0, 2*time.Second), evClient, c.ask)
	}
	if n := w.someNode(); n != nil && p.ends {
		w.after(w.between(0, 3*time.Second), evClient, func() {
			w.spawn(n, func(*task) {
				_, _ = n.sw.KeepLink(&payment.PayLink{ID: id, Merchant: p.merchant, Gateway: "gw", Cancelled: true})
			})
		})
	}
}

func (d deps) PaymentLink(id payment.ID) (payment.PayLink, error) {
	if err := d.barrier(); err != nil {
		return payment.PayLink{}, err
	}
	return journal.ReadPaymentLink(d.n.disk, id)
}

func (d deps) KeepLink(k *payment.PayLink) (payment.PayLinkAnswer, error) {
	if err := journal.CheckPaymentLink(k); err != nil {
		return payment.PayLinkAnswer{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindPaymentLink, journal.AppendPaymentLink(nil, k), commitTimeout)
	return r.Link, err
}

// scheduleDeletes lets merchants delete cards that they saved.
func (w *world) scheduleDeletes() {
	for range w.plan.deletes {
		w.after(w.between(w.plan.active/4, w.plan.active), evClient, func() {
			i := w.r.IntN(len(merchants))
			n := w.someNode()
			if n == nil || len(w.tokens[i]) == 0 {
				return
			}
			token := w.tokens[i][w.r.IntN(len(w.tokens[i]))]
			w.spawn(n, func(*task) {
				_, _ = n.sw.ChangeCard(&payment.CardChange{Token: token, Merchant: merchants[i], Delete: true}, &card.Expiry{})
			})
		})
	}
}

// paidAndBlocked: a payment link is paid once; a card that its issuer wants back
// is blocked by that answer.
func (c *checks) paidAndBlocked(a *intended, o *payment.Outcome) {
	i := &a.intent
	if id := i.PaymentLink; !id.IsZero() && o.Event == payment.EventApproved {
		if other, twice := c.paid[id]; twice {
			c.fail("link", "a payment link is paid by %s and by %s", other, o.ID)
		}
		c.paid[id] = o.ID
	}
	if i.Token.IsZero() || o.Event != payment.EventDeclined || o.Response.Code.String() != "41" {
		return
	}
	k, err := journal.ReadCard(c.disk, i.Token)
	if err != nil || k.Status != payment.CardBlocked && k.Status != payment.CardDeleted && k.ChangedAt < c.machine.Now() { // else another payment saved it again, in the same entry
		c.fail("card", "%s is declined as stolen, and its card is %v, %v", o.ID, k.Status, err)
	}
	c.cover.blocked++
}

// scheduleCredits lets merchants refund without a payment.
func (w *world) scheduleCredits() {
	for i := range w.plan.credits {
		c := &client{w: w, number: 900 + i, merchant: merchants[min(w.r.IntN(5), 1)], amount: 1 + w.r.Int64N(50_000), over: true}
		x := &move{key: fmt.Appendf(nil, "credit-%d", i), kind: payment.OpRefund, amount: c.amount, credit: true}
		x.m = &mover{c: c, moves: []*move{x}}
		w.movers = append(w.movers, x.m)
		ask := func() {
			if x.tries == 0 {
				x.asked = w.events
			}
			x.ask()
		}
		at := w.between(300*time.Millisecond, w.plan.active)
		w.after(at, evClient, ask)
		if w.r.IntN(4) == 0 {
			w.after(at+w.between(0, 5*time.Millisecond), evClient, ask)
		}
	}
}

// creditOf is the card that a refund goes to.
func (x *move) creditOf(n *node) *payment.Authorization {
	a := &payment.Authorization{
		Gateway: "gw", Merchant: x.m.c.merchant, Key: x.key, Reference: x.key, Amount: payment.Amount{Value: x.amount, Currency: 978}, Channel: payment.MOTO, ReceivedAt: n.wall(),
	}
	must(&a.Card, false)
	return a
}

// must fills in the card that every world has.
func must(c *card.Card, cvv bool) {
	var err, errCVV error
	if c.PAN, err = card.ParsePAN([]byte("4111111111111111")); err == nil {
		c.Expiry, err = card.ParseExpiry([]byte("3012"))
	}
	if cvv {
		c.CVV, errCVV = card.ParseCVV([]byte("123"))
	}
	if err = errors.Join(err, errCVV); err != nil {
		panic(err)
	}
}

// finalMoves: I1, a key has one operation; a refund without a payment, which its
// contract alone allows or not, does not stand where it was refused.
func (c *checks) finalMoves() {
	stands := map[string]payment.ID{}
	for _, id := range c.opOrder {
		if o := &c.ops[id].op; len(o.Key) > 0 {
			name := string(o.Merchant) + "/" + string(o.Key)
			if other, twice := stands[name]; twice {
				c.fail("I1", "key %s has the %s %s and %s", o.Key, o.Kind, other, id)
			}
			stands[name] = id
		}
	}
	for _, m := range c.w.movers {
		for _, x := range m.moves {
			if id, is := stands[string(m.c.merchant)+"/"+string(x.key)]; is && x.credit && x.code != "" {
				c.fail("I1", "client %d's %s was refused, %s, and %s stands", m.c.number, x.kind, x.code, id)
			}
		}
	}
}

// finalClearing: I6, every batch has its end.
func (c *checks) finalClearing() {
	for k, x := range c.closed {
		if !over(x.b.State) {
			c.fail("I6", "batch %+v ends as %s", k, x.b.State)
		}
	}
	c.finalMoves()
}
