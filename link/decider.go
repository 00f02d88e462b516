package link

import (
	"fmt"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Decider is what a Link decides, without the Link's goroutines, sockets, lock
// and clock: a simulation carries out what Link and connection otherwise do, and
// drives the same core. Moments are durations on the link's steady clock, from
// above zero; wall is the wall clock at that moment. It is used by one caller at
// a time.
type Decider struct {
	core    *core
	dialect *iso8583.Dialect
	codec   *dialectCodec
	message iso8583.Message
	waiting []*place
}

// NewDecider checks the configuration. random spreads the dials.
func NewDecider(cfg Config, d *iso8583.Dialect, random func() uint64) (*Decider, error) {
	f, err := newFramer(d.Framing())
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
	}
	codec := newDialectCodec(d)
	c := newCore(cfg.WithDefaults(), ruleOf(d.Correlation()), f, codec, codec.abilities(), random)
	return &Decider{core: c, dialect: d, codec: codec}, nil
}

// ConnectionEvent is what a shell tells of one connection.
type ConnectionEvent uint8

// The events.
const (
	ConnectionEnabled ConnectionEvent = iota
	ConnectionDialed
	ConnectionDialFailed
	ConnectionLost
)

// Tell reports an event of a connection.
func (d *Decider) Tell(at time.Duration, wall payment.Instant, connection int, e ConnectionEvent) {
	d.core.wall = wall
	st := d.core.stations[connection]
	switch e {
	case ConnectionEnabled:
		d.core.event(moment(at), st, eventEnabled)
	case ConnectionDialed:
		st.life++
		d.core.event(moment(at), st, eventDialed)
	case ConnectionDialFailed:
		d.core.event(moment(at), st, eventDialFailed)
	case ConnectionLost:
		d.core.lost(moment(at), st)
	}
}

// ConnectionOrder is what a shell must do with one connection.
type ConnectionOrder uint8

// The orders.
const (
	OrderDial   ConnectionOrder = iota
	OrderFinish                 // close when what waits is written
	OrderAbort                  // close now; what was not written never will be
)

// Orders calls do for each order since the last call.
func (d *Decider) Orders(do func(connection int, o ConnectionOrder)) {
	for _, o := range d.core.orders {
		switch o.effect.kind {
		case effectDial:
			do(int(o.station), OrderDial)
		case effectFinish:
			do(int(o.station), OrderFinish)
		case effectAbort:
			do(int(o.station), OrderAbort)
		}
	}
	d.core.orders = d.core.orders[:0]
}

// Reserve is Link.Reserve.
func (d *Decider) Reserve(at time.Duration, wall payment.Instant, s *payment.Slot, id payment.ID, attempt uint8) error {
	return d.core.reserve(moment(at), wall, s, id, attempt)
}

// ReserveOwed is Link.ReserveOwed.
func (d *Decider) ReserveOwed(at time.Duration, wall payment.Instant, s *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	return d.core.reserveOwed(moment(at), wall, s, o, rrn)
}

// Release is Link.Release.
func (d *Decider) Release(at time.Duration, s *payment.Slot) {
	if p := d.core.placeOf(s); p != nil {
		d.core.release(p, moment(at))
	}
	s.Place = nil
}

