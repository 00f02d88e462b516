package store

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/journal"
	"authswitch/payment"
)

// TestPending: a commit that takes too long is pending for its caller, and
// happens all the same.
func TestPending(t *testing.T) {
	cfg := testConfig("node")
	cfg.CommitTimeout = 100 * time.Millisecond
	s := start(t, vfs.NewMem(), cfg)
	defer stop(t, s)
	i := intent(1)
	s.replica.mu.Lock()
	_, err := s.Open(i)
	s.replica.mu.Unlock()
	if !errors.Is(err, payment.ErrPending) {
		t.Fatalf("open while nothing is applied: %v", err)
	}
	s.cfg.CommitTimeout = 5 * time.Second
	if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenAgain {
		t.Fatalf("open again: %+v %v", o, err)
	}
}

func TestExpiredIntentIsNotOpened(t *testing.T) {
	s := start(t, vfs.NewMem(), testConfig("node"))
	defer stop(t, s)
	i := intent(1)
	i.SendBy = wallClock() - 1
	if _, err := s.Open(i); !errors.Is(err, payment.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	if _, err := s.Payment(i.ID); !errors.Is(err, payment.ErrNotFound) {
		t.Fatalf("%v", err)
	}
}

// TestFullQueue: what does not fit is refused at once.
func TestFullQueue(t *testing.T) {
	cfg := testConfig("node")
	cfg.QueueCommands, cfg.BatchesInFlight = 2, 1
	s := start(t, vfs.NewMem(), cfg)
	defer stop(t, s)
	s.replica.mu.Lock()
	answers := make(chan error, 10)
	for n := range 10 {
		go func() {
			_, err := s.Open(intent(n))
			answers <- err
		}()
	}
	// Two are in flight, in one batch, and two wait, at most: six are refused
	// while nothing moves.
	for range 6 {
		if err := <-answers; !errors.Is(err, payment.ErrBusy) {
			t.Errorf("past the limit: %v", err)
		}
	}
	s.replica.mu.Unlock()
	for range 4 {
		if err := <-answers; err != nil && !errors.Is(err, payment.ErrBusy) {
			t.Errorf("within the limit: %v", err)
		}
	}
}

// TestForeignEntry: a node that meets what it does not understand stops
// applying, tells its process, and does the same after a restart.
func TestForeignEntry(t *testing.T) {
	fs := vfs.NewMem()
	cfg := testConfig("node")
	cfg.CommitTimeout, cfg.StartTimeout = 200*time.Millisecond, 2*time.Second
	failed := make(chan error, 1)
	deps := Deps{Now: wallClock, FS: fs, Fail: func(err error) { failed <- err }}
	s, err := Start(t.Context(), cfg, deps)
	must(t, err)
	before := dump(t, s)
	must(t, s.raft.Apply([]byte("from the future"), time.Second).Error())
	if err := <-failed; !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("failed with %v", err)
	}
	if _, err := s.Open(intent(1)); !errors.Is(err, payment.ErrPending) {
		t.Fatalf("open: %v", err)
	}
	if dump(t, s) != before {
		t.Error("something was applied after it")
	}
	must(t, s.Stop(context.Background()))
	if _, err := Start(t.Context(), cfg, deps); !errors.Is(err, journal.ErrCorrupt) || !strings.Contains(err.Error(), "restore a backup") {
		t.Fatalf("started over an entry that it does not understand: %v", err)
	}
}

