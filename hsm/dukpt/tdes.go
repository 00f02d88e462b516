// Package dukpt derives the key of one transaction on the host's side: derived
// unique key per transaction, with TDES (ANSI X9.24-1:2009) and with AES (ANSI
// X9.24-3:2017).
//
// From a base derivation key and the key serial number that came with a
// message follows the one key that message was protected with. The package
// checks the counters as the standards ask, keeps parent keys of the TDES
// method within a fixed limit, and judges the order of counters without
// refusing anything for it: the caller knows its links. No I/O. Called by
// hsm/engine and the simulators.
package dukpt

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"authswitch/hsm/key"
)

// Errors of derivation. None says anything of a key.
var (
	ErrKSN     = errors.New("impossible key serial number")
	ErrCounter = errors.New("transaction counter that no device sends")
	ErrBase    = errors.New("not a base derivation key of this method")
	ErrUse     = errors.New("unknown use of a derived key")
)

// TDESSerialBytes is the length of a key serial number of the TDES method: key
// set, device and a counter of 21 bits (X9.24-1:2009 annex A). Shorter ones are
// padded with F on the left by whoever reads the message.
const TDESSerialBytes = 10

const (
	tdesCounterBits = 21
	tdesCounterMask = 1<<tdesCounterBits - 1
	// X9.24-1 annex A.2: a device skips counters with more ones, which keeps
	// its future keys to 21 and the host's work to ten steps.
	tdesMaxOnes = 10
)

// TDESUse is what a key of the TDES method is for: the variants of X9.24-1
// annex A.4.1, table A-1.
type TDESUse uint8

// The uses. Request is from the device, Response to it.
const (
	TDESFuture       TDESUse = iota // the transaction key itself: for tests and published vectors
	TDESPIN                         // PIN encipherment
	TDESMACRequest                  // MAC, request or both ways
	TDESMACResponse                 // MAC, response
	TDESDataRequest                 // data encipherment, request or both ways
	TDESDataResponse                // data encipherment, response
)

// variant is the mask of each half; data keys go through one more step.
func (u TDESUse) variant() (mask uint64, oneWay bool, err error) {
	switch u {
	case TDESFuture:
		return 0, false, nil
	case TDESPIN:
		return 0x00000000000000FF, false, nil
	case TDESMACRequest:
		return 0x000000000000FF00, false, nil
	case TDESMACResponse:
		return 0x00000000FF000000, false, nil
	case TDESDataRequest:
		return 0x0000000000FF0000, true, nil
	case TDESDataResponse:
		return 0x000000FF00000000, true, nil
	}
	return 0, false, ErrUse
}

// halfMask makes the second key of a derivation, X9.24-1 annex A.6.
const halfMask uint64 = 0xC0C0C0C000000000

// TDESBase is a base derivation key of the TDES method made ready, with the
// parent keys it derived lately. Good for any number of goroutines.
type TDESBase struct {
	left, right cipher.Block // of the base key, and of it under halfMask: they make the initial key's halves
	parents     *parents
}

// NewTDESBase makes a double-length key ready. It keeps at most the given
// number of parent keys, about 100 bytes each; 0 keeps none.
func NewTDESBase(base *key.Key, keep int) (*TDESBase, error) {
	if base.Algorithm() != key.TDES || base.Len() != 16 {
		return nil, ErrBase
	}
	left, err := base.Cipher()
	if err != nil {
		return nil, fmt.Errorf("expanding a base derivation key: %w", err)
	}
	masked := *base
	defer masked.Wipe()
	for half := range 2 {
		b := masked.Reveal()[8*half:]
		binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)^halfMask)
	}
	right, err := masked.Cipher()
	if err != nil {
		return nil, fmt.Errorf("expanding a base derivation key: %w", err)
	}
	return &TDESBase{left: left, right: right, parents: newParents(keep)}, nil
}

// tdesSerial is a key serial number taken apart.
type tdesSerial struct {
	high    uint16 // the two leftmost bytes
	low     uint64 // the eight rightmost, counter bits zero
	counter uint32
}

func parseTDES(ksn []byte) (tdesSerial, error) {
	if len(ksn) != TDESSerialBytes {
		return tdesSerial{}, ErrKSN
	}
	low := binary.BigEndian.Uint64(ksn[2:])
	s := tdesSerial{high: binary.BigEndian.Uint16(ksn), low: low &^ tdesCounterMask, counter: uint32(low & tdesCounterMask)}
	if s.counter == 0 || bits.OnesCount32(s.counter) > tdesMaxOnes {
		return tdesSerial{}, ErrCounter
	}
	return s, nil
}

