package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// leaderLink is this node's connection to the leader, whoever that is: one,
// pipelined, dialed when it is first needed and dropped when the leadership
// moves. What was under way on it then has an unknown end.
type leaderLink struct {
	dial   func(ctx context.Context, address string) (net.Conn, error)
	broken chan string // an address whose connection ended, and which is to be followed still; capacity 1

	mu      sync.Mutex
	leader  string // address; empty: none, or this node itself
	conn    *leaderConn
	dialing chan struct{} // closed when the dial under way is over
	closed  bool
}

// Errors of asking the leader.
var (
	errNoLeader = errors.New("there is no leader to ask") // nothing was sent
	errAsked    = errors.New("the leader's answer is not known")
	errRefused  = errors.New("the leader refuses") // nothing was appended
)

// follow points the link at another leader.
func (l *leaderLink) follow(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader == address {
		return
	}
	l.leader = address
	if l.conn != nil {
		l.conn.end()
		l.conn = nil
	}
}

func (l *leaderLink) close() {
	l.follow("")
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
}

// ask sends a question and waits for its answer's payload, which is the
// caller's. fill appends the payload of the question.
func (l *leaderLink) ask(ctx context.Context, kind byte, fill func([]byte) []byte) ([]byte, error) {
	c, err := l.connection(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := c.ask(ctx, kind, fill)
	if err != nil {
		l.drop(c)
		return nil, err
	}
	switch {
	case len(answer) == 0:
		return nil, errBadWire
	case answer[0] == statusNotDone:
		return nil, errRefused
	case answer[0] == statusUnknown:
		return nil, errAsked
	}
	return answer, nil
}

// drop gives up a connection that failed or does not answer.
func (l *leaderLink) drop(c *leaderConn) {
	c.end()
	l.mu.Lock()
	if l.conn == c {
		l.conn = nil
	}
	l.mu.Unlock()
}

// connection is the one to the present leader, dialed by one caller for all.
func (l *leaderLink) connection(ctx context.Context) (*leaderConn, error) {
	for {
		l.mu.Lock()
		switch {
		case l.closed || l.leader == "":
			l.mu.Unlock()
			return nil, errNoLeader
		case l.conn != nil:
			c := l.conn
			l.mu.Unlock()
			return c, nil
		case l.dialing != nil:
			wait := l.dialing
			l.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: %w", errNoLeader, ctx.Err())
			}
		}
		address, over := l.leader, make(chan struct{})
		l.dialing = over
		l.mu.Unlock()
		c, err := l.open(ctx, address)
		l.mu.Lock()
		l.dialing = nil
		close(over)
		if err == nil && (l.leader != address || l.closed) {
			err = errNoLeader
			c.end()
		}
		if err == nil {
			l.conn = c
		}
		l.mu.Unlock()
		return c, err
	}
}

// dialTimeout is short: a leader that cannot be reached so long is replaced.
const dialTimeout = time.Second

func (l *leaderLink) open(ctx context.Context, address string) (*leaderConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := l.dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLeader, err)
	}
	c := &leaderConn{conn: conn, waiting: map[uint64]chan []byte{}}
	go func() {
		c.read()
		l.ended(address)
	}()
	return c, nil
}

// ended is told that a connection ended, by either side.
func (l *leaderLink) ended(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.leader != address {
		return
	}
	select {
	case l.broken <- address:
	default: // one is being looked at
	}
}

// leaderConn is one connection and the questions under way on it.
type leaderConn struct {
	conn    net.Conn
	writing sync.Mutex // one frame at a time; taken before mu
	frame   []byte     // under writing

	mu      sync.Mutex
	number  uint64
	waiting map[uint64]chan []byte // capacity 1; closed without an answer
	over    bool
}

func (c *leaderConn) ask(ctx context.Context, kind byte, fill func([]byte) []byte) ([]byte, error) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return nil, errNoLeader
	}
	c.number++
	number, answer := c.number, make(chan []byte, 1)
	c.waiting[number] = answer
	c.mu.Unlock()

	if err := c.send(kind, number, fill); err != nil {
		return nil, err
	}
	select {
	case payload, ok := <-answer:
		if !ok {
			return nil, errAsked
		}
		return payload, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errAsked, ctx.Err())
	}
}

// writeTimeout bounds a write to a leader that does not read.
const writeTimeout = time.Second

func (c *leaderConn) send(kind byte, number uint64, fill func([]byte) []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.frame = endFrame(fill(beginFrame(c.frame, kind, number)))
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("%w: %w", errAsked, err)
	}
	if _, err := c.conn.Write(c.frame); err != nil {
		return fmt.Errorf("%w: %w", errAsked, err)
	}
	return nil
}

// read hands answers to whoever waits for them.
func (c *leaderConn) read() {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	var buffer []byte
	for {
		kind, number, payload, b, err := readWire(r, buffer)
		buffer = b
		if err != nil || kind&answerBit == 0 {
			c.end()
			return
		}
		c.mu.Lock()
		answer := c.waiting[number]
		delete(c.waiting, number)
		c.mu.Unlock()
		if answer != nil {
			answer <- append([]byte(nil), payload...)
		}
	}
}

// end closes the connection; nobody waits any more.
func (c *leaderConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	hangUp(c.conn)
	for number, answer := range c.waiting {
		close(answer)
		delete(c.waiting, number)
	}
}

// indexOf reads the answer to a read.
func indexOf(answer []byte) (uint64, error) {
	if len(answer) != 9 {
		return 0, errBadWire
	}
	return binary.BigEndian.Uint64(answer[1:]), nil
}

// hangUp closes at once: TLS would say goodbye first, and wait for a peer that
// does not read.
func hangUp(conn net.Conn) {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = conn.Close()
}
