package reseal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
)

// aead is the data key that a test's block names.
func aead(block []byte) cipher.AEAD {
	var id int
	if _, err := fmt.Sscanf(string(block), "D-%d", &id); err != nil {
		panic(err)
	}
	key := [32]byte{byte(id)}
	b, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return a
}

func open(block, ciphertext, additional []byte) ([]byte, error) {
	return aead(block).Open(nil, ciphertext[:12], ciphertext[12:], additional)
}

func seal(block, plain, additional []byte) []byte {
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		panic(err)
	}
	return aead(block).Seal(nonce, nonce, plain, additional)
}
