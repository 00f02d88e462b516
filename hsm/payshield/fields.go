package payshield

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// reader takes fields off one after the other. After a field that is not there
// all others are empty, and done says which code it is.
type reader struct {
	rest []byte
	code Code
}

func (r *reader) fail(c Code) {
	if r.code == "" {
		r.code = c
	}
	r.rest = nil
}

func (r *reader) take(n int) []byte {
	if r.code != "" || len(r.rest) < n {
		r.fail(LengthError)
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// digits is a field of decimal digits.
func (r *reader) digits(n int) []byte {
	b := r.take(n)
	for _, c := range b {
		if c < '0' || c > '9' {
			r.fail(InvalidData)
			return nil
		}
	}
	return b
}

// number is a field of decimal digits as a number.
func (r *reader) number(n int) int {
	v := 0
	for _, c := range r.digits(n) {
		v = v*10 + int(c-'0')
	}
	return v
}

// length is a field of four hexadecimal digits as a number.
func (r *reader) length() int {
	b := r.hex(2)
	if len(b) != 2 {
		return 0
	}
	return int(b[0])<<8 | int(b[1])
}

// hex is a field of n bytes as 2n hexadecimal digits.
func (r *reader) hex(n int) []byte {
	text := r.take(2 * n)
	if text == nil {
		return nil
	}
	out := make([]byte, n)
	if _, err := hex.Decode(out, text); err != nil {
		r.fail(InvalidData)
		return nil
	}
	return out
}

// expect is a field that has one value only.
func (r *reader) expect(text string) {
	if b := r.take(len(text)); b != nil && string(b) != text {
		r.fail(InvalidData)
	}
}

// block is a key block behind a letter: its own second to fifth characters say
// how long it is.
func (r *reader) block(scheme byte) []byte {
	s := r.take(1)
	if s != nil && s[0] != scheme {
		r.fail(InvalidScheme)
		return nil
	}
	if r.code != "" || len(r.rest) < 5 {
		r.fail(LengthError)
		return nil
	}
	peek := reader{rest: r.rest[1:5]}
	n := peek.number(4)
	if peek.code != "" || n < 16 {
		r.fail(SourceKey)
		return nil
	}
	return r.take(n)
}

// until is a field that a character ends.
func (r *reader) until(end byte, limit int) []byte {
	i := bytes.IndexByte(r.rest, end)
	if r.code != "" || i < 0 || i > limit {
		r.fail(InvalidData)
		return nil
	}
	b := r.rest[:i:i]
	r.rest = r.rest[i+1:]
	for _, c := range b {
		if c < '0' || c > '9' {
			r.fail(InvalidData)
			return nil
		}
	}
	return b
}

// done says whether every field was there and nothing is left.
func (r *reader) done() Code {
	if r.code == "" && len(r.rest) > 0 {
		return LengthError
	}
	if r.code == "" {
		return OK
	}
	return r.code
}

// The PIN block formats by their public codes.
const (
	codeISO0 = "01"
	codeISO1 = "05"
	codeISO3 = "47"
	codeISO4 = "48"
)

// formatCode is the code of an ISO format.
func formatCode(format byte) (string, error) {
	switch format {
	case 0:
		return codeISO0, nil
	case 1:
		return codeISO1, nil
	case 3:
		return codeISO3, nil
	case 4:
		return codeISO4, nil
	}
	return "", fmt.Errorf("%w: PIN block format %d", ErrUnsupported, format)
}

// format reads a code, and says how long such a block is.
func (r *reader) format() byte {
	switch string(r.take(2)) {
	case codeISO0:
		return 0
	case codeISO1:
		return 1
	case codeISO3:
		return 3
	case codeISO4:
		return 4
	}
	r.fail(InvalidFormat)
	return 0
}

// pinBlock reads a block of the length of its format, which stands behind it.
func (r *reader) pinBlock(long bool) []byte {
	if long {
		return r.hex(16)
	}
	return r.hex(8)
}

// account reads an account number: its twelve rightmost digits without the
// check digit, or for format 4 all of it up to a semicolon. The former is given
// a check digit, which nothing looks at.
func (r *reader) account(whole bool) []byte {
	if whole {
		return r.until(';', 19)
	}
	b := r.digits(12)
	if b == nil {
		return nil
	}
	return append(append(make([]byte, 0, 13), b...), '0')
}

// appendAccount writes one.
func appendAccount(dst, pan []byte, whole bool) ([]byte, error) {
	if whole {
		return append(append(dst, pan...), ';'), nil
	}
	if len(pan) < 13 {
		return dst, fmt.Errorf("%w: an account number of %d digits", ErrUnsupported, len(pan))
	}
	return append(dst, pan[len(pan)-13:len(pan)-1]...), nil
}

func appendHex(dst, b []byte) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, 2*len(b))...)
	hex.Encode(dst[at:], b)
	copy(dst[at:], bytes.ToUpper(dst[at:]))
	return dst
}

func appendLength(dst []byte, n int) []byte { return fmt.Appendf(dst, "%04X", n) }

func appendKey(dst, block []byte) []byte { return append(append(dst, keyScheme), block...) }

// The letters before a key.
const (
	keyScheme    = 'S' // a key block under the local master key
	blockScheme  = 'R' // a key block of X9.143 under a zone key
	doubleScheme = 'U' // 16 bytes of TDES, ECB under a zone key
	tripleScheme = 'T' // 24 bytes of TDES
)

// algorithmCode is algorithm and length as a key's attributes have them.
func algorithmCode(algorithm byte, bytes int) (string, error) {
	switch {
	case algorithm == 'T' && (bytes == 16 || bytes == 24):
		return fmt.Sprintf("T%d", bytes/8), nil
	case algorithm == 'A' && (bytes == 16 || bytes == 24 || bytes == 32):
		return fmt.Sprintf("A%d", bytes/8-1), nil
	}
	return "", fmt.Errorf("%w: %c key of %d bytes", ErrUnsupported, algorithm, bytes)
}

// attributes reads '#', usage, algorithm and length, mode, version,
// exportability and the number of optional blocks, and gives them in the order
// of hsm/wire with the length in bytes.
func (r *reader) attributes() (a [5]byte, bytes byte) {
	r.expect("#")
	usage, algorithm, mode := r.take(2), r.take(2), r.take(1)
	r.expect("00")
	exportability := r.take(1)
	r.expect("00")
	if r.code != "" {
		return a, 0
	}
	switch string(algorithm) {
	case "T2", "A1":
		bytes = 16
	case "T3", "A2":
		bytes = 24
	case "A3":
		bytes = 32
	default:
		r.fail(InvalidData)
	}
	return [5]byte{usage[0], usage[1], algorithm[0], mode[0], exportability[0]}, bytes
}

func appendAttributes(dst []byte, a [5]byte, algorithm string) []byte {
	return fmt.Appendf(dst, "#%c%c%s%c00%c00", a[0], a[1], algorithm, a[3], a[4])
}
