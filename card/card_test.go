package card_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"authswitch/card"
)

func TestParsePAN(t *testing.T) {
	for _, c := range []struct {
		digits string
		want   error
	}{
		{"4111111111111111", nil},
		{"378282246310005", nil},
		{"6250941006528599", nil},
		{"4111111111111112", card.ErrLuhn},
		{"41111111111", card.ErrLength},
		{"41111111111111111111", card.ErrLength},
		{"4111 11111111111", card.ErrDigits},
		{"", card.ErrLength},
	} {
		_, err := card.ParsePAN([]byte(c.digits))
		if !errors.Is(err, c.want) {
			t.Errorf("%d digits: %v, want %v", len(c.digits), err, c.want)
		}
	}
}

func TestBINAndMask(t *testing.T) {
	for _, c := range []struct{ pan, bin, last4, masked string }{
		{"4970100000000154", "49701000", "0154", "497010******0154"},
		{"378282246310005", "378282", "0005", "378282*****0005"},
	} {
		p, err := card.ParsePAN([]byte(c.pan))
		if err != nil {
			t.Fatal(err)
		}
		if string(p.BIN()) != c.bin || string(p.Last4()) != c.last4 || p.Masked() != c.masked {
			t.Errorf("%s: %s %s %s", c.masked, p.BIN(), p.Last4(), p.Masked())
		}
	}
}

func TestExpiry(t *testing.T) {
	for _, bad := range []string{"", "2713", "2700", "27a1", "12/27", "271"} {
		if _, err := card.ParseExpiry([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	e, err := card.ParseExpiry([]byte("2712"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Before(2027, 12) || !e.Before(2028, 1) || e.Before(2026, 12) {
		t.Error("a card is good through its month")
	}
}

func TestTrack2(t *testing.T) {
	good := "4111111111111111=30122011000000000"
	if _, err := card.ParseTrack2([]byte(good)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "4111111111111111", "41=30122011000000000", good + "=1", "4111111111111111=30122011000x", strings.Repeat("1", 40)} {
		if _, err := card.ParseTrack2([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// Nothing a logger, a formatter or an encoder does to a card shows it.
func TestNothingLeaks(t *testing.T) {
	var c card.Card
	var err error
	if c.PAN, err = card.ParsePAN([]byte("4111111111111111")); err != nil {
		t.Fatal(err)
	}
	c.Expiry, _ = card.ParseExpiry([]byte("3012"))
	c.CVV, _ = card.ParseCVV([]byte("987"))
	c.Track2, _ = card.ParseTrack2([]byte("4111111111111111=30122011000000000"))
	c.PIN, _ = card.NewPINBlock([]byte("secret!!"))

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
		fmt.Fprintf(&out, verb+" ", c)
		fmt.Fprintf(&out, verb+" ", &c)
		fmt.Fprintf(&out, verb+verb+verb+verb+verb, c.PAN, c.Expiry, c.CVV, c.Track2, c.PIN)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("card", "card", c, "pan", c.PAN, "pointer", &c)
	slog.New(slog.NewTextHandler(&out, nil)).Info("card", "card", c, "cvv", c.CVV, "track", c.Track2)
	for _, secret := range []string{
		"4111111111111111", "34313131", "3012", "987", "3131313131", "52 49 49", "[52", "secret", "73656372", "U+0034 U+0031",
	} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q appears in %s", secret, out.String())
		}
	}
	if _, err := json.Marshal(c); !errors.Is(err, card.ErrMarshal) {
		t.Errorf("json: %v", err)
	}
	if err := gob.NewEncoder(&out).Encode(&c); err == nil {
		t.Error("gob encoded a card")
	}
}

func TestWipe(t *testing.T) {
	var c card.Card
	c.PAN, _ = card.ParsePAN([]byte("4111111111111111"))
	c.CVV, _ = card.ParseCVV([]byte("987"))
	alias := c.PAN.RevealPAN()
	c.Wipe()
	if c.PAN.Present() || c.CVV.Present() || bytes.ContainsAny(alias, "41") {
		t.Error("card data left after Wipe")
	}
}

func FuzzTrack2(f *testing.F) {
	f.Add([]byte("4111111111111111=30122011000000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		track, err := card.ParseTrack2(b)
		if err == nil && len(track.RevealTrack2()) != len(b) {
			t.Error("length changed")
		}
	})
}
