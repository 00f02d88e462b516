// Package pinblock forms and reads PIN blocks of ISO 9564-1: formats 0, 1, 2
// and 3 in the clear, format 4 together with its encipherment.
//
// What is read is checked whole — control, length, digits, fill, and through
// them the PAN — in a time that tells nothing of the PIN, and every failure is
// the one error ErrRefused: to say which check failed would make an oracle that
// finds PINs. The package holds no key, does no I/O, allocates nothing, and
// does not decide which format may become which (hsm/engine does). Called by
// hsm/engine and the simulators.
package pinblock

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Errors. ErrRefused is all that is ever said of a block, a PIN or a PAN.
var (
	ErrRefused    = errors.New("PIN block refused")
	ErrRandomness = errors.New("the source of randomness failed")
	ErrMarshal    = errors.New("a PIN cannot be marshalled")
)

// Lengths of a PIN, ISO 9564-1 clause 8.1.
const (
	minPIN = 4
	maxPIN = 12
)

// PIN is a clear PIN, inside the security module and nowhere else. The zero
// value is absent.
type PIN struct {
	digits [maxPIN]byte // 0 to 9, not ASCII; 0 beyond length
	length uint8
}

// ParsePIN reads 4 to 12 ASCII digits.
func ParsePIN(ascii []byte) (PIN, error) {
	var p PIN
	if len(ascii) < minPIN || len(ascii) > maxPIN {
		return PIN{}, ErrRefused
	}
	bad := byte(0)
	for i, c := range ascii {
		p.digits[i] = c - '0'
		bad |= above9(p.digits[i])
	}
	if bad != 0 {
		return PIN{}, ErrRefused
	}
	p.length = uint8(len(ascii))
	return p, nil
}

// Len is the number of digits, 0 when absent.
func (p *PIN) Len() int { return int(p.length) }

// RevealPIN writes the ASCII digits into dst and says how many they are. It is
// for the verification of a PIN against what its issuer holds.
func (p *PIN) RevealPIN(dst *[maxPIN]byte) int {
	for i, d := range p.digits {
		dst[i] = '0' + d
	}
	return int(p.length)
}

// Wipe overwrites the PIN.
func (p *PIN) Wipe() { *p = PIN{} }

// Format is the value of the control field, ISO 9564-1 clauses 9.3 and 9.4.
type Format uint8

// The formats. 2 is for a card that checks its PIN offline: it is never
// translated to, and read only in tests.
const (
	ISO0 Format = 0 // PIN and PAN, fill F
	ISO1 Format = 1 // PIN and a transaction field, no PAN
	ISO2 Format = 2 // PIN, fill F, no PAN
	ISO3 Format = 3 // PIN and PAN, fill random A to F
	ISO4 Format = 4 // PIN and PAN, enciphered with AES around the PAN
)

// Bytes of a block of formats 0 to 3, and of format 4.
const (
	Size  = 8
	Size4 = 16
)

// Encode forms the clear block of format 0, 1, 2 or 3 into the first 8 bytes of
// dst. Formats 1 and 2 do not look at the PAN; random fills formats 1 and 3.
func Encode(dst []byte, f Format, p *PIN, pan []byte, random io.Reader) error {
	if len(dst) < Size || p.length < minPIN || p.length > maxPIN || f > ISO3 {
		return ErrRefused
	}
	block := dst[:Size]
	account, err := accountField(f, pan)
	if err != nil {
		return err
	}
	var fill [2*Size - 2]byte
	switch f {
	case ISO0, ISO2:
		for i := range fill {
			fill[i] = 0xF
		}
	case ISO1, ISO3:
		if err := randomFill(&fill, f, block, random); err != nil {
			return err
		}
	}
	put(block, byte(f), p, &fill)
	for i := range block {
		block[i] ^= account[i]
	}
	clear(fill[:])
	return nil
}

// put writes control, length, PIN and fill. Which nibbles are PIN is chosen by
// arithmetic, not by a branch on the length.
func put(block []byte, control byte, p *PIN, fill *[2*Size - 2]byte) {
	block[0] = control<<4 | p.length
	var nibbles [2*Size - 2]byte
	copy(nibbles[:], p.digits[:])
	for i := range nibbles {
		pin := below(byte(i), p.length)
		nibbles[i] = nibbles[i]&pin | fill[i]&^pin
	}
	for i := 1; i < Size; i++ {
		block[i] = nibbles[2*i-2]<<4 | nibbles[2*i-1]
	}
	clear(nibbles[:])
}

