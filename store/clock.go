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

// start goes on from the journal's newest entry, when the wall clock was set
// back while the node was down.
func (c *clock) start(newest payment.Instant) { c.stamps.Start(newest, c.wall()) }

func (c *clock) now() payment.Instant {
	wall, at := c.wall(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started.IsZero() {
		c.started = at
	}
	return c.stamps.Stamp(wall, at.Sub(c.started))
}
