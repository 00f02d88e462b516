package journal

import (
	"encoding/binary"

	"authswitch/payment"
)

// appender primitives: big-endian, fixed width, or one length byte before the
// bytes. All of them append and none of them allocates on a roomy destination.

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func put64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func putTime(b []byte, t payment.Instant) []byte { return put64(b, uint64(t)) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// putText writes up to 255 bytes. Longer ones were refused before they were
// proposed (check.go); cutting here keeps a mistake from breaking the format.
func putText[T ~string | ~[]byte](b []byte, s T) []byte {
	if len(s) > maxText {
		s = s[:maxText]
	}
	b = append(b, byte(len(s)))
	return append(b, s...)
}

// putLong writes up to 65,535 bytes.
func putLong(b, s []byte) []byte {
	b = put16(b, uint16(len(s)))
	return append(b, s...)
}

// cursor reads what the appenders wrote. The first fault sticks and every later
// read gives zeros, so that a decoder checks once, at its end. What it returns
// aliases its input.
type cursor struct {
	b      []byte
	broken bool
}

func (c *cursor) bytes(n int) []byte {
	if c.broken || n > len(c.b) {
		c.broken = true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() uint8 {
	if v := c.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if v := c.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if v := c.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (c *cursor) time() payment.Instant { return payment.Instant(c.u64()) }
func (c *cursor) text() []byte          { return c.bytes(int(c.u8())) }
func (c *cursor) long() []byte          { return c.bytes(int(c.u16())) }

// flag accepts 0 and 1 only: a value has one encoding.
func (c *cursor) flag() bool {
	v := c.u8()
	if v > 1 {
		c.broken = true
	}
	return v == 1
}

func (c *cursor) copy(dst []byte) { copy(dst, c.bytes(len(dst))) }

func (c *cursor) id() (id payment.ID) {
	c.copy(id[:])
	return id
}

// version refuses an encoding that this binary does not know.
func (c *cursor) version(want uint8) {
	if c.u8() != want {
		c.broken = true
	}
}

// end says whether everything was read and nothing was wrong.
func (c *cursor) end() error {
	if c.broken || len(c.b) != 0 {
		return ErrCorrupt
	}
	return nil
}

// owned is a copy that outlives the cursor's input; nil stays nil.
func owned(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}
