package store

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose process died says so: its connections break, and nobody
// listens at its address any more. A heartbeat's time, and by chance a second
// one, would pass before anybody noticed the silence; and a member that notices
// it first is refused by one that does not yet (pre-vote). So a follower whose
// connection to the leader breaks dials once, and where that is refused it
// stands for election as if the leader had handed over.
//
// A machine that lost its power or its network refuses nothing: there the
// heartbeat's time passes. Votes are given by the same rules in either case.

// A dead process's machine may take so long to refuse, and is asked so often.
const (
	knockTimeout = 200 * time.Millisecond
	knockAgain   = 10 * time.Millisecond
)

// watchDeath stands for election when the leader's process is gone.
func (s *Store) watchDeath(ctx context.Context) {
	defer s.goroutines.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case leader := <-s.leader.broken:
			s.succeed(ctx, leader)
		}
	}
}

// succeed stands for election if nobody listens at the leader's address. The
// first of those that are left, by name, does so at once; the next one waits, so
// that they do not split the votes.
func (s *Store) succeed(ctx context.Context, leader string) {
	turn, voter := s.turnAfter(leader)
	if !voter || !s.nobodyAt(ctx, leader) {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(time.Duration(turn) * s.cfg.HeartbeatTimeout / 2):
	}
	// Who voted meanwhile knows of no leader, and who refused its vote, because it
	// has more of the log, neither: if the first had won it would lead by now.
	if now, _ := s.raft.LeaderWithID(); s.raft.State() != raft.Follower || now != "" && string(now) != leader {
		return
	}
	s.deps.Log.Info("the leader's process is gone: this node stands for election", "leader", leader)
	s.witness.stand(ctx)
}

// nobodyAt says whether a dial there is refused. A process that is dying closes
// its sockets one after the other: what is dialed meanwhile is cut off, and says
// nothing yet.
func (s *Store) nobodyAt(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	for {
		conn, err := s.network.Dial(ctx, StreamCommands, address)
		if err == nil {
			hangUp(conn)
			return false
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(knockAgain):
		}
	}
}

// turnAfter is this node's place among the voters but the leader, and whether
// it is one.
func (s *Store) turnAfter(leader string) (turn int, voter bool) {
	future := s.raft.GetConfiguration()
	if s.witness == nil || future.Error() != nil {
		return 0, false
	}
	var names []string
	for _, server := range future.Configuration().Servers {
		if server.Suffrage == raft.Voter && string(server.Address) != leader {
			names = append(names, string(server.ID))
		}
	}
	slices.Sort(names)
	turn = slices.Index(names, string(s.cfg.Node))
	return turn, turn >= 0
}

// stand has Raft stand for election at once.
func (w *witness) stand(ctx context.Context) {
	answer := make(chan raft.RPCResponse, 1)
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	select {
	case w.rpcs <- raft.RPC{Command: request, RespChan: answer}:
	case <-w.over:
	case <-ctx.Done():
	}
}
