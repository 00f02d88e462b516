package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// copyOf is a member's disk as it is now, all of it synced.
func copyOf(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

func (c *trio) approve(at, from, count int) {
	c.t.Helper()
	for n := from; n < from+count; n++ {
		i := intent(n)
		if o, err := c.stores[at].Open(i); err != nil || o.Verdict != payment.OpenNew {
			c.t.Fatalf("open %d: %+v %v", n, o, err)
		}
		if _, err := c.stores[at].Close(approval(i)); err != nil {
			c.t.Fatalf("close %d: %v", n, err)
		}
	}
}

// stopped stops a member and forgets it.
func (c *trio) stopped(n int) {
	c.t.Helper()
	must(c.t, c.stores[n].Stop(context.Background()))
	c.stores[n] = nil
}

func (c *trio) refused(n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	failed := make(chan error, 1)
	c.expected[n] = failed
	defer func() { c.expected[n] = nil }()
	s, err := Start(ctx, c.config(n), c.deps(n))
	if err == nil { // the greeting found nobody; the leader's next entry did
		select {
		case err = <-failed:
		case <-ctx.Done():
		}
		_ = s.Stop(ctx)
		c.disks[n] = copyOf(c.disks[n]) // a process that ended holds no lock
	}
	if !errors.Is(err, ErrLess) || !strings.Contains(err.Error(), "authswitch cluster rebuild") {
		c.t.Fatalf("a member with less log than it acknowledged: %v", err)
	}
	// Nor does it start when nobody is there to tell.
	alone := c.deps(n)
	alone.Connect = func(Book) (Network, error) { return nil, errors.New("it asked") }
	if _, err := Start(ctx, c.config(n), alone); !errors.Is(err, ErrRefused) {
		c.t.Fatalf("the same once more, cut off: %v", err)
	}
}

// rebuild does what `authswitch cluster rebuild` does.
func (c *trio) rebuild(n int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	leader := c.stores[c.leader()]
	for err := leader.Remove(ctx, trioName(n)); err != nil; err = leader.Remove(ctx, trioName(n)) {
		if ctx.Err() != nil || !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, ErrNotLeader) {
			c.t.Fatal(err)
		}
		leader = c.stores[c.leader()] // a busy machine has another meanwhile
	}
	must(c.t, WipeAtStart(c.disks[n], "node"))
	joined := make(chan error, 1)
	go func() { joined <- leader.Join(ctx, trioName(n), string(trioName(n)), true) }()
	c.start(n)
	must(c.t, <-joined)
	if note, err := readRebuild(c.disks[n], "node"); err != nil || note.Stage != "" {
		c.t.Errorf("after the rebuild: %+v %v", note, err)
	}
}

// TestLessLogThanAcknowledged: a member whose disk loses what it acknowledged is
// refused before it can vote, by the leader that heard it acknowledge, by one
// that led later, and by marks when nobody remembers; and is rebuilt.
func TestLessLogThanAcknowledged(t *testing.T) {
	c := startTrio(t)
	leader := c.leader()
	eventually(t, "the version is raised", func() bool { return c.stores[leader].version() == journal.NewestVersion })
	number := 1000
	lose := func(victim, at int) {
		t.Helper()
		eventually(t, "the victim has caught up", func() bool { return c.stores[victim].raft.AppliedIndex() >= c.stores[at].raft.CommitIndex() })
		old := copyOf(c.disks[victim])
		c.approve(at, number, 20)
		number += 20
		eventually(t, "the victim has caught up", func() bool { return c.stores[victim].raft.AppliedIndex() >= c.stores[at].raft.CommitIndex() })
		c.stopped(victim)
		c.disks[victim] = old
	}

	// A follower, and the leader that heard its acknowledgements.
	victim := (leader + 1) % 3
	lose(victim, leader)
	c.refused(victim)
	c.rebuild(victim)

	// The leader itself: those who followed it have what it sent.
	leader = c.leader()
	other := (leader + 1) % 3
	lose(leader, other)
	victim = leader
	c.leader()
	c.refused(victim)
	c.rebuild(victim)

	// Nobody remembers but the journal: all were stopped.
	leader = c.leader()
	victim = (leader + 1) % 3
	old := copyOf(c.disks[victim])
	c.approve(leader, number, 20)
	s := c.stores[leader]
	eventually(t, "it says how far it is", func() bool { return s.announcementOf(trioName(victim)).durable >= s.raft.CommitIndex() })
	s.said.mu.Lock()
	s.said.marked = -announcedFor - markEvery // it is time for the next ones
	s.said.mu.Unlock()
	has := s.raft.CommitIndex()
	for n := range c.stores {
		eventually(t, "it is marked", func() (marked bool) {
			c.stores[n].replica.withMachine(func(m *journal.Machine) { marked = m.MarkOf(trioName(victim)) >= has })
			return marked
		})
	}
	for n := range c.stores {
		c.stopped(n)
	}
	c.disks[victim] = old
	started := make(chan struct{})
	go func() { defer close(started); c.start((victim + 1) % 3) }()
	c.start((victim + 2) % 3)
	<-started
	c.refused(victim)
	c.rebuild(victim)
	c.approve(victim, number+100, 5)
}

