package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// Errors of changing a cluster.
var (
	// ErrNotLeader means that another node must be asked; Status says which.
	ErrNotLeader = errors.New("this node does not lead")
	// ErrWiped means that this node's disk is empty while the others know it: it
	// may have acknowledged entries that it does not have any more, so that its
	// vote could elect a leader without them.
	ErrWiped = errors.New("this node's disk is empty, but the others know it")
	// ErrBehindMember means that a member did not catch up in time.
	ErrBehindMember = errors.New("the member has not caught up")
)

// MemberStatus is one member as this node sees it.
type MemberStatus struct {
	Node    payment.NodeID  `json:"id"`
	Address string          `json:"address"`
	Voter   bool            `json:"voter"`
	Leader  bool            `json:"leader"`
	Session payment.Session `json:"session"` // 0: none alive
	// Version and Build are what the member announced last; zero, nothing.
	Version journal.Version `json:"version,omitempty"`
	Build   string          `json:"build,omitempty"`
}

// Status is the cluster as this node sees it.
type Status struct {
	Node          payment.NodeID     `json:"node"`
	Leader        payment.NodeID     `json:"leader"`
	LeaderAddress string             `json:"leader_address"`
	Term          uint64             `json:"term"`
	Committed     uint64             `json:"committed_index"`
	Applied       uint64             `json:"applied_index"`
	SnapshotIndex uint64             `json:"snapshot_index"`
	Session       payment.Session    `json:"session"`
	MayWrite      bool               `json:"may_write"`
	Version       journal.Version    `json:"version"`
	Fenced        bool               `json:"fenced"`
	Released      []payment.LinkName `json:"released,omitempty"`
	Members       []MemberStatus     `json:"members"`
}

// Fenced says whether this state comes from a backup that nobody has released,
// and which lanes somebody has.
func (s *Store) Fenced() (on bool, released []payment.LinkName) {
	s.replica.withMachine(func(m *journal.Machine) { on, released = m.Fenced() })
	return on, released
}

// Status says how the cluster stands.
func (s *Store) Status() (Status, error) {
	address, id := s.raft.LeaderWithID()
	stats := s.raft.Stats()
	snapshot, err := strconv.ParseUint(stats["last_snapshot_index"], 10, 64)
	if err != nil {
		return Status{}, fmt.Errorf("status: %w", err)
	}
	status := Status{
		Node: s.cfg.Node, Leader: payment.NodeID(id), LeaderAddress: string(address), Term: s.raft.CurrentTerm(), Committed: s.raft.CommitIndex(),
		Applied: s.replica.applied.Load(), SnapshotIndex: snapshot, Session: s.Session(), MayWrite: s.MayWrite(s.Session()),
	}
	sessions := map[payment.NodeID]payment.Session{}
	s.replica.withMachine(func(m *journal.Machine) {
		for _, n := range m.Sessions(nil) {
			sessions[n.Node] = n.Session
		}
		status.Fenced, status.Released = m.Fenced()
		status.Version = m.Version()
	})
	future := s.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return status, fmt.Errorf("status: %w", err)
	}
	for _, server := range future.Configuration().Servers {
		node := payment.NodeID(server.ID)
		announced := s.announcementOf(node)
		status.Members = append(status.Members, MemberStatus{
			Version: announced.version, Build: announced.build,
			Node: node, Address: string(server.Address), Voter: server.Suffrage == raft.Voter, Leader: node == status.Leader, Session: sessions[node],
		})
	}
	return status, nil
}

// Others are the other members as this node knows them.
func (s *Store) Others() []Member {
	var others []Member
	for _, m := range (book{s}).members() {
		if m.Node != s.cfg.Node {
			others = append(others, m)
		}
	}
	return others
}

// member finds one by its name.
func (s *Store) member(node payment.NodeID) (MemberStatus, bool) {
	status, err := s.Status()
	if err != nil {
		return MemberStatus{}, false
	}
	for _, m := range status.Members {
		if m.Node == node {
			return m, true
		}
	}
	return MemberStatus{}, false
}

// membershipTimeout bounds one change of the configuration.
const membershipTimeout = 10 * time.Second

// Join adds a member. It has no vote until it has caught up, so that a slow or
// empty disk never counts towards a majority; with voter false it never gets
// one. It is called on the leader, and may be called again after a failure.
func (s *Store) Join(ctx context.Context, node payment.NodeID, address string, voter bool) error {
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	known, member := s.member(node)
	if !member {
		s.witness.forget(node)
	}
	if member && known.Address != address {
		return fmt.Errorf("%s is a member at %s: remove it first", node, known.Address)
	}
	if member && (known.Voter || !voter) {
		return nil
	}
	if !member {
		if err := s.raft.AddNonvoter(raft.ServerID(node), raft.ServerAddress(address), 0, membershipTimeout).Error(); err != nil {
			return fmt.Errorf("add %s: %w", node, err)
		}
		s.deps.Log.InfoContext(ctx, "a member without a vote", "member", string(node), "address", address)
	}
	if err := s.awaitMember(ctx, node, address); err != nil || !voter {
		return err
	}
	if err := s.raft.AddVoter(raft.ServerID(node), raft.ServerAddress(address), 0, membershipTimeout).Error(); err != nil {
		return fmt.Errorf("give %s a vote: %w", node, err)
	}
	s.deps.Log.InfoContext(ctx, "a member with a vote", "member", string(node), "address", address)
	return nil
}

