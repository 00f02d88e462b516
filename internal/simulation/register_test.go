package simulation_test

import (
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"

	"authswitch/payment"
)

// What a payment has left to capture, and a capture to refund, are registers with
// a bounded add: whatever node a gateway asks, its requests have an order in which
// each was taken if so much was left, and refused if it was not.

// change is what the journal did to a register: more is left, or less.
type change struct {
	at       int // events before it
	op       payment.ID
	register payment.ID
	more     int64
}

// note keeps a change. A release and a capture take from the payment, a refund
// from its capture.
func (c *checks) note(o *payment.Operation, is bool, sign int64) {
	if !is {
		return
	}
	switch o.Kind {
	case payment.OpCapture, payment.OpRelease, payment.OpIncrement:
		c.changes = append(c.changes, change{c.w.events, o.ID, o.Payment, sign * o.Amount.Value})
	case payment.OpRefund:
		if o.Parent.IsZero() {
			return // of no capture
		}
		c.changes = append(c.changes, change{c.w.events, o.ID, refundsOf(o.Parent), sign * o.Amount.Value})
	}
}

// refundsOf names a capture's register: an automatic capture has its payment's id.
func refundsOf(capture payment.ID) payment.ID {
	capture[0] ^= 0xFF
	return capture
}

// want is a gateway's request, or a change of the journal's own; left is what the
// register begins with.
type want struct {
	register payment.ID
	left     int64
	take     int64 // 0: all there is
	more     int64 // without a request
}

// got is its answer.
type got struct {
	code string // of a refusal
	took int64
}

func bounded() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			at := map[payment.ID]int{}
			var parts [][]porcupine.Operation
			for _, o := range history {
				id := o.Input.(want).register
				n, known := at[id]
				if !known {
					n = len(parts)
					at[id] = n
					parts = append(parts, nil)
				}
				parts[n] = append(parts[n], o)
			}
			return parts
		},
		Init: func() any { return int64(-1) },
		Step: func(state, input, output any) (bool, any) {
			left, in, out := state.(int64), input.(want), output.(got)
			if left < 0 {
				left = in.left
			}
			switch {
			case in.more != 0:
				return left+in.more >= 0, left + in.more
			case out.code == "nothing_left":
				return left == 0, left
			case out.code == "amount_too_large":
				return left > 0 && in.take > left, left
			case out.code == "whole":
				return in.take == left || in.take == 0, left
			case in.take == 0 && out.took != left:
				return false, left
			}
			return out.took <= left && (in.take == 0 || in.take == out.took), left - out.took
		},
	}
}

// history is what a run's gateways asked and were told, with what the journal did
// besides.
func (w *world) history() (h []porcupine.Operation) {
	c := w.check
	begins := func(register payment.ID) int64 {
		if o := c.ops[refundsOf(register)]; o != nil && c.decided[register].id.IsZero() {
			return o.op.Amount.Value
		}
		return c.decided[register].amount.Value
	}
	answered := map[payment.ID]bool{}
	for n, m := range w.movers {
		for _, x := range m.moves {
			register := m.id
			switch {
			case x.credit:
				continue
			case x.kind == payment.OpRefund:
				register = refundsOf(x.parent)
			case x.kind != payment.OpCapture && x.kind != payment.OpRelease:
				continue
			}
			if x.code != "" && !slices.Contains([]string{"nothing_left", "amount_too_large", "whole"}, x.code) {
				continue // another rule's
			}
			if x.code == "" {
				answered[x.done.ID] = true
			}
			h = append(h, porcupine.Operation{
				ClientId: n, Input: want{register: register, left: begins(register), take: x.amount}, Output: got{x.code, x.done.Amount.Value},
				Call: 10 * int64(x.asked), Return: 10*int64(x.told) + 9,
			})
		}
	}
	for _, x := range c.changes {
		if x.more < 0 && answered[x.op] {
			continue // the gateway's own
		}
		h = append(h, porcupine.Operation{
			ClientId: len(w.movers), Input: want{register: x.register, left: begins(x.register), more: x.more}, Output: got{}, Call: 10*int64(x.at) + 5, Return: 10*int64(x.at) + 5,
		})
	}
	return h
}

// TestRegisters: an order explains what every gateway was told.
func TestRegisters(t *testing.T) {
	asked, refused := 0, 0
	for seed := range uint64(12) {
		w := newWorld(seed, false)
		if broken := w.live(); len(broken) > 0 {
			t.Fatalf("seed %d: %s", seed, broken[0])
		}
		h := w.history()
		for _, o := range h {
			switch {
			case o.Input.(want).more != 0:
			case o.Output.(got).code != "":
				refused++
			default:
				asked++
			}
		}
		if !porcupine.CheckOperations(bounded(), h) {
			t.Errorf("seed %d: no order explains what was answered", seed)
		}
	}
	if asked < 20 || refused < 4 {
		t.Errorf("%d requests were taken and %d refused: not what this test is about", asked, refused)
	}
	t.Logf("%d taken, %d refused", asked, refused)
}

// TestRegistersRefuse: the checker itself. Each of these is about one register
// that begins with 100.
func TestRegistersRefuse(t *testing.T) {
	at := func(call, back, take int64, out got) porcupine.Operation {
		return porcupine.Operation{Input: want{left: 100, take: take}, Output: out, Call: call, Return: back}
	}
	journal := func(at, more int64) porcupine.Operation {
		return porcupine.Operation{Input: want{left: 100, more: more}, Output: got{}, Call: at, Return: at}
	}
	large, nothing := got{code: "amount_too_large"}, got{code: "nothing_left"}
	for _, row := range []struct {
		name    string
		holds   bool
		history []porcupine.Operation
	}{
		{"in parts", true, []porcupine.Operation{at(1, 2, 60, got{took: 60}), at(3, 4, 60, large), at(5, 6, 0, got{took: 40}), at(7, 8, 1, nothing)}},
		{"twice what there is", false, []porcupine.Operation{at(1, 2, 60, got{took: 60}), at(3, 4, 60, got{took: 60})}},
		{"twice, at once", false, []porcupine.Operation{at(1, 9, 60, got{took: 60}), at(1, 9, 60, got{took: 60})}},
		{"refused, and there was enough", false, []porcupine.Operation{at(1, 2, 60, large)}},
		{"refused before the other was taken", false, []porcupine.Operation{at(1, 2, 60, large), at(3, 4, 60, got{took: 60})}},
		{"refused beside it", true, []porcupine.Operation{at(1, 9, 60, large), at(3, 4, 60, got{took: 60})}},
		{"after it was given back", true, []porcupine.Operation{at(1, 2, 60, got{took: 60}), journal(3, 60), at(4, 5, 100, got{took: 100})}},
		{"before it was given back", false, []porcupine.Operation{at(1, 2, 60, got{took: 60}), at(3, 4, 100, got{took: 100}), journal(5, 60)}},
		{"all there is, and less", false, []porcupine.Operation{at(1, 2, 0, got{took: 90})}},
	} {
		if porcupine.CheckOperations(bounded(), row.history) != row.holds {
			t.Errorf("%s: judged %v", row.name, !row.holds)
		}
	}
}
