package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
	"authswitch/payment"
	"authswitch/store"
	"authswitch/vault"
)

// module is the security module in this process: its engine, its rules, and as
// many local master keys as it was given.
type module struct {
	t *testing.T

	mu         sync.Mutex
	protectors []*tr31.Protector
	engines    []*engine.Engine
	away       bool
	released   int
}

var errAway = errors.New("no security module can be reached")

func newModule(t *testing.T) *module {
	m := &module{t: t}
	m.newMaster()
	return m
}

func (m *module) newMaster() {
	m.t.Helper()
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	k, err := key.New(key.AES, b)
	if err != nil {
		m.t.Fatal(err)
	}
	p, err := tr31.New(tr31.D, &k)
	if err != nil {
		m.t.Fatal(err)
	}
	e, err := engine.New(p, rand.Reader, 8)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.protectors, m.engines = append(m.protectors, p), append(m.engines, e)
}

func (m *module) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// with runs an operation under the newest master key.
func (m *module) with(f func(e *engine.Engine) (engine.Sealed, error)) (hsm.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return hsm.Key{}, errAway
	}
	s, err := f(m.engines[len(m.engines)-1])
	return m.key(s, len(m.engines)), err
}

func (m *module) key(s engine.Sealed, master int) hsm.Key {
	a := s.Attributes
	return hsm.Key{
		Attributes: hsm.Attributes{Usage: [2]byte{byte(a.Usage >> 8), byte(a.Usage)}, Algorithm: byte(a.Algorithm), Mode: byte(a.Mode), Exportability: byte(a.Exportability)},
		KCV:        s.Check.Bytes(), Block: s.Block, Master: master,
	}
}

// load opens a block under whichever master key it is under.
func (m *module) load(block []byte) (*engine.Key, int, error) {
	var err error
	for i, e := range slices.Backward(m.engines) {
		var k *engine.Key
		if k, err = e.Load(block); !errors.Is(err, tr31.ErrMAC) {
			return k, i + 1, err
		}
	}
	return nil, 0, err
}

func attributes(a hsm.Attributes) engine.Attributes {
	return engine.Attributes{
		Usage: tr31.Usage(a.Usage[0])<<8 | tr31.Usage(a.Usage[1]), Algorithm: key.Algorithm(a.Algorithm), Mode: tr31.Mode(a.Mode), Exportability: tr31.Exportability(a.Exportability),
	}
}

func (m *module) Generate(a hsm.Attributes, n int, _ int64) (hsm.Key, error) {
	return m.with(func(e *engine.Engine) (engine.Sealed, error) { return e.Generate(attributes(a), n) })
}

func (m *module) ReleaseDataKey(dst *[32]byte, block []byte, _ int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errAway
	}
	k, _, err := m.load(block)
	if err != nil {
		return err
	}
	b, err := m.engines[0].ReleaseData(nil, k)
	copy(dst[:], b)
	m.released++
	return err
}

func (m *module) Rewrap(block []byte, _ int64) (hsm.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return hsm.Key{}, errAway
	}
	_, under, err := m.load(block)
	if err != nil {
		return hsm.Key{}, err
	}
	s, err := m.engines[len(m.engines)-1].Rewrap(m.protectors[under-1], block)
	return m.key(s, len(m.engines)), err
}

func (m *module) Status(int64) (hsm.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return hsm.Status{}, errAway
	}
	s := hsm.Status{}
	for i := range m.engines {
		s.Masters = append(s.Masters, i+1)
	}
	return s, nil
}

func (m *module) Import(kek, sent []byte, r hsm.ImportRequest, _ int64) (hsm.Key, error) {
	return m.with(func(e *engine.Engine) (engine.Sealed, error) {
		wrapping, _, err := m.load(kek)
		if err != nil {
			return engine.Sealed{}, err
		}
		q := engine.ImportRequest{Want: attributes(r.Want), LegacyImport: r.LegacyImport, CheckValue: r.CheckValue}
		if r.Form == hsm.Raw {
			return e.ImportRaw(wrapping, sent, q)
		}
		return e.Import(wrapping, sent, q)
	})
}

func (m *module) Export(kek, block []byte, form hsm.Form, _ int64) (hsm.Exported, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wrapping, _, err := m.load(kek)
	if err != nil {
		return hsm.Exported{}, err
	}
	_, under, err := m.load(block)
	if err != nil {
		return hsm.Exported{}, err
	}
	if form == hsm.Raw {
		sent, check, err := m.engines[under-1].ExportRaw(wrapping, block)
		return hsm.Exported{Sent: sent, KCV: check.Bytes()}, err
	}
	s, err := m.engines[under-1].Export(wrapping, block)
	return hsm.Exported{Sent: s.Block, KCV: s.Check.Bytes()}, err
}