// maxReads bounds the rejection below: a source that gives only refused bytes
// is broken. Honest ones are refused 4 bytes in 256.
const maxReads = 16

// randomFill makes the nibbles behind the PIN: any for format 1 (clause 9.3.3,
// the transaction field), A to F for format 3 (9.3.5), drawn by rejection so
// that each of the six is equally likely. The block is the buffer that is read
// into, because it is the caller's and about to be overwritten.
func randomFill(fill *[2*Size - 2]byte, f Format, block []byte, random io.Reader) error {
	n := 0
	for range maxReads {
		if _, err := io.ReadFull(random, block); err != nil {
			return ErrRandomness
		}
		for _, b := range block {
			switch {
			case n == len(fill):
				return nil
			case f == ISO1:
				fill[n] = b & 0xF
				n++
			case b < 252: // 42 times 6
				fill[n] = 0xA + b%6
				n++
			}
		}
	}
	return ErrRandomness
}

// Decode checks a clear block of format 0, 1, 2 or 3 and takes its PIN out. On
// any failure there is no PIN and the error is ErrRefused.
func Decode(p *PIN, f Format, block, pan []byte) error {
	p.Wipe()
	if len(block) != Size || f > ISO3 {
		return ErrRefused
	}
	account, err := accountField(f, pan)
	if err != nil {
		return err
	}
	var field [Size]byte
	for i := range field {
		field[i] = block[i] ^ account[i] //nolint:gosec // all three are Size long
	}
	err = take(p, f, &field)
	clear(field[:])
	return err
}

// take reads a plain text PIN field: control, length, digits and fill. It does
// the same work whatever it finds, and only then looks at the verdict.
func take(p *PIN, f Format, field *[Size]byte) error {
	length := field[0] & 0xF
	bad := field[0]>>4 ^ byte(f)
	bad |= below(length, minPIN) | below(maxPIN, length)
	low, high := fillBounds(f)
	for i := range 2*Size - 2 {
		nibble := field[1+i/2] >> 4
		if i%2 == 1 { // a position, not a secret
			nibble = field[1+i/2] & 0xF
		}
		pin := below(byte(i), length)
		bad |= above9(nibble) & pin
		bad |= (below(nibble, low) | below(high, nibble)) &^ pin
		if i < maxPIN {
			p.digits[i] = nibble & pin
		}
	}
	p.length = length
	if bad != 0 {
		p.Wipe()
		return ErrRefused
	}
	return nil
}

// fillBounds are the nibbles allowed behind the PIN: ISO 9564-1 clauses 9.3.2
// to 9.3.5 and 9.4.2.2.
func fillBounds(f Format) (low, high byte) {
	switch f {
	case ISO1:
		return 0x0, 0xF
	case ISO3:
		return 0xA, 0xF
	case ISO4:
		return 0xA, 0xA
	}
	return 0xF, 0xF
}

// maxPAN is the longest account number, ISO/IEC 7812-1.
const maxPAN = 19

// accountField is the PAN field of formats 0 and 3 (clause 9.3.2.3): the twelve
// rightmost digits without the check digit, zeros to their left; nothing for
// the formats without one.
func accountField(f Format, pan []byte) ([Size]byte, error) {
	var field [Size]byte
	if f == ISO1 || f == ISO2 {
		return field, nil
	}
	if !digits(pan) {
		return field, ErrRefused
	}
	packRight(field[2:], pan[:len(pan)-1])
	return field, nil
}

// packRight packs digits two a byte, right justified; what does not fit on the
// left is left out.
func packRight(dst, ascii []byte) {
	for i := range min(2*len(dst), len(ascii)) {
		d := ascii[len(ascii)-1-i] - '0'
		dst[len(dst)-1-i/2] |= d << (4 * (i % 2))
	}
}

// digits says whether this can be an account number. A PAN is not secret from
// whoever sent it: this need not be constant time.
func digits(pan []byte) bool {
	for _, c := range pan {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(pan) > 0 && len(pan) <= maxPAN
}

// below is 0xFF when a < b, else 0, without a branch. Both are below 128.
func below(a, b byte) byte { return -((a - b) >> 7) }

// above9 is 0xFF when b is not a digit, else 0, without a branch.
func above9(b byte) byte { return -byte((9 - int16(b)) >> 15 & 1) }

const hidden = "[hidden]"

// Format hides the PIN in every verb, its length too.
func (PIN) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the PIN.
func (PIN) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: encoding/json, yaml and xml all come through it.
func (PIN) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses: encoding/gob comes through it.
func (PIN) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
