package engine

import (
	"bytes"
	"errors"
	"testing"

	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
)

func TestMAC(t *testing.T) {
	e := engine(t)
	message := []byte("0200B238450128A1801600000000000000001234567890123456")
	for _, c := range []struct {
		attributes, key, want string
		p                     mac.Padding
	}{
		{"M1TCE", double1, "D483413CA17A0F30", mac.Zeros},
		{"M3TCE", double1, "5CA53457B6288324", mac.Zeros},
		{"M6ACE", aes128, "", mac.Zeros}, // ignored by CMAC
		{"M6TNE", triple1, "", mac.Zeros},
		{"M3TCE", double1, "", mac.OneAndZeros},
		{"M3TCE", double1, "", mac.LengthFirst},
	} {
		k, other := loaded(t, e, c.attributes, c.key), loaded(t, e, "M3TCE", double2)
		for _, n := range []int{4, 8} {
			dst, scratch := make([]byte, 16), make([]byte, 16)
			if err := e.GenerateMAC(dst, k, c.p, n, message); err != nil || !bytes.Equal(dst[n:], make([]byte, 16-n)) {
				t.Fatalf("%s: %X %v", c.attributes, dst, err)
			}
			if c.want != "" && !bytes.Equal(dst[:n], unhex(t, c.want)[:n]) {
				t.Errorf("%s: %X, want %s", c.attributes, dst[:n], c.want)
			}
			for i, v := range []struct {
				current, previous *Key
				got               []byte
				want              error
			}{
				{k, nil, dst[:n], nil},
				{k, other, dst[:n], nil},
				{other, k, dst[:n], nil}, // the overlap
				{other, nil, dst[:n], ErrMismatch},
				{other, other, dst[:n], ErrMismatch},
				{k, nil, dst[:n-1], ErrMACLength},
				{k, nil, dst[:16], ErrMACLength},
				{k, nil, nil, ErrMACLength},
			} {
				if err := e.VerifyMAC(scratch, v.current, v.previous, c.p, message, v.got); !errors.Is(err, v.want) || !bytes.Equal(scratch, make([]byte, 16)) {
					t.Errorf("%s, %d bytes, line %d: %v, scratch %X", c.attributes, n, i, err, scratch)
				}
			}
			dst[0] ^= 1
			if err := e.VerifyMAC(scratch, k, nil, c.p, message, dst[:n]); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s with a bit turned: %v", c.attributes, err)
			}
		}
	}
}

func TestMACRefused(t *testing.T) {
	e := engine(t)
	room := make([]byte, 16)
	good := loaded(t, e, "M3TCE", double1)
	pin := loaded(t, e, "P0TBE", double1)
	for i, c := range []struct{ err, want error }{
		{e.GenerateMAC(room, loaded(t, e, "M3TVE", double1), mac.Zeros, 8, nil), ErrUse},
		{e.GenerateMAC(room, pin, mac.Zeros, 8, nil), ErrUse},
		{e.GenerateMAC(room, good, mac.Zeros, 5, nil), ErrMACLength},
		{e.GenerateMAC(room, good, mac.Zeros, 16, nil), ErrMACLength},
		{e.GenerateMAC(room, good, 0, 8, nil), mac.ErrPadding},
		{e.GenerateMAC(room[:4], good, mac.Zeros, 4, nil), mac.ErrLength},
		{e.VerifyMAC(room, loaded(t, e, "M3TGE", double1), nil, mac.Zeros, nil, make([]byte, 8)), ErrUse},
		{e.VerifyMAC(room, pin, nil, mac.Zeros, nil, make([]byte, 8)), ErrUse},
		{e.VerifyMAC(room, good, pin, mac.Zeros, nil, make([]byte, 8)), ErrUse},
		{e.VerifyMAC(room, good, nil, 9, nil, make([]byte, 8)), mac.ErrPadding},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("line %d: %v, want %v", i, c.err, c.want)
		}
	}
}