func (m *module) KCV(block []byte, _ int64) (hsm.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, under, err := m.load(block)
	if err != nil {
		return hsm.Key{}, err
	}
	return m.key(engine.Sealed{Attributes: k.Attributes(), Check: k.CheckValue(), Block: block}, under), nil
}

// combined is a key that two parties know: as the switch stores it, and as its
// peer has it.
func (m *module) combined(letters, clearHex string) (stored []byte, peer *tr31.Protector) {
	m.t.Helper()
	b, err := hex.DecodeString(clearHex)
	if err != nil {
		m.t.Fatal(err)
	}
	mask := make([]byte, len(b))
	_, _ = rand.Read(mask)
	other := make([]byte, len(b))
	for i := range b {
		other[i] = b[i] ^ mask[i]
	}
	a, err := hsm.ParseAttributes(letters)
	if err != nil {
		m.t.Fatal(err)
	}
	s, err := m.engines[0].Combine(attributes(a), mask, other)
	if err != nil {
		m.t.Fatal(err)
	}
	k, err := key.New(key.Algorithm(a.Algorithm), b)
	if err != nil {
		m.t.Fatal(err)
	}
	version := tr31.D
	if a.Algorithm == 'T' {
		version = tr31.B
	}
	if peer, err = tr31.New(version, &k); err != nil {
		m.t.Fatal(err)
	}
	return s.Block, peer
}

type bench struct {
	*Keyring
	module  *module
	store   *store.Store
	vault   *vault.Vault
	ahead   atomic.Int64 // of the wall clock
	leading atomic.Bool
	metrics *prometheus.Registry
}

