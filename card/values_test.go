package card_test

import (
	"bytes"
	"encoding"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"authswitch/card"
)

// Numbers whose check digit is published or computed by hand, and the two
// mistakes the digit is there for.
func TestLuhn(t *testing.T) {
	for _, c := range []struct {
		digits string
		holds  bool
	}{
		{"79927398713", true}, // the example of ISO/IEC 7812-1's commentaries
		{"0", true},
		{"18", true},
		{"", false},
		{"79927398710", false},
		{"4970100000000154", true},
		{"4970100000000145", false}, // two neighbours swapped
		{"4970100000000164", false}, // one digit wrong
	} {
		if card.Luhn([]byte(c.digits)) != c.holds {
			t.Errorf("%s: %v", c.digits, !c.holds)
		}
	}
}

func TestCVV(t *testing.T) {
	for _, c := range []struct {
		digits string
		want   error
	}{{"123", nil}, {"1234", nil}, {"", card.ErrLength}, {"12", card.ErrLength}, {"12345", card.ErrLength}, {"12a", card.ErrDigits}, {"12 ", card.ErrDigits}} {
		v, err := card.ParseCVV([]byte(c.digits))
		if !errors.Is(err, c.want) || err == nil && string(v.RevealCVV()) != c.digits || v.Present() != (err == nil) {
			t.Errorf("%q: %v", c.digits, err)
		}
	}
}

func TestTrack2Separator(t *testing.T) {
	track, err := card.ParseTrack2([]byte("4111111111111111D30122011000000000"))
	if err != nil || string(track.RevealTrack2()) != "4111111111111111=30122011000000000" {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{
		"41111111111=301220110000000", "41111111111111111111=3012201", "4111111111111111=30122=11", "4111111111111111=301220", "4111111111111111=3012201" + strings.Repeat("0", 14),
	} {
		if track, err := card.ParseTrack2([]byte(bad)); !errors.Is(err, card.ErrTrack) || track.Present() {
			t.Errorf("%d characters: %v", len(bad), err)
		}
	}
}

// The zero value of every type is absent and shows nothing.
func TestAbsent(t *testing.T) {
	var c card.Card
	if c.PAN.Present() || c.Expiry.Present() || c.CVV.Present() || c.Track2.Present() || c.PIN.Present() {
		t.Error("something is there")
	}
	if c.PAN.Len() != 0 || len(c.PAN.RevealPAN()) != 0 || c.PAN.BIN() != nil || c.PAN.Last4() != nil || c.PAN.Masked() != "absent" {
		t.Error("an absent number has digits")
	}
	if c.Expiry.RevealExpiry() != nil || c.Expiry.Before(2099, 12) || len(c.CVV.RevealCVV()) != 0 || len(c.Track2.RevealTrack2()) != 0 {
		t.Error("absent values have digits")
	}
}

func full(t *testing.T) *card.Card {
	t.Helper()
	var errs [6]error
	c := &card.Card{Token: "card_1"}
	c.PIN, errs[4] = card.NewPINBlock([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	c.Chip, errs[5] = card.ParseChip([]byte{0x5A, 2, 0x41, 0x11})
	c.PAN, errs[0] = card.ParsePAN([]byte("4111111111111111"))
	c.Expiry, errs[1] = card.ParseExpiry([]byte("3012"))
	c.CVV, errs[2] = card.ParseCVV([]byte("9876"))
	c.Track2, errs[3] = card.ParseTrack2([]byte("4111111111111111=30122011000000000"))
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return c
}

// Each type by itself refuses each encoder and shows a logger nothing.
func TestEachTypeIsGuarded(t *testing.T) {
	c := full(t)
	for _, v := range []any{c.PAN, c.Expiry, c.CVV, c.Track2, c.PIN, c.Chip, &c.PAN, &c.Expiry, &c.CVV, &c.Track2, &c.PIN, &c.Chip} {
		if _, err := v.(encoding.TextMarshaler).MarshalText(); !errors.Is(err, card.ErrMarshal) {
			t.Errorf("%T: text: %v", v, err)
		}
		if _, err := v.(encoding.BinaryMarshaler).MarshalBinary(); !errors.Is(err, card.ErrMarshal) {
			t.Errorf("%T: binary: %v", v, err)
		}
		if shown := v.(slog.LogValuer).LogValue().String(); shown != "[hidden]" && shown != "411111******1111" {
			t.Errorf("%T: shows %q", v, shown)
		}
	}
}

// Wipe overwrites the bytes that were handed out, and leaves the token, which
// is no secret.
func TestWipeOverwrites(t *testing.T) {
	c := full(t)
	handed := [][]byte{c.PAN.RevealPAN(), c.Expiry.RevealExpiry(), c.CVV.RevealCVV(), c.Track2.RevealTrack2(), c.PIN.RevealPINBlock(), c.Chip.RevealChip()}
	c.Wipe()
	for i, b := range handed {
		if !bytes.Equal(b, make([]byte, len(b))) || len(b) == 0 {
			t.Errorf("secret %d is left", i)
		}
	}
	if *c != (card.Card{Token: "card_1"}) {
		t.Error("something else is left")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("4111111111111111"))
	f.Add([]byte("3012"))
	f.Add([]byte("987"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := card.ParsePAN(b); err == nil && (string(p.RevealPAN()) != string(b) || !card.Luhn(b) || strings.Contains(p.Masked(), string(b))) {
			t.Error("a number is not itself, or its mask shows it")
		}
		if e, err := card.ParseExpiry(b); err == nil && string(e.RevealExpiry()) != string(b) {
			t.Error("an expiry is not itself")
		}
		if c, err := card.ParseCVV(b); err == nil && string(c.RevealCVV()) != string(b) {
			t.Error("a code is not itself")
		}
	})
}
