package oracle

import (
	"errors"

	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/prefix"
)

// Track is an element of track data in packed digits, which moov's JSON has no
// word for: its length counts digits, and one nibble is a separator, D.
type Track struct {
	DE     int
	Max    int    // digits, the separator among them
	Prefix string // of the length: binary, one byte; bcd, two digits or, beyond 99, three
	Right  bool   // half a byte that is left over is at the end; else at the start
	Filler byte   // the nibble that stands there
}

func (t *Track) field() field.Field {
	spec := &field.Spec{Length: t.Max, Description: "Track data", Enc: packedTrack{t.Right, t.Filler}}
	switch {
	case t.Prefix == "binary":
		spec.Pref = prefix.Binary.L
	case t.Max > 99:
		spec.Pref = prefix.BCD.LLL
	default:
		spec.Pref = prefix.BCD.LL
	}
	return field.NewString(spec)
}

// packedTrack is moov's encoding.Encoder for it.
type packedTrack struct {
	right  bool
	filler byte
}

var errTrack = errors.New("no track data")

const separator = 0xD

// Encode packs two characters a byte.
func (p packedTrack) Encode(text []byte) ([]byte, error) {
	nibbles := make([]byte, 0, len(text)+1)
	odd := len(text)%2 == 1
	if odd && !p.right {
		nibbles = append(nibbles, p.filler)
	}
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9':
			nibbles = append(nibbles, c-'0')
		case c == '=' || c == 'D':
			nibbles = append(nibbles, separator)
		default:
			return nil, errTrack
		}
	}
	if odd && p.right {
		nibbles = append(nibbles, p.filler)
	}
	out := make([]byte, len(nibbles)/2)
	for i := range out {
		out[i] = nibbles[2*i]<<4 | nibbles[2*i+1]
	}
	return out, nil
}

// Decode unpacks so many characters.
func (p packedTrack) Decode(packed []byte, length int) (text []byte, read int, err error) {
	read = (length + 1) / 2
	if length < 0 || len(packed) < read {
		return nil, 0, errTrack
	}
	for _, b := range packed[:read] {
		text = append(text, b>>4, b&15)
	}
	if length%2 == 1 {
		fill := text[0]
		if p.right {
			fill, text = text[length], text[:length]
		} else {
			text = text[1:]
		}
		if fill != p.filler {
			return nil, 0, errTrack
		}
	}
	for i, n := range text {
		switch {
		case n < 10:
			text[i] = '0' + n
		case n == separator:
			text[i] = '='
		default:
			return nil, 0, errTrack
		}
	}
	return text, read, nil
}
