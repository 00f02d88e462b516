package bubble_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"authswitch/store"
)

// fabric is the network: listeners by address, lines that delay, cuts from one
// host to another that may be one-way, and hosts that lose their power.
//
// Lines and listeners belong to a process, not to its host: one that crashed is
// wound up while the host's next life serves, and must not dial under its name.
type fabric struct {
	mu        sync.Mutex
	r         *rand.Rand
	listeners map[string]*listener // by address and stream
	lines     map[*line]struct{}
	cuts      map[[2]string]bool // what the first host sends does not reach the second
	dark      map[string]bool    // hosts without power
	slow      time.Duration
	trace     *trace
	made      uint64 // lines, ever
}

func newFabric(r *rand.Rand, t *trace) *fabric {
	return &fabric{r: r, trace: t, listeners: map[string]*listener{}, lines: map[*line]struct{}{}, cuts: map[[2]string]bool{}, dark: map[string]bool{}}
}

var errUnreachable = errors.New("host unreachable")

// cut sets or ends a one-way cut.
func (f *fabric) cut(from, to string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on {
		f.cuts[[2]string{from, to}] = true
	} else {
		delete(f.cuts, [2]string{from, to})
	}
}

func (f *fabric) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.cuts)
	f.slow = 0
}

func (f *fabric) isCut(from, to string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cuts[[2]string{from, to}]
}

// hop is how long some bytes travel.
func (f *fabric) hop() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 50*time.Microsecond + time.Duration(f.r.Int64N(int64(time.Millisecond+f.slow)))
}

func (p *process) listen(name string) *listener {
	l := &listener{owner: p, name: name, conns: make(chan net.Conn, 64), over: make(chan struct{})}
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.dead {
		l.end()
		return l
	}
	p.f.listeners[name] = l
	return l
}

