package simulation_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"authswitch/card"
	"authswitch/journal"
	"authswitch/payment"
)

// client is a gateway's one payment: it asks, and asks again with the same key
// on any node, until it has a final answer. Some ask twice at once, use their key
// for another body, or cancel.
type client struct {
	w         *world
	number    int
	merchant  payment.MerchantID
	key       []byte
	reference []byte
	amount    int64
	partial   bool
	automatic bool // its capture
	saves     bool // the card
	verifies  bool // only asks about the account
	stored    bool // pays with a saved card, where there is one
	token     payment.ID
	shop      *shop // whose link it pays
	over      bool
	final     answer
	tries     int
	last      string
	cancelled bool // a cancellation was answered
	cancels   bool // one was sent
	barred    bool // it found nothing: no payment may come of this key
}

// answer is what invariant I1 compares.
type answer struct {
	status payment.Status
	code   payment.ResponseCode
	amount payment.Amount
	rrn    payment.RRN
	id     payment.ID
	token  payment.ID
	barred bool
	// refused by a rule: nothing was done, and it does not ask again.
	refused string
}

func answerOf(p *payment.Payment) answer {
	o := &p.Outcome
	return answer{status: o.Status, code: o.Response.Code, amount: o.Amount, rrn: p.Intent.RRN, id: p.Intent.ID, token: o.Token}
}

// schedule lets gateways pay and faults happen while the run is active.
func (w *world) schedule() {
	for i := range w.plan.payments {
		c := &client{
			w: w, number: i, merchant: merchants[w.r.IntN(2)], key: fmt.Appendf(nil, "key-%d", i),
			reference: fmt.Appendf(nil, "order-%d", i), amount: 1000 + w.r.Int64N(90_000), partial: w.r.IntN(4) == 0,
			automatic: w.r.IntN(4) == 0, saves: w.r.IntN(3) == 0,
		}
		switch w.r.IntN(12) {
		case 0:
			c.verifies, c.amount, c.partial, c.automatic = true, 0, false, false
		case 1, 2, 3:
			c.stored, c.saves = true, false
		}
		w.clients = append(w.clients, c)
		at := w.between(300*time.Millisecond, w.plan.active)
		w.after(at, evClient, c.ask)
		switch w.r.IntN(8) {
		case 0:
			if !c.stored { // two at once may be told two things of a card that is blocked meanwhile
				w.after(at+w.between(0, 3*time.Millisecond), evClient, c.ask)
			}
		case 1:
			w.after(at+w.between(0, 8*time.Second), evClient, c.cancel)
		case 2:
			if !c.stored && !c.verifies {
				w.after(at+w.between(0, 5*time.Second), evClient, c.misuse)
			}
		}
		if w.r.IntN(40) == 0 { // the cancellation overtakes
			w.after(max(0, at-w.between(0, time.Second)), evClient, c.cancel)
		}
	}
	if w.plan.batch {
		w.after(w.between(w.plan.active/2, w.plan.active), evClient, w.refundInBatch)
	}
	w.schedulePayLinks()
	w.scheduleDeletes()
	w.scheduleCredits()
	w.scheduleFaults()
}

// someNode picks a node, rather one that serves.
func (w *world) someNode() *node {
	for range 3 {
		// Until the new cluster has the newest version the rules are an older one's.
		if n := w.nodes[w.r.IntN(len(w.nodes))]; n.serving && n.m.Version() == journal.NewestVersion {
			return n
		}
	}
	return nil
}

// request builds the body of the payment for one asking.
func (c *client) request(n *node, amount int64) *payment.Authorization {
	a := &payment.Authorization{
		Gateway: "gw", Merchant: c.merchant, Key: c.key, Reference: c.reference,
		Amount: payment.Amount{Value: amount, Currency: 978}, Channel: payment.Ecommerce, AcceptsPartial: c.partial,
		ReceivedAt: n.wall(), Deadline: n.wall() + payment.Instant(8*time.Second),
	}
	if c.automatic {
		a.Capture = payment.CaptureAutomatic
	}
	a.SaveCard = c.saves
	if c.verifies {
		a.Capture = payment.CaptureNever
	}
	if c.shop != nil {
		a.Channel, a.PaymentLink = payment.PayByLink, c.shop.id
	}
	if c.token.IsZero() {
		must(&a.Card, true)
		return a
	}
	a.Card.Token = card.Token(c.token.Append(nil, payment.CardPrefix))
	return a
}

