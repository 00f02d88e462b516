package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// startRaft starts Raft over the log, the snapshots and the replica, and the
// batcher over Raft.
func (s *Store) startRaft(ctx context.Context) error {
	store, err := newSnapshots(s.deps.FS, s.deps.FS.PathJoin(s.cfg.Dir, "snapshots"))
	if err != nil {
		return err
	}
	if err := s.recover(store); err != nil {
		return err
	}
	if err := s.checkLog(store); err != nil {
		return err
	}
	transport, err := s.transport()
	if err != nil {
		return err
	}
	config := s.raftConfig()
	known, err := raft.HasExistingState(s.log, s.log, store)
	if err != nil {
		return fmt.Errorf("read the raft log: %w", err)
	}
	s.hasState.Store(known)
	s.startCommandServer()
	if known {
		if err := s.greet(ctx, store); err != nil {
			return err
		}
	} else {
		if err := s.bootstrap(ctx, config, store, transport); err != nil {
			return err
		}
	}
	if s.raft, err = raft.NewRaft(config, s.replica, guardedLog{s.log, s}, guardedLog{s.log, s}, store, transport); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	s.gate = newGate(s.cfg.BatchPace)
	s.running.Store(s.raft)
	if s.network != nil {
		s.leader = &leaderLink{broken: make(chan string, 1), dial: func(ctx context.Context, address string) (net.Conn, error) {
			return s.network.Dial(ctx, StreamCommands, address)
		}}
	}
	m := newMeasures()
	s.forwarded = m.forward
	s.log.measure.Store(&m)
	s.batch = newBatcher(s.raft, s.elsewhereOrNil(), s.clock, s.gate, limits{
		queue: s.cfg.QueueCommands, inflight: s.cfg.BatchesInFlight, deep: deepQueue, commit: s.cfg.CommitTimeout,
	}, m, &s.replica.pool)
	s.batch.allows, s.batch.handing = s.allows, &s.handing
	for _, c := range append(s.batch.readings(), m.commit, m.batch, m.forward, m.write, m.wait, s.gauges(), newClusterGauges(s)) {
		if err := s.deps.Registerer.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
		s.collectors = append(s.collectors, c)
	}
	return nil
}

// bootstrap begins the cluster, unless it has begun without us.
func (s *Store) bootstrap(ctx context.Context, config *raft.Config, store raft.SnapshotStore, transport raft.Transport) error {
	limit := s.cfg.StartTimeout
	if s.cfg.Join {
		limit = joinTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begin, err := s.introduce(ctx)
	if err != nil || !begin {
		return err
	}
	first, err := s.firstMembers(transport.LocalAddr())
	if err != nil {
		return err
	}
	if err := raft.BootstrapCluster(config, s.log, s.log, store, transport, first); err != nil {
		return fmt.Errorf("bootstrap the cluster: %w", err)
	}
	s.hasState.Store(true)
	return nil
}

// gauges measure ages by the journal's clock.
func (s *Store) gauges() *gauges {
	deps := s.deps
	deps.Now = s.clock.now
	return newGauges(s.raft, s.replica, deps)
}

// deepQueue is about one full entry of commands.
const deepQueue = 256

func (s *Store) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.cfg.Node)
	c.HeartbeatTimeout = s.cfg.HeartbeatTimeout
	c.ElectionTimeout = s.cfg.HeartbeatTimeout
	c.LeaderLeaseTimeout = s.cfg.HeartbeatTimeout
	c.LogLevel = "WARN"
	if s.alone() {
		// Nobody else can lead: waiting for a heartbeat only delays the start.
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = aloneTimeout, aloneTimeout, aloneTimeout
		c.LogLevel = "ERROR" // nor is the missing heartbeat worth a warning
	}
	// How soon followers learn of the last commit when none follows. A shorter
	// time is most of what an idle cluster costs: each is a message to each.
	c.CommitTimeout = 25 * time.Millisecond
	c.MaxAppendEntries = 16 // of up to 256 KiB
	c.BatchApplyCh = true   // what leaves the gate together is one write of the log
	c.SnapshotThreshold = uint64(s.cfg.SnapshotThreshold)
	c.SnapshotInterval = s.cfg.SnapshotEvery
	c.TrailingLogs = uint64(s.cfg.TrailingLogs)
	// The state is its own snapshot: it is never thrown away at start.
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(s.deps.Log, c.LogLevel)
	return c
}

const aloneTimeout = 20 * time.Millisecond

// alone says that no other member can reach this one.
func (s *Store) alone() bool { return s.deps.Connect == nil && s.deps.Transport == nil }

func (s *Store) transport() (raft.Transport, error) {
	switch {
	case s.deps.Transport != nil && s.deps.Connect == nil:
		return s.deps.Transport, nil
	case s.alone():
		_, t := raft.NewInmemTransport(raft.ServerAddress(s.cfg.Node))
		s.close = t.Close
		return t, nil
	}
	return s.connect()
}

func (s *Store) members() int {
	future := s.raft.GetConfiguration()
	if future.Error() != nil {
		return 0
	}
	return len(future.Configuration().Servers)
}

// raftLogger writes Raft's lines into the node's log, from a level on.
func raftLogger(log *slog.Logger, level string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.LevelFromString(level), Output: &raftWords{log.With("from", "raft")}})
}

// raftWords turns Raft's log lines into the node's.
type raftWords struct{ log *slog.Logger }

func (w *raftWords) Write(b []byte) (int, error) {
	line := bytes.TrimSpace(b)
	level := slog.LevelWarn
	if bytes.Contains(line, []byte("[ERROR]")) {
		level = slog.LevelError
	}
	if i := bytes.IndexByte(line, ']'); i >= 0 {
		line = bytes.TrimSpace(line[i+1:])
	}
	w.log.Log(context.Background(), level, string(line))
	return len(b), nil
}

var _ io.Writer = (*raftWords)(nil)
