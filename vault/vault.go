// Package vault seals card data and computes what stands for it: the envelope
// that is journalled, the blind index that finds a card again, and the
// fingerprint that tells a repeated request from another one.
//
// Its keys are wrapped under a root that it is given: a key file (KeyFile), or
// later the security module. It writes nothing but the small file of wrapped
// keys, never logs, and never sees sensitive authentication data other than to
// leave it out. Called by: switching (seal, index, fingerprint), outbox (open,
// to build a reversal), cmd (load).
package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"authswitch/card"
	"authswitch/payment"
)

// Errors of the vault. None of them carries a key or a card number.
var (
	ErrKeyFile     = errors.New("vault key file refused")
	ErrWrappedKeys = errors.New("vault keys cannot be unwrapped")
	ErrEnvelope    = errors.New("not a vault envelope")
	ErrUnknownKey  = errors.New("sealed under a key this vault does not have")
	ErrAltered     = errors.New("envelope is altered or belongs to another record")
)

// Root wraps the vault's keys. Wrap and Unwrap are called at start-up only.
type Root interface {
	Wrap(key []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// The envelope: version, key id, nonce, then the sealed plaintext and its tag.
// The plaintext has one length for every card, so that the envelope does not
// tell how long the number is.
const (
	envelopeVersion = 1
	keyIDSize       = 4
	nonceSize       = 12
	tagSize         = 16
	headerSize      = 1 + keyIDSize + nonceSize
	plainSize       = 1 + panSize + 1 + expirySize
	panSize         = 19
	expirySize      = 4

	// SealedSize is the length of every envelope.
	SealedSize = headerSize + plainSize + tagSize
)

// kindPayment stands in the additional data, so that an envelope of a stored
// card can never be read as one of a payment.
const kindPayment = 1

// The labels separate what is computed under the blind-index key: the same
// bytes can never be an index and a fingerprint.
const (
	labelIndex       = 1
	labelFingerprint = 2
)

// keyID names a data key. It is derived from the key, so a file of wrapped keys
// from elsewhere is noticed by its envelopes.
type keyID [keyIDSize]byte

type dataKey struct {
	id   keyID
	aead cipher.AEAD
}

// Vault is safe for concurrent use: what an operation needs lives in pooled
// scratch space, and the only shared word is the message counter.
type Vault struct {
	keys    []dataKey // the last one seals, all open
	counter atomic.Uint64
	scratch sync.Pool
}

// scratch is the working space of one operation. It exists because arguments
// of an interface method (cipher.AEAD, hash.Hash) escape: on the stack each
// would be an allocation. Plaintext in it is cleared before it goes back.
type scratch struct {
	index   hash.Hash // HMAC-SHA256 under the blind-index key
	nonces  hash.Hash // HMAC-SHA256 under this process's nonce seed
	prefix  [8]byte   // nonce prefix of block
	block   uint64    // which 2³² messages prefix is for; ^0 before the first
	nonce   [nonceSize]byte
	plain   [plainSize]byte
	data    [1 + 1 + keyIDSize + len(payment.ID{})]byte // additional data
	sum     [sha256.Size]byte
	message []byte
}

// newVault takes the data keys, oldest first, and the blind-index key. It keeps
// no reference to the slices; the caller wipes them.
func newVault(dataKeys [][]byte, indexKey []byte, random io.Reader) (*Vault, error) {
	v := &Vault{}
	for _, key := range dataKeys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("data key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("data key: %w", err)
		}
		v.keys = append(v.keys, dataKey{idOf(key), aead})
	}
	seed := make([]byte, sha256.Size)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("drawing the nonce seed: %w", err)
	}
	indexCopy := append([]byte(nil), indexKey...)
	v.scratch.New = func() any {
		return &scratch{
			index:   hmac.New(sha256.New, indexCopy),
			nonces:  hmac.New(sha256.New, seed),
			block:   ^uint64(0),
			message: make([]byte, 0, 512),
		}
	}
	return v, nil
}

func idOf(key []byte) keyID {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("authswitch vault key id"))
	return keyID(mac.Sum(nil)[:keyIDSize])
}

