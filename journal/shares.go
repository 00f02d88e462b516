package journal

import (
	"maps"
	"slices"

	"authswitch/payment"
)

// An acquirer gives so many connections to all nodes together. A node has those
// that it took through the journal, under its session; they end with it.

// ShareClaim is what a node asks for of a link.
type ShareClaim struct {
	Session  payment.Session
	Link     payment.LinkName
	Want     int  // connections, those it has counted; 0 gives all back
	All      int  // that the acquirer gives to all nodes together
	SignedOn bool // said by the keeper: the link is signed on
}

// AppendShare writes a KindShare command.
func AppendShare(b []byte, s *ShareClaim) []byte {
	b = put64(append(b, commandVersion), uint64(s.Session))
	b = putText(b, s.Link)
	b = put16(put16(b, uint16(s.Want)), uint16(s.All))
	return putBool(b, s.SignedOn)
}

const sharesVersion = 1

// shares are one link's.
type shares struct{ payment.Shares }

func (s *shares) append(b []byte) []byte {
	b = putBool(append(b, sharesVersion), s.SignedOn)
	b = put16(b, uint16(len(s.Held)))
	for _, h := range s.Held {
		b = put16(put64(b, uint64(h.Session)), uint16(h.Connections))
	}
	return b
}

func (s *shares) read(b []byte) error {
	c := cursor{b: b}
	c.version(sharesVersion)
	s.SignedOn = c.flag()
	for range c.u16() {
		s.Held = append(s.Held, payment.Share{Session: payment.Session(c.u64()), Connections: int(c.u16())})
		if c.broken {
			break
		}
	}
	return c.end()
}

// give sets what a session has, keeping the place in the order that it has.
func (s *shares) give(session payment.Session, connections int) {
	at := slices.IndexFunc(s.Held, func(h payment.Share) bool { return h.Session == session })
	switch {
	case connections == 0 && at >= 0:
		s.Held = slices.Delete(s.Held, at, at+1)
	case connections == 0:
	case at >= 0:
		s.Held[at].Connections = connections
	default:
		s.Held = append(s.Held, payment.Share{Session: session, Connections: connections})
	}
	if len(s.Held) == 0 {
		s.SignedOn = false
	}
}

// applyShare gives a session what it asks for of a link, or what others left of
// it. What others have is never taken away: they give it back, or their sessions
// end.
func (m *Machine) applyShare(c *cursor, r *Result) error {
	c.version(commandVersion)
	session := payment.Session(c.u64())
	link := m.names.of(c.text())
	want, all := int(c.u16()), int(c.u16())
	signedOn := c.flag()
	if err := c.end(); err != nil {
		return err
	}
	if !m.alive(session) {
		r.Err = payment.ErrUnavailable
		return nil
	}
	s := m.shares[link]
	if s == nil {
		s = &shares{}
		m.shares[link] = s
	}
	own := s.Of(session)
	s.give(session, min(want, max(all-(s.Taken()-own), 0)))
	if s.Keeper() == session {
		s.SignedOn = signedOn
	}
	m.setShares(link, s)
	r.Count = s.Of(session)
	return nil
}

func (m *Machine) setShares(link string, s *shares) {
	m.keyA = appendSharesKey(m.keyA[:0], link)
	if len(s.Held) == 0 {
		delete(m.shares, link)
		m.view.writes.delete(m.keyA)
		return
	}
	m.value = s.append(m.value[:0])
	m.view.writes.set(m.keyA, m.value)
}

// endShares gives back what a session had, link by link.
func (m *Machine) endShares(session payment.Session) {
	for _, link := range slices.Sorted(maps.Keys(m.shares)) {
		if s := m.shares[link]; s.Of(session) > 0 {
			s.give(session, 0)
			m.setShares(link, s)
		}
	}
}

func (m *Machine) loadShares() error {
	return m.table(tableShares, func(key, value []byte) error {
		c := cursor{b: key[1:]}
		link := m.names.of(c.text())
		s := &shares{}
		m.shares[link] = s
		return s.read(value)
	})
}

// Shares are a link's, of the caller's own memory.
func (m *Machine) Shares(link payment.LinkName) payment.Shares {
	s := m.shares[string(link)]
	if s == nil {
		return payment.Shares{}
	}
	return payment.Shares{Held: slices.Clone(s.Held), SignedOn: s.SignedOn}
}