// Derive makes the key of one transaction for one use. Counter 0 and counters
// with more than ten ones are refused: no device sends them.
func (b *TDESBase) Derive(ksn []byte, use TDESUse) (key.Key, error) {
	s, err := parseTDES(ksn)
	if err != nil {
		return key.Key{}, err
	}
	mask, oneWay, err := use.variant()
	if err != nil {
		return key.Key{}, err
	}
	var w work
	defer w.wipe()
	if err := b.transactionKey(&w, s); err != nil {
		return key.Key{}, err
	}
	w.key[0] ^= mask
	w.key[1] ^= mask
	if oneWay {
		if err := w.encryptItself(); err != nil {
			return key.Key{}, err
		}
	}
	w.store()
	return key.New(key.TDES, w.bytes[:])
}

// InitialKey is the key a device is loaded with, X9.24-1 annex A.6: for devices
// that are set up here, and for tests.
func (b *TDESBase) InitialKey(ksn []byte) (key.Key, error) {
	if len(ksn) != TDESSerialBytes {
		return key.Key{}, ErrKSN
	}
	low := binary.BigEndian.Uint64(ksn[2:]) &^ tdesCounterMask
	var w work
	defer w.wipe()
	b.initialKey(&w, tdesSerial{high: binary.BigEndian.Uint16(ksn), low: low})
	w.store()
	return key.New(key.TDES, w.bytes[:])
}

// initialKey encrypts the eight leftmost bytes of the serial number, counter
// bits zero, under the base key and under its masked form.
func (b *TDESBase) initialKey(w *work, s tdesSerial) {
	binary.BigEndian.PutUint64(w.bytes[:8], uint64(s.high)<<48|s.low>>16)
	copy(w.bytes[8:], w.bytes[:8])
	b.left.Encrypt(w.bytes[:8], w.bytes[:8])
	b.right.Encrypt(w.bytes[8:], w.bytes[8:])
	w.load()
}

// parentBits are the counter's low bits that the kept parent key leaves to be
// walked. A device counts up, so that 15 of 16 transactions find their parent
// and walk two steps on average instead of the initial key and five to ten.
const parentBits = 4

// transactionKey walks the ones of the counter from the left, X9.24-1 annex
// A.3: one irreversible step each.
func (b *TDESBase) transactionKey(w *work, s tdesSerial) error {
	parent := s
	parent.counter &^= 1<<parentBits - 1
	if !b.parents.get(parent, &w.key) {
		b.initialKey(w, s)
		if err := w.walk(s, 0, parent.counter); err != nil {
			return err
		}
		b.parents.put(parent, w.key)
	}
	return w.walk(s, parent.counter, s.counter)
}

// work is the key a derivation has got to, and the buffers of its steps.
type work struct {
	key   [2]uint64
	bytes [16]byte
	block [8]byte
}

func (w *work) wipe() { *w = work{} }

func (w *work) load() {
	w.key[0], w.key[1] = binary.BigEndian.Uint64(w.bytes[:8]), binary.BigEndian.Uint64(w.bytes[8:])
}

func (w *work) store() {
	binary.BigEndian.PutUint64(w.bytes[:8], w.key[0])
	binary.BigEndian.PutUint64(w.bytes[8:], w.key[1])
}

// walk steps from the counter that the key belongs to towards another, whose
// ones include its own.
func (w *work) walk(s tdesSerial, from, to uint32) error {
	for at := from; at != to; {
		at |= 1 << (bits.Len32(to&^at) - 1)
		if err := w.step(s.low | uint64(at)); err != nil {
			return err
		}
	}
	return nil
}

// step is the non-reversible key generation process of X9.24-1 annex A.2: the
// right half comes from the key, the left from the key under halfMask.
func (w *work) step(register uint64) error {
	right, err := w.half(w.key, register)
	if err != nil {
		return err
	}
	left, err := w.half([2]uint64{w.key[0] ^ halfMask, w.key[1] ^ halfMask}, register)
	if err != nil {
		return err
	}
	w.key = [2]uint64{left, right}
	return nil
}

// half is E_left(register xor right) xor right.
func (w *work) half(k [2]uint64, register uint64) (uint64, error) {
	binary.BigEndian.PutUint64(w.block[:], k[0])
	c, err := des.NewCipher(w.block[:])
	if err != nil {
		return 0, fmt.Errorf("expanding a derived key: %w", err)
	}
	binary.BigEndian.PutUint64(w.block[:], register^k[1])
	c.Encrypt(w.block[:], w.block[:])
	return binary.BigEndian.Uint64(w.block[:]) ^ k[1], nil
}

// encryptItself is the one-way step of data keys, X9.24-1 annex A.4.1: each
// half encrypted under the whole variant.
func (w *work) encryptItself() error {
	w.store()
	k, err := key.New(key.TDES, w.bytes[:])
	if err != nil {
		return err
	}
	defer k.Wipe()
	c, err := k.Cipher()
	if err != nil {
		return fmt.Errorf("expanding a data key variant: %w", err)
	}
	c.Encrypt(w.bytes[:8], w.bytes[:8])
	c.Encrypt(w.bytes[8:], w.bytes[8:])
	w.load()
	return nil
}
