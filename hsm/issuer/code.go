// Package issuer computes what a card's issuer holds against a card, its PIN
// and its chip: CVV, CVV2 and iCVV, the Visa PVV, the IBM 3624 PIN, and EMV
// application cryptograms with their answers.
//
// Every expected value is a Code or a key, printed masked and compared in
// constant time. The package holds no key, does no I/O, and does not decide who
// may ask (hsm/engine does, and only verifies). Called by hsm/engine and, as
// issuers, the simulators.
package issuer

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"

	"authswitch/hsm/key"
)

// Errors of a computation. None says anything of an expected value.
var (
	ErrInput   = errors.New("input that no issuer computes with")
	ErrKey     = errors.New("the key is not a double-length TDES key")
	ErrMarshal = errors.New("an expected value cannot be marshalled")
)

// Code is an expected value of decimal digits: a CVV, a PVV, a PIN.
type Code struct {
	digits [16]byte // ASCII
	length uint8
}

// Len is the number of digits.
func (c *Code) Len() int { return int(c.length) }

// Reveal is the clear digits; they belong to c.
func (c *Code) Reveal() []byte { return c.digits[:c.length] }

// Equal compares in constant time. Digits of another number are not equal.
func (c *Code) Equal(ascii []byte) bool {
	return c.length > 0 && subtle.ConstantTimeCompare(c.Reveal(), ascii) == 1
}

// Wipe overwrites the digits.
func (c *Code) Wipe() { *c = Code{} }

const hidden = "[hidden]"

// Format hides the digits in every verb.
func (Code) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the digits.
func (Code) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: encoding/json, yaml and xml all come through it.
func (Code) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses: encoding/gob comes through it.
func (Code) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// decimalised takes digits out of bytes as Visa does for CVV and PVV: first the
// nibbles that are digits, from the left, then the others less ten.
func decimalised(bytes []byte, want int) Code {
	var c Code
	for pass := range byte(2) {
		for i := range 2 * len(bytes) {
			n := bytes[i/2] >> (4 * (1 - i%2)) & 0xF
			if n/10 == pass && int(c.length) < want {
				c.digits[c.length] = '0' + n%10
				c.length++
			}
		}
	}
	return c
}

// pack writes ASCII digits two a byte from the left, over what is there.
func pack(dst, ascii []byte) {
	for i, d := range ascii {
		shift := 4 * (1 - i%2)
		dst[i/2] = dst[i/2]&^(0xF<<shift) | (d-'0')<<shift
	}
}

func digits(b []byte, least, most int) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) >= least && len(b) <= most
}

func doubleLength(k *key.Key) bool { return k.Algorithm() == key.TDES && k.Len() == 16 }
