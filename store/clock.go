package store

import (
	"sync"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// clock stamps entries by journal.Clock, for any goroutine.
type clock struct {
	wall func() payment.Instant

	mu      sync.Mutex
	stamps  journal.Clock
	started time.Time // of the steady clock
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
	return c.stamps.Stamp(wall, c.steady(at))
}

// steady is the time since the clock was first asked. Under mu.
func (c *clock) steady(at time.Time) time.Duration {
	if c.started.IsZero() {
		c.started = at
	}
	return at.Sub(c.started)
}
