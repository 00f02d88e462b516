package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// ErrLess means that this node comes back with less log than it had
// acknowledged: its disk lied, or an old one was put back.
var ErrLess = errors.New("this node's log is shorter than what it had acknowledged")

func (s *Store) lessError(acknowledged uint64) error {
	return fmt.Errorf("%w: it acknowledged entry %d; its disk lost what it said was written, or is an old copy", ErrLess, acknowledged)
}

// greetTimeout bounds the greeting of members that do not answer.
const greetTimeout = 3 * time.Second

// greet asks the other members, before Raft runs and could vote, whether this
// node had more log than it has. Who does not answer is not waited for: when
// all are down at once, the disks are all there is.
func (s *Store) greet(ctx context.Context, from *snapshots) error {
	if s.network == nil || s.cfg.Join || s.cfg.Version < versionAnnounced {
		return nil
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	list, err := from.List()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		last = max(last, list[0].Index)
	}
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var mu sync.Mutex
	var acknowledged uint64
	var asking sync.WaitGroup
	for _, m := range s.cfg.Members {
		if m.Node == s.cfg.Node {
			continue
		}
		asking.Go(func() {
			had, err := s.askGreeting(ctx, m, last)
			if err != nil {
				return // down, or of a version that does not know the question
			}
			mu.Lock()
			acknowledged = max(acknowledged, had)
			mu.Unlock()
		})
	}
	asking.Wait()
	if acknowledged > last {
		return fmt.Errorf("%w; it ends at %d", s.lessError(acknowledged), last)
	}
	return nil
}

func (s *Store) askGreeting(ctx context.Context, m Member, last uint64) (uint64, error) {
	payload, err := s.askOnce(ctx, m, askGreeting, binary.BigEndian.AppendUint64(nil, last))
	if err != nil {
		return 0, err
	}
	return indexOf(payload)
}

// askOnce asks a member one question over a connection of its own.
func (s *Store) askOnce(ctx context.Context, m Member, kind byte, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.network.Dial(ctx, StreamCommands, m.Address)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(endFrame(append(beginFrame(nil, kind, 1), question...))); err != nil {
		return nil, err
	}
	_, _, payload, _, err := readWire(conn, nil)
	if err != nil {
		return nil, err
	}
	if len(payload) == 0 || payload[0] != statusDone {
		return nil, errRefused
	}
	return payload, nil
}

// greeted answers a member that is about to start Raft: how far it had the log,
// as this node knows. A leader that finds it with less also journals it, for
// those who lead later.
func (s *Store) greeted(node payment.NodeID, last uint64) uint64 {
	had := s.acknowledged(node)
	if had <= last {
		return 0
	}
	s.deps.Log.Error("a member comes back with less log than it acknowledged: it is refused until it is rebuilt", "member", string(node), "acknowledged", had, "has", last)
	s.remember(node, had)
	return had
}

// acknowledged is how far a member's disk must have the log.
func (s *Store) acknowledged(node payment.NodeID) (index uint64) {
	s.replica.withMachine(func(m *journal.Machine) { index = m.MarkOf(node) })
	e, r := s.witness.of(node), s.running.Load()
	switch {
	case e.index <= index || r == nil:
		return index
	case r.State() == raft.Leader && r.CurrentTerm() == e.learned:
		return e.index
	}
	// Learned under another leader: it counts as far as it is committed. Who had an
	// entry that this log has, had all before it.
	var log raft.Log
	if s.log.GetLog(e.index, &log) != nil || log.Term != e.term {
		return index
	}
	return max(index, min(e.index, r.CommitIndex()))
}

// lessLog is told by the witness that a follower has less log than it had.
func (s *Store) lessLog(node payment.NodeID, had, has uint64) {
	s.deps.Log.Error("a member has less log than it acknowledged: it is refused until it is rebuilt", "member", string(node), "acknowledged", had, "has", has)
	s.remember(node, had)
}

// remember journals what is committed of it.
func (s *Store) remember(node payment.NodeID, had uint64) {
	r := s.running.Load()
	if r == nil || r.State() != raft.Leader {
		return
	}
	if index := min(had, r.CommitIndex()); index > 0 {
		s.said.mu.Lock()
		s.said.found = append(s.said.found[:min(len(s.said.found), maxMarks)], journal.Mark{Node: node, Index: index})
		s.said.mu.Unlock()
	}
}
