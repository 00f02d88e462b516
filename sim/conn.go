package sim

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// conn is one connection of a peer. Its reader decides all frames that have
// arrived, waits once for the ledger, and writes all answers at once.
type conn struct {
	*Simulator
	net     net.Conn
	codec   codec
	in      message
	answer  message
	scratch []byte

	buffer   []byte  // received, not yet cut
	out      []byte  // answers of this batch, framed
	pieces   []piece // how they leave
	line     uint64  // the batch's last line
	pause    time.Duration
	hangUp   bool
	signedOn bool
	kept     bool   // the message being answered is in the wire file
	stan     uint64 // of our own requests

	check []byte   // value of the key that was taken, for its answer
	extra []placed // of a network message of our own
	spoil delivery // how the MAC of the next frame is made

	ownKeepAlives int // empty frames we sent whose echo is still to come
	complaints    int // unreadable frames, for the log

	writing sync.Mutex
	delayed delayQueue
}

// piece is a stretch of out.
type piece struct {
	end    int
	manner manner
	delay  time.Duration
}

// manner is how bytes are written.
type manner uint8

// The manners.
const (
	plainly manner = iota
	byteByByte
	thenHangUp
)

// Limits of a connection.
const (
	readBuffer   = 256 << 10
	writeTimeout = 30 * time.Second // a peer that reads nothing for so long is gone

	maxComplaints = 20 // unreadable frames that are logged; all are counted
)

