package iso8583

import (
	"fmt"
	"math/bits"
)

// MaxFrame bounds every frame of every dialect; a dialect may ask for less.
const MaxFrame = 16384

// maxSubfields bounds the pieces of all composites of one message.
const maxSubfields = 512

// Unpack copies a frame into m and finds its elements. The frame must hold
// exactly one message: bytes after the last element are refused. On an error m
// holds what was read before it, for a person to look at.
func (d *Dialect) Unpack(m *Message, frame []byte) error {
	m.Reset()
	m.dialect = d
	if len(frame) > d.framing.MaxMessage {
		return fmt.Errorf("a frame of %d bytes: %w", len(frame), ErrTooLong)
	}
	m.grow(3*len(frame) + 64)
	m.buf = append(m.buf, frame...)
	m.frame = len(frame)
	pos, err := d.readHeader(m)
	if err != nil {
		return err
	}
	m.body = pos
	pos, err = d.readMTI(m, pos)
	if err != nil {
		return err
	}
	pos, err = d.readBitmaps(m, pos)
	if err != nil {
		return err
	}
	if pos, err = d.readElements(m, pos); err != nil {
		return err
	}
	if pos != m.frame {
		return fmt.Errorf("%d bytes: %w", m.frame-pos, ErrTrailing)
	}
	return nil
}

// grow makes room for everything at once, so that no piece of card data is
// left behind in an array that append abandoned.
func (m *Message) grow(n int) {
	if cap(m.buf) >= n {
		return
	}
	clear(m.buf[:cap(m.buf)])
	m.buf = make([]byte, 0, n)
}

func (d *Dialect) readMTI(m *Message, pos int) (int, error) {
	wire := 4
	if d.mtiCoding == codingBCD {
		wire = 2
	}
	if m.frame-pos < wire {
		return 0, fieldError(0, "", "message type", ErrTruncated)
	}
	var digits [4]byte
	b := m.buf[pos : pos+wire]
	switch d.mtiCoding {
	case codingBCD:
		digits = [4]byte{'0' + b[0]>>4, '0' + b[0]&15, '0' + b[1]>>4, '0' + b[1]&15}
	case codingEBCDIC:
		for i, c := range b {
			digits[i] = d.ebcdic.toASCII[c]
		}
	default:
		copy(digits[:], b)
	}
	mti, ok := mtiOf(digits[:])
	if !ok {
		return 0, fieldError(0, "", "message type", ErrMTI)
	}
	m.mti = mti
	return pos + wire, nil
}

// readBitmaps reads the bitmaps that stand before the elements: all of them
// where they are contiguous, else the first two.
func (d *Dialect) readBitmaps(m *Message, pos int) (int, error) {
	for i := range 3 {
		more := i == 0 || m.present[i-1]>>63 == 1
		if i == 1 && d.bitmapAlways > 1 {
			more = true
		}
		if !more || i == 2 && !d.bitmapContiguous {
			return pos, nil
		}
		if i == d.bitmapCount {
			return 0, fieldError(1, "", "bitmap", ErrUndefined)
		}
		word, next, err := d.readBitmap(m, pos)
		if err != nil {
			return 0, err
		}
		m.present[i], pos = word, next
	}
	if m.present[2]>>63 == 1 {
		return 0, fieldError(1, "", "bitmap", ErrUndefined)
	}
	return pos, nil
}

func (d *Dialect) readBitmap(m *Message, pos int) (uint64, int, error) {
	word := uint64(0)
	if d.bitmapCoding == codingBinary {
		if m.frame-pos < 8 {
			return 0, 0, fieldError(1, "", "bitmap", ErrTruncated)
		}
		for _, c := range m.buf[pos : pos+8] {
			word = word<<8 | uint64(c)
		}
		return word, pos + 8, nil
	}
	if m.frame-pos < 16 {
		return 0, 0, fieldError(1, "", "bitmap", ErrTruncated)
	}
	for _, c := range m.buf[pos : pos+16] {
		if d.bitmapCoding == codingEBCDIC {
			c = d.ebcdic.toASCII[c]
		}
		n := hexNibble(c)
		if n > 15 {
			return 0, 0, fieldError(1, "", "bitmap", ErrCharacters)
		}
		word = word<<4 | uint64(n)
	}
	return word, pos + 16, nil
}

func (d *Dialect) readElements(m *Message, pos int) (int, error) {
	for i := range 3 {
		w := m.present[i]
		// The top bit of a bitmap announces the next one; it is no element,
		// except DE 65 where the third bitmap is one.
		if i == 1 && w>>63 == 1 && !d.bitmapContiguous {
			if d.bitmapCount < 3 {
				return 0, fieldError(65, "", "bitmap", ErrUndefined)
			}
			word, next, err := d.readBitmap(m, pos)
			if err != nil {
				return 0, err
			}
			if word>>63 == 1 {
				return 0, fieldError(1, "", "bitmap", ErrUndefined)
			}
			m.present[2], pos = word, next
		}
		w &^= 1 << 63
		for w != 0 {
			bit := bits.LeadingZeros64(w)
			w &^= 1 << (63 - uint(bit))
			de := i<<6 + bit + 1
			e := d.elements[de]
			if e == nil {
				m.forget(de)
				return 0, fieldError(de, "", "", ErrUndefined)
			}
			value, next, err := e.read(m, pos, m.frame)
			inner := err == nil && e.composite != nil
			if inner {
				err = e.composite.read(m, e, value, -1, 0)
			}
			if err != nil {
				m.forget(de)
				fe := fieldError(de, "", e.name, err)
				fe.Inner = inner
				return 0, fe
			}
			m.spans[de], pos = value, next
		}
	}
	return pos, nil
}

// forget drops an element that could not be read and all that follow: their
// spans are those of an earlier message.
func (m *Message) forget(de int) {
	for i := range m.present {
		low := de - 1 - i<<6 // elements of this bitmap that were read
		switch {
		case low <= 0:
			m.present[i] = 0
		case low < 64:
			m.present[i] &= ^uint64(0) << (64 - uint(low))
		}
	}
}
