package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// connection is the shell around a station: it dials, reads and writes.
type connection struct {
	link    *Link
	station *station
	dial    chan struct{} // the machine wants a socket
	kicked  chan struct{} // there is something to write

	// Under Link.mu. socket is what the station's life runs on, nil between.
	socket    net.Conn
	finishing bool // close once the buffer is written
	aborting  bool // close now
	over      bool // all is said, or the writer failed: the reader must stop
}

func newConnection(l *Link, st *station) *connection {
	return &connection{link: l, station: st, dial: make(chan struct{}, 1), kicked: make(chan struct{}, 1)}
}

// kick wakes the writer. Under Link.mu.
func (c *connection) kick() {
	if c.socket == nil {
		return
	}
	c.station.writing = true
	signal(c.kicked)
}

// obey carries out an effect. Under Link.mu: nothing here blocks.
func (c *connection) obey(e effect) {
	switch e.kind {
	case effectDial:
		signal(c.dial)
	case effectFinish:
		c.finishing = true
		c.kick()
	case effectAbort:
		c.abort()
	case effectAlarm:
		c.link.report(report{kind: reportAlarm, station: c.station.index, line: e.reason})
	case effectKeys:
		c.link.WantKeys(payment.KeyMAC)
	case effectProtect:
		select {
		case c.link.protecting <- protectJob{c.station, c.station.life, e.frame}:
		default:
			c.link.core.counters.Dropped++ // an echo or an answer is asked for again
		}
	case effectCutOver:
		c.link.report(report{kind: reportCutOver, station: c.station.index})
	}
}

// past is a deadline that has passed: it ends every wait on a socket, without
// the blocking that closing a TLS connection can bring.
var past = time.Unix(1, 0)

func (c *connection) abort() {
	c.aborting = true
	if c.socket != nil {
		_ = c.socket.SetDeadline(past) // a socket that refuses is dead already
	}
}

// run dials when the machine says so and serves the socket until it is gone.
func (c *connection) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dial:
		}
		socket, err := c.socketFor(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			c.link.deps.Log.Warn("cannot connect", "connection", c.station.index, "error", err)
			c.link.do(func(now moment) {
				c.station.lastError = err.Error()
				c.link.core.event(now, c.station, eventDialFailed)
			})
			continue
		}
		c.serve(ctx, socket)
	}
}

// socketFor is the next socket: one that this node dials, or one that the acquirer
// opens.
func (c *connection) socketFor(ctx context.Context) (net.Conn, error) {
	if a := c.link.acceptor; a != nil {
		select {
		case socket := <-a.arrived:
			return socket, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := c.link.deps.Dials.wait(ctx); err != nil {
		return nil, err
	}
	return c.open(ctx)
}

// open dials and, where the link has TLS, shakes hands.
func (c *connection) open(ctx context.Context) (net.Conn, error) {
	cfg := &c.link.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	socket, err := c.link.deps.Dial(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Address, err)
	}
	if t, ok := socket.(*net.TCPConn); ok {
		if err := setUserTimeout(t, cfg.UserTimeout); err != nil {
			_ = socket.Close()
			return nil, fmt.Errorf("TCP_USER_TIMEOUT on %s: %w", cfg.Address, err)
		}
	}
	if c.link.tls == nil {
		return socket, nil
	}
	secure := tls.Client(socket, c.link.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("TLS with %s: %w", cfg.Address, err)
	}
	return secure, nil
}

// serve is the life of one socket. The reader runs here, the writer beside it.
func (c *connection) serve(ctx context.Context, socket net.Conn) {
	l := c.link
	l.do(func(now moment) {
		c.socket, c.finishing, c.aborting, c.over = socket, false, false, false
		c.station.life++
		if c.station.life > 1 {
			l.core.counters.Reconnects++
		}
		l.core.event(now, c.station, eventDialed)
	})
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		c.abort()
		l.mu.Unlock()
	})
	defer stop()

	gone := make(chan struct{})
	written := make(chan error, 1)
	go func() { written <- c.write(socket, gone) }()
	err := c.read(socket)
	close(gone)
	_ = socket.SetDeadline(past)
	if werr := <-written; werr != nil && !errors.Is(werr, os.ErrDeadlineExceeded) {
		err = werr
	}
	c.hangUp(socket, err)
}

