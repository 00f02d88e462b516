// Package engine is what the security module does, without I/O: translate a
// PIN, make and check MACs, verify what an issuer holds against a card, and let
// keys in and out under the rules.
//
// A key enters as a key block under the local master key and becomes a Key,
// which is good only for what its header says. No operation returns a clear
// PIN, a clear key or an expected value; verifications answer yes or
// ErrMismatch. The package reads no clock and no file, opens no socket, decides
// no state: which key is active, how long, officers and the audit log are its
// caller's. Called by hsm/server, and by nothing in the switch.
package engine

import (
	"errors"
	"fmt"
	"io"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/tr31"
)

// Errors. Each is the reason for the audit log; none carries a secret. Of a PIN
// block only ErrPINBlock is ever said.
var (
	ErrPINBlock      = pinblock.ErrRefused
	ErrMismatch      = errors.New("does not verify")
	ErrUse           = errors.New("the key is not for this")
	ErrTranslation   = errors.New("this translation is not allowed")
	ErrMACLength     = errors.New("a MAC has 4 or 8 bytes")
	ErrMasterKey     = errors.New("not a local master key")
	ErrUsage         = errors.New("no key of this usage is kept")
	ErrAlgorithm     = errors.New("wrong algorithm for the usage")
	ErrMode          = errors.New("wrong mode of use for the usage")
	ErrExportability = errors.New("unknown exportability")
	ErrNotExportable = errors.New("the key must not leave")
	ErrDisagrees     = errors.New("the block's header is not what was asked for")
	ErrWrapping      = errors.New("the wrapping key is weaker than the key")
	ErrLegacy        = errors.New("versions A and C are not allowed here")
	ErrKeyLength     = errors.New("wrong key length for the usage")
	ErrParity        = errors.New("the key has no odd parity")
	ErrEqualParts    = errors.New("parts of the key are equal")
	ErrWeak          = errors.New("the key is weak")
	ErrTable         = errors.New("a decimalisation table needs eight different digits")
	ErrCheckValue    = errors.New("the key check value does not fit")
	ErrComponents    = errors.New("two or three components of full length are combined")
	ErrRandomness    = errors.New("the source of randomness failed")
)

// Engine is the operations under one local master key. Good for any number of
// goroutines, if the source of randomness is.
type Engine struct {
	lmk     *tr31.Protector
	random  io.Reader
	parents int
}

// New makes an engine. The local master key must be AES-256 (the key block of a
// key is never weaker than the key); random is the operating system's or the
// token's; parents bounds the DUKPT parent keys kept per base key.
func New(lmk *tr31.Protector, random io.Reader, parents int) (*Engine, error) {
	if lmk.Version() != tr31.D || lmk.Strength() < 256 {
		return nil, ErrMasterKey
	}
	return &Engine{lmk: lmk, random: random, parents: parents}, nil
}

// CheckValue is a key check value: enough to compare two keys, too little to
// find one.
type CheckValue struct {
	bytes  [5]byte
	length uint8
}

// Bytes is the value, three bytes for TDES, five for AES.
func (v *CheckValue) Bytes() []byte { return v.bytes[:v.length] }

// String is hexadecimal, as officers read it out.
func (v CheckValue) String() string { return fmt.Sprintf("%X", v.bytes[:v.length]) }

// Matches compares with what came along, which may be the start only: two bytes
// or more.
func (v *CheckValue) Matches(given []byte) bool {
	return len(given) >= 2 && len(given) <= int(v.length) && string(given) == string(v.bytes[:len(given)])
}

// KCV computes a key check value: TDES three bytes of an encrypted block of
// zeros, AES five bytes of the CMAC of a block of zeros (ANSI X9.24-1:2017
// annex A, the legacy and the CMAC method).
func KCV(k *key.Key) (CheckValue, error) {
	c, err := k.Cipher()
	if err != nil {
		return CheckValue{}, fmt.Errorf("expanding a key for its check value: %w", err)
	}
	out := make([]byte, c.BlockSize())
	defer clear(out)
	v := CheckValue{length: 3}
	if k.Algorithm() == key.AES {
		v.length = 5
		if err := mac.NewCMAC(c).Sum(out, 0, make([]byte, c.BlockSize())); err != nil {
			return CheckValue{}, fmt.Errorf("computing a check value: %w", err)
		}
	} else {
		c.Encrypt(out, out)
	}
	copy(v.bytes[:v.length], out)
	return v, nil
}
