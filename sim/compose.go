package sim

import "time"

// compose turns a ruling into the answer's elements. The answer's own values
// live in the connection's scratch until the next message.
func (c *conn) compose(m *message, r *ruling) *message {
	a, p := &c.answer, c.host.profile
	a.reset()
	c.scratch = c.scratch[:0]
	a.mti = answerTo(m.mti)
	for _, de := range p.echoed {
		if m.has(de) {
			a.put(de, m.values[de])
		}
	}
	c.putOwnTime(a)
	a.put(39, c.text(r.code))
	if m.class() == '5' {
		a.put(66, c.text(settlement(c.host, r)))
	}
	if r.amount != 0 {
		c.putAmount(a, r.amount)
	}
	if r.approved {
		a.put(38, c.digits(r.number, 6))
		c.stamp(a, p.networkID, r)
	}
	if m.class() != '4' && c.securityCode(m) {
		c.stamp(a, p.cvvResult, r)
	}
	if r.chip.answer {
		at := len(c.scratch)
		c.scratch = r.chip.appendAnswer(c.scratch)
		a.put(55, c.scratch[at:])
	}
	c.spoilAnswer(a, r.delivery)
	if c.custody.rules.macOn(m) {
		c.putMAC(a)
	}
	c.spoil = r.delivery
	return a
}

// ahead is how far the clock of a host that puts its own time into DE 7 is from
// the switch's, which on one machine is the same: a switch that takes that DE 7
// for its own would be right by chance.
const ahead = 7 * time.Second

// putOwnTime puts the host's time into DE 7 of an answer, where hosts do that.
func (c *conn) putOwnTime(a *message) {
	if !c.host.profile.ownTime {
		return
	}
	at := len(c.scratch)
	c.scratch = c.host.now().Add(ahead).UTC().AppendFormat(c.scratch, "0102150405")
	a.put(7, c.scratch[at:])
}

// putMAC makes room for the MAC behind all other elements.
func (c *conn) putMAC(a *message) {
	de := 64
	for _, set := range a.set {
		if set > 64 {
			de = 128
		}
	}
	at := len(c.scratch)
	c.scratch = append(c.scratch, make([]byte, macRoom)...)
	a.put(de, c.scratch[at:])
}

// spoilAnswer changes what a faulty delivery changes.
func (c *conn) spoilAnswer(a *message, d delivery) {
	switch d {
	case deliverWrongSTAN:
		n, _ := number(a.values[11])
		a.put(11, c.digits(n+1, len(a.values[11])))
	case deliverWrongAmount:
		n, _ := number(a.values[4][max(0, len(a.values[4])-12):])
		c.putAmount(a, int64(n)+100)
	case deliverWrongTerminal:
		if !a.has(41) {
			n, _ := number(a.values[11])
			a.put(11, c.digits(n+1, len(a.values[11])))
			return
		}
		at := len(c.scratch)
		c.scratch = append(c.scratch, a.values[41]...)
		wrong := c.scratch[at:]
		wrong[0] ^= 1 // another character of the same class: digits and letters come in such pairs, nearly
		if wrong[0] < '0' || wrong[0] > 'z' {
			wrong[0] = '0'
		}
		a.put(41, wrong)
	case deliverWrongMTI:
		// A 0100 is answered by a 0210, a 0200 by a 0110.
		if a.mti[1] == '1' {
			a.mti[1] = '2'
		} else {
			a.mti[1] = '1'
		}
	case deliverReject:
		copy(a.mti[1:], c.host.profile.admin)
	}
}

// putAmount writes DE 4 in the form of the request's: n12, or n16 with
// currency and exponent first.
func (c *conn) putAmount(a *message, amount int64) {
	before := a.values[4]
	at := len(c.scratch)
	if len(before) == 16 {
		c.scratch = append(c.scratch, before[:4]...)
	}
	c.scratch = appendNumber(c.scratch, uint64(amount), 12)
	a.put(4, c.scratch[at:])
}

// stamp writes what an answer carries beside its elements.
func (c *conn) stamp(a *message, stamps []stamp, r *ruling) {
	for i := range stamps {
		s := &stamps[i]
		at := len(c.scratch)
		c.scratch = append(c.scratch, s.text...)
		switch {
		case s.day:
			c.scratch = c.host.now().UTC().AppendFormat(c.scratch, "0102")
		case s.digits > 0:
			c.scratch = appendNumber(c.scratch, lastDigits(r.number, s.digits), s.digits)
		case s.result:
			result := r.cvv
			if result == 0 {
				result = 'M'
			}
			c.scratch = append(c.scratch, result)
		}
		c.scratch = append(c.scratch, s.tail...)
		c.putPlace(a, s.place, c.scratch[at:])
	}
}

// securityCode says whether the request has one.
func (c *conn) securityCode(m *message) bool {
	p := c.host.profile.cvv
	switch {
	case p.de == 0 || !m.has(p.de):
		return false
	case p.sub == "":
		return len(m.values[p.de]) > 0
	}
	return len(c.codec.sub(p.de, p.sub)) > 0
}

func (c *conn) putPlace(a *message, p place, value []byte) {
	if p.sub == "" {
		a.put(p.de, value)
		return
	}
	a.putSub(p.de, p.sub, value)
}

// digits are the last width digits of n, in the scratch. What was returned
// before stays good even when the scratch moves.
func (c *conn) digits(n uint64, width int) []byte {
	at := len(c.scratch)
	c.scratch = appendNumber(c.scratch, lastDigits(n, width), width)
	return c.scratch[at:]
}

func lastDigits(n uint64, width int) uint64 {
	limit := uint64(1)
	for range min(width, 18) {
		limit *= 10
	}
	return n % limit
}

func (c *conn) text(s string) []byte {
	at := len(c.scratch)
	c.scratch = append(c.scratch, s...)
	return c.scratch[at:]
}
