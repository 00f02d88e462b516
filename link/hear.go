package link

import (
	"errors"
	"time"

	"authswitch/iso8583"
)

// hear takes in one frame, in the reader's goroutine. m is the reader's own
// message; what must outlive this call is swapped out of it.
func (c *connection) hear(payload []byte, m *iso8583.Message) {
	l := c.link
	if payload == nil {
		l.do(func(now moment) { l.core.heartbeat(now, c.station) })
		return
	}
	err := l.dialect.Unpack(m, payload)
	kind := kindOf(m, err)
	if kind != frameNone && l.verifier != nil && l.dialect.WantsMAC(m.MTI()) {
		l.verifier.put(c, m, err) // checked before anything else is believed
		return
	}
	c.believe(kind, m, err)
}

// believe takes in a message that may be what it says. err is what was wrong
// with decoding it.
func (c *connection) believe(kind frameKind, m *iso8583.Message, err error) {
	switch kind {
	case frameReject:
		c.hearReject(m)
	case frameNetwork:
		c.hearNetwork(m)
	case frameAnswer:
		c.hearAnswer(m, err)
	case frameNone:
		c.unparsable(err)
	case frameBroken:
		c.unparsable(err)
		c.refuse(m)
	case frameRequest:
		c.refuse(m)
	}
}

// frameKind is what an unpacked frame is to a link.
type frameKind uint8

const (
	frameNone    frameKind = iota // no message, or nobody can tell whose
	frameReject                   // the peer refuses a message of ours as such
	frameNetwork                  // an 0800 or 0810
	frameAnswer                   // a response to a request of ours
	frameBroken                   // a request that cannot be unpacked to its end
	frameRequest                  // a request: none is served here
)

// kindOf tells the kinds apart by the message and what Unpack said about it.
func kindOf(m *iso8583.Message, err error) frameKind {
	if err != nil && !readable(err) {
		return frameNone
	}
	mti := m.MTI()
	switch {
	case m.Rejected() || mti.Class() == iso8583.ClassAdministrative:
		return frameReject
	case mti.Class() == iso8583.ClassNetwork && err == nil:
		return frameNetwork
	case mti.IsResponse() && mti.Class() != iso8583.ClassNetwork:
		return frameAnswer
	case err != nil:
		return frameBroken
	}
	return frameRequest
}

// readable says whether a message that could not be unpacked to its end can
// still be told whose it is: its type and bitmaps were read, and some elements.
func readable(err error) bool {
	if errors.Is(err, iso8583.ErrTrailing) {
		return true
	}
	var fe *iso8583.FieldError
	return errors.As(err, &fe) && fe.DE > 1
}

// hearAnswer is the hot path: one look-up under the lock, the wake-up of the
// one who waits, one histogram.
func (c *connection) hearAnswer(m *iso8583.Message, fault error) {
	l := c.link
	e := readEchoed(m)
	var starved time.Duration
	if l.deps.Starved != nil {
		starved = l.deps.Starved() // it may ask the runtime: not under the lock
	}
	l.mu.Lock()
	now := l.now()
	l.core.starved = starved
	heard, g, took := l.core.answered(now, c.station, &e, m, fault != nil)
	switch heard {
	case heardAnswer:
		if len(l.core.orders) > 0 {
			l.settle()
		}
		l.mu.Unlock()
		l.metrics.roundTrip.Observe(took.seconds())
		if fault != nil {
			c.unparsable(fault)
		}
		return
	case heardLate:
		l.report(report{kind: reportLate, station: c.station.index, ghost: g, message: own(m), line: describe(&e)})
	case heardUnmatched:
		if !l.strange.Allow() { // a look at every pending key, under the lock, is not for a flood
			l.core.counters.Dropped++
			break
		}
		l.report(report{kind: reportUnmatched, station: c.station.index, message: own(m), line: l.unmatchedLine(&e)})
	}
	l.mu.Unlock()
}

// own swaps a message out of the reader's hands.
func own(m *iso8583.Message) *iso8583.Message {
	o := new(iso8583.Message)
	o.Swap(m)
	return o
}

func (c *connection) hearReject(m *iso8583.Message) {
	l := c.link
	e := readEchoed(m)
	header := m.Rejected()
	l.do(func(now moment) {
		if !l.core.rejected(now, c.station, &e) {
			l.report(report{kind: reportUnmatched, station: c.station.index, message: nil, line: "reject: " + l.unmatchedLine(&e)})
		}
		if mti := m.MTI(); !header && (mti.IsAdvice() || mti.IsRequest()) {
			l.core.append(c.station, func(dst []byte) ([]byte, error) { return l.dialect.EncodeAnswer(dst, m, l.codec.accept) })
		}
	})
}

func (c *connection) hearNetwork(m *iso8583.Message) {
	l := c.link
	n, ok := l.dialect.DecodeNetwork(m)
	if !ok {
		c.refuse(m)
		return
	}
	var rtt moment
	l.do(func(now moment) { rtt = l.core.network(now, c.station, n, m) })
	if rtt > 0 {
		l.metrics.echoRTT.Observe(rtt.seconds())
	}
}

// refuse answers a request that this side cannot serve with a format error:
// never silence. What is neither request nor advice is not answered, so that
// two switches cannot play ping-pong.
func (c *connection) refuse(m *iso8583.Message) {
	l := c.link
	mti := m.MTI()
	l.do(func(now moment) {
		c.station.machine.heard = now
		if mti.IsResponse() || mti.Function() > iso8583.FunctionNotification {
			l.core.counters.Unmatched++
			return
		}
		l.core.append(c.station, func(dst []byte) ([]byte, error) { return l.codec.refuse(dst, m) })
	})
}

// unparsable counts a frame that is no message. Errors of the codec hold no
// values.
func (c *connection) unparsable(err error) {
	l := c.link
	l.mu.Lock()
	l.core.counters.Unparsable++
	l.report(report{kind: reportUnparsable, station: c.station.index, line: err.Error()})
	l.mu.Unlock()
}
