package key

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for _, c := range []struct {
		a        Algorithm
		n        int
		strength int
		want     error
	}{
		{TDES, 8, 56, nil},
		{TDES, 16, 80, nil},
		{TDES, 24, 112, nil},
		{TDES, 0, 0, ErrLength},
		{TDES, 15, 0, ErrLength},
		{TDES, 32, 0, ErrLength},
		{AES, 16, 128, nil},
		{AES, 24, 192, nil},
		{AES, 32, 256, nil},
		{AES, 8, 0, ErrLength},
		{AES, 33, 0, ErrLength},
		{'R', 16, 0, ErrAlgorithm},
		{0, 16, 0, ErrAlgorithm},
	} {
		k, err := New(c.a, make([]byte, c.n))
		if !errors.Is(err, c.want) || k.Strength() != c.strength || k.Present() != (c.want == nil) {
			t.Errorf("%c %d: %v, strength %d", c.a, c.n, err, k.Strength())
		}
		if _, err := k.Cipher(); (err == nil) != (c.want == nil) {
			t.Errorf("%c %d: cipher: %v", c.a, c.n, err)
		}
	}
}

// Two-key TDES is K1 K2 K1, and a single-length key is DES: the three ciphers
// of equal parts agree.
func TestCipherOfTDESLengths(t *testing.T) {
	single := []byte{1, 2, 4, 7, 8, 11, 13, 14}
	var first []byte
	for n := 1; n <= 3; n++ {
		k, err := New(TDES, bytes.Repeat(single, n))
		if err != nil {
			t.Fatal(err)
		}
		c, err := k.Cipher()
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 8)
		c.Encrypt(out, out)
		if n == 1 {
			first = out
		}
		if !bytes.Equal(out, first) {
			t.Errorf("%d parts: %x, want %x", n, out, first)
		}
	}
}

func TestParity(t *testing.T) {
	k, _ := New(TDES, []byte{0, 1, 2, 3, 0xFE, 0xFF, 0x80, 0x7F})
	if k.OddParity() {
		t.Error("even bytes taken for odd")
	}
	k.FixParity()
	if want := []byte{1, 1, 2, 2, 0xFE, 0xFE, 0x80, 0x7F}; !bytes.Equal(k.Reveal(), want) || !k.OddParity() {
		t.Errorf("fixed: %x, want %x", k.Reveal(), want)
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	clearBytes := []byte("MARKERKEYMARKERK")
	k, _ := New(AES, clearBytes)
	for _, v := range []any{k, &k, struct{ K Key }{k}, Secret(clearBytes), []Key{k}, map[string]Secret{"k": clearBytes}} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "k", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "k", v)
		j, err := json.Marshal(v)
		if err == nil {
			t.Errorf("%T was marshalled to JSON", v)
		}
		out.Write(j)
		var g bytes.Buffer
		if err := gob.NewEncoder(&g).Encode(v); err == nil {
			t.Errorf("%T was marshalled by gob", v)
		}
		out.Write(g.Bytes())
		for _, mark := range []string{"MARKER", "4d41524b", "4D41524B", "77 65 82"} {
			if strings.Contains(out.String(), mark) {
				t.Errorf("%T shows the key: %s", v, out.String())
			}
		}
	}
}

func TestWipe(t *testing.T) {
	k, _ := New(AES, bytes.Repeat([]byte{0xA5}, 16))
	inside := k.Reveal()
	k.Wipe()
	s := Secret(append(make([]byte, 0, 8), 1, 2, 3, 4))[:2]
	s.Wipe()
	if k.Present() || !bytes.Equal(inside, make([]byte, 16)) || !bytes.Equal(s[:4], make([]byte, 4)) {
		t.Error("bytes are left")
	}
}
