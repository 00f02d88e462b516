package mac

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"authswitch/hsm/key"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func made(t testing.TB, a key.Algorithm, b []byte) *key.Key {
	t.Helper()
	k, err := key.New(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

func keyed(t testing.TB, a Algorithm, k *key.Key) *MAC {
	t.Helper()
	m, err := New(a, k)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		CMAC struct {
			Message hexBytes
			Cases   []struct {
				Algorithm string
				Key, MAC  hexBytes
				Bytes     int
			}
		}
		ISO []struct {
			Algorithm string
			Key, MAC  hexBytes
			Text      string
			Padding   Padding
		} `json:"mac_iso9797"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.CMAC.Cases) == 0 || len(v.ISO) == 0 {
		t.Fatal("no vectors")
	}
	for i, c := range v.CMAC.Cases {
		a := key.AES
		if c.Algorithm == "TDES" {
			a = key.TDES
		}
		sum(t, fmt.Sprint("cmac ", i), keyed(t, CMAC, made(t, a, c.Key)), 0, v.CMAC.Message[:c.Bytes], c.MAC)
	}
	for i, c := range v.ISO {
		sum(t, fmt.Sprint("iso ", i), keyed(t, Algorithm(c.Algorithm[0]-'0'), made(t, key.TDES, c.Key)), c.Padding, []byte(c.Text), c.MAC)
	}
}

func sum(t *testing.T, name string, m *MAC, p Padding, message, want []byte) {
	t.Helper()
	dst := make([]byte, MaxBytes)
	if err := m.Sum(dst, p, message); err != nil || !bytes.Equal(dst[:m.Size()], want) {
		t.Errorf("%s: %X %v, want %X", name, dst[:m.Size()], err, want)
	}
	for n := 4; n <= m.Size(); n++ {
		if err := m.Verify(dst, p, message, want[:n]); err != nil {
			t.Errorf("%s: verifying %d bytes: %v", name, n, err)
		}
		for bit := range n * 8 {
			bad := bytes.Clone(want[:n])
			bad[bit/8] ^= 1 << (bit % 8)
			if err := m.Verify(dst, p, message, bad); !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: %d bytes with bit %d turned: %v", name, n, bit, err)
			}
		}
	}
	if !bytes.Equal(dst[:m.Size()], make([]byte, m.Size())) {
		t.Errorf("%s: the expected MAC was left in the scratch", name)
	}
}

// Each algorithm and padding again, over padded strings written out by hand
// from ISO/IEC 9797-1 and SP 800-38B with the plainest loop there is.
func TestAgainstThePlainForm(t *testing.T) {
	tdes := made(t, key.TDES, []byte("0123456789abcdef"))
	aes := made(t, key.AES, []byte("0123456789abcdef"))
	message := []byte("the quick brown fox jumps over the lazy dog, twice")
	for n := range len(message) {
		for _, p := range []Padding{Zeros, OneAndZeros, LengthFirst} {
			for _, k := range []*key.Key{tdes, aes} {
				check(t, ISO1, k, p, message[:n])
			}
			check(t, ISO3, tdes, p, message[:n])
		}
	}
}

func check(t *testing.T, a Algorithm, k *key.Key, p Padding, message []byte) {
	t.Helper()
	m := keyed(t, a, k)
	n := m.Size()
	padded := bytes.Clone(message)
	if p == OneAndZeros {
		padded = append(padded, 0x80)
	}
	for len(padded)%n != 0 || len(padded) == 0 {
		padded = append(padded, 0)
	}
	if p == LengthFirst {
		first := make([]byte, n)
		first[n-1], first[n-2] = byte(len(message)*8), byte(len(message)*8>>8)
		padded = slices.Concat(first, padded)
	}
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	if a == ISO3 { // single DES on the way, TDES at the end, is the retail MAC
		left := made(t, key.TDES, k.Reveal()[:8])
		if c, err = left.Cipher(); err != nil {
			t.Fatal(err)
		}
	}
	state := make([]byte, n)
	for i := 0; i < len(padded); i += n {
		if a == ISO3 && i == len(padded)-n {
			if c, err = k.Cipher(); err != nil {
				t.Fatal(err)
			}
		}
		for j := range n {
			state[j] ^= padded[i+j]
		}
		c.Encrypt(state, state)
	}
	got := make([]byte, MaxBytes)
	if err := m.Sum(got, p, message); err != nil || !bytes.Equal(got[:n], state) {
		t.Errorf("algorithm %d padding %d over %d bytes: %X %v, want %X", a, p, len(message), got[:n], err, state)
	}
}

// SP 800-38B by its definition, for the lengths the vectors leave out.
func TestCMACAgainstTheDefinition(t *testing.T) {
	for _, k := range []*key.Key{made(t, key.TDES, []byte("0123456789abcdef")), made(t, key.AES, []byte("0123456789abcdef"))} {
		m := keyed(t, CMAC, k)
		plain := keyed(t, ISO1, k)
		n := m.Size()
		for length := range 4 * n {
			message := bytes.Repeat([]byte{0x5A}, length)
			masked := bytes.Clone(message)
			mask := m.whole
			if length == 0 || length%n != 0 {
				mask = m.partial
				masked = append(masked, 0x80)
				for len(masked)%n != 0 {
					masked = append(masked, 0)
				}
			}
			for i := range n {
				masked[len(masked)-n+i] ^= mask[i]
			}
			got, want := make([]byte, n), make([]byte, n)
			if m.Sum(got, 0, message) != nil || plain.Sum(want, Zeros, masked) != nil || !bytes.Equal(got, want) {
				t.Errorf("%c over %d: %X, want %X", k.Algorithm(), length, got, want)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	double, triple, aes := made(t, key.TDES, make([]byte, 16)), made(t, key.TDES, make([]byte, 24)), made(t, key.AES, make([]byte, 16))
	for _, c := range []struct {
		a Algorithm
		k *key.Key
	}{{ISO3, triple}, {ISO3, aes}, {ISO3, &key.Key{}}, {ISO1, &key.Key{}}, {2, double}, {0, double}, {CMAC, &key.Key{}}} {
		if m, err := New(c.a, c.k); err == nil || m != nil {
			t.Errorf("algorithm %d with a %d-byte %c key was made", c.a, c.k.Len(), c.k.Algorithm())
		}
	}
	m := keyed(t, ISO1, double)
	if err := m.Sum(make([]byte, 8), 0, nil); !errors.Is(err, ErrPadding) {
		t.Errorf("padding 0: %v", err)
	}
	if err := m.Sum(make([]byte, 8), 4, nil); !errors.Is(err, ErrPadding) {
		t.Errorf("padding 4: %v", err)
	}
	if err := m.Sum(make([]byte, 7), Zeros, nil); !errors.Is(err, ErrLength) {
		t.Errorf("7 bytes of room: %v", err)
	}
	for _, n := range []int{0, 1, 3, 9} {
		if err := m.Verify(make([]byte, 8), Zeros, nil, make([]byte, n)); !errors.Is(err, ErrLength) {
			t.Errorf("a MAC of %d bytes: %v", n, err)
		}
	}
}

func TestNothingPrintsAMAC(t *testing.T) {
	m := keyed(t, CMAC, made(t, key.AES, []byte("MARKERKEYMARKERK")))
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		for _, v := range []any{m, *m} {
			if got := fmt.Sprintf(verb, v); got != hidden {
				t.Errorf("%s of %T: %s", verb, v, got)
			}
		}
	}
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("made", "mac", m)
	if !strings.Contains(out.String(), `"mac":"`+hidden+`"`) {
		t.Errorf("logged: %s", out.String())
	}
}

func TestNoAllocation(t *testing.T) {
	message := make([]byte, 200)
	for _, m := range []*MAC{keyed(t, ISO3, made(t, key.TDES, make([]byte, 16))), keyed(t, CMAC, made(t, key.AES, make([]byte, 16)))} {
		dst, got := make([]byte, 16), make([]byte, 8)
		if n := testing.AllocsPerRun(100, func() { _ = m.Verify(dst, Zeros, message, got) }); n != 0 {
			t.Errorf("algorithm %d: %v allocations", m.algorithm, n)
		}
	}
}

// Whatever the message, key and padding: no panic, and a MAC verifies itself.
func FuzzSum(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("hello world"), uint8(1), uint8(3))
	f.Add([]byte("0123456789abcdef"), []byte{}, uint8(5), uint8(1))
	f.Fuzz(func(t *testing.T, k, message []byte, a, p uint8) {
		for _, ka := range []key.Algorithm{key.TDES, key.AES} {
			made, err := key.New(ka, k)
			if err != nil {
				continue
			}
			m, err := New(Algorithm(a), &made)
			if err != nil {
				continue
			}
			dst, scratch := make([]byte, MaxBytes), make([]byte, MaxBytes)
			if err := m.Sum(dst, Padding(p), message); err != nil {
				continue
			}
			if err := m.Verify(scratch, Padding(p), message, dst[:m.Size()]); err != nil {
				t.Errorf("%x does not verify: %v", dst, err)
			}
		}
	})
}

func BenchmarkMAC200(b *testing.B) {
	message, dst := make([]byte, 200), make([]byte, 16)
	for _, c := range []struct {
		name string
		m    *MAC
	}{
		{"retail", keyed(b, ISO3, made(b, key.TDES, make([]byte, 16)))},
		{"tdes-cbc", keyed(b, ISO1, made(b, key.TDES, make([]byte, 16)))},
		{"aes-cmac", keyed(b, CMAC, made(b, key.AES, make([]byte, 16)))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.m.Sum(dst, Zeros, message)
			}
		})
	}
}
