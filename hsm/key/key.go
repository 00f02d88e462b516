// Package key holds one clear key while the security module works with it:
// its algorithm and bytes, ready to become a cipher.
//
// A Key prints masked in every verb of fmt and in slog, refuses to be
// marshalled, and is wiped by its owner after use. The bytes are reached by
// Reveal, so that a search for Reveal finds every place that reads them. Only
// the mechanics are here: which keys are good enough is a rule of hsm/engine,
// for published vectors use keys that no module would accept. Imported by the
// families below hsm and by nothing in the switch, which holds no such key.
package key

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
)

// Errors of making a key. None carries a byte of it.
var (
	ErrLength    = errors.New("impossible key length")
	ErrAlgorithm = errors.New("unknown key algorithm")
	ErrMarshal   = errors.New("key material cannot be marshalled")
)

// Algorithm is what a key is for a cipher of, by the letter of ANSI
// X9.143:2021 clause 6.3.2, table 3.
type Algorithm byte

// The ciphers of payment cryptography. A single-length key is a TDES key whose
// parts are equal: TDES is then single DES.
const (
	TDES Algorithm = 'T'
	AES  Algorithm = 'A'
)

// MaxBytes is the longest key: AES-256.
const MaxBytes = 32

// Key is one clear key. The zero value is absent.
type Key struct {
	bytes     [MaxBytes]byte
	length    uint8
	algorithm Algorithm
}

// New copies the bytes of a key: 8, 16 or 24 for TDES, 16, 24 or 32 for AES.
// The caller still owns, and wipes, what it passed.
func New(a Algorithm, b []byte) (Key, error) {
	switch a {
	case TDES:
		if len(b) != 8 && len(b) != 16 && len(b) != 24 {
			return Key{}, ErrLength
		}
	case AES:
		if len(b) != 16 && len(b) != 24 && len(b) != 32 {
			return Key{}, ErrLength
		}
	default:
		return Key{}, ErrAlgorithm
	}
	k := Key{algorithm: a, length: uint8(len(b))}
	copy(k.bytes[:], b)
	return k, nil
}

// Algorithm is what the key is for.
func (k *Key) Algorithm() Algorithm { return k.algorithm }

// Len is the number of bytes, parity included; 0 when absent.
func (k *Key) Len() int { return int(k.length) }

// Present says whether there is a key at all.
func (k *Key) Present() bool { return k.length != 0 }

// Reveal is the clear key. The bytes belong to k and are gone after Wipe.
func (k *Key) Reveal() []byte { return k.bytes[:k.length] }

// Wipe overwrites the key.
func (k *Key) Wipe() { *k = Key{} }

// Cipher expands the key. The expanded form is the standard library's and
// cannot be wiped: keep it only where the key itself may be kept.
func (k *Key) Cipher() (cipher.Block, error) {
	switch k.algorithm {
	case AES:
		return aes.NewCipher(k.Reveal())
	case TDES:
		if k.length == 8 {
			return des.NewCipher(k.Reveal())
		}
		var triple [24]byte
		copy(triple[copy(triple[:], k.Reveal()):], k.Reveal()) // K1 K2 becomes K1 K2 K1
		c, err := des.NewTripleDESCipher(triple[:])
		clear(triple[:])
		return c, err
	}
	return nil, ErrAlgorithm
}

// Strength is the security of the key in bits, NIST SP 800-57 part 1 table 2:
// two-key TDES counts 80, three-key 112.
func (k *Key) Strength() int {
	switch {
	case k.algorithm == AES:
		return int(k.length) * 8
	case k.algorithm == TDES && k.length == 24:
		return 112
	case k.algorithm == TDES && k.length == 16:
		return 80
	case k.algorithm == TDES && k.length == 8:
		return 56
	}
	return 0
}

// OddParity says whether every byte has an odd number of ones, as FIPS 46-3
// asks of a DES key. It looks at all bytes whatever it finds.
func (k *Key) OddParity() bool {
	even := 0
	for _, b := range k.Reveal() {
		even |= bits.OnesCount8(b)&1 ^ 1
	}
	return even == 0
}

// FixParity sets the lowest bit of each byte so that parity is odd. It is for
// keys that are made here, by generation or from components; a key that comes
// from elsewhere with other parity is not what its sender meant.
func (k *Key) FixParity() {
	for i, b := range k.Reveal() {
		k.bytes[i] = b ^ byte(bits.OnesCount8(b)&1^1)
	}
}

// Secret is clear bytes of which nothing is known but that they must not be
// seen: what a key block held before it is a Key.
type Secret []byte

// Wipe overwrites the bytes, to the end of what was allocated.
func (s Secret) Wipe() { clear(s[:cap(s)]) }

const hidden = "[hidden]"

// Format hides the key in every verb, %#v and %x included.
func (Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// Format hides the bytes in every verb.
func (Secret) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the key.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// LogValue hides the bytes.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: encoding/json, yaml and xml all come through it.
func (Key) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalText refuses.
func (Secret) MarshalText() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses: encoding/gob comes through it.
func (Key) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }

// MarshalBinary refuses.
func (Secret) MarshalBinary() ([]byte, error) { return nil, ErrMarshal }
