// Package people knows the named operators: persons with credentials of their
// own, who do what no gateway's key may. What is kept of a credential is its
// Argon2id hash, in the journal, so that every node knows the same people.
//
// It decides nothing about what an operator may do. Called by api and cmd.
package people

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/argon2"

	"authswitch/payment"
)

// Errors of a change.
var (
	// ErrName means that a name is not one of an operator.
	ErrName = errors.New("a name has 1 to 32 small letters, digits, dots and dashes, and begins with a letter")
	errHash = errors.New("what is kept of an operator's credential cannot be read")
)

// Journal keeps the operators.
type Journal interface {
	Person(name string) (payment.Person, error)
	People() ([]payment.Person, error)
	ChangePerson(x *payment.PersonChange) (payment.Person, error)
}

// Costs of a hash: 19 MiB and two passes, OWASP's first option for Argon2id. A
// credential is 52 random characters, which nobody guesses from its hash whatever
// that costs; 64 MiB and three passes, as in the ceremony, were seen in the latency
// of live payments.
const (
	passes  = 2
	kiB     = 19 << 10
	threads = 1 // live payments have the other processors
	saltLen = 16
	hashLen = 32
)

// checks is how many credentials are in line to be checked: each costs some
// tens of milliseconds of a processor, one after the other.
const checks = 8

// Book knows the operators. It is safe for concurrent use.
type Book struct {
	journal Journal
	log     *slog.Logger
	line    chan struct{}
	turn    chan struct{}
	nobody  []byte // a hash for names that are nobody's: they take as long
}

// NewBook opens the operators' book.
func NewBook(journal Journal, log *slog.Logger) *Book {
	b := &Book{journal: journal, log: log, line: make(chan struct{}, checks), turn: make(chan struct{}, 1)}
	b.nobody = format(make([]byte, saltLen), make([]byte, hashLen))
	return b
}

// Add makes an operator and returns the credential, which is shown once and kept
// nowhere.
func (b *Book) Add(name, by, reason string) (secret string, err error) {
	if !isName(name) {
		return "", ErrName
	}
	secret = rand.Text() + rand.Text()
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("draw a salt: %w", err)
	}
	b.turn <- struct{}{}
	hash := argon2.IDKey([]byte(secret), salt, passes, kiB, threads, hashLen)
	<-b.turn
	_, err = b.journal.ChangePerson(&payment.PersonChange{Name: name, Hash: format(salt, hash), By: by, Reason: reason})
	if err != nil {
		return "", fmt.Errorf("add %s: %w", name, err)
	}
	return secret, nil
}

// Remove ends an operator's powers at once; releases that wait for a second one
// lose theirs.
func (b *Book) Remove(name, by, reason string) error {
	if !isName(name) {
		return ErrName
	}
	if _, err := b.journal.ChangePerson(&payment.PersonChange{Name: name, By: by, Reason: reason}); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// List is every operator there is or was, by name.
func (b *Book) List() ([]payment.Person, error) { return b.journal.People() }

// Verify says whether a secret is the operator's. payment.ErrBusy: too many are
// asked about at once.
func (b *Book) Verify(name string, secret []byte) (bool, error) {
	select {
	case b.line <- struct{}{}:
		defer func() { <-b.line }()
	default:
		return false, payment.ErrBusy
	}
	kept := b.nobody
	p, err := b.journal.Person(name)
	known := err == nil && !p.Removed
	if known {
		kept = p.Hash
	} else if err != nil && !errors.Is(err, payment.ErrNotFound) {
		return false, fmt.Errorf("read operator: %w", err)
	}
	b.turn <- struct{}{}
	same, err := matches(kept, secret)
	<-b.turn
	if err != nil {
		return false, err
	}
	if !known || !same {
		b.log.Warn("operator refused: no such name, or another credential", "known", known)
	}
	return known && same, nil
}

func isName(name string) bool {
	if len(name) < 1 || len(name) > 32 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

var encoding = base64.RawStdEncoding

// format is a hash in PHC form.
func format(salt, hash []byte) []byte {
	return fmt.Appendf(nil, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, kiB, passes, threads, encoding.EncodeToString(salt), encoding.EncodeToString(hash))
}

// matches hashes a secret as one that is kept was hashed.
func matches(kept, secret []byte) (bool, error) {
	var version, memory, rounds uint32
	var lanes uint8
	fields := strings.Split(string(kept), "$")
	if len(fields) != 6 || fields[1] != "argon2id" {
		return false, errHash
	}
	if _, err := fmt.Sscanf(fields[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, errHash
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &memory, &rounds, &lanes); err != nil || memory > 4*kiB || memory < 8 || rounds < 1 || rounds > 16 || lanes < 1 {
		return false, errHash
	}
	salt, err := encoding.DecodeString(fields[4])
	hash, err2 := encoding.DecodeString(fields[5])
	if err != nil || err2 != nil || len(hash) != hashLen {
		return false, errHash
	}
	return subtle.ConstantTimeCompare(hash, argon2.IDKey(secret, salt, rounds, memory, lanes, hashLen)) == 1, nil
}
