// Package token is the root of trust: where the local master keys and the keys
// that sign the audit log live, and never leave.
//
// There are two: a token behind PKCS#11 (SoftHSM, or any vendor's module by its
// path), and a file, for development on a machine without one. Whoever has the
// file has the keys; the production profile refuses it. The package opens,
// creates and uses keys; it knows nothing of key blocks, frames or officers. It
// is the only one of the module that needs a C compiler, by its PKCS#11
// library; the switch never imports it. Called by cmd/hsmd.
package token

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"authswitch/hsm/key"
)

// Errors of a root of trust. What is wrapped around them says what cures it.
var (
	ErrModule   = errors.New("PKCS#11 module cannot be used")
	ErrAbsent   = errors.New("no such token")
	ErrPIN      = errors.New("token PIN refused")
	ErrLocked   = errors.New("token PIN is locked")
	ErrFull     = errors.New("token has no room")
	ErrKey      = errors.New("no such key in the root of trust")
	ErrNotFit   = errors.New("key in the token is not what it must be")
	ErrFile     = errors.New("key file of the root of trust refused")
	ErrExists   = errors.New("root of trust exists already")
	ErrToken    = errors.New("token failed")
	ErrTooLarge = errors.New("too many keys of this kind")
)

// Root is what serves with the keys in it. Good for any number of goroutines.
type Root interface {
	// Masters are the numbers of the local master keys, ascending.
	Masters() ([]int, error)
	// CMAC writes the AES-CMAC of input under lmk/<master> into dst: 16 bytes.
	CMAC(master int, dst, input []byte) error
	// Sign signs a SHA-256 digest with audit/<number>: ECDSA, ASN.1.
	Sign(number int, digest []byte) ([]byte, error)
	// PublicKey is that of audit/<number>.
	PublicKey(number int) (*ecdsa.PublicKey, error)
	Describe() (Description, error)
	io.Closer
}

// Keeper is what changes the keys: at first installation, and in ceremonies.
type Keeper interface {
	Root
	// CreateMaster draws lmk/<n> inside the root.
	CreateMaster(master int) error
	// ImportMaster takes lmk/<n> in: AES-256, of the components of officers.
	ImportMaster(master int, k *key.Key) error
	// DestroyMaster forgets lmk/<n> for ever.
	DestroyMaster(master int) error
	// CreateAudit draws audit/<n>, ECDSA on P-256.
	CreateAudit(number int) error
	// MarkTest notes for ever that test keys were let in under these masters.
	MarkTest() error
}

// Description is what a root says of itself.
type Description struct {
	Kind         string // pkcs11 or file
	Manufacturer string
	Model        string
	Serial       string
	Label        string
	Library      string // the module's own name and version
	TestKeys     bool   // test keys were let in: never for production
}

// The names of keys in a root.
const (
	masterPrefix = "lmk/"
	auditPrefix  = "audit/"
	testMark     = "authswitch/test-keys"

	masterBytes = 32  // AES-256
	digestBytes = 32  // SHA-256
	cmacBytes   = 16  // an AES block
	maxNumber   = 999 // of a key of one kind
)

func masterName(n int) string { return masterPrefix + strconv.Itoa(n) }
func auditName(n int) string  { return auditPrefix + strconv.Itoa(n) }

// numberOf reads the number behind a prefix.
func numberOf(name, prefix string) (int, bool) {
	digits, found := strings.CutPrefix(name, prefix)
	if !found {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxNumber || strconv.Itoa(n) != digits {
		return 0, false
	}
	return n, true
}

// checkNumber refuses numbers that no key has.
func checkNumber(n int) error {
	if n < 1 || n > maxNumber {
		return fmt.Errorf("%w: number %d is not from 1 to %d", ErrTooLarge, n, maxNumber)
	}
	return nil
}

// checkMaster refuses what is no local master key.
func checkMaster(n int, k *key.Key) error {
	if err := checkNumber(n); err != nil {
		return err
	}
	if k.Algorithm() != key.AES || k.Len() != masterBytes {
		return fmt.Errorf("%w: a local master key is AES-256", ErrNotFit)
	}
	return nil
}
