package engine

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func protector(t testing.TB, v tr31.Version, a key.Algorithm, b []byte) *tr31.Protector {
	t.Helper()
	k, err := key.New(a, b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr31.New(v, &k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func masterKey(t testing.TB) *tr31.Protector {
	t.Helper()
	return protector(t, tr31.D, key.AES, unhex(t, "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"))
}

func engine(t testing.TB) *Engine {
	t.Helper()
	e, err := New(masterKey(t), rand.Reader, 64)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// spelled reads attributes as a block has them: usage, algorithm, mode,
// exportability, as in "P0TBE".
func spelled(s string) Attributes {
	return Attributes{
		Usage: tr31.Usage(s[0])<<8 | tr31.Usage(s[1]), Algorithm: key.Algorithm(s[2]), Mode: tr31.Mode(s[3]), Exportability: tr31.Exportability(s[4]),
	}
}

// stored seals a key under the master key without asking the rules.
func stored(t testing.TB, attributes, clearHex string) []byte {
	t.Helper()
	block, err := masterKey(t).Seal(spelled(attributes).header(), unhex(t, clearHex), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func loaded(t testing.TB, e *Engine, attributes, clearHex string) *Key {
	t.Helper()
	k, err := e.Load(stored(t, attributes, clearHex))
	if err != nil {
		t.Fatalf("%s: %v", attributes, err)
	}
	return k
}

// Keys with odd parity and nothing weak, for every test here.
const (
	double1 = "0123456789ABCDEFFEDCBA9876543210"
	double2 = "89ABCDEF0123456776543210FEDCBA98"
	triple1 = "0123456789ABCDEFFEDCBA98765432101357024646758A9B"
	aes128  = "00112233445566778899AABBCCDDEEFF"
	aes256  = "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1"
)

func TestMasterKey(t *testing.T) {
	for _, p := range []*tr31.Protector{
		protector(t, tr31.D, key.AES, make([]byte, 16)),
		protector(t, tr31.D, key.AES, make([]byte, 24)),
		protector(t, tr31.B, key.TDES, make([]byte, 24)),
	} {
		if e, err := New(p, rand.Reader, 1); !errors.Is(err, ErrMasterKey) || e != nil {
			t.Errorf("%c of %d bits: %v", p.Version(), p.Strength(), err)
		}
	}
}

func TestCheckValues(t *testing.T) {
	e := engine(t)
	for _, c := range []struct{ attributes, key, want string }{
		{"P0TBE", double1, "08D7B4"},
		{"P0ABE", "3F419E1CB7079442AA37474C2EFBF8B8", "08793E25AB"},
		{"B0AXN", "3F419E1CB7079442AA37474C2EFBF8B8", "08793E25AB"},
	} {
		v := loaded(t, e, c.attributes, c.key).CheckValue()
		if v.String() != c.want || !bytes.Equal(v.Bytes(), unhex(t, c.want)) {
			t.Errorf("%s: %s, want %s", c.attributes, v, c.want)
		}
		whole := unhex(t, c.want)
		for n := range len(whole) + 1 {
			if v.Matches(whole[:n]) != (n >= 2) {
				t.Errorf("%s: %d bytes", c.attributes, n)
			}
		}
		whole[1] ^= 1
		if v.Matches(whole) || v.Matches(whole[:2]) || v.Matches(append(unhex(t, c.want), 0)) {
			t.Errorf("%s matches another", c.attributes)
		}
	}
}

// Every rule about what a key may be, one line each: header, clear key, and
// what is said of it when it is loaded, generated, combined or imported.
func TestRules(t *testing.T) {
	const odd = "0123456789ABCDEF"
	e := engine(t)
	for _, c := range []struct {
		attributes, key string
		want            error
	}{
		{"P0TBE", double1, nil},
		{"P0TBE", triple1, nil},
		{"P0TDS", double1, nil},
		{"P0TNN", double1, nil},
		{"P0AEE", aes128, nil},
		{"P0ABE", aes256, nil},
		{"K0TBN", double1, nil},
		{"K1ABN", aes256, nil},
		{"D0ABN", aes256, nil},
		{"M1TCE", triple1, nil},
		{"M3TGE", double1, nil},
		{"M6AVE", aes128, nil},
		{"B0TXN", double1, nil},
		{"B0AXN", aes256, nil},
		{"C0TVN", double1, nil},
		{"V1TVN", triple1, nil},
		{"V2TVN", double1, nil},
		{"E0TXN", double1, nil},

		{"P0TBE", odd, ErrKeyLength},
		{"M3TCE", triple1, ErrKeyLength},
		{"B0TXN", triple1, ErrKeyLength},
		{"C0TVN", triple1, ErrKeyLength},
		{"P0ABE", odd, ErrKeyLength},
		{"P0TBE", aes256, ErrKeyLength},
		{"P0TBE", double1 + "01", ErrKeyLength},
		{"P0ABE", aes128 + "01", ErrKeyLength},
		{"P0TBE", "0023456789ABCDEFFEDCBA9876543210", ErrParity},
		{"P0TBE", "0123456789ABCDEFFEDCBA9876543211", ErrParity},
		{"P0TBE", triple1[:46] + "9A", ErrParity},
		{"P0TBE", odd + odd, ErrEqualParts},
		{"P0TBE", odd + odd + "FEDCBA9876543210", ErrEqualParts},
		{"P0TBE", odd + "FEDCBA9876543210" + "FEDCBA9876543210", ErrEqualParts},
		{"P0TBE", odd + "FEDCBA9876543210" + odd, ErrEqualParts}, // a double-length key that calls itself triple
		{"P0TBE", odd + "0101010101010101", ErrWeak},
		{"P0TBE", odd + "FEFEFEFEFEFEFEFE", ErrWeak},
		{"P0TBE", "1F1F1F1F0E0E0E0E" + odd, ErrWeak},
		{"P0TBE", "E0E0E0E0F1F1F1F1" + odd, ErrWeak},
		{"P0TBE", "01FE01FE01FE01FE" + odd, ErrWeak},
		{"P0TBE", "FEE0FEE0FEF1FEF1" + odd, ErrWeak},
		{"P0TBE", odd + "FEDCBA9876543210" + "1FFE1FFE0EFE0EFE", ErrWeak},
		{"P0ABE", "00000000000000000000000000000000", ErrWeak},
		{"P0ABE", "ABABABABABABABABABABABABABABABAB", ErrWeak},
		{"P0RBE", double1, ErrAlgorithm},
		{"P0HBE", double1, ErrAlgorithm},
		{"M3ACE", aes128, ErrAlgorithm},
		{"M1ACE", aes128, ErrAlgorithm},
		{"C0AVE", aes128, ErrAlgorithm},
		{"P0TXE", double1, ErrMode},
		{"P0TCE", double1, ErrMode},
		{"M3TBE", double1, ErrMode},
		{"B0TBE", double1, ErrMode},
		{"C0TBE", double1, ErrMode},
		{"P0TBX", double1, ErrExportability},
		{"P1TBE", double1, ErrUsage},
		{"S0TBE", double1, ErrUsage},
		{"M7ACE", aes128, ErrUsage},
	} {
		if k, err := e.Load(stored(t, c.attributes, c.key)); !errors.Is(err, c.want) || (k == nil) != (c.want != nil) {
			t.Errorf("%s %s: %v, want %v", c.attributes, c.key, err, c.want)
		}
	}
}

// All sixteen, by their listing in NIST SP 800-67: each is its own inverse's
// pair, which is what makes it weak.
func TestWeakKeysAreWeak(t *testing.T) {
	pairs := [][2]string{
		{"0101010101010101", "0101010101010101"},
		{"FEFEFEFEFEFEFEFE", "FEFEFEFEFEFEFEFE"},
		{"E0E0E0E0F1F1F1F1", "E0E0E0E0F1F1F1F1"},
		{"1F1F1F1F0E0E0E0E", "1F1F1F1F0E0E0E0E"},
		{"011F011F010E010E", "1F011F010E010E01"},
		{"01E001E001F101F1", "E001E001F101F101"},
		{"01FE01FE01FE01FE", "FE01FE01FE01FE01"},
		{"1FE01FE00EF10EF1", "E01FE01FF10EF10E"},
		{"1FFE1FFE0EFE0EFE", "FE1FFE1FFE0EFE0E"},
		{"E0FEE0FEF1FEF1FE", "FEE0FEE0FEF1FEF1"},
	}
	for _, pair := range pairs {
		block := []byte("anything")
		for _, half := range pair {
			k, err := key.New(key.TDES, unhex(t, half))
			if err != nil {
				t.Fatal(err)
			}
			c, err := k.Cipher()
			if err != nil {
				t.Fatal(err)
			}
			c.Encrypt(block, block)
			both, err := key.New(key.TDES, unhex(t, half+"0123456789ABCDEF"))
			if err != nil {
				t.Fatal(err)
			}
			if err := strong(&both); !errors.Is(err, ErrWeak) {
				t.Errorf("%s: %v", half, err)
			}
		}
		if string(block) != "anything" {
			t.Errorf("%v do not undo each other", pair)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	e := engine(t)
	clearKey := "4D41524B45524B45D94D41524B4552D3"
	k, err := key.New(key.TDES, unhex(t, clearKey))
	if err != nil {
		t.Fatal(err)
	}
	k.FixParity()
	for _, attributes := range []string{"P0TBE", "K1TBE", "B0TXE", "C0TVE", "M3TCE", "E0TXE"} {
		loadedKey := loaded(t, e, attributes, hex.EncodeToString(k.Reveal()))
		for _, v := range []any{loadedKey, *loadedKey, e, *e, []*Key{loadedKey}} {
			var out strings.Builder
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
				fmt.Fprintf(&out, verb, v)
			}
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "k", v)
			for _, mark := range []string{"4d40", "4D40", "0x4d", "77 64", "M@R"} {
				if strings.Contains(out.String(), mark) {
					t.Errorf("%s: %T shows the key: %s", attributes, v, out.String())
				}
			}
			if s := out.String(); !strings.Contains(s, hidden) && !strings.Contains(s, attributes[:2]+" T") {
				t.Errorf("%T prints %s", v, s)
			}
		}
		loadedKey.Wipe()
		if loadedKey.material.Present() || loadedKey.block != nil || loadedKey.mac != nil || loadedKey.tdesBase != nil {
			t.Errorf("%s: something is left", attributes)
		}
		if err := loadedKey.may(decrypts, tr31.PINEncryption); !errors.Is(err, ErrUse) {
			t.Errorf("a wiped key may: %v", err)
		}
	}
}
