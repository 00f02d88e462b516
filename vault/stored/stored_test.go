package stored

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/payment"
	"authswitch/vault"
)

// module opens cards as the security module does: by key block, and only what
// belongs together.
type module struct {
	t     *testing.T
	mu    sync.Mutex
	keys  map[string][32]byte // by block
	asked []int               // cards of each question
	why   []hsm.Purpose       // of each question
	err   error
	slow  time.Duration
}

func (m *module) DecryptCards(p hsm.Purpose, block []byte, cards []hsm.Sealed, _ int64) error {
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked, m.why = append(m.asked, len(cards)), append(m.why, p)
	if m.err != nil {
		return m.err
	}
	key, ok := m.keys[string(block)]
	if !ok {
		return errors.New("not a key for this")
	}
	b, err := aes.NewCipher(key[:])
	if err != nil {
		m.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range cards {
		c := &cards[i]
		c.Plain, err = aead.Open(c.Plain[:0], c.Ciphertext[:12], c.Ciphertext[12:], c.AAD)
		c.OK = err == nil
	}
	return nil
}

// bench is cards sealed under two data keys, of which the second one seals now.
type bench struct {
	*Cards
	module *module
	now    func() payment.Instant
}

const merchant = payment.MerchantID("parcels")

func testCard(t testing.TB) *card.Card {
	t.Helper()
	pan, err := card.ParsePAN([]byte("4970100000000154"))
	if err != nil {
		t.Fatal(err)
	}
	expiry, err := card.ParseExpiry([]byte("3012"))
	if err != nil {
		t.Fatal(err)
	}
	return &card.Card{PAN: pan, Expiry: expiry}
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	v, err := vault.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &module{t: t, keys: map[string][32]byte{"D-17": {17}, "D-18": {18}}}
	ring := payment.NewKeyRing(1, []*payment.Key{
		{ID: 17, Link: payment.VaultKeys, Usage: payment.KeyData, State: payment.KeyDecryptOnly, Block: []byte("D-17")},
		{ID: 18, Link: payment.VaultKeys, Usage: payment.KeyData, State: payment.KeyActive, Block: []byte("D-18")},
		{ID: 19, Link: "cb-a", Usage: payment.KeyPIN, State: payment.KeyActive, Block: []byte("D-19")},
	})
	now := func() payment.Instant { return payment.Instant(time.Now().UnixNano()) }
	c, err := New(cfg, Deps{Vault: v, Module: m, Ring: func() *payment.KeyRing { return ring }, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Cards: c, module: m, now: now}
}

// sealed is a payment whose card was sealed under a data key.
func (b *bench) sealed(t *testing.T, n int, key payment.KeyID) *payment.Intent {
	t.Helper()
	data, index := [32]byte{byte(key)}, [32]byte{1}
	if err := b.Use(key, &data, &index); err != nil {
		t.Fatal(err)
	}
	i := &payment.Intent{ID: payment.ID{byte(n >> 8), byte(n), 1}, Merchant: merchant}
	var err error
	if i.Sealed, err = b.Seal(nil, testCard(t), merchant, i.ID); err != nil {
		t.Fatal(err)
	}
	return i
}

// running runs the cards for the length of a test in fake time.
func running(t *testing.T, cfg Config, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.Run(ctx); close(done) }()
		f(t, b)
		cancel()
		<-done
		if b.held.size() != 0 {
			t.Error("cards are held after the stop")
		}
	})
}

func TestOpen(t *testing.T) {
	running(t, Config{}, func(t *testing.T, b *bench) {
		earlier, current := b.sealed(t, 1, 17), b.sealed(t, 2, 18)
		for _, i := range []*payment.Intent{earlier, current} {
			var c card.Card
			if err := b.Open(&c, i); err != nil || string(c.PAN.RevealPAN()) != "4970100000000154" || string(c.Expiry.RevealExpiry()) != "3012" {
				t.Errorf("%v", err)
			}
		}
		other := *current
		other.Merchant = "another"
		flipped := *current
		flipped.Sealed = append([]byte(nil), current.Sealed...)
		flipped.Sealed[20] ^= 1
		stranger := b.sealed(t, 3, 99)
		pin := b.sealed(t, 4, 19) // a number that names a key of another use
		for _, x := range []struct {
			what string
			i    *payment.Intent
			want error
		}{
			{"another merchant", &other, vault.ErrAltered},
			{"a flipped bit", &flipped, vault.ErrAltered},
			{"a key that is not kept", stranger, vault.ErrUnknownKey},
			{"a PIN key", pin, vault.ErrUnknownKey},
			{"nothing", &payment.Intent{}, vault.ErrEnvelope},
		} {
			var c card.Card
			if err := b.Open(&c, x.i); !errors.Is(err, x.want) || errors.Is(err, payment.ErrUnavailable) || c.PAN.Present() {
				t.Errorf("%s: %v, want %v", x.what, err, x.want)
			}
		}
	})
}

