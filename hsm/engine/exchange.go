package engine

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

// Sealed is a key as it is stored: a version D block under the local master
// key, and what may be known of it.
type Sealed struct {
	Attributes Attributes
	Check      CheckValue
	Block      []byte
}

// attempts bounds the search for a key that is not weak. One draw in 2⁵² is.
const attempts = 8

// Generate makes a key of the given number of bytes, with odd parity where it
// is TDES.
func (e *Engine) Generate(a Attributes, bytes int) (Sealed, error) {
	h := a.header()
	if err := fits(&h); err != nil {
		return Sealed{}, err
	}
	if bytes < 1 || bytes > key.MaxBytes {
		return Sealed{}, ErrKeyLength
	}
	secret := make(key.Secret, bytes)
	defer secret.Wipe()
	for range attempts {
		if _, err := io.ReadFull(e.random, secret); err != nil {
			return Sealed{}, ErrRandomness
		}
		k, err := key.New(a.Algorithm, secret)
		if err != nil {
			return Sealed{}, fmt.Errorf("%w: %d bytes for %c", ErrKeyLength, bytes, a.Algorithm)
		}
		if a.Algorithm == key.TDES {
			k.FixParity()
		}
		weak := strong(&k)
		if weak == nil {
			sealed, err := e.accept(h, &k, e.lmk)
			k.Wipe()
			return sealed, err
		}
		k.Wipe()
		if errors.Is(weak, ErrKeyLength) { // no draw is longer
			return Sealed{}, weak
		}
	}
	return Sealed{}, ErrRandomness
}

// Combine makes a key of two or three components of full length, each of
// another officer: one alone tells nothing of it. Parity is made odd: the sum
// of two odd bytes is even.
func (e *Engine) Combine(a Attributes, components ...key.Secret) (Sealed, error) {
	h := a.header()
	if err := fits(&h); err != nil {
		return Sealed{}, err
	}
	if len(components) < 2 || len(components) > 3 {
		return Sealed{}, ErrComponents
	}
	sum := make(key.Secret, len(components[0]))
	defer sum.Wipe()
	for i, c := range components {
		if len(c) != len(sum) || len(c) == 0 {
			return Sealed{}, ErrComponents
		}
		for _, other := range components[:i] {
			if subtle.ConstantTimeCompare(c, other) == 1 {
				return Sealed{}, fmt.Errorf("%w: two are the same", ErrComponents)
			}
		}
		subtle.XORBytes(sum, sum, c)
	}
	k, err := key.New(a.Algorithm, sum)
	if err != nil {
		return Sealed{}, fmt.Errorf("%w: %d bytes for %c", ErrKeyLength, len(sum), a.Algorithm)
	}
	defer k.Wipe()
	if a.Algorithm == key.TDES {
		k.FixParity()
	}
	return e.accept(h, &k, e.lmk)
}

// ImportRequest is what a caller expects of a block from a peer.
type ImportRequest struct {
	Want         Attributes
	LegacyImport bool   // the link takes versions A and C
	CheckValue   []byte // compared when given
	Table        []byte // the decimalisation table to bind to an IBM 3624 key: sixteen ASCII digits
}

// Import takes a key in from a peer's block: MAC, length, agreement with what
// was asked for, strength, and only then under the local master key. Optional
// blocks that nobody here knows are kept as they came.
func (e *Engine) Import(wrapping *Key, block []byte, r ImportRequest) (Sealed, error) {
	if err := wrapping.may(decrypts, tr31.BlockProtection); err != nil {
		return Sealed{}, err
	}
	h, err := tr31.ParseHeader(block)
	if err != nil {
		return Sealed{}, fmt.Errorf("importing a key: %w", err)
	}
	if (h.Version == tr31.A || h.Version == tr31.C) && !r.LegacyImport {
		return Sealed{}, ErrLegacy
	}
	p, err := tr31.New(h.Version, &wrapping.material)
	if err != nil {
		return Sealed{}, fmt.Errorf("importing a key: %w", err)
	}
	h, k, err := e.open(p, block)
	if err != nil {
		return Sealed{}, err
	}
	defer k.Wipe()
	return e.take(h, &k, r)
}

// ImportRaw takes a key in that came encrypted under a key-encrypting key
// without any header: TDES in ECB, X9.17, as many networks send working keys.
// Nothing protects such a cryptogram but its check value, which must be there.
func (e *Engine) ImportRaw(wrapping *Key, cryptogram []byte, r ImportRequest) (Sealed, error) {
	if err := wrapping.may(decrypts, tr31.KeyEncryption); err != nil {
		return Sealed{}, err
	}
	h := r.Want.header()
	if err := fits(&h); err != nil {
		return Sealed{}, err
	}
	if len(r.CheckValue) == 0 {
		return Sealed{}, ErrCheckValue
	}
	if wrapping.attributes.Algorithm != key.TDES {
		return Sealed{}, fmt.Errorf("%w: raw keys come under TDES", ErrAlgorithm)
	}
	c, err := wrapping.material.Cipher()
	if err != nil {
		return Sealed{}, fmt.Errorf("importing a raw key: %w", err)
	}
	if len(cryptogram) == 0 || len(cryptogram)%c.BlockSize() != 0 || len(cryptogram) > key.MaxBytes {
		return Sealed{}, ErrKeyLength
	}
	secret := make(key.Secret, len(cryptogram))
	defer secret.Wipe()
	for i := 0; i < len(cryptogram); i += c.BlockSize() {
		c.Decrypt(secret[i:], cryptogram[i:])
	}
	k, err := material(&h, secret)
	if err != nil {
		return Sealed{}, err
	}
	defer k.Wipe()
	if wrapping.strength < k.Strength() {
		return Sealed{}, ErrWrapping
	}
	return e.take(h, &k, r)
}

