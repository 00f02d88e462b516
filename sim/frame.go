package sim

import (
	"errors"
	"fmt"
)

// errFraming says that the stream can no longer be cut into frames.
var errFraming = errors.New("the framing is lost")

// framing is how frames stand in a stream. It is the simulator's own: a length
// read wrongly by both sides alike would never be noticed.
type framing struct {
	encoding  string // binary, bcd, ascii
	bytes     int    // of the length itself
	inclusive bool   // the length counts its own bytes
	reserved  int    // zero bytes after the length, never counted
	trailer   []byte // after each message, counted
	heartbeat bool   // an empty frame is a keep-alive, to be sent back
	max       int    // longest message, header included
}

// prefixLen is what stands before a message.
func (f *framing) prefixLen() int { return f.bytes + f.reserved }

// cut finds the first message in b. used is 0 while it is incomplete. A
// keep-alive gives an empty message.
func (f *framing) cut(b []byte) (message []byte, used int, err error) {
	if len(b) < f.prefixLen() {
		return nil, 0, nil
	}
	n, err := f.length(b[:f.bytes])
	if err != nil {
		return nil, 0, err
	}
	total := f.prefixLen() + n
	if n == 0 {
		return b[total:total], total, nil
	}
	if n > f.max+len(f.trailer) || n < len(f.trailer) {
		return nil, 0, fmt.Errorf("a message of %d bytes: %w", n, errFraming)
	}
	if len(b) < total {
		return nil, 0, nil
	}
	end := total - len(f.trailer)
	if string(b[end:total]) != string(f.trailer) {
		return nil, 0, fmt.Errorf("another trailer: %w", errFraming)
	}
	return b[f.prefixLen():end], total, nil
}

// length reads a length prefix; an empty frame may say 0 even where the
// length counts itself.
func (f *framing) length(b []byte) (int, error) {
	n := 0
	for _, c := range b {
		switch f.encoding {
		case "binary":
			n = n<<8 | int(c)
		case "bcd":
			if c>>4 > 9 || c&15 > 9 {
				return 0, fmt.Errorf("length is not BCD: %w", errFraming)
			}
			n = n*100 + int(c>>4)*10 + int(c&15)
		default:
			if c < '0' || c > '9' {
				return 0, fmt.Errorf("length is not digits: %w", errFraming)
			}
			n = n*10 + int(c-'0')
		}
	}
	if f.inclusive && n != 0 {
		if n -= f.bytes; n < 0 {
			return 0, fmt.Errorf("length counts less than itself: %w", errFraming)
		}
	}
	return n, nil
}

// begin appends room for a prefix; the message is appended next, then end.
func (f *framing) begin(dst []byte) []byte {
	for range f.prefixLen() {
		dst = append(dst, 0)
	}
	return dst
}

// end appends the trailer and writes the prefix of the frame that begins at
// start.
func (f *framing) end(dst []byte, start int) []byte {
	dst = append(dst, f.trailer...)
	f.put(dst[start:start+f.bytes], len(dst)-start-f.prefixLen())
	return dst
}

// put writes a length of n message bytes.
func (f *framing) put(prefix []byte, n int) {
	if f.inclusive {
		n += f.bytes
	}
	for i := len(prefix) - 1; i >= 0; i-- {
		switch f.encoding {
		case "binary":
			prefix[i] = byte(n)
			n >>= 8
		case "bcd":
			prefix[i] = byte(n/10%10)<<4 | byte(n%10)
			n /= 100
		default:
			prefix[i] = '0' + byte(n%10)
			n /= 10
		}
	}
}

// most is the largest number the prefix can say.
func (f *framing) most() int {
	base := map[string]int{"binary": 256, "bcd": 100}[f.encoding]
	if base == 0 {
		base = 10
	}
	n := 1
	for range f.bytes {
		n *= base
	}
	return n - 1
}
