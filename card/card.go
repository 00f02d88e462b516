// Package card holds cardholder data while a request is in memory: the card
// number, its expiry, the security code, track 2 and the PIN block.
//
// Every type prints masked in every verb of fmt and in slog, refuses to be
// marshalled (JSON, text, binary, gob), and can be wiped. The clear value is
// reached by one method per type, named Reveal…, so that a search for Reveal
// finds every place a secret is read. The package knows nothing of payments,
// storage or the wire. Called by: api (parse), vault (seal), iso8583 (encode).
package card

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Errors of parsing. None of them carries the value.
var (
	ErrLength  = errors.New("impossible length")
	ErrDigits  = errors.New("not only digits")
	ErrLuhn    = errors.New("check digit does not hold")
	ErrExpiry  = errors.New("not a YYMM expiry")
	ErrTrack   = errors.New("not a track 2")
	ErrMarshal = errors.New("card data cannot be marshalled")
)

// Lengths of a primary account number, ISO/IEC 7812-1: 19 digits at most.
// Nothing shorter than 12 is issued.
const (
	minPAN = 12
	maxPAN = 19
)

// PAN is a primary account number, ISO/IEC 7812-1. The zero value is absent.
type PAN struct {
	digits [maxPAN]byte // ASCII
	length uint8
}

// ParsePAN reads 12 to 19 ASCII digits whose last is the Luhn check digit.
func ParsePAN(digits []byte) (PAN, error) {
	var p PAN
	if len(digits) < minPAN || len(digits) > maxPAN {
		return PAN{}, ErrLength
	}
	if !allDigits(digits) {
		return PAN{}, ErrDigits
	}
	if !Luhn(digits) {
		return PAN{}, ErrLuhn
	}
	p.length = uint8(copy(p.digits[:], digits))
	return p, nil
}

// Luhn reports whether the last digit is the check digit of those before it
// (ISO/IEC 7812-1 annex B). The digits must be ASCII.
func Luhn(digits []byte) bool {
	sum := 0
	double := false
	for _, digit := range slices.Backward(digits) {
		d := int(digit - '0')
		if double {
			d *= 2
			if d > 9 {
				d -= 9
			}
		}
		sum += d
		double = !double
	}
	return len(digits) > 0 && sum%10 == 0
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Len is the number of digits, 0 when absent.
func (p *PAN) Len() int { return int(p.length) }

// Present says whether there is a number at all.
func (p *PAN) Present() bool { return p.length != 0 }

// RevealPAN is the clear number. The bytes belong to p and are gone after Wipe.
func (p *PAN) RevealPAN() []byte { return p.digits[:p.length] }

// BIN is the issuer identification number that may be shown and stored:
// 8 digits for numbers of 16 digits and more, else 6 (PCI DSS 3.4.1 with the
// schemes' truncation rules).
func (p *PAN) BIN() []byte {
	switch {
	case p.length >= 16:
		return p.digits[:8]
	case p.length >= minPAN:
		return p.digits[:6]
	}
	return nil
}

// Last4 is the last four digits, nil when absent.
func (p *PAN) Last4() []byte {
	if p.length < 4 {
		return nil
	}
	return p.digits[p.length-4 : p.length]
}

// Wipe overwrites the number.
func (p *PAN) Wipe() { *p = PAN{} }

// Masked shows the first six and the last four digits.
func (p PAN) Masked() string {
	if p.length < minPAN {
		return "absent"
	}
	b := make([]byte, p.length)
	for i := range b {
		b[i] = '*'
	}
	copy(b, p.digits[:6])
	copy(b[p.length-4:], p.digits[p.length-4:p.length])
	return string(b)
}

// Expiry is YYMM as on the wire (DE 14). The zero value is absent.
type Expiry struct {
	digits  [4]byte
	present bool
}

// ParseExpiry reads YYMM with a month from 01 to 12.
func ParseExpiry(yymm []byte) (Expiry, error) {
	var e Expiry
	if len(yymm) != 4 || !allDigits(yymm) {
		return e, ErrExpiry
	}
	month := int(yymm[2]-'0')*10 + int(yymm[3]-'0')
	if month < 1 || month > 12 {
		return e, ErrExpiry
	}
	copy(e.digits[:], yymm)
	e.present = true
	return e, nil
}

// Present says whether there is an expiry at all.
func (e *Expiry) Present() bool { return e.present }

// RevealExpiry is YYMM; the bytes belong to e.
func (e *Expiry) RevealExpiry() []byte {
	if !e.present {
		return nil
	}
	return e.digits[:]
}

// Before reports whether the card expired before the given month: it is good
// through the last day of its own. Two-digit years are read as 2000–2099.
func (e *Expiry) Before(year, month int) bool {
	y := 2000 + int(e.digits[0]-'0')*10 + int(e.digits[1]-'0')
	m := int(e.digits[2]-'0')*10 + int(e.digits[3]-'0')
	return e.present && (y < year || y == year && m < month)
}

// Wipe overwrites the expiry.
func (e *Expiry) Wipe() { *e = Expiry{} }

// CVV is the printed security code, 3 or 4 digits: sensitive authentication
// data, never stored (PCI DSS 3.3.1). The zero value is absent.
type CVV struct {
	digits [4]byte
	length uint8
}

// ParseCVV reads 3 or 4 digits.
func ParseCVV(digits []byte) (CVV, error) {
	var c CVV
	if len(digits) != 3 && len(digits) != 4 {
		return c, ErrLength
	}
	if !allDigits(digits) {
		return c, ErrDigits
	}
	c.length = uint8(copy(c.digits[:], digits))
	return c, nil
}

// Present says whether there is a code at all.
func (c *CVV) Present() bool { return c.length != 0 }

// RevealCVV is the clear code; the bytes belong to c.
func (c *CVV) RevealCVV() []byte { return c.digits[:c.length] }

// Wipe overwrites the code.
func (c *CVV) Wipe() { *c = CVV{} }

// maxTrack2 is the longest track 2 without sentinels, ISO/IEC 7813.
const maxTrack2 = 37

// trackDates is what must follow the separator: expiry (4) and service code (3).
const trackDates = 7

// Track2 is the magnetic stripe or its chip equivalent, ISO/IEC 7813, with
// '=' as separator: sensitive authentication data, never stored.
type Track2 struct {
	data   [maxTrack2]byte
	length uint8
}

// ParseTrack2 reads PAN, separator ('=' or 'D'), expiry, service code and
// discretionary digits, without sentinels.
func ParseTrack2(b []byte) (Track2, error) {
	var t Track2
	if len(b) < minPAN+1+trackDates || len(b) > maxTrack2 {
		return t, ErrTrack
	}
	separators := 0
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9':
			t.data[i] = c
		case c == '=' || c == 'D':
			t.data[i] = '='
			separators++
			if i < minPAN || i > maxPAN || len(b)-i-1 < trackDates {
				return Track2{}, ErrTrack
			}
		default:
			return Track2{}, ErrTrack
		}
	}
	if separators != 1 {
		return Track2{}, ErrTrack
	}
	t.length = uint8(len(b))
	return t, nil
}

