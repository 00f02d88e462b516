package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"authswitch/hsm/wire"
)

// connection is one client.
type connection struct {
	server *Server
	socket net.Conn
	role   Role
	name   uint64
	peer   string

	writing sync.Mutex // one write at a time
	slow    atomic.Int32
	workers sync.WaitGroup
	over    atomic.Bool
}

// Sizes of a connection's buffers: what one read takes, and how many answers
// are written before all that was read is answered.
const (
	readBuffer = 64 << 10
	flushAt    = 16 << 10
)

// past is a deadline that has passed: it ends every wait on a socket.
var past = time.Unix(1, 0)

// hangUp ends a connection from outside.
func (c *connection) hangUp() {
	c.over.Store(true)
	_ = c.socket.SetDeadline(past) // a socket that refuses is dead already
}

// run asks who it is, answers until it ends, and says why when that was not the
// client's own wish.
func (c *connection) run(identify Identify) {
	log := c.server.deps.Log.With("listener", c.role.String())
	defer c.socket.Close()
	peer, err := identify(c.socket)
	if err != nil {
		c.server.metrics.turnedAway.Inc()
		log.Warn("connection refused", "error", err)
		return
	}
	c.peer = peer
	if c.role == Host {
		err = c.serveHost()
	} else {
		err = c.serve()
	}
	c.hangUp()
	c.workers.Wait()
	if err != nil && !errors.Is(err, io.EOF) && !c.server.isClosed() {
		log.Warn("connection ended", "peer", peer, "error", err)
	}
}

// serve reads, answers what is quick in one write, and reads again. While it
// writes it does not read: a client that does not take its answers is not asked
// for more, and is let go after a while.
func (c *connection) serve() error {
	buf := make([]byte, readBuffer)
	defer clear(buf)
	r := &Request{Peer: c.peer, Connection: c.name, role: c.role}
	var out []byte
	end := 0
	for {
		if err := c.await(end > 0); err != nil {
			return err
		}
		n, err := c.socket.Read(buf[end:])
		end += n
		taken, out2, cutErr := c.answerAll(buf[:end], r, out[:0])
		out = out2
		if err := c.write(out); err != nil {
			return err
		}
		switch {
		case cutErr != nil:
			return cutErr
		case err != nil && taken < end:
			return fmt.Errorf("the stream ends inside a frame: %w", err)
		case err != nil:
			return err
		}
		// Card numbers and PIN blocks do not stay behind in the buffer.
		left := copy(buf, buf[taken:end])
		clear(buf[left:end])
		end = left
	}
}

// await sets the deadline of the next read: a frame that began must end soon.
func (c *connection) await(inside bool) error {
	d := c.server.cfg.IdleTimeout
	if inside {
		d = c.server.cfg.FrameTimeout
	}
	if err := c.socket.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	if c.over.Load() { // hangUp came between
		return os.ErrDeadlineExceeded
	}
	return nil
}

// answerAll answers every whole frame and says how many bytes they took. Many
// answers are written in between: the client works on them meanwhile.
func (c *connection) answerAll(received []byte, r *Request, out []byte) (taken int, _ []byte, err error) {
	now := c.server.deps.Now().UnixNano()
	for {
		q, size, err := wire.CutRequest(received[taken:])
		if size == 0 && err == nil {
			return taken, out, nil
		}
		if errors.Is(err, wire.ErrVersion) && size > 0 {
			out = c.say(out, wire.StatusVersion, q.ID, nil)
			return taken + size, out, err
		}
		if err != nil {
			out = c.say(out, wire.StatusMalformed, 0, nil)
			return taken, out, err
		}
		taken += size
		out = c.answer(q, r, out, now)
		if len(out) >= flushAt {
			if err := c.write(out); err != nil {
				return taken, out[:0], err
			}
			out = out[:0]
			now = c.server.deps.Now().UnixNano()
		}
	}
}

// say appends an answer without fields, or with a text.
func (c *connection) say(out []byte, s wire.Status, id uint64, text []byte) []byte {
	start := len(out)
	out = wire.BeginResponse(out, s, id)
	if len(text) > 0 {
		out = wire.AppendBytes(out, text[:min(len(text), maxText)])
	}
	_ = wire.Finish(out, start) // it is short
	return out
}

// maxText bounds what an answer says in words.
const maxText = 512

// answer answers one request, or hands it to a worker.
func (c *connection) answer(q wire.Request, r *Request, out []byte, now int64) []byte {
	s := c.server
	o := &s.table[q.Op]
	var status wire.Status
	switch {
	case o.handle == nil:
		status = wire.StatusUnknown
	case c.role == Admin && !o.admin, c.role == Run && !o.run:
		status = wire.StatusForbidden
	case q.Deadline != 0 && q.Deadline <= now:
		status = wire.StatusDeadline
	case !o.quick:
		status = c.employ(q, o)
		if status == wire.StatusOK {
			return out
		}
	default:
		r.Op, r.Deadline, r.Fields = q.Op, q.Deadline, wire.Read(q.Body)
		return c.perform(o, r, q.ID, out)
	}
	s.metrics.count(q.Op, status)
	return c.say(out, status, q.ID, nil)
}

// perform runs a handler and appends its answer.
func (c *connection) perform(o *operation, r *Request, id uint64, out []byte) []byte {
	start := len(out)
	answer, err := o.handle(r, wire.BeginResponse(out, wire.StatusOK, id))
	if err == nil {
		err = wire.Finish(answer, start)
	}
	if err == nil {
		c.server.metrics.count(r.Op, wire.StatusOK)
		return answer
	}
	status, text := c.server.statusOf(r, err)
	c.server.metrics.count(r.Op, status)
	clear(answer[start:])
	return c.say(answer[:start], status, id, text)
}

// job is a request that a worker answers, with a copy of its fields.
type job struct {
	body, out []byte
	request   Request
}

var jobs = sync.Pool{New: func() any { return new(job) }}

// employ gives a request to a worker, unless all are at work.
func (c *connection) employ(q wire.Request, o *operation) wire.Status {
	s := c.server
	if c.slow.Add(1) > int32(s.cfg.PerConnection) {
		c.slow.Add(-1)
		return wire.StatusBusy
	}
	select {
	case s.slow <- struct{}{}:
	default:
		c.slow.Add(-1)
		return wire.StatusBusy
	}
	j := jobs.Get().(*job)
	j.body = append(j.body[:0], q.Body...)
	j.request = Request{Op: q.Op, Peer: c.peer, Connection: c.name, Deadline: q.Deadline, Fields: wire.Read(j.body), role: c.role}
	id := q.ID
	c.workers.Go(func() {
		j.out = c.perform(o, &j.request, id, j.out[:0])
		<-s.slow
		if err := c.write(j.out); err != nil {
			c.hangUp()
		}
		c.slow.Add(-1)
		clear(j.body[:cap(j.body)])
		clear(j.out[:cap(j.out)])
		j.request = Request{}
		jobs.Put(j)
	})
	return wire.StatusOK
}

// write writes whole frames.
func (c *connection) write(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.socket.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteTimeout)); err != nil {
		return err
	}
	if c.over.Load() { // hangUp came between
		return os.ErrDeadlineExceeded
	}
	if _, err := c.socket.Write(frames); err != nil {
		return fmt.Errorf("the client does not take its answers: %w", err)
	}
	return nil
}
