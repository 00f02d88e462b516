package engine

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

func TestGenerate(t *testing.T) {
	e := engine(t)
	seen := map[string]bool{}
	for _, c := range []struct {
		attributes string
		n          int
		want       error
	}{
		{"P0TBE", 16, nil},
		{"P0TBE", 24, nil},
		{"P0ABE", 32, nil},
		{"M6ACN", 24, nil},
		{"P0TBE", 8, ErrKeyLength}, // not randomness: no draw would be longer
		{"M3TCE", 24, ErrKeyLength},
		{"P0ABE", 20, ErrKeyLength},
		{"P0ABE", 0, ErrKeyLength},
		{"P0ABE", -1, ErrKeyLength},
		{"P0ABE", 64, ErrKeyLength},
		{"P0TXE", 16, ErrMode},
	} {
		s, err := e.Generate(spelled(c.attributes), c.n)
		if !errors.Is(err, c.want) || (s.Block == nil) != (c.want != nil) {
			t.Errorf("%s %d: %v", c.attributes, c.n, err)
		}
		if c.want != nil {
			continue
		}
		k, err := e.Load(s.Block)
		if err != nil || k.CheckValue() != s.Check || k.Attributes() != spelled(c.attributes) || seen[s.Check.String()] {
			t.Errorf("%s %d does not load as it was made: %v", c.attributes, c.n, err)
		}
		seen[s.Check.String()] = true
	}
	for _, source := range [][]byte{nil, make([]byte, 16*attempts)} { // none, and only weak ones
		e.random = bytes.NewReader(source)
		if _, err := e.Generate(spelled("P0TBE"), 16); !errors.Is(err, ErrRandomness) {
			t.Errorf("%d bytes of randomness: %v", len(source), err)
		}
	}
}