// Present says whether there is a track at all.
func (t *Track2) Present() bool { return t.length != 0 }

// RevealTrack2 is the clear track; the bytes belong to t.
func (t *Track2) RevealTrack2() []byte { return t.data[:t.length] }

// Wipe overwrites the track.
func (t *Track2) Wipe() { *t = Track2{} }

// PINBlock is an encrypted PIN block (DE 52), never stored: 8 bytes of the
// TDES formats of ISO 9564-1, 16 of format 4. The zero value is absent.
type PINBlock struct {
	block  [16]byte
	length uint8
}

// NewPINBlock takes 8 or 16 encrypted bytes.
func NewPINBlock(encrypted []byte) (PINBlock, error) {
	var b PINBlock
	if len(encrypted) != 8 && len(encrypted) != 16 {
		return b, ErrLength
	}
	b.length = uint8(copy(b.block[:], encrypted))
	return b, nil
}

// Present says whether there is a PIN block at all.
func (b *PINBlock) Present() bool { return b.length != 0 }

// RevealPINBlock is the encrypted block; the bytes belong to b.
func (b *PINBlock) RevealPINBlock() []byte { return b.block[:b.length] }

// Wipe overwrites the block.
func (b *PINBlock) Wipe() { *b = PINBlock{} }

// Token stands for a stored card: "card_" and an opaque identifier. It is not
// secret, but it belongs to a merchant.
type Token string

// Card is all that a request carries about one card.
type Card struct {
	PAN    PAN
	Expiry Expiry
	CVV    CVV
	Track2 Track2
	PIN    PINBlock // as it leaves: under the acquirer's zone key
	Chip   Chip
	Token  Token
}

// Wipe overwrites everything but the token.
func (c *Card) Wipe() {
	c.PAN.Wipe()
	c.Expiry.Wipe()
	c.CVV.Wipe()
	c.Track2.Wipe()
	c.PIN.Wipe()
	c.Chip.Wipe()
}

const hidden = "[hidden]"

// The methods below are what keeps the types out of logs and encoders. Format
// covers every verb, %#v and %x included; a String method alone would not.

// Format prints the masked number in every verb.
func (p PAN) Format(s fmt.State, _ rune) { fmt.Fprint(s, p.Masked()) }

// Format hides the expiry in every verb.
func (e Expiry) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// Format hides the code in every verb.
func (c CVV) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// Format hides the track in every verb.
func (t Track2) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// Format hides the block in every verb.
func (b PINBlock) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue is the masked number.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.Masked()) }

// LogValue hides the expiry.
func (Expiry) LogValue() slog.Value { return slog.StringValue(hidden) }

// LogValue hides the code.
func (CVV) LogValue() slog.Value { return slog.StringValue(hidden) }

// LogValue hides the track.
func (Track2) LogValue() slog.Value { return slog.StringValue(hidden) }

// LogValue hides the block.
func (PINBlock) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: encoding/json, yaml and xml all come through it.
func (PAN) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (Expiry) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (CVV) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (Track2) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (PINBlock) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses: encoding/gob comes through it.
func (PAN) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (Expiry) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (CVV) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (Track2) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (PINBlock) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