func TestCVV(t *testing.T) {
	e := engine(t)
	cvk := loaded(t, e, "C0TVE", double1)
	for _, c := range []struct {
		pan, expiry, service, value string
		want                        error
	}{
		{"4123456789012345", "8701", "101", "561", nil},
		{"4123456789012345", "8701", "101", "562", ErrMismatch},
		{"4123456789012345", "8701", "101", "56", ErrMismatch},
		{"4123456789012345", "8701", "101", "5610", ErrMismatch},
		{"4123456789012345", "8701", "101", "", ErrMismatch},
		{"4123456789012345", "8701", issuer.ServiceCVV2, "561", ErrMismatch},
		{"4123456789012345", "8701", issuer.ServiceICVV, "561", ErrMismatch},
		{"4123456789012345", "871", "101", "561", issuer.ErrInput},
		{"41234", "8701", "101", "561", issuer.ErrInput},
	} {
		if err := e.VerifyCVV(cvk, CardValue{[]byte(c.pan), []byte(c.expiry), []byte(c.service), []byte(c.value)}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, k := range []*Key{loaded(t, e, "C0TGE", double1), loaded(t, e, "M3TCE", double1)} {
		if err := e.VerifyCVV(k, CardValue{[]byte("4123456789012345"), []byte("8701"), []byte("101"), []byte("561")}); !errors.Is(err, ErrUse) {
			t.Errorf("%v: %v", k, err)
		}
	}
}

// The answers of a Visa host to CVN 10 and 18, as published, and every bit of
// them turned.
func TestEMV(t *testing.T) {
	e := engine(t)
	imk, other := loaded(t, e, "E0TXE", double1), loaded(t, e, "C0TVE", double1)
	base := "0000000040000000000000000124800004800001241911050152BF45851800001C"
	cvn10 := issuer.Chip{PAN: []byte("1234567890123456"), ATC: [2]byte{0, 0x1C}}
	cvn18 := cvn10
	cvn18.Session = issuer.CommonSession
	arqc10, arqc18 := [8]byte(unhex(t, "29CCA15AE665FA2E")), [8]byte(unhex(t, "7A788EA6B8A3E733"))
	arpc10, arpc18 := [8]byte(unhex(t, "28993816AFAE4AEB")), [4]byte(unhex(t, "9AF514C1"))
	arc := [2]byte{'0', '0'}
	data10, data18 := unhex(t, base+"03A06010"), unhex(t, base+"06011203A0B800")
	bad := issuer.Chip{PAN: []byte("12")}
	for i, c := range []struct{ err, want error }{
		{e.VerifyARQC(imk, cvn10, mac.Zeros, data10, arqc10), nil},
		{e.VerifyARQC(imk, cvn18, mac.OneAndZeros, data18, arqc18), nil},
		{e.VerifyARPC1(imk, cvn10, arqc10, arc, arpc10), nil},
		{e.VerifyARPC2(imk, cvn18, arqc18, [4]byte{}, nil, arpc18), nil},
		{e.VerifyARQC(imk, cvn18, mac.Zeros, data10, arqc10), ErrMismatch},
		{e.VerifyARQC(imk, cvn10, mac.OneAndZeros, data10, arqc10), ErrMismatch},
		{e.VerifyARQC(imk, cvn10, mac.Zeros, data18, arqc10), ErrMismatch},
		{e.VerifyARQC(imk, cvn10, 7, data10, arqc10), mac.ErrPadding},
		{e.VerifyARQC(imk, bad, mac.Zeros, data10, arqc10), issuer.ErrInput},
		{e.VerifyARQC(other, cvn10, mac.Zeros, data10, arqc10), ErrUse},
		{e.VerifyARPC1(imk, bad, arqc10, arc, arpc10), issuer.ErrInput},
		{e.VerifyARPC1(imk, cvn10, arqc10, [2]byte{'0', '1'}, arpc10), ErrMismatch},
		{e.VerifyARPC1(other, cvn10, arqc10, arc, arpc10), ErrUse},
		{e.VerifyARPC2(imk, bad, arqc18, [4]byte{}, nil, arpc18), issuer.ErrInput},
		{e.VerifyARPC2(imk, cvn18, arqc18, [4]byte{1}, nil, arpc18), ErrMismatch},
		{e.VerifyARPC2(imk, cvn18, arqc18, [4]byte{}, make([]byte, 9), arpc18), issuer.ErrInput},
		{e.VerifyARPC2(other, cvn18, arqc18, [4]byte{}, nil, arpc18), ErrUse},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("line %d: %v, want %v", i, c.err, c.want)
		}
	}
	for bit := range 64 {
		turned := arqc10
		turned[bit/8] ^= 1 << (bit % 8)
		if err := e.VerifyARQC(imk, cvn10, mac.Zeros, data10, turned); !errors.Is(err, ErrMismatch) {
			t.Errorf("bit %d of the cryptogram: %v", bit, err)
		}
		answer := arpc10
		answer[bit/8] ^= 1 << (bit % 8)
		if err := e.VerifyARPC1(imk, cvn10, arqc10, arc, answer); !errors.Is(err, ErrMismatch) {
			t.Errorf("bit %d of the answer: %v", bit, err)
		}
	}
}
