package journal

import (
	"time"

	"authswitch/payment"
)

// Clock is the time that entries are stamped with. It is a node's wall clock,
// but goes on at the pace of the steady one while the wall clock is set back:
// the journal's time never goes back, and one that stood still for an hour would
// hold every repeat of a reversal for an hour. A wall clock that comes back is
// followed again. It reads no clock itself: both come with each call.
type Clock struct {
	ahead payment.Instant // of the wall clock, since it was set back
	last  payment.Instant
	at    time.Duration // of last, on the steady clock
}

// setBack is more than a wall clock is slewed between two stamps.
const setBack = payment.Instant(time.Second)

// Start goes on from the journal's newest entry, when the wall clock was set
// back while the node was down.
func (c *Clock) Start(newest, wall payment.Instant) { c.ahead = max(0, newest-wall) }

// Stamp is the time of an entry at a moment of both clocks.
func (c *Clock) Stamp(wall payment.Instant, steady time.Duration) payment.Instant {
	if c.last != 0 {
		expected := c.last + payment.Instant(steady-c.at)
		switch stamp := wall + c.ahead; {
		case stamp < expected-setBack:
			c.ahead = expected - wall
		case stamp > expected+setBack && c.ahead > 0:
			c.ahead = max(0, expected-wall)
		}
	}
	c.last, c.at = wall+c.ahead, steady
	return c.last
}