// dial takes a round trip. Where nobody listens the host's kernel refuses, and
// where a cut lies between, or the host has no power, it takes the caller's whole
// patience.
func (p *process) dial(ctx context.Context, to, name string) (net.Conn, error) {
	f := p.f
	if !f.isCut(p.host, to) && !f.isCut(to, p.host) {
		time.Sleep(2 * f.hop())
		if conn, err := p.connect(to, name); conn != nil || err != nil {
			return conn, err
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// connect returns neither a line nor an error where the host is dark.
func (p *process) connect(to, name string) (net.Conn, error) {
	f := p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[name]
	switch {
	case p.dead:
		return nil, errUnreachable
	case f.dark[to]:
		return nil, nil
	case l == nil:
		return nil, fmt.Errorf("dial %s: %w", name, syscall.ECONNREFUSED)
	}
	x := newLine(f, p, l.owner)
	select {
	case l.conns <- x.ends[1]:
	default:
		return nil, errUnreachable
	}
	f.lines[x] = struct{}{}
	return x.ends[0], nil
}

type listener struct {
	owner *process
	name  string
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *listener) end() { l.once.Do(func() { close(l.over) }) }

func (l *listener) Close() error {
	l.end()
	f := l.owner.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners[l.name] == l {
		delete(f.listeners, l.name)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return place(l.owner.host) }

type place string

func (place) Network() string  { return "bubble" }
func (p place) String() string { return string(p) }

// line is one connection between two processes.
type line struct {
	f      *fabric
	number uint64 // in the order of their beginning
	ends   [2]*end
}

func newLine(f *fabric, from, to *process) *line {
	f.made++
	x := &line{f: f, number: f.made}
	for i, p := range []*process{from, to} {
		x.ends[i] = &end{line: x, side: i, owner: p, wake: make(chan struct{}, 1)}
	}
	return x
}

// end is one side of a line: a net.Conn with deadlines.
type end struct {
	line  *line
	side  int
	owner *process
	wake  chan struct{}

	mu            sync.Mutex
	in            []parcel // on its way to this side
	arrives       time.Time
	closed        bool // by this side
	forgotten     bool // this side's host lost its power
	unheard       bool // something was written to a host without power: TCP sends it again
	read, written time.Time
}

// parcel is some bytes, or what ends the line.
type parcel struct {
	at   time.Time
	data []byte
	err  error
}

func (e *end) other() *end      { return e.line.ends[1-e.side] }
func (e *end) local() string    { return e.owner.host }
func (e *end) opposite() string { return e.other().owner.host }

// cutPoll is how soon after the end of a cut what waited behind it arrives: TCP
// sends it again.
const cutPoll = 50 * time.Millisecond

// Read waits for bytes whose time has come, the end of the line or a deadline.
func (e *end) Read(b []byte) (int, error) {
	for {
		wait, n, err := e.try(b)
		if n > 0 || err != nil || wait == 0 {
			return n, err
		}
		t := time.NewTimer(wait)
		select {
		case <-e.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

const forever = time.Hour

// try takes what has arrived, or says how long to wait.
func (e *end) try(b []byte) (wait time.Duration, n int, err error) {
	cut := e.line.f.isCut(e.opposite(), e.local())
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.closed {
		return 0, 0, net.ErrClosed
	}
	if !e.read.IsZero() && !now.Before(e.read) {
		return 0, 0, os.ErrDeadlineExceeded
	}
	wait = forever
	switch {
	case cut:
		wait = cutPoll
	case e.over(now):
		return 0, 0, e.in[0].err
	case len(e.in) > 0 && !e.in[0].at.After(now):
		n = copy(b, e.in[0].data)
		if e.in[0].data = e.in[0].data[n:]; len(e.in[0].data) == 0 {
			e.in = e.in[1:]
		}
		return 0, n, nil
	case len(e.in) > 0:
		wait = e.in[0].at.Sub(now)
	}
	if !e.read.IsZero() {
		wait = min(wait, e.read.Sub(now))
	}
	return max(wait, 1), 0, nil
}

// over says whether nothing more is to be read than how the line ended.
func (e *end) over(now time.Time) bool {
	return len(e.in) > 0 && e.in[0].err != nil && !e.in[0].at.After(now)
}

// Write hands bytes to the network; it never waits.
func (e *end) Write(b []byte) (int, error) {
	f := e.line.f
	cut := f.isCut(e.opposite(), e.local())
	e.mu.Lock()
	now := time.Now()
	closed, late := e.closed, !e.written.IsZero() && !now.Before(e.written)
	over := !cut && e.over(now)
	e.mu.Unlock()
	switch {
	case closed:
		return 0, net.ErrClosed
	case late:
		return 0, os.ErrDeadlineExceeded
	case over:
		return 0, syscall.EPIPE
	}
	f.trace.add('>', e.local(), e.opposite(), b)
	o := e.other()
	if !o.deliver(f.hop(), parcel{data: append([]byte(nil), b...)}) {
		e.unanswered()
	}
	return len(b), nil
}

// deliver sends this side a parcel, behind what is under way. false: its host has
// forgotten the line.
func (e *end) deliver(hop time.Duration, p parcel) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.forgotten {
		return false
	}
	if p.at = time.Now().Add(hop); p.at.Before(e.arrives) {
		p.at = e.arrives
	}
	e.arrives = p.at
	if n := len(e.in); n == 0 || e.in[n-1].err == nil { // nothing comes behind the end
		e.in = append(e.in, p)
	}
	e.signal()
	return true
}

func (e *end) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close ends the line. Where something is still to be read here the kernel says so:
// the other side hears no ordinary end.
func (e *end) Close() error {
	f := e.line.f
	e.mu.Lock()
	again := e.closed
	e.closed = true
	last := parcel{err: io.EOF}
	if len(e.in) > 0 && e.in[0].err == nil {
		last.err = syscall.ECONNRESET
	}
	e.mu.Unlock()
	if again {
		return nil
	}
	e.signal()
	o := e.other()
	o.deliver(f.hop(), last)
	if o.is(&o.closed) { // else the end of its process must find it
		f.mu.Lock()
		delete(f.lines, e.line)
		f.mu.Unlock()
	}
	return nil
}

func (e *end) LocalAddr() net.Addr  { return place(e.local()) }
func (e *end) RemoteAddr() net.Addr { return place(e.opposite()) }

func (e *end) SetDeadline(t time.Time) error {
	return errors.Join(e.SetReadDeadline(t), e.SetWriteDeadline(t))
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	e.read = t
	e.mu.Unlock()
	e.signal()
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.mu.Lock()
	e.written = t
	e.mu.Unlock()
	return nil
}

// mesh is a node's store.Network on the fabric.
type mesh struct {
	p         *process
	listeners map[string]*listener
}

func (p *process) mesh() *mesh {
	m := &mesh{p: p, listeners: map[string]*listener{}}
	for _, stream := range []string{store.StreamRaft, store.StreamCommands} {
		m.listeners[stream] = p.listen(p.host + "/" + stream)
	}
	return m
}

func (m *mesh) Accept(stream string) net.Listener {
	if l := m.listeners[stream]; l != nil {
		return l
	}
	l := m.p.listen(m.p.host + "/" + stream)
	m.listeners[stream] = l
	return l
}

func (m *mesh) Dial(ctx context.Context, stream, address string) (net.Conn, error) {
	return m.p.dial(ctx, address, address+"/"+stream)
}

func (m *mesh) Close() error {
	for _, l := range m.listeners {
		_ = l.Close()
	}
	return nil
}

// Peer is who is at the other end.
func (m *mesh) Peer(c net.Conn) string { return c.RemoteAddr().String() }
