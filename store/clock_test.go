package store

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// TestClock sets the wall clock back and forward again.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := time.Duration(0)
		c := &clock{wall: func() payment.Instant { return payment.Instant(time.Now().Add(off).UnixNano()) }}
		before := c.now()
		check := func(name string, want time.Duration) {
			t.Helper()
			if got := time.Duration(c.now() - before); got != want {
				t.Errorf("%s: %s after the start, want %s", name, got, want)
			}
		}
		pass := func() { time.Sleep(10 * time.Second) }
		pass()
		check("as it should be", 10*time.Second)
		off = -time.Hour
		check("set back", 10*time.Second)
		pass()
		check("goes on", 20*time.Second)
		off = 0
		pass()
		check("set right again", 30*time.Second)
		if now := c.now(); now != wallClock() {
			t.Errorf("still %d ahead of a right clock", now-wallClock())
		}
		off = time.Hour
		check("set forward", time.Hour+30*time.Second)
		off = 0
		c = &clock{wall: c.wall}
		c.start(before + payment.Instant(2*time.Hour))
		check("set back while the node was down", 2*time.Hour)
		pass()
		check("goes on after that", 2*time.Hour+10*time.Second)
	})
}

// TestOutboxAfterClockSetBack: what is owed stays due, whatever the wall clock
// says.
func TestOutboxAfterClockSetBack(t *testing.T) {
	var back atomic.Int64
	wall := func() payment.Instant { return wallClock() - payment.Instant(back.Load()) }
	s, err := Start(t.Context(), testConfig("node"), Deps{Now: wall, FS: vfs.NewMem()})
	must(t, err)
	defer stop(t, s)
	i := intent(1)
	_, err = s.Open(i)
	must(t, err)
	_, err = s.Reverse(timeout(i))
	must(t, err)
	back.Store(int64(time.Hour))
	if due := s.Due("cb-a", wall(), 10, nil); len(due) != 1 {
		t.Fatalf("due: %v", due)
	}
	owed, err := s.Claim("cb-a", 1, 5, 1)
	if err != nil || owed.Tries != 1 {
		t.Fatalf("claim: %+v %v", owed, err)
	}
	if age := gather(t, collect(t, s))["reversals_oldest_age_seconds{cb-a}"]; age < 0 || age > 60 {
		t.Errorf("the oldest is %v s old", age)
	}
}

func collect(t *testing.T, s *Store) prometheus.Gatherer {
	t.Helper()
	r := prometheus.NewRegistry()
	must(t, r.Register(s.gauges()))
	return r
}
