// Package vault seals card data and computes what stands for it: the envelope
// that is journalled, the blind index that finds a card again, and the
// fingerprint that tells a repeated request from another one.
//
// It is given its keys: by the security module, one data key at a time (Use), or
// wrapped under the root of a key file (Load). It writes nothing but the small
// file of wrapped keys, never logs, and never sees sensitive authentication data
// other than to leave it out. What was sealed under a key of the security module
// is opened by that alone (vault/stored); this package opens what was sealed
// under a key file. Called by: switching (seal, index, fingerprint),
// vault/stored, cmd.
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
	ErrNoKey       = errors.New("the vault has no data key yet")
)

// Root wraps the vault's keys. Wrap and Unwrap are called at start-up only.
type Root interface {
	Wrap(key []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// The envelope: version, key id, nonce, then the sealed plaintext and its tag.
// The plaintext has one length for every card, so that the envelope does not
// tell how long the number is.
//
// Version 1 is sealed under a key of the key file, whose id is derived from it;
// its tag also covers version, kind, key id and record. Version 2 is sealed under
// a data key of the security module, whose id is its number in the journal
// (payment.KeyID); its tag also covers the merchant.
const (
	versionFile   = 1
	versionModule = 2
	keyIDSize     = 4
	nonceSize     = 12
	tagSize       = 16
	headerSize    = 1 + keyIDSize + nonceSize
	plainSize     = 1 + panSize + 1 + expirySize
	panSize       = 19
	expirySize    = 4

	// SealedSize is the length of every envelope.
	SealedSize = headerSize + plainSize + tagSize
	// PlainSize is the length of what is sealed.
	PlainSize = plainSize
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

// keyID names a data key of a key file. It is derived from the key, so a file of
// wrapped keys from elsewhere is noticed by its envelopes.
type keyID [keyIDSize]byte

type dataKey struct {
	id   keyID
	aead cipher.AEAD
}

// Vault is safe for concurrent use: what an operation needs lives in pooled
// scratch space, and the only shared words are the message counter and the
// pointer to the keys.
type Vault struct {
	files   []dataKey // of the key file: the last one seals where there is no other, all open
	seed    []byte    // of this process's nonces
	counter atomic.Uint64
	keys    atomic.Pointer[keys] // nil: none yet
	opening sync.Pool            // *scratch without keyed hashes, for Open
}

// keys are the data key that seals, and the blind-index key inside the scratch
// space. They never change: a rotation makes new ones.
type keys struct {
	version byte
	data    dataKey
	index   [keySize]byte
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
	data    []byte // additional data
	sum     [sha256.Size]byte
	message []byte
}

// New is a vault without keys: Seal refuses until Use gave it some. Random seeds
// its nonces: two processes must never be given the same.
func New(random io.Reader) (*Vault, error) {
	v := &Vault{seed: make([]byte, sha256.Size)}
	v.opening.New = func() any { return &scratch{data: make([]byte, 0, additionalSize)} }
	if _, err := io.ReadFull(random, v.seed); err != nil {
		return nil, fmt.Errorf("drawing the nonce seed: %w", err)
	}
	return v, nil
}

// newVault takes the data keys of a key file, oldest first, and its blind-index
// key. It keeps no reference to the slices; the caller wipes them.
func newVault(dataKeys [][]byte, indexKey []byte, random io.Reader) (*Vault, error) {
	v, err := New(random)
	if err != nil {
		return nil, err
	}
	for _, key := range dataKeys {
		aead, err := newAEAD(key)
		if err != nil {
			return nil, err
		}
		v.files = append(v.files, dataKey{idOf(key), aead})
	}
	v.adopt(versionFile, v.files[len(v.files)-1], (*[keySize]byte)(indexKey))
	return v, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return aead, nil
}

// Use seals from now on under a data key of the security module, which has the
// given number in the journal, and indexes under index. The caller wipes both;
// the keys used before are forgotten.
func (v *Vault) Use(id payment.KeyID, data, index *[keySize]byte) error {
	aead, err := newAEAD(data[:])
	if err != nil {
		return err
	}
	var number keyID
	binary.BigEndian.PutUint32(number[:], uint32(id))
	v.adopt(versionModule, dataKey{number, aead}, index)
	return nil
}

// adopt swaps the keys whole. The bytes of the earlier ones are overwritten once
// nobody can be at work with them: the scratch space copied what it needs, and
// what the standard library expanded cannot be overwritten, only dropped.
func (v *Vault) adopt(version byte, data dataKey, index *[keySize]byte) {
	k := &keys{version: version, data: data, index: *index}
	k.scratch.New = func() any {
		return &scratch{
			index:   hmac.New(sha256.New, k.index[:]),
			nonces:  hmac.New(sha256.New, v.seed),
			block:   ^uint64(0),
			data:    make([]byte, 0, additionalSize),
			message: make([]byte, 0, 512),
		}
	}
	v.keys.Store(k)
}

// Stop forgets the keys: Seal refuses until Use gives others. Their time is over.
func (v *Vault) Stop() { v.keys.Store(nil) }

// Key is the number of the security module's key that seals now, 0 when none
// does.
func (v *Vault) Key() payment.KeyID {
	k := v.keys.Load()
	if k == nil || k.version != versionModule {
		return 0
	}
	return payment.KeyID(binary.BigEndian.Uint32(k.data.id[:]))
}

// Ready says whether there is a key to seal with.
func (v *Vault) Ready() bool { return v.keys.Load() != nil }

// OpensWith lets v open what was sealed under the key file of another vault: for
// an installation that had one before its security module.
func (v *Vault) OpensWith(earlier *Vault) { v.files = append(v.files, earlier.files...) }

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

// Seal appends the envelope of the card's number and expiry to dst. Its payment
// and merchant are bound to it: it opens for no other. Nothing else of the card
// is in it. ErrNoKey before the vault has one.
func (v *Vault) Seal(dst []byte, c *card.Card, merchant payment.MerchantID, id payment.ID) ([]byte, error) {
	k := v.keys.Load()
	if k == nil {
		return dst, ErrNoKey
	}
	s := k.scratch.Get().(*scratch)
	v.nextNonce(s)
	dst = k.seal(dst, s, c, merchant, id)
	k.scratch.Put(s)
	return dst, nil
}

// seal uses s.nonce as it stands.
func (k *keys) seal(dst []byte, s *scratch, c *card.Card, merchant payment.MerchantID, id payment.ID) []byte {
	s.plain[0] = byte(copy(s.plain[1:1+panSize], c.PAN.RevealPAN()))
	s.plain[1+panSize] = byte(copy(s.plain[2+panSize:], c.Expiry.RevealExpiry()))

	dst = append(dst, k.version)
	dst = append(dst, k.data.id[:]...)
	dst = append(dst, s.nonce[:]...)
	s.data = appendAdditional(s.data[:0], k.version, k.data.id, merchant, id)
	dst = k.data.aead.Seal(dst, s.nonce[:], s.plain[:], s.data)
	clear(s.plain[:])
	card.ClearRegisters()
	return dst
}

// additionalSize is room for the longest additional data: a merchant's id has
// 255 bytes at most.
const additionalSize = 1 + 1 + keyIDSize + len(payment.ID{}) + 255

// appendAdditional is what the tag covers besides the plaintext.
func appendAdditional(b []byte, version byte, key keyID, merchant payment.MerchantID, id payment.ID) []byte {
	b = append(b, version, kindPayment)
	b = append(b, key[:]...)
	b = append(b, id[:]...)
	if version == versionFile {
		return b
	}
	return append(b, merchant...) // last: nothing can run together
}

// Envelope is what an envelope shows of itself.
type Envelope struct {
	// Key is the number of the security module's key, 0 for one of a key file.
	Key        payment.KeyID
	Ciphertext []byte // nonce, ciphertext, tag: part of the envelope
}

// ParseEnvelope reads an envelope's head.
func ParseEnvelope(sealed []byte) (Envelope, error) {
	if len(sealed) != SealedSize || sealed[0] != versionFile && sealed[0] != versionModule {
		return Envelope{}, ErrEnvelope
	}
	e := Envelope{Ciphertext: sealed[1+keyIDSize:]}
	if sealed[0] == versionModule {
		if e.Key = payment.KeyID(binary.BigEndian.Uint32(sealed[1:])); e.Key == 0 {
			return Envelope{}, ErrEnvelope
		}
	}
	return e, nil
}

// AppendEnvelope writes the envelope of what the security module sealed under
// one of its keys: nonce, ciphertext, tag.
func AppendEnvelope(dst []byte, key payment.KeyID, ciphertext []byte) []byte {
	dst = append(dst, versionModule)
	dst = binary.BigEndian.AppendUint32(dst, uint32(key))
	return append(dst, ciphertext...)
}

// AppendAdditional writes what the tag of a security module's envelope covers
// besides the plaintext.
func AppendAdditional(dst []byte, key payment.KeyID, merchant payment.MerchantID, id payment.ID) []byte {
	var number keyID
	binary.BigEndian.PutUint32(number[:], uint32(key))
	return appendAdditional(dst, versionModule, number, merchant, id)
}

// Open reads an envelope that was sealed for id under a key of the key file into
// c's number and expiry and leaves the rest of c alone. On an error c is
// unchanged.
func (v *Vault) Open(c *card.Card, sealed []byte, id payment.ID) error {
	if len(sealed) != SealedSize || sealed[0] != versionFile {
		return ErrEnvelope
	}
	key := v.key(keyID(sealed[1 : 1+keyIDSize]))
	if key == nil {
		return ErrUnknownKey
	}
	s := v.opening.Get().(*scratch)
	defer v.opening.Put(s)
	defer clear(s.plain[:])
	copy(s.nonce[:], sealed[1+keyIDSize:])
	s.data = appendAdditional(s.data[:0], versionFile, key.id, "", id)
	if _, err := key.aead.Open(s.plain[:0], s.nonce[:], sealed[headerSize:], s.data); err != nil {
		return ErrAltered
	}
	return ReadPlain(c, s.plain[:])
}

func (v *Vault) key(id keyID) *dataKey {
	for i := range v.files {
		if v.files[i].id == id {
			return &v.files[i]
		}
	}
	return nil
}

// ReadPlain reads what was sealed into c's number and expiry. It checks what the
// tag already vouches for: an envelope written by another version of this code
// must not become half a card. The caller wipes plain.
func ReadPlain(c *card.Card, plain []byte) error {
	if len(plain) != plainSize {
		return ErrEnvelope
	}
	panLen, expiryLen := int(plain[0]), int(plain[1+panSize])
	if panLen > panSize || expiryLen > expirySize {
		return ErrEnvelope
	}
	var pan card.PAN
	var expiry card.Expiry
	var err error
	if panLen > 0 {
		if pan, err = card.ParsePAN(plain[1 : 1+panLen]); err != nil {
			return ErrEnvelope
		}
	}
	if expiryLen > 0 {
		if expiry, err = card.ParseExpiry(plain[2+panSize : 2+panSize+expiryLen]); err != nil {
			return ErrEnvelope
		}
	}
	c.PAN, c.Expiry = pan, expiry
	pan.Wipe()
	expiry.Wipe()
	card.ClearRegisters()
	return nil
}

// BlindIndex is what finds a card number again without holding it; zero while
// the vault has no key.
func (v *Vault) BlindIndex(p *card.PAN) [32]byte {
	k := v.keys.Load()
	if k == nil {
		return [32]byte{}
	}
	s := k.scratch.Get().(*scratch)
	m := append(s.message[:0], labelIndex)
	sum := s.authenticate(append(m, p.RevealPAN()...))
	k.scratch.Put(s)
	return sum
}

// authenticate is HMAC-SHA256 of the message under the blind-index key; the
// message is cleared.
func (s *scratch) authenticate(message []byte) [32]byte {
	s.index.Reset()
	s.index.Write(message)
	s.index.Sum(s.sum[:0])
	clear(message)
	card.ClearRegisters()
	s.message = message[:0]
	if cap(message) > maxMessage {
		s.message = nil
	}
	return s.sum
}

// maxMessage is the largest scratch space kept between requests.
const maxMessage = 16 << 10
