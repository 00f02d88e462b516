package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// sessions are both sides of this node's: its own lease, and while it leads,
// everybody's.
type sessions struct {
	current atomic.Uint64 // the epoch that Open and Close carry
	until   atomic.Int64  // when the lease of current ends, for writers
	beat    atomic.Int64  // the last beat of the pulse, for writers
	attempt uint32        // of this process, to begin one

	mu    sync.Mutex // around the deciders
	lease *session.Lease
	pulse session.Pulse
	table *session.Table // nil while this node does not lead
	term  uint64         // that table is of
	walls session.Clocks
	lost  atomic.Uint64 // sessions of this node, so far
	ended atomic.Uint64 // silent sessions that this node ended as the leader
	ready atomic.Uint64 // the term in which everything of earlier ones is applied here
}

// steady is the clock of leases: it must go on while the machine sleeps.
func (s *Store) steady() session.Moment { return session.Moment(s.deps.Steady()) }

// Session is this node's epoch; Open and Close carry it.
func (s *Store) Session() payment.Session { return payment.Session(s.own.current.Load()) }

// MayWrite says whether a request of a session may be written to an acquirer:
// it is this node's present one, its lease is not over, and this process has
// not been stopped since its pulse was last felt. Zero asks for what belongs to
// no session. Writers ask it right before they write.
func (s *Store) MayWrite(of payment.Session) bool {
	if s.alone() {
		return true
	}
	if of != 0 && of != s.Session() {
		return false
	}
	now := int64(s.steady())
	return now < s.own.until.Load() && now-s.own.beat.Load() <= int64(session.Gap)
}

// begin takes a new session: this node's earlier one ends, and what it left
// open is owed a reversal.
func (s *Store) begin(limit time.Duration) error {
	sent := s.steady()
	s.own.attempt++
	w := s.batch.waiter(journal.KindSession)
	w.body = journal.AppendBegin(w.body, s.cfg.Node, s.process, s.own.attempt)
	if err := s.batch.propose(w, limit); err != nil {
		return fmt.Errorf("begin a session: %w", err)
	}
	epoch, reversed := w.result.Session, w.result.Count
	s.batch.release(w)
	s.own.mu.Lock()
	s.own.lease.Begin(sent)
	s.own.current.Store(uint64(epoch))
	s.publish()
	s.own.mu.Unlock()
	if reversed > 0 {
		s.deps.Log.Warn("payments of the earlier session are reversed", "count", reversed)
	}
	return nil
}

// publish shows writers how the lease stands. Under own.mu.
func (s *Store) publish() { s.own.until.Store(int64(s.own.lease.Until())) }

// lose ends the lease at once; the session follows when the next one begins.
func (s *Store) lose(why string) {
	s.own.mu.Lock()
	if s.own.until.Load() == 0 {
		s.own.mu.Unlock()
		return
	}
	s.own.lease.Lose()
	s.publish()
	s.own.lost.Add(1)
	s.own.mu.Unlock()
	s.deps.Log.Warn("the session is lost", "why", why, "session", uint64(s.Session()))
	if s.deps.Lost != nil {
		s.deps.Lost()
	}
}

// keepPulse notices that this process did not run. It does nothing that waits:
// a late beat is what it is there to see.
func (s *Store) keepPulse(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(session.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.steady()
		s.own.mu.Lock()
		stopped := s.own.pulse.Beat(now)
		s.own.mu.Unlock()
		if stopped {
			// Connections first: what is in their buffers must not leave.
			if s.deps.Stopped != nil {
				s.deps.Stopped()
			}
			s.lose("this process did not run for more than a second")
		}
		s.own.beat.Store(int64(now))
	}
}

// keepSession sends keepalives, and takes a new session when this one is lost.
func (s *Store) keepSession(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(session.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.keepAlive(ctx, s.steady())
		}
	}
}

// keepAlive sends one keepalive, or begins a session where there is none.
func (s *Store) keepAlive(ctx context.Context, sent session.Moment) {
	s.own.mu.Lock()
	valid := s.own.lease.Valid(sent)
	k := keepalive{session: s.Session(), quote: s.own.lease.Quote(), wall: s.deps.Now()}
	s.own.mu.Unlock()
	if !valid {
		s.lose("no keepalive was granted in time")
		s.renew()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, session.Every)
	defer cancel()
	answer, err := s.sendKeepalive(ctx, k)
	if err != nil {
		return // the next one may arrive
	}
	s.own.mu.Lock()
	s.own.lease.Answered(sent, answer.Answer)
	s.publish()
	s.own.mu.Unlock()
	s.judgeClock(answer.deviation, answer.agreed)
	s.announce(ctx)
	if answer.Ended {
		s.lose("the others ended it")
		s.renew()
	}
}

// renew begins the next session.
func (s *Store) renew() {
	if err := s.begin(session.Length); err != nil {
		s.deps.Log.Warn("no new session yet", "error", err)
		return
	}
	s.deps.Log.Info("a new session", "session", uint64(s.Session()))
	if s.deps.Renewed != nil {
		s.deps.Renewed()
	}
}