// Many callers are one question, and a caller is never given another's card.
func TestBatches(t *testing.T) {
	running(t, Config{}, func(t *testing.T, b *bench) {
		b.module.slow = 5 * time.Millisecond
		intents := make([]*payment.Intent, 300)
		for n := range intents {
			intents[n] = b.sealed(t, n, []payment.KeyID{17, 18}[n%7/6])
		}
		var all sync.WaitGroup
		for _, i := range intents {
			all.Go(func() {
				var c card.Card
				if err := b.Open(&c, i); err != nil || !c.PAN.Present() {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		opened := 0
		for _, n := range b.module.asked {
			if n > hsm.MaxCards {
				t.Errorf("a question of %d cards", n)
			}
			opened += n
		}
		if opened != len(intents) || len(b.module.asked) > 20 {
			t.Errorf("%d cards in %d questions", opened, len(b.module.asked))
		}
	})
}

// A module that is away refuses nothing for good, and a card that is held needs
// none.
func TestModuleAway(t *testing.T) {
	running(t, Config{}, func(t *testing.T, b *bench) {
		i := b.sealed(t, 1, 18)
		b.module.err = errors.New("no security module can be reached")
		var c card.Card
		if err := b.Open(&c, i); !errors.Is(err, payment.ErrUnavailable) || c.PAN.Present() {
			t.Errorf("away: %v", err)
		}
		b.Hold(testCard(t), i.ID)
		if err := b.Open(&c, i); err != nil || string(c.PAN.RevealPAN()) != "4970100000000154" {
			t.Errorf("held: %v", err)
		}
		c.Wipe()
		b.Forget(i.ID)
		if err := b.Open(&c, i); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("forgotten: %v", err)
		}
		b.Hold(testCard(t), i.ID)
		time.Sleep(62 * time.Second)
		if err := b.Open(&c, i); !errors.Is(err, payment.ErrUnavailable) || b.held.size() != 0 {
			t.Errorf("after a minute: %v", err)
		}
		b.module.mu.Lock()
		b.module.err = nil
		b.module.mu.Unlock()
		if err := b.Open(&c, i); err != nil {
			t.Errorf("back: %v", err)
		}
	})
}

// A full queue and a stopped vault answer; nobody waits for ever.
func TestFullAndStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{Queue: 2})
		i := b.sealed(t, 1, 18)
		errs := make(chan error, 3)
		for range 3 {
			go func() { errs <- b.Open(new(card.Card), i) }()
		}
		synctest.Wait() // two wait, nobody asks
		if err := <-errs; !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("full: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.Run(ctx)
		for range 2 {
			// Opened by an asker that saw them before the stop, or refused.
			if err := <-errs; err != nil && !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("stopped: %v", err)
			}
		}
		for range 10 {
			if err := b.Open(new(card.Card), i); !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("after the stop: %v", err)
			}
		}
	})
}

// What was sealed under a key file opens without a module.
func TestKeyFile(t *testing.T) {
	root := plainRoot{}
	wrapped, err := vault.Generate(root, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(root, wrapped, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{}, Deps{Vault: v, Ring: func() *payment.KeyRing { return nil }, Now: func() payment.Instant { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	i := &payment.Intent{ID: payment.ID{1}, Merchant: merchant}
	if i.Sealed, err = c.Seal(nil, testCard(t), merchant, i.ID); err != nil {
		t.Fatal(err)
	}
	var out card.Card
	if err := c.Open(&out, i); err != nil || !out.PAN.Present() {
		t.Errorf("%v", err)
	}
	i.Sealed[0] = 2 // looks like the module's
	if err := c.Open(&out, i); !errors.Is(err, vault.ErrUnknownKey) {
		t.Errorf("%v", err)
	}
}

type plainRoot struct{}

func (plainRoot) Wrap(key []byte) ([]byte, error)       { return append([]byte(nil), key...), nil }
func (plainRoot) Unwrap(wrapped []byte) ([]byte, error) { return append([]byte(nil), wrapped...), nil }

// The held cards never exceed their room, forget the oldest first, and leave
// nothing of a card that went.
func TestHeld(t *testing.T) {
	var h held
	h.init(4)
	c := testCard(t)
	id := func(n int) payment.ID { return payment.ID{byte(n)} }
	var out card.Card
	for n := 1; n <= 6; n++ {
		h.add(c, id(n), payment.Instant(n))
	}
	h.add(c, id(6), 7) // again
	for n := 1; n <= 6; n++ {
		if got := h.find(&out, id(n)); got != (n > 3) && n != 3 {
			t.Errorf("%d: %v", n, got)
		}
	}
	h.remove(id(5))
	h.remove(id(99))
	h.expire(7)
	if h.size() != 1 || !h.find(&out, id(6)) {
		t.Errorf("%d are left", h.size())
	}
	for n := range 1000 {
		h.add(c, id(n%200+1), payment.Instant(10+n))
		if n%3 == 0 {
			h.remove(id(n % 200))
		}
		if h.size() > 4 || h.count > 4 {
			t.Fatalf("%d of 4", h.size())
		}
	}
	h.wipe()
	if h.size() != 0 {
		t.Error("not wiped")
	}
	for _, s := range h.slots {
		if s != (slot{}) {
			t.Error("a card is left")
		}
	}
	if n := testing.AllocsPerRun(1000, func() { h.add(c, id(1), 1); h.remove(id(1)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
