package iso8583

import "encoding/hex"

// composite is the inner structure of an element.
type composite struct {
	kind      compositeKind
	elements  []*element // in the order of the wire
	keys      []uint32   // of elements by their ids as they travel (wireKey); nil where one is too long for a key
	lead      *element   // a fixed piece before the list (Mastercard's DE 48)
	idLen     int        // bytes of an id
	idBinary  bool       // ids are bytes, written as hexadecimal digits in the dialect
	encode    *[256]byte // of text ids
	decode    *[256]byte
	prefix    coding // of the length of each piece
	prefixLen uint8
	separator byte   // of delimited pieces
	list      string // the usage that announces a list of usages (UnionPay's "AS")
	bitmapLen int
	whole     bool // positions may not be cut off
	closed    bool // ids that are not listed are refused
}

// compositeKind is how the pieces of an element are told apart.
type compositeKind uint8

const (
	positional compositeKind = iota // one after the other; the last ones may be cut off
	bitmapped                       // an inner bitmap says which are there
	tagged                          // id, length, value
	berTagged                       // BER-TLV, ISO/IEC 8825-1 (EMV)
	delimited                       // id, value, separator
	usage                           // one id and its value, or a list of id, length, value
)

// maxDepth bounds composites within composites.
const maxDepth = 3

