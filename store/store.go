// Package store is how the journal is replicated: hashicorp/raft around
// journal, two Pebbles beneath, and group commit. cmd starts one per node;
// switching, outbox, link and query use it through the interfaces they declare.
//
// It must not decide anything about a payment: what a command means is
// journal's. Nothing it answers leaves before the command is committed by a
// majority and applied here.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// Deps is what the store takes from its surroundings.
type Deps struct {
	Now        func() payment.Instant
	Rand       io.Reader
	Log        *slog.Logger
	FS         vfs.FS // nil: the real disk
	Registerer prometheus.Registerer
	// Schemes name the scheme of each link, for the labels of what is owed.
	Schemes map[payment.LinkName]string
	// Connect opens the network between the members. Nil: this node is alone.
	Connect func(Book) (Network, error)
	// Transport carries Raft beside that network; nil: the network does.
	Transport raft.Transport
	// Steady is the clock of leases, in nanoseconds since any moment. It goes on
	// while the machine sleeps. Nil: Go's, which does not.
	Steady func() int64
	// Stopped is called when this process did not run for more than a second:
	// what is in a socket's buffer may be of a session that ended meanwhile.
	// Lost and Renewed are called when the session is lost and when the next
	// has begun.
	Stopped, Lost, Renewed func()
	// Fail is called once, when this node must stop: a stalled disk, an entry
	// it does not understand, a state it cannot write.
	Fail func(error)
	// Build names this program for people, in `cluster status`.
	Build string
}

// Store is one node's replica.
type Store struct {
	cfg        Config
	deps       Deps
	logDB      *pebble.DB
	log        *raftLog
	replica    *replica
	clock      *clock
	raft       *raft.Raft
	running    atomic.Pointer[raft.Raft] // raft, for those who may come before it
	network    Network
	close      func() error // the transport and the network
	batch      *batcher
	leader     *leaderLink // nil where this node is alone
	commands   *commandServer
	backing    sync.Mutex  // one backup at a time
	began      time.Time   // of this process, for ages
	hasState   atomic.Bool // the log or a snapshot is not empty
	reads      shared
	forwarded  prometheus.Observer
	own        sessions
	said       announcements
	witness    *witness // nil where this node is alone
	paces      paces
	gate       *gate
	handing    atomic.Bool // over to a quicker member: nothing is proposed meanwhile
	rebuilding bool        // its disk was emptied, and it has not caught up yet
	process    [16]byte    // names this process among those that ran this node
	claims     atomic.Uint64
	failing    sync.Once
	failed     atomic.Bool   // failing was done
	down       chan struct{} // closed with it
	cause      error         // before failed
	broken     atomic.Bool   // a Pebble cannot be closed any more
	gone       chan struct{} // closed when Stop begins
	hanging    sync.Once
	hungUp     error
	collectors []prometheus.Collector

	lastLeader    raft.ServerID // of watchLeader
	leaderChanges atomic.Uint64
	deviation     atomic.Int64 // of the wall clock from the members' median, in nanoseconds

	stop       context.CancelFunc
	goroutines sync.WaitGroup
}

// ErrBehind means that the state and the newest snapshot are both older than
// the log begins: this node must be rebuilt from the others.
var ErrBehind = errors.New("state is older than the log begins")

// Start opens the store, bootstraps its cluster where there is none yet, waits
// for a leader, and begins a session: the earlier one of this node ends, and
// what it left open is owed a reversal.
func Start(ctx context.Context, cfg Config, deps Deps) (*Store, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, err
	}
	if deps.Connect == nil && deps.Transport == nil {
		// Alone there is no network to fill while the disk writes: one batch at
		// the disk, one that forms.
		set(&cfg.BatchesInFlight, 2)
		set(&cfg.BatchPace, 250*time.Microsecond)
	}
	cfg = cfg.withDefaults()
	deps = deps.withDefaults()
	s := &Store{cfg: cfg, deps: deps, clock: &clock{wall: deps.Now}, close: func() error { return nil }, gone: make(chan struct{}), down: make(chan struct{})}
	s.own.lease, s.began = session.NewLease(0), time.Now()
	s.clock.guarded = !s.alone()
	if _, err := io.ReadFull(deps.Rand, s.process[:]); err != nil {
		return nil, fmt.Errorf("name this process: %w", err)
	}
	if err := s.openDisk(); err != nil {
		return nil, errors.Join(s.judge(err), s.closeDisk())
	}
	if err := s.startRaft(ctx); err != nil {
		return nil, errors.Join(s.judge(err), s.stopRaft(), s.closeDisk())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.run(running, s.watchDisk, s.keep, s.scrub)
	if !s.alone() {
		s.run(running, s.watchLeader, s.leadSessions, s.watchPace)
	}
	if s.leader != nil {
		s.run(running, s.watchDeath)
	}
	if err := s.join(ctx); err != nil {
		return nil, errors.Join(s.because(err), s.Stop(ctx))
	}
	if err := s.rebuilt(); err != nil {
		return nil, errors.Join(err, s.Stop(ctx))
	}
	if !s.alone() {
		s.own.beat.Store(int64(s.steady()))
		s.run(running, s.keepPulse, s.keepSession)
	}
	return s, nil
}

// run starts goroutines that end with the context and that Stop waits for.
func (s *Store) run(ctx context.Context, functions ...func(context.Context)) {
	for _, f := range functions {
		s.goroutines.Add(1)
		go f(ctx)
	}
}