// ask sends the payment to some node and waits for what comes back.
func (c *client) ask() {
	w := c.w
	if c.over {
		return
	}
	if c.tries++; c.tries == 1 && c.stored {
		if saved := w.tokens[slices.Index(merchants, c.merchant)]; len(saved) > 0 {
			c.token = saved[w.r.IntN(len(saved))]
		}
	}
	n := w.someNode()
	if n == nil {
		c.again("no node serves")
		return
	}
	answered, amount := false, c.amount
	w.spawn(n, func(*task) {
		a := c.request(n, amount)
		var out payment.Payment
		err := n.sw.Authorize(a, &out)
		w.check.told(c, &out, err)
		x := answerOf(&out)
		if w.chance(w.lossy(w.plan.lostAnswers)) {
			return
		}
		w.after(w.hop(), evClient, func() {
			answered = true
			c.hear(x, amount, err)
		})
	})
	w.after(9*time.Second, evClient, func() {
		if !answered {
			c.again("no answer")
		}
	})
}

func (c *client) again(why string) {
	c.last = why
	if !c.over {
		c.w.after(c.w.between(100*time.Millisecond, 2*time.Second), evClient, c.ask)
	}
}

// hear takes the answer of one asking.
func (c *client) hear(x answer, asked int64, err error) {
	var r *payment.Refusal
	switch {
	case err == nil:
		c.end(x)
	case !errors.As(err, &r):
		c.w.check.fail("door", "client %d was told %v", c.number, err)
	case r.Kind == payment.RefusedBarred:
		c.end(answer{barred: true})
	case r.Kind == payment.RefusedInvalid && (r.Code == "card_blocked" || r.Code == "unknown_token" || r.Code == "payment_link_over"):
		c.end(answer{refused: r.Code})
	case r.Kind == payment.RefusedInvalid:
		c.w.check.fail("door", "client %d was told %v", c.number, err)
	case r.Kind == payment.RefusedKeyConflict:
		p, err := c.holder()
		if err == nil && p.Intent.Amount.Value == asked {
			c.w.check.fail("I13", "client %d: its own body conflicts", c.number)
		}
		c.amount = p.Intent.Amount.Value // the other body came first
		c.again("conflict")
	default:
		c.again(r.Error())
	}
}

func (c *client) end(x answer) {
	if c.over {
		c.w.check.once(c, x)
		return
	}
	c.over, c.final = true, x
	c.w.tracef("client %d has %s %s rrn %s", c.number, x.status, x.code, x.rrn)
	if x.status.Approved() && !c.verifies {
		c.operate(x.id)
	}
	if i := slices.Index(merchants, c.merchant); !x.token.IsZero() {
		c.w.tokens[i] = append(c.w.tokens[i], x.token)
	}
	if c.w.r.IntN(4) == 0 && x.refused == "" { // it asks again all the same
		c.w.after(c.w.between(0, 5*time.Second), evClient, c.repeat)
	}
}

// repeat asks again for what it was told already.
func (c *client) repeat() {
	w := c.w
	n := w.someNode()
	if n == nil {
		return
	}
	w.spawn(n, func(*task) {
		var out payment.Payment
		err := n.sw.Authorize(c.request(n, c.amount), &out)
		w.check.told(c, &out, err)
		x := answerOf(&out)
		var r *payment.Refusal
		switch {
		case err == nil:
			w.check.once(c, x)
		case errors.As(err, &r) && r.Kind == payment.RefusedBarred:
			w.check.once(c, answer{barred: true})
		}
	})
}

// misuse uses the key for another body.
func (c *client) misuse() {
	w := c.w
	n := w.someNode()
	if n == nil || c.tries == 0 {
		return
	}
	asked := c.amount + 1
	w.spawn(n, func(*task) {
		var out payment.Payment
		switch err := n.sw.Authorize(c.request(n, asked), &out); {
		case err != nil:
		case out.Intent.Amount.Value != asked:
			w.check.fail("I13", "client %d: another body got the first one's answer", c.number)
		case !c.over:
			c.amount = asked // it came first: the key is its own
		}
	})
}

// holder is the payment that holds the key in the checker's replica.
func (c *client) holder() (payment.Payment, error) { return c.w.check.byKey(c.merchant, c.key) }

// cancel reverses the payment, named in one of three ways.
func (c *client) cancel() {
	w := c.w
	n := w.someNode()
	if n == nil {
		w.after(500*time.Millisecond, evClient, c.cancel)
		return
	}
	c.cancels = true
	x := payment.Cancellation{Merchant: c.merchant, Gateway: "gw", RequestKey: fmt.Appendf(nil, "cancel-%d", c.number), Reason: payment.ReversalCustomer}
	if c.number%2 == 0 || c.shop != nil {
		x.Key = c.key
	} else {
		x.Reference = c.reference
	}
	done := false
	w.spawn(n, func(*task) {
		r, err := n.sw.Reverse(&x)
		if err != nil {
			return
		}
		done = true
		w.check.cancelled(c, r)
	})
	w.after(7*time.Second, evClient, func() {
		if !done {
			c.cancel()
		}
	})
}
