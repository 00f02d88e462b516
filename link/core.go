package link

import (
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// core is everything a link decides: who gets a place and numbers, what is
// written when, which answer belongs to which request, when to give up, and
// the life of each connection. It has no goroutine, no lock, no clock and no
// I/O; Link wraps it in all four. Every method is called under Link.mu.
type core struct {
	cfg      Config
	rule     rule
	framer   *framer
	beats    bool // echoes are frames of length zero: the dialect has no other
	codec    networkCodec
	mayWrite func(payment.Session) bool // nil: always
	table    *table
	memory   *memory
	numbers  numbers
	wheel    *wheel
	stations []*station
	starved  time.Duration   // how long what could run here waits for a processor
	adaptive adaptive        // how much of the window authorizations may use now
	wall     payment.Instant // of the event being handled: DE 7 of an 0800
	asking   payment.STAN    // trace number of the last 0800: of class 8, so it meets no payment's key
	scratch  []byte
	orders   []order
	hold     Hold // of an operator
	standing Standing
	counters Counters

	badMACs       int           // in a row
	distrusted    bool          // no new work until the keys agree
	distrustedKey uint32        // the MAC key of then
	macKey        func() uint32 // of now

	carriesMAC func(frame []byte) bool                    // a frame of ours that must not leave before its MAC is in it
	keyMessage func(st *station, m *iso8583.Message) bool // takes the peer's 0800 with a key; nil: this link takes none
	keyAnswer  func(n payment.NetworkMessage)             // takes the 0810 to ours
}

// networkCodec packs network messages: an 0800 of ours, and the answer to one
// of the peer's.
type networkCodec interface {
	request(dst []byte, n payment.NetworkRequest) ([]byte, error)
	answer(dst []byte, peer *iso8583.Message, n payment.NetworkMessage) ([]byte, error)
}

// order is an effect that a shell carries out: dial, close, say.
type order struct {
	station int32
	effect  effect
}

// Counters are what Status and the metrics show.
type Counters struct {
	Refusals   uint64 `json:"window_refusals"`
	Late       uint64 `json:"late_answers"`
	Unmatched  uint64 `json:"unmatched_answers"`
	Timeouts   uint64 `json:"timeouts"`
	Lost       uint64 `json:"lost_in_flight"`
	NotSent    uint64 `json:"not_sent"`
	Rejected   uint64 `json:"rejected"`
	Unparsable uint64 `json:"unparsable_frames"`
	Reconnects uint64 `json:"reconnects"`
	CutOvers   uint64 `json:"cut_overs"`
	Dropped    uint64 `json:"dropped_reports"`
	BadMACs    uint64 `json:"bad_macs"`
	Unverified uint64 `json:"unverified_frames"`
	Refused    uint64 `json:"refused_connections"` // of peers, in mode accept
}

// newCore expects a configuration with its defaults filled in.
func newCore(cfg Config, r rule, f *framer, codec networkCodec, can capabilities, random func() uint64) *core {
	places := 2 * cfg.Connections * (cfg.Window + cfg.ReversalWindow)
	c := &core{
		cfg: cfg, rule: r, framer: f, codec: codec, beats: !can.echo && f.heartbeat,
		macKey: func() uint32 { return 0 }, carriesMAC: func([]byte) bool { return false },
		standing: Standing{Connections: cfg.Connections, Keeper: true},
		table:    newTable(places), memory: newMemory(cfg.LateMemory), wheel: newWheel(cfg.Connections + places),
	}
	c.adaptive = newAdaptive(cfg.WindowFloor, cfg.Window, cfg.AnswerTimeout)
	can.echo = can.echo || f.heartbeat
	for i := range cfg.Connections {
		c.stations = append(c.stations, &station{
			index:   int32(i),
			machine: machine{cfg: &c.cfg, can: can, random: random, state: Down},
		})
	}
	return c
}

// timerOf is a place's id in the wheel; a station's is its index.
func (c *core) timerOf(p *place) int32 { return int32(len(c.stations)) + p.index }

// busy says whether a trace number must be skipped.
func (c *core) busy(stan payment.STAN) bool { return c.table.holds(stan) || c.memory.holds(stan) }

// pick is the ready connection with the most room for new work of a priority.
// The last places of each window are kept for those before it: an
// authorization that nobody waits for, or a refund in front of a reversal, does
// not take them.
func (c *core) pick(owed bool, p payment.Priority) (*station, error) {
	if !owed && c.hold != NoHold {
		return nil, errHeld
	}
	if !owed && c.suspicious() {
		return nil, errDistrusted
	}
	var best *station
	ready := false
	window, reversals := p.Share(c.adaptive.limit), p.Share(c.cfg.ReversalWindow)
	for _, s := range c.stations {
		if !s.accepting() {
			continue
		}
		ready = true
		switch {
		case owed && s.owed < reversals && (best == nil || s.owed < best.owed):
			best = s
		case !owed && s.inFlight < window && (best == nil || s.inFlight < best.inFlight):
			best = s
		}
	}
	switch {
	case !ready:
		return nil, errNotReady
	case best == nil:
		c.counters.Refusals++
		return nil, errFull
	}
	return best, nil
}

// reserve gives an authorization a place in the window and its numbers.
func (c *core) reserve(now moment, wall payment.Instant, s *payment.Slot, id payment.ID, attempt uint8) error {
	st, err := c.pick(false, s.Priority)
	if err != nil {
		return err
	}
	stan, counter, ok := c.numbers.take(c.busy)
	if !ok {
		return errNoNumbers
	}
	p := c.table.take(stan)
	if p == nil {
		c.counters.Refusals++
		return errFull
	}
	p.key.rrn = payment.MakeRRN(wall, counter)
	p.id, p.attempt, p.seq = id, attempt, 0
	c.occupy(st, p, now, wall, s)
	return nil
}

// reserveOwed does the same for a reversal, which keeps the numbers its first
// claim fixed and goes where its original went while that connection lives: it
// must not overtake it.
func (c *core) reserveOwed(now moment, wall payment.Instant, s *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	st, err := c.stationOwed(o)
	if err != nil {
		return err
	}
	stan := o.STAN
	if stan != 0 && c.table.owes(stan, rrn) {
		return errInFlight
	}
	var counter uint64
	if stan == 0 || rrn[0] == 0 {
		leased, n, ok := c.numbers.take(c.busy)
		if !ok {
			return errNoNumbers
		}
		counter = n
		if stan == 0 {
			stan = leased
		}
	}
	p := c.table.take(stan)
	if p == nil {
		c.counters.Refusals++
		return errFull
	}
	p.key.owed, p.key.class = true, iso8583.ClassReversal
	if !o.IsReversal() {
		p.key.class = uint8(iso8583.MTI(o.MTI).Class())
	}
	p.key.rrn = rrn
	if rrn[0] == 0 {
		p.key.rrn = payment.MakeRRN(wall, counter)
	}
	p.id, p.attempt, p.seq = o.ID, o.Attempt, o.Seq
	c.occupy(st, p, now, wall, s)
	return nil
}

func (c *core) stationOwed(o *payment.Owed) (*station, error) {
	if i, life, ok := c.memory.sentOn(o.ID); ok {
		if st := c.stations[i]; st.life == life && st.accepting() {
			if st.owed >= owedPriority(o).Share(c.cfg.ReversalWindow) {
				c.counters.Refusals++
				return nil, errFull
			}
			return st, nil
		}
	}
	return c.pick(true, owedPriority(o))
}

// owedPriority is a reversal's, or that of the operations behind which a
// reversal must not stand.
func owedPriority(o *payment.Owed) payment.Priority {
	if o.IsReversal() {
		return payment.PriorityReversal
	}
	return payment.PriorityMerchant
}

// occupy counts a place against a station and fills in the slot.
func (c *core) occupy(st *station, p *place, now moment, wall payment.Instant, s *payment.Slot) {
	c.count(p, st, 1)
	p.key.transmitted = payment.TransmittedAt(wall)
	p.sendBy = after(now, c.cfg.SendWithin)
	p.answerBy = after(p.sendBy, c.cfg.AnswerTimeout)
	p.sendByWall = wall + payment.Instant(c.cfg.SendWithin)
	p.answerWall = p.sendByWall + payment.Instant(c.cfg.AnswerTimeout)
	c.wheel.set(c.timerOf(p), p.sendBy)
	lifeOver := p.sendByWall + payment.Instant(c.cfg.UserTimeout+c.cfg.MaxOriginalLife)
	if c.cfg.RemembersReversals {
		lifeOver = wall
	}
	*s = payment.Slot{
		Link: c.cfg.Name, STAN: p.key.stan, RRN: p.key.rrn, Transmitted: p.key.transmitted,
		SendBy: p.sendByWall, AnswerBy: p.answerWall, LifeOver: lifeOver, Place: p,
	}
}

func (c *core) count(p *place, st *station, by int) {
	p.connection = st.index
	if p.key.owed {
		st.owed += by
	} else {
		st.inFlight += by
	}
}

// placeOf is the reserved place a slot holds, nil when it holds none of ours.
func (c *core) placeOf(s *payment.Slot) *place {
	p, ok := s.Place.(*place)
	if !ok || p.state != placeReserved || int(p.index) >= len(c.table.places) || p != &c.table.places[p.index] || p.key.stan != s.STAN {
		return nil
	}
	return p
}

// release takes back a place of which nothing was sent.
func (c *core) release(p *place, now moment) {
	c.finish(p, nil, now)
	<-p.done
	c.table.giveBack(p)
}

// finish completes a request: nothing matches it any more, its timer is
// stopped, its owner wakes. The place is free once the owner gives it back.
func (c *core) finish(p *place, err error, now moment) {
	c.wheel.stop(c.timerOf(p))
	c.table.leave(p)
	st := c.stations[p.connection]
	c.count(p, st, -1)
	p.state, p.err = placeDone, err
	p.done <- struct{}{}
	if !st.busy() && (st.machine.state == Draining || st.machine.state == Suspect) {
		c.event(now, st, eventIdle)
	}
}

// request is what send needs besides the place.
type request struct {
	slot   *payment.Slot
	intent *payment.Intent
	frame  []byte
	answer *iso8583.Message
}

// send appends a request to its connection's outgoing buffer. This is the last
// look at send_by, on both clocks: the steady one cannot be set back, the wall
// clock goes on while the machine sleeps. On an error nothing was appended.
func (c *core) send(p *place, r request, now moment, wall payment.Instant) (*station, error) {
	if r.slot.SendBy < p.sendByWall {
		p.sendBy -= moment(p.sendByWall - r.slot.SendBy)
		p.sendByWall = r.slot.SendBy
	}
	if r.slot.AnswerBy < p.answerWall {
		p.answerBy -= moment(p.answerWall - r.slot.AnswerBy)
		p.answerWall = r.slot.AnswerBy
	}
	if now > p.sendBy || wall > p.sendByWall {
		return nil, errExpired
	}
	if len(r.frame) == 0 || len(r.frame) > c.framer.largest {
		return nil, errFrame
	}
	if p.session = 0; r.intent != nil && !p.key.owed {
		p.session = r.intent.Session
	}
	if c.sessionOver(p) {
		return nil, errSessionOver
	}
	st := c.stations[p.connection]
	if !st.accepting() {
		other, err := c.pick(p.key.owed, payment.PriorityReversal) // it has its place already
		if err != nil {
			return nil, errUnwritten
		}
		c.count(p, st, -1)
		c.count(p, other, 1)
		st = other
	}
	if c.table.claim(p, keyOf(p, r.intent)) != nil {
		return nil, errDuplicate
	}
	p.segment = st.queue(c.framer, r.frame, p.index)
	p.state, p.appended, p.answer = placeQueued, now, r.answer
	c.wheel.set(c.timerOf(p), p.sendBy)
	return st, nil
}

// keyOf is the whole key of a request.
func keyOf(p *place, i *payment.Intent) key {
	k := p.key
	if i == nil {
		return k
	}
	k.terminal = trimRightString(i.Terms.Terminal)
	k.acquirer = trimZerosString(i.Terms.Acquirer)
	if !k.owed {
		k.class = uint8(iso8583.MTI(i.MTI).Class())
		if i.RRN[0] != 0 {
			k.rrn = i.RRN // a later attempt keeps its payment's, not this place's
		}
	}
	return k
}

// take is what the writer writes next, nil when there is nothing. From here on
// the requests in it may be on the wire, and the acquirer's timer runs; one
// whose send_by has passed while it waited is taken out first.
func (c *core) take(st *station, now moment, wall payment.Instant) (batch []byte, frames int) {
	dead := false
	for i := range st.segments {
		seg := &st.segments[i]
		if seg.place != noPlace && !seg.dead {
			p := &c.table.places[seg.place]
			if now > p.sendBy || wall > p.sendByWall {
				c.takeOut(p, errExpired, now)
			} else if c.sessionOver(p) {
				c.takeOut(p, errSessionOver, now)
			} else {
				p.state = placeWritten
				p.answerBy = min(p.answerBy, after(now, c.cfg.AnswerTimeout))
				c.wheel.set(c.timerOf(p), p.answerBy)
			}
		}
		dead = dead || seg.dead
	}
	if dead {
		st.compact()
	}
	if len(st.out) == 0 {
		return nil, 0
	}
	batch, frames = st.out, len(st.segments)
	st.out, st.spare = st.spare[:0], nil
	st.segments = st.segments[:0]
	return batch, frames
}

// sessionOver says whether the others may have reversed what this place is to
// write: nothing is written then.
func (c *core) sessionOver(p *place) bool { return c.mayWrite != nil && !c.mayWrite(p.session) }

// takeOut removes a queued request: proof that no byte of it left.
func (c *core) takeOut(p *place, err error, now moment) {
	c.stations[p.connection].segments[p.segment].dead = true
	c.counters.NotSent++
	c.finish(p, err, now)
}

// tick fires what is due.
func (c *core) tick(now moment, wall payment.Instant) {
	c.wall = wall
	c.wheel.advance(now, func(id int32) {
		if int(id) < len(c.stations) {
			c.event(now, c.stations[id], eventTimer)
			return
		}
		switch p := &c.table.places[id-int32(len(c.stations))]; p.state {
		case placeReserved: // its owner forgot it, or is so slow that nothing may leave
			c.release(p, now)
		case placeQueued: // armed for send_by
			c.takeOut(p, errExpired, now)
		case placeWritten: // armed for the answer when it was taken
			c.counters.Timeouts++
			if !p.key.owed {
				c.adaptive.timedOut(now)
			}
			c.giveUp(p, errTimeout, now)
		}
	})
}

// giveUp ends a written request without an answer, and remembers it.
func (c *core) giveUp(p *place, err error, now moment) {
	c.memory.remember(p, c.stations[p.connection].life)
	c.finish(p, err, now)
}

// lost ends everything that a broken connection carried: what was handed to
// the kernel is ambiguous, what was not never left.
func (c *core) lost(now moment, st *station) {
	for i := range c.table.places {
		p := &c.table.places[i]
		if p.connection != st.index {
			continue
		}
		switch p.state {
		case placeQueued:
			c.takeOut(p, errUnwritten, now)
		case placeWritten:
			c.counters.Lost++
			c.giveUp(p, errLost, now)
		}
	}
	st.discard()
	st.asked = [networkFunctions]payment.STAN{}
	st.heartbeats.ours = false
	st.writing = false
	c.event(now, st, eventLost)
}

// elapsed is a difference of moments as a duration.
func elapsed(from, to moment) time.Duration { return time.Duration(to - from) }
