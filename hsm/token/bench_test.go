package token

import (
	"crypto/rand"
	"encoding/hex"
	"testing"

	"github.com/miekg/pkcs11"

	"authswitch/hsm/pinblock"
)

// BenchmarkTranslateInToken is a PIN translation as it would be without a
// module of its own: both zone keys in SoftHSM, and the clear block in the
// process that asks. What BenchmarkSocket of cmd/hsmd is held against.
func BenchmarkTranslateInToken(b *testing.B) {
	r := open(b, soft(b)).(*pkcs11Root)
	zone := func(digits string) pkcs11.ObjectHandle {
		value, err := hex.DecodeString(digits)
		if err != nil {
			b.Fatal(err)
		}
		h, err := r.ctx.CreateObject(r.owner, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_DES3),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
		})
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	in, out := zone("0123456789ABCDEFFEDCBA98765432100123456789ABCDEF"), zone("89ABCDEF0123456776543210FEDCBA9889ABCDEF01234567")
	ecb := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_DES3_ECB, nil)}
	account := []byte("4111111111111111")
	pin, err := pinblock.ParsePIN([]byte("1234"))
	if err != nil {
		b.Fatal(err)
	}
	block := make([]byte, pinblock.Size)
	encrypt := func(s pkcs11.SessionHandle, k pkcs11.ObjectHandle) ([]byte, error) {
		if err := r.ctx.EncryptInit(s, ecb, k); err != nil {
			return nil, err
		}
		return r.ctx.Encrypt(s, block)
	}
	if err := pinblock.Encode(block, pinblock.ISO0, &pin, account, rand.Reader); err != nil {
		b.Fatal(err)
	}
	encrypted, err := encrypt(r.owner, in)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := r.with(func(s pkcs11.SessionHandle) error {
			if err := r.ctx.DecryptInit(s, ecb, in); err != nil {
				return err
			}
			clearBlock, err := r.ctx.Decrypt(s, encrypted)
			if err != nil {
				return err
			}
			if err := pinblock.Decode(&pin, pinblock.ISO0, clearBlock, account); err != nil {
				return err
			}
			if err := pinblock.Encode(block, pinblock.ISO0, &pin, account, rand.Reader); err != nil {
				return err
			}
			_, err = encrypt(s, out)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per_s")
}
