package sim

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func TestFraming(t *testing.T) {
	rows := []struct {
		name string
		f    framing
		wire string // of the message "AB", in hexadecimal
	}{
		{"two bytes", framing{encoding: "binary", bytes: 2, max: 9}, "0002" + "4142"},
		{"two bytes that count themselves", framing{encoding: "binary", bytes: 2, inclusive: true, max: 9}, "0004" + "4142"},
		{"two bytes and two reserved", framing{encoding: "binary", bytes: 2, reserved: 2, max: 9}, "00020000" + "4142"},
		{"three bytes", framing{encoding: "binary", bytes: 3, max: 9}, "000002" + "4142"},
		{"four digits", framing{encoding: "ascii", bytes: 4, max: 9}, "30303032" + "4142"},
		{"two bytes BCD", framing{encoding: "bcd", bytes: 2, max: 9}, "0002" + "4142"},
		{"trailer, counted", framing{encoding: "binary", bytes: 2, trailer: []byte{3}, max: 9}, "0003" + "4142" + "03"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			wire, err := hex.DecodeString(r.wire)
			if err != nil {
				t.Fatal(err)
			}
			out := r.f.end(append(r.f.begin([]byte("x")), "AB"...), 1)
			if !bytes.Equal(out[1:], wire) {
				t.Errorf("written % x, want % x", out[1:], wire)
			}
			stream := append(append([]byte(nil), wire...), wire...)
			for i := range len(wire) {
				if m, used, err := r.f.cut(stream[:i]); used != 0 || err != nil {
					t.Errorf("%d bytes give %q, %d, %v", i, m, used, err)
				}
			}
			if m, used, err := r.f.cut(stream); string(m) != "AB" || used != len(wire) || err != nil {
				t.Errorf("cut gives %q, %d, %v", m, used, err)
			}
		})
	}
	// BCD and digits beyond one place.
	f := framing{encoding: "bcd", bytes: 2, max: 2000}
	if out := f.end(append(f.begin(nil), make([]byte, 1234)...), 0); out[0] != 0x12 || out[1] != 0x34 {
		t.Errorf("% x", out[:2])
	}
}

func TestFramingIsLost(t *testing.T) {
	for _, r := range []struct {
		f    framing
		wire string
	}{
		{framing{encoding: "binary", bytes: 2, max: 9}, "000A"},
		{framing{encoding: "ascii", bytes: 4, max: 9}, "30304132"},
		{framing{encoding: "bcd", bytes: 2, max: 9}, "000A"},
		{framing{encoding: "binary", bytes: 2, inclusive: true, max: 9}, "0001"},
		{framing{encoding: "binary", bytes: 2, trailer: []byte{3}, max: 9}, "0003414204"},
	} {
		wire, err := hex.DecodeString(r.wire)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.f.cut(wire); !errors.Is(err, errFraming) {
			t.Errorf("%+v %s: %v", r.f, r.wire, err)
		}
	}
	f := framing{encoding: "binary", bytes: 2, max: 9}
	if m, used, err := f.cut([]byte{0, 0, 1}); len(m) != 0 || used != 2 || err != nil {
		t.Errorf("keep-alive: %q, %d, %v", m, used, err)
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte{0, 2, 'A', 'B'}, uint8(0))
	f.Add([]byte("0002AB"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, shape uint8) {
		fr := framing{encoding: []string{"binary", "bcd", "ascii"}[shape%3], bytes: 2 + int(shape/3)%3, inclusive: shape&32 != 0, reserved: int(shape>>6) % 3, max: 1 << 12}
		m, used, err := fr.cut(b)
		if used > len(b) || len(m) > fr.max || err != nil && used != 0 {
			t.Fatalf("%+v: %d of %d bytes used, message of %d, %v", fr, used, len(b), len(m), err)
		}
	})
}
