package card

import (
	"errors"
	"fmt"
	"log/slog"
)

// ErrChip means that bytes are no list of EMV data objects.
var ErrChip = errors.New("not a list of EMV data objects")

// maxChip is the longest DE 55.
const maxChip = 255

// Chip is what a chip said, as DE 55 carries it: BER-TLV data objects of EMV,
// kept byte for byte. It may hold track 2 (tags 57, 56, 9F6B) and the card
// number (5A), so that all of it is treated as sensitive authentication data:
// never stored. The zero value is absent.
type Chip struct {
	data   [maxChip]byte
	length uint8
}

// ParseChip takes up to 255 bytes of data objects with definite lengths. Order
// and unknown tags are kept; that they are well-formed is all it checks.
func ParseChip(b []byte) (Chip, error) {
	var c Chip
	if len(b) == 0 || len(b) > maxChip {
		return c, ErrLength
	}
	for rest := b; len(rest) > 0; {
		_, _, after, ok := nextObject(rest)
		if !ok {
			return c, ErrChip
		}
		rest = after
	}
	c.length = uint8(copy(c.data[:], b))
	return c, nil
}

// nextObject cuts the first data object off: ISO/IEC 8825-1 with tags of up to
// three bytes and definite lengths of up to three, as EMV Book 3 annex B has
// them. Zero bytes between objects are refused, as acquirers do.
func nextObject(b []byte) (tag uint32, value, rest []byte, ok bool) {
	if b[0] == 0 {
		return 0, nil, nil, false
	}
	tag, at := uint32(b[0]), 1
	if b[0]&0x1F == 0x1F {
		for {
			if at == len(b) || at == 3 {
				return 0, nil, nil, false
			}
			tag = tag<<8 | uint32(b[at])
			at++
			if b[at-1]&0x80 == 0 {
				break
			}
		}
	}
	if at == len(b) {
		return 0, nil, nil, false
	}
	length := int(b[at])
	at++
	if length >= 0x80 {
		more := length & 0x7F
		if more == 0 || more > 2 || at+more > len(b) {
			return 0, nil, nil, false
		}
		length = 0
		for range more {
			length = length<<8 | int(b[at])
			at++
		}
	}
	if length > len(b)-at {
		return 0, nil, nil, false
	}
	return tag, b[at : at+length], b[at+length:], true
}

// Present says whether there is chip data at all.
func (c *Chip) Present() bool { return c.length != 0 }

// RevealChip is the data objects; the bytes belong to c.
func (c *Chip) RevealChip() []byte { return c.data[:c.length] }

// tagSequence is the number of this card among those of one account number.
const tagSequence = 0x5F34

// AppendSequence appends the card sequence number (tag 5F34) as the two digits
// it has, nothing where the chip did not say it: DE 23.
func (c *Chip) AppendSequence(dst []byte) []byte {
	for rest := c.RevealChip(); len(rest) > 0; {
		tag, value, after, ok := nextObject(rest)
		if !ok {
			return nil
		}
		if tag == tagSequence && len(value) == 1 && value[0]>>4 < 10 && value[0]&15 < 10 {
			return append(dst, '0'+value[0]>>4, '0'+value[0]&15)
		}
		rest = after
	}
	return nil
}

// Wipe overwrites the data.
func (c *Chip) Wipe() {
	clear(c.data[:c.length])
	c.length = 0
}

// Format hides the data in every verb.
func (c Chip) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the data.
func (Chip) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses.
func (Chip) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (Chip) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
