package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// told is what callers were told before the power was cut.
type told struct {
	mu      sync.Mutex
	opened  map[payment.ID]bool
	settled map[payment.ID]payment.Outcome
	claimed map[uint64]payment.Owed
	leased  []payment.Numbers
}

func (x *told) copy() *told {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := &told{opened: map[payment.ID]bool{}, settled: map[payment.ID]payment.Outcome{}, claimed: map[uint64]payment.Owed{}}
	for id := range x.opened {
		c.opened[id] = true
	}
	maps.Copy(c.settled, x.settled)
	maps.Copy(c.claimed, x.claimed)
	c.leased = append(c.leased, x.leased...)
	return c
}

// awaitOpened waits until so many payments were opened.
func (x *told) awaitOpened(t *testing.T, count int) {
	t.Helper()
	eventually(t, "payments were opened", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return len(x.opened) >= count
	})
}

// work runs payments until it is told to stop.
func (x *told) work(s *Store, base, worker int, until <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-until:
			return
		default:
		}
		i := intent(base + worker*100_000 + n)
		if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
			return
		}
		x.mu.Lock()
		x.opened[i.ID] = true
		x.mu.Unlock()
		o, settle := approval(i), s.Close
		if n%3 == 0 {
			o, settle = timeout(i), s.Reverse
		}
		if n%7 == 0 {
			continue // left open
		}
		settled, err := settle(o)
		if err != nil {
			return
		}
		x.mu.Lock()
		x.settled[i.ID] = settled.Outcome
		x.mu.Unlock()
		if n%5 == 0 {
			x.claim(s, n)
		}
	}
}

func (x *told) claim(s *Store, n int) {
	if numbers, err := s.Lease(context.Background(), "cb-a"); err == nil {
		x.mu.Lock()
		x.leased = append(x.leased, numbers)
		x.mu.Unlock()
	}
	for _, o := range s.Due("cb-a", wallClock(), 1, nil) {
		if claimed, err := s.Claim("cb-a", o.Seq, payment.STAN(n+1), 1); err == nil {
			x.mu.Lock()
			x.claimed[o.Seq] = claimed
			x.mu.Unlock()
		}
	}
}

// TestPowerCut cuts the power while payments run, several times in a row on the
// same disk: what was told is there after it, what was open is owed.
func TestPowerCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 3))
	fs := vfs.NewCrashableMem()
	cfg := testConfig("node")
	cfg.MemtableBytes = 256 << 10 // so that flushes fall between
	known := &told{opened: map[payment.ID]bool{}, settled: map[payment.ID]payment.Outcome{}, claimed: map[uint64]payment.Owed{}}
	for round := range 4 {
		s := start(t, fs, cfg)
		x := known.copy()
		until := make(chan struct{})
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() { x.work(s, round*1_000_000, worker, until) })
		}
		time.Sleep(time.Duration(50+r.IntN(200)) * time.Millisecond)
		if round == 2 {
			if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
				t.Errorf("snapshot: %v", err)
			}
		}
		known = x.copy() // whatever was told by now must survive
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		close(until)
		group.Wait()
		stop(t, s)
		fs = clone

		s = start(t, fs, cfg)
		known.check(t, s)
		stop(t, s)
		if t.Failed() {
			t.Fatalf("seed %d, round %d", seed, round)
		}
	}
}

func (x *told) check(t *testing.T, s *Store) {
	t.Helper()
	lost := 0
	for id := range x.opened {
		p, err := s.Payment(id)
		switch want, settled := x.settled[id]; {
		case err != nil:
			lost++
			t.Errorf("%s: %v", id, err)
		case settled && p.Outcome != want:
			t.Errorf("%s: told %+v, now %+v", id, want, p.Outcome)
		case p.State == payment.StateOpen:
			t.Errorf("%s is open after the end of its session", id)
		case !settled && !p.Outcome.Status.Approved() && p.State != payment.StateReversing && p.State != payment.StateReversed:
			t.Errorf("%s is %s", id, p.State)
		}
		if lost > 5 {
			t.FailNow()
		}
	}
	now := map[uint64]payment.Owed{}
	for _, o := range owedBy(s, "cb-a") {
		now[o.Seq] = o
	}
	for seq, o := range x.claimed {
		if now[seq].STAN != o.STAN || now[seq].Tries < o.Tries {
			t.Errorf("claim of %d: told %+v, now %+v", seq, o, now[seq])
		}
	}
	numbers, err := s.Lease(t.Context(), "cb-a")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range x.leased {
		if numbers.FirstRRN <= l.LastRRN {
			t.Errorf("RRN %d is leased again: %+v", numbers.FirstRRN, l)
		}
	}
}

// owedBy is what a link owes, due or not.
func owedBy(s *Store, link payment.LinkName) (all []payment.Owed) {
	s.replica.withMachine(func(m *journal.Machine) { all = m.Due(link, 1<<62, 1<<20, nil) })
	return all
}

