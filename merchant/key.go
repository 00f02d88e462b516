package merchant

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Errors of the pepper, the secret that keys the hashes.
var (
	ErrPepper     = errors.New("pepper must be 32 to 1024 bytes")
	ErrPepperMode = errors.New("pepper file must not be readable by others (chmod 600)")
)

const (
	minPepper = 32
	maxPepper = 1024
	// keyBytes of randomness stand in an API key: 256 bits, so that a fast hash
	// is right. A slow one (bcrypt, argon2) protects guessable passwords; here
	// it would only hand callers a way to burn our CPU.
	keyBytes = 32
	// KeyPrefix makes a leaked key recognisable to secret scanners.
	KeyPrefix = "ask_"
)

// Hash is HMAC-SHA-256 of an API key under the pepper.
//
// Keyed rather than plain, because configuration travels in backups and
// repositories: without the pepper, which lives in a file of its own, nobody
// can test a captured key against it or plant the hash of a key of their own.
type Hash [sha256.Size]byte

// ParseHash reads 64 hexadecimal digits.
func ParseHash(text string) (Hash, error) {
	var h Hash
	if len(text) != hex.EncodedLen(len(h)) {
		return Hash{}, ErrHash
	}
	if _, err := hex.Decode(h[:], []byte(text)); err != nil {
		return Hash{}, ErrHash
	}
	return h, nil
}

// String is the form that configuration holds.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Equal compares in constant time.
func (h Hash) Equal(other Hash) bool { return subtle.ConstantTimeCompare(h[:], other[:]) == 1 }

// Hasher hashes keys under one pepper. It may be used by many goroutines.
type Hasher struct{ pool sync.Pool }

// pooled is one HMAC with room for its sum: as a local of Hash the sum would
// escape through the hash.Hash interface, an allocation a request.
type pooled struct {
	mac hash.Hash
	sum Hash
}

// NewHasher takes the pepper, which it copies.
func NewHasher(pepper []byte) (*Hasher, error) {
	if len(pepper) < minPepper || len(pepper) > maxPepper {
		return nil, ErrPepper
	}
	own := append([]byte(nil), pepper...)
	return &Hasher{pool: sync.Pool{New: func() any { return &pooled{mac: hmac.New(sha256.New, own)} }}}, nil
}

// Hash is the hash of a clear key.
func (h *Hasher) Hash(key []byte) Hash {
	p := h.pool.Get().(*pooled)
	p.mac.Reset()
	p.mac.Write(key)
	p.mac.Sum(p.sum[:0])
	sum := p.sum
	h.pool.Put(p)
	return sum
}

// NewKey draws an API key. It is shown once; only its hash is kept.
func NewKey(random io.Reader) (string, error) {
	var b [keyBytes]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("drawing an API key: %w", err)
	}
	return KeyPrefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// ReadPepper reads the pepper's file and refuses one that others may read.
func ReadPepper(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the pepper: %w", err)
	}
	if info.Mode()&fs.FileMode(0o077) != 0 {
		return nil, fmt.Errorf("%s: %w", path, ErrPepperMode)
	}
	if info.Size() < minPepper || info.Size() > maxPepper {
		return nil, fmt.Errorf("%s: %w", path, ErrPepper)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the pepper: %w", err)
	}
	return b, nil
}
