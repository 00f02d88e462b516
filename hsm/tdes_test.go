package hsm_test

import (
	"testing"

	"authswitch/hsm/key"
)

// tdes encrypts or decrypts one block.
func tdes(t testing.TB, keyHex string, in []byte, encrypt bool) []byte {
	t.Helper()
	k, err := key.New(key.TDES, unhex(t, keyHex))
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	if encrypt {
		c.Encrypt(out, in)
	} else {
		c.Decrypt(out, in)
	}
	return out
}
