package bubble_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"authswitch/payment"
)

// The money of one payment is a register with bounds: what the gateways were told
// through three nodes must be explained by some order of single steps, each
// between the first question and the final answer, in which no step breaks an
// amount rule and every refusal is right at its moment.

// step is one of them. A movement that ends as nothing has two: it held its
// amount, and later gave it back.
type step struct {
	back   bool // an earlier step is taken back, or takes effect
	kind   payment.OperationKind
	id     payment.ID
	parent payment.ID
	amount int64
	last   bool
	charge bool   // of a correction: it charges, and does not give back
	total  int64  // that a correction asked for
	parts  []part // that a correction gives back
	refuse string
}

type part struct {
	id      payment.ID // of the refund
	capture payment.ID
	amount  int64
	own     bool // of the payment itself, not of a charge
}

// purse is the register's value. It is never changed, but copied.
type purse struct {
	authorized, captured, refunded, charged int64
	closed, cancelled                       bool
	captures                                map[payment.ID]taken
	held                                    map[payment.ID]bool
}

type taken struct {
	amount, refunded int64
	undone           bool
}

func (p purse) copied() purse {
	p.captures, p.held = maps.Clone(p.captures), maps.Clone(p.held)
	return p
}

func (p purse) equal(o purse) bool {
	return p.authorized == o.authorized && p.captured == o.captured && p.refunded == o.refunded && p.charged == o.charged && p.closed == o.closed &&
		p.cancelled == o.cancelled && maps.Equal(p.captures, o.captures) && maps.Equal(p.held, o.held)
}

func (p purse) net() int64 { return p.captured - p.refunded + p.charged }

// next is the register's rule.
func (p purse) next(s *step) (purse, bool) {
	if s.refuse != "" {
		return p, p.refuses(s)
	}
	n := p.copied()
	if s.back {
		if !p.held[s.id] {
			return p, false
		}
		delete(n.held, s.id)
		n.giveBack(s)
		return n, true
	}
	if p.cancelled && s.kind != payment.NoOperation {
		return p, false
	}
	n.held[s.id] = true
	return n, n.take(s)
}

// take is a movement that stands; false: the rules forbid it here.
func (p *purse) take(s *step) bool {
	left := p.authorized - p.captured
	switch s.kind {
	case payment.NoOperation:
		p.cancelled = true
		return p.captured == 0
	case payment.OpCapture:
		ok := !p.closed && s.amount > 0 && s.amount <= left
		p.captured += s.amount
		p.captures[s.id] = taken{amount: s.amount}
		if s.last {
			p.closed, p.authorized = true, p.captured
		}
		return ok
	case payment.OpIncrement: // counts when it is approved
		return !p.closed
	case payment.OpRelease:
		p.authorized -= s.amount
		return s.amount <= left && (p.captured > 0 || s.amount < left)
	case payment.OpRefund:
		return p.refund(part{s.id, s.parent, s.amount, true})
	case payment.OpVoid:
		c := p.captures[s.parent]
		ok := !c.undone && c.refunded == 0 && c.amount > 0
		c.undone = true
		p.captures[s.parent] = c
		return ok
	case payment.OpCorrection:
		if s.charge {
			ok := s.total == p.net()+s.amount
			p.charged += s.amount
			return ok
		}
		ok := s.total < p.net()
		for _, x := range s.parts {
			p.held[x.id] = true
			if !x.own {
				p.charged -= x.amount
			} else if !p.refund(x) {
				return false
			}
		}
		return ok && p.net() == s.total
	}
	return false
}

func (p *purse) refund(x part) bool {
	c := p.captures[x.capture]
	ok := !c.undone && x.amount > 0 && c.refunded+x.amount <= c.amount
	c.refunded += x.amount
	p.captures[x.capture] = c
	p.refunded += x.amount
	return ok
}

// giveBack is what a movement that came to nothing held, or what one that was
// only asked for brings.
func (p *purse) giveBack(s *step) {
	switch s.kind {
	case payment.OpCapture:
		p.captured -= s.amount
		switch {
		case s.last: // it was not the last: another may follow
			p.closed = false
		case p.closed: // nobody can capture it any more
			p.authorized -= s.amount
		}
	case payment.OpIncrement, payment.OpRelease:
		p.authorized += s.amount
	case payment.OpRefund:
		c := p.captures[s.parent]
		c.refunded -= s.amount
		p.captures[s.parent] = c
		p.refunded -= s.amount
	case payment.OpCorrection:
		p.charged -= s.amount
	}
}

// refuses says whether a refusal is right.
func (p purse) refuses(s *step) bool {
	left := p.authorized - p.captured
	c := p.captures[s.parent]
	if s.kind == payment.OpRefund {
		left = c.amount - c.refunded
	}
	switch s.refuse {
	case "amount_too_large":
		return s.amount > left || s.kind == payment.OpCorrection
	case "nothing_left":
		return left <= 0
	case "captures_over":
		return p.closed
	case "capture_reversed":
		return c.undone
	case "capture_refunded":
		return c.refunded > 0
	case "not_approved":
		return p.cancelled
	case "not_captured", "captured":
		return (p.captured == 0) == (s.refuse == "not_captured")
	case "no_difference":
		return p.net() == s.total
	case "no_stored_card":
		return s.total > p.net()
	case "whole":
		return p.captured == 0 && s.amount == left
	}
	return false
}

