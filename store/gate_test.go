package store

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// TestStampedWhenItLeaves: an entry of another member's batch has the time at which
// it left the gate, not the one at which it came there. A leader whose clock is
// found wrong in between would else propose what the wrong one said.
func TestStampedWhenItLeaves(t *testing.T) {
	s := start(t, vfs.NewCrashableMem(), testConfig("node"))
	defer stop(t, s)
	w := s.batch.waiter(journal.KindLease)
	w.body = journal.AppendLease(w.body, s.Session(), "visa-a")
	p := s.proposalOf(appendProposal(nil, []*waiter{w}))
	time.Sleep(20 * time.Millisecond) // at the gate
	left := s.clock.now()
	must(t, p.propose().Error())
	var at payment.Instant
	s.replica.withMachine(func(m *journal.Machine) { at = m.Now() })
	if at < left {
		t.Errorf("stamped %s before it left", time.Duration(left-at))
	}
}

// TestGate: while little passes nobody waits; behind a group the next ones gather
// and leave together, whether this member's own batcher is among them or not.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(time.Millisecond)
		start := time.Now()
		var mu sync.Mutex
		var left []time.Duration // of the others' proposals
		forget := func() {
			mu.Lock()
			defer mu.Unlock()
			left = nil
		}
		other := func(commands int) {
			g.order(&proposal{commands: commands, left: make(chan struct{}), propose: func() raft.ApplyFuture {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, time.Since(start))
				return nil
			}})
		}
		expect := func(what string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(left, want) {
				t.Fatalf("%s: left at %v, not at %v", what, left, want)
			}
		}
		const ms = time.Millisecond

		other(1)
		other(1)
		expect("lone commands pass", 0, 0)
		other(3)
		expect("and what comes behind one", 0, 0, 0)
		other(1)
		other(2)
		expect("behind three they wait", 0, 0, 0)
		time.Sleep(ms)
		other(1)
		time.Sleep(ms - time.Nanosecond)
		expect("for two paces", 0, 0, 0)
		time.Sleep(time.Nanosecond)
		expect("and leave together", 0, 0, 0, 2*ms, 2*ms, 2*ms)

		// The batcher waits for the same moment, and takes along who has gathered.
		forget()
		other(1)
		if wait := g.arrive(); wait != 3*ms {
			t.Fatalf("the batcher waits %s behind a group of four", wait)
		}
		other(1)
		time.Sleep(4 * ms) // it is late
		expect("they wait for the batcher")
		proposeAll(g.leave(9))
		expect("which takes them along", 6*ms, 6*ms)
		if wait := g.arrive(); wait != paceLongest {
			t.Fatalf("the batcher waits %s behind a group of eleven", wait)
		}

		// It found nothing to send: who has gathered leaves all the same.
		forget()
		other(1)
		proposeAll(g.leave(0))
		expect("without it", 6*ms)
		time.Sleep(paceLongest)
		if wait := g.arrive(); wait > 0 {
			t.Fatalf("the batcher waits %s behind a lone command", wait)
		}
	})
}
