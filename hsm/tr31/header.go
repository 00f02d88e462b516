// Package tr31 opens and seals key blocks: ANSI X9.143 (ASC X9 TR-31), versions
// A, B, C and D. It opens all four and seals only B and D: A and C bind the
// header by a MAC of four bytes under a variant of the key, and exist for
// peers that have nothing better.
//
// The MAC is checked, in constant time, before the length of the key is looked
// at; every character of the header is under it. Optional blocks that nobody
// here knows are kept byte for byte. The package does no I/O and does not judge
// whether a key may be what its header says (hsm/engine does). Called by
// hsm/engine and the simulators.
package tr31

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"authswitch/hsm/key"
)

// Errors of a block. They are wrapped with what was looked at; none carries a
// byte of a key.
var (
	ErrFormat     = errors.New("not a key block")
	ErrVersion    = errors.New("key block version does not fit")
	ErrMAC        = errors.New("the key block's MAC does not hold")
	ErrKeyLength  = errors.New("impossible key length under a valid MAC")
	ErrKey        = errors.New("not a key block protection key of this version")
	ErrRandomness = errors.New("the source of randomness failed")
)

// Version is the first character: how a block is encrypted and bound.
type Version byte

// The versions, X9.143:2021 clause 6.2, table 1.
const (
	A Version = 'A' // variant binding, deprecated
	B Version = 'B' // TDES derivation binding
	C Version = 'C' // variant binding, as A
	D Version = 'D' // AES derivation binding
)

// Usage is what a key is for, X9.143:2021 clause 6.3.1, table 2: two
// characters.
type Usage uint16

// The usages that the switch has keys of.
const (
	BaseDerivation   Usage = 'B'<<8 | '0'
	CardVerification Usage = 'C'<<8 | '0'
	DataEncryption   Usage = 'D'<<8 | '0'
	EMVCryptogram    Usage = 'E'<<8 | '0'
	KeyEncryption    Usage = 'K'<<8 | '0'
	BlockProtection  Usage = 'K'<<8 | '1'
	MACISO1          Usage = 'M'<<8 | '1'
	MACISO3          Usage = 'M'<<8 | '3'
	MACCMAC          Usage = 'M'<<8 | '6'
	PINEncryption    Usage = 'P'<<8 | '0'
	PINIBM3624       Usage = 'V'<<8 | '1'
	PINVisaPVV       Usage = 'V'<<8 | '2'
)

// String is the two characters.
func (u Usage) String() string { return string([]byte{byte(u >> 8), byte(u)}) }

// Mode is what may be done with a key, X9.143:2021 clause 6.3.3, table 4.
type Mode byte

// The modes.
const (
	EncryptDecrypt Mode = 'B'
	GenerateVerify Mode = 'C'
	DecryptOnly    Mode = 'D'
	EncryptOnly    Mode = 'E'
	GenerateOnly   Mode = 'G'
	NoRestriction  Mode = 'N'
	SignOnly       Mode = 'S'
	VerifyOnly     Mode = 'V'
	DeriveOnly     Mode = 'X'
)

// Exportability says how a key may leave, X9.143:2021 clause 6.3.5, table 6.
type Exportability byte

// The three of them.
const (
	Exportable Exportability = 'E' // under a trusted key, in a block
	Sensitive  Exportability = 'S' // as the receiver's rules allow
	NotAtAll   Exportability = 'N'
)

// Lengths and limits of X9.143:2021 clause 6.2, table 1.
const (
	headerChars = 16
	maxChars    = 9999
	maxOptional = 99
)

// Header is the clear part of a block.
type Header struct {
	Version       Version
	Usage         Usage
	Algorithm     key.Algorithm // also letters that no Key is made of: H for HMAC, R for RSA
	Mode          Mode
	KeyVersion    [2]byte // "00": not used; "c…": a component
	Exportability Exportability
	Reserved      [2]byte // kept as they came; "00" when zero
	OptionalCount int
	Optional      []byte // all optional blocks, byte for byte; after Open a part of the block
}

// ParseHeader reads the clear part: the characters, that the length is that of
// the block, and that the optional blocks fill their place.
func ParseHeader(block []byte) (Header, error) {
	if len(block) < headerChars || len(block) > maxChars {
		return Header{}, fmt.Errorf("%w: %d characters", ErrFormat, len(block))
	}
	for _, c := range block[:headerChars] {
		if !alphanumeric(c) {
			return Header{}, fmt.Errorf("%w: a character of the header", ErrFormat)
		}
	}
	if length, ok := decimal(block[1:5]); !ok || length != len(block) {
		return Header{}, fmt.Errorf("%w: the length is not its own", ErrFormat)
	}
	count, ok := decimal(block[12:14])
	if !ok {
		return Header{}, fmt.Errorf("%w: the number of optional blocks", ErrFormat)
	}
	h := Header{
		Version:       Version(block[0]),
		Usage:         Usage(block[5])<<8 | Usage(block[6]),
		Algorithm:     key.Algorithm(block[7]),
		Mode:          Mode(block[8]),
		KeyVersion:    [2]byte(block[9:11]),
		Exportability: Exportability(block[11]),
		Reserved:      [2]byte(block[14:16]),
		OptionalCount: count,
	}
	rest := block[headerChars:]
	for range count {
		n, err := optionalLength(rest)
		if err != nil {
			return Header{}, err
		}
		rest = rest[n:]
	}
	h.Optional = block[headerChars : len(block)-len(rest)]
	return h, nil
}

