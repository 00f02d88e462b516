package api

import (
	"net"
	"time"
)

// wipingListener and wipingConn keep card data from lingering in a
// connection's read buffer: what the server offers to be read into is free
// space, so whatever an earlier request left there is overwritten before the
// wait for the next one. (With TLS this covers the plain text only as far as
// it reaches our buffer.)
type wipingListener struct {
	net.Listener
	slack time.Duration
}

func (l wipingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // fasthttp compares it
	}
	return &wipingConn{Conn: c, reading: deadline{slack: l.slack}, writing: deadline{slack: l.slack}}, nil
}

// wipingConn belongs to the goroutine that serves the connection; only Close
// comes from others.
type wipingConn struct {
	net.Conn
	end   *byte // last byte of the buffer that was read into
	clean int   // bytes before the buffer's end that nothing was read into since they were wiped

	reading, writing deadline
}

// Read wipes what earlier reads left in p. The server reads into the free tail
// of one buffer, so what is dirty is known by its distance from the end, and
// the rest of the buffer, most of it, stays out of the processor's caches.
func (c *wipingConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Read(p) //nolint:wrapcheck // fasthttp compares it
	}
	if end := &p[len(p)-1]; end != c.end { // another buffer: all of it may be dirty
		c.end, c.clean = end, 0
	}
	clear(p[:max(0, len(p)-c.clean)])
	if until, due := c.reading.due(); due {
		if err := c.Conn.SetReadDeadline(until); err != nil {
			return 0, err //nolint:wrapcheck // fasthttp compares it
		}
	}
	n, err := c.Conn.Read(p)
	c.clean = len(p) - n
	return n, err //nolint:wrapcheck // fasthttp compares it
}

// Write sets the deadline that was asked for, and writes.
func (c *wipingConn) Write(p []byte) (int, error) {
	if until, due := c.writing.due(); due {
		if err := c.Conn.SetWriteDeadline(until); err != nil {
			return 0, err //nolint:wrapcheck // fasthttp compares it
		}
	}
	return c.Conn.Write(p) //nolint:wrapcheck // fasthttp compares it
}

// SetReadDeadline notes the deadline of the next Read.
func (c *wipingConn) SetReadDeadline(t time.Time) error {
	c.reading.wanted = t
	return nil
}

// SetWriteDeadline notes the deadline of the next Write.
func (c *wipingConn) SetWriteDeadline(t time.Time) error {
	c.writing.wanted = t
	return nil
}

// SetDeadline does both.
func (c *wipingConn) SetDeadline(t time.Time) error {
	c.reading.wanted, c.writing.wanted = t, t
	return nil
}

// deadline is what the server wants and what the connection has. The server
// sets three for each request, and each costs a lock and a timer; nearly all
// are a little later than what stands, and then what stands is good enough.
type deadline struct {
	wanted, set time.Time
	slack       time.Duration
}

// due says what must be set before waiting: what is earlier than what stands,
// or later by more than slack.
func (d *deadline) due() (time.Time, bool) {
	if d.wanted.IsZero() != d.set.IsZero() || d.wanted.Before(d.set) || d.wanted.Sub(d.set) > d.slack {
		d.set = d.wanted
		return d.set, true
	}
	return time.Time{}, false
}

// deadlineSlack is how much earlier than asked for a wait may end: an eighth of
// the shortest timeout, a quarter of a second at most.
func deadlineSlack(timeouts ...time.Duration) time.Duration {
	slack := 250 * time.Millisecond
	for _, t := range timeouts {
		slack = min(slack, t/8)
	}
	return slack
}
