package link

import (
	"bytes"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// This file is the receiving half of core: frames of the peer, and the effects
// of the machines.

// heartbeatGuard is the least time between two heartbeats of the peer that are
// echoed. A peer that echoes ours would otherwise play ping-pong for ever.
const heartbeatGuard = moment(1e9)

// hearing is what became of an answer.
type hearing uint8

const (
	heardAnswer    hearing = iota // a request is complete
	heardLate                     // its request was over, or had another answer
	heardUnmatched                // nothing waits for it
)

// exchangeWaits is how often an exchange waits for a processor here: the writer,
// and the reader.
const exchangeWaits = 2

// answered gives a response to the request it belongs to. fault says that the
// message could not be decoded to its end: its request is complete all the
// same, with an unknown outcome.
func (c *core) answered(now moment, st *station, e *echoed, m *iso8583.Message, fault bool) (hearing, ghost, moment) {
	st.machine.heard = now
	p := c.table.match(e, c.rule)
	if p == nil {
		if g, ok := c.memory.match(e, c.rule); ok {
			c.counters.Late++
			return heardLate, g, 0
		}
		if g, ok := c.table.answered.second(e, c.rule); ok {
			c.counters.Late++
			return heardLate, g, 0
		}
		c.counters.Unmatched++
		return heardUnmatched, ghost{}, 0
	}
	took := now - p.appended
	if !p.key.owed {
		c.adaptive.answered(now, max(0, time.Duration(took)-exchangeWaits*c.starved))
	}
	if fault {
		c.giveUp(p, errUnparsable, now)
		return heardAnswer, ghost{}, took
	}
	if p.answer != nil {
		p.answer.Swap(m)
	}
	c.table.answered.note(p, e.code)
	c.finish(p, nil, now)
	return heardAnswer, ghost{}, took
}

// rejected completes the request that a reject message means.
func (c *core) rejected(now moment, st *station, e *echoed) bool {
	st.machine.heard = now
	p := c.table.rejected(e, c.rule)
	if p == nil {
		c.counters.Unmatched++
		return false
	}
	c.counters.Rejected++
	c.giveUp(p, errRejected, now)
	return true
}

// network takes in an 0800 or 0810. It reports the round trip of an echo, 0
// when the message was none of ours.
func (c *core) network(now moment, st *station, n payment.NetworkMessage, m *iso8583.Message) moment {
	st.machine.heard = now
	if !n.Response {
		c.peerAsks(now, st, n, m)
		return 0
	}
	f, ok := st.expected(n)
	if !ok {
		// An echo response is never echoed, and an answer to nothing changes
		// nothing.
		c.counters.Unmatched++
		return 0
	}
	st.asked[f] = 0
	switch f {
	case payment.SignOn:
		if n.Accepted {
			c.event(now, st, eventSignOnAccepted)
		} else {
			st.lastError = "sign-on refused with " + n.Code.String()
			c.event(now, st, eventSignOnRefused)
		}
	case payment.SignOff:
		c.event(now, st, eventSignOffAnswered)
	case payment.Echo:
		return c.echoed(now, st)
	case payment.KeyExchange:
		if c.keyAnswer != nil {
			c.keyAnswer(n)
		}
	}
	return 0
}

func (c *core) echoed(now moment, st *station) moment {
	if st.machine.echoAt != 0 {
		st.echoRTT = now - st.machine.lastEcho
		st.echoes++
	}
	c.event(now, st, eventEchoAnswered)
	return st.echoRTT
}

// expected is the function of ours that a response answers.
func (s *station) expected(n payment.NetworkMessage) (payment.NetworkFunction, bool) {
	for f, stan := range s.asked {
		f := payment.NetworkFunction(f)
		if stan != 0 && stan == n.STAN && (n.Function == f || n.Function == payment.NetworkOther) {
			return f, true
		}
	}
	return 0, false
}

// peerAsks answers the peer's 0800, whatever the state.
func (c *core) peerAsks(now moment, st *station, n payment.NetworkMessage, m *iso8583.Message) {
	if n.Function == payment.KeyExchange && c.keyMessage != nil && st.machine.state != Down && c.keyMessage(st, m) {
		return // answered once the key is durable
	}
	e := eventPeerOther
	switch n.Function {
	case payment.SignOn:
		e = eventPeerSignOn
	case payment.SignOff:
		e = eventPeerSignOff
	case payment.Echo:
		e = eventPeerEcho
	case payment.CutOver:
		e = eventPeerCutOver
	}
	st.machine.manners = c.mannersOf(st)
	st.machine.step(now, e)
	c.carryOut(now, st, func(dst []byte) ([]byte, error) { return c.codec.answer(dst, m, n) })
}

// heartbeat takes in a frame of length zero.
func (c *core) heartbeat(now moment, st *station) {
	st.machine.heard = now
	if st.heartbeats.ours {
		st.heartbeats.ours = false
		c.echoed(now, st)
		return
	}
	if st.heartbeats.answered != 0 && now-st.heartbeats.answered < heartbeatGuard {
		return
	}
	st.heartbeats.answered = now
	st.beat(c.framer)
}

// event steps a station's machine and carries out what it asks for.
func (c *core) event(now moment, st *station, e event) {
	st.machine.manners = c.mannersOf(st)
	st.machine.step(now, e)
	c.carryOut(now, st, nil)
}

// carryOut does what can be done without I/O, and leaves orders for the rest.
func (c *core) carryOut(now moment, st *station, answer func(dst []byte) ([]byte, error)) {
	for i := 0; i < len(st.machine.effects); i++ {
		switch e := st.machine.effects[i]; e.kind {
		case effectSend:
			c.ask(now, st, e.function)
		case effectAnswer:
			c.append(st, answer)
		default:
			if e.kind == effectCutOver {
				c.counters.CutOvers++
			}
			if e.kind == effectAbort || e.kind == effectFinish {
				st.lastError = e.reason
			}
			c.orders = append(c.orders, order{st.index, e})
		}
	}
	st.machine.effects = st.machine.effects[:0]
	if d := st.machine.deadline; d != 0 {
		c.wheel.set(st.index, d)
	} else {
		c.wheel.stop(st.index)
	}
	if !st.busy() && (st.machine.state == Draining && !st.machine.idle || st.machine.state == Suspect) {
		c.event(now, st, eventIdle)
	}
}

// ask sends an 0800 of ours. A dialect without an echo but with heartbeats
// uses those.
func (c *core) ask(now moment, st *station, f payment.NetworkFunction) {
	if f == payment.Echo && c.beats {
		st.heartbeats.ours = true
		st.beat(c.framer)
		return
	}
	c.askWith(st, payment.NetworkRequest{Function: f})
}

// askWith numbers an 0800 of ours and sends it.
func (c *core) askWith(st *station, n payment.NetworkRequest) bool {
	c.asking = c.asking%payment.MaxSTAN + 1
	st.asked[n.Function] = c.asking
	n.STAN, n.Transmitted = c.asking, payment.TransmittedAt(c.wall)
	return c.append(st, func(dst []byte) ([]byte, error) { return c.codec.request(dst, n) })
}

// append packs a network message, or an answer to a message nobody here
// understands, into the outgoing buffer. One that needs a MAC is handed out
// first. false: it does not leave.
func (c *core) append(st *station, pack func(dst []byte) ([]byte, error)) bool {
	frame, err := pack(c.scratch[:0])
	if err != nil {
		c.orders = append(c.orders, order{st.index, effect{kind: effectAlarm, reason: "network message cannot be packed: " + err.Error()}})
		return false
	}
	c.scratch = frame
	if c.carriesMAC(frame) {
		c.orders = append(c.orders, order{st.index, effect{kind: effectProtect, frame: bytes.Clone(frame)}})
		return true
	}
	st.queue(c.framer, frame, noPlace)
	return true
}
