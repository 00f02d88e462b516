package merchant

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/payment"
)

func testHasher(t testing.TB, b byte) *Hasher {
	t.Helper()
	h, err := NewHasher(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAuthenticate(t *testing.T) {
	h := testHasher(t, 1)
	key := func(k string) string { return h.Hash([]byte(k)).String() }
	d, err := New([]Config{{ID: "parcels", Name: "Parcels Ltd"}, {ID: "books"}}, []GatewayConfig{
		{ID: "shop", KeyHashes: []string{key("old"), key("new")}, Merchants: []payment.MerchantID{"parcels", "books", "parcels"}},
		{ID: "library", KeyHashes: []string{key("lib")}, Merchants: []payment.MerchantID{"books"}},
	}, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]payment.GatewayID{"old": "shop", "new": "shop", "lib": "library", "": "", "neW": "", "newx": "", "parcels": ""} {
		var got payment.GatewayID
		if g := d.Authenticate([]byte(key)); g != nil {
			got = g.ID()
		}
		if got != want {
			t.Errorf("key %q is %q's, want %q", key, got, want)
		}
	}
	shop, library := d.Authenticate([]byte("new")), d.Authenticate([]byte("lib"))
	if m := shop.Merchants(); len(m) != 2 || m[0] != "books" || m[1] != "parcels" {
		t.Errorf("the shop acts for %v", m)
	}
	if m, ok := library.Merchant([]byte("books")); !ok || m != "books" {
		t.Errorf("the library's books: %q %t", m, ok)
	}
	if _, ok := library.Merchant([]byte("parcels")); ok || library.Acts("parcels") || !library.Acts("books") {
		t.Error("the library acts for parcels")
	}
	if m, ok := d.Merchant("books"); !ok || m.Name != "books" {
		t.Errorf("books: %+v %t", m, ok)
	}
	if all := d.Merchants(); len(all) != 2 || all[0].ID != "books" || all[1].Name != "Parcels Ltd" {
		t.Errorf("all: %+v", all)
	}
	given := []byte("new")
	if n := testing.AllocsPerRun(100, func() { d.Authenticate(given) }); n != 0 && pooling {
		t.Errorf("%v allocations to authenticate", n)
	}
}

// TestPepper: a hash is worth nothing under another pepper.
func TestPepper(t *testing.T) {
	one, other := testHasher(t, 1), testHasher(t, 2)
	if one.Hash([]byte("k")).Equal(other.Hash([]byte("k"))) {
		t.Error("two peppers give one hash")
	}
	if !one.Hash([]byte("k")).Equal(one.Hash([]byte("k"))) || one.Hash([]byte("k")).Equal(one.Hash([]byte("K"))) {
		t.Error("a hash is not one key's")
	}
	for _, size := range []int{0, 31, 1025} {
		if _, err := NewHasher(make([]byte, size)); !errors.Is(err, ErrPepper) {
			t.Errorf("a pepper of %d bytes: %v", size, err)
		}
	}
}

// TestHashVector pins what configuration files hold. Computed with: printf 'ask_example' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01
func TestHashVector(t *testing.T) {
	const want = "ed459bcb56ca66e539dbf71c6925f4ab21322376d3baffe6062b21e11cae4886"
	if got := testHasher(t, 1).Hash([]byte("ask_example")).String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFaults(t *testing.T) {
	h := testHasher(t, 1)
	good := h.Hash([]byte("k")).String()
	_, err := New([]Config{{ID: "Parcels"}, {ID: "books"}, {ID: "books"}}, []GatewayConfig{
		{ID: "a", KeyHashes: []string{good}, Merchants: []payment.MerchantID{"books"}},
		{ID: "a", KeyHashes: []string{good}, Merchants: []payment.MerchantID{"nobody"}},
		{ID: ""},
		{ID: "b", KeyHashes: []string{"xyz", strings.Repeat("g", 64)}, Merchants: []payment.MerchantID{"books"}, RatePerSecond: -1},
		{ID: "c", KeyHashes: []string{h.Hash([]byte("c")).String()}, Merchants: []payment.MerchantID{"books"}, RatePerSecond: 0.5},
	}, nil, h)
	for _, want := range []error{ErrName, ErrDuplicate, ErrUnknown, ErrScope, ErrNoKey, ErrHash, ErrRate} {
		if !errors.Is(err, want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	for _, want := range []string{
		`merchant "Parcels": id`, `merchant "books": named twice`, `gateway "a": named twice`, `gateway "a": key_hashes[0]: named twice`,
		`gateway "a": merchant "nobody": no such merchant`, `gateway "": id`, `gateway "b": key_hashes[1]: not a key hash`, `gateway "c": rate_per_second`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(&GatewayConfig{ID: "shop", RatePerSecond: 2, Burst: 3}, nil)
		for i := range 3 {
			if _, ok := g.Allow(); !ok {
				t.Errorf("request %d of the burst is refused", i)
			}
		}
		wait, ok := g.Allow()
		if ok || wait != 500*time.Millisecond {
			t.Errorf("over the burst: %v %t", wait, ok)
		}
		time.Sleep(wait)
		if _, ok := g.Allow(); !ok {
			t.Error("refused after the wait it was told")
		}
		if _, ok := g.Allow(); ok {
			t.Error("a place was given twice")
		}
		free := newGateway(&GatewayConfig{ID: "free"}, nil)
		for range 10_000 {
			if _, ok := free.Allow(); !ok {
				t.Fatal("a gateway without a limit is limited")
			}
		}
		second := newGateway(&GatewayConfig{ID: "second", RatePerSecond: 2.5}, nil)
		for range 3 { // one second's worth, rounded up
			if _, ok := second.Allow(); !ok {
				t.Error("the default burst is too small")
			}
		}
	})
}

func TestNewKey(t *testing.T) {
	one, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey(rand.Reader)
	if err != nil || one == other || !strings.HasPrefix(one, KeyPrefix) || len(one) != len(KeyPrefix)+43 {
		t.Errorf("keys %q and %q, %v", one, other, err)
	}
	if _, err := NewKey(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Error("a key of too little randomness")
	}
}

func TestReadPepper(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if b, err := ReadPepper(file("good", 32, 0o600)); err != nil || len(b) != 32 {
		t.Errorf("a good file: %v", err)
	}
	for path, want := range map[string]error{
		file("group", 32, 0o640): ErrPepperMode, file("world", 32, 0o604): ErrPepperMode, file("short", 31, 0o600): ErrPepper,
		file("long", 1025, 0o600): ErrPepper, filepath.Join(dir, "none"): os.ErrNotExist,
	} {
		if _, err := ReadPepper(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	h := testHasher(b, 1)
	d, err := New([]Config{{ID: "m"}}, []GatewayConfig{{ID: "g", KeyHashes: []string{h.Hash([]byte("k")).String()}, Merchants: []payment.MerchantID{"m"}}}, nil, h)
	if err != nil {
		b.Fatal(err)
	}
	key := []byte("k")
	b.ReportAllocs()
	for b.Loop() {
		d.Authenticate(key)
	}
}
