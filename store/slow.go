package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// A disk that has become slow, but not so slow that its node stops, makes every
// payment of a cluster as slow while its node leads: nothing is sent to the others
// before the leader has written it. As a follower it delays nobody, because the
// other two are a majority. So a slow leader hands over to a member that is quick,
// and keeps the lead where none is: a hand-over back and forth helps nobody.
const (
	// slowWrite is a write of the log that no healthy disk takes, and far from
	// what a member is stopped for (store.stall_timeout).
	slowWrite = 150 * time.Millisecond
	// paceWrites in a row are a slow disk, also when the last is not done yet; fewer
	// are a hiccup.
	paceWrites = 3
	// paceFor is how long the newest of a member's counts.
	paceFor = 5 * time.Second
	// handOverPause is between one try and the next, also of a later term.
	handOverPause = 30 * time.Second
	// paceTick is how often a leader looks at its own pace.
	paceTick = 50 * time.Millisecond
)

// pace is how long the last writes took, the newest first.
type pace struct {
	took [paceWrites]time.Duration
	at   time.Time
}

// paces are the leader's own writes of the log, and the round trips of entries to
// each other member, which that member's write is part of. They are of one term:
// a follower's own writes say nothing about how it would lead.
type paces struct {
	mu     sync.Mutex
	term   uint64
	of     map[payment.NodeID]pace
	began  time.Time // the leader's write that is under way, or zero
	paused time.Time // until then nothing is handed over
}

// begin notes that a write of this node's log begins.
func (p *paces) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = now
}

// end notes that the write is over.
func (p *paces) end() { p.begin(time.Time{}) }

// took notes one write.
func (p *paces) took(node payment.NodeID, term uint64, d time.Duration, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < p.term {
		return
	}
	if term > p.term || p.of == nil {
		p.term, p.of = term, map[payment.NodeID]pace{}
	}
	p.of[node] = p.of[node].and(d, now)
}

// and is the pace after one more write.
func (p pace) and(d time.Duration, now time.Time) pace {
	copy(p.took[1:], p.took[:])
	p.took[0], p.at = max(d, 1), now
	return p
}

// quicker are the members that would lead better than self in this term; none
// while self is quick. A member whose pace is not known is not quicker.
func (p *paces) quicker(self payment.NodeID, term uint64, now time.Time) (members []payment.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.of[self]
	if d := now.Sub(p.began); !p.began.IsZero() && d > slowWrite {
		own = own.and(d, now)
	}
	quickest := slices.Min(own.took[:])
	if term != p.term || now.Before(p.paused) || quickest <= slowWrite || now.Sub(own.at) > paceFor {
		return nil
	}
	for node, other := range p.of {
		if slices.Min(other.took[:]) > 0 && slices.Max(other.took[:]) <= quickest/2 && now.Sub(other.at) <= paceFor {
			members = append(members, node)
		}
	}
	slices.Sort(members)
	return members
}

func (p *paces) pause(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = now.Add(handOverPause)
}

// watchPace hands leadership over when this node's disk is slow and another's is
// not.
func (s *Store) watchPace(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(paceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.raft.State() != raft.Leader {
			continue
		}
		to, found := s.successor(s.paces.quicker(s.cfg.Node, s.raft.CurrentTerm(), time.Now()))
		if !found {
			continue
		}
		s.paces.pause(time.Now())
		s.deps.Log.Warn("this node's disk is slow: it hands over", "to", string(to.ID))
		// Raft looks at a hand-over between two writes of its log, and by chance at
		// the next entries before it: without any it waits for one slow write at most.
		s.handing.Store(true)
		err := s.raft.LeadershipTransferToServer(to.ID, to.Address).Error()
		s.handing.Store(false)
		if err != nil {
			s.deps.Log.Warn("no successor yet", "error", err)
		}
	}
}

// successor is the voter among some members whose disk has the log furthest.
func (s *Store) successor(among []payment.NodeID) (best raft.Server, found bool) {
	if len(among) == 0 {
		return best, false
	}
	future := s.raft.GetConfiguration()
	if future.Error() != nil {
		return best, false
	}
	var furthest uint64
	for _, server := range future.Configuration().Servers {
		node := payment.NodeID(server.ID)
		index := s.witness.of(node).index
		if server.Suffrage == raft.Voter && slices.Contains(among, node) && (!found || index > furthest) {
			best, furthest, found = server, index, true
		}
	}
	return best, found
}
