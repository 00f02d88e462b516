package iso8583

import "bytes"

// Masked appends a frame that says what frame says without what nobody may
// keep: of a card number the first six and last four digits, zeros for what
// else is sensitive and for what only looks so, and composites that hold any of
// it, or anything the dialect does not list, left out whole. It is a message of
// the dialect still, under the dialect's own header, and its MAC is no longer
// true.
func (d *Dialect) Masked(dst, frame []byte) ([]byte, MTI, error) {
	var m Message
	defer m.Wipe()
	if err := d.Unpack(&m, frame); err != nil {
		return dst, 0, err
	}
	var b Builder
	defer b.Wipe()
	b.Start(m.mti)
	for de := m.Next(1); de != 0; de = m.Next(de) {
		e := d.elements[de]
		switch {
		case e.composite == nil:
			b.Set(de, e.masked(m.Bytes(de)))
		case e.sensitive == plain && m.harmless(de):
			b.Set(de, m.Bytes(de))
		}
	}
	out, err := d.Pack(dst, &b)
	return out, m.mti, err
}

// masked is a value that Masked may keep, of the same length.
func (e *element) masked(value []byte) []byte {
	zero := byte('0')
	if e.class == classB {
		zero = 0
	}
	hidden := bytes.Repeat([]byte{zero}, len(value))
	switch e.sensitive {
	case plain:
		if e.class == classB && len(value) <= 16 || e.class != classB && !looksLikePAN(value) {
			return value
		}
	case sensitivePAN:
		if e.class == classN && len(value) >= 12 {
			copy(hidden, value[:6])
			copy(hidden[len(hidden)-4:], value[len(value)-4:])
		}
	}
	return hidden
}

// harmless says whether every piece of a composite is listed and not
// sensitive.
func (m *Message) harmless(de int) bool {
	if looksLikePAN(m.Bytes(de)) {
		return false
	}
	for i := range m.subs {
		s := &m.subs[i]
		if int(s.de) != de {
			continue
		}
		if s.element == nil || s.element.sensitive != plain || looksLikePAN(m.at(s.value)) {
			return false
		}
	}
	return true
}