// nextNonce fills s.nonce with one that this data key has not seen: 64 bits
// that stand for (process, block of 2³² messages) and a 32-bit counter inside
// the block. The 64 bits are HMAC(seed, block) with a seed drawn at start-up.
//
// Why not 96 random bits each time: that allows 2³² messages per key, five days
// at 10,000 a second. Here a repetition needs two equal prefixes, drawn once
// per process start or 2³² messages: after 90,000 of those the chance is still
// below 2⁻³², the bound of NIST SP 800-38D §8. Why not a stored counter: it
// would have to be durable before each use, and a restored backup repeats it.
func (v *Vault) nextNonce(s *scratch) {
	n := v.counter.Add(1) - 1
	if block := n >> 32; block != s.block {
		binary.BigEndian.PutUint64(s.sum[:8], block)
		s.nonces.Reset()
		s.nonces.Write(s.sum[:8])
		copy(s.prefix[:], s.nonces.Sum(s.sum[:0]))
		s.block = block
	}
	copy(s.nonce[:], s.prefix[:])
	binary.BigEndian.PutUint32(s.nonce[8:], uint32(n))
}

// Seal appends the envelope of the card's number and expiry to dst. The id of
// its payment is bound to it: it opens for no other. Nothing else of the card
// is in it.
func (v *Vault) Seal(dst []byte, c *card.Card, id payment.ID) []byte {
	s := v.scratch.Get().(*scratch)
	v.nextNonce(s)
	dst = v.seal(dst, s, c, id)
	v.scratch.Put(s)
	return dst
}

// seal uses s.nonce as it stands.
func (v *Vault) seal(dst []byte, s *scratch, c *card.Card, id payment.ID) []byte {
	key := &v.keys[len(v.keys)-1]
	s.plain[0] = byte(copy(s.plain[1:1+panSize], c.PAN.RevealPAN()))
	s.plain[1+panSize] = byte(copy(s.plain[2+panSize:], c.Expiry.RevealExpiry()))

	dst = append(dst, envelopeVersion)
	dst = append(dst, key.id[:]...)
	dst = append(dst, s.nonce[:]...)
	dst = key.aead.Seal(dst, s.nonce[:], s.plain[:], s.additional(key.id, id))
	clear(s.plain[:])
	return dst
}

// additional is what the tag covers besides the plaintext.
func (s *scratch) additional(key keyID, id payment.ID) []byte {
	b := append(s.data[:0], envelopeVersion, kindPayment)
	b = append(b, key[:]...)
	return append(b, id[:]...)
}

// Open reads an envelope that was sealed for id into c's number and expiry and
// leaves the rest of c alone. On an error c is unchanged.
func (v *Vault) Open(c *card.Card, sealed []byte, id payment.ID) error {
	if len(sealed) != SealedSize || sealed[0] != envelopeVersion {
		return ErrEnvelope
	}
	key := v.key(keyID(sealed[1 : 1+keyIDSize]))
	if key == nil {
		return ErrUnknownKey
	}
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	defer clear(s.plain[:])
	copy(s.nonce[:], sealed[1+keyIDSize:])
	if _, err := key.aead.Open(s.plain[:0], s.nonce[:], sealed[headerSize:], s.additional(key.id, id)); err != nil {
		return ErrAltered
	}
	return s.readPlain(c)
}

func (v *Vault) key(id keyID) *dataKey {
	for i := range v.keys {
		if v.keys[i].id == id {
			return &v.keys[i]
		}
	}
	return nil
}

// readPlain checks what the tag already vouches for: an envelope written by
// another version of this code must not become half a card.
func (s *scratch) readPlain(c *card.Card) error {
	panLen, expiryLen := int(s.plain[0]), int(s.plain[1+panSize])
	if panLen > panSize || expiryLen > expirySize {
		return ErrEnvelope
	}
	var pan card.PAN
	var expiry card.Expiry
	var err error
	if panLen > 0 {
		if pan, err = card.ParsePAN(s.plain[1 : 1+panLen]); err != nil {
			return ErrEnvelope
		}
	}
	if expiryLen > 0 {
		if expiry, err = card.ParseExpiry(s.plain[2+panSize : 2+panSize+expiryLen]); err != nil {
			return ErrEnvelope
		}
	}
	c.PAN, c.Expiry = pan, expiry
	pan.Wipe()
	expiry.Wipe()
	return nil
}

// BlindIndex is what finds a card number again without holding it.
func (v *Vault) BlindIndex(p *card.PAN) [32]byte {
	s := v.scratch.Get().(*scratch)
	m := append(s.message[:0], labelIndex)
	sum := s.authenticate(append(m, p.RevealPAN()...))
	v.scratch.Put(s)
	return sum
}

// authenticate is HMAC-SHA256 of the message under the blind-index key; the
// message is cleared.
func (s *scratch) authenticate(message []byte) [32]byte {
	s.index.Reset()
	s.index.Write(message)
	s.index.Sum(s.sum[:0])
	clear(message)
	s.message = message[:0]
	if cap(message) > maxMessage {
		s.message = nil
	}
	return s.sum
}

// maxMessage is the largest scratch space kept between requests.
const maxMessage = 16 << 10
