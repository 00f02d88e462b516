package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// Programs of two versions work in one cluster while it is upgraded, member
// after member. Every member announces what it can apply, twice a second; the
// leader raises the cluster's version by one entry when all of them, those
// without a vote too, have announced it. Before that no command is proposed that
// one of them could not apply; after it, an older program refuses to start.
//
// Nobody orders it: who must be able to go back keeps one member old, and a
// version that waits for an operator is one that is forgotten, whose old
// commands nobody tests any more.

// turn is a lock that is held while something is committed. Those who wait for a
// mutex count as working where time is simulated, so that it would stand still.
type turn struct {
	mu    sync.Mutex
	over  sync.Cond
	taken bool
}

func (t *turn) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.L = &t.mu
	for t.taken {
		t.over.Wait()
	}
	t.taken = true
}

func (t *turn) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
	t.over.Signal()
}

// announced is what a member said last.
type announced struct {
	version journal.Version
	build   string
	durable uint64         // committed, and on its disk
	at      session.Moment // of the leader's steady clock
}

// announcements are everybody's, as the leader heard them; elsewhere only what
// it passed on for people to see.
type announcements struct {
	// changing is held while marks are journalled, and while a member is
	// forgotten: no mark comes after that. It is taken before mu.
	changing turn

	mu     sync.Mutex
	heard  map[payment.NodeID]announced
	raised session.Moment // when the leader last looked
	marked session.Moment // when it last journalled marks
	marks  uint64         // what was applied then
	found  []journal.Mark // of members that came back with less: not journalled yet
}

const (
	// announcedFor is how long an announcement counts: a member may be started
	// again with an older program.
	announcedFor = session.Moment(6 * session.Every)
	// markEvery is how old a mark may be: what a member acknowledged since is
	// in the leader's memory only.
	markEvery = session.Moment(10 * time.Second)
	// versionAnnounced is the first whose members announce.
	versionAnnounced journal.Version = 2
)

func (a *announcements) forget(node payment.NodeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.heard, node)
	a.found = slices.DeleteFunc(a.found, func(k journal.Mark) bool { return k.Node == node })
}

// version is the cluster's, as this replica knows it: it only grows.
func (s *Store) version() journal.Version { return journal.Version(s.replica.version.Load()) }

// allows refuses a command that a member could not apply.
func (s *Store) allows(kind journal.Kind, body []byte) error {
	if s.version() >= journal.NewestVersion {
		return nil // everything: nothing has to be read to know
	}
	if needed := journal.Needs(kind, body); needed > s.version() {
		return fmt.Errorf("%w: %s needs the cluster at version %d, and it is at %d", payment.ErrUnavailable, kind, needed, s.version())
	}
	return nil
}

// durable is how far this node's disk has what is committed: a longer log can
// still be replaced.
func (s *Store) durable() uint64 { return min(s.raft.CommitIndex(), s.raft.LastIndex()) }

// announce tells the leader what this program can apply and how far its disk
// is, and hears whether it is believed.
func (s *Store) announce(ctx context.Context) {
	if s.cfg.Version < versionAnnounced {
		return
	}
	a := announced{version: s.cfg.Version, build: s.deps.Build, durable: s.durable()}
	if s.raft.State() == raft.Leader {
		s.hearAnnouncement(s.cfg.Node, a)
		return
	}
	if s.leader == nil {
		return
	}
	answer, err := s.leader.ask(ctx, askAnnounce, func(b []byte) []byte { return appendAnnouncement(b, a) })
	if err != nil {
		return // an older leader does not know the question
	}
	has, others, err := readAnnouncements(answer)
	if err != nil {
		return
	}
	if has != 0 {
		s.fail(s.lessError(has))
		return
	}
	s.said.mu.Lock()
	s.said.heard = others
	s.said.mu.Unlock()
}

// hearAnnouncement notes one, and answers with how far that member's disk must
// have the log, where it does not; 0 otherwise.
func (s *Store) hearAnnouncement(from payment.NodeID, a announced) uint64 {
	a.at = s.steady()
	s.said.mu.Lock()
	if s.said.heard == nil {
		s.said.heard = map[payment.NodeID]announced{}
	}
	s.said.heard[from] = a
	s.said.mu.Unlock()
	return s.witness.caught(from, s.raft.CurrentTerm())
}