// read finds the pieces of a composite's content and checks them.
func (c *composite) read(m *Message, of *element, content span, parent int32, depth int) error {
	pos := content.from
	if c.lead != nil && pos < content.to && !isDigit(c.decodeByte(m.buf[pos])) {
		next, err := c.readOne(m, of, c.lead, span{}, pos, content.to, parent, depth)
		if err != nil {
			return err
		}
		pos = next
	}
	switch c.kind {
	case positional:
		return c.readPositions(m, of, span{pos, content.to}, parent, depth)
	case bitmapped:
		return c.readBits(m, of, span{pos, content.to}, parent, depth)
	case delimited:
		return c.readDelimited(m, of, span{pos, content.to}, parent, depth)
	case usage:
		return c.readUsage(m, of, span{pos, content.to}, parent, depth)
	default:
		return c.readTagged(m, of, span{pos, content.to}, parent, depth)
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func (c *composite) decodeByte(b byte) byte {
	if c.decode != nil {
		return c.decode[b]
	}
	return b
}

// readOne reads one listed piece and, where it is a composite, its pieces.
func (c *composite) readOne(m *Message, of, e *element, id span, pos, end int, parent int32, depth int) (int, error) {
	value, next, err := e.read(m, pos, end)
	if err != nil {
		return 0, err
	}
	i, err := m.addSub(subfield{element: e, id: id, value: value, parent: parent, de: of.de})
	if err != nil {
		return 0, err
	}
	if e.composite != nil {
		if depth+1 >= maxDepth {
			return 0, ErrStructure
		}
		if err := e.composite.read(m, e, value, i, depth+1); err != nil {
			return 0, err
		}
	}
	return next, nil
}

func (m *Message) addSub(s subfield) (int32, error) {
	if len(m.subs) >= maxSubfields {
		return 0, ErrStructure
	}
	m.subs = append(m.subs, s)
	return int32(len(m.subs) - 1), nil
}

func (c *composite) readPositions(m *Message, of *element, in span, parent int32, depth int) error {
	pos := in.from
	for _, e := range c.elements {
		if pos == in.to {
			break
		}
		next, err := c.readOne(m, of, e, span{}, pos, in.to, parent, depth)
		if err != nil {
			return err
		}
		pos = next
	}
	if pos != in.to {
		return ErrTrailing
	}
	return nil
}

func (c *composite) readBits(m *Message, of *element, in span, parent int32, depth int) error {
	if in.to-in.from < c.bitmapLen {
		if in.to == in.from && !of.fixed {
			return nil
		}
		return ErrTruncated
	}
	pos := in.from + c.bitmapLen
	for bit := 0; bit < 8*c.bitmapLen; bit++ {
		if m.buf[in.from+bit/8]&(0x80>>(bit%8)) == 0 {
			continue
		}
		e := c.numbered(bit + 1)
		if e == nil {
			return ErrUndefined
		}
		next, err := c.readOne(m, of, e, span{}, pos, in.to, parent, depth)
		if err != nil {
			return err
		}
		pos = next
	}
	if pos != in.to {
		return ErrTrailing
	}
	return nil
}

// numbered is the piece of an inner bitmap's bit.
func (c *composite) numbered(bit int) *element {
	for _, e := range c.elements {
		if e.number() == bit {
			return e
		}
	}
	return nil
}

// number reads a positional id; compile has checked that it is one.
func (e *element) number() int {
	n := 0
	for i := range len(e.id) {
		n = n*10 + int(e.id[i]-'0')
	}
	return n
}

func (c *composite) readTagged(m *Message, of *element, in span, parent int32, depth int) error {
	for pos := in.from; pos < in.to; {
		// EMV allows zero bytes between data objects (book 3, annex B1).
		if c.kind == berTagged && m.buf[pos] == 0 {
			pos++
			continue
		}
		n := c.idLen
		if c.kind == berTagged {
			n = berTagLen(m.buf[pos:in.to])
		}
		if n == 0 || n > in.to-pos {
			return ErrTruncated
		}
		id := span{pos, pos + n}
		next, err := c.readListed(m, of, id, in.to, parent, depth)
		if err != nil {
			return err
		}
		pos = next
	}
	return nil
}

// readListed reads length and value after an id: a listed piece by its own
// element, any other as bytes.
func (c *composite) readListed(m *Message, of *element, id span, end int, parent int32, depth int) (int, error) {
	if e := c.find(m.buf[id.from:id.to]); e != nil {
		return c.readOne(m, of, e, id, id.to, end, parent, depth)
	}
	if c.closed {
		return 0, ErrUndefined
	}
	length, used, err := readLength(c.prefix, int(c.prefixLen), m.buf[id.to:end])
	if err != nil {
		return 0, err
	}
	from := id.to + used
	if length > end-from {
		return 0, ErrTruncated
	}
	_, err = m.addSub(subfield{id: id, value: span{from, from + length}, parent: parent, de: of.de})
	return from + length, err
}

// find is the listed piece of an id as it travelled. The pieces are few, some
// thirty at most: a run over words is faster than a map.
func (c *composite) find(wire []byte) *element {
	if c.keys != nil {
		key := wireKey(wire)
		for i, k := range c.keys {
			if k == key {
				return c.elements[i]
			}
		}
		return nil
	}
	for _, e := range c.elements {
		if c.sameID(e.id, wire) {
			return e
		}
	}
	return nil
}

// longestKey is how many bytes of an id fit a key beside their number.
const longestKey = 3

// wireKey is an id of up to longestKey bytes and its length in one word; a
// longer one has the key of none.
func wireKey(wire []byte) uint32 {
	if len(wire) > longestKey {
		return 0
	}
	key := uint32(len(wire)) << 24
	for i, b := range wire {
		key |= uint32(b) << (8 * i)
	}
	return key
}

// index makes the keys once the pieces are known.
func (c *composite) index() {
	keys := make([]uint32, len(c.elements))
	for i, e := range c.elements {
		wire := []byte(e.id)
		switch {
		case c.idBinary:
			var err error
			if wire, err = hex.DecodeString(e.id); err != nil {
				return
			}
		case c.encode != nil:
			for j, b := range wire {
				wire[j] = c.encode[b]
			}
		}
		if len(wire) == 0 || len(wire) > longestKey {
			return
		}
		keys[i] = wireKey(wire)
	}
	c.keys = keys
}

func (c *composite) sameID(id string, wire []byte) bool {
	if c.idBinary {
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
	if len(id) != len(wire) {
		return false
	}
	for i, b := range wire {
		if id[i] != c.decodeByte(b) {
			return false
		}
	}
	return true
}

func (c *composite) readDelimited(m *Message, of *element, in span, parent int32, depth int) error {
	for pos := in.from; pos < in.to; {
		if in.to-pos < c.idLen {
			return ErrTruncated
		}
		id := span{pos, pos + c.idLen}
		stop := id.to
		for stop < in.to && m.buf[stop] != c.separator {
			stop++
		}
		if stop == in.to {
			return ErrStructure
		}
		if err := c.readBare(m, of, id, stop, parent, depth); err != nil {
			return err
		}
		pos = stop + 1
	}
	return nil
}

// readBare reads a value that has no length of its own: it ends at stop.
func (c *composite) readBare(m *Message, of *element, id span, stop int, parent int32, depth int) error {
	e := c.find(m.buf[id.from:id.to])
	if e == nil {
		if c.closed {
			return ErrUndefined
		}
		_, err := m.addSub(subfield{id: id, value: span{id.to, stop}, parent: parent, de: of.de})
		return err
	}
	bare := stop - id.to
	if bare > e.wireLen(e.max) {
		return ErrTooLong
	}
	value, err := e.decodeValue(m, id.to, stop, e.charsOf(bare))
	if err != nil {
		return err
	}
	_, err = m.addSub(subfield{element: e, id: id, value: value, parent: parent, de: of.de})
	return err
}

// charsOf is how many characters lie in n bytes of the wire.
func (e *element) charsOf(n int) int {
	switch e.coding {
	case codingBCD, codingLBCD:
		return min(2*n, e.max)
	case codingHex:
		return n / 2
	default:
		return n
	}
}

func (c *composite) readUsage(m *Message, of *element, in span, parent int32, depth int) error {
	if in.to == in.from {
		return nil
	}
	if in.to-in.from < c.idLen {
		return ErrTruncated
	}
	id := span{in.from, in.from + c.idLen}
	if c.sameID(c.list, m.buf[id.from:id.to]) {
		return c.readTagged(m, of, span{id.to, in.to}, parent, depth)
	}
	return c.readBare(m, of, id, in.to, parent, depth)
}