// TestStalledDisk: a member of a cluster stops, a lone one waits.
func TestStalledDisk(t *testing.T) {
	for _, address := range []string{"n1", ""} {
		cfg := testConfig("node")
		cfg.Address, cfg.StallTimeout = address, 50*time.Millisecond
		var connect func(Book) (Network, error)
		if address != "" {
			connect = newFabric().connect(address)
		}
		failed := make(chan error, 1)
		words := make(chan string, 1)
		log := slog.New(slog.NewTextHandler(writer(func(b []byte) {
			if line := string(b); strings.Contains(line, "the disk stalls") {
				words <- line // a second one would block: it is said once
			}
		}), nil))
		s, err := Start(t.Context(), cfg, Deps{Now: wallClock, FS: vfs.NewMem(), Log: log, Connect: connect, Fail: func(err error) { failed <- err }})
		must(t, err)
		s.log.storing.Store(1) // as if a write had begun with the store
		if address != "" {
			if err := <-failed; !strings.Contains(err.Error(), "a write of the log") {
				t.Error(err)
			}
		} else {
			<-words
		}
		s.log.storing.Store(0)
		stop(t, s)
		if len(failed) != 0 {
			t.Errorf("at %q: %v", address, <-failed)
		}
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// TestSweep: an intent that nobody settles is reversed by the store's own loop,
// and who waits for it is told.
func TestSweep(t *testing.T) {
	cfg := testConfig("node")
	cfg.SweepEvery, cfg.OverdueMargin = 20*time.Millisecond, time.Millisecond
	s := start(t, vfs.NewMem(), cfg)
	defer stop(t, s)
	i := intent(1)
	i.AnswerBy = i.SendBy
	if err := s.Await(i.ID, wallClock()); !errors.Is(err, payment.ErrNotFound) {
		t.Fatalf("await what is not there: %v", err)
	}
	i.SendBy, i.AnswerBy = wallClock()+150e6, wallClock()+150e6
	if _, err := s.Open(i); err != nil {
		t.Fatal(err)
	}
	if err := s.Await(i.ID, wallClock()+1e6); !errors.Is(err, payment.ErrPending) {
		t.Fatalf("await with little time: %v", err)
	}
	if err := s.Await(i.ID, wallClock()+10e9); err != nil {
		t.Fatalf("await: %v", err)
	}
	p, err := s.Payment(i.ID)
	if err != nil || p.State != payment.StateReversing || p.Outcome.Cause != payment.CauseOverdue {
		t.Fatalf("%s %+v %v", p.State, p.Outcome, err)
	}
	if r, err := s.Close(approval(i)); err != nil || r.Outcome.Status != payment.StatusUnknown {
		t.Fatalf("a close after it: %+v %v", r, err)
	}
	if len(s.replica.waiting.callers) != 0 {
		t.Error("somebody still waits")
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, err := Start(t.Context(), testConfig("node"), Deps{Now: wallClock, FS: vfs.NewMem(), Registerer: registry})
	must(t, err)
	i := intent(1)
	_, err = s.Open(i)
	must(t, err)
	_, err = s.Reverse(timeout(i))
	must(t, err)
	state, err := s.Acknowledge("cb-a", 1, &payment.Response{}, payment.AdviceExceptional)
	if err != nil || state != payment.StateException {
		t.Fatalf("%s %v", state, err)
	}
	got := gather(t, registry)
	for name, want := range map[string]float64{
		"raft_leader": 1, "reversals_owed": 1, "reversals_owed_by_link{cb-a}": 1, "reversal_exceptions{cb-a}": 1,
		"raft_commit_seconds": 5, "raft_batch_commands": 5, // version, session, open, reverse, acknowledge
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["raft_applied_index"] < 4 || got["reversals_oldest_age_seconds{cb-a}"] <= 0 {
		t.Errorf("%v", got)
	}
	stop(t, s)
	if left, err := registry.Gather(); len(left) != 0 || err != nil {
		t.Errorf("after the stop: %d metrics %v", len(left), err)
	}
	if _, err := s.Payment(i.ID); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("a read after the stop: %v", err)
	}
	if _, err := s.Open(intent(2)); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("an open after the stop: %v", err)
	}
}

// gather is each metric's value, a histogram's count.
func gather(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			if labels := m.GetLabel(); len(labels) > 0 {
				name += "{" + labels[0].GetValue() + "}"
			}
			values[name] = m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestConfig(t *testing.T) {
	faults := Config{HeartbeatTimeout: 1, CommitTimeout: -1, KeyRetention: time.Hour, QueueCommands: -1}.Validate()
	if len(faults) != 6 {
		t.Errorf("%d faults: %v", len(faults), faults)
	}
	if faults := testConfig("x").Validate(); len(faults) != 0 {
		t.Errorf("faults in a good one: %v", faults)
	}
	if _, err := Start(t.Context(), Config{}, Deps{Now: wallClock}); err == nil {
		t.Error("started with nothing configured")
	}
}