// optionalLength is the number of characters of the first optional block, its
// id and length included: X9.143 clause 6.2.
func optionalLength(rest []byte) (int, error) {
	if len(rest) < 4 || !alphanumeric(rest[0]) || !alphanumeric(rest[1]) {
		return 0, fmt.Errorf("%w: an optional block's id", ErrFormat)
	}
	n, ok := hexadecimal(rest[2:4])
	least := 4
	if ok && n == 0 { // extended: the length of the length in bytes, then the length
		if len(rest) < 6 {
			return 0, fmt.Errorf("%w: an optional block's length", ErrFormat)
		}
		var size int
		if size, ok = hexadecimal(rest[4:6]); ok {
			least = 6 + 2*size
			ok = size > 0 && size <= 2 && len(rest) >= least // 4 digits are more than a block can hold
		}
		if ok {
			n, ok = hexadecimal(rest[6:least])
		}
	}
	if !ok || n < least || n > len(rest) {
		return 0, fmt.Errorf("%w: an optional block's length", ErrFormat)
	}
	for _, c := range rest[least:n] {
		if c < ' ' || c > '~' {
			return 0, fmt.Errorf("%w: a character of an optional block", ErrFormat)
		}
	}
	return n, nil
}

// OptionalBlock finds the data of the first optional block of an id.
func (h *Header) OptionalBlock(id string) ([]byte, bool) {
	rest := h.Optional
	for len(rest) > 0 {
		n, err := optionalLength(rest)
		if err != nil {
			return nil, false
		}
		if string(rest[:2]) == id {
			data := rest[4:n]
			if string(rest[2:4]) == "00" {
				size, _ := hexadecimal(rest[4:6]) // was read by optionalLength
				data = rest[6+2*size : n]
			}
			return data, true
		}
		rest = rest[n:]
	}
	return nil, false
}

// Add appends an optional block of at most 251 printable characters.
func (h *Header) Add(id string, data []byte) error {
	if len(id) != 2 || len(data) > 0xFF-4 || h.OptionalCount >= maxOptional {
		return fmt.Errorf("%w: an optional block that does not fit", ErrFormat)
	}
	block := fmt.Appendf(nil, "%s%02X%s", id, len(data)+4, data)
	if _, err := optionalLength(block); err != nil {
		return err
	}
	h.Optional = append(bytes.Clone(h.Optional), block...)
	h.OptionalCount++
	return nil
}

// appendTo writes the header of a block of the given length. The fields must
// read back as they are.
func (h *Header) appendTo(dst []byte, length int) ([]byte, error) {
	reserved := h.Reserved
	if reserved == [2]byte{} {
		reserved = [2]byte{'0', '0'}
	}
	version := h.KeyVersion
	if version == [2]byte{} {
		version = [2]byte{'0', '0'}
	}
	if length > maxChars || h.OptionalCount < 0 || h.OptionalCount > maxOptional {
		return nil, fmt.Errorf("%w: %d characters, %d optional blocks", ErrFormat, length, h.OptionalCount)
	}
	start := len(dst)
	dst = append(dst, byte(h.Version))
	dst = fmt.Appendf(dst, "%04d", length)
	dst = append(dst, byte(h.Usage>>8), byte(h.Usage), byte(h.Algorithm), byte(h.Mode), version[0], version[1], byte(h.Exportability))
	dst = fmt.Appendf(dst, "%02d", h.OptionalCount)
	dst = append(dst, reserved[:]...)
	for _, c := range dst[start:] {
		if !alphanumeric(c) {
			return nil, fmt.Errorf("%w: a character of the header", ErrFormat)
		}
	}
	return append(dst, h.Optional...), nil
}

// alphanumeric is a letter of either case or a digit: components mark their
// version with a small c.
func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func decimal(b []byte) (int, bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(string(b))
	return n, err == nil
}

func hexadecimal(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		d, ok := nibble(c)
		if !ok {
			return 0, false
		}
		n = n<<4 | int(d)
	}
	return n, true
}

// nibble reads one hexadecimal digit, in capitals only: a block has one
// spelling, or it could be changed under a MAC that holds.
func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
