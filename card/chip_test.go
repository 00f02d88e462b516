package card_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"authswitch/card"
)

func TestParseChip(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		err       error
		sequence  string
	}{
		{"one object", "9F2608AABBCCDDEEFF0011", nil, ""},
		{"sequence number", "8202394095058080008000" + "5F340107", nil, "07"},
		{"sequence number that is no number", "5F34010A", nil, ""},
		{"nothing of length zero", "9F0300", nil, ""},
		{"constructed", "7103860100", nil, ""},
		{"long form of the length", "71810103", nil, ""},
		{"unknown tag", "DF8101020102", nil, ""},
		{"empty", "", card.ErrLength, ""},
		{"too long", strings.Repeat("9F3600", 86), card.ErrLength, ""},
		{"length beyond the end", "9F2608AABB", card.ErrChip, ""},
		{"tag without a length", "9F26", card.ErrChip, ""},
		{"tag without an end", "9F", card.ErrChip, ""},
		{"tag of four bytes", "9F81818101", card.ErrChip, ""},
		{"indefinite length", "7180", card.ErrChip, ""},
		{"length of three bytes", "718300000100", card.ErrChip, ""},
		{"zeros between", "9F0300009F0300", card.ErrChip, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			chip, err := card.ParseChip(raw)
			if !errors.Is(err, c.err) || chip.Present() != (c.err == nil) {
				t.Fatalf("%v", err)
			}
			if err == nil && string(chip.RevealChip()) != string(raw) {
				t.Error("the bytes changed")
			}
			if got := chip.AppendSequence(nil); string(got) != c.sequence {
				t.Errorf("sequence %q, want %q", got, c.sequence)
			}
		})
	}
}

func TestPINBlockLengths(t *testing.T) {
	for n := range 20 {
		b, err := card.NewPINBlock(make([]byte, n))
		if good := n == 8 || n == 16; good != (err == nil) || good != b.Present() || len(b.RevealPINBlock()) != n && good {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzParseChip(f *testing.F) {
	f.Add([]byte{0x9F, 0x26, 1, 2, 0x5F, 0x34, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		chip, err := card.ParseChip(b)
		if err == nil && string(chip.RevealChip()) != string(b) {
			t.Fatal("the bytes changed")
		}
		chip.AppendSequence(nil)
		chip.Wipe()
	})
}
