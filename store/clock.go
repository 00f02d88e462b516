package store

import (
	"sync"
	"time"

	"authswitch/payment"
)

// clock stamps entries. It is the node's wall clock, but goes on at the pace of
// the monotonic one while the wall clock is set back: the journal's time never
// goes back, and one that stood still for an hour would hold every repeat of a
// reversal for an hour. A wall clock that comes back is followed again.
type clock struct {
	wall func() payment.Instant

	mu    sync.Mutex
	ahead payment.Instant // of the wall clock, since it was set back
	last  payment.Instant
	at    time.Time // of last
}

// setBack is more than a wall clock is slewed between two stamps.
const setBack = payment.Instant(time.Second)

// start goes on from the journal's newest entry, when the wall clock was set
// back while the node was down.
func (c *clock) start(newest payment.Instant) { c.ahead = max(0, newest-c.wall()) }

func (c *clock) now() payment.Instant {
	wall, at := c.wall(), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != 0 {
		expected := c.last + payment.Instant(at.Sub(c.at))
		switch stamp := wall + c.ahead; {
		case stamp < expected-setBack:
			c.ahead = expected - wall
		case stamp > expected+setBack && c.ahead > 0:
			c.ahead = max(0, expected-wall)
		}
	}
	c.last, c.at = wall+c.ahead, at
	return c.last
}
