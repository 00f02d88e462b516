package simulation_test

import (
	"errors"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// mover is what a gateway does with one approved payment: captures, refunds and
// the rest, each asked again with its key until it has its answer.
type mover struct {
	c        *client
	id       payment.ID
	captures []payment.ID
	moves    []*move
}

// move is one request.
type move struct {
	m      *mover
	key    []byte
	kind   payment.OperationKind
	parent payment.ID
	amount int64
	last   bool
	over   bool
	tries  int
	why    string            // it is not over
	code   string            // of its refusal
	credit bool              // a refund that names no payment
	done   payment.Operation // its answer, where there is no refusal
	asked  int               // w.events when it was asked first
	told   int               // and when it had its answer
}

// operate lets a gateway act on a payment that it was told is approved.
func (c *client) operate(id payment.ID) {
	w := c.w
	if w.plan.moves == 0 || w.r.IntN(3) == 0 {
		return
	}
	m := &mover{c: c, id: id}
	if c.automatic {
		m.captures = append(m.captures, id)
	}
	w.movers = append(w.movers, m)
	at := time.Duration(0)
	for n := range 1 + w.r.IntN(w.plan.moves) {
		at += w.between(0, 2*time.Second)
		x := &move{m: m, key: fmt.Appendf(nil, "move-%d-%d", c.number, n)}
		w.after(at, evClient, x.begin)
	}
}

// begin chooses what is asked for, by what is known then.
func (x *move) begin() {
	w, m := x.m.c.w, x.m
	if w.healed && w.r.IntN(2) == 0 {
		return // the gateway's day is over too
	}
	x.asked = w.events
	x.kind, x.amount = payment.OpCapture, w.r.Int64N(m.c.amount)
	if w.r.IntN(4) == 0 {
		x.amount = 0 // all there is
	}
	x.last = w.r.IntN(4) == 0
	switch n := w.r.IntN(12); {
	case n < 5 && !m.c.automatic:
	case n == 5:
		x.kind, x.amount = payment.OpIncrement, 1+w.r.Int64N(5000)
	case n == 6:
		x.kind, x.amount = payment.OpRelease, 1+w.r.Int64N(5000)
	case n == 7:
		x.kind, x.amount = payment.OpCorrection, 1+w.r.Int64N(m.c.amount+5000)
	case len(m.captures) == 0:
	case n == 8:
		x.kind, x.parent = payment.OpVoid, m.captures[w.r.IntN(len(m.captures))]
	default:
		x.kind, x.parent = payment.OpRefund, m.captures[w.r.IntN(len(m.captures))]
	}
	m.moves = append(m.moves, x)
	x.ask()
	if w.r.IntN(6) == 0 {
		w.after(w.between(0, 5*time.Millisecond), evClient, x.ask)
	}
}

// ask sends the request to some node and waits for what comes back.
func (x *move) ask() {
	w := x.m.c.w
	if x.over {
		return
	}
	x.tries++
	n := w.someNode()
	if n == nil {
		x.again("no node serves")
		return
	}
	answered, sent := false, w.events
	w.spawn(n, func(*task) {
		out, err := x.request(n)
		w.check.toldMove(x, &out, err)
		if w.chance(w.lossy(w.plan.lostAnswers)) {
			return
		}
		w.after(w.hop(), evClient, func() {
			answered = true
			x.hear(out, err, sent)
		})
	})
	w.after(9*time.Second, evClient, func() {
		if !answered {
			x.again("no answer")
		}
	})
}

// request is one asking.
func (x *move) request(n *node) (payment.Operation, error) {
	o := payment.Operation{
		Kind: x.kind, Parent: x.parent, Merchant: x.m.c.merchant, Gateway: "gw", Key: x.key, Last: x.last && x.kind == payment.OpCapture, Reason: payment.ReversalCustomer,
		Amount: payment.Amount{Value: x.amount},
	}
	if x.parent.IsZero() && !x.credit {
		o.Payment = x.m.id
	}
	until := n.wall() + payment.Instant(7*time.Second)
	if x.credit {
		return n.sw.Credit(x.creditOf(n), &o, until)
	}
	if x.kind == payment.OpCorrection {
		return n.sw.Correct(&o, until)
	}
	return n.sw.Operate(&o, until)
}

func (x *move) again(why string) {
	x.why = why
	if w := x.m.c.w; !x.over {
		w.after(w.between(100*time.Millisecond, 2*time.Second), evClient, x.ask)
	}
}

// hear takes the answer of one asking, which began at an event. A refusal is not
// kept: one of an asking that was under way when another was taken is no answer to
// what was taken.
func (x *move) hear(out payment.Operation, err error, sent int) {
	w := x.m.c.w
	var r *payment.Refusal
	switch {
	case x.over && err != nil && sent <= x.told:
	case x.over:
		w.check.onceMove(x, &out, err)
	case err == nil:
		x.end("", out)
	case !errors.As(err, &r):
		w.check.fail("door", "client %d's %s was told %v", x.m.c.number, x.kind, err)
	case r.Kind == payment.RefusedKeyConflict:
		w.check.fail("I13", "client %d: the %s's own key conflicts", x.m.c.number, x.kind)
	case r.Kind == payment.RefusedInvalid, r.Kind == payment.RefusedMissing, r.Kind == payment.RefusedWholeRelease:
		x.end(r.Code, out)
	default:
		x.again(r.Error())
	}
}

func (x *move) end(code string, out payment.Operation) {
	w := x.m.c.w
	x.over, x.told, x.code, x.done = true, w.events, code, out
	w.tracef("client %d's %s of %d is %s %s", x.m.c.number, x.kind, x.amount, code, out.State)
	if code != "" {
		return
	}
	if x.kind == payment.OpCapture {
		x.m.captures = append(x.m.captures, out.ID)
	}
	if w.r.IntN(5) == 0 { // it asks again all the same
		w.after(w.between(0, 5*time.Second), evClient, x.repeat)
	}
}

// repeat asks again for what was answered already.
func (x *move) repeat() {
	w := x.m.c.w
	if n := w.someNode(); n != nil {
		w.spawn(n, func(*task) {
			out, err := x.request(n)
			w.check.toldMove(x, &out, err)
			w.check.onceMove(x, &out, err)
		})
	}
}

// duties are what the leader does for all: it gives back what nobody captured in
// time, ends the sessions of nodes that it does not hear, starts the lines of
// batches, ends the links' days, writes clearing files and sends uploads.
func (n *node) duties() {
	now := n.clock.Stamp(n.wall(), n.steady())
	if due, err := journal.ReadDue(n.disk, now, 16); err == nil && len(due) > 0 {
		n.spare(journal.KindExpire, journal.AppendExpire(nil, due))
	}
	for i, other := range n.w.nodes {
		if (!other.up || n.w.cut[n.index][i]) && n.m.Alive(other.session) && n.w.r.IntN(3) == 0 { // its lease may be over
			n.spare(journal.KindEndSession, journal.AppendEndSession(nil, other.session))
		}
	}
	n.file()
	if !n.running && len(n.m.Batches()) > 0 {
		n.running = true
		n.w.spawn(n, func(*task) {
			n.runner.Round(simulated)
			n.running = false
		})
	}
}
