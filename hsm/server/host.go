package server

import (
	"fmt"

	"authswitch/hsm/payshield"
	"authswitch/hsm/wire"
)

// serveHost is serve for a client that speaks host commands. They are answered
// in order, one after the other, as the HSMs do whose language it is; a client
// that wants more at once opens more connections.
func (c *connection) serveHost() error {
	buf := make([]byte, readBuffer)
	defer clear(buf)
	var out []byte
	end := 0
	for {
		if err := c.await(end > 0); err != nil {
			return err
		}
		n, err := c.socket.Read(buf[end:])
		end += n
		taken, answers, cutErr := c.answerHost(buf[:end], out[:0])
		out = answers
		if err := c.write(out); err != nil {
			return err
		}
		clear(out)
		switch {
		case cutErr != nil:
			return cutErr
		case err != nil && taken < end:
			return fmt.Errorf("the stream ends inside a host command: %w", err)
		case err != nil:
			return err
		}
		left := copy(buf, buf[taken:end])
		clear(buf[left:end])
		end = left
	}
}

// answerHost answers every whole command and says how many bytes they took.
func (c *connection) answerHost(received, out []byte) (taken int, _ []byte, err error) {
	for {
		m, size, err := payshield.Cut(received[taken:], c.server.cfg.HostHeader)
		if size == 0 || err != nil {
			return taken, out, err
		}
		taken += size
		out = c.obey(&m, out)
		if len(out) >= flushAt {
			if err := c.write(out); err != nil {
				return taken, out[:0], err
			}
			out = out[:0]
		}
	}
}

// obey answers one command by the operation that does it.
func (c *connection) obey(m *payshield.Message, out []byte) []byte {
	s := c.server
	call, code := payshield.Parse(m)
	defer clear(call.Fields)
	if code != payshield.OK {
		s.metrics.count(call.Op, wire.StatusMalformed)
		return payshield.Refuse(out, m, code)
	}
	o := &s.table[call.Op]
	if o.handle == nil || !o.run {
		s.metrics.count(call.Op, wire.StatusForbidden)
		return payshield.Refuse(out, m, payshield.Disabled)
	}
	r := &Request{Op: call.Op, Peer: c.peer, Connection: c.name, Fields: wire.Read(call.Fields), role: Run}
	body, err := o.handle(r, nil)
	defer clear(body)
	status := wire.StatusOK
	if err != nil {
		status, _ = s.statusOf(r, err)
	}
	s.metrics.count(call.Op, status)
	return call.Answer(out, m, status, body)
}