func (b *bench) now() payment.Instant {
	return payment.Instant(time.Now().UnixNano() + b.ahead.Load())
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{module: newModule(t), metrics: prometheus.NewRegistry()}
	b.leading.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	b.store, err = store.Start(ctx, store.Config{Node: "n1", Dir: "n1", HeartbeatTimeout: 50 * time.Millisecond, MemtableBytes: 4 << 20, BlockCacheBytes: 8 << 20},
		store.Deps{Now: b.now, Rand: rand.Reader, FS: vfs.NewMem(), Fail: func(err error) { t.Errorf("the store failed: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.store.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if b.vault, err = vault.New(rand.Reader); err != nil {
		t.Fatal(err)
	}
	b.Keyring, err = New(Config{Preload: 20 * time.Millisecond, Look: 20 * time.Millisecond}, Deps{
		Reader: b.store, Writer: b.store, Module: b.module, Exchange: b.module, Vault: b.vault, Leads: b.leading.Load,
		Links: []payment.LinkName{"cb-a", "visa-a"}, Now: b.now, Log: slog.New(slog.DiscardHandler), Registerer: b.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// looks is what Run does, until nothing is left to do.
func (b *bench) looks(t *testing.T) {
	t.Helper()
	for range 5 {
		if err := b.look(); err != nil {
			t.Fatal(err)
		}
	}
}

// The vault's keys are made once, rotated by age, and survive all of it.
func TestVaultKeys(t *testing.T) {
	b := newBench(t)
	if len(b.Missing()) == 0 {
		t.Error("ready without a key")
	}
	b.looks(t)
	first := b.vault.Key()
	if first == 0 || len(b.Missing()) != 0 {
		t.Fatalf("no key: %v", b.Missing())
	}
	if n := b.module.released; n != 2 {
		t.Errorf("%d keys released, want the data key and the blind-index key", n)
	}
	b.looks(t)
	if b.vault.Key() != first || len(b.Keys()) != 2 || b.module.released != 2 {
		t.Error("something changed though nothing was due")
	}
	b.ahead.Store(int64(25 * time.Hour))
	if err := b.look(); err != nil {
		t.Fatal(err)
	}
	if b.vault.Key() != first || b.store.Ring().Pending(payment.VaultKeys, payment.KeyData) == nil {
		t.Error("a new key is used before every node had the time to load it")
	}
	b.ahead.Add(int64(time.Minute))
	b.looks(t)
	second := b.vault.Key()
	if second == first || b.store.Ring().Key(first).State != payment.KeyDecryptOnly {
		t.Errorf("after a day: %s, before it %s", second, first)
	}
	if len(b.loaded) != 2 {
		t.Errorf("%d clear keys in memory, want two", len(b.loaded))
	}
	index := b.store.Ring().ActiveKey(payment.VaultKeys, payment.KeyBlindIndex)
	if index.Version != 1 {
		t.Error("the blind-index key was rotated")
	}
	b.wipe()
	if len(b.loaded) != 0 {
		t.Error("clear keys are left after the stop")
	}
}

// A node that does not lead makes nothing and loads what the leader made; a
// module that is away delays, and takes nothing away.
func TestFollowsAndWaits(t *testing.T) {
	b := newBench(t)
	b.leading.Store(false)
	if err := b.look(); !errors.Is(err, errNoVaultKeys) || len(b.Keys()) != 0 {
		t.Fatalf("%v", err)
	}
	b.leading.Store(true)
	b.module.setAway(true)
	if err := b.look(); !errors.Is(err, errAway) || len(b.Missing()) != 1 {
		t.Fatalf("%v %v", err, b.Missing())
	}
	b.module.setAway(false)
	b.looks(t)
	key := b.vault.Key()
	b.module.setAway(true)
	b.ahead.Store(int64(25 * time.Hour))
	if err := b.look(); !errors.Is(err, errAway) || b.vault.Key() != key || len(b.Missing()) != 0 {
		t.Errorf("away with a key: %v, %s, %v", err, b.vault.Key(), b.Missing())
	}
}

// Run does it all without being asked, and ends.
func TestRun(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { b.Run(ctx); close(done) }()
	until(t, "a data key", func() bool { return b.vault.Key() != 0 })
	before := b.vault.Key()
	if _, err := b.RotateData(); err != nil {
		t.Fatal(err)
	}
	until(t, "the next data key", func() bool { return b.vault.Key() > before })
	b.module.newMaster()
	until(t, "every key under the new master key", func() bool {
		for _, k := range b.Keys() {
			if k.Master != 2 {
				return false
			}
		}
		return true
	})
	cancel()
	<-done
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

// A rotation of the local master key wraps every block, and no key changes.
func TestRotateMaster(t *testing.T) {
	b := newBench(t)
	b.looks(t)
	made, err := b.Generate("cb-a", payment.KeyPIN, "P0TBE", 16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Advance(made.ID, payment.KeyActive, 0, false); err != nil {
		t.Fatal(err)
	}
	check := made.CheckValue
	b.module.newMaster()
	count, newest, err := b.RotateMaster()
	if err != nil || count != 3 || newest != 2 {
		t.Fatalf("%d keys under lmk/%d: %v", count, newest, err)
	}
	if count, _, err := b.RotateMaster(); err != nil || count != 0 {
		t.Errorf("again: %d, %v", count, err)
	}
	block, _, ok := b.store.Ring().Active("cb-a", payment.KeyPIN)
	k, under, err := b.module.load(block)
	if !ok || err != nil || under != 2 {
		t.Fatalf("under lmk/%d: %v", under, err)
	}
	if now := k.CheckValue(); !bytes.Equal(now.Bytes(), check) {
		t.Errorf("another key: %s", now)
	}
}

const (
	kekTDES = "0123456789ABCDEFFEDCBA98765432101357024646758A9B"
	kekAES  = "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1"
	weakKEK = "00112233445566778899AABBCCDDEEFF"
	pinKey  = "89ABCDEF0123456776543210FEDCBA98"
	macKey  = "13570246467589AB0123456789ABCDEF"
	aesKey  = "3F419E1CB7079442AA37474C2EFBF8B83F419E1CB7079442AA37474C2EFBF8B9"
)

// zoned is a bench whose link cb-a has its key-encrypting keys.
func zoned(t *testing.T, kek string) (*bench, *tr31.Protector) {
	t.Helper()
	b := newBench(t)
	var peer *tr31.Protector
	for _, k := range []struct{ letters, clear string }{{"K0TBN", kekTDES}, {"K1ABN", kek}} {
		var block []byte
		block, peer = b.module.combined(k.letters, k.clear)
		kept, err := b.Import(&ImportRequest{Link: "cb-a", Form: Stored, Letters: k.letters, Sent: block, Officers: [2]string{"anna", "bruno"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Advance(kept.ID, payment.KeyActive, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	return b, peer
}

// sent is a key block from the peer.
func sent(t *testing.T, peer *tr31.Protector, letters, clearHex string) []byte {
	t.Helper()
	b, err := hex.DecodeString(clearHex)
	if err != nil {
		t.Fatal(err)
	}
	h := tr31.Header{
		Usage: tr31.Usage(letters[0])<<8 | tr31.Usage(letters[1]), Algorithm: key.Algorithm(letters[2]), Mode: tr31.Mode(letters[3]), Exportability: tr31.Exportability(letters[4]),
	}
	block, err := peer.Seal(h, b, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func TestImportAndExport(t *testing.T) {
	b, peer := zoned(t, kekAES)
	pin, err := b.Import(&ImportRequest{Link: "cb-a", Form: Block, Letters: "P0TBE", Sent: sent(t, peer, "P0TBE", pinKey)})
	if err != nil || pin.Usage != payment.KeyPIN || pin.State != payment.KeyPending || len(pin.CheckValue) != 3 {
		t.Fatalf("%+v %v", pin, err)
	}
	if _, err := b.Advance(pin.ID, payment.KeyActive, 0, false); err != nil {
		t.Fatal(err)
	}
	out, err := b.Export(pin.ID, Block)
	if err != nil {
		t.Fatal(err)
	}
	h, secret, err := peer.Open(out.Sent)
	if err != nil || !strings.EqualFold(hex.EncodeToString(secret), pinKey) || h.Usage != tr31.PINEncryption || !bytes.Equal(out.KCV, pin.CheckValue) {
		t.Errorf("the peer cannot read what was exported: %v", err)
	}
}

// What is refused, and that the reason is said. One line each.
func TestImportRefused(t *testing.T) {
	b, peer := zoned(t, kekAES)
	good := sent(t, peer, "P0TBE", pinKey)
	if _, err := b.Import(&ImportRequest{Link: "cb-a", Form: Block, Letters: "P0TBE", Sent: good}); err != nil {
		t.Fatal(err)
	}
	before := len(b.Keys())
	fresh := sent(t, peer, "M3TCE", macKey)
	for _, c := range []struct {
		what string
		r    ImportRequest
		want string
	}{
		{"another link's name", ImportRequest{Link: "cb-x", Form: Block, Letters: "M3TCE", Sent: fresh}, `no link "cb-x"`},
		{"a link without a zone key", ImportRequest{Link: "visa-a", Form: Block, Letters: "M3TCE", Sent: fresh}, "visa-a has no active zone-block key"},
		{"no letters", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3", Sent: fresh}, "five letters"},
		{"letters that nothing is", ImportRequest{Link: "cb-a", Form: Block, Letters: "S0TCE", Sent: fresh}, "no key of usage S0"},
		{"wrong usage", ImportRequest{Link: "cb-a", Form: Block, Letters: "M1TCE", Sent: fresh}, engine.ErrDisagrees.Error()},
		{"wrong algorithm", ImportRequest{Link: "cb-a", Form: Block, Letters: "M6ACE", Sent: fresh}, engine.ErrDisagrees.Error()},
		{"wrong mode", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TVE", Sent: fresh}, engine.ErrDisagrees.Error()},
		{"wrong exportability", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TCN", Sent: fresh}, engine.ErrDisagrees.Error()},
		{"wrong check value", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TCE", Sent: fresh, CheckValue: []byte{1, 2, 3}}, engine.ErrCheckValue.Error()},
		{"wrong length under a valid MAC", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TCE", Sent: sent(t, peer, "M3TCE", kekTDES)}, engine.ErrKeyLength.Error()},
		{"a raw cryptogram without check value", ImportRequest{Link: "cb-a", Form: Raw, Letters: "M3TCE", Sent: make([]byte, 16)}, engine.ErrCheckValue.Error()},
		{"no form", ImportRequest{Link: "cb-a", Letters: "M3TCE", Sent: fresh}, "none of tr31, raw, stored"},
		{"a data key", ImportRequest{Link: "cb-a", Form: Block, Letters: "D0ABN", Sent: sent(t, peer, "D0ABN", aesKey)}, "never imported"},
		{"the vault's", ImportRequest{Link: payment.VaultKeys, Form: Block, Letters: "M3TCE", Sent: fresh}, "never imported"},
		{"the same key again", ImportRequest{Link: "cb-a", Form: Block, Letters: "P0TBE", Sent: sent(t, peer, "P0TBE", pinKey)}, "already kept"},
		{"expired already", ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TCE", Sent: fresh, NotAfter: 1}, payment.ErrKeyDates.Error()},
	} {
		k, err := b.Import(&c.r)
		if err == nil || !strings.Contains(err.Error(), c.want) || k != nil {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	for i := range 16 {
		for bit := range 8 {
			flipped := bytes.Clone(fresh)
			flipped[i] ^= 1 << bit
			if k, err := b.Import(&ImportRequest{Link: "cb-a", Form: Block, Letters: "M3TCE", Sent: flipped}); !errors.Is(err, ErrRefused) || k != nil {
				t.Errorf("bit %d of character %d of the header: %v", bit, i, err)
			}
		}
	}
	if n := len(b.Keys()); n != before {
		t.Errorf("%d keys of refused imports are kept", n-before)
	}
}

// A key under a weaker one does not come in, and does not go out.
func TestWeakerWrapping(t *testing.T) {
	b, peer := zoned(t, weakKEK)
	if _, err := b.Import(&ImportRequest{Link: "cb-a", Form: Block, Letters: "P0ABE", Sent: sent(t, peer, "P0ABE", aesKey)}); err == nil || !strings.Contains(err.Error(), engine.ErrWrapping.Error()) {
		t.Errorf("in: %v", err)
	}
	made, err := b.Generate("cb-a", payment.KeyPIN, "P0ABE", 32)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Export(made.ID, Block); err == nil || !strings.Contains(err.Error(), engine.ErrWrapping.Error()) {
		t.Errorf("out: %v", err)
	}
}

func TestExportRefused(t *testing.T) {
	b, _ := zoned(t, kekAES)
	b.looks(t)
	stays, err := b.Generate("cb-a", payment.KeyMAC, "M3TCN", 16)
	if err != nil {
		t.Fatal(err)
	}
	retired, err := b.Generate("cb-a", payment.KeyPIN, "P0TBE", 16)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Advance(retired.ID, payment.KeyRetired, 0, false); err != nil {
		t.Fatal(err)
	}
	data := b.store.Ring().ActiveKey(payment.VaultKeys, payment.KeyData)
	for _, c := range []struct {
		id   payment.KeyID
		form Form
		want string
	}{
		{stays.ID, Block, engine.ErrNotExportable.Error()},
		{stays.ID, Raw, engine.ErrNotExportable.Error()},
		{stays.ID, Stored, "neither tr31 nor raw"},
		{retired.ID, Block, "is retired"},
		{data.ID, Block, "vault has no active zone-block key"},
		{99, Block, "no such key"},
	} {
		if out, err := b.Export(c.id, c.form); err == nil || !strings.Contains(err.Error(), c.want) || out != nil {
			t.Errorf("%s %s: %v, want %q", c.id, c.form, err, c.want)
		}
	}
}

func TestAdvanceRefused(t *testing.T) {
	b := newBench(t)
	b.looks(t)
	data, index := b.store.Ring().ActiveKey(payment.VaultKeys, payment.KeyData), b.store.Ring().ActiveKey(payment.VaultKeys, payment.KeyBlindIndex)
	made, err := b.Generate("cb-a", payment.KeyPIN, "P0TBE", 16)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   payment.KeyID
		to   payment.KeyState
		want string
	}{
		{data.ID, payment.KeyRetired, "could never be opened again"},
		{index.ID, payment.KeyRetired, "could never be opened again"},
		{made.ID, payment.KeyDestroyed, "is pending and cannot become destroyed"},
		{99, payment.KeyActive, "no such key"},
	} {
		if _, err := b.Advance(c.id, c.to, 0, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v, want %q", c.id, c.to, err, c.want)
		}
	}
	for _, c := range []struct {
		link    payment.LinkName
		usage   payment.KeyUsage
		letters string
		want    string
	}{
		{payment.VaultKeys, payment.KeyBlindIndex, "D0AEN", "one blind-index key"},
		{"cb-a", payment.KeyMAC, "", "no active mac key"},
		{"cb-a", payment.KeyMAC, "P0TBE", "is a pin key"},
		{"nowhere", payment.KeyMAC, "M3TCE", "no link"},
		{"cb-a", payment.KeyMAC, "M3TXE", "wrong mode"},
	} {
		if _, err := b.Generate(c.link, c.usage, c.letters, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	b := newBench(t)
	b.looks(t)
	families, err := b.Keyring.deps.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range families {
		found[f.GetName()] = len(f.GetMetric())
	}
	for name, n := range map[string]int{"working_keys": 2, "working_key_expires_seconds": 1, "working_key_age_seconds": 2, "working_keys_under_earlier_lmk": 1} {
		if found[name] != n {
			t.Errorf("%s: %d, want %d", name, found[name], n)
		}
	}
}

func TestConfig(t *testing.T) {
	c := Config{}.WithDefaults()
	if faults := c.Validate(); len(faults) != 0 {
		t.Errorf("the defaults: %v", faults)
	}
	bad := Config{DataKeyEvery: 10 * 24 * time.Hour, Preload: time.Hour, Look: 2 * time.Hour}.WithDefaults()
	if faults := bad.Validate(); len(faults) != 2 {
		t.Errorf("%v", faults)
	}
}
