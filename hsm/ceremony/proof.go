package ceremony

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/argon2"
)

// Errors of proving who one is.
var (
	ErrProof      = errors.New("this is not the officer: wrong passphrase or key")
	ErrPassphrase = errors.New("a passphrase has at least 12 characters")
	ErrStretch    = errors.New("impossible cost of a passphrase")
)

// Costs of making a key of a passphrase: RFC 9106's second recommended option,
// 64 MiB and three passes. It is paid where the passphrase is typed, so the
// module cannot be kept busy with it and never sees a passphrase.
const (
	stretchPasses  = 3
	stretchKiB     = 64 << 10
	stretchThreads = 1
	// What a module may ask of a terminal, and what it may not get away with.
	minStretchKiB  = 19 << 10
	maxStretchKiB  = 1 << 20
	maxPasses      = 16
	SaltBytes      = 16
	MinPassphrase  = 12
	NonceBytes     = 32
	proofLabel     = "authswitch officer proof 1\n"
	maxThreads     = 16
	signatureBytes = ed25519.SignatureSize
)

// Stretch is how a passphrase becomes a key: Argon2id, RFC 9106.
type Stretch struct {
	Salt    []byte `json:"salt"`
	Passes  uint32 `json:"passes"`
	KiB     uint32 `json:"kib"`
	Threads uint8  `json:"threads"`
}

// NewStretch is today's cost with a salt of 16 random bytes.
func NewStretch(salt []byte) Stretch {
	return Stretch{Salt: salt, Passes: stretchPasses, KiB: stretchKiB, Threads: stretchThreads}
}

func (s *Stretch) check() error {
	if len(s.Salt) != SaltBytes || s.Passes < 1 || s.Passes > maxPasses || s.KiB < minStretchKiB || s.KiB > maxStretchKiB || s.Threads < 1 || s.Threads > maxThreads {
		return ErrStretch
	}
	return nil
}

// Credential is what an officer signs with. It is wiped by whoever made it.
type Credential struct{ private ed25519.PrivateKey }

// FromPassphrase makes the officer's key of a passphrase, in about a tenth of a
// second and 64 MiB.
func FromPassphrase(passphrase []byte, s Stretch) (Credential, error) {
	if len(passphrase) < MinPassphrase {
		return Credential{}, ErrPassphrase
	}
	if err := s.check(); err != nil {
		return Credential{}, err
	}
	seed := argon2.IDKey(passphrase, s.Salt, s.Passes, s.KiB, s.Threads, ed25519.SeedSize)
	defer clear(seed)
	return Credential{ed25519.NewKeyFromSeed(seed)}, nil
}

// FromKey takes the officer's own key.
func FromKey(private ed25519.PrivateKey) (Credential, error) {
	if len(private) != ed25519.PrivateKeySize {
		return Credential{}, ErrProof
	}
	return Credential{append(ed25519.PrivateKey(nil), private...)}, nil
}

// Public is the half that is enrolled.
func (c *Credential) Public() ed25519.PublicKey { return c.private.Public().(ed25519.PublicKey) }

// Clone is the same key in memory of its own.
func (c *Credential) Clone() Credential {
	return Credential{append(ed25519.PrivateKey(nil), c.private...)}
}

// Wipe overwrites the key.
func (c *Credential) Wipe() {
	clear(c.private)
	c.private = nil
}

// Format hides the key in every verb.
func (Credential) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[hidden]") }

// LogValue hides the key.
func (Credential) LogValue() slog.Value { return slog.StringValue("[hidden]") }

// Prove signs one action with all that it says, for one challenge: it is good
// for nothing else and only once.
func (c *Credential) Prove(nonce []byte, officer, action string, body []byte) []byte {
	m := message(nonce, officer, action, body)
	defer clear(m) // a component may be in it
	return ed25519.Sign(c.private, m)
}

// Proven checks what Prove signed.
func (o *Officer) Proven(nonce []byte, action string, body, signature []byte) error {
	m := message(nonce, o.Name, action, body)
	defer clear(m)
	if len(nonce) != NonceBytes || len(signature) != signatureBytes || !ed25519.Verify(o.Public, m, signature) {
		return ErrProof
	}
	return nil
}

// message is unambiguous: every part has its length before it.
func message(nonce []byte, officer, action string, body []byte) []byte {
	m := make([]byte, 0, len(proofLabel)+len(nonce)+len(officer)+len(action)+len(body)+16)
	m = append(m, proofLabel...)
	for _, part := range [][]byte{nonce, []byte(officer), []byte(action), body} {
		m = binary.BigEndian.AppendUint32(m, uint32(len(part)))
		m = append(m, part...)
	}
	return m
}