// dump is the whole state.
func dump(t *testing.T, s *Store) string {
	t.Helper()
	var b bytes.Buffer
	err := s.replica.read(func(r journal.Reader) error {
		return r.Scan([]byte{0}, []byte{0xFF}, false, func(key, value []byte) bool {
			fmt.Fprintf(&b, "%x=%x\n", key, value)
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// replayed is the state after the log alone, before a session begins.
func replayed(t *testing.T, fs vfs.FS, cfg Config) string {
	t.Helper()
	s := &Store{cfg: cfg.withDefaults(), deps: Deps{Now: wallClock, FS: fs}.withDefaults(), clock: &clock{wall: wallClock}}
	s.close = func() error { return nil }
	must(t, s.openDisk())
	must(t, s.startRaft(t.Context()))
	for s.raft.State() != raft.Leader {
		time.Sleep(time.Millisecond)
	}
	must(t, s.raft.Barrier(10*time.Second).Error())
	state := dump(t, s)
	must(t, s.stopRaft())
	must(t, s.closeDisk())
	return state
}

// TestSameLogSameState applies one log to an empty state, to a state that a
// crash left, and to a snapshot's: the bytes are the same.
func TestSameLogSameState(t *testing.T) {
	fs := vfs.NewCrashableMem()
	cfg := testConfig("node")
	cfg.TrailingLogs = 1 << 30 // the whole log stays
	s := start(t, fs, cfg)
	x := &told{opened: map[payment.ID]bool{}, settled: map[payment.ID]payment.Outcome{}, claimed: map[uint64]payment.Owed{}}
	until := make(chan struct{})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() { x.work(s, 0, worker, until) })
	}
	x.awaitOpened(t, 60)
	if err := s.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	x.awaitOpened(t, 90)
	close(until)
	group.Wait()
	full := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	emptied := fs.CrashClone(vfs.CrashCloneCfg{})
	stop(t, s)

	var states []string
	restored := full
	for name, fs := range map[string]*vfs.MemFS{"crashed": crashed, "emptied": emptied, "restored": restored} {
		switch name {
		case "emptied": // no state and no snapshot: everything comes from the log
			must(t, fs.RemoveAll("node/state"))
			must(t, fs.RemoveAll("node/snapshots"))
		case "restored": // no state: the snapshot's, and the log after it
			must(t, fs.RemoveAll("node/state"))
		}
		states = append(states, replayed(t, fs, cfg))
	}
	if strings.Count(states[0], "\n") < 100 {
		t.Fatalf("only %d keys", strings.Count(states[0], "\n"))
	}
	if states[0] != states[1] || states[1] != states[2] {
		t.Error("the same log gave other states")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotStream sends a snapshot as a lagging follower gets it.
func TestSnapshotStream(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig("node")
	s := start(t, fs, cfg)
	defer stop(t, s)
	for n := range 50 {
		i := intent(n)
		if _, err := s.Open(i); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			if _, err := s.Reverse(timeout(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	future := s.raft.Snapshot()
	must(t, future.Error())
	meta, stream, err := future.Open()
	must(t, err)
	var b bytes.Buffer
	size, err := b.ReadFrom(stream)
	must(t, err)
	must(t, stream.Close())
	if size != meta.Size || size == 0 {
		t.Fatalf("the stream has %d bytes, its description says %d", size, meta.Size)
	}

	other := start(t, vfs.NewMem(), testConfig("other"))
	defer stop(t, other)
	if err := other.replica.Restore(readCloser{bytes.NewReader(b.Bytes())}); err != nil {
		t.Fatal(err)
	}
	if dump(t, s) != dump(t, other) {
		t.Error("the restored state is another")
	}
	if a, b := owedBy(s, "cb-a"), owedBy(other, "cb-a"); len(a) != 25 || len(b) != 25 {
		t.Errorf("owed: %d and %d", len(a), len(b))
	}
	for _, at := range []int{0, 3, 10, b.Len() / 2, b.Len() - 1} {
		bad := bytes.Clone(b.Bytes())
		bad[at] ^= 0x10
		if err := receiveFiles(vfs.NewMem(), "x", bytes.NewReader(bad)); !errors.Is(err, errBadStream) {
			t.Errorf("a bit flipped at %d: %v", at, err)
		}
		if err := receiveFiles(vfs.NewMem(), "x", bytes.NewReader(bad[:at])); !errors.Is(err, errBadStream) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	outside := appendFrame(nil, frameFile, []byte("../x"))
	if err := receiveFiles(vfs.NewMem(), "x", bytes.NewReader(outside)); !errors.Is(err, errBadStream) {
		t.Errorf("a file outside: %v", err)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// TestTruncation keeps the log short under load and cuts the power: what is
// gone from the log is in the state.
func TestTruncation(t *testing.T) {
	fs := vfs.NewCrashableMem()
	cfg := testConfig("node")
	cfg.SnapshotThreshold, cfg.TrailingLogs = 8, 4
	s := start(t, fs, cfg)
	var ids []payment.ID
	for n := range 60 {
		i := intent(n)
		if _, err := s.Open(i); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Close(approval(i)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, i.ID)
		if n%20 == 19 {
			must(t, s.raft.Snapshot().Error())
		}
	}
	first, err := s.log.FirstIndex()
	must(t, err)
	if first < 50 {
		t.Fatalf("the log still begins at %d", first)
	}
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	stop(t, s)
	s = start(t, clone, cfg)
	for _, id := range ids {
		if p, err := s.Payment(id); err != nil || p.State != payment.StateApproved {
			t.Fatalf("%s: %s %v", id, p.State, err)
		}
	}
	stop(t, s)
	// A state that is older than log and snapshots is not served.
	must(t, clone.RemoveAll("node/state"))
	must(t, clone.RemoveAll("node/snapshots"))
	if _, err := Start(t.Context(), cfg, Deps{Now: wallClock, FS: clone}); !errors.Is(err, ErrBehind) {
		t.Fatalf("start without a state: %v", err)
	}
}
