package journal

import (
	"time"

	"authswitch/payment"
)

// Clock is the time that entries are stamped with: a node's wall clock, kept
// from what the journal's time must not do. It reads no clock itself: both come
// with each call.
//
// A wall clock that is set back is not followed: the journal's time never goes
// back, and one that stood still for an hour would hold every repeat of a
// reversal for an hour; it goes on at the pace of the steady clock until the
// wall clock has come back. One that is set forward by less than the journal
// notices as a step is approached a 64th faster than time passes: followed at
// once, it would end the life of an original that is still on its way.
type Clock struct {
	last  payment.Instant
	at    time.Duration // of last, on the steady clock
	fresh bool          // last is somebody else's, and nobody knows how long ago
}

const (
	// slewed is more than a wall clock moves by itself between two stamps.
	slewed = payment.Instant(time.Second)
	// approach is the part of the time that passed by which a wall clock is
	// approached.
	approach = 64
)

// Start goes on from the journal's newest entry, 0 where there is none: this
// node was down, or another one stamped before. A wall clock that is ahead of it
// is followed at once: time has passed.
func (c *Clock) Start(newest payment.Instant, steady time.Duration) {
	*c = Clock{last: newest, at: steady, fresh: true}
}

// Expected is what the time would be by the steady clock alone; 0 where there is
// no entry yet.
func (c *Clock) Expected(steady time.Duration) payment.Instant {
	if c.last == 0 {
		return 0
	}
	return c.last + payment.Instant(steady-c.at)
}

// LongestStep is the step between two entries that the journal notes: what
// steps further may be a clock that was set.
const LongestStep = longestStep

// Stamp is the time of an entry at a moment of both clocks.
func (c *Clock) Stamp(wall payment.Instant, steady time.Duration) payment.Instant {
	stamp := wall
	if c.last != 0 {
		passed := payment.Instant(steady - c.at)
		switch expected := c.last + passed; {
		case wall < expected-slewed:
			stamp = expected
		case wall > expected+slewed && wall <= expected+longestStep && !c.fresh:
			stamp = min(wall, expected+passed/approach)
		}
	}
	*c = Clock{last: stamp, at: steady}
	return stamp
}
