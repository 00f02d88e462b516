package simulation_test

import "fmt"

// message is an ISO 8583:1987 message in ASCII as this package reads and writes
// it: written for itself from the element table, sharing nothing with the
// switch's codec.
type message struct {
	mti    string
	fields [129]string // "" absent
}

// The elements of dialect ascii87 that travel here: a fixed length, or the
// digits of a length in front.
var fixed = map[int]int{
	3: 6, 4: 12, 7: 10, 11: 6, 12: 6, 13: 4, 14: 4, 15: 4, 18: 4, 19: 3, 22: 3, 23: 3, 25: 2, 37: 12, 38: 6, 39: 2, 41: 8, 42: 15, 43: 40,
	49: 3, 50: 3, 52: 8, 53: 16, 64: 8, 66: 1, 70: 3, 74: 10, 75: 10, 76: 10, 77: 10, 86: 16, 87: 16, 88: 16, 89: 16, 90: 42, 95: 42, 97: 17,
}

var variable = map[int]int{2: 2, 32: 2, 33: 2, 35: 2, 44: 2, 45: 2, 48: 3, 54: 3, 55: 3, 60: 3, 61: 3, 62: 3, 63: 3, 99: 2}

// elements are both, by number, so that a message is read without a map.
var elements = func() (e [129]struct{ length, prefix int }) {
	for de, n := range fixed {
		e[de].length = n
	}
	for de, n := range variable {
		e[de].prefix = n
	}
	return e
}()

func parse(b []byte) (*message, error) {
	if len(b) < 12 {
		return nil, fmt.Errorf("a message of %d bytes", len(b))
	}
	m := &message{mti: string(b[:4])}
	bitmap, at := b[4:12], 12
	if bitmap[0]&0x80 != 0 {
		if len(b) < 20 {
			return nil, fmt.Errorf("the second bitmap is cut")
		}
		bitmap, at = b[4:20], 20
	}
	for de := 2; de <= 8*len(bitmap); de++ {
		if bitmap[(de-1)/8]&(0x80>>((de-1)%8)) == 0 {
			continue
		}
		n := elements[de].length
		if p := elements[de].prefix; p > 0 && at+p <= len(b) {
			for _, c := range b[at : at+p] {
				n = 10*n + int(c-'0')
			}
			at += p
		}
		if elements[de] == (struct{ length, prefix int }{}) || n < 0 || at+n > len(b) {
			return nil, fmt.Errorf("element %d of %s", de, m.mti)
		}
		m.fields[de] = string(b[at : at+n])
		at += n
	}
	if at != len(b) {
		return nil, fmt.Errorf("%d bytes too many", len(b)-at)
	}
	return m, nil
}

// bytes writes the message as a frame, with its length before it.
func (m *message) bytes() []byte {
	var bitmap [16]byte
	var body []byte
	for de := 2; de <= 128; de++ {
		v := m.fields[de]
		if v == "" {
			continue
		}
		bitmap[(de-1)/8] |= 0x80 >> ((de - 1) % 8)
		if p := elements[de].prefix; p > 0 {
			body = fmt.Appendf(body, "%0*d", p, len(v))
		}
		body = append(body, v...)
	}
	n := 8
	if [8]byte(bitmap[8:]) != [8]byte{} {
		bitmap[0] |= 0x80
		n = 16
	}
	out := []byte{0, 0}
	out = append(out, m.mti...)
	out = append(out, bitmap[:n]...)
	out = append(out, body...)
	out[0], out[1] = byte((len(out)-2)>>8), byte(len(out)-2)
	return out
}

// response is the answer to a message, with what an acquirer echoes.
func (m *message) response(code string, echo ...int) *message {
	r := &message{mti: string([]byte{m.mti[0], m.mti[1], m.mti[2]&^1 + 1, '0'})}
	for _, de := range echo {
		r.fields[de] = m.fields[de]
	}
	r.fields[39] = code
	return r
}
