// Package mac computes message authentication codes: ISO/IEC 9797-1 algorithms
// 1 and 3, and CMAC with TDES and AES.
//
// It works in the destination the caller gives: no buffer of its own, no copy
// of the message, no allocation. It knows nothing of messages, fields or key
// blocks, and does not decide which key may do what (hsm/engine does). Called
// by hsm/engine, hsm/tr31, hsm/issuer and the simulators.
package mac

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"authswitch/hsm/key"
)

// Errors of making or checking a MAC.
var (
	ErrAlgorithm = errors.New("the key is not one for this MAC algorithm")
	ErrPadding   = errors.New("unknown padding method")
	ErrLength    = errors.New("impossible MAC length")
	ErrMismatch  = errors.New("the MAC does not hold")
)

// Algorithm is how blocks are chained and how the last one is treated.
type Algorithm uint8

// The algorithms, with their key usages in ANSI X9.143:2021 table 2.
const (
	ISO1 Algorithm = 1 // ISO/IEC 9797-1 MAC algorithm 1, CBC-MAC: usage M1
	ISO3 Algorithm = 3 // ISO/IEC 9797-1 MAC algorithm 3, the retail MAC of ANSI X9.19: usage M3
	CMAC Algorithm = 5 // ISO/IEC 9797-1 MAC algorithm 5, NIST SP 800-38B: usage M6
)

// Padding is a padding method of ISO/IEC 9797-1 clause 6.3. CMAC has its own
// and ignores it.
type Padding uint8

// The padding methods.
const (
	Zeros       Padding = 1 // 6.3.2: zeros up to a whole block
	OneAndZeros Padding = 2 // 6.3.3: a one bit, then zeros
	LengthFirst Padding = 3 // 6.3.4: a first block with the length in bits, then zeros
)

// MaxBytes is the longest MAC: a whole AES block.
const MaxBytes = 16

// MAC is one key made ready for one algorithm. It is read only once made, and
// good for any number of goroutines.
type MAC struct {
	algorithm Algorithm
	chain     cipher.Block // what each block goes through
	last      cipher.Block // ISO3: the right half, by which the end is decrypted
	whole     [MaxBytes]byte
	partial   [MaxBytes]byte
}

// New makes a key ready. ISO1 and CMAC take any key, ISO3 a double-length TDES
// key: ISO/IEC 9797-1 clause 7.4 has two independent DES keys.
func New(a Algorithm, k *key.Key) (*MAC, error) {
	switch a {
	case ISO1, CMAC:
		c, err := k.Cipher()
		if err != nil {
			return nil, fmt.Errorf("expanding a MAC key: %w", err)
		}
		if a == CMAC {
			return NewCMAC(c), nil
		}
		return &MAC{algorithm: a, chain: c}, nil
	case ISO3:
		if k.Algorithm() != key.TDES || k.Len() != 16 {
			return nil, ErrAlgorithm
		}
		left, err := des.NewCipher(k.Reveal()[:8])
		if err != nil {
			return nil, fmt.Errorf("expanding the left half: %w", err)
		}
		right, err := des.NewCipher(k.Reveal()[8:])
		if err != nil {
			return nil, fmt.Errorf("expanding the right half: %w", err)
		}
		return &MAC{algorithm: a, chain: left, last: right}, nil
	}
	return nil, ErrAlgorithm
}

// NewCMAC makes the two subkeys of NIST SP 800-38B clause 6.1 for an expanded
// key.
func NewCMAC(c cipher.Block) *MAC {
	m := &MAC{algorithm: CMAC, chain: c}
	n := c.BlockSize()
	c.Encrypt(m.whole[:n], m.whole[:n])
	double(m.whole[:n])
	copy(m.partial[:], m.whole[:n])
	double(m.partial[:n])
	return m
}

// double multiplies by x in GF(2^64) or GF(2^128). The reduction is chosen by
// arithmetic: a branch on the top bit would tell it to a clock.
func double(b []byte) {
	reduction := byte(0x1B) // SP 800-38B clause 5.3: R64
	if len(b) == 16 {
		reduction = 0x87 // R128
	}
	carry := b[0] >> 7
	for i := 0; i < len(b)-1; i++ {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ reduction&-carry
}

// Size is the number of bytes of the whole MAC: 8, or 16 with AES.
func (m *MAC) Size() int { return m.chain.BlockSize() }

// Sum computes the MAC of a message into dst, which has Size bytes or more and
// is worked in: it must not overlap the message. Shorter MACs are its leftmost
// bytes (ISO/IEC 9797-1 clause 6, truncation; SP 800-38B clause 6.2).
func (m *MAC) Sum(dst []byte, p Padding, message []byte) error {
	n := m.Size()
	if len(dst) < n {
		return ErrLength
	}
	dst = dst[:n]
	clear(dst)
	if m.algorithm == CMAC {
		m.cmac(dst, message)
		return nil
	}
	if p < Zeros || p > LengthFirst {
		return ErrPadding
	}
	if p == LengthFirst {
		binary.BigEndian.PutUint64(dst[n-8:], uint64(len(message))*8)
		m.chain.Encrypt(dst, dst)
	}
	rest := m.blocks(dst, message)
	// Methods 1 and 3 pad an empty message to one block of zeros, and add none
	// to a message that is already whole; method 2 always adds a bit.
	if len(rest) > 0 || p == OneAndZeros || len(message) == 0 {
		subtle.XORBytes(dst, dst, rest)
		if p == OneAndZeros {
			dst[len(rest)] ^= 0x80
		}
		m.chain.Encrypt(dst, dst)
	}
	if m.algorithm == ISO3 {
		m.last.Decrypt(dst, dst) // ISO/IEC 9797-1: output transformation 3
		m.chain.Encrypt(dst, dst)
	}
	return nil
}

// blocks chains all whole blocks and returns what is left, less than a block.
func (m *MAC) blocks(dst, message []byte) []byte {
	n := len(dst)
	for len(message) >= n {
		subtle.XORBytes(dst, dst, message[:n])
		m.chain.Encrypt(dst, dst)
		message = message[n:]
	}
	return message
}

// cmac is SP 800-38B clause 6.2: the last block, whole or not, is kept back and
// masked by a subkey.
func (m *MAC) cmac(dst, message []byte) {
	n := len(dst)
	whole := max(len(message)-1, 0) / n * n // all blocks but the last
	rest := message[whole:]
	m.blocks(dst, message[:whole])
	subtle.XORBytes(dst, dst, rest)
	if len(rest) == n {
		subtle.XORBytes(dst, dst, m.whole[:n])
	} else {
		dst[len(rest)] ^= 0x80
		subtle.XORBytes(dst, dst, m.partial[:n])
	}
	m.chain.Encrypt(dst, dst)
}

// Verify says in constant time whether a MAC of 4 bytes or more is that of the
// message. scratch is worked in as by Sum and wiped: the expected value is
// never anybody's to read.
func (m *MAC) Verify(scratch []byte, p Padding, message, got []byte) error {
	if len(got) < 4 || len(got) > m.Size() {
		return ErrLength
	}
	if err := m.Sum(scratch, p, message); err != nil {
		return err
	}
	same := subtle.ConstantTimeCompare(scratch[:len(got)], got)
	clear(scratch[:m.Size()])
	if same != 1 {
		return ErrMismatch
	}
	return nil
}

const hidden = "[hidden]"

// Format hides the expanded key in every verb.
func (MAC) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the expanded key.
func (MAC) LogValue() slog.Value { return slog.StringValue(hidden) }
