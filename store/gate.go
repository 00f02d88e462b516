package store

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// gate is where batches leave a member. One that has few to send lets each pass
// at once; behind several commands the next ones gather for a moment (pace) and
// leave together. A write of the log costs each member's processor 100 µs and
// more however little it carries, and without a pace a fast disk is given them as
// fast as it takes them. On the leader the batches of the other members gather
// with its own, so that a moment is one write for all of them.
type gate struct {
	pace time.Duration // for each command but the first

	mu      sync.Mutex
	left    time.Time   // when the newest have left
	size    int         // and their commands
	own     bool        // this member's batcher waits for the moment, and takes along who has gathered
	waiting []*proposal // of other members
	timer   *time.Timer // of their moment, where the batcher does not wait
}

// proposal is a batch that another member sent to this one, which leads. Its
// future is there when left is closed; nil says that this member did not propose it.
type proposal struct {
	propose  func() raft.ApplyFuture
	commands int
	future   raft.ApplyFuture
	left     chan struct{}
}

func newGate(pace time.Duration) *gate {
	g := &gate{pace: pace}
	g.timer = time.AfterFunc(time.Hour, g.moment)
	g.timer.Stop()
	return g
}

// paceLongest is what a busy member may add to a commit: what waits longer than
// a flush takes anyway makes no batch cheaper any more.
const paceLongest = 8 * time.Millisecond

// wait is how long after now the next ones leave: pace for each command of the
// newest but the first. Commands that come slower than that are never held up;
// where they come faster, the wait grows with the groups that it makes, up to
// paceLongest. So a quiet node is quick and a busy one economical; without it
// groups stay small until the processor is used up by their flushes. Under mu.
func (g *gate) wait(now time.Time) time.Duration {
	return min(g.pace*time.Duration(max(g.size-1, 0)), paceLongest) - now.Sub(g.left)
}

// arrive is how long this member's batcher waits before it leaves.
func (g *gate) arrive() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := g.wait(time.Now())
	if wait > 0 {
		g.own = true
		g.timer.Stop()
	}
	return wait
}

// leave notes that so many commands of this member leave now; who has gathered
// is to leave right behind them.
func (g *gate) leave(commands int) (along []*proposal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = false
	return g.gathered(commands)
}

// gathered empties the gate. Under mu.
func (g *gate) gathered(commands int) (all []*proposal) {
	all, g.waiting = g.waiting, nil
	for _, p := range all {
		commands += p.commands
	}
	if commands > 0 {
		g.left, g.size = time.Now(), commands
	}
	return all
}

// order lets another member's batch leave, now or at the next moment.
func (g *gate) order(p *proposal) {
	g.mu.Lock()
	g.waiting = append(g.waiting, p)
	var all []*proposal
	switch wait := g.wait(time.Now()); {
	case g.own:
	case wait <= 0:
		all = g.gathered(0)
	case len(g.waiting) == 1:
		g.timer.Reset(wait)
	}
	g.mu.Unlock()
	proposeAll(all)
}

// moment comes for those that gathered without this member's batcher.
func (g *gate) moment() {
	g.mu.Lock()
	var all []*proposal
	if !g.own {
		all = g.gathered(0)
	}
	g.mu.Unlock()
	proposeAll(all)
}

func proposeAll(all []*proposal) {
	for _, p := range all {
		p.future = p.propose()
		close(p.left)
	}
}
