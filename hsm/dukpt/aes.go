package dukpt

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"

	"authswitch/hsm/key"
)

// Lengths of the AES method, X9.24-3 clause 6: an initial key id of eight
// bytes, of which the last four take part in derivations of transaction keys,
// and a counter of 32 bits.
const (
	InitialKeyIDBytes = 8
	AESSerialBytes    = InitialKeyIDBytes + 4
)

// aesMaxOnes: X9.24-3 clause 6.3 lets a device send counters with at most
// sixteen ones.
const aesMaxOnes = 16

// AESUse is the key usage indicator of X9.24-3:2017 clause 6.3.2,
// tables 2 and 3.
type AESUse uint16

// The uses of a working key.
const (
	AESKeyEncryption AESUse = 0x0002
	AESPIN           AESUse = 0x1000
	AESMACGenerate   AESUse = 0x2000 // by the device
	AESMACVerify     AESUse = 0x2001 // by the device
	AESMACBoth       AESUse = 0x2002
	AESDataEncrypt   AESUse = 0x3000 // by the device
	AESDataDecrypt   AESUse = 0x3001 // by the device
	AESDataBoth      AESUse = 0x3002
	// AESDerivation is the key that working keys come from: for tests and
	// published vectors.
	AESDerivation AESUse = 0x8000

	aesInitial AESUse = 0x8001
)

func (u AESUse) known() bool {
	switch u {
	case AESKeyEncryption, AESPIN, AESMACGenerate, AESMACVerify, AESMACBoth, AESDataEncrypt, AESDataDecrypt, AESDataBoth, AESDerivation:
		return true
	}
	return false
}

// KeyType is the algorithm indicator of the same tables.
type KeyType uint16

// The types of a working key. HMAC keys are not used by any link.
const (
	TwoKeyTDES   KeyType = 0
	ThreeKeyTDES KeyType = 1
	AES128       KeyType = 2
	AES192       KeyType = 3
	AES256       KeyType = 4
)

// shape is the algorithm of a type and its length in bytes.
func (t KeyType) shape() (key.Algorithm, int) {
	switch t {
	case TwoKeyTDES:
		return key.TDES, 16
	case ThreeKeyTDES:
		return key.TDES, 24
	case AES128:
		return key.AES, 16
	case AES192:
		return key.AES, 24
	case AES256:
		return key.AES, 32
	}
	return 0, 0
}

// AESBase is a base derivation key of the AES method made ready. It keeps
// nothing, and is good for any number of goroutines.
type AESBase struct {
	block    cipher.Block
	keyType  KeyType
	strength int
}

// NewAESBase makes a key ready.
func NewAESBase(base *key.Key) (*AESBase, error) {
	if base.Algorithm() != key.AES {
		return nil, ErrBase
	}
	c, err := base.Cipher()
	if err != nil {
		return nil, fmt.Errorf("expanding a base derivation key: %w", err)
	}
	return &AESBase{block: c, keyType: KeyType(base.Len() / 8), strength: base.Strength()}, nil
}

// KeyType is the type of the base key, which is that of every derivation key
// and the strongest a working key can have.
func (b *AESBase) KeyType() KeyType { return b.keyType }

// Derive makes the working key of one transaction: X9.24-3 clause 6.3, the
// host's side. Counter 0, counters with more than sixteen ones, and working
// keys stronger than their base key are refused.
func (b *AESBase) Derive(ksn []byte, use AESUse, t KeyType) (key.Key, error) {
	if len(ksn) != AESSerialBytes {
		return key.Key{}, ErrKSN
	}
	counter := binary.BigEndian.Uint32(ksn[InitialKeyIDBytes:])
	if counter == 0 || bits.OnesCount32(counter) > aesMaxOnes {
		return key.Key{}, ErrCounter
	}
	algorithm, length := t.shape()
	if !use.known() || length == 0 || algorithm == key.AES && length*8 > b.strength {
		return key.Key{}, ErrUse
	}
	k, err := b.InitialKey(ksn[:InitialKeyIDBytes])
	if err != nil {
		return key.Key{}, err
	}
	defer k.Wipe()
	for at := uint32(0); at != counter; {
		at |= 1 << (bits.Len32(counter&^at) - 1)
		if err := derive(&k, AESDerivation, b.keyType, ksn[4:InitialKeyIDBytes], at); err != nil {
			return key.Key{}, err
		}
	}
	if use != AESDerivation {
		if err := derive(&k, use, t, ksn[4:InitialKeyIDBytes], counter); err != nil {
			return key.Key{}, err
		}
	}
	return k, nil
}

// InitialKey is the key a device is loaded with, X9.24-3 clause 6.3: from the
// base key and the whole initial key id.
func (b *AESBase) InitialKey(id []byte) (key.Key, error) {
	if len(id) != InitialKeyIDBytes {
		return key.Key{}, ErrKSN
	}
	return expand(b.block, aesInitial, b.keyType, binary.BigEndian.Uint64(id))
}

// derive replaces a key by one of its children. It does not know the base key.
func derive(k *key.Key, use AESUse, t KeyType, id []byte, counter uint32) error {
	c, err := k.Cipher()
	if err != nil {
		return fmt.Errorf("expanding a derivation key: %w", err)
	}
	next, err := expand(c, use, t, uint64(binary.BigEndian.Uint32(id))<<32|uint64(counter))
	if err != nil {
		return err
	}
	*k = next
	next.Wipe()
	return nil
}

// expand is the derivation of X9.24-3 clause 6.3.2: as many blocks of
// derivation data, numbered from one, encrypted as the new key needs.
func expand(c cipher.Block, use AESUse, t KeyType, context uint64) (key.Key, error) {
	algorithm, length := t.shape()
	var out [key.MaxBytes]byte
	defer clear(out[:])
	for n := range (length + 15) / 16 {
		block := out[16*n : 16*n+16]
		block[0] = 1 // version
		block[1] = byte(n + 1)
		binary.BigEndian.PutUint16(block[2:], uint16(use))
		binary.BigEndian.PutUint16(block[4:], uint16(t))
		binary.BigEndian.PutUint16(block[6:], uint16(length*8))
		binary.BigEndian.PutUint64(block[8:], context)
		c.Encrypt(block, block)
	}
	return key.New(algorithm, out[:length])
}
