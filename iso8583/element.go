package iso8583

// element is one data element or subfield as the compiler leaves it: all that
// packing and unpacking ask, and nothing that needs a look-up.
type element struct {
	de          int16
	id          string // of a subfield, "" for a data element
	name        string
	description string
	class       class
	coding      coding
	prefix      coding // of the length; fixed elements have prefixLen 0
	prefixLen   uint8  // digits for decimal prefixes, bytes for binary, pairs of digits for hex
	bytesUnit   bool   // the prefix counts bytes although the element is packed digits
	fixed       bool
	max         int // characters; bytes for binary elements
	padLeft     bool
	pad         byte // of a fixed element whose value is shorter; 0: none
	filler      byte // nibble that fills an odd number of digits
	encode      *[256]byte
	decode      *[256]byte
	sensitive   sensitivity
	composite   *composite
}

// class is what an element may hold, in the field's notation.
type class uint8

const (
	classN   class = iota // digits
	classA                // letters
	classAN               // letters and digits (and the space that pads them)
	classANS              // printable characters
	classB                // bytes
	classZ                // track 2: digits and one separator
	classXN               // C or D, then digits
)

// coding is how characters or lengths travel.
type coding uint8

const (
	codingASCII coding = iota
	codingBCD          // packed digits, an odd number filled on the left
	codingLBCD         // packed digits, an odd number filled on the right
	codingEBCDIC
	codingBinary
	codingHex  // each byte as two hexadecimal characters in ASCII
	codingBER  // lengths only: ISO/IEC 8825-1 definite form
	codingNone // no prefix: up to the end of what contains it
)

// sensitivity says how much of an element a dump may show and where it may
// travel.
type sensitivity uint8

const (
	plain sensitivity = iota
	sensitivePAN
	sensitiveExpiry
	sensitiveTrack
	sensitivePIN
	sensitiveCVV
	sensitiveChip // holds tags 57, 5A, 56, 9F6B
	sensitiveKey
)

// authentication reports sensitive authentication data, which is never stored
// and never travels in an advice or a reversal.
func (s sensitivity) authentication() bool {
	return s == sensitiveTrack || s == sensitivePIN || s == sensitiveCVV
}

// wireLen is how many bytes n characters take.
func (e *element) wireLen(n int) int {
	switch e.coding {
	case codingBCD, codingLBCD:
		if e.class == classXN && n > 0 {
			return 1 + n/2
		}
		return (n + 1) / 2
	case codingHex:
		return 2 * n
	default:
		return n
	}
}

// read decodes one element at pos of m.buf, whose message ends at end, and
// returns where its canonical value lies and where the next element starts.
func (e *element) read(m *Message, pos, end int) (value span, next int, err error) {
	n := e.max
	wire := 0
	if !e.fixed {
		length, used, err := readLength(e.prefix, int(e.prefixLen), m.buf[pos:end])
		if err != nil {
			return span{}, 0, err
		}
		pos += used
		switch {
		case length < 0: // no prefix
			n = end - pos
			if e.coding == codingHex {
				n /= 2
			}
			if e.coding == codingBCD || e.coding == codingLBCD {
				n *= 2
			}
		case e.bytesUnit:
			wire = length
			n = 2 * length
		default:
			n = length
		}
		if n > e.max && (!e.bytesUnit || n > e.max+1) {
			return span{}, 0, ErrTooLong
		}
	}
	if !e.bytesUnit || e.fixed {
		wire = e.wireLen(n)
	}
	if wire > end-pos {
		return span{}, 0, ErrTruncated
	}
	value, err = e.decodeValue(m, pos, pos+wire, n)
	return value, pos + wire, err
}

// decodeValue brings n characters, which lie at m.buf[from:to], into their
// canonical form. What is canonical on the wire stays where it is; the rest is
// appended to the buffer.
func (e *element) decodeValue(m *Message, from, to, n int) (span, error) {
	switch e.coding {
	case codingASCII:
		return span{from, to}, e.check(m.buf[from:to])
	case codingBinary:
		return span{from, to}, nil
	case codingBCD, codingLBCD:
		return e.decodeDigits(m, from, to, n)
	case codingEBCDIC:
		start := len(m.buf)
		for i := from; i < to; i++ {
			m.buf = append(m.buf, e.decode[m.buf[i]])
		}
		return span{start, len(m.buf)}, e.check(m.buf[start:])
	default:
		start := len(m.buf)
		for i := from; i < to; i += 2 {
			hi, lo := hexNibble(m.buf[i]), hexNibble(m.buf[i+1])
			if hi > 15 || lo > 15 {
				return span{}, ErrCharacters
			}
			m.buf = append(m.buf, hi<<4|lo)
		}
		return span{start, len(m.buf)}, nil
	}
}

