package journal

import (
	"testing"
	"time"

	"authswitch/payment"
)

// TestClock walks a clock through what is done to wall clocks. Each step says
// how much time passes, where the wall clock then is against the true time, and
// how far ahead of it the stamp must be.
func TestClock(t *testing.T) {
	type step struct {
		passes     time.Duration
		wall, want time.Duration
	}
	for name, steps := range map[string][]step{
		"right":              {{time.Second, 0, 0}, {time.Minute, 0, 0}},
		"slewed":             {{time.Second, 900 * time.Millisecond, 900 * time.Millisecond}},
		"set back and right": {{0, 0, 0}, {time.Second, -time.Hour, 0}, {time.Minute, -time.Hour, 0}, {time.Second, 0, 0}},
		"forward a step":     {{0, 0, 0}, {time.Second, time.Hour, time.Hour}, {time.Second, 0, time.Hour}},
		"forward a little": {
			{0, 0, 0},
			{64 * time.Second, 30 * time.Second, time.Second},
			{640 * time.Second, 30 * time.Second, 11 * time.Second},
			{time.Hour, 30 * time.Second, 30 * time.Second},
		},
		"forward a little and right": {{0, 0, 0}, {64 * time.Second, 30 * time.Second, time.Second}, {2 * time.Second, 0, 0}},
	} {
		var c Clock
		const start = payment.Instant(20_000 * nanosecondsPerDay)
		var now time.Duration
		for i, s := range steps {
			now += s.passes
			got := time.Duration(c.Stamp(start+payment.Instant(now+s.wall), now)-start) - now
			if got != s.want {
				t.Errorf("%s, step %d: %s ahead, want %s", name, i, got, s.want)
			}
		}
	}
}

// TestClockGoesOn takes over from a newest entry.
func TestClockGoesOn(t *testing.T) {
	const newest = payment.Instant(20_000 * nanosecondsPerDay)
	for name, x := range map[string]struct{ ahead, want time.Duration }{
		"a right clock":             {0, time.Second},
		"one that is behind":        {-time.Hour, time.Second},
		"one that is a little fast": {20 * time.Second, 21 * time.Second},
		"after a long rest":         {time.Hour, time.Hour + time.Second},
	} {
		var c Clock
		c.Start(newest, time.Minute)
		if got := time.Duration(c.Stamp(newest+payment.Instant(x.ahead+time.Second), time.Minute+time.Second) - newest); got != x.want {
			t.Errorf("%s: %s after the newest entry, want %s", name, got, x.want)
		}
	}
}