// awaitMember waits until a member has begun a session, which it does once it
// has applied all before it.
func (s *Store) awaitMember(ctx context.Context, node payment.NodeID, address string) error {
	for {
		if s.raft.State() != raft.Leader {
			return ErrNotLeader
		}
		if m, ok := s.member(node); ok && m.Session != 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s at %s; is it running?", ErrBehindMember, node, address)
		case <-time.After(retryPause):
		}
	}
}

// Remove takes a member out, ends its session and forgets it: its open payments
// are reversed. A leader that removes itself hands over first.
func (s *Store) Remove(ctx context.Context, node payment.NodeID) error {
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	if node == s.cfg.Node {
		if err := s.raft.LeadershipTransfer().Error(); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
		return ErrNotLeader // the caller asks the new one
	}
	if _, member := s.member(node); member {
		if err := s.raft.RemoveServer(raft.ServerID(node), 0, membershipTimeout).Error(); err != nil {
			return fmt.Errorf("remove %s: %w", node, err)
		}
	}
	s.said.changing.take()
	defer s.said.changing.leave()
	s.witness.forget(node)
	s.said.forget(node)
	w := s.batch.waiter(journal.KindForgetNode)
	w.body = journal.AppendForgetNode(w.body, node)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err == nil {
		s.deps.Log.WarnContext(ctx, "a member is removed", "member", string(node), "reversed", w.result.Count)
	}
	s.give(w, err)
	return err
}

// Transfer hands leadership to a member, or to the one that is furthest.
func (s *Store) Transfer(to payment.NodeID) error {
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	if to == "" {
		return s.raft.LeadershipTransfer().Error()
	}
	m, ok := s.member(to)
	if !ok {
		return fmt.Errorf("%w: member %s", payment.ErrNotFound, to)
	}
	if to == s.cfg.Node {
		return nil
	}
	return s.raft.LeadershipTransferToServer(raft.ServerID(m.Node), raft.ServerAddress(m.Address)).Error()
}

// Release lets a lane of a restored cluster go; journal.EveryLane all of them.
func (s *Store) Release(lane payment.LinkName) error {
	w := s.batch.waiter(journal.KindRelease)
	w.body = journal.AppendRelease(w.body, lane)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err == nil {
		s.deps.Log.Warn("a fenced lane is released", "lane", string(lane))
	}
	s.give(w, err)
	return err
}

// introduction is what a member says to one whose disk is empty.
type introduction struct {
	hasState bool // there is a cluster already
	knowsYou bool // and you had a session in it
}

// removalHeard is how long a node with an empty disk may still be known to a
// member that has not heard of its removal.
const removalHeard = 3 * time.Second

// introduce asks every other first member whether the cluster exists. A new one
// begins only when all of them say that there is none: a node that lost its
// disk must not begin a second one, nor vote with an empty log.
func (s *Store) introduce(ctx context.Context) (bootstrap bool, err error) {
	others := make([]Member, 0, len(s.cfg.Members))
	for _, m := range s.cfg.Members {
		if m.Node != s.cfg.Node {
			others = append(others, m)
		}
	}
	if len(others) == 0 || s.network == nil {
		return true, nil
	}
	said := map[payment.NodeID]bool{}
	removed := time.Now().Add(removalHeard)
	for {
		known, state := false, false
		for _, m := range others {
			i, err := s.askIntroduction(ctx, m)
			if err != nil {
				continue
			}
			known = known || i.knowsYou && !s.rebuilding // who rebuilds it may not have been heard of yet
			state = state || i.hasState && !i.knowsYou
			if !i.hasState && !i.knowsYou {
				said[m.Node] = true
			}
		}
		switch {
		case known && time.Now().After(removed):
			return false, fmt.Errorf("%w: %s", ErrWiped, s.advice())
		case !known && state:
			return false, nil // the leader sends it to us
		}
		if len(said) == len(others) {
			return !s.cfg.Join, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("the first start of a cluster needs every member: %d of %d answered: %w", len(said), len(others), context.Cause(ctx))
		case <-time.After(retryPause):
		}
	}
}

func (s *Store) askIntroduction(ctx context.Context, m Member) (i introduction, err error) {
	payload, err := s.askOnce(ctx, m, askIntroduction, []byte(s.cfg.Node))
	if err != nil {
		return i, err
	}
	if len(payload) != 2 {
		return i, errBadWire
	}
	return introduction{hasState: payload[1]&1 != 0, knowsYou: payload[1]&2 != 0}, nil
}

// introduction answers one. Before Raft runs there is no state to speak of
// unless the log says so.
func (s *Store) introduction(to payment.NodeID) byte {
	flags := byte(0)
	if s.hasState.Load() {
		flags |= 1
	}
	if s.remembers(to) {
		flags |= 2
	}
	return flags
}

// remembers says whether a node had a session here and was not forgotten.
func (s *Store) remembers(node payment.NodeID) (known bool) {
	s.replica.withMachine(func(m *journal.Machine) {
		known = m.MarkOf(node) > 0
		for _, n := range m.Sessions(nil) {
			known = known || n.Node == node
		}
	})
	return known
}

// Knows says whether there is anything to remove of a node.
func (s *Store) Knows(node payment.NodeID) bool {
	_, member := s.member(node)
	return member || s.remembers(node)
}