func TestCombine(t *testing.T) {
	e := engine(t)
	a, b, c := unhex(t, double1), unhex(t, double2), unhex(t, "1357024646758A9B0246135757468A9B")
	s, err := e.Combine(spelled("K1TBN"), a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, 16)
	for i := range sum {
		sum[i] = a[i] ^ b[i] ^ c[i]
	}
	want, err := key.New(key.TDES, sum)
	if err != nil {
		t.Fatal(err)
	}
	want.FixParity()
	if check, err := KCV(&want); err != nil || check != s.Check {
		t.Errorf("%s, want %s (%v)", s.Check, check, err)
	}
	if two, err := e.Combine(spelled("K1TBN"), a, c); err != nil || two.Check == s.Check {
		t.Errorf("two: %v", err)
	}
	for _, c := range []struct {
		name string
		of   []key.Secret
		want error
	}{
		{"one", []key.Secret{a}, ErrComponents},
		{"none", nil, ErrComponents},
		{"four", []key.Secret{a, b, c, unhex(t, aes128)}, ErrComponents},
		{"the same twice", []key.Secret{a, a}, ErrComponents},
		{"the same twice of three", []key.Secret{a, b, a}, ErrComponents},
		{"two lengths", []key.Secret{a, b[:8]}, ErrComponents},
		{"empty ones", []key.Secret{{}, {}}, ErrComponents},
		{"single length", []key.Secret{a[:8], b[:8]}, ErrKeyLength},
		{"equal halves come out", []key.Secret{unhex(t, "FFFFFFFFFFFFFFFF0000000000000000"), unhex(t, "FEDCBA98765432100123456789ABCDEF")}, ErrEqualParts},
	} {
		if s, err := e.Combine(spelled("K1TBN"), c.of...); !errors.Is(err, c.want) || s.Block != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// peerBlock is what another party's module would send.
func peerBlock(t *testing.T, v tr31.Version, wrapping, attributes, clearHex string) []byte {
	t.Helper()
	a := key.TDES
	if v == tr31.D {
		a = key.AES
	}
	block, err := protector(t, v, a, unhex(t, wrapping)).Seal(spelled(attributes).header(), unhex(t, clearHex), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func TestImport(t *testing.T) {
	e := engine(t)
	const other = "A1B2C3D4E5F60718293A4B5C6D7E8F90"
	for _, c := range []struct {
		name       string
		v          tr31.Version
		wrapping   string // attributes and key of ours
		key        string
		attributes string // of the block
		clear      string
		want       string
		kcv        string
		err        error
	}{
		{"TDES under TDES", tr31.B, "K1TBN", double2, "P0TBE", double1, "P0TBE", "08D7B4", nil},
		{"without a check value", tr31.B, "K1TDN", double2, "P0TBE", double1, "P0TBE", "", nil},
		{"two bytes of it", tr31.B, "K1TNN", double2, "P0TBE", double1, "P0TBE", "08D7", nil},
		{"TDES under AES", tr31.D, "K1ABN", aes256, "P0TBE", double1, "P0TBE", "", nil},
		{"AES under AES", tr31.D, "K1ABN", aes256, "B0AXN", other, "B0AXN", "", nil},
		{"triple under triple", tr31.B, "K1TBN", triple1, "P0TBE", triple1, "P0TBE", "", nil},

		{"another usage", tr31.B, "K1TBN", double2, "P0TBE", double1, "K0TBE", "", ErrDisagrees},
		{"another mode", tr31.B, "K1TBN", double2, "P0TBE", double1, "P0TDE", "", ErrDisagrees},
		{"another exportability", tr31.B, "K1TBN", double2, "P0TBE", double1, "P0TBN", "", ErrDisagrees},
		{"another algorithm", tr31.D, "K1ABN", aes256, "P0ABE", other, "P0TBE", "", ErrDisagrees},
		{"another check value", tr31.B, "K1TBN", double2, "P0TBE", double1, "P0TBE", "08D7B5", ErrCheckValue},
		{"one byte of check value", tr31.B, "K1TBN", double2, "P0TBE", double1, "P0TBE", "08", ErrCheckValue},
		{"triple under double", tr31.B, "K1TBN", double2, "P0TBE", triple1, "P0TBE", "", ErrWrapping},
		{"AES-128 under TDES", tr31.B, "K1TBN", triple1, "P0ABE", other, "P0ABE", "", ErrWrapping},
		{"AES-256 under AES-128", tr31.D, "K1ABN", aes128, "P0ABE", aes256, "P0ABE", "", ErrWrapping},
		{"parity", tr31.B, "K1TBN", double2, "P0TBE", "0023456789ABCDEFFEDCBA9876543210", "P0TBE", "", ErrParity},
		{"single length", tr31.B, "K1TBN", double2, "P0TBE", "0123456789ABCDEF", "P0TBE", "", ErrKeyLength},
		{"a length that is none", tr31.B, "K1TBN", double2, "P0TBE", "0123456789ABCDEF01", "P0TBE", "", ErrKeyLength},
		{"a usage nobody keeps", tr31.B, "K1TBN", double2, "S0TBE", double1, "S0TBE", "", ErrUsage},
		{"wrapping for encryption only", tr31.B, "K1TEN", double2, "P0TBE", double1, "P0TBE", "", ErrUse},
		{"a raw-key key", tr31.B, "K0TBN", double2, "P0TBE", double1, "P0TBE", "", ErrUse},
		{"a PIN key", tr31.B, "P0TBN", double2, "P0TBE", double1, "P0TBE", "", ErrUse},
		{"version D under TDES", tr31.D, "K1TBN", double2, "P0TBE", double1, "P0TBE", "", tr31.ErrKey},
		{"version B under AES", tr31.B, "K1ABN", aes128, "P0TBE", double1, "P0TBE", "", tr31.ErrKey},
	} {
		wrappedUnder := c.key
		s, err := e.Import(loaded(t, e, c.wrapping, c.key), peerBlock(t, c.v, wrappedUnder, c.attributes, c.clear), ImportRequest{Want: spelled(c.want), CheckValue: unhex(t, c.kcv)})
		if !errors.Is(err, c.err) || (s.Block == nil) != (c.err != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if c.err == nil {
			if k, err := e.Load(s.Block); err != nil || k.CheckValue() != s.Check || k.Attributes() != spelled(c.want) {
				t.Errorf("%s does not load: %v", c.name, err)
			}
		}
	}
	wrong := loaded(t, e, "K1TBN", "1357024646758A9B0246135757468A9B")
	if _, err := e.Import(wrong, peerBlock(t, tr31.B, double2, "P0TBE", double1), ImportRequest{Want: spelled("P0TBE")}); !errors.Is(err, tr31.ErrMAC) {
		t.Errorf("under another key: %v", err)
	}
	if _, err := e.Import(wrong, []byte("B0080"), ImportRequest{Want: spelled("P0TBE")}); !errors.Is(err, tr31.ErrFormat) {
		t.Errorf("not a block: %v", err)
	}
}

func TestLegacyImport(t *testing.T) {
	e := engine(t)
	kbpk := loaded(t, e, "K1TBN", "EFE0853B256B583D868F251CE99EA1D9") // as published, odd by chance
	for _, block := range []string{
		"A0072K0TN00N0000F40D5672C6D0EC86F860BA88D44D00F0CA9A8CE8CD2F640287A9A9EB",
		"C0072K0TN00N0000C9B875FF7A5316BF221C09ED52080DE0B45632A4EA9CE87699CB565E",
		"B0080K0TN00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C228",
	} {
		r := ImportRequest{Want: spelled("K0TNN"), CheckValue: unhex(t, "5C9405")}
		_, err := e.Import(kbpk, []byte(block), r)
		if want := map[byte]error{'A': ErrLegacy, 'C': ErrLegacy}[block[0]]; !errors.Is(err, want) {
			t.Errorf("%s without legacy_import: %v", block, err)
		}
		r.LegacyImport = true
		if s, err := e.Import(kbpk, []byte(block), r); err != nil || s.Block[0] != 'D' {
			t.Errorf("%s: %v", block, err)
		}
	}
}

func TestOptionalBlocksAreKept(t *testing.T) {
	e := engine(t)
	h := spelled("P0TBE").header()
	if err := h.Add("XY", []byte("who knows")); err != nil {
		t.Fatal(err)
	}
	block, err := protector(t, tr31.B, key.TDES, unhex(t, double2)).Seal(h, unhex(t, double1), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Import(loaded(t, e, "K1TBN", double2), block, ImportRequest{Want: spelled("P0TBE")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tr31.ParseHeader(s.Block)
	if err != nil || !bytes.HasPrefix(got.Optional, []byte("XY0Dwho knows")) {
		t.Errorf("%s: %v", s.Block, err)
	}
}

func TestRawKeys(t *testing.T) {
	e := engine(t)
	kek := loaded(t, e, "K0TBN", double2)
	cryptogram := func(wrapping, clearHex string) []byte {
		k, err := key.New(key.TDES, unhex(t, wrapping))
		if err != nil {
			t.Fatal(err)
		}
		c, err := k.Cipher()
		if err != nil {
			t.Fatal(err)
		}
		out := unhex(t, clearHex)
		for i := 0; i < len(out); i += 8 {
			c.Encrypt(out[i:], out[i:])
		}
		return out
	}
	for _, c := range []struct {
		name       string
		wrapping   *Key
		cryptogram []byte
		want, kcv  string
		err        error
	}{
		{"good", kek, cryptogram(double2, double1), "P0TBS", "08D7B4", nil},
		{"good, two bytes", kek, cryptogram(double2, double1), "P0TBS", "08D7", nil},
		{"no check value", kek, cryptogram(double2, double1), "P0TBS", "", ErrCheckValue},
		{"another check value", kek, cryptogram(double2, double1), "P0TBS", "08D8", ErrCheckValue},
		{"another mode", kek, cryptogram(double2, double1), "P0TCS", "08D7B4", ErrMode},
		{"single", kek, cryptogram(double2, double1)[:8], "P0TBS", "08D7B4", ErrKeyLength},
		{"cut", kek, cryptogram(double2, double1)[:15], "P0TBS", "08D7B4", ErrKeyLength},
		{"empty", kek, nil, "P0TBS", "08D7B4", ErrKeyLength},
		{"too long", kek, make([]byte, 40), "P0TBS", "08D7B4", ErrKeyLength},
		{"equal halves", kek, cryptogram(double2, "0123456789ABCDEF0123456789ABCDEF"), "P0TBS", "D5D44F", ErrEqualParts},
		{"triple under double", kek, cryptogram(double2, triple1), "P0TBS", "08D7B4", ErrWrapping},
		{"under another key", kek, cryptogram(double1, double1), "P0TBS", "08D7B4", ErrParity},
		{"a block key", loaded(t, e, "K1TBN", double2), cryptogram(double2, double1), "P0TBS", "08D7B4", ErrUse},
		{"an AES key", loaded(t, e, "K0ABN", aes128), make([]byte, 16), "P0TBS", "08D7B4", ErrAlgorithm},
	} {
		s, err := e.ImportRaw(c.wrapping, c.cryptogram, ImportRequest{Want: spelled(c.want), CheckValue: unhex(t, c.kcv)})
		if !errors.Is(err, c.err) || (s.Block == nil) != (c.err != nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
	}
	out, check, err := e.ExportRaw(kek, stored(t, "P0TBS", double1))
	if err != nil || !bytes.Equal(out, cryptogram(double2, double1)) || check.String() != "08D7B4" {
		t.Errorf("exported %X %s %v", out, check, err)
	}
	for _, c := range []struct {
		attributes, key string
		wrapping        *Key
		err             error
	}{
		{"P0TBE", double1, kek, ErrNotExportable},
		{"P0TBN", double1, kek, ErrNotExportable},
		{"P0TBS", triple1, kek, ErrWrapping},
		{"P0TBS", double1, loaded(t, e, "K0TDN", double2), ErrUse},
		{"P0TBS", double1, loaded(t, e, "K0ABN", aes128), ErrAlgorithm},
		{"P0ABS", aes128, loaded(t, e, "K0ABN", aes128), ErrAlgorithm},
	} {
		if out, _, err := e.ExportRaw(c.wrapping, stored(t, c.attributes, c.key)); !errors.Is(err, c.err) || out != nil {
			t.Errorf("%s: %v, want %v", c.attributes, err, c.err)
		}
	}
}

func TestExport(t *testing.T) {
	e := engine(t)
	for _, c := range []struct {
		attributes, key string
		wrapping        string
		under           string
		version         byte
		err             error
	}{
		{"P0TBE", double1, "K1TBN", double2, 'B', nil},
		{"P0TBS", double1, "K1TEN", double2, 'B', nil},
		{"P0TBE", double1, "K1ABN", aes128, 'D', nil},
		{"P0ABE", aes256, "K1ABN", aes256, 'D', nil},
		{"P0TBN", double1, "K1ABN", aes256, 0, ErrNotExportable},
		{"P0TBE", triple1, "K1TBN", double2, 0, ErrWrapping},
		{"P0ABE", aes128, "K1TBN", triple1, 0, ErrWrapping},
		{"P0ABE", aes256, "K1ABN", aes128, 0, ErrWrapping},
		{"P0TBE", double1, "K1TDN", double2, 0, ErrUse},
		{"P0TBE", double1, "K0TBN", double2, 0, ErrUse},
		{"P0TBE", double1, "D0ABN", aes256, 0, ErrUse},
	} {
		wrapping := loaded(t, e, c.wrapping, c.under)
		s, err := e.Export(wrapping, stored(t, c.attributes, c.key))
		if !errors.Is(err, c.err) || (s.Block == nil) != (c.err != nil) {
			t.Errorf("%s under %s: %v, want %v", c.attributes, c.wrapping, err, c.err)
			continue
		}
		if c.err != nil {
			continue
		}
		_, secret, err := protector(t, tr31.Version(c.version), wrapping.attributes.Algorithm, unhex(t, c.under)).Open(s.Block)
		if err != nil || hex.EncodeToString(secret) != hex.EncodeToString(unhex(t, c.key)) || s.Block[0] != c.version {
			t.Errorf("%s under %s: a peer reads %v", c.attributes, c.wrapping, err)
		}
	}
	if _, err := e.Export(loaded(t, e, "K1ABN", aes256), []byte("D0016")); !errors.Is(err, tr31.ErrFormat) {
		t.Errorf("not a block: %v", err)
	}
}

func TestRewrap(t *testing.T) {
	e := engine(t)
	later, err := New(protector(t, tr31.D, key.AES, bytes.Repeat([]byte{1, 2, 3, 4}, 8)), rand.Reader, 1)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := e.BindTable(stored(t, "V1TVN", double1), []byte("0123456789012345"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range [][]byte{stored(t, "P0TBE", double1), stored(t, "B0AXN", aes256), bound.Block} {
		s, err := later.Rewrap(masterKey(t), block)
		if err != nil {
			t.Fatal(err)
		}
		before, err1 := e.Load(block)
		after, err2 := later.Load(s.Block)
		if err1 != nil || err2 != nil || before.CheckValue() != after.CheckValue() || before.Attributes() != after.Attributes() || before.table != after.table {
			t.Errorf("%v became %v: %v %v", before, after, err1, err2)
		}
		if _, err := later.Load(block); !errors.Is(err, tr31.ErrMAC) {
			t.Errorf("the earlier block under the later key: %v", err)
		}
	}
}

// Any bit of a stored block's header turned: not a key.
func TestFlippedHeaderIsNotLoaded(t *testing.T) {
	e := engine(t)
	block := stored(t, "P0TBE", double1)
	for bit := range 16 * 8 {
		bad := bytes.Clone(block)
		bad[bit/8] ^= 1 << (bit % 8)
		if k, err := e.Load(bad); err == nil || k != nil {
			t.Errorf("bit %d was not noticed: %s", bit, bad[:16])
		}
	}
}

// FuzzImport: whatever a peer sends, no panic, and what is taken in loads.
func FuzzImport(f *testing.F) {
	e := engine(f)
	wrapping := loaded(f, e, "K1TBN", "EFE0853B256B583D868F251CE99EA1D9")
	raw := loaded(f, e, "K0TBN", double2)
	f.Add([]byte("A0072K0TN00N0000F40D5672C6D0EC86F860BA88D44D00F0CA9A8CE8CD2F640287A9A9EB"), []byte{0x5C, 0x94})
	f.Add([]byte("B0080K0TN00N00001C414014375212C24995E405B5EE052CB92B67F455EA2680F6751088F9F1C228"), []byte{})
	f.Fuzz(func(t *testing.T, block, check []byte) {
		r := ImportRequest{Want: spelled("K0TNN"), LegacyImport: true, CheckValue: check}
		for _, take := range []func(*Key, []byte, ImportRequest) (Sealed, error){e.Import, e.ImportRaw} {
			for _, k := range []*Key{wrapping, raw} {
				if s, err := take(k, block, r); err == nil {
					if _, err := e.Load(s.Block); err != nil {
						t.Errorf("%q was taken and does not load: %v", block, err)
					}
				}
			}
		}
		if _, err := e.Load(block); err == nil {
			t.Errorf("%q is a key of ours", block)
		}
	})
}
