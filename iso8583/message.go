package iso8583

import (
	"fmt"
	"log/slog"
	"math/bits"
	"strings"

	"authswitch/card"
)

// maxDE is the highest element: three bitmaps.
const maxDE = 192

// span is a piece of a buffer.
type span struct{ from, to int }

// Message is one unpacked message. It is reused from frame to frame, owns its
// buffer, and is not safe for concurrent use. What its methods return is valid
// until the next Unpack, Swap or Wipe.
type Message struct {
	contents
	spans [maxDE + 1]span // of the elements that are present; of others, what was there before
}

// contents is a message but for its spans.
type contents struct {
	dialect  *Dialect
	mti      MTI
	rejected bool
	body     int       // where the message starts, after the header
	buf      []byte    // the frame, then what had to be decoded
	frame    int       // how much of buf is the frame
	present  [3]uint64 // the bitmaps as on the wire: DE 1 is the top bit of the first
	subs     []subfield
}

// subfield is one piece of a composite element. Pieces of one composite follow
// each other; a nested one names its parent.
type subfield struct {
	element *element // nil for an id the dialect does not list
	id      span     // the id on the wire; empty for positions and inner bitmaps
	value   span
	parent  int32 // index in subs, -1 for a piece of the data element itself
	de      int16
}

// Format prints the type only, in every verb: the rest is card data.
func (m Message) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "message %s", m.mti) }

// LogValue is the type only.
func (m *Message) LogValue() slog.Value { return slog.StringValue("message " + m.mti.String()) }

// MTI is the message type.
func (m *Message) MTI() MTI { return m.mti }

// Rejected says that the peer's network returned our own message under a
// reject header: what follows is the message we sent.
func (m *Message) Rejected() bool { return m.rejected }

// RejectCode is the code of a reject header, as bytes of the wire.
func (m *Message) RejectCode() []byte {
	if !m.rejected {
		return nil
	}
	r := m.dialect.reject
	return m.buf[r.codeAt : r.codeAt+r.codeLen]
}

// Header is the network header before the message, nil where the dialect has
// none.
func (m *Message) Header() []byte {
	if m.dialect == nil || m.dialect.headerLen == 0 || m.body == 0 {
		return nil
	}
	return m.buf[m.body-m.dialect.headerLen : m.body]
}

// Frame is what was unpacked, header included.
func (m *Message) Frame() []byte { return m.buf[:m.frame] }

// Has reports whether an element is present.
func (m *Message) Has(de int) bool {
	if de < 2 || de > maxDE {
		return false
	}
	return m.present[(de-1)>>6]&(1<<(63-uint(de-1)&63)) != 0
}

// Bytes is an element in its canonical form: digits and text in ASCII, with
// their padding; binary elements and composites as they travelled. nil when
// absent.
func (m *Message) Bytes(de int) []byte {
	if !m.Has(de) {
		return nil
	}
	return m.at(m.spans[de])
}

func (m *Message) at(s span) []byte { return m.buf[s.from:s.to:s.to] }

// Sub is a piece of a composite: a position or bit ("3"), a tag ("9F26"), an
// id ("92"), or a path through nested ones ("01.86"). nil when absent. Where a
// tag occurs more than once, the first counts.
func (m *Message) Sub(de int, id string) []byte {
	if !m.Has(de) {
		return nil
	}
	parent := int32(-1)
	for {
		head, rest, nested := strings.Cut(id, ".")
		i := m.findSub(de, parent, head)
		if i < 0 {
			return nil
		}
		if !nested {
			return m.at(m.subs[i].value)
		}
		parent, id = int32(i), rest
	}
}

func (m *Message) findSub(de int, parent int32, id string) int {
	for i := range m.subs {
		s := &m.subs[i]
		if int(s.de) != de || s.parent != parent {
			continue
		}
		if s.element != nil {
			if s.element.id == id {
				return i
			}
			continue
		}
		if m.hasID(s, id) {
			return i
		}
	}
	return -1
}

// hasID compares an id the dialect does not list, which is kept as it
// travelled: as text, or as hexadecimal digits where ids are binary.
func (m *Message) hasID(s *subfield, id string) bool {
	c := m.compositeOf(s)
	wire := m.at(s.id)
	if !c.idBinary {
		if len(wire) != len(id) {
			return false
		}
		for i, b := range wire {
			if c.decode != nil {
				b = c.decode[b]
			}
			if id[i] != b {
				return false
			}
		}
		return true
	}
	if len(id) != 2*len(wire) {
		return false
	}
	for i, b := range wire {
		if id[2*i] != upperHex[b>>4] || id[2*i+1] != upperHex[b&15] {
			return false
		}
	}
	return true
}

// compositeOf is the composite a piece belongs to.
func (m *Message) compositeOf(s *subfield) *composite {
	if s.parent >= 0 {
		return m.subs[s.parent].element.composite
	}
	return m.dialect.elements[s.de].composite
}

// Swap exchanges two messages, buffers and all. Of the spans it exchanges those
// that either message has: a message has fifteen, and there is room for 192.
func (m *Message) Swap(o *Message) {
	for i := range m.present {
		for w := m.present[i] | o.present[i]; w != 0; {
			bit := bits.LeadingZeros64(w)
			w &^= 1 << (63 - uint(bit))
			de := i<<6 + bit + 1
			m.spans[de], o.spans[de] = o.spans[de], m.spans[de]
		}
	}
	m.contents, o.contents = o.contents, m.contents
}

// Wipe overwrites the buffer with zeros and forgets the message.
func (m *Message) Wipe() {
	clear(m.buf[:cap(m.buf)])
	card.ClearRegisters()
	m.Reset()
}

// Reset forgets the message and keeps the buffer.
func (m *Message) Reset() {
	m.mti, m.rejected, m.body, m.frame = 0, false, 0, 0
	m.buf, m.subs = m.buf[:0], m.subs[:0]
	m.present = [3]uint64{}
}

// Next is the first element present after de, 0 when there is none. It walks a
// message without knowing what is in it.
func (m *Message) Next(de int) int {
	for word := de >> 6; word < 3; word++ {
		w := m.present[word]
		if word == de>>6 {
			w &= ^uint64(0) >> (uint(de) & 63)
		}
		for w != 0 {
			n := word<<6 + bits.LeadingZeros64(w) + 1
			if n != 1 && n != 65 && n != 129 {
				return n
			}
			w &^= 1 << (63 - uint(n-1)&63)
		}
	}
	return 0
}
