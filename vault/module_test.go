package vault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

// A vault without keys refuses, and says nothing in their place.
func TestNoKeyYet(t *testing.T) {
	v, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := testCard(t, "4970100000000154", "2712")
	dst, err := v.Seal([]byte("before"), c, testMerchant, testID)
	if !errors.Is(err, ErrNoKey) || string(dst) != "before" || v.Ready() || v.Key() != 0 {
		t.Errorf("%q %v", dst, err)
	}
	if v.BlindIndex(&c.PAN) != [32]byte{} || v.Fingerprint(testAuthorization(t), [32]byte{}) != [32]byte{} {
		t.Error("an index without a key")
	}
}

// What the security module would do with an envelope: open it under the key of
// its number with the additional data of its record.
func openAsModule(t *testing.T, sealed []byte, key *[32]byte, merchant payment.MerchantID, id payment.ID) (*card.Card, payment.KeyID, error) {
	t.Helper()
	e, err := ParseEnvelope(sealed)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := newAEAD(key[:])
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, e.Ciphertext[:nonceSize], e.Ciphertext[nonceSize:], AppendAdditional(nil, e.Key, merchant, id))
	if err != nil {
		return nil, e.Key, err
	}
	c := new(card.Card)
	return c, e.Key, ReadPlain(c, plain)
}

func TestModuleKeys(t *testing.T) {
	v, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first, second, index := [32]byte{1}, [32]byte{2}, [32]byte{3}
	if err := v.Use(17, &first, &index); err != nil || !v.Ready() || v.Key() != 17 {
		t.Fatal(err, v.Key())
	}
	c := testCard(t, "4970100000000154", "2712")
	before, wantIndex := seal(t, v, nil, c, testID), v.BlindIndex(&c.PAN)
	if err := v.Use(18, &second, &index); err != nil || v.Key() != 18 {
		t.Fatal(err)
	}
	after := seal(t, v, nil, c, testID)
	if v.BlindIndex(&c.PAN) != wantIndex {
		t.Error("the blind index did not survive a rotation")
	}
	for _, x := range []struct {
		sealed []byte
		key    *[32]byte
		id     payment.KeyID
	}{{before, &first, 17}, {after, &second, 18}} {
		got, id, err := openAsModule(t, x.sealed, x.key, testMerchant, testID)
		if err != nil || id != x.id || string(got.PAN.RevealPAN()) != "4970100000000154" {
			t.Errorf("%s: %v", id, err)
		}
		other := testID
		other[0]++
		if _, _, err := openAsModule(t, x.sealed, x.key, "another", testID); err == nil {
			t.Error("opened for another merchant")
		}
		if _, _, err := openAsModule(t, x.sealed, x.key, testMerchant, other); err == nil {
			t.Error("opened for another record")
		}
		// Here it opens for nobody: that is the security module's to do.
		if err := v.Open(new(card.Card), x.sealed, testID); !errors.Is(err, ErrEnvelope) {
			t.Errorf("opened without the security module: %v", err)
		}
	}
}

// A vault whose key's time is over seals nothing.
func TestStop(t *testing.T) {
	v, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := [32]byte{1}
	if err := v.Use(1, &key, &key); err != nil {
		t.Fatal(err)
	}
	v.Stop()
	if _, err := v.Seal(nil, testCard(t, "4970100000000154", "2712"), testMerchant, testID); !errors.Is(err, ErrNoKey) || v.Key() != 0 {
		t.Errorf("%v", err)
	}
}

// An installation that had a key file opens what was sealed under it.
func TestOpensWithTheKeyFile(t *testing.T) {
	earlier := knownVault(t)
	sealed := seal(t, earlier, nil, testCard(t, "4970100000000154", "2712"), testID)
	v, err := New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v.OpensWith(earlier)
	var c card.Card
	if err := v.Open(&c, sealed, testID); err != nil || string(c.PAN.RevealPAN()) != "4970100000000154" {
		t.Errorf("%v", err)
	}
	if v.Ready() {
		t.Error("it seals under the key file too")
	}
}

func TestParseEnvelope(t *testing.T) {
	good := append([]byte{versionModule, 0, 0, 0, 9}, make([]byte, SealedSize-5)...)
	if e, err := ParseEnvelope(good); err != nil || e.Key != 9 || len(e.Ciphertext) != SealedSize-5 {
		t.Errorf("%+v %v", e, err)
	}
	for _, bad := range [][]byte{nil, good[:SealedSize-1], append(bytes.Clone(good), 0), append([]byte{3}, good[1:]...), append([]byte{versionModule, 0, 0, 0, 0}, good[5:]...)} {
		if _, err := ParseEnvelope(bad); !errors.Is(err, ErrEnvelope) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}
