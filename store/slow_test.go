package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"authswitch/payment"
)

// TestQuicker: a slow leader has a successor only where a member is known to be
// much quicker, lately, in its term, and not soon after the last try.
func TestQuicker(t *testing.T) {
	const ms = time.Millisecond
	now := time.Now()
	slow, quick := []time.Duration{200 * ms, 210 * ms, 190 * ms}, []time.Duration{3 * ms, 90 * ms, 2 * ms}
	for _, c := range []struct {
		name        string
		n1, n2, n3  []time.Duration
		term        uint64
		after, tryd time.Duration // since the writes; until the pause began, 0: none
		writing     time.Duration // for how long n1 has been writing since; 0: it is not
		want        []payment.NodeID
	}{
		{"a slow leader", slow, quick, quick, 7, ms, 0, 0, []payment.NodeID{"n2", "n3"}},
		{"one of the others is slow, too", slow, slow, quick, 7, ms, 0, 0, []payment.NodeID{"n3"}},
		{"all are slow", slow, slow, slow, 7, ms, 0, 0, nil},
		{"the others are a little quicker", slow, []time.Duration{120 * ms, 110 * ms, 120 * ms}, slow, 7, ms, 0, 0, nil},
		{"a quick leader", quick, quick, quick, 7, ms, 0, 0, nil},
		{"two slow writes", slow[:2], quick, quick, 7, ms, 0, 0, nil},
		{"two slow writes, and one under way", slow[:2], quick, quick, 7, ms, 0, 190 * ms, []payment.NodeID{"n2", "n3"}},
		{"two slow writes, and one that has begun", slow[:2], quick, quick, 7, ms, 0, 140 * ms, nil},
		{"one slow write, and one under way", slow[:1], quick, quick, 7, ms, 0, 160 * ms, nil},
		{"two slow writes and one under way, and who is a little quicker", slow[:2], []time.Duration{90 * ms, 90 * ms, 90 * ms}, slow, 7, ms, 0, 160 * ms, nil},
		{"one quick write between", []time.Duration{200 * ms, 200 * ms, 2 * ms, 200 * ms, 200 * ms}, quick, quick, 7, ms, 0, 0, nil},
		{"nothing is known of the others", slow, nil, quick[:2], 7, ms, 0, 0, nil},
		{"another term", slow, quick, quick, 8, ms, 0, 0, nil},
		{"long ago", slow, quick, quick, 7, paceFor + ms, 0, 0, nil},
		{"just tried", slow, quick, quick, 7, ms, handOverPause - ms, 0, nil},
		{"tried a while ago", slow, quick, quick, 7, ms, handOverPause + ms, 0, []payment.NodeID{"n2", "n3"}},
	} {
		var p paces
		p.took("n1", 6, time.Second, now) // as a follower, of an earlier term
		for node, all := range map[payment.NodeID][]time.Duration{"n1": c.n1, "n2": c.n2, "n3": c.n3} {
			for _, d := range all {
				p.took(node, 7, d, now)
			}
		}
		p.took("n1", 6, time.Millisecond, now) // late
		if c.writing != 0 {
			p.begin(now.Add(c.after - c.writing))
		}
		if c.tryd != 0 {
			p.pause(now.Add(c.after - c.tryd))
		}
		if got := p.quicker("n1", c.term, now.Add(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSlowLeader: the others' payments do not stay as slow as the leader's disk.
func TestSlowLeader(t *testing.T) {
	c := startTrio(t)
	slow := c.leader()
	c.approve(slow, 1, 5)
	c.bad[slow].set(func(op errorfs.Op) error {
		if isSync(op) && strings.HasPrefix(op.Path, "node/log") {
			time.Sleep(200 * time.Millisecond)
		}
		return nil
	})
	began := time.Now()
	number := 100
	eventually(t, "another leads", func() bool {
		c.approve((slow+1)%3, number, 1)
		number++
		return c.leader() != slow
	})
	t.Logf("another led after %s", time.Since(began).Round(time.Millisecond))
	if c.stores[slow].failed.Load() {
		t.Error("it stopped")
	}
	c.approve(slow, 10_000, 1) // it goes on as a follower
	c.bad[slow].set(func(errorfs.Op) error { return nil })
}
