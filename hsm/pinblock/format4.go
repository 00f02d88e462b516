package pinblock

import (
	"crypto/cipher"
	"io"
)

// PANRule is how format 4 binds the account number. It is a setting of a link:
// both ends must hold the same.
type PANRule uint8

// The two rules in use.
const (
	// FullPAN is ISO 9564-1:2017 clause 9.4.2.2: all digits, left justified,
	// behind a nibble that says how many there are beyond twelve.
	FullPAN PANRule = iota
	// Rightmost12 is the older habit, the twelve digits of format 0: the
	// rightmost without the check digit, behind a nibble of zero.
	Rightmost12
)

// Encipher4 forms a format 4 block in the first 16 bytes of dst and enciphers
// it: E(E(PIN field) xor PAN field), ISO 9564-1 clause 9.4.2.3. The cipher must
// be AES: blocks of 16 bytes.
func Encipher4(dst []byte, c cipher.Block, p *PIN, pan []byte, rule PANRule, random io.Reader) error {
	if len(dst) < Size4 || p.length < minPIN || p.length > maxPIN || c.BlockSize() != Size4 {
		return ErrRefused
	}
	account, err := accountField4(pan, rule)
	if err != nil {
		return err
	}
	block := dst[:Size4]
	if _, err := io.ReadFull(random, block[Size:]); err != nil {
		clear(block)
		return ErrRandomness
	}
	var fill [2*Size - 2]byte
	for i := range fill {
		fill[i] = 0xA
	}
	put(block[:Size], byte(ISO4), p, &fill)
	c.Encrypt(block, block)
	for i := range block {
		block[i] ^= account[i]
	}
	c.Encrypt(block, block)
	return nil
}

// Decipher4 is the reverse, with every check of Decode. The block is worked in
// and is zeros afterwards, whatever came of it: its clear form must not be left
// in a buffer of the caller's.
func Decipher4(p *PIN, c cipher.Block, block, pan []byte, rule PANRule) error {
	p.Wipe()
	defer clear(block)
	if len(block) != Size4 || c.BlockSize() != Size4 {
		return ErrRefused
	}
	account, err := accountField4(pan, rule)
	if err != nil {
		return err
	}
	c.Decrypt(block, block)
	for i := range block {
		block[i] ^= account[i]
	}
	c.Decrypt(block, block)
	var field [Size]byte
	copy(field[:], block)
	err = take(p, ISO4, &field)
	clear(field[:])
	return err
}

// accountField4 is the plain text PAN field of format 4: nibble M, digits,
// zeros.
func accountField4(pan []byte, rule PANRule) ([Size4]byte, error) {
	var field [Size4]byte
	if !digits(pan) || rule > Rightmost12 {
		return field, ErrRefused
	}
	if rule == Rightmost12 {
		pan = pan[:len(pan)-1]
		pan = pan[max(0, len(pan)-12):]
	}
	// Nibble 0 is M, 1 to 12 hold at least twelve digits, zeros to the left of
	// a shorter number.
	start := 1 + max(0, 12-len(pan))
	field[0] = byte(max(0, len(pan)-12)) << 4
	for i, c := range pan {
		n := start + i
		field[n/2] |= (c - '0') << (4 * (1 - n%2))
	}
	return field, nil
}