// hangUp closes the socket and tells the core what was lost with it. Unless
// everything was said, the kernel's buffer is thrown away: nothing that was
// given up may leave later.
func (c *connection) hangUp(socket net.Conn, err error) {
	l := c.link
	l.mu.Lock()
	polite := c.finishing && !c.aborting
	l.mu.Unlock()
	raw := socket
	if t, ok := socket.(*tls.Conn); ok && !polite {
		raw = t.NetConn() // no close_notify: it would wait for a peer that does not read
	}
	if t, ok := raw.(*net.TCPConn); ok && !polite {
		_ = t.SetLinger(0)
	}
	_ = socket.SetDeadline(time.Now().Add(time.Second))
	_ = raw.Close()
	l.do(func(now moment) {
		c.socket = nil
		st := c.station
		if st.machine.state != Down {
			st.lastError = err.Error()
			l.report(report{kind: reportLost, station: st.index, line: err.Error()})
		}
		l.core.lost(now, st)
	})
}

// write puts all that waits into one write, again and again. Before it takes
// the buffer it lets every goroutine run that has something to append: that is
// what makes one write carry twenty messages.
func (c *connection) write(socket net.Conn, gone <-chan struct{}) error {
	for {
		select {
		case <-gone:
			return nil
		case <-c.kicked:
		}
		for {
			runtime.Gosched()
			batch, frames := c.next(socket)
			if frames == 0 {
				break
			}
			_, err := socket.Write(batch)
			c.link.metrics.framesPerWrite.Observe(float64(frames))
			c.done(batch)
			if err != nil {
				c.stopReading(socket)
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}

// next takes the buffer and sets the deadline of its write. When all is
// written and the connection is to close, it ends the reader, and with it the
// connection.
func (c *connection) next(socket net.Conn) (batch []byte, frames int) {
	l := c.link
	wall := l.deps.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.aborting {
		return nil, 0
	}
	batch, frames = l.core.take(c.station, l.now(), wall)
	l.hurry()
	if frames > 0 {
		_ = socket.SetWriteDeadline(time.Now().Add(l.cfg.WriteTimeout)) // if it fails, so does the write
		return batch, frames
	}
	c.station.writing = false
	l.settle() // what was taken out may have been the last of a drain
	if c.finishing && !c.station.writing {
		c.over = true
		_ = socket.SetReadDeadline(past)
	}
	return nil, 0
}

// stopReading ends the reader's wait and keeps it from starting another.
func (c *connection) stopReading(socket net.Conn) {
	c.link.mu.Lock()
	c.over = true
	_ = socket.SetReadDeadline(past)
	c.link.mu.Unlock()
}

func (c *connection) done(batch []byte) {
	c.link.mu.Lock()
	c.station.giveBack(batch)
	c.link.mu.Unlock()
}

// readBuffer is what one read can take: many frames under load.
const readBuffer = 64 << 10

// read cuts the stream into frames until the connection ends.
func (c *connection) read(socket net.Conn) error {
	f := c.link.core.framer
	buf := make([]byte, max(readBuffer, 2*(f.largest+f.overhead())))
	defer clear(buf)
	var m iso8583.Message
	defer m.Wipe()
	end := 0            // of what was received
	var frame time.Time // when the frame that has begun must be whole
	for {
		if err := c.await(socket, frame); err != nil {
			return err
		}
		n, err := socket.Read(buf[end:])
		end += n
		taken, cutErr := c.cut(buf[:end], &m)
		switch {
		case cutErr != nil:
			return cutErr
		case err != nil && taken < end:
			return fmt.Errorf("read: the stream ends inside a frame: %w", err)
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case taken == end:
			frame = time.Time{}
		case taken > 0 || frame.IsZero():
			frame = time.Now().Add(c.link.cfg.FrameTimeout)
		}
		// Card numbers do not stay behind, neither in the buffer nor in a message
		// that nobody took over: a late one, a repeat.
		m.Wipe()
		left := copy(buf, buf[taken:end])
		clear(buf[left:end])
		end = left
	}
}

// cut hands over every whole frame and says how many bytes they took.
func (c *connection) cut(received []byte, m *iso8583.Message) (taken int, err error) {
	for taken < len(received) {
		payload, size, err := c.link.core.framer.cut(received[taken:])
		if err != nil || size == 0 {
			return taken, err
		}
		c.hear(payload, m)
		taken += size
	}
	return taken, nil
}

// await sets the deadline of the next read, unless the connection is to close:
// then the deadline that says so must stand.
func (c *connection) await(socket net.Conn, frame time.Time) error {
	if frame.IsZero() {
		frame = time.Now().Add(c.link.cfg.silence(c.station.machine.can.echo))
	}
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.aborting || c.over {
		return os.ErrDeadlineExceeded
	}
	return socket.SetReadDeadline(frame)
}
