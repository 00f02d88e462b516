package wire

import (
	"encoding/binary"
	"fmt"
)

// maxField is the longest field, what fits behind its length.
const maxField = 1<<16 - 1

// AppendBytes appends a field of any length: two bytes of length, then it. One
// that is too long makes the frame too long, which Finish refuses.
func AppendBytes(dst, field []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(len(field), maxField)))
	return append(dst, field...)
}

// AppendString appends a text as AppendBytes does.
func AppendString(dst []byte, field string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(len(field), maxField)))
	return append(dst, field...)
}

// AppendUint16 appends a number of two bytes.
func AppendUint16(dst []byte, n uint16) []byte { return binary.BigEndian.AppendUint16(dst, n) }

// AppendUint64 appends a number of eight bytes.
func AppendUint64(dst []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(dst, n) }

// Fields reads the fields of a body one after the other. What it gives out is a
// part of the body. After a field that is not there, all others are empty and
// Done says so: an operation reads all its fields and asks once.
type Fields struct {
	rest []byte
	bad  bool
}

// Read begins to read a body.
func Read(body []byte) Fields { return Fields{rest: body} }

// take is the next n bytes, nil where there are fewer.
func (f *Fields) take(n int) []byte {
	if f.bad || len(f.rest) < n {
		f.bad, f.rest = true, nil
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

// Byte is the next byte.
func (f *Fields) Byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 is the next number of two bytes.
func (f *Fields) Uint16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint64 is the next number of eight bytes.
func (f *Fields) Uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bytes is the next field of any length.
func (f *Fields) Bytes() []byte { return f.take(int(f.Uint16())) }

// String is the next field of any length, copied.
func (f *Fields) String() string { return string(f.Bytes()) }

// Fixed copies the next field into dst, which it must fill: a field without a
// length of its own.
func (f *Fields) Fixed(dst []byte) { copy(dst, f.take(len(dst))) }

// Done says whether every field was there and nothing is left.
func (f *Fields) Done() error {
	if f.bad {
		return fmt.Errorf("%w: one is missing", ErrFields)
	}
	if len(f.rest) != 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrFields, len(f.rest))
	}
	return nil
}
