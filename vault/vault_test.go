package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

var testID = payment.ID{0x01, 0x99, 0xa0, 0xb1, 0xc2, 0xd3, 0x70, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0x2a}

const testMerchant = payment.MerchantID("parcels")

// seal seals for the test's payment.
func seal(t testing.TB, v *Vault, dst []byte, c *card.Card, id payment.ID) []byte {
	t.Helper()
	sealed, err := v.Seal(dst, c, testMerchant, id)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func testCard(t testing.TB, pan, expiry string) *card.Card {
	t.Helper()
	c := new(card.Card)
	var err error
	if c.PAN, err = card.ParsePAN([]byte(pan)); err != nil {
		t.Fatal(err)
	}
	if expiry != "" {
		if c.Expiry, err = card.ParseExpiry([]byte(expiry)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// knownVault has keys 00…1f and 20…3f and the nonce seed a5a5….
func knownVault(t testing.TB) *Vault {
	t.Helper()
	keys := make([]byte, 64)
	for i := range keys {
		keys[i] = byte(i)
	}
	v, err := newVault([][]byte{keys[:32]}, keys[32:], bytes.NewReader(bytes.Repeat([]byte{0xa5}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The expected values were computed by another implementation (Python's
// cryptography and hmac) from the layout in the comments.
func TestKnownAnswers(t *testing.T) {
	v := knownVault(t)
	c := testCard(t, "4970100000000154", "2712")
	sealed := seal(t, v, nil, c, testID)
	want := "01bcabe38d15440acab601948e000000004a1ff37c6950f26534cad0d1dcfdc6e969d09bfc522853183dd4da72b5680765bc567ca5feb6a257c9"
	if hex.EncodeToString(sealed) != want {
		t.Errorf("envelope\n%x\nwant\n%s", sealed, want)
	}
	index := v.BlindIndex(&c.PAN)
	if hex.EncodeToString(index[:]) != "dab0d56eda8a71853c248b52fd89b25aa1284b9d2d34daca3900f2272cf6e266" {
		t.Errorf("index %x", index)
	}
	fingerprint := v.Fingerprint(testAuthorization(t), index)
	if hex.EncodeToString(fingerprint[:]) != "dbf69ac98e51c5edb951f88de542c9c62640fd6829b4252bdea01a8dd19a5383" {
		t.Errorf("fingerprint %x", fingerprint)
	}
}

func TestRoundTrip(t *testing.T) {
	v := knownVault(t)
	for _, c := range []struct{ pan, expiry string }{
		{"4111111111111111", "2712"},
		{"5555555555554444", ""},
		{"378282246310005", "3001"},
		{"6250941006528599", "2912"},
	} {
		in := testCard(t, c.pan, c.expiry)
		sealed := seal(t, v, []byte("before"), in, testID)
		if len(sealed) != len("before")+SealedSize || string(sealed[:6]) != "before" {
			t.Fatalf("%v: Seal does not append one envelope", in.PAN)
		}
		if bytes.Contains(sealed, []byte(c.pan[:6])) {
			t.Errorf("%v: digits in the envelope", in.PAN)
		}
		var out card.Card
		out.CVV, _ = card.ParseCVV([]byte("123"))
		if err := v.Open(&out, sealed[6:], testID); err != nil {
			t.Fatalf("%v: %v", in.PAN, err)
		}
		if string(out.PAN.RevealPAN()) != c.pan || string(out.Expiry.RevealExpiry()) != c.expiry || !out.CVV.Present() {
			t.Errorf("%v: not what was sealed", in.PAN)
		}
	}
	var none, out card.Card
	if err := v.Open(&out, seal(t, v, nil, &none, testID), testID); err != nil || out.PAN.Present() {
		t.Errorf("an absent card: %v", err)
	}
}

// Every bit of the envelope counts, every other length is refused, and a
// refused envelope leaves the card as it was.
func TestTamper(t *testing.T) {
	v := knownVault(t)
	sealed := seal(t, v, nil, testCard(t, "4970100000000154", "2712"), testID)
	var out card.Card
	refuse := func(what string, b []byte, id payment.ID, want error) {
		t.Helper()
		if err := v.Open(&out, b, id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if out.PAN.Present() || out.Expiry.Present() {
			t.Fatalf("%s: card data came out", what)
		}
	}
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		want := ErrAltered
		switch {
		case i/8 < 1:
			want = ErrEnvelope
		case i/8 < 1+keyIDSize:
			want = ErrUnknownKey
		}
		refuse("flipped bit", bad, testID, want)
	}
	for n := range sealed {
		refuse("short", sealed[:n], testID, ErrEnvelope)
	}
	refuse("long", append(bytes.Clone(sealed), 0), testID, ErrEnvelope)
	refuse("nil", nil, testID, ErrEnvelope)
	other := testID
	other[15]++
	refuse("another payment's", sealed, other, ErrAltered)

	stranger, err := newVault([][]byte{bytes.Repeat([]byte{7}, 32)}, make([]byte, 32), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refuse("another vault's", seal(t, stranger, nil, testCard(t, "4111111111111111", ""), testID), testID, ErrUnknownKey)
	// The same id, another key: the tag is what refuses.
	stranger.keys.Load().data.id = v.keys.Load().data.id
	refuse("another key's", seal(t, stranger, nil, testCard(t, "4111111111111111", ""), testID), testID, ErrAltered)
}

// A vault with an older and a newer data key opens both and seals under the
// newer.
func TestTwoDataKeys(t *testing.T) {
	older, newer := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	open := func(keys ...[]byte) *Vault {
		v, err := newVault(keys, make([]byte, 32), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before, after, only := open(older), open(older, newer), open(newer)
	c := testCard(t, "4111111111111111", "2712")
	var out card.Card
	if err := after.Open(&out, seal(t, before, nil, c, testID), testID); err != nil {
		t.Errorf("sealed under the older key: %v", err)
	}
	sealed := seal(t, after, nil, c, testID)
	if err := only.Open(&out, sealed, testID); err != nil {
		t.Errorf("not sealed under the newer key: %v", err)
	}
	if err := before.Open(&out, sealed, testID); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("opened without the key: %v", err)
	}
}

// The plaintext is checked even though the tag holds: it may come from another
// version of the code.
func TestPlaintextIsChecked(t *testing.T) {
	for _, plain := range []string{
		"\x144970100000000154\x00\x00\x00\x00\x002712",
		"\x104970100000000155\x00\x00\x00\x042712",
		"\x104970100000000154\x00\x00\x00\x052712",
		"\x104970100000000154\x00\x00\x00\x042713",
		"\x104970100000000154\x00\x00\x00\x032712",
	} {
		sealed := make([]byte, PlainSize)
		copy(sealed, plain)
		var c card.Card
		if err := ReadPlain(&c, sealed); !errors.Is(err, ErrEnvelope) || c.PAN.Present() {
			t.Errorf("%v", err)
		}
	}
}

// Nonces never repeat: counted inside a block, and a new prefix in the next.
func TestNonces(t *testing.T) {
	v := knownVault(t)
	c := testCard(t, "4111111111111111", "2712")
	nonce := func() string { return string(seal(t, v, nil, c, testID)[1+keyIDSize : headerSize]) }
	seen := map[string]bool{}
	for _, start := range []uint64{0, 1<<32 - 500, 7<<32 - 500} {
		v.counter.Store(start)
		for range 1000 {
			n := nonce()
			if seen[n] {
				t.Fatalf("nonce %x twice", n)
			}
			seen[n] = true
		}
	}
	v.counter.Store(1 << 32)
	if got := hex.EncodeToString([]byte(nonce())); got != "466f25d4769cd60d00000000" {
		t.Errorf("first nonce of the second block: %s", got)
	}
	v.counter.Store(2)
	if got := hex.EncodeToString([]byte(nonce())); got != "15440acab601948e00000002" {
		t.Errorf("back in the first block: %s", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	v := knownVault(t)
	c := testCard(t, "4970100000000154", "2712")
	wantIndex := v.BlindIndex(&c.PAN)
	nonces := make([]map[string]bool, 4)
	var group sync.WaitGroup
	for g := range nonces {
		nonces[g] = map[string]bool{}
		group.Go(func() {
			for range 2000 {
				sealed := seal(t, v, nil, c, testID)
				nonces[g][string(sealed[1+keyIDSize:headerSize])] = true
				var out card.Card
				if err := v.Open(&out, sealed, testID); err != nil || string(out.PAN.RevealPAN()) != "4970100000000154" {
					t.Errorf("open: %v", err)
				}
				if v.BlindIndex(&c.PAN) != wantIndex {
					t.Error("index differs")
				}
			}
		})
	}
	group.Wait()
	all := map[string]bool{}
	for _, some := range nonces {
		for n := range some {
			all[n] = true
		}
	}
	if len(all) != 8000 {
		t.Errorf("%d different nonces of 8000", len(all))
	}
}

// No card data stays in the scratch space that goes back to the pool.
func TestScratchIsWiped(t *testing.T) {
	v := knownVault(t)
	k := v.keys.Load()
	s := k.scratch.Get().(*scratch)
	c := testCard(t, "4970100000000154", "2712")
	v.nextNonce(s)
	k.seal(nil, s, c, testMerchant, testID)
	s.authenticate(append(s.message[:0], c.PAN.RevealPAN()...))
	for _, b := range [][]byte{s.plain[:], s.message[:cap(s.message)], s.data[:cap(s.data)], s.sum[:]} {
		if bytes.Contains(b, []byte("497010")) {
			t.Error("card number left in scratch space")
		}
	}
	if s.authenticate(make([]byte, maxMessage+1)); s.message != nil {
		t.Error("a large message is kept")
	}
}

// Under the race detector sync.Pool drops a quarter of what is put back, so a
// call may make its scratch space anew: fewer than twenty allocations.
func TestAllocations(t *testing.T) {
	v := knownVault(t)
	a := testAuthorization(t)
	dst := make([]byte, 0, SealedSize)
	sealed := seal(t, v, nil, &a.Card, testID)
	var index [32]byte
	var out card.Card
	limit := 0.0
	if raceDetector {
		limit = 20
	}
	for name, f := range map[string]func(){
		"Seal":        func() { _, _ = v.Seal(dst, &a.Card, testMerchant, testID) },
		"BlindIndex":  func() { index = v.BlindIndex(&a.Card.PAN) },
		"Fingerprint": func() { index = v.Fingerprint(a, index) },
		"Open":        func() { _ = v.Open(&out, sealed, testID) },
	} {
		if n := testing.AllocsPerRun(500, f); n > limit {
			t.Errorf("%s: %v allocations, want at most %v", name, n, limit)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	v := knownVault(b)
	c := testCard(b, "4970100000000154", "2712")
	dst := make([]byte, 0, SealedSize)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = v.Seal(dst, c, testMerchant, testID)
	}
}

func BenchmarkBlindIndex(b *testing.B) {
	v := knownVault(b)
	c := testCard(b, "4970100000000154", "2712")
	b.ReportAllocs()
	for b.Loop() {
		v.BlindIndex(&c.PAN)
	}
}

func BenchmarkFingerprint(b *testing.B) {
	v := knownVault(b)
	a := testAuthorization(b)
	b.ReportAllocs()
	for b.Loop() {
		v.Fingerprint(a, [32]byte{1})
	}
}
