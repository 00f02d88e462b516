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

	mu      sync.Mutex
	stamps  journal.Clock
	started time.Time // of the steady clock
	last    payment.Instant
	lastAt  time.Time // of last
}

// start goes on from the journal's newest entry.
func (c *clock) start(newest payment.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamps.Start(newest, c.steady(time.Now()))
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
	return c.stamps.Stamp(wall, c.steady(at))
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