// serve reads until the connection ends.
func (c *conn) serve(ctx context.Context) error {
	c.buffer = make([]byte, 0, max(readBuffer, 2*(c.framing.prefixLen()+c.framing.max+len(c.framing.trailer))))
	for {
		n, err := c.net.Read(c.buffer[len(c.buffer):cap(c.buffer)])
		c.buffer = c.buffer[:len(c.buffer)+n]
		if err != nil {
			return err
		}
		if err := c.cutAll(); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
		if c.hangUp {
			return errHungUp
		}
		if c.pause > 0 {
			if err := sleep(ctx, c.pause); err != nil {
				return err
			}
			c.pause = 0
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// cutAll handles every whole frame received and keeps what is left.
func (c *conn) cutAll() error {
	at := 0
	for !c.hangUp {
		frame, used, err := c.framing.cut(c.buffer[at:])
		if err != nil {
			return err
		}
		if used == 0 {
			break
		}
		at += used
		if len(frame) == 0 {
			c.keepAlive(c.buffer[at-used : at])
			continue
		}
		c.handle(frame)
	}
	n := copy(c.buffer, c.buffer[at:])
	c.buffer = c.buffer[:n]
	return nil
}

// keepAlive sends an empty frame back as it came, where the dialect has such a
// thing, unless it is the echo of one of ours: two sides that echo each other
// would never end.
func (c *conn) keepAlive(frame []byte) {
	switch {
	case c.ownKeepAlives > 0:
		c.ownKeepAlives--
	case c.framing.heartbeat:
		c.out = append(c.out, frame...)
		c.say(plainly, 0)
	default:
		c.count(&c.stats.unreadable)
	}
}

// handle answers one frame.
func (c *conn) handle(frame []byte) {
	m := &c.in
	m.reset()
	if err := c.codec.read(frame, m); err != nil {
		c.count(&c.stats.unreadable)
		if c.complaints++; c.complaints <= maxComplaints {
			c.log.Warn("unreadable frame", "bytes", len(frame), "error", err)
		}
		return
	}
	c.kept = c.wire.received(c.host.now(), m, frame)
	if m.class() == '8' && c.custody.rules.macOn(m) && !c.custody.authentic(frame, c.headerLen, m) {
		c.count(&c.stats.badMACs)
		return
	}
	switch {
	case (m.function()-'0')&1 == 1:
		c.answered(m)
	case m.class() == '8':
		c.network(m)
	default:
		c.payment(m, frame)
	}
}

// answered takes an answer to an echo, a sign-off or a key of ours.
func (c *conn) answered(m *message) {
	p, x := c.host.profile, c.custody.rules.Exchange
	if m.class() != '8' || x.Function == "" || string(m.values[p.function]) != x.Function {
		return
	}
	if err := c.custody.settle(string(m.values[11]), string(m.values[39]) == p.networkAccepted); err != nil {
		c.log.Error("a key cannot be used", "error", err)
	}
}

// secure checks what a payment's security says.
func (c *conn) secure(m *message, frame []byte) secured {
	var s secured
	rules := &c.custody.rules
	if !rules.any() {
		return s
	}
	s.refusal = c.custody.refusal(frame, c.headerLen, m, &s.chip)
	if rules.CVV && c.securityCode(m) {
		s.noCode = !c.custody.codeHolds(cardOf(m), m.values[14], c.valueAt(m, c.host.profile.cvv))
	}
	return s
}

func (c *conn) payment(m *message, frame []byte) {
	var r ruling
	if c.host.config.RequireSignOn && !c.signedOn {
		r = c.host.refuse(m)
	} else {
		s := c.secure(m, frame)
		r = c.host.decide(m, &s)
	}
	c.count(&c.stats.payments)
	c.line = max(c.line, r.line)
	if r.hangUp {
		c.hangUp = true
		return
	}
	c.pause = max(c.pause, r.pause)
	c.deliver(m, &r)
	if r.after != nil {
		c.out = append(c.out, r.after...)
		c.say(plainly, 0)
	}
	if r.signOff {
		c.ask(c.host.profile.signOff[0])
		c.signedOn = false
	}
}

// network answers an 0800: sign-on, sign-off, echo, and whatever else with yes.
func (c *conn) network(m *message) {
	p := c.host.profile
	function := string(m.values[p.function])
	code := p.networkAccepted
	switch {
	case slices.Contains(p.signOn, function):
		fault := c.host.signOn()
		if fault != nil && fault.Fault == faultNo0810 {
			return
		}
		c.signedOn = fault == nil
		if fault != nil {
			code = p.networkRefused
		}
	case slices.Contains(p.signOff, function):
		c.signedOn = false
	case function != "" && function == c.custody.rules.Exchange.Function:
		var answered bool
		if code, answered = c.exchangeKey(m); !answered {
			return
		}
	}
	c.answerNetwork(m, code)
	c.check = c.check[:0]
	if c.signedOn && slices.Contains(p.signOn, function) {
		c.sendKeys()
	}
}

func (c *conn) answerNetwork(m *message, code string) {
	a := &c.answer
	a.reset()
	c.scratch = c.scratch[:0]
	a.mti = answerTo(m.mti)
	for _, de := range c.host.profile.echoed {
		if m.has(de) {
			a.put(de, m.values[de])
		}
	}
	c.putOwnTime(a)
	a.put(39, c.text(code))
	if at, ok := placeNamed(c.custody.rules.Exchange.Check); ok && len(c.check) > 0 {
		c.putPlace(a, at, []byte(fmt.Sprintf("%X", c.check)))
	}
	c.secureNetwork(a)
	if c.frame(a, true) {
		c.say(plainly, 0)
	}
}

// ask sends a network request of our own.
func (c *conn) ask(function string) {
	a := &c.answer
	a.reset()
	c.scratch = c.scratch[:0]
	p := c.host.profile
	a.mti = [4]byte{c.version, p.network[0], p.network[1], p.network[2]}
	now := c.host.now().UTC()
	at := len(c.scratch)
	c.scratch = now.AppendFormat(c.scratch, "0102150405")
	a.put(7, c.scratch[at:])
	c.stan = c.stan%999_999 + 1
	a.put(11, c.digits(c.stan, c.stanLen()))
	if p.when == 12 {
		at = len(c.scratch)
		c.scratch = now.AppendFormat(c.scratch, "060102150405")
		a.put(12, c.scratch[at:])
	}
	a.put(p.function, c.text(function))
	for i := range c.extra {
		c.putPlace(a, c.extra[i].place, c.extra[i].value)
	}
	c.secureNetwork(a)
	if c.frame(a, false) {
		c.say(plainly, 0)
	}
}

// secureNetwork gives a network message its MAC, where they have one.
func (c *conn) secureNetwork(a *message) {
	if c.custody.rules.macOn(a) {
		c.putMAC(a)
	}
	c.spoil = deliverNormally
}

func (c *conn) stanLen() int {
	if c.version == '2' {
		return 12
	}
	return 6
}

// frame packs and frames a message at the end of out.
func (c *conn) frame(a *message, asked bool) bool {
	start := len(c.out)
	out, err := c.codec.write(c.framing.begin(c.out), a, asked)
	if err != nil {
		c.out = c.out[:start]
		c.count(&c.stats.unsendable)
		c.log.Error("an answer cannot be packed", "mti", string(a.mti[:]), "error", err)
		return false
	}
	if c.custody.rules.MAC && (a.has(64) || a.has(128)) {
		c.custody.authenticate(out[start+c.framing.prefixLen():], c.headerLen, c.spoil)
	}
	if c.kept && asked {
		c.wire.sent(c.host.now(), a, out[start+c.framing.prefixLen():])
	}
	c.out = c.framing.end(out, start)
	return true
}

// say ends a piece of out.
func (c *conn) say(how manner, delay time.Duration) {
	if how == thenHangUp {
		c.hangUp = true // what came behind this message is not read any more
	}
	if n := len(c.pieces); n > 0 && how == plainly && delay == 0 && c.pieces[n-1].manner == plainly && c.pieces[n-1].delay == 0 {
		c.pieces[n-1].end = len(c.out)
		return
	}
	c.pieces = append(c.pieces, piece{end: len(c.out), manner: how, delay: delay})
}

// flush waits for the ledger and sends the batch.
func (c *conn) flush() error {
	if c.line > 0 {
		if err := c.ledger.wait(c.line); err != nil {
			c.fail(err)
			return err
		}
		c.line = 0
	}
	at := 0
	for _, p := range c.pieces {
		if err := c.send(c.out[at:p.end], p); err != nil {
			return err
		}
		at = p.end
	}
	c.out, c.pieces = c.out[:0], c.pieces[:0]
	return nil
}

func (c *conn) send(b []byte, p piece) error {
	if p.delay > 0 {
		return c.delayed.put(time.Now().Add(p.delay), b)
	}
	switch p.manner {
	case byteByByte:
		for i := range b {
			if err := c.write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	case thenHangUp:
		if len(b) > 0 {
			if err := c.write(b); err != nil {
				return err
			}
		}
		return nil
	}
	return c.write(b)
}

func (c *conn) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("writing answers: %w", err)
	}
	if _, err := c.net.Write(b); err != nil {
		return fmt.Errorf("writing answers: %w", err)
	}
	return nil
}
