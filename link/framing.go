package link

import (
	"bytes"
	"fmt"

	"authswitch/iso8583"
)

// framer cuts a byte stream into frames and puts frames into one, as the
// dialect's framing says. It holds no stream and does no I/O.
type framer struct {
	encoding  iso8583.LengthEncoding
	digits    int // bytes of the length prefix
	prefix    int // those and the reserved bytes
	inclusive int // what the length counts besides payload and trailer
	trailer   []byte
	heartbeat bool
	largest   int // bytes of header and message
}

func newFramer(f iso8583.Framing) (*framer, error) {
	r := &framer{
		encoding: f.LengthEncoding, digits: f.LengthBytes, prefix: f.LengthBytes + f.Reserved,
		trailer: f.Trailer, heartbeat: f.Heartbeat, largest: f.MaxMessage,
	}
	if f.Inclusive {
		r.inclusive = f.LengthBytes
	}
	switch f.LengthEncoding {
	case iso8583.LengthBinary, iso8583.LengthBCD, iso8583.LengthASCII:
	default:
		return nil, fmt.Errorf("framing: length encoding %q is unknown", f.LengthEncoding)
	}
	if f.LengthBytes < 1 || f.LengthBytes > 6 || f.Reserved < 0 || f.MaxMessage <= 0 {
		return nil, fmt.Errorf("framing: a length of %d bytes, %d reserved, messages of up to %d: impossible", f.LengthBytes, f.Reserved, f.MaxMessage)
	}
	if most := r.largest + len(r.trailer) + r.inclusive; most > r.countable() {
		return nil, fmt.Errorf("framing: the length prefix cannot count %d bytes", most)
	}
	return r, nil
}

// countable is the largest value the length prefix can hold.
func (r *framer) countable() int {
	n := 1
	for range r.digits {
		switch r.encoding {
		case iso8583.LengthBinary:
			n *= 256
		case iso8583.LengthBCD:
			n *= 100
		default:
			n *= 10
		}
	}
	return n - 1
}

// overhead is what a frame takes in the stream besides its payload.
func (r *framer) overhead() int { return r.prefix + len(r.trailer) }

// append writes one frame.
func (r *framer) append(dst, payload []byte) []byte {
	dst = r.appendPrefix(dst, len(payload)+len(r.trailer)+r.inclusive)
	dst = append(dst, payload...)
	return append(dst, r.trailer...)
}

// appendHeartbeat writes a frame of length zero.
func (r *framer) appendHeartbeat(dst []byte) []byte { return r.appendPrefix(dst, r.inclusive) }

func (r *framer) appendPrefix(dst []byte, n int) []byte {
	at := len(dst)
	for range r.prefix {
		dst = append(dst, 0)
	}
	for i := at + r.digits - 1; i >= at; i-- {
		switch r.encoding {
		case iso8583.LengthBinary:
			dst[i] = byte(n)
			n >>= 8
		case iso8583.LengthBCD:
			dst[i] = byte(n%10 | n/10%10<<4)
			n /= 100
		default:
			dst[i] = byte('0' + n%10)
			n /= 10
		}
	}
	return dst
}

// cut takes the first frame out of what was received. size is how many bytes
// of the stream it took, 0 while it is incomplete; a heartbeat has a size and
// no payload. An error means that frame boundaries are lost. A length beyond
// the dialect's largest message is such an error at once: nothing waits for
// bytes that no buffer would take.
func (r *framer) cut(stream []byte) (payload []byte, size int, err error) {
	if len(stream) < r.prefix {
		return nil, 0, nil
	}
	n, ok := r.length(stream)
	if !ok {
		return nil, 0, fmt.Errorf("%w: the length prefix is not a number", ErrFraming)
	}
	if r.heartbeat && (n == r.inclusive || n == 0) {
		return nil, r.prefix, nil
	}
	n -= r.inclusive + len(r.trailer)
	if n <= 0 || n > r.largest {
		return nil, 0, fmt.Errorf("%w: a message of %d bytes, where 1 to %d are possible", ErrFraming, n, r.largest)
	}
	size = r.prefix + n + len(r.trailer)
	if len(stream) < size {
		return nil, 0, nil
	}
	if !bytes.Equal(stream[r.prefix+n:size], r.trailer) {
		return nil, 0, fmt.Errorf("%w: the trailer is missing", ErrFraming)
	}
	return stream[r.prefix : r.prefix+n], size, nil
}

// length reads the length prefix. Reserved bytes are not looked at: some
// hosts put session marks there.
func (r *framer) length(stream []byte) (int, bool) {
	n := 0
	for _, b := range stream[:r.digits] {
		switch r.encoding {
		case iso8583.LengthBinary:
			n = n<<8 | int(b)
		case iso8583.LengthBCD:
			if b>>4 > 9 || b&15 > 9 {
				return 0, false
			}
			n = n*100 + int(b>>4)*10 + int(b&15)
		default:
			if b < '0' || b > '9' {
				return 0, false
			}
			n = n*10 + int(b-'0')
		}
	}
	return n, true
}
