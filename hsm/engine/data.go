package engine

import (
	"crypto/cipher"
	"fmt"
	"io"

	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

// The lengths of AES-GCM as the vault uses it: NIST SP 800-38D.
const (
	gcmNonce = 12
	gcmTag   = 16
)

// dataCipher is the AEAD of a data key, nil for a TDES one.
func dataCipher(k *key.Key) (cipher.AEAD, error) {
	if k.Algorithm() != key.AES {
		return nil, nil //nolint:nilnil // there is none, and no operation here that wants one
	}
	block, err := k.Cipher()
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// OpensData says whether a key is one that OpenData works with: to be asked
// before it is written down that it will.
func (e *Engine) OpensData(k *Key) error { return k.dataKey(decrypts) }

// SealsData says whether a key is one that SealData works with.
func (e *Engine) SealsData(k *Key) error { return k.dataKey(encrypts) }

// OpenData appends to dst what was sealed with AES-256-GCM under a data key:
// nonce, ciphertext, tag. Anything wrong with it is ErrMismatch.
func (e *Engine) OpenData(dst []byte, k *Key, sealed, additional []byte) ([]byte, error) {
	if err := k.dataKey(decrypts); err != nil {
		return dst, err
	}
	if len(sealed) < gcmNonce+gcmTag {
		return dst, ErrMismatch
	}
	out, err := k.aead.Open(dst, sealed[:gcmNonce], sealed[gcmNonce:], additional)
	if err != nil {
		return dst, ErrMismatch
	}
	return out, nil
}

// SealData appends to dst what OpenData reads: plain sealed under a data key,
// with a nonce of 96 random bits. NIST SP 800-38D clause 8.3 allows 2³² of them
// for one key; cards sealed anew are far fewer.
func (e *Engine) SealData(dst []byte, k *Key, plain, additional []byte) ([]byte, error) {
	if err := k.dataKey(encrypts); err != nil {
		return dst, err
	}
	var nonce [gcmNonce]byte
	if _, err := io.ReadFull(e.random, nonce[:]); err != nil {
		return dst, ErrRandomness
	}
	return k.aead.Seal(append(dst, nonce[:]...), nonce[:], plain, additional), nil
}

// ReleaseData appends the clear data key to dst: the one usage whose keys leave
// the module, because the switch seals cards under the current one itself. A
// key that seals must be able to encrypt.
func (e *Engine) ReleaseData(dst []byte, k *Key) ([]byte, error) {
	if err := k.dataKey(encrypts); err != nil {
		return dst, err
	}
	return append(dst, k.material.Reveal()...), nil
}

// dataKey says whether a key is an AES-256 data key with a permission.
func (k *Key) dataKey(p permission) error {
	if err := k.may(p, tr31.DataEncryption); err != nil {
		return err
	}
	if k.aead == nil || k.material.Len() != key.MaxBytes {
		return fmt.Errorf("%w: a data key is AES-256", ErrUse)
	}
	return nil
}
