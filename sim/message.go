package sim

// maxElement is the highest data element: three bitmaps.
const maxElement = 192

// message is the elements of one message as text or bytes, whatever codec read
// or will write them. Values alias the codec's or the frame's memory and are
// good until the next message.
type message struct {
	mti    [4]byte
	values [maxElement + 1][]byte
	set    []uint8 // which values are present, in order of arrival
	subs   []subfield
}

// subfield is a piece of a composite element that an answer gives.
type subfield struct {
	de    int
	path  string
	value []byte
}

func (m *message) reset() {
	for _, de := range m.set {
		m.values[de] = nil
	}
	m.set, m.subs = m.set[:0], m.subs[:0]
}

func (m *message) has(de int) bool { return m.values[de] != nil }

// put gives an element a value; an empty one is present and empty.
func (m *message) put(de int, value []byte) {
	if value == nil {
		value = []byte{}
	}
	if m.values[de] == nil {
		m.set = append(m.set, uint8(de))
	}
	m.values[de] = value
}

func (m *message) drop(de int) {
	if m.values[de] == nil {
		return
	}
	m.values[de] = nil
	for i, s := range m.set {
		if int(s) == de {
			m.set = append(m.set[:i], m.set[i+1:]...)
			return
		}
	}
}

func (m *message) putSub(de int, path string, value []byte) {
	m.subs = append(m.subs, subfield{de, path, value})
}

// class and function are the second and third digit of the message type.
func (m *message) class() byte    { return m.mti[1] }
func (m *message) function() byte { return m.mti[2] }

// repeat reports the repeat bit: 0101, 0421.
func (m *message) repeat() bool { return (m.mti[3]-'0')&1 == 1 }

// answerTo is the message type that answers another: the function plus one,
// the repeat bit cleared.
func answerTo(mti [4]byte) [4]byte {
	mti[2]++
	mti[3] = '0' + (mti[3]-'0')&^1
	return mti
}

// codec is the wire form of a dialect. One belongs to one connection.
type codec interface {
	// read takes a frame apart. The message is good until the next read.
	read(frame []byte, m *message) error
	// sub is a piece of a composite of the message read last, nil when absent.
	sub(de int, path string) []byte
	// write appends an answer to the message read last, or (asked is false) a
	// request of our own.
	write(dst []byte, m *message, asked bool) ([]byte, error)
}

// number reads decimal digits; ok is false for anything else or too many.
func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// appendNumber writes n with at least width digits.
func appendNumber(dst []byte, n uint64, width int) []byte {
	var digits [20]byte
	i := len(digits)
	for n > 0 || len(digits)-i < width {
		i--
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
	return append(dst, digits[i:]...)
}

func trimRight(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == '0' {
		b = b[1:]
	}
	return b
}