// decodeDigits unpacks n digits. Where the prefix counts bytes, n is even and
// an F at the filled end is a filler that shortens the value.
func (e *element) decodeDigits(m *Message, from, to, n int) (span, error) {
	start := len(m.buf)
	if e.class == classXN && from < to {
		if c := m.buf[from]; c != 'C' && c != 'D' {
			return span{}, ErrCharacters
		}
		m.buf = append(m.buf, m.buf[from])
		from, n = from+1, n-1
	}
	first := len(m.buf)
	bad := byte(0)
	if n&1 == 1 && e.coding == codingBCD {
		hi, lo := m.buf[from]>>4, m.buf[from]&15
		if hi != 0 && hi != e.filler {
			return span{}, ErrFiller
		}
		bad = (lo + 6) & 16
		m.buf = append(m.buf, '0'+lo)
		from++
	}
	whole := to
	if n&1 == 1 && e.coding == codingLBCD {
		whole--
	}
	for i := from; i < whole; i++ {
		hi, lo := m.buf[i]>>4, m.buf[i]&15
		bad |= ((hi + 6) | (lo + 6)) & 16
		m.buf = append(m.buf, '0'+hi, '0'+lo)
	}
	if whole < to {
		hi, lo := m.buf[whole]>>4, m.buf[whole]&15
		if lo != 0 && lo != e.filler {
			return span{}, ErrFiller
		}
		bad |= (hi + 6) & 16
		m.buf = append(m.buf, '0'+hi)
	}
	if e.bytesUnit && (bad != 0 || len(m.buf)-start > e.max) {
		first, start = e.trimFiller(m, first, start)
	}
	digits := m.buf[first:]
	if e.class == classZ && !trackNibbles(digits) || bad != 0 && e.class != classZ && !allDigits(digits) {
		return span{}, ErrDigits
	}
	if len(m.buf)-start > e.max {
		return span{}, ErrTooLong
	}
	return span{start, len(m.buf)}, nil
}

// trimFiller takes the filler off digits whose prefix counted bytes: an F, or
// a zero where there is one digit too many.
func (e *element) trimFiller(m *Message, first, start int) (int, int) {
	end := len(m.buf)
	if first == end {
		return first, start
	}
	long := end-start > e.max
	switch last, lead := m.buf[end-1], m.buf[first]; {
	case e.coding == codingLBCD && (last == '0'+15 || long && last == '0'):
		m.buf = m.buf[:end-1]
	case e.coding == codingBCD && first == start && (lead == '0'+15 || long && lead == '0'):
		first++
		start++
	}
	return first, start
}

// trackNibbles turns the separator nibble D into '=' and reports whether the
// rest are digits.
func trackNibbles(b []byte) bool {
	for i, c := range b {
		switch {
		case c <= '9':
		case c == '0'+13:
			b[i] = '='
		default:
			return false
		}
	}
	return true
}

// check holds a value to its class. A peer's text is taken as moov takes it,
// any seven-bit character: an odd character in a display text must not turn an
// approval into an unknown outcome. Digits are digits: "+37" is none.
func (e *element) check(b []byte) error {
	switch e.class {
	case classN:
		if !allDigits(b) {
			return ErrDigits
		}
	case classXN:
		if len(b) > 0 && (b[0] != 'C' && b[0] != 'D' || !allDigits(b[1:])) {
			return ErrDigits
		}
	case classZ:
		for _, c := range b {
			if (c < '0' || c > '9') && c != '=' && c != 'D' {
				return ErrCharacters
			}
		}
	default:
		for _, c := range b {
			if c >= 0x80 {
				return ErrCharacters
			}
		}
	}
	return nil
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// hexNibble is the value of a hexadecimal character, 255 when it is none.
func hexNibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