// never is the end of a step that may happen at any time from its beginning.
const never = math.MaxInt64

// register checks one payment's movements.
func (w *world) register(s *sale) {
	if len(s.moves) == 0 || s.told == nil {
		return
	}
	var h []porcupine.Operation
	for n, m := range s.moves {
		if m.final {
			h = append(h, w.steps(n, m)...)
		}
	}
	model := porcupine.Model{
		Init: func() any {
			return purse{authorized: s.told.Outcome.Amount.Value, captures: map[payment.ID]taken{}, held: map[payment.ID]bool{}}
		},
		Step: func(state, input, _ any) (bool, any) {
			next, ok := state.(purse).next(input.(*step))
			return ok, next
		},
		Equal: func(a, b any) bool { return a.(purse).equal(b.(purse)) },
	}
	if porcupine.CheckOperations(model, h) {
		return
	}
	var told []string
	for _, m := range s.moves {
		told = append(told, fmt.Sprintf("%.3f to %.3f %s: %s %d %s", m.called.Seconds(), m.answered.Seconds(), m, m.told.State, m.told.Amount.Value, m.refused))
	}
	w.failf("amounts: no order of what was told explains it; authorized %d\n\t%s", s.told.Outcome.Amount.Value, strings.Join(told, "\n\t"))
}

// steps are those of one movement, with what has become of it by now.
func (w *world) steps(client int, m *move) []porcupine.Operation {
	one := func(s *step, to time.Duration) porcupine.Operation {
		end := int64(to)
		if to == never {
			end = never
		}
		return porcupine.Operation{ClientId: client, Input: s, Call: int64(m.called), Return: end}
	}
	s := &step{kind: m.kind, id: m.told.ID, parent: m.parent, amount: m.amount, last: m.last, total: m.amount, refuse: m.refused}
	if m.kind == payment.NoOperation {
		s.id = payment.ID{1}
		if m.cancelled.Captured {
			s.refuse = "captured"
		}
	}
	if s.refuse != "" || m.kind == payment.NoOperation {
		return []porcupine.Operation{one(s, m.answered)}
	}
	now, err := w.operation(m.told.ID)
	if err != nil {
		w.failf("amounts: %s was told to stand, and is gone: %v", m, err)
		return nil
	}
	s.amount = now.Amount.Value
	back := *s
	back.back = true
	h := []porcupine.Operation{one(s, m.answered)}
	switch m.kind {
	case payment.OpIncrement:
		if now.State == payment.OperationDone {
			h = append(h, one(&back, m.answered))
		}
	case payment.OpVoid:
		// The amount comes back with the capture's own end, below.
	case payment.OpCorrection:
		if s.charge = now.Means == payment.MeansPayment; s.charge {
			back.charge = true
			if !now.State.Holds() {
				h = append(h, one(&back, never))
			}
			break
		}
		h = append(h, w.partsOf(s, &now, one)...)
	default:
		if !now.State.Holds() {
			to := m.answered
			if !m.told.State.Over() || now.State != m.told.State { // also one that was done, and undone later
				to = never
			}
			h = append(h, one(&back, to))
		}
	}
	return h
}

// partsOf adds the refunds that a correction made, and what came back of them.
func (w *world) partsOf(s *step, now *payment.Operation, one func(*step, time.Duration) porcupine.Operation) (h []porcupine.Operation) {
	for n := range now.Attempt {
		o, err := w.operation(payment.CorrectionRefund(now.ID, n))
		if err != nil {
			w.failf("amounts: refund %d of correction %s is gone: %v", n, now.ID, err)
			continue
		}
		own := o.Payment == now.Payment
		s.parts = append(s.parts, part{o.ID, o.Parent, o.Amount.Value, own})
		if o.State.Holds() {
			continue
		}
		back := &step{back: true, kind: payment.OpRefund, id: o.ID, parent: o.Parent, amount: o.Amount.Value}
		if !own {
			back.kind, back.amount = payment.OpCorrection, -o.Amount.Value
		}
		h = append(h, one(back, never))
	}
	return h
}

// operation reads one as it stands on the first member.
func (w *world) operation(id payment.ID) (payment.Operation, error) {
	l := w.members[0].now()
	if l == nil {
		return payment.Operation{}, payment.ErrUnavailable
	}
	return l.store.Operation(id)
}

// watch looks at the accounts now and then while everything happens.
func (w *world) watch(active time.Duration) {
	until := time.Now().Add(active)
	w.ending.Go(func() {
		for time.Now().Before(until) {
			time.Sleep(700 * time.Millisecond)
			w.accounts()
		}
	})
}

// accounts reads every payment that moved on every member: the amount rules hold
// there, what is in doubt counted.
func (w *world) accounts() {
	w.mu.Lock()
	moved := slices.Clone(w.approved[max(0, len(w.approved)-6):])
	w.mu.Unlock()
	for _, s := range moved {
		for _, m := range w.members {
			if l := m.now(); l != nil {
				w.account(m, l, s)
			}
		}
	}
}

func (w *world) account(m *member, l *life, s *sale) {
	p, err := l.store.Payment(s.told.Intent.ID)
	if err != nil || p.State != payment.StateApproved {
		return
	}
	a := p.Account
	if a.Captured < 0 || a.Released < 0 || a.Refunded < 0 || a.Capturable() < 0 || a.Refunded > a.Captured {
		w.failf("amounts: %s has %+v for %s", m.id, a, p.Intent.ID)
	}
}
