package simulation_test

import (
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// scheduleFaults spreads what the plan allows over the active part of the run.
func (w *world) scheduleFaults() {
	often := func(n int, do func()) {
		for range n {
			w.after(w.between(200*time.Millisecond, w.plan.active), evFault, func() {
				if !w.healed {
					do()
				}
			})
		}
	}
	often(w.plan.crashes, func() {
		n := w.nodes[w.r.IntN(len(w.nodes))]
		n.crash()
		w.after(w.between(50*time.Millisecond, 4*time.Second), evFault, func() { w.revive(n) })
	})
	often(w.plan.powerCuts, func() {
		for _, n := range w.nodes {
			n.crash()
		}
		d := w.between(100*time.Millisecond, 3*time.Second)
		for _, n := range w.nodes {
			w.after(d+w.between(0, time.Second), evFault, func() { w.revive(n) })
		}
	})
	often(w.plan.partitions, w.partition)
	often(w.plan.linkCuts, func() {
		h := w.hosts[w.r.IntN(len(w.hosts))]
		d := w.between(50*time.Millisecond, 5*time.Second)
		switch i := w.r.IntN(len(w.nodes)); w.r.IntN(3) {
		case 0: // a black hole between one node and the acquirer
			h.cut[i] = true
			w.after(d, evFault, func() { h.cut[i] = false })
		case 1: // its line is reset
			x := w.nodes[i].wires
			if w.nodes[i].up && len(x) > h.index {
				x[h.index].lost(x[h.index].socket, w.r.IntN(2) == 0)
			}
		case 2: // the acquirer is gone for all
			h.down = true
			for _, n := range w.nodes {
				if n.up {
					n.wires[h.index].lost(n.wires[h.index].socket, false)
				}
			}
			w.after(d, evFault, func() { h.down = false })
		}
	})
	often(w.plan.cutOvers, func() {
		i := w.r.IntN(len(w.hosts))
		if n := w.someNode(); n != nil {
			open, _, err := journal.ReadOpenClearing(n.disk, payment.MeansFile, linkName(i))
			if err != nil {
				w.check.fail("N", "%s cannot read the open batch: %v", n.id, err)
			}
			w.tracef("%s cuts over", linkName(i))
			n.spare(journal.KindCutOver, journal.AppendCutOver(nil, &payment.DayEnd{Link: linkName(i), Number: open.Number, By: "acquirer"}))
		}
	})
	often(w.plan.clockJumps, func() {
		// Any number of clocks may step far, which the journal notices. Otherwise one
		// node of several is a little wrong: where no majority is right, or a node
		// that is alone was down meanwhile, nobody knows the time, and a step of less
		// than a minute is taken for time that passed.
		n, steps := w.nodes[w.r.IntN(len(w.nodes))], []payment.Instant{-3600e9, 3600e9, 7200e9, -86400e9}
		if w.seed%2 == 0 && len(w.nodes) > 1 {
			n, steps = w.nodes[len(w.nodes)-1], []payment.Instant{30e9, -5e9, 90e9, 50e9}
		}
		n.skew += steps[w.r.IntN(len(steps))]
		w.tracef("%s: the clock is %d s off", n.id, n.skew/1e9)
	})
}

func (w *world) revive(n *node) {
	if !n.up {
		n.boot()
	}
}

// partition cuts one node off, in both directions or in one, for a while.
func (w *world) partition() {
	if len(w.nodes) < 2 {
		return
	}
	i, direction := w.r.IntN(len(w.nodes)), w.r.IntN(3)
	set := func(cut bool) {
		for j := range w.nodes {
			if j == i {
				continue
			}
			if direction != 1 {
				w.cut[i][j] = cut
			}
			if direction != 0 {
				w.cut[j][i] = cut
			}
		}
	}
	w.tracef("%s is cut off (%d)", w.nodes[i].id, direction)
	set(true)
	w.after(w.between(100*time.Millisecond, 4*time.Second), evFault, func() { set(false) })
}

// heal ends every fault. Clocks stay as wrong as they are; what is on its way
// arrives.
func (w *world) heal() {
	w.healed = true
	w.tracef("healed")
	w.cut = [maxNodes][maxNodes]bool{}
	for _, h := range w.hosts {
		h.down, h.cut = false, [maxNodes]bool{}
	}
	for _, n := range w.nodes {
		w.revive(n)
	}
	w.order.elect(w.between(0, 300*time.Millisecond))
}