// judgeClock corrects this node's stamps when its wall clock is wrong, and hands
// leadership to somebody whose is not.
func (s *Store) judgeClock(deviation time.Duration, agreed bool) {
	s.deviation.Store(int64(deviation))
	if deviation.Abs() <= session.Wrong {
		if agreed { // else a correction stays: nobody said that the clock is right
			s.clock.correct(0)
		}
		s.clock.agreed.Store(agreed)
		return
	}
	s.clock.correct(-deviation)
	s.clock.agreed.Store(true) // with the correction it says what the others say
	if s.raft.State() != raft.Leader {
		return
	}
	s.deps.Log.Error("this node's clock is wrong: it hands over", "seconds_ahead", deviation.Seconds())
	if err := s.raft.LeadershipTransfer().Error(); err != nil {
		s.deps.Log.Warn("no successor yet", "error", err)
	}
}

func (s *Store) sendKeepalive(ctx context.Context, k keepalive) (heard, error) {
	if s.raft.State() == raft.Leader {
		return s.hear(k)
	}
	if s.leader == nil {
		return heard{}, errNoLeader
	}
	answer, err := s.leader.ask(ctx, askKeepalive, func(b []byte) []byte { return appendKeepalive(b, k) })
	if err != nil {
		return heard{}, err
	}
	return readAnswer(answer)
}

// hear answers a keepalive as the leader. Leadership is verified after the
// keepalive came: a deposed leader prolongs nobody's lease.
func (s *Store) hear(k keepalive) (heard, error) {
	ahead := session.Moment(k.wall - s.deps.Now())
	if err := s.raft.VerifyLeader().Error(); err != nil {
		return heard{}, err
	}
	alive := false
	s.replica.withMachine(func(m *journal.Machine) { alive = m.Alive(k.session) })
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	if s.own.table == nil {
		return heard{}, raft.ErrNotLeader
	}
	if !alive && s.own.ready.Load() != s.own.term {
		return heard{}, raft.ErrNotLeader // it may have begun in an entry not applied yet
	}
	now := s.steady()
	if alive {
		s.own.walls.Heard(now, k.session, ahead)
	}
	return heard{
		s.own.table.Keepalive(now, k.session, k.quote, alive), s.own.walls.Deviation(now, k.session),
		2*s.own.walls.Agree(now, k.session) > s.members(),
	}, nil
}

// countLeader notes a change of leader.
func (s *Store) countLeader(id raft.ServerID) {
	if id == s.lastLeader || id == "" {
		return
	}
	s.lastLeader = id
	s.own.mu.Lock()
	s.own.lease.LeaderChanged()
	s.own.mu.Unlock()
	s.leaderChanges.Add(1)
	s.deps.Log.Info("a leader", "leader", string(id))
}

// leadSessions is the leader's watch over everybody's session.
func (s *Store) leadSessions(ctx context.Context) {
	defer s.goroutines.Done()
	tick := time.NewTicker(session.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.raft.State() != raft.Leader {
			s.own.mu.Lock()
			s.own.table = nil
			s.own.mu.Unlock()
			continue
		}
		if err := s.settleTerm(); err != nil {
			continue
		}
		for _, silent := range s.silent() {
			s.endSession(silent)
		}
		s.raise()
		s.mark()
	}
}

// settleTerm begins a table for a new term, once all of earlier terms is
// applied here.
func (s *Store) settleTerm() error {
	term := s.raft.CurrentTerm()
	s.own.mu.Lock()
	if s.own.table == nil || s.own.term != term {
		s.own.walls = session.Clocks{}
		s.own.table, s.own.term = session.NewTable(0, 0, session.Quote(term<<32)), term
	}
	s.own.mu.Unlock()
	if s.own.ready.Load() == term {
		return nil
	}
	if err := s.raft.Barrier(s.cfg.CommitTimeout).Error(); err != nil {
		return err
	}
	// The clock of the leader before may have been ahead of this one: the
	// journal's time goes on from where that left it, and does not stand still.
	var newest payment.Instant
	s.replica.withMachine(func(m *journal.Machine) { newest = m.Now() })
	s.clock.start(newest)
	s.clock.now() // what the wall clock does from here on is noticed
	s.own.ready.Store(term)
	return nil
}

// silent are the sessions whose lease is over.
func (s *Store) silent() []payment.Session {
	var all []journal.NodeSession
	s.replica.withMachine(func(m *journal.Machine) { all = m.Sessions(all) })
	alive := make([]payment.Session, 0, len(all))
	for _, n := range all {
		if n.Session != 0 {
			alive = append(alive, n.Session)
		}
	}
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	if s.own.table == nil {
		return nil
	}
	now := s.steady()
	s.own.table.Sync(now, alive)
	return s.own.table.Expired(now, nil)
}

func (s *Store) endSession(silent payment.Session) {
	w := s.batch.waiter(journal.KindEndSession)
	w.body = journal.AppendEndSession(w.body, silent)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err != nil {
		s.deps.Log.Warn("a silent node's session is not ended yet", "session", uint64(silent), "error", err)
	} else {
		s.own.ended.Add(1)
		s.deps.Log.Warn("a silent node's session is ended", "session", uint64(silent), "reversed", w.result.Count)
	}
	if !errors.Is(err, payment.ErrPending) {
		s.batch.release(w)
	}
}

// Missing is what keeps this node from serving, in words; none is ready.
func (s *Store) Missing() []string {
	var missing []string
	if _, leader := s.raft.LeaderWithID(); leader == "" {
		missing = append(missing, "no leader is known")
	}
	if !s.MayWrite(s.Session()) {
		missing = append(missing, "this node's lease is over: it may not write to an acquirer")
	}
	return missing
}
