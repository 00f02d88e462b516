package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// elsewhere proposes a batch through the leader, where that is another node.
func (s *Store) elsewhere(batch []*waiter) (*applied, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.CommitTimeout)
	defer cancel()
	sent := time.Now()
	answer, err := s.leader.ask(ctx, askPropose, func(b []byte) []byte { return appendProposal(b, batch) })
	if err != nil {
		return nil, err
	}
	a, _ := s.replica.pool.Get().(*applied)
	if a == nil {
		a = &applied{}
	}
	a.err = nil
	index, err := readResults(answer, len(batch), a)
	if err != nil {
		s.replica.pool.Put(a)
		return nil, fmt.Errorf("%w: %w", errAsked, err)
	}
	s.replica.saw(index)
	s.forwarded.Observe(time.Since(sent).Seconds())
	return a, nil
}

// elsewhereOrNil is elsewhere where there is another node.
func (s *Store) elsewhereOrNil() func([]*waiter) (*applied, error) {
	if s.leader == nil {
		return nil
	}
	return s.elsewhere
}

// watchLeader points the link at whoever leads.
func (s *Store) watchLeader(ctx context.Context) {
	defer s.goroutines.Done()
	changes := make(chan raft.Observation, 1)
	observer := raft.NewObserver(changes, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	s.raft.RegisterObserver(observer)
	defer s.raft.DeregisterObserver(observer)
	// An observation is dropped while one waits, so the tick looks too.
	tick := time.NewTicker(leaderTick)
	defer tick.Stop()
	for {
		address, id := s.raft.LeaderWithID()
		if string(id) == string(s.cfg.Node) || s.raft.State() == raft.Leader {
			address = ""
		}
		if s.leader != nil {
			s.leader.follow(string(address))
		}
		s.countLeader(id)
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-tick.C:
		}
	}
}

const leaderTick = 50 * time.Millisecond

// catchUp returns when this replica has applied what the leader had committed
// when it was called: what is not found then does not exist.
func (s *Store) catchUp(ctx context.Context) error {
	if s.alone() {
		return nil
	}
	index, err := s.readIndex(ctx)
	for errors.Is(err, errNoLeader) || errors.Is(err, errRefused) || errors.Is(err, errAsked) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", payment.ErrUnavailable, err)
		case <-time.After(retryPause):
		}
		index, err = s.readIndex(ctx)
	}
	if err != nil {
		return err
	}
	return s.replica.await(ctx, index)
}

func (s *Store) readIndex(ctx context.Context) (uint64, error) {
	if s.raft.State() == raft.Leader {
		return s.leaderIndex()
	}
	if s.leader == nil {
		return 0, errNoLeader
	}
	return s.reads.do(func() (uint64, error) {
		answer, err := s.leader.ask(ctx, askRead, func(b []byte) []byte { return b })
		if err != nil {
			return 0, err
		}
		return indexOf(answer)
	})
}
