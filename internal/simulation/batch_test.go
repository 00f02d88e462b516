package simulation_test

import (
	"context"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// simulated is a context that nobody cancels: what waits here ends with its
// node.
var simulated = context.Background()

// file is one refund batch: written down, sealed and released by commands that
// are proposed until they are answered, as batch.Taker does. The lines are
// started by the leaders' own runners.
type file struct {
	w        *world
	merchant payment.MerchantID
	id       payment.ID
	lanes    []payment.BatchLane
	lines    [][]payment.BatchLine // of each lane
	count    uint32
	released bool
}

const fileChunk = 3 // lines in one command

// refundInBatch lets a merchant refund many captures in one batch, some of them
// twice and some for more than there is.
func (w *world) refundInBatch() {
	f := &file{w: w, merchant: []payment.MerchantID{"parcels", "museum"}[w.r.IntN(2)]}
	for i := range w.hosts {
		f.lanes, f.lines = append(f.lanes, payment.BatchLane{Link: linkName(i)}), append(f.lines, nil)
	}
	for _, m := range w.movers {
		if m.c.merchant != f.merchant {
			continue
		}
		for _, id := range m.captures {
			for range 1 + w.r.IntN(2) {
				f.add(id)
			}
		}
	}
	if f.count == 0 {
		return
	}
	w.files = append(w.files, f)
	w.batchBy(f)
}

func (f *file) add(capture payment.ID) {
	o, err := journal.ReadOperation(f.w.check.disk, capture)
	if err != nil || f.count >= 24 || f.w.plan.styles[f.w.check.linkIndex(o.Link)] == styleCollected {
		return
	}
	f.count++
	lane := f.w.check.linkIndex(o.Link)
	f.lines[lane] = append(f.lines[lane], payment.BatchLine{
		Number: f.count, Capture: capture, Amount: payment.Amount{Value: 1 + f.w.r.Int64N(o.Amount.Value), Currency: 978}, Text: []byte("cancelled"),
	})
}

// batchBy takes a file to its release from some node; another goes on where that
// one dies.
func (w *world) batchBy(f *file) {
	if n := w.someNode(); n != nil && !f.released {
		w.spawn(n, func(t *task) {
			if f.id.IsZero() {
				f.id = n.minter.Mint()
			}
			f.released = f.released || f.deliver(t, n)
		})
	}
	w.after(6*time.Second, evClient, func() {
		if !f.released {
			w.batchBy(f)
		}
	})
}

// deliver proposes all of a file; each command does the same once however often
// it is proposed.
func (f *file) deliver(t *task, n *node) bool {
	b := &payment.Batch{
		ID: f.id, Merchant: f.merchant, Gateway: "gw", Key: []byte("file"), Fingerprint: [32]byte{1}, Lines: f.count, Needs: 1,
		Totals: []payment.Amount{{Value: 1, Currency: 978}},
	}
	for i := range f.lines {
		if len(f.lines[i]) > 0 {
			b.Lanes = append(b.Lanes, f.lanes[i])
		}
	}
	steps := []func() (payment.BatchAnswer, error){
		func() (payment.BatchAnswer, error) {
			return deps{n}.batch(journal.KindBatchBegin, journal.AppendBatchBegin(nil, b))
		},
	}
	seq, lane := uint32(0), uint8(0)
	for i := range f.lines {
		for rest := f.lines[i]; len(rest) > 0; seq++ {
			s, l, lines := seq, lane, rest[:min(len(rest), fileChunk)]
			rest = rest[len(lines):]
			steps = append(steps, func() (payment.BatchAnswer, error) {
				return deps{n}.batch(journal.KindBatchLines, journal.AppendBatchLines(nil, f.id, s, l, lines))
			})
		}
		if len(f.lines[i]) > 0 {
			lane++
		}
	}
	steps = append(steps, func() (payment.BatchAnswer, error) {
		return deps{n}.batch(journal.KindBatchSeal, journal.AppendBatchSeal(nil, f.id))
	}, func() (payment.BatchAnswer, error) {
		return deps{n}.batch(journal.KindBatchAct, journal.AppendBatchAct(nil, &payment.BatchAct{ID: f.id, Merchant: f.merchant, Who: "gw"}))
	})
	for _, step := range steps {
		if _, err := step(); err != nil {
			return false // from the beginning, which is safe
		}
	}
	return true
}

// pendingFile says why a batch is not over; "" when it is, or never began.
func (w *world) pendingFile() string {
	for _, f := range w.files {
		b, err := journal.ReadBatch(w.check.disk, f.id)
		if err != nil || b.State != payment.BatchDone {
			return fmt.Sprintf("batch %s is %s: %d of %d lines over, %v", f.id, b.State, b.Over(), b.Lines, err)
		}
	}
	return ""
}

// finalFiles: I15, each line of a batch had its turn once: a refund, or a refusal.
func (c *checks) finalFiles() {
	for _, f := range c.w.files {
		b, err := journal.ReadBatch(c.disk, f.id)
		if err != nil || b.Started != b.Lines || b.Over() != b.Lines || b.Lines != f.count {
			c.fail("I15", "a batch of %d lines ends with %d started and %d over, %v", f.count, b.Started, b.Over(), err)
			continue
		}
		refused := uint32(0)
		for n := uint32(1); n <= f.count; n++ {
			op, why, err := journal.ReadLine(c.disk, f.id, n)
			if err != nil || op.ID.IsZero() == (why.Why == payment.NotRefused) {
				c.fail("I15", "line %d of a batch is the refund %s and is refused by %s, %v", n, op.ID, why.Why, err)
			}
			if op.ID.IsZero() {
				refused++
			}
		}
		if refused != b.Refused {
			c.fail("I15", "%d lines of a batch are refused; it counts %d", refused, b.Refused)
		}
	}
}
