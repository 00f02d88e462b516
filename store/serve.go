package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// commandServer answers the other members: it orders their commands while this
// node leads, and says that it does not otherwise.
type commandServer struct {
	s       *Store
	ln      net.Listener
	running sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// askedAtOnce is how many questions of one member are under way; the next one
// waits in its connection.
const askedAtOnce = 32

func (s *Store) startCommandServer() {
	if s.network == nil {
		return
	}
	c := &commandServer{s: s, ln: s.network.Accept(StreamCommands), conns: map[net.Conn]bool{}}
	s.commands = c
	c.running.Go(c.accept)
}

func (c *commandServer) accept() {
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return // closed: a mesh's listener has no other error
		}
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			_ = conn.Close()
			return
		}
		c.conns[conn] = true
		c.mu.Unlock()
		c.running.Go(func() { c.serve(conn) })
	}
}

func (c *commandServer) close() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.conns {
		hangUp(conn)
	}
	c.mu.Unlock()
	_ = c.ln.Close()
	c.running.Wait()
}

// serve reads questions in order and answers them as they are done.
func (c *commandServer) serve(conn net.Conn) {
	a, name := &answers{conn: conn}, payment.NodeID(c.s.network.Peer(conn))
	places := make(chan struct{}, askedAtOnce)
	var pending sync.WaitGroup
	r := bufio.NewReaderSize(conn, 64<<10)
	var buffer []byte
	for {
		kind, number, payload, b, err := readWire(r, buffer)
		buffer = b
		if err != nil {
			break
		}
		if kind == askKeepalive && !c.s.admits(conn) {
			break // it was removed since it came
		}
		places <- struct{}{}
		wait := c.begin(name, kind, payload)
		pending.Go(func() {
			defer func() { <-places }()
			a.send(kind, number, wait)
		})
	}
	hangUp(conn)
	pending.Wait()
	c.mu.Lock()
	delete(c.conns, conn)
	c.mu.Unlock()
}

// admits says whether the other end is still a member.
func (s *Store) admits(conn net.Conn) bool {
	name := s.network.Peer(conn)
	return book{s}.Admit(name, StreamCommands)
}

// begin starts a question in the order of its arrival; what it returns waits
// for the answer and appends its payload.
func (c *commandServer) begin(from payment.NodeID, kind byte, payload []byte) func([]byte) []byte {
	s := c.s
	if kind == askGreeting && len(payload) == 8 && s.cfg.Version >= versionAnnounced {
		had := s.greeted(from, binary.BigEndian.Uint64(payload))
		return func(b []byte) []byte { return binary.BigEndian.AppendUint64(append(b, statusDone), had) }
	}
	if kind == askIntroduction {
		flags := s.introduction(payment.NodeID(payload))
		return func(b []byte) []byte { return append(b, statusDone, flags) }
	}
	if s.running.Load() == nil {
		return say(statusNotDone) // Raft does not run yet
	}
	switch kind {
	case askPropose:
		p := s.proposalOf(payload)
		s.gate.order(p)
		return func(b []byte) []byte { return s.answerProposal(b, p) }
	case askAnnounce:
		said, err := readAnnouncement(payload)
		if err != nil || s.cfg.Version < versionAnnounced || s.raft.State() != raft.Leader {
			return say(statusNotDone)
		}
		has := s.hearAnnouncement(from, said)
		return func(b []byte) []byte { return s.appendAnnouncements(b, has) }
	case askKeepalive:
		k, err := readKeepalive(payload)
		if err != nil {
			return say(statusNotDone)
		}
		return func(b []byte) []byte {
			answer, err := s.hear(k)
			if err != nil {
				return append(b, statusNotDone)
			}
			return appendAnswer(b, answer)
		}
	case askRead:
		return func(b []byte) []byte {
			index, err := s.leaderIndex()
			if err != nil {
				return append(b, statusNotDone)
			}
			return binary.BigEndian.AppendUint64(append(b, statusDone), index)
		}
	}
	return say(statusNotDone)
}

func say(status byte) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, status) }
}

// proposalOf is another member's batch. It is stamped when it leaves: a clock that
// was found wrong while it waited must not be in it.
func (s *Store) proposalOf(payload []byte) *proposal {
	payload = bytes.Clone(payload) // the reader's
	return &proposal{commands: commandsIn(payload), left: make(chan struct{}), propose: func() raft.ApplyFuture {
		if s.raft.State() != raft.Leader || s.handing.Load() || !beginsSession(payload) && s.clock.undecided() {
			return nil
		}
		entry, err := entryOf(payload, s.clock.now(), s.allows)
		if err != nil {
			return nil
		}
		return s.raft.Apply(entry, enqueueLimit)
	}}
}

func (s *Store) answerProposal(b []byte, p *proposal) []byte {
	<-p.left
	future := p.future
	if future == nil {
		return append(b, statusNotDone)
	}
	if err := future.Error(); err != nil {
		if notAppended(err) {
			return append(b, statusNotDone)
		}
		return append(b, statusUnknown)
	}
	a, ok := future.Response().(*applied)
	if !ok || a == nil {
		return append(b, statusUnknown)
	}
	defer s.replica.pool.Put(a)
	if a.err != nil {
		return append(b, statusUnknown)
	}
	answer, err := appendResults(b, future.Index(), a.results)
	if err != nil {
		s.deps.Log.Error("a result cannot travel", "error", err)
		return append(slices.Clip(b), statusUnknown)
	}
	return answer
}

// notAppended says whether an error of Raft proves that nothing was appended.
func notAppended(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) || errors.Is(err, raft.ErrLeadershipTransferInProgress) ||
		errors.Is(err, errNoLeader) || errors.Is(err, errRefused)
}

// leaderIndex is up to where a reader must have applied to see all that was
// decided before it asked.
func (s *Store) leaderIndex() (uint64, error) {
	if s.own.ready.Load() != s.raft.CurrentTerm() {
		return 0, errRefused // what earlier leaders answered may not be applied here yet
	}
	// The index first: what is decided while leadership is verified came later.
	index := s.replica.applied.Load()
	if err := s.raft.VerifyLeader().Error(); err != nil {
		return 0, fmt.Errorf("%w: %w", errRefused, err)
	}
	return index, nil
}

// answers writes the answers of one connection, whole and one at a time.
type answers struct {
	conn net.Conn
	mu   sync.Mutex
	out  []byte
}

func (a *answers) send(kind byte, number uint64, wait func([]byte) []byte) {
	// Waiting is outside of the lock; only the writing is inside.
	payload := wait(nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out = endFrame(append(beginFrame(a.out, kind|answerBit, number), payload...))
	if a.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
		return
	}
	if _, err := a.conn.Write(a.out); err != nil {
		hangUp(a.conn) // the reader ends, and with it the connection
	}
}
