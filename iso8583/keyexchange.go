package iso8583

import (
	"encoding/hex"

	"authswitch/payment"
)

// maxKeyBytes bounds a key, or its block, in a network message.
const maxKeyBytes = 256

// readKey finds the key of a key exchange, where the message has one.
func (d *Dialect) readKey(m *Message, n *payment.NetworkMessage) {
	s := &d.security
	n.Key, n.Check = d.bytesAt(m, s.key, !s.rule.KeyExchange.Raw()), d.bytesAt(m, s.check, false)
	if said := s.usage.in(m); said != nil {
		for usage, text := range s.rule.KeyExchange.Usages {
			if text == string(trimRight(said)) {
				n.KeyUsage = usage
			}
		}
	}
}

// bytesAt is a place's value as bytes: what travels as hexadecimal text is
// decoded. A key block is text in itself, and stays it.
func (d *Dialect) bytesAt(m *Message, p place, text bool) []byte {
	value := p.in(m)
	e := d.at(p)
	if value == nil || e == nil || text || e.class == classB {
		return absent(value)
	}
	value = trimRight(value)
	if len(value)%2 != 0 || len(value) > 2*maxKeyBytes {
		return nil
	}
	out := make([]byte, len(value)/2)
	if _, err := hex.Decode(out, value); err != nil {
		return nil
	}
	return absent(out)
}

// at is the element of a place, nil where there is none.
func (d *Dialect) at(p place) *element {
	e := d.elements[max(p.de, 0)]
	if e == nil || p.sub == "" {
		return e
	}
	return e.piece(p.sub)
}

// putKey gives a network message the key, its check value and what it is for,
// in the places the link has for them.
func (d *Dialect) putKey(b *Builder, key, check []byte, usage string) error {
	s := &d.security
	for _, part := range []struct {
		place place
		value []byte
		text  bool
	}{
		{s.usage, []byte(s.rule.KeyExchange.Usages[usage]), true},
		{s.key, key, !s.rule.KeyExchange.Raw()},
		{s.check, check, false},
	} {
		e := d.at(part.place)
		if e == nil || len(part.value) == 0 {
			continue
		}
		value := part.value
		if !part.text && e.class != classB {
			value = hexText(value)
		}
		if len(value) > e.max {
			if part.place != s.check {
				return fieldError(part.place.de, part.place.sub, e.name, ErrTooLong)
			}
			value = value[:e.max] // the start of a check value is a check value
		}
		if part.place.sub == "" {
			b.Set(part.place.de, value)
		} else {
			b.SetSub(part.place.de, part.place.sub, value)
		}
	}
	return nil
}

func hexText(b []byte) []byte {
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, upperHex[c>>4], upperHex[c&15])
	}
	return out
}

// EncodeKeyAnswer appends the answer to a peer's key exchange: what EncodeAnswer
// writes, and the check value of the key that was taken.
func (d *Dialect) EncodeKeyAnswer(dst []byte, m *Message, code payment.ResponseCode, check []byte) ([]byte, error) {
	b := d.builder()
	defer d.release(b)
	d.startAnswer(b, m, code)
	b.Clear(d.security.key.de) // an answer that echoes the element must not send the key back
	if err := d.putKey(b, nil, check, ""); err != nil {
		return dst, err
	}
	if err := d.setMAC(b); err != nil {
		return dst, err
	}
	return d.Pack(dst, b)
}

// The data objects that go back to a chip: issuer authentication data, the two
// script templates, the response code.
const (
	tagIssuerAuthentication = "91"
	tagScript1              = "71"
	tagScript2              = "72"
	tagResponseCode         = "8A"
)

// chipAnswer is what of an answer's DE 55 goes back to the terminal. Anything
// else in it stays here: an issuer that echoes the request's objects echoes
// track 2 too.
func (d *Dialect) chipAnswer(m *Message) string {
	e := d.elements[55]
	if e == nil || e.composite == nil || !m.Has(55) {
		return ""
	}
	var out []byte
	for i := range m.subs {
		s := &m.subs[i]
		if s.de != 55 || s.element == nil {
			continue
		}
		switch s.element.id {
		case tagIssuerAuthentication, tagScript1, tagScript2, tagResponseCode:
		default:
			continue
		}
		value := m.at(s.value)
		if len(value) > 0xFF || len(out)+len(value)+3 > 0xFF {
			continue
		}
		id := s.element.id
		out = append(out, hexNibble(id[0])<<4|hexNibble(id[1]))
		if len(value) > 0x7F {
			out = append(out, 0x81)
		}
		out = append(append(out, byte(len(value))), value...)
	}
	return string(out)
}
