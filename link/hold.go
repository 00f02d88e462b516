package link

import "authswitch/payment"

// Hold is what an operator keeps from a link until it is lifted or the process
// ends.
type Hold uint8

// The holds.
const (
	NoHold Hold = iota
	// HoldDrained: no new authorizations. The link stays signed on, what is in
	// flight is answered, and what is owed goes out: it is how a link is emptied.
	HoldDrained
	// HoldSignedOff: signed off and closed; nothing leaves.
	HoldSignedOff
	holds
)

var holdNames = [holds]string{"none", "drained", "signed_off"}

// String is the hold's name in API and logs.
func (h Hold) String() string {
	if h >= holds {
		return "invalid"
	}
	return holdNames[h]
}

// MarshalText makes the hold its name in JSON.
func (h Hold) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Hold puts the link under a hold, or lifts the one it is under. It returns at
// once: Status shows how far it came. Lifted, a link that is down is dialed
// without waiting for its backoff.
func (l *Link) Hold(h Hold) {
	l.do(func(now moment) { l.core.setHold(now, h) })
}

// SignOn signs on: a link that was signed off is dialed, and a connection that
// is signed on asks once more, for an acquirer that forgot it. One that is
// refused ends and is dialed again. A drained link stays drained.
func (l *Link) SignOn() {
	l.do(func(now moment) { l.core.signOn(now) })
}

func (c *core) setHold(now moment, h Hold) {
	c.hold = h
	if h == NoHold {
		c.trust() // a person's word, after bad MACs too
	}
	for _, st := range c.stations {
		e := eventDisabled
		if c.wanted(st) {
			e = eventEnabled
		}
		c.event(now, st, e)
	}
}

func (c *core) signOn(now moment) {
	if c.hold == HoldSignedOff {
		c.hold = NoHold
	}
	for _, st := range c.stations {
		if m := &st.machine; m.can.signOn && (m.state == Ready || m.state == Suspect) {
			m.send(payment.SignOn)
			c.carryOut(now, st, nil)
			continue
		}
		if c.wanted(st) {
			c.event(now, st, eventEnabled)
		}
	}
}