func (d Deps) withDefaults() Deps {
	if d.FS == nil {
		d.FS = vfs.Default
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Registerer == nil {
		d.Registerer = prometheus.NewRegistry()
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Steady == nil {
		began := time.Now()
		d.Steady = func() int64 { return int64(time.Second + time.Since(began)) }
	}
	return d
}

// join begins this node's session and waits until everything before it is
// applied here.
func (s *Store) join(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // a store that failed meanwhile finds no leader, ever
		select {
		case <-s.down:
			cancel(s.cause)
		case <-ctx.Done():
		}
	}()
	limit := s.cfg.StartTimeout
	if s.cfg.Join {
		limit = joinTimeout
	}
	if s.alone() {
		if err := s.lead(ctx); err != nil {
			return err
		}
		if s.version() < s.cfg.Version {
			s.proposeVersion(s.cfg.Version) // there is nobody else to ask
		}
		return s.begin(limit)
	}
	deadline := time.Now().Add(limit)
	for {
		err := s.begin(session.Length)
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	wait, stop := context.WithDeadline(ctx, deadline)
	defer stop()
	return s.replica.await(wait, s.replica.seen.Load())
}

// joinTimeout is how long a new node waits for an operator to add it.
const joinTimeout = 24 * time.Hour

// lead waits for this node to lead, and for all that was committed to be
// applied before the first command of ours.
func (s *Store) lead(ctx context.Context) error {
	for s.raft.State() != raft.Leader {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a leader: %w", context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := s.raft.Barrier(s.cfg.StartTimeout).Error(); err != nil {
		return fmt.Errorf("apply the log: %w", err)
	}
	return nil
}

// watchDisk stops the node when a write of the log hangs: a leader whose disk
// stalls goes on heartbeating and freezes its cluster. A lone member freezes
// nobody and nobody could take over: it says so and waits for its disk.
func (s *Store) watchDisk(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(s.cfg.StallTimeout / 10)
	defer tick.Stop()
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		stalled, what := s.log.stalled(), "log"
		if state := s.replica.stalled(); state > stalled {
			stalled, what = state, "state"
		}
		switch {
		case stalled <= s.cfg.StallTimeout:
			said = false
		case !s.alone():
			s.fail(fmt.Errorf("a write of the %s takes %s already", what, stalled.Round(time.Millisecond)))
			return
		case !said:
			said = true
			s.deps.Log.Error("the disk stalls", "of", what, "write_seconds", stalled.Seconds())
		}
	}
}

// keep is the upkeep: a snapshot when the log has grown, and on the leader
// intents open past their time become reversals, old idempotency generations
// go. It ends a member that is to be rebuilt.
func (s *Store) keep(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !s.alone() && s.toBeWiped() {
				s.fail(ErrRebuild)
				return
			}
			if s.replica.unsaved.Load() > s.cfg.SnapshotBytes {
				s.snapshot()
			}
			if s.raft.State() == raft.Leader {
				s.sweep()
			}
		}
	}
}

// snapshot shortens what a start must read again. Raft counts entries, which
// can be a few bytes or 256 KiB, and reads all of them twice.
func (s *Store) snapshot() {
	if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		s.deps.Log.Warn("no snapshot", "error", err)
	}
}

func (s *Store) sweep() {
	now, margin, kept := s.clock.now(), int64(s.cfg.OverdueMargin), int64(s.cfg.KeyRetention)
	var overdue, stale, over bool
	s.replica.withMachine(func(m *journal.Machine) {
		overdue, stale, over = m.Overdue(now, margin), m.Stale(now, kept), m.KeysOver(now)
	})
	if overdue {
		w := s.batch.waiter(journal.KindSweep)
		w.body = journal.AppendSweep(w.body, margin)
		s.upkeep(w)
	}
	if !s.mayExpire() {
		stale, over = false, false
	}
	if stale {
		w := s.batch.waiter(journal.KindForget)
		w.body = journal.AppendForget(w.body, kept)
		s.upkeep(w)
	}
	if over {
		w := s.batch.waiter(journal.KindKeySweep)
		w.body = journal.AppendKeySweep(w.body)
		s.upkeep(w)
	}
}

func (s *Store) upkeep(w *waiter) {
	kind := w.kind
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err != nil {
		s.deps.Log.Warn("upkeep waits for the next round", "command", kind.String(), "error", err)
	} else if kind == journal.KindSweep {
		s.deps.Log.Warn("overdue payments are reversed", "count", w.result.Count)
	}
	if !errors.Is(err, payment.ErrPending) {
		s.batch.release(w)
	}
}

// Stop answers what is queued, hands leadership over where somebody can take
// it, takes a snapshot — which makes the next start quick — and closes the
// disk. It is called once.
func (s *Store) Stop(ctx context.Context) error {
	close(s.gone)
	if s.failed.Load() {
		return s.abandon()
	}
	s.batch.close()
	s.stop()
	s.goroutines.Wait()
	if s.members() > 1 && s.raft.State() == raft.Leader {
		// A plain stop would cost the others an election.
		if err := s.raft.LeadershipTransfer().Error(); err != nil {
			s.deps.Log.WarnContext(ctx, "stop without a successor", "error", err)
		}
	}
	if s.raft != nil {
		s.snapshot()
	}
	return errors.Join(s.stopRaft(), s.closeDisk())
}

func (s *Store) stopRaft() error {
	for _, c := range s.collectors {
		s.deps.Registerer.Unregister(c)
	}
	if s.leader != nil {
		s.leader.close()
	}
	if s.commands != nil {
		s.commands.close()
	}
	var err error
	if s.raft != nil {
		err = s.raft.Shutdown().Error()
	}
	if s.batch != nil {
		s.batch.close()
	}
	return errors.Join(err, s.hangUp())
}
