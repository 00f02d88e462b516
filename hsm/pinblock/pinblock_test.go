package pinblock

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// repeated is a source of one byte for ever.
type repeated byte

func (r repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

func parsed(t testing.TB, ascii string) *PIN {
	t.Helper()
	p, err := ParsePIN([]byte(ascii))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func revealed(p *PIN) string {
	var out [maxPIN]byte
	return string(out[:p.RevealPIN(&out)])
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Clear []struct {
			Format   Format
			PIN, PAN string
			Block    hexBytes
		} `json:"pin_block_clear"`
		Refused []struct {
			Format Format
			PAN    string
			Block  hexBytes
			Why    string
		} `json:"pin_block_refused"`
		Format4 []struct {
			Key, Random, Block hexBytes
			PIN, PAN           string
		} `json:"pin_block_format4"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Clear) == 0 || len(v.Refused) == 0 || len(v.Format4) == 0 {
		t.Fatal("no vectors")
	}
	for i, c := range v.Clear {
		var p PIN
		if err := Decode(&p, c.Format, c.Block, []byte(c.PAN)); err != nil || revealed(&p) != c.PIN {
			t.Errorf("clear %d: %v", i, err)
		}
		got := make([]byte, Size)
		// 5 becomes fill F in format 3; F is F in format 1.
		if err := Encode(got, c.Format, &p, []byte(c.PAN), repeated(map[Format]byte{ISO1: 0xFF, ISO3: 5}[c.Format])); err != nil || !bytes.Equal(got, c.Block) {
			t.Errorf("clear %d: encoded %X %v", i, got, err)
		}
	}
	for i, c := range v.Refused {
		var p PIN
		if err := Decode(&p, c.Format, c.Block, []byte(c.PAN)); !errors.Is(err, ErrRefused) || p != (PIN{}) {
			t.Errorf("refused %d (%s): %v", i, c.Why, err)
		}
	}
	for i, c := range v.Format4 {
		cipher, err := aes.NewCipher(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, Size4)
		if err := Encipher4(got, cipher, parsed(t, c.PIN), []byte(c.PAN), FullPAN, bytes.NewReader(c.Random)); err != nil || !bytes.Equal(got, c.Block) {
			t.Errorf("format 4 %d: %X %v", i, got, err)
		}
		var p PIN
		if err := Decipher4(&p, cipher, got, []byte(c.PAN), FullPAN); err != nil || revealed(&p) != c.PIN || !bytes.Equal(got, make([]byte, Size4)) {
			t.Errorf("format 4 %d: deciphered: %v, left %X", i, err, got)
		}
	}
}

// The checks of one block, by the plainest code: what Decode must agree with.
func plainDecode(f Format, field []byte) (string, bool) {
	s := hex.EncodeToString(field)
	n := strings.IndexByte("0123456789abcdef", s[1])
	if s[0] != '0'+byte(f) || n < 4 || n > 12 {
		return "", false
	}
	allowed := map[Format]string{ISO0: "f", ISO1: "0123456789abcdef", ISO2: "f", ISO3: "abcdef", ISO4: "a"}[f]
	pin, fill := s[2:2+n], s[2+n:16]
	if strings.Trim(pin, "0123456789") != "" || strings.Trim(fill, allowed) != "" {
		return "", false
	}
	return pin, true
}

// Every single nibble of blocks of every format and PIN length, turned into
// every value: what is accepted is exactly what the standard allows.
func TestEveryNibbleIsChecked(t *testing.T) {
	pan := []byte("4111111111111111")
	accepted := 0
	for f := ISO0; f <= ISO3; f++ {
		account, err := accountField(f, pan)
		if err != nil {
			t.Fatal(err)
		}
		for n := minPIN; n <= maxPIN; n++ {
			block := make([]byte, Size)
			if err := Encode(block, f, parsed(t, "907856341290"[:n]), pan, rand.Reader); err != nil {
				t.Fatal(err)
			}
			for nibble := range 2 * Size {
				for value := range byte(16) {
					field := make([]byte, Size)
					for i := range field {
						field[i] = block[i] ^ account[i]
					}
					shift := 4 * (1 - nibble%2)
					field[nibble/2] = field[nibble/2]&^(0xF<<shift) | value<<shift
					want, ok := plainDecode(f, field)
					for i := range field {
						field[i] ^= account[i]
					}
					var p PIN
					err := Decode(&p, f, field, pan)
					if (err == nil) != ok || revealed(&p) != want || err != nil && !errors.Is(err, ErrRefused) {
						t.Errorf("format %d, %d digits, nibble %d is %X: %v, want %v", f, n, nibble, value, err, ok)
					}
					accepted += len(want) / max(1, len(want))
				}
			}
		}
	}
	if accepted < 36 {
		t.Errorf("only %d blocks were good", accepted)
	}
}

func TestFormat4(t *testing.T) {
	c, err := aes.NewCipher(unhex(t, "00112233445566778899AABBCCDDEEFF"))
	if err != nil {
		t.Fatal(err)
	}
	pan := []byte("4111111111111111")
	for n := minPIN; n <= maxPIN; n++ {
		want := "907856341290"[:n]
		for _, rule := range []PANRule{FullPAN, Rightmost12} {
			block := make([]byte, Size4)
			if err := Encipher4(block, c, parsed(t, want), pan, rule, rand.Reader); err != nil {
				t.Fatal(err)
			}
			var p PIN
			for _, other := range []struct {
				pan  string
				rule PANRule
			}{{"4111111111111129", rule}, {"4111111111111111", 1 - rule}} {
				if err := Decipher4(&p, c, bytes.Clone(block), []byte(other.pan), other.rule); !errors.Is(err, ErrRefused) || p.Len() != 0 {
					t.Errorf("%d digits under %v: %v", n, other, err)
				}
			}
			if err := Decipher4(&p, c, block, pan, rule); err != nil || revealed(&p) != want {
				t.Errorf("%d digits: %v", n, err)
			}
		}
	}
	des8 := make([]byte, Size)
	var p PIN
	if err := Decipher4(&p, c, des8, pan, FullPAN); !errors.Is(err, ErrRefused) {
		t.Errorf("8 bytes: %v", err)
	}
}

// The PAN field of format 4, written by hand from ISO 9564-1 clause 9.4.2.2.
func TestAccountField4(t *testing.T) {
	for _, c := range []struct {
		pan  string
		rule PANRule
		want string
	}{
		{"4111111111111111", FullPAN, "44111111111111111000000000000000"},
		{"1234567890123456789", FullPAN, "71234567890123456789000000000000"},
		{"123456789012", FullPAN, "01234567890120000000000000000000"},
		{"1234567890", FullPAN, "00012345678900000000000000000000"},
		{"1234567890123456789", Rightmost12, "07890123456780000000000000000000"},
		{"4111111111111111", Rightmost12, "01111111111110000000000000000000"},
		{"123456789012", Rightmost12, "00123456789010000000000000000000"},
	} {
		if got, err := accountField4([]byte(c.pan), c.rule); err != nil || !bytes.Equal(got[:], unhex(t, c.want)) {
			t.Errorf("%s rule %d: %X %v", c.pan, c.rule, got, err)
		}
	}
}

// The random fill of format 3 is A to F, each equally often, and different each
// time.
func TestFillIsUniform(t *testing.T) {
	pan, p := []byte("4111111111111111"), parsed(t, "1234")
	account, err := accountField(ISO3, pan)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[byte]int{}
	seen := map[string]bool{}
	const rounds = 6000
	block := make([]byte, Size)
	for range rounds {
		if err := Encode(block, ISO3, p, pan, rand.Reader); err != nil {
			t.Fatal(err)
		}
		seen[string(block)] = true
		for i := 3; i < Size; i++ {
			counts[(block[i]^account[i])>>4]++
			counts[(block[i]^account[i])&0xF]++
		}
	}
	if len(counts) != 6 || len(seen) < rounds*99/100 {
		t.Errorf("%d values, %d blocks of %d", len(counts), len(seen), rounds)
	}
	for v, n := range counts {
		if v < 0xA || n < 9500 || n > 10500 { // 10,000 expected, 5 sigma is 460
			t.Errorf("%X came %d times", v, n)
		}
	}
}

func TestBadInput(t *testing.T) {
	good, pan := parsed(t, "1234"), "4111111111111111"
	room := make([]byte, Size4)
	for _, c := range []struct {
		name string
		err  error
	}{
		{"no PIN", Encode(room, ISO0, &PIN{}, []byte(pan), nil)},
		{"format 4 in the clear", Encode(room, ISO4, good, []byte(pan), nil)},
		{"no room", Encode(room[:7], ISO0, good, []byte(pan), nil)},
		{"no PAN", Encode(room, ISO0, good, nil, nil)},
		{"20 digits", Encode(room, ISO3, good, []byte(pan+"1111"), rand.Reader)},
		{"a letter", Encode(room, ISO0, good, []byte("411111111111111A"), nil)},
		{"decode 7 bytes", Decode(&PIN{}, ISO0, room[:7], []byte(pan))},
		{"decode 9 bytes", Decode(&PIN{}, ISO0, room[:9], []byte(pan))},
		{"decode format 4", Decode(&PIN{}, ISO4, room[:8], []byte(pan))},
		{"decode format 9", Decode(&PIN{}, 9, room[:8], []byte(pan))},
		{"decode no PAN", Decode(&PIN{}, ISO0, room[:8], nil)},
	} {
		if !errors.Is(c.err, ErrRefused) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	for _, bad := range []string{"", "123", "1234567890123", "12a4", "12 4", "-123"} {
		if _, err := ParsePIN([]byte(bad)); !errors.Is(err, ErrRefused) {
			t.Errorf("PIN %q: %v", bad, err)
		}
	}
	if err := Encode(room, ISO3, good, []byte(pan), bytes.NewReader(nil)); !errors.Is(err, ErrRandomness) {
		t.Errorf("no randomness: %v", err)
	}
	if err := Encode(room, ISO3, good, []byte(pan), repeated(0xFF)); !errors.Is(err, ErrRandomness) {
		t.Errorf("only refused bytes: %v", err)
	}
	c, _ := aes.NewCipher(make([]byte, 16))
	if err := Encipher4(room, c, good, []byte(pan), FullPAN, bytes.NewReader(make([]byte, 7))); !errors.Is(err, ErrRandomness) || !bytes.Equal(room, make([]byte, Size4)) {
		t.Errorf("7 bytes of randomness: %v", err)
	}
}

func TestNothingPrintsAPIN(t *testing.T) {
	p := parsed(t, "907856")
	for _, v := range []any{p, *p, struct{ P PIN }{*p}, []PIN{*p}} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "p", v)
		if _, err := json.Marshal(v); err == nil {
			t.Errorf("%T was marshalled", v)
		}
		if err := gob.NewEncoder(&bytes.Buffer{}).Encode(v); err == nil {
			t.Errorf("%T was marshalled by gob", v)
		}
		for _, mark := range []string{"907856", "9 0 7 8", "090007080506", "0x9, 0x0"} {
			if strings.Contains(out.String(), mark) {
				t.Errorf("%T shows the PIN: %s", v, out.String())
			}
		}
	}
}

func TestArithmetic(t *testing.T) {
	for a := range byte(128) {
		for b := range byte(128) {
			if (below(a, b) == 0xFF) != (a < b) || (below(a, b) == 0) == (a < b) {
				t.Fatalf("below(%d, %d) = %X", a, b, below(a, b))
			}
		}
	}
	for b := range 256 {
		if (above9(byte(b)) == 0xFF) != (b > 9) || (above9(byte(b)) == 0) == (b > 9) {
			t.Fatalf("above9(%d) = %X", b, above9(byte(b)))
		}
	}
}

// FuzzDecode: no input panics, and what is accepted is what the plain reading
// of the standard accepts.
func FuzzDecode(f *testing.F) {
	f.Add(uint8(0), []byte("\x04\x12\x61\xAA\xAA\xED\xCB\xA9"), []byte("5555555551234567"))
	f.Add(uint8(3), []byte("\x3C\x12\x61\x03\x2D\x82\x26\xA9"), []byte("5555555551234567"))
	f.Add(uint8(1), []byte("\x14\x12\x34\xFF\xFF\xFF\xFF\xFF"), []byte(nil))
	c, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, format uint8, block, pan []byte) {
		var p PIN
		if Decode(&p, Format(format), block, pan) == nil {
			account, err := accountField(Format(format), pan)
			if err != nil {
				t.Fatal("accepted with a PAN that is none")
			}
			field := make([]byte, Size)
			for i := range field {
				field[i] = block[i] ^ account[i]
			}
			if want, ok := plainDecode(Format(format), field); !ok || want != revealed(&p) {
				t.Fatalf("accepted %x as format %d", field, format)
			}
		} else if p != (PIN{}) {
			t.Fatal("refused, and a PIN all the same")
		}
		_ = Decipher4(&p, c, bytes.Clone(block), pan, PANRule(format%3))
	})
}

func TestNoAllocation(t *testing.T) {
	pan, block := []byte("4111111111111111"), unhex(t, "041225EEEEEEEEEE")
	out := make([]byte, Size)
	var p PIN
	if n := testing.AllocsPerRun(100, func() {
		if Decode(&p, ISO0, block, pan) != nil || Encode(out, ISO3, &p, pan, rand.Reader) != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecodeEncode(b *testing.B) {
	pan, block := []byte("4111111111111111"), unhex(b, "041225EEEEEEEEEE")
	out := make([]byte, Size)
	var p PIN
	b.ReportAllocs()
	for b.Loop() {
		if Decode(&p, ISO0, block, pan) != nil || Encode(out, ISO0, &p, pan, nil) != nil {
			b.Fatal("refused")
		}
	}
}
