package bubble_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"authswitch/store"
)

// fabric is the network: listeners by address, lines that delay, and cuts from
// one host to another that may be one-way.
type fabric struct {
	mu        sync.Mutex
	r         *rand.Rand
	listeners map[string]*listener // by address and stream
	lines     map[*line]struct{}
	cuts      map[[2]string]bool // what the first host sends does not reach the second
	slow      time.Duration
}

func newFabric(r *rand.Rand) *fabric {
	return &fabric{r: r, listeners: map[string]*listener{}, lines: map[*line]struct{}{}, cuts: map[[2]string]bool{}}
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

// drop breaks every line of a host at once, as the end of its process does.
func (f *fabric) drop(host string) {
	f.mu.Lock()
	var dead []*line
	for l := range f.lines {
		if l.hosts[0] == host || l.hosts[1] == host {
			dead = append(dead, l)
		}
	}
	for key, l := range f.listeners {
		if l.host == host {
			delete(f.listeners, key)
			l.end()
		}
	}
	f.mu.Unlock()
	for _, l := range dead {
		l.kill(host)
	}
}

func (f *fabric) listen(host, name string) *listener {
	l := &listener{f: f, host: host, name: name, conns: make(chan net.Conn, 64), over: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners[name] = l
	return l
}

// dial takes a round trip, or the caller's whole patience where a cut lies
// between.
func (f *fabric) dial(ctx context.Context, from, to, name string) (net.Conn, error) {
	if f.isCut(from, to) || f.isCut(to, from) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(2 * f.hop())
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[name]
	if l == nil {
		return nil, errUnreachable
	}
	x := newLine(f, from, to)
	select {
	case l.conns <- x.ends[1]:
	default:
		return nil, errUnreachable
	}
	f.lines[x] = struct{}{}
	return x.ends[0], nil
}

type listener struct {
	f     *fabric
	host  string
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
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if l.f.listeners[l.name] == l {
		delete(l.f.listeners, l.name)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return place(l.host) }

type place string

func (place) Network() string  { return "bubble" }
func (p place) String() string { return string(p) }

// line is one connection between two hosts.
type line struct {
	f     *fabric
	hosts [2]string
	ends  [2]*end
}

func newLine(f *fabric, from, to string) *line {
	x := &line{f: f, hosts: [2]string{from, to}}
	for i := range x.ends {
		x.ends[i] = &end{line: x, side: i, wake: make(chan struct{}, 1)}
	}
	return x
}

// kill breaks the line: a host's process is gone. What it sent before may still
// arrive; the other side sees the end when no cut lies between.
func (x *line) kill(host string) {
	for i, h := range x.hosts {
		if h == host {
			_ = x.ends[i].Close()
		}
	}
}

// end is one side of a line: a net.Conn with deadlines.
type end struct {
	line *line
	side int
	wake chan struct{}

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
func (e *end) local() string    { return e.line.hosts[e.side] }
func (e *end) opposite() string { return e.line.hosts[1-e.side] }

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
	f         *fabric
	host      string
	listeners map[string]*listener
}

func (f *fabric) mesh(host string) *mesh {
	m := &mesh{f: f, host: host, listeners: map[string]*listener{}}
	for _, stream := range []string{store.StreamRaft, store.StreamCommands} {
		m.listeners[stream] = f.listen(host, host+"/"+stream)
	}
	return m
}

func (m *mesh) Accept(stream string) net.Listener {
	if l := m.listeners[stream]; l != nil {
		return l
	}
	l := m.f.listen(m.host, m.host+"/"+stream)
	m.listeners[stream] = l
	return l
}

func (m *mesh) Dial(ctx context.Context, stream, address string) (net.Conn, error) {
	return m.f.dial(ctx, m.host, address, address+"/"+stream)
}

func (m *mesh) Close() error {
	for _, l := range m.listeners {
		_ = l.Close()
	}
	return nil
}

// Peer is who is at the other end.
func (m *mesh) Peer(c net.Conn) string { return c.RemoteAddr().String() }