// raise moves the cluster's version on when everybody can follow. It is the
// leader's.
func (s *Store) raise() {
	now := s.steady()
	s.said.mu.Lock()
	due := now-s.said.raised >= session.Moment(session.Every)
	if due {
		s.said.raised = now
	}
	s.said.mu.Unlock()
	if !due || s.version() >= s.cfg.Version {
		return
	}
	future := s.raft.GetConfiguration()
	if future.Error() != nil {
		return
	}
	to := s.cfg.Version
	s.said.mu.Lock()
	for _, server := range future.Configuration().Servers {
		a, known := s.said.heard[payment.NodeID(server.ID)]
		if !known || a.at == 0 || now-a.at > announcedFor {
			a.version = journal.FirstVersion
		}
		to = min(to, a.version)
	}
	s.said.mu.Unlock()
	if to > s.version() {
		s.proposeVersion(to)
	}
}

func (s *Store) proposeVersion(to journal.Version) {
	w := s.batch.waiter(journal.KindVersion)
	w.body = journal.AppendVersion(w.body, to)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err != nil {
		s.deps.Log.Warn("the cluster's version is not raised yet", "version", uint16(to), "error", err)
	} else if w.result.Count > 0 {
		s.deps.Log.Info("the cluster's version is raised: older programs cannot join any more", "version", uint16(to))
	}
	s.give(w, err)
}

// mark journals how far everybody's disk is, so that whoever comes back with
// less is known whoever leads by then.
func (s *Store) mark() {
	s.said.changing.take()
	defer s.said.changing.leave()
	now := s.steady()
	s.said.mu.Lock()
	marks := s.said.found
	s.said.found = nil
	due := now-s.said.marked >= markEvery && s.version() >= versionAnnounced
	moved := len(marks) > 0
	if due {
		s.said.marked = now
		for node, a := range s.said.heard {
			if a.at != 0 && now-a.at <= announcedFor && a.durable > 0 {
				marks = append(marks, journal.Mark{Node: node, Index: a.durable})
				moved = moved || a.durable > s.said.marks // something but the last marks themselves
			}
		}
	}
	s.said.mu.Unlock()
	if moved {
		s.proposeMarks(marks)
	}
}

func (s *Store) proposeMarks(marks []journal.Mark) {
	w := s.batch.waiter(journal.KindMarks)
	w.body = journal.AppendMarks(w.body, marks[:min(len(marks), maxMarks)])
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	if err == nil {
		s.said.mu.Lock()
		s.said.marks = s.replica.applied.Load()
		s.said.mu.Unlock()
	}
	s.give(w, err)
}

// maxMarks fit into one command, and are more than a cluster has members.
const maxMarks = 100

// announcementOf is what is known of a member.
func (s *Store) announcementOf(node payment.NodeID) announced {
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	return s.said.heard[node]
}

// announcement: version 2 | durable 8 | build, to the end.
func appendAnnouncement(b []byte, a announced) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(a.version))
	b = binary.BigEndian.AppendUint64(b, a.durable)
	return append(b, a.build[:min(len(a.build), maxBuild)]...)
}

// maxBuild is more than the name of any build.
const maxBuild = 100

func readAnnouncement(b []byte) (a announced, err error) {
	if len(b) < 10 || len(b) > 10+maxBuild {
		return a, errBadWire
	}
	return announced{version: journal.Version(binary.BigEndian.Uint16(b)), durable: binary.BigEndian.Uint64(b[2:]), build: string(b[10:])}, nil
}

// The answer: status 1 | how far the asker's disk must have the log, where it
// does not 8 | count 1, {name length 1, name, announcement length 1, announcement}*
func (s *Store) appendAnnouncements(b []byte, has uint64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, statusDone), has)
	s.said.mu.Lock()
	defer s.said.mu.Unlock()
	at, count := len(b), byte(0)
	b = append(b, 0)
	for node, a := range s.said.heard {
		if count == maxMarks || len(node) > MaxNode {
			break
		}
		count++
		b = append(append(b, byte(len(node))), node...)
		one := appendAnnouncement(nil, a)
		b = append(append(b, byte(len(one))), one...)
	}
	b[at] = count
	return b
}

func readAnnouncements(b []byte) (has uint64, all map[payment.NodeID]announced, err error) {
	if len(b) < 10 {
		return 0, nil, errBadWire
	}
	has, all = binary.BigEndian.Uint64(b[1:]), map[payment.NodeID]announced{}
	count, rest := b[9], b[10:]
	field := func() (f []byte) {
		if len(rest) == 0 || int(rest[0]) >= len(rest) {
			err = errBadWire
			return nil
		}
		f, rest = rest[1:1+rest[0]], rest[1+rest[0]:]
		return f
	}
	for range count {
		node, one := field(), field()
		if err != nil {
			return 0, nil, err
		}
		a, err := readAnnouncement(one)
		if err != nil {
			return 0, nil, err
		}
		all[payment.NodeID(node)] = a
	}
	return has, all, nil
}
