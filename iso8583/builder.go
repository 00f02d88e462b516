package iso8583

import (
	"fmt"
	"log/slog"

	"authswitch/card"
)

// Builder collects the elements of one message to pack. It is reused, owns its
// buffer, and is not safe for concurrent use. Values are copied in; padding,
// coding and lengths are the dialect's and are applied by Pack.
type Builder struct {
	mti     MTI
	buf     []byte
	header  span
	present [3]uint64
	spans   [maxDE + 1]span
	subs    []subValue
	window  []subValue // of subs: the element being packed
	scratch []byte
	invalid bool // an element number was set that no message can have
	wrong   int
	mac     int
	body    int
}

// subValue is a piece of a composite to be. The last value set for a path wins.
type subValue struct {
	de    int
	path  string
	value span
}

// Start begins a message and forgets the one before.
func (b *Builder) Start(mti MTI) {
	b.mti = mti
	b.buf, b.subs, b.scratch = b.buf[:0], b.subs[:0], b.scratch[:0]
	b.present, b.header = [3]uint64{}, span{}
	b.invalid, b.wrong, b.mac, b.body = false, 0, -1, 0
}

// Format prints the type only, in every verb: the rest is card data.
func (b Builder) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "message %s", b.mti) }

// LogValue is the type only.
func (b *Builder) LogValue() slog.Value { return slog.StringValue("message " + b.mti.String()) }

// Wipe overwrites the buffers with zeros.
func (b *Builder) Wipe() {
	clear(b.buf[:cap(b.buf)])
	clear(b.scratch[:cap(b.scratch)])
	card.ClearRegisters()
	b.Start(0)
}

// MTI is the type the message was started with.
func (b *Builder) MTI() MTI { return b.mti }

// Set gives an element its canonical value: digits and text in ASCII, bytes
// for binary elements and for composites.
func (b *Builder) Set(de int, value []byte) {
	if de < 2 || de > maxDE || de == 65 || de == 129 {
		b.invalid, b.wrong = true, de
		return
	}
	b.spans[de] = b.keep(value)
	b.mark(de)
}

// SetString is Set for a configured text.
func (b *Builder) SetString(de int, value string) {
	if de < 2 || de > maxDE || de == 65 || de == 129 {
		b.invalid, b.wrong = true, de
		return
	}
	from := len(b.buf)
	b.buf = append(b.buf, value...)
	b.spans[de] = span{from, len(b.buf)}
	b.mark(de)
}

// SetUint gives an element a number in decimal; a fixed one is padded by Pack.
func (b *Builder) SetUint(de int, value uint64) {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = '0' + byte(value%10)
		if value /= 10; value == 0 {
			break
		}
	}
	b.Set(de, digits[i:])
}

// SetSub gives one piece of a composite its value. Pieces that Set gave as a
// whole are replaced: a composite is set whole or in pieces, never both.
func (b *Builder) SetSub(de int, id string, value []byte) {
	if de < 2 || de > maxDE || de == 65 || de == 129 {
		b.invalid, b.wrong = true, de
		return
	}
	b.subs = append(b.subs, subValue{de: de, path: id, value: b.keep(value)})
	b.spans[de] = span{}
	b.mark(de)
}

// Clear takes an element out again.
func (b *Builder) Clear(de int) {
	if de < 2 || de > maxDE {
		return
	}
	b.present[(de-1)>>6] &^= 1 << (63 - uint(de-1)&63)
	kept := b.subs[:0]
	for _, s := range b.subs {
		if s.de != de {
			kept = append(kept, s)
		}
	}
	b.subs = kept
}

// Has reports whether an element was set.
func (b *Builder) Has(de int) bool {
	return de >= 2 && de <= maxDE && b.present[(de-1)>>6]&(1<<(63-uint(de-1)&63)) != 0
}

// AnswerHeader makes Pack derive the network header from the one of a received
// message: stations swapped, echoed fields kept. Without it Pack writes the
// dialect's own values.
func (b *Builder) AnswerHeader(m *Message) { b.header = b.keep(m.Header()) }

// MACOffset is where the MAC's eight bytes (zeros so far) start in what the
// last Pack appended, -1 when the message has none. A MAC in hexadecimal takes
// twice the room.
func (b *Builder) MACOffset() int { return b.mac }

// BodyOffset is where the message starts in what the last Pack appended, after
// the header: a MAC is computed over the bytes from here to MACOffset.
func (b *Builder) BodyOffset() int { return b.body }

func (b *Builder) keep(value []byte) span {
	from := len(b.buf)
	b.buf = append(b.buf, value...)
	return span{from, len(b.buf)}
}

func (b *Builder) mark(de int) { b.present[(de-1)>>6] |= 1 << (63 - uint(de-1)&63) }
