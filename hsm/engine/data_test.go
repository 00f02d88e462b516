package engine

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"testing"
)

func TestData(t *testing.T) {
	e := engine(t)
	k := loaded(t, e, "D0ABN", aes256)
	block, err := aes.NewCipher(unhex(t, aes256))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := []byte("twelve bytes")
	sealed := gcm.Seal(bytes.Clone(nonce), nonce, []byte("a card"), []byte("record"))
	got, err := e.OpenData([]byte("before "), k, sealed, []byte("record"))
	if err != nil || string(got) != "before a card" {
		t.Fatalf("%q %v", got, err)
	}
	for i := range sealed {
		sealed[i] ^= 4
		if got, err := e.OpenData(nil, k, sealed, []byte("record")); !errors.Is(err, ErrMismatch) || len(got) != 0 {
			t.Errorf("byte %d altered: %q %v", i, got, err)
		}
		sealed[i] ^= 4
	}
	for _, c := range []struct {
		key, aad string
		n        int
		attrs    string
		want     error
	}{
		{aes256, "another", len(sealed), "D0ABN", ErrMismatch},
		{aes256, "record", 27, "D0ABN", ErrMismatch},
		{aes256, "record", 0, "D0ABN", ErrMismatch},
		{aes256, "record", len(sealed), "D0ADN", nil},
		{aes256, "record", len(sealed), "D0AEN", ErrUse},
		{aes256, "record", len(sealed), "P0ABN", ErrUse},
		{aes128, "record", len(sealed), "D0ABN", ErrUse},
		{double1, "record", len(sealed), "D0TBN", ErrUse},
	} {
		if _, err := e.OpenData(nil, loaded(t, e, c.attrs, c.key), sealed[:c.n], []byte(c.aad)); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Only an AES-256 data key leaves, and only one that may seal.
func TestRelease(t *testing.T) {
	e := engine(t)
	got, err := e.ReleaseData([]byte{9}, loaded(t, e, "D0ABN", aes256))
	if err != nil || !bytes.Equal(got, append([]byte{9}, unhex(t, aes256)...)) {
		t.Fatalf("%x %v", got, err)
	}
	for _, c := range []struct{ attrs, key string }{
		{"D0ADN", aes256},
		{"D0ABN", aes128},
		{"D0TBN", double1},
		{"P0ABN", aes256},
		{"K0ABN", aes256},
		{"K1ABE", aes256},
		{"M6ACN", aes256},
		{"B0AXN", aes256},
		{"C0TVN", double1},
		{"E0TXN", double1},
	} {
		if got, err := e.ReleaseData(nil, loaded(t, e, c.attrs, c.key)); !errors.Is(err, ErrUse) || len(got) != 0 {
			t.Errorf("%s left: %v", c.attrs, err)
		}
	}
}