// take holds a key that was opened to what was asked for, and seals it.
func (e *Engine) take(h tr31.Header, k *key.Key, r ImportRequest) (Sealed, error) {
	if attributesOf(&h) != r.Want {
		return Sealed{}, ErrDisagrees
	}
	check, err := KCV(k)
	if err != nil {
		return Sealed{}, err
	}
	if len(r.CheckValue) > 0 && !check.Matches(r.CheckValue) {
		return Sealed{}, ErrCheckValue
	}
	if len(r.Table) > 0 {
		if err := bind(&h, r.Table); err != nil {
			return Sealed{}, err
		}
	}
	return e.accept(h, k, e.lmk)
}

// bind writes a decimalisation table into a header.
func bind(h *tr31.Header, text []byte) error {
	if h.Usage != tr31.PINIBM3624 {
		return fmt.Errorf("%w: a table is for %s", ErrUse, tr31.PINIBM3624)
	}
	if _, bound := h.OptionalBlock(tableBlock); bound {
		return fmt.Errorf("%w: the key has one already", ErrTable)
	}
	table, err := issuer.ParseTable(text)
	if err != nil || table.Different() < 8 {
		return ErrTable
	}
	return h.Add(tableBlock, table[:])
}

// BindTable binds a decimalisation table to an IBM 3624 key that was generated
// or combined here. It is bound once.
func (e *Engine) BindTable(block, table []byte) (Sealed, error) {
	h, k, err := e.open(e.lmk, block)
	if err != nil {
		return Sealed{}, err
	}
	defer k.Wipe()
	if err := bind(&h, table); err != nil {
		return Sealed{}, err
	}
	return e.accept(h, &k, e.lmk)
}

// accept is the last step of every way in: the rules once more, over the key as
// it will be, and the block under a master key.
func (e *Engine) accept(h tr31.Header, k *key.Key, lmk *tr31.Protector) (Sealed, error) {
	again, err := material(&h, k.Reveal())
	if err != nil {
		return Sealed{}, err
	}
	again.Wipe()
	if _, _, err := boundTable(&h); err != nil {
		return Sealed{}, err
	}
	check, err := KCV(k)
	if err != nil {
		return Sealed{}, err
	}
	block, err := lmk.Seal(h, k.Reveal(), e.random)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing a key: %w", err)
	}
	return Sealed{Attributes: attributesOf(&h), Check: check, Block: block}, nil
}

// Export gives a key to a peer: a version D block under an AES key, B under a
// TDES key. A key that must not leave does not, and none leaves under a weaker
// one.
func (e *Engine) Export(wrapping *Key, block []byte) (Sealed, error) {
	if err := wrapping.may(encrypts, tr31.BlockProtection); err != nil {
		return Sealed{}, err
	}
	h, k, err := e.leaving(wrapping, block)
	if err != nil {
		return Sealed{}, err
	}
	defer k.Wipe()
	version := tr31.D
	if wrapping.attributes.Algorithm == key.TDES {
		version = tr31.B
	}
	p, err := tr31.New(version, &wrapping.material)
	if err != nil {
		return Sealed{}, fmt.Errorf("exporting a key: %w", err)
	}
	return e.accept(h, &k, p)
}

// ExportRaw gives a key to a peer that takes no key blocks: TDES in ECB under a
// key-encrypting key. Only a key marked sensitive may leave so: exportable ones
// leave in a block (X9.143:2021 table 6).
func (e *Engine) ExportRaw(wrapping *Key, block []byte) (cryptogram []byte, check CheckValue, err error) {
	if err := wrapping.may(encrypts, tr31.KeyEncryption); err != nil {
		return nil, CheckValue{}, err
	}
	h, k, err := e.leaving(wrapping, block)
	if err != nil {
		return nil, CheckValue{}, err
	}
	defer k.Wipe()
	if h.Exportability != tr31.Sensitive {
		return nil, CheckValue{}, ErrNotExportable
	}
	if wrapping.attributes.Algorithm != key.TDES || k.Algorithm() != key.TDES {
		return nil, CheckValue{}, fmt.Errorf("%w: raw keys leave as TDES under TDES", ErrAlgorithm)
	}
	c, err := wrapping.material.Cipher()
	if err != nil {
		return nil, CheckValue{}, fmt.Errorf("exporting a raw key: %w", err)
	}
	if check, err = KCV(&k); err != nil {
		return nil, CheckValue{}, err
	}
	cryptogram = make([]byte, k.Len())
	for i := 0; i < len(cryptogram); i += c.BlockSize() {
		c.Encrypt(cryptogram[i:], k.Reveal()[i:])
	}
	return cryptogram, check, nil
}

// leaving opens a stored key for a peer.
func (e *Engine) leaving(wrapping *Key, block []byte) (tr31.Header, key.Key, error) {
	h, k, err := e.open(e.lmk, block)
	if err != nil {
		return tr31.Header{}, key.Key{}, err
	}
	if h.Exportability == tr31.NotAtAll {
		err = ErrNotExportable
	} else if wrapping.strength < k.Strength() {
		err = ErrWrapping
	}
	if err != nil {
		k.Wipe()
		return tr31.Header{}, key.Key{}, err
	}
	return h, k, nil
}

// Rewrap seals a block of an earlier local master key under this one: a step of
// the rotation, in the background. Nothing about the key changes.
func (e *Engine) Rewrap(earlier *tr31.Protector, block []byte) (Sealed, error) {
	h, k, err := e.open(earlier, block)
	if err != nil {
		return Sealed{}, err
	}
	defer k.Wipe()
	return e.accept(h, &k, e.lmk)
}