// TestLessLogWhileRunning: where nobody could be asked at the start, the leader
// finds out by its first entry, and the member is told and stops.
func TestLessLogWhileRunning(t *testing.T) {
	c := startTrio(t)
	leader := c.leader()
	eventually(t, "the version is raised", func() bool { return c.stores[leader].version() == journal.NewestVersion })
	victim := (leader + 1) % 3
	old := copyOf(c.disks[victim])
	c.approve(leader, 1, 20)
	eventually(t, "the victim has caught up", func() bool { return c.stores[victim].raft.AppliedIndex() >= c.stores[leader].raft.CommitIndex() })
	c.stopped(victim)
	c.disks[victim] = old
	c.expected[victim] = make(chan error, 1)
	cfg := c.config(victim)
	cfg.Members = cfg.Members[victim : victim+1] // so it greets nobody; Raft knows the others
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := Start(ctx, cfg, c.deps(victim))
	if err == nil {
		c.stores[victim] = s
		err = <-c.expected[victim]
	}
	if !errors.Is(err, ErrLess) {
		t.Fatalf("%v", err)
	}
	if note, err := readRebuild(old, "node"); err != nil || note.Stage != stageRefused {
		t.Errorf("%+v %v", note, err)
	}
}

// TestHonestRestarts: members that are stopped, and whose power is cut, with an
// honest disk are never refused, wherever leaders came and went between.
func TestHonestRestarts(t *testing.T) {
	c := startTrio(t)
	for round := range 6 {
		leader := c.leader()
		at := (leader + round) % 3
		c.approve(leader, 100*round, 10)
		c.f.isolate(string(trioName(at))) // what it writes from here on, nobody hears of
		clone := c.disks[at].CrashClone(vfs.CrashCloneCfg{})
		c.stopped(at)
		c.disks[at] = clone
		c.f.heal()
		c.approve(c.leader(), 100*round+50, 10)
		c.start(at)
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestRebuildOfAMemberThatRuns: a member whose operator rebuilds it while it runs,
// or while it asks the others who it is, ends itself; added again with what it has,
// a start some day would empty a member in good standing.
func TestRebuildOfAMemberThatRuns(t *testing.T) {
	c := startTrio(t)
	const victim = 2
	failed := make(chan error, 1)
	c.expected[victim] = failed
	must(t, WipeAtStart(c.disks[victim], "node"))
	if done, err := Wiped(c.disks[victim], "node"); done || err != nil {
		t.Errorf("it runs, and is taken for wiped: %v", err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, ErrRebuild) {
			t.Fatalf("it ended for another reason: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on with what its operator wants to be rid of")
	}
	c.expected[victim] = nil
	c.stopped(victim)
	c.rebuild(victim)
	if done, err := Wiped(c.disks[victim], "node"); !done || err != nil {
		t.Errorf("it is rebuilt, and not taken for wiped: %v", err)
	}
}

// TestMissingCertificate: a file that the network needs and that is not there ends
// a start, but says nothing about the disk. It was taken for damage, and the node
// had to be rebuilt.
func TestMissingCertificate(t *testing.T) {
	c := newTrio(t, journal.NewestVersion)
	deps := c.deps(0)
	deps.Connect = func(Book) (Network, error) {
		return nil, fmt.Errorf("cluster certificates: %w", &os.PathError{Op: "stat", Path: "ca.pem", Err: os.ErrNotExist})
	}
	if _, err := Start(t.Context(), c.config(0), deps); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "rebuild") {
		t.Errorf("without the certificate: %v", err)
	}
	c.startAll()
	c.approve(c.leader(), 1, 1)
}
