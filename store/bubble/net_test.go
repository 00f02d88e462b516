package bubble_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"authswitch/store"
)

// fabric is the network: listeners by address, lines that delay, and cuts from
// one host to another that may be one-way.
//
// Lines and listeners belong to a process, not to its host: one that crashed is
// wound up while the host's next life serves, and must not dial under its name.
type fabric struct {
	mu        sync.Mutex
	r         *rand.Rand
	listeners map[string]*listener // by address and stream
	lines     map[*line]struct{}
	cuts      map[[2]string]bool // what the first host sends does not reach the second
	slow      time.Duration
	trace     *trace
	made      uint64 // lines, ever
}

func newFabric(r *rand.Rand, t *trace) *fabric {
	return &fabric{r: r, trace: t, listeners: map[string]*listener{}, lines: map[*line]struct{}{}, cuts: map[[2]string]bool{}}
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

// process is one life of a program on a host.
type process struct {
	f    *fabric
	host string
	dead bool // nothing it does reaches the network any more; under f.mu
}

func (f *fabric) process(host string) *process { return &process{f: f, host: host} }

// end breaks every line of the process at once and refuses it new ones, as the
// kernel does at the end of a process. What it sent before may still arrive.
func (p *process) end() {
	f := p.f
	f.mu.Lock()
	p.dead = true
	var dead []*end
	for l := range f.lines {
		for _, e := range l.ends {
			if e.owner == p {
				dead = append(dead, e)
			}
		}
	}
	for key, l := range f.listeners {
		if l.owner == p {
			delete(f.listeners, key)
			l.end()
		}
	}
	f.mu.Unlock()
	slices.SortFunc(dead, func(a, b *end) int { return cmp.Or(cmp.Compare(a.line.number, b.line.number), a.side-b.side) }) // not as a map's addresses have it
	for _, e := range dead {
		_ = e.Close()
	}
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

// dial takes a round trip, or the caller's whole patience where a cut lies
// between.
func (p *process) dial(ctx context.Context, to, name string) (net.Conn, error) {
	f := p.f
	if f.isCut(p.host, to) || f.isCut(to, p.host) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(2 * f.hop())
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[name]
	if l == nil || p.dead {
		return nil, errUnreachable
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
	ended         bool // the other side closed: after what is in comes the end
	read, written time.Time
}

type parcel struct {
	at   time.Time
	data []byte
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
	case len(e.in) > 0 && !e.in[0].at.After(now):
		n = copy(b, e.in[0].data)
		if e.in[0].data = e.in[0].data[n:]; len(e.in[0].data) == 0 {
			e.in = e.in[1:]
		}
		return 0, n, nil
	case len(e.in) > 0:
		wait = e.in[0].at.Sub(now)
	case e.ended:
		return 0, 0, io.EOF
	}
	if !e.read.IsZero() {
		wait = min(wait, e.read.Sub(now))
	}
	return max(wait, 1), 0, nil
}

// Write hands bytes to the network; it never waits.
func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	closed, late := e.closed, !e.written.IsZero() && !time.Now().Before(e.written)
	gone := e.ended
	e.mu.Unlock()
	switch {
	case closed:
		return 0, net.ErrClosed
	case late:
		return 0, os.ErrDeadlineExceeded
	case gone:
		return 0, io.ErrClosedPipe
	}
	e.line.f.trace.add('>', e.local(), e.opposite(), b)
	at := time.Now().Add(e.line.f.hop())
	o := e.other()
	o.mu.Lock()
	if at.Before(o.arrives) {
		at = o.arrives
	}
	o.arrives = at
	o.in = append(o.in, parcel{at, append([]byte(nil), b...)})
	o.mu.Unlock()
	o.signal()
	return len(b), nil
}

func (e *end) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *end) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.signal()
	o := e.other()
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	o.signal()
	f := e.line.f
	f.mu.Lock()
	delete(f.lines, e.line)
	f.mu.Unlock()
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