// Exchange is Link.Exchange up to its wait: on nil the request is queued, and
// Completed will name its slot's place with what became of it.
func (d *Decider) Exchange(at time.Duration, wall payment.Instant, s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error {
	p := d.core.placeOf(s)
	if p == nil {
		forgotten := s.Place != nil
		s.Place = nil
		if forgotten && wall > s.SendBy {
			return errExpired
		}
		return errSlot
	}
	if _, err := d.core.send(p, request{slot: s, intent: i, frame: frame, answer: answer}, moment(at), wall); err != nil {
		d.core.counters.NotSent++
		d.core.release(p, moment(at))
		s.Place = nil
		return err
	}
	d.waiting = append(d.waiting, p)
	return nil
}

// Completed calls tell for each request that is over since the last call, in the
// order in which they were queued; place is what its slot held.
func (d *Decider) Completed(tell func(place any, err error)) {
	kept := d.waiting[:0]
	for _, p := range d.waiting {
		select {
		case <-p.done:
			err := p.err
			d.core.table.giveBack(p)
			tell(p, err)
		default:
			kept = append(kept, p)
		}
	}
	clear(d.waiting[len(kept):])
	d.waiting = kept
}

// Waits says whether a connection has something to write.
func (d *Decider) Waits(connection int) bool { return len(d.core.stations[connection].segments) > 0 }

// Take is what a connection writes next; the bytes are the caller's. From here
// on the requests in them may be on the wire.
func (d *Decider) Take(at time.Duration, wall payment.Instant, connection int) []byte {
	batch, _ := d.core.take(d.core.stations[connection], moment(at), wall)
	return batch
}

// Cut takes the first whole frame off a received stream. size 0: there is none
// yet. An error ends the connection.
func (d *Decider) Cut(received []byte) (frame []byte, size int, err error) {
	return d.core.framer.cut(received)
}

// Heard is what a frame brought besides: an answer whose request was over.
type Heard struct {
	Late     bool         // Answer is set
	Owed     bool         // it acknowledges Seq, else it answers an authorization
	Advice   bool         // with Owed: of an operation's own message, not of a reversal
	Second   bool         // says otherwise than the answer before it
	Seq      uint64       // of what is owed
	Answer   payment.Late // Answer.Response is decoded
	Unsigned bool         // the frame told nothing that could be used
}

// Hear takes in one frame.
func (d *Decider) Hear(at time.Duration, wall payment.Instant, connection int, frame []byte) (h Heard) {
	c, st, now, m := d.core, d.core.stations[connection], moment(at), &d.message
	c.wall = wall
	if frame == nil {
		c.heartbeat(now, st)
		return h
	}
	err := d.dialect.Unpack(m, frame)
	switch kindOf(m, err) {
	case frameReject:
		e := readEchoed(m)
		h.Unsigned = !c.rejected(now, st, &e)
	case frameNetwork:
		n, ok := d.dialect.DecodeNetwork(m)
		if !ok {
			h.Unsigned = true
			return h
		}
		c.network(now, st, n, m)
	case frameAnswer:
		e := readEchoed(m)
		heard, g, _ := c.answered(now, st, &e, m, err != nil)
		switch heard {
		case heardLate:
			return d.late(g)
		case heardUnmatched:
			h.Unsigned = true
		}
	default:
		h.Unsigned = true
	}
	return h
}

// late decodes a late answer as Link.tellLate does.
func (d *Decider) late(g ghost) (h Heard) {
	h = Heard{Owed: g.key.owed, Second: g.second, Seq: g.seq, Answer: payment.Late{ID: g.id, Attempt: g.attempt, Link: d.core.cfg.Name}}
	decode := d.dialect.DecodeAuthorization
	switch h.Advice = h.Owed && g.key.class != iso8583.ClassReversal; {
	case h.Advice:
		decode = d.dialect.DecodeAdvice
	case h.Owed:
		decode = d.dialect.DecodeReversal
	}
	h.Late = decode(&d.message, &h.Answer.Response) == nil && (h.Advice || !h.Owed || !stale(&h.Answer.Response))
	h.Unsigned = !h.Late
	return h
}

// Next is when Tick should be called again.
func (d *Decider) Next() (time.Duration, bool) {
	at, ok := d.core.wheel.next()
	return time.Duration(at), ok
}

// Tick fires what is due.
func (d *Decider) Tick(at time.Duration, wall payment.Instant) { d.core.tick(moment(at), wall) }

// WantsNumbers says whether a range should be leased now, and notes that it is
// under way until Grant or Refuse.
func (d *Decider) WantsNumbers() bool {
	if !d.core.numbers.wanted() {
		return false
	}
	d.core.numbers.ask()
	return true
}

// Grant takes in a leased range. Refuse ends a lease that came to nothing.
func (d *Decider) Grant(r payment.Numbers) bool { return d.core.numbers.grant(r) }

// Refuse ends a lease that came to nothing.
func (d *Decider) Refuse() { d.core.numbers.asked = false }

// DropNumbers is Link.DropNumbers.
func (d *Decider) DropNumbers() { d.core.numbers.drop() }
