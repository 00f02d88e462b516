package store

import (
	"sync"
	"sync/atomic"
	"time"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// clock stamps entries by journal.Clock, for any goroutine.
type clock struct {
	wall func() payment.Instant
	// correction is added to a wall clock that the other members say is wrong,
	// in nanoseconds.
	correction atomic.Int64
	// guarded: there are others to ask, so a wall clock that jumps is not
	// followed before they were.
	guarded bool
	// agreed: a majority's clocks say what this one does. Until it is known a
	// wall clock that is far ahead of the journal's time is not followed: nobody
	// can say whether the cluster was down for an hour or this clock is wrong.
	agreed atomic.Bool

	mu      sync.Mutex
	stamps  journal.Clock
	started time.Time // of the steady clock
	begun   time.Time // of this term, or of this process
	last    payment.Instant
	lastAt  time.Time // of last
}

// start goes on from the journal's newest entry.
func (c *clock) start(newest payment.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = time.Now()
	c.stamps.Start(newest, c.steady(c.begun))
	c.agreed.Store(false)
}

func (c *clock) now() payment.Instant {
	wall, at := c.wall(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.guarded && c.last != 0 {
		if jump := wall - c.last - payment.Instant(at.Sub(c.lastAt)); time.Duration(jump).Abs() > session.Wrong {
			c.correction.Add(-int64(jump))
		}
	}
	c.last, c.lastAt = wall, at
	wall += payment.Instant(c.correction.Load())
	steady := c.steady(at)
	if expected := c.stamps.Expected(steady); c.guarded && !c.agreed.Load() && expected != 0 && wall > expected+journal.LongestStep {
		wall = expected
	}
	return c.stamps.Stamp(wall, steady)
}

// askFor is how long a new leader waits for the others' clocks before it orders
// anything by a time that its own clock says is long over.
const askFor = 3 * time.Second

// undecided says that the wall clock is far ahead of the journal's time, and
// that the others may still say within askFor whether it is right. What was
// stamped meanwhile would be of another day than what comes a second later, and
// a key's repeat might not find it.
func (c *clock) undecided() bool {
	if !c.guarded || c.agreed.Load() {
		return false
	}
	wall, at := c.wall(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	expected := c.stamps.Expected(c.steady(at))
	return expected != 0 && at.Sub(c.begun) < askFor && wall+payment.Instant(c.correction.Load()) > expected+journal.LongestStep
}

// steady is the time since the clock was first asked. Under mu.
func (c *clock) steady(at time.Time) time.Duration {
	if c.started.IsZero() {
		c.started = at
	}
	return at.Sub(c.started)
}

// correct sets how far off the wall clock is. Small changes of a large error
// are not followed: they are the network's.
func (c *clock) correct(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := time.Duration(c.correction.Load())
	if by == 0 || was == 0 || (by-was).Abs() > session.Wrong/2 {
		c.correction.Store(int64(by))
	}
}
