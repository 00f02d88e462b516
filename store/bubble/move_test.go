package bubble_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"authswitch/payment"
)

// move is one movement that a gateway orders on an approved payment: it asks any
// node, again and again under one key, until it has a final answer.
type move struct {
	of     *sale
	kind   payment.OperationKind // NoOperation: the payment is cancelled
	key    []byte
	amount int64
	parent payment.ID // the capture that is refunded or undone
	last   bool

	called, answered time.Duration // since the world began
	told             payment.Operation
	cancelled        payment.Cancelled
	refused          string // the refusal's code; "": it stands
	final            bool
	err              error
}

func (m *move) String() string {
	what := m.kind.String()
	if m.kind == payment.NoOperation {
		what = "cancel"
	}
	return fmt.Sprintf("%s %d of %s under %s", what, m.amount, m.of.told.Intent.ID, m.key)
}

// mostMoves bounds what happens to one payment, so that its history can be
// checked in no time.
const mostMoves = 14

// work lets gateways capture, increment, release, void, correct, refund and
// cancel what was approved, several of them on the same few payments through
// whichever node.
func (w *world) work(active time.Duration, gateways int) *sync.WaitGroup {
	var group sync.WaitGroup
	until := time.Now().Add(active)
	for g := range gateways {
		r := rand.New(rand.NewPCG(w.seed, uint64(200+g)))
		group.Go(func() {
			for n := 0; time.Now().Before(until); n++ {
				time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
				if m := w.nextMove(fmt.Appendf(nil, "move-%d-%d", g, n), r); m != nil {
					m.run(w, r)
				}
			}
		})
	}
	return &group
}

// nextMove draws a movement on one of the newest approved payments.
func (w *world) nextMove(key []byte, r *rand.Rand) *move {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.approved) == 0 {
		return nil
	}
	newest := w.approved[max(0, len(w.approved)-4):]
	s := newest[r.IntN(len(newest))]
	if len(s.moves) >= mostMoves {
		return nil
	}
	m := &move{of: s, key: key, amount: 100 * (1 + r.Int64N(500))}
	var capture payment.ID
	if len(s.captures) > 0 {
		capture = s.captures[r.IntN(len(s.captures))]
	}
	switch n := r.IntN(20); {
	case n < 6 || capture.IsZero() && n < 12:
		m.kind, m.last = payment.OpCapture, r.IntN(8) == 0
	case n < 9:
		m.kind, m.parent = payment.OpRefund, capture
	case n < 11:
		m.kind, m.parent, m.amount = payment.OpVoid, capture, 0
	case n < 13:
		m.kind = payment.OpIncrement
	case n < 15:
		m.kind, m.amount = payment.OpRelease, 100*(1+r.Int64N(200))
	case n < 19:
		m.kind, m.amount = payment.OpCorrection, 100*r.Int64N(1500)
	default:
		m.kind, m.amount = payment.NoOperation, 0
	}
	if (m.kind == payment.OpRefund || m.kind == payment.OpIncrement) && r.IntN(3) == 0 {
		m.amount += misdeeds[r.IntN(len(misdeeds))]
	}
	s.moves = append(s.moves, m)
	return m
}

func (m *move) run(w *world, r *rand.Rand) {
	m.called = time.Since(w.began)
	for range mostAsks {
		if l := w.members[r.IntN(len(w.members))].now(); l != nil && m.ask(w, l) {
			m.answered, m.final = time.Since(w.began), true
			w.told(m)
			return
		}
		time.Sleep(50*time.Millisecond + time.Duration(r.Int64N(int64(500*time.Millisecond))))
	}
	w.failf("%s has no final answer: %v", m, m.err)
}

// told notes the answer, and what others may do with it.
func (w *world) told(m *move) {
	w.notef("%s: %s %s", m, m.told.State, m.refused)
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.refused == "" && m.kind == payment.OpCapture {
		m.of.captures = append(m.of.captures, m.told.ID)
	}
	name := m.kind.String()
	if m.kind == payment.NoOperation {
		name = "cancel"
	}
	if m.refused != "" {
		name = "refused: " + m.refused
	}
	w.counts[name]++
}

// ask asks one node once.
func (m *move) ask(w *world, l *life) (final bool) {
	var err error
	if m.kind == payment.NoOperation {
		m.cancelled, err = l.core.Reverse(&payment.Cancellation{
			Gateway: "gw", Merchant: "parcels", RequestKey: m.key, ID: m.of.told.Intent.ID, Reason: payment.ReversalCustomer,
		})
	} else {
		o := payment.Operation{
			Kind: m.kind, Payment: m.of.told.Intent.ID, Parent: m.parent, Merchant: "parcels", Gateway: "gw", Key: m.key, Last: m.last, Reason: payment.ReversalCustomer,
			Amount: payment.Amount{Value: m.amount, Currency: 978},
		}
		if m.kind == payment.OpVoid {
			o.Amount.Currency = 0
		}
		until := l.m.clockTime() + payment.Instant(8*time.Second)
		if m.kind == payment.OpCorrection {
			m.told, err = l.core.Correct(&o, until)
		} else {
			m.told, err = l.core.Operate(&o, until)
		}
	}
	if l.dead.Load() {
		return false // nobody heard it
	}
	m.err = err
	var refusal *payment.Refusal
	switch {
	case errors.As(err, &refusal):
		switch refusal.Kind {
		case payment.RefusedInvalid, payment.RefusedMissing, payment.RefusedWholeRelease, payment.RefusedKeyConflict:
			m.refused = refusal.Code
			return true
		}
		return false
	case err != nil:
		return false
	case m.told.Means == payment.MeansOnline || m.told.Means == payment.MeansPayment:
		return m.told.State.Over() || m.told.State == payment.OperationException
	}
	return true
}

// moves is how many movements had a final answer.
func (w *world) moves() (n int) {
	for _, s := range w.payments {
		for _, m := range s.moves {
			if m.final {
				n++
			}
		}
	}
	return n
}
