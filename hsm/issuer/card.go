package issuer

import (
	"fmt"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

// Service codes that stand for a kind of card verification value instead of a
// track's own code (Visa, Payment Technology Standards Manual).
const (
	ServiceCVV2 = "000" // printed on the card
	ServiceICVV = "999" // in the chip's track 2 equivalent
)

// CVV computes the card verification value of an account number, an expiry as
// the kind writes it (YYMM on a track, MMYY or YYMM for CVV2 as the issuer
// does) and a service code: three digits.
//
// The algorithm is that of Visa and Mastercard: the digits, zeros behind, are
// two blocks; the first goes through DES by the left half, the second is added
// and goes through TDES. That is the retail MAC of the two blocks.
func CVV(k *key.Key, pan, expiry, service []byte) (Code, error) {
	if !digits(pan, 8, 19) || !digits(expiry, 4, 4) || !digits(service, 3, 3) {
		return Code{}, ErrInput
	}
	if !doubleLength(k) {
		return Code{}, ErrKey
	}
	m, err := mac.New(mac.ISO3, k)
	if err != nil {
		return Code{}, fmt.Errorf("expanding a card verification key: %w", err)
	}
	var ascii [26]byte
	n := copy(ascii[:], pan)
	n += copy(ascii[n:], expiry)
	n += copy(ascii[n:], service)
	var blocks [16]byte
	pack(blocks[:], ascii[:n])
	out := make([]byte, 8)
	defer clear(out)
	defer clear(blocks[:])
	defer clear(ascii[:])
	if err := m.Sum(out, mac.Zeros, blocks[:]); err != nil {
		return Code{}, fmt.Errorf("computing a card verification value: %w", err)
	}
	return decimalised(out, 3), nil
}

// PVV computes the Visa PIN verification value: the eleven rightmost digits of
// the account number without its check digit, the key index and the PIN's four
// leftmost digits, through TDES. Four digits.
func PVV(k *key.Key, index byte, pan, pin []byte) (Code, error) {
	if !digits(pan, 12, 19) || !digits(pin, 4, 12) || index < '0' || index > '9' {
		return Code{}, ErrInput
	}
	if !doubleLength(k) {
		return Code{}, ErrKey
	}
	c, err := k.Cipher()
	if err != nil {
		return Code{}, fmt.Errorf("expanding a PVV key: %w", err)
	}
	var ascii [16]byte
	copy(ascii[:11], pan[len(pan)-12:])
	ascii[11] = index
	copy(ascii[12:], pin[:4])
	block := make([]byte, 8)
	defer clear(block)
	defer clear(ascii[:])
	pack(block, ascii[:])
	c.Encrypt(block, block)
	return decimalised(block, 4), nil
}

// Table is a decimalisation table: the digit that each hexadecimal digit
// becomes.
type Table [16]byte

// ParseTable reads sixteen ASCII digits.
func ParseTable(ascii []byte) (Table, error) {
	if !digits(ascii, 16, 16) {
		return Table{}, fmt.Errorf("%w: a decimalisation table", ErrInput)
	}
	return Table(ascii), nil
}

// Different is how many different digits the table gives. With few, one learns
// a PIN by trying tables: an engine asks for eight.
func (t Table) Different() int {
	var seen [10]bool
	n := 0
	for _, c := range t {
		if c >= '0' && c <= '9' && !seen[c-'0'] {
			seen[c-'0'] = true
			n++
		}
	}
	return n
}

// at looks a nibble up by reading every place: which one is a secret.
func (t *Table) at(nibble byte) byte {
	out := byte(0)
	for i, c := range t {
		same := -byte((int16(nibble^byte(i)) - 1) >> 8 & 1) // 0xFF for the one
		out |= c & same
	}
	return out
}

// Validation is which digits of the account number an IBM 3624 PIN is made of:
// Length of them from Start, then Pad, a hexadecimal digit, up to sixteen.
type Validation struct {
	Start, Length int
	Pad           byte
}

// IBM3624 computes the PIN of an account: the validation data through TDES,
// decimalised by the table, plus the offset digit by digit modulo ten (IBM 3624
// PIN generation with offset). It has as many digits as the offset.
func IBM3624(k *key.Key, table Table, v Validation, pan, offset []byte) (Code, error) {
	pad, ok := hexDigit(v.Pad)
	fits := v.Start >= 0 && v.Length > 0 && v.Length <= 16 && v.Start+v.Length <= len(pan)
	if !ok || !fits || !digits(pan, 8, 19) || !digits(offset, 4, 16) || !digits(table[:], 16, 16) {
		return Code{}, ErrInput
	}
	if k.Algorithm() != key.TDES {
		return Code{}, ErrKey
	}
	c, err := k.Cipher()
	if err != nil {
		return Code{}, fmt.Errorf("expanding a PIN verification key: %w", err)
	}
	block := make([]byte, 8)
	defer clear(block)
	for i := range block {
		block[i] = pad<<4 | pad
	}
	pack(block, pan[v.Start:v.Start+v.Length])
	c.Encrypt(block, block)
	var pin Code
	for i, o := range offset {
		natural := table.at(block[i/2] >> (4 * (1 - i%2)) & 0xF)
		pin.digits[i] = '0' + (natural-'0'+o-'0')%10
	}
	pin.length = uint8(len(offset))
	return pin, nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
