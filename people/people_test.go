package people

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"authswitch/payment"
)

// kept is the journal's part, in memory.
type kept map[string]payment.Person

func (k kept) Person(name string) (payment.Person, error) {
	p, ok := k[name]
	if !ok {
		return p, payment.ErrNotFound
	}
	return p, nil
}

func (k kept) People() (list []payment.Person, err error) {
	for _, p := range k {
		list = append(list, p)
	}
	return list, nil
}

func (k kept) ChangePerson(x *payment.PersonChange) (payment.Person, error) {
	p, known := k[x.Name]
	if len(x.Hash) > 0 && known && !p.Removed {
		return p, payment.ErrPersonKnown
	}
	k[x.Name] = payment.Person{Name: x.Name, Hash: x.Hash, Removed: len(x.Hash) == 0}
	return k[x.Name], nil
}

// TestCredentials: a secret is its operator's only, and of nobody once removed.
func TestCredentials(t *testing.T) {
	journal := kept{}
	b := NewBook(journal, slog.New(slog.DiscardHandler))
	ana, err := b.Add("ana", "root", "first")
	if err != nil || len(ana) < 40 {
		t.Fatal(ana, err)
	}
	if strings.Contains(string(journal["ana"].Hash), ana) || !strings.HasPrefix(string(journal["ana"].Hash), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("kept: %s", journal["ana"].Hash)
	}
	if _, err := b.Add("ana", "root", ""); !errors.Is(err, payment.ErrPersonKnown) {
		t.Errorf("a second ana: %v", err)
	}
	bo, err := b.Add("bo", "root", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, secret string
		want         bool
	}{{"ana", ana, true}, {"bo", bo, true}, {"ana", bo, false}, {"cy", ana, false}, {"ana", ana[:51], false}, {"Ana", ana, false}, {"", ana, false}} {
		if got, err := b.Verify(c.name, []byte(c.secret)); err != nil || got != c.want {
			t.Errorf("%s: %v %v", c.name, got, err)
		}
	}
	if err := b.Remove("ana", "root", "left"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Verify("ana", []byte(ana)); err != nil || got {
		t.Errorf("removed: %v %v", got, err)
	}
	for _, name := range []string{"", "Ana", "9ana", "a:b", "a/b", strings.Repeat("a", 33), "ana\n"} {
		if _, err := b.Add(name, "root", ""); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for range checks { // everybody waits
		b.line <- struct{}{}
	}
	if _, err := b.Verify("bo", []byte(bo)); !errors.Is(err, payment.ErrBusy) {
		t.Errorf("%v", err)
	}
}

func TestKeptHashes(t *testing.T) {
	good := string(format(make([]byte, saltLen), make([]byte, hashLen)))
	for _, bad := range []string{
		"", "x", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=18", 1), strings.Replace(good, "m=19456", "m=99999999", 1),
		strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "p=1", "p=0", 1), good[:len(good)-4], good + "$", strings.Replace(good, "AAAA", "!!!!", 1),
	} {
		if _, err := matches([]byte(bad), []byte("secret")); !errors.Is(err, errHash) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
