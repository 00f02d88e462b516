package tr31

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vector struct {
	Source, Block, Why string
	KBPK, Key          hexBytes
}

func vectors(t testing.TB) (good, refused []vector) {
	t.Helper()
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		TR31    []vector `json:"tr31"`
		Refused []vector `json:"tr31_refused"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.TR31) == 0 || len(v.Refused) == 0 {
		t.Fatal("no vectors")
	}
	return append(v.TR31, published()...), v.Refused
}

// published are further blocks: made by a payShield 10k, as the test suite of
// the OpenEMV project publishes them.
func published() []vector {
	kbpk := hexBytes("\xEF\xE0\x85\x3B\x25\x6B\x58\x3D\x86\x8F\x25\x1C\xE9\x9E\xA1\xD9")
	secret := hexBytes("\x5D\xB5\x0B\x45\x4F\x83\x89\xAD\xCE\x57\x3B\xE5\x08\x61\xF2\xBF")
	return []vector{
		{Block: "A0072K0TN00N0000F40D5672C6D0EC86F860BA88D44D00F0CA9A8CE8CD2F640287A9A9EB", KBPK: kbpk, Key: secret},
		{Block: "B0080K0TN00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C228", KBPK: kbpk, Key: secret},
		{Block: "C0072K0TN00N0000C9B875FF7A5316BF221C09ED52080DE0B45632A4EA9CE87699CB565E", KBPK: kbpk, Key: secret},
		{
			Block: "D0112B0TN00N000037DB9B046B7B0048785690759580ABC3B9842AB4BB7717B49E92528E575785D8123559376A2553B27BE94F054F4E971C",
			KBPK:  bytes.Repeat([]byte{0x41}, 32), Key: hexBytes("\x1F\xA1\xF7\xCE\xC7\x98\xD9\x15\x45\xDA\x8A\xE0\xC7\x79\x6B\xD9"),
		},
		{
			Block: "D0144D0AN00N0000127862F945C2DED04530FAF7CDBC8B0BA10C7AA79BD5E0C2C5D6AC173BF588E4B19ACF1357178D50EA0AB193228E13958304FC6149632DFDCADF3A5B3D57E814",
			KBPK:  bytes.Repeat([]byte{0x41}, 32),
			Key:   hexBytes("\xBE\x19\xE6\xA0\x7A\x76\x0F\x10\xEF\x8E\x83\xA2\x26\xB6\x3A\xAD\x14\x1F\x46\x3F\xDD\xD4\xF4\x7D\xB2\x44\xB4\x02\x3E\xC3\xCA\xCC"),
		},
	}
}

func protector(t testing.TB, v Version, kbpk []byte) *Protector {
	t.Helper()
	a := key.TDES
	if v == D {
		a = key.AES
	}
	k, err := key.New(a, kbpk)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(v, &k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVectors(t *testing.T) {
	good, refused := vectors(t)
	for _, v := range good {
		p := protector(t, Version(v.Block[0]), v.KBPK)
		h, secret, err := p.Open([]byte(v.Block))
		if err != nil || !bytes.Equal(secret, v.Key) {
			t.Errorf("%s: %v", v.Block, err)
			continue
		}
		if p.version == B || p.version == D {
			if again := resealed(t, p, h, v.Block, secret); again != v.Block {
				t.Errorf("%s: sealed again is %s", v.Block, again)
			}
		}
	}
	for _, v := range refused {
		want := ErrMAC
		if strings.HasPrefix(v.Why, "MAC is right") {
			want = ErrKeyLength
		}
		if _, secret, err := protector(t, Version(v.Block[0]), v.KBPK).Open([]byte(v.Block)); !errors.Is(err, want) || secret != nil {
			t.Errorf("%s (%s): %v", v.Block, v.Why, err)
		}
	}
}

// resealed makes a block anew, with the random pad of the first.
func resealed(t *testing.T, p *Protector, h Header, block string, secret key.Secret) string {
	t.Helper()
	head := headerChars + len(h.Optional)
	body, err := hex.DecodeString(block[head:])
	if err != nil {
		t.Fatal(err)
	}
	cut := len(body) - p.macBytes()
	cipher.NewCBCDecrypter(p.encrypt, body[cut:]).CryptBlocks(body[:cut], body[:cut])
	again, err := p.seal(h, secret, cut-2, bytes.NewReader(body[2+len(secret):cut]))
	if err != nil {
		t.Fatal(err)
	}
	return string(again)
}

// Any one bit of a block, header, optional blocks, key or MAC: refused. Where
// the flip makes another version, that version is what opens it.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	good, _ := vectors(t)
	for _, v := range good {
		for bit := range len(v.Block) * 8 {
			block := []byte(v.Block)
			block[bit/8] ^= 1 << (bit % 8)
			version := Version(block[0])
			if version < A || version > D || (version == D) != (len(v.KBPK) == 32) {
				version = Version(v.Block[0])
			}
			_, secret, err := protector(t, version, v.KBPK).Open(block)
			if secret != nil || !errors.Is(err, ErrMAC) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrVersion) {
				t.Errorf("%s: bit %d turned: %v", v.Block, bit, err)
			}
		}
	}
}

func TestHeader(t *testing.T) {
	h, err := ParseHeader([]byte("B0104B0TX12S0100KS1800604B120F9292800000" + strings.Repeat("0", 64)))
	if err != nil || h.Usage != BaseDerivation || h.Algorithm != key.TDES || h.Mode != DeriveOnly || string(h.KeyVersion[:]) != "12" ||
		h.Exportability != Sensitive || h.OptionalCount != 1 || h.Usage.String() != "B0" {
		t.Errorf("%+v %v", h, err)
	}
	if ks, ok := h.OptionalBlock("KS"); !ok || string(ks) != "00604B120F9292800000" {
		t.Errorf("KS is %q", ks)
	}
	if _, ok := h.OptionalBlock("PB"); ok {
		t.Error("a PB block that is not there")
	}
	long := "XX0002" + "0108" + strings.Repeat("x", 0x108-10)
	h, err = ParseHeader([]byte(fmt.Sprintf("D%04dP0AE00E0200", 16+len(long)+8) + long + "AB08data"))
	if data, ok := h.OptionalBlock("XX"); err != nil || !ok || len(data) != 0x108-10 {
		t.Errorf("extended: %d characters, %v", len(data), err)
	}
	if data, ok := h.OptionalBlock("AB"); !ok || string(data) != "data" {
		t.Errorf("behind the extended one: %q", data)
	}
}

func TestBadBlocks(t *testing.T) {
	good := "B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E"
	kbpk := hexBytes("\xDD\x75\x15\xF2\xBF\xC1\x7F\x85\xCE\x48\xF3\xCA\x25\xCB\x21\xF6")
	p := protector(t, B, kbpk)
	if _, _, err := p.Open([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, block string
		want        error
	}{
		{"empty", "", ErrFormat},
		{"half a header", good[:15], ErrFormat},
		{"header only", "B0016P0TE00E0000", ErrFormat},
		{"too long", good + "00", ErrFormat},
		{"too short", good[:78], ErrFormat},
		{"odd", "B0079" + good[5:79], ErrFormat},
		{"no key", "B0032P0TE00E00006EED7B727B8A248E", ErrFormat},
		{"half a cipher block", "B0072" + good[5:72], ErrFormat},
		{"a cipher block less", "B0064" + good[5:64], ErrMAC},
		{"small letters", good[:16] + strings.ToLower(good[16:]), ErrFormat},
		{"a blank in the header", good[:5] + " " + good[6:], ErrFormat},
		{"an optional block too many", good[:12] + "01" + good[14:], ErrFormat},
		{"a letter as their number", good[:12] + "0A" + good[14:], ErrFormat},
		{"version A", "A" + good[1:], ErrVersion},
		{"version E", "E" + good[1:], ErrVersion},
		{"optional: no length", "B0020P0TE00E0100KSxx", ErrFormat},
		{"optional: length 3", "B0020P0TE00E0100KS03", ErrFormat},
		{"optional: beyond the end", "B0020P0TE00E0100KS05", ErrFormat},
		{"optional: length of length 0", "B0022P0TE00E0100KS0000", ErrFormat},
		{"optional: length of length 9", "B0022P0TE00E0100KS0009", ErrFormat},
		{"optional: extended, too small", "B0026P0TE00E0100KS00020009", ErrFormat},
		{"optional: not printable", "B0021P0TE00E0100KS05\x00", ErrFormat},
		{"optional: not a whole cipher block", "B0085P0TE00E0100KS05x" + good[16:], ErrFormat},
		{"optional: cut", "B0018P0TE00E0100KS", ErrFormat},
		{"huge", strings.Repeat("0", 10000), ErrFormat},
	} {
		if _, secret, err := p.Open([]byte(c.block)); !errors.Is(err, c.want) || secret != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// Lengths that cannot be, under a MAC that holds: refused in every version.
func TestKeyLengthUnderAValidMAC(t *testing.T) {
	for _, v := range []Version{A, B, C, D} {
		kbpk := bytes.Repeat([]byte{0x45, 0x54}, 8)
		p := protector(t, v, kbpk)
		for _, bits := range []uint16{0, 1, 3, 127, 129, 0xFFFF, 30*8 + 8} {
			block := forged(t, p, bits)
			if _, secret, err := p.Open(block); !errors.Is(err, ErrKeyLength) || secret != nil {
				t.Errorf("%c, %d bits: %v", v, bits, err)
			}
		}
		if _, secret, err := p.Open(forged(t, p, 30*8)); err != nil || len(secret) != 30 {
			t.Errorf("%c: the longest that fits: %v", v, err)
		}
	}
}

// forged is a block with 30 bytes of room whose maker holds the key.
func forged(t *testing.T, p *Protector, bits uint16) []byte {
	t.Helper()
	h := fmt.Sprintf("%c%04dP0TB00E0000", p.version, 16+2*(32+p.macBytes()))
	body := make([]byte, 32)
	body[0], body[1] = byte(bits>>8), byte(bits)
	tag := make([]byte, 16)
	start := []byte(h[:p.encrypt.BlockSize()])
	if p.version == B || p.version == D {
		if err := p.mac.Sum(tag, 0, append([]byte(h), body...)); err != nil {
			t.Fatal(err)
		}
		start = tag[:p.macBytes()]
	}
	cipher.NewCBCEncrypter(p.encrypt, start).CryptBlocks(body, body)
	if p.version == A || p.version == C {
		if err := p.mac.Sum(tag, mac.Zeros, append([]byte(h), body...)); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Appendf([]byte(h), "%X%X", body, tag[:p.macBytes()])
}

func TestSeal(t *testing.T) {
	for _, v := range []Version{B, D} {
		p := protector(t, v, bytes.Repeat([]byte{0x12, 0x34}, 8))
		for optional := range 40 {
			for _, n := range []int{8, 16, 24} {
				h := Header{Usage: PINEncryption, Algorithm: key.TDES, Mode: EncryptDecrypt, Exportability: NotAtAll, KeyVersion: [2]byte{'0', '7'}}
				if optional > 0 {
					if err := h.Add("XY", bytes.Repeat([]byte{'z'}, optional-1)); err != nil {
						t.Fatal(err)
					}
				}
				secret := key.Secret(bytes.Repeat([]byte{byte(n)}, n))
				block, err := p.Seal(h, secret, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				got, opened, err := p.Open(block)
				if err != nil || !bytes.Equal(opened, secret) || got.Usage != h.Usage || got.KeyVersion != h.KeyVersion || !bytes.HasPrefix(got.Optional, h.Optional) {
					t.Fatalf("%c with %d optional: %s: %v", v, optional, block, err)
				}
				if want := map[Version]int{B: 32 + 8, D: 32 + 16}[v]; len(block)-headerChars-len(got.Optional) != 2*want || len(got.Optional)%p.encrypt.BlockSize() != 0 {
					t.Errorf("%c: %s tells the length of its key, or is not whole", v, block)
				}
			}
		}
	}
}

// A key goes from blocks of 8 to blocks of 16 and back: what filled the one does
// not stay in the other, and what nobody knows does.
func TestFillIsNotKept(t *testing.T) {
	b, d := protector(t, B, bytes.Repeat([]byte{1, 2}, 8)), protector(t, D, bytes.Repeat([]byte{1, 2}, 8))
	h := Header{Usage: PINEncryption, Algorithm: key.TDES, Mode: EncryptDecrypt, Exportability: NotAtAll}
	if err := h.Add("XY", []byte("zzzzz")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Protector{b, d, b, d, b} {
		block, err := p.Seal(h, make(key.Secret, 16), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if h, _, err = p.Open(block); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(h.Optional, []byte("XY09zzzzzPB")) || h.OptionalCount != 2 || len(h.Optional) >= 9+4+16 {
			t.Errorf("%c: %d blocks: %s", p.version, h.OptionalCount, h.Optional)
		}
	}
}

func TestSealRefused(t *testing.T) {
	p := protector(t, D, make([]byte, 32))
	h := Header{Usage: PINEncryption, Algorithm: key.AES, Mode: EncryptDecrypt, Exportability: NotAtAll}
	secret := key.Secret(make([]byte, 16))
	bad := h
	bad.Mode = 0
	lies := h
	lies.OptionalCount = 2
	for _, c := range []struct {
		name string
		p    *Protector
		h    Header
		s    key.Secret
		n    int
		want error
	}{
		{"no key", p, h, nil, 64, ErrKeyLength},
		{"a header character", p, bad, secret, 64, ErrFormat},
		{"optional blocks that are not there", p, lies, secret, 64, ErrFormat},
		{"no randomness", p, h, secret, 3, ErrRandomness},
		{"version A", protector(t, A, make([]byte, 16)), h, secret, 64, ErrVersion},
		{"version C", protector(t, C, make([]byte, 16)), h, secret, 64, ErrVersion},
		{"too long", p, h, make(key.Secret, 4990), 64, ErrFormat},
	} {
		if block, err := c.p.Seal(c.h, c.s, bytes.NewReader(make([]byte, c.n))); !errors.Is(err, c.want) || block != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := h.Add("KSX", nil); !errors.Is(err, ErrFormat) {
		t.Errorf("an id of three: %v", err)
	}
	if err := h.Add("KS", []byte{7}); !errors.Is(err, ErrFormat) {
		t.Errorf("not printable: %v", err)
	}
	if err := h.Add("KS", make([]byte, 252)); !errors.Is(err, ErrFormat) {
		t.Errorf("too long: %v", err)
	}
}

func TestNew(t *testing.T) {
	tdes, _ := key.New(key.TDES, make([]byte, 16))
	single, _ := key.New(key.TDES, make([]byte, 8))
	aes, _ := key.New(key.AES, make([]byte, 16))
	for _, c := range []struct {
		v    Version
		k    *key.Key
		want error
	}{
		{A, &aes, ErrKey},
		{C, &aes, ErrKey},
		{B, &single, ErrKey},
		{B, &aes, ErrKey},
		{D, &tdes, ErrKey},
		{D, &key.Key{}, ErrKey},
		{'E', &tdes, ErrVersion},
		{0, &tdes, ErrVersion},
	} {
		p, err := New(c.v, c.k)
		if !errors.Is(err, c.want) || p != nil {
			t.Errorf("%c of %c: %v", c.v, c.k.Algorithm(), err)
		}
	}
	if _, err := NewFromCMAC(A, 16, nil); !errors.Is(err, ErrKey) {
		t.Errorf("A from CMAC: %v", err)
	}
	lost := errors.New("token gone")
	if _, err := NewFromCMAC(D, 32, func(_, _ []byte) error { return lost }); !errors.Is(err, lost) {
		t.Errorf("a token that fails: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if p := protector(t, D, make([]byte, 32)); fmt.Sprintf(verb, p) != hidden || fmt.Sprintf(verb, *p) != hidden {
			t.Error("a protector was printed")
		}
	}
}

// FuzzOpen: no block panics; what opens is what was sealed.
func FuzzOpen(f *testing.F) {
	good, _ := vectors(f)
	protectors := map[Version]*Protector{}
	for _, v := range good {
		f.Add([]byte(v.Block))
	}
	for _, v := range []Version{A, B, C, D} {
		protectors[v] = protector(f, v, bytes.Repeat([]byte{1, 2}, 8))
	}
	f.Add([]byte("D0040P0TE00E0201KS0000020014AB08dataPB04"))
	f.Fuzz(func(t *testing.T, block []byte) {
		h, err := ParseHeader(block)
		if err != nil {
			return
		}
		h.OptionalBlock("PB")
		if p := protectors[h.Version]; p != nil {
			if _, secret, err := p.Open(block); (err == nil) != (secret != nil) {
				t.Errorf("%q: %v", block, err)
			}
		}
		if p := protectors[D]; len(h.Optional) < 4000 && h.OptionalCount < maxOptional {
			sealed, err := p.Seal(h, []byte("0123456789abcdef"), rand.Reader)
			if err != nil {
				t.Fatalf("%q does not seal: %v", block, err)
			}
			if _, secret, err := p.Open(sealed); err != nil || string(secret) != "0123456789abcdef" {
				t.Errorf("%q: %v", sealed, err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	good, _ := vectors(b)
	for _, v := range good[5:8] {
		b.Run(v.Block[:1]+fmt.Sprint(len(v.Block)), func(b *testing.B) {
			p := protector(b, Version(v.Block[0]), v.KBPK)
			block := []byte(v.Block)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := p.Open(block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
