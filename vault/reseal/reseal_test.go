package reseal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/payment"
	"authswitch/vault"
)

// world is the journal and the module of one cluster.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	keys    []*payment.Key
	cards   []payment.StoredCard // by token
	resealt []time.Duration      // when each card was, since the start
	asked   int                  // questions to the module
	read    int                  // pages of cards
	away    bool
	used    map[payment.KeyID]bool // by something owed
	leading bool
	started time.Time
	vault   *vault.Vault
}

const merchant = payment.MerchantID("parcels")

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, leading: true, started: time.Now(), used: map[payment.KeyID]bool{}}
	var err error
	if w.vault, err = vault.New(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return w
}

// key adds a data key; the newest is the active one.
func (w *world) key() payment.KeyID {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, k := range w.keys {
		if k.State == payment.KeyActive {
			replaced := *k
			replaced.State, replaced.Changed = payment.KeyDecryptOnly, w.now()
			w.keys[i] = &replaced
		}
	}
	id := payment.KeyID(len(w.keys) + 1)
	w.keys = append(w.keys, &payment.Key{
		ID: id, Link: payment.VaultKeys, Usage: payment.KeyData, State: payment.KeyActive, Block: fmt.Appendf(nil, "D-%d", id), Changed: w.now(),
	})
	data, index := [32]byte{byte(id)}, [32]byte{1}
	if err := w.vault.Use(id, &data, &index); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) now() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// save stores cards as payments leave them: bound to the payment.
func (w *world) save(count int, seal func(dst []byte, c *card.Card, m payment.MerchantID, id payment.ID) ([]byte, error)) {
	w.t.Helper()
	pan, err := card.ParsePAN([]byte("4970100000000154"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for range count {
		n := len(w.cards)
		k := payment.StoredCard{Token: payment.ID{1, byte(n >> 8), byte(n)}, SealedFor: payment.ID{2, byte(n >> 8), byte(n)}, Merchant: merchant, Status: payment.CardActive}
		if k.Sealed, err = seal(nil, &card.Card{PAN: pan}, merchant, k.SealedFor); err != nil {
			w.t.Fatal(err)
		}
		w.cards = append(w.cards, k)
	}
}

func (w *world) Ring() *payment.KeyRing {
	w.mu.Lock()
	defer w.mu.Unlock()
	return payment.NewKeyRing(1, w.keys)
}

func (w *world) WorkingKeys() []*payment.Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.keys)
}

func (w *world) CardsBehind(token payment.ID, limit int) ([]payment.StoredCard, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read++
	var out []payment.StoredCard
	for _, k := range w.cards {
		if bytes.Compare(k.Token[:], token[:]) > 0 && len(out) < limit {
			out = append(out, k)
		}
	}
	return out, nil
}

func (w *world) CardsUnder() (map[payment.KeyID]uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[payment.KeyID]uint64{}
	for _, k := range w.cards {
		out[payment.SealedUnder(k.Sealed)]++
	}
	return out, nil
}

func (w *world) ResealCards(list []payment.CardReseal) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := 0
	for _, x := range list {
		for i := range w.cards {
			if k := &w.cards[i]; k.Token == x.Token && bytes.Equal(k.Sealed, x.Was) {
				k.Sealed, k.SealedFor = x.Sealed, k.Token
				w.resealt = append(w.resealt, time.Since(w.started))
				count++
			}
		}
	}
	return count, nil
}

func (w *world) AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error) {
	under, _ := w.CardsUnder()
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.RetireActive || under[a.ID] > 0 || w.used[a.ID] {
		return nil, payment.ErrKeyUsed
	}
	moved := *w.keys[a.ID-1]
	moved.State = a.To
	w.keys[a.ID-1] = &moved
	return &moved, nil
}

// module is the security module: here it opens with a vault under the key that
// the block names.
type module struct{ *world }

func (m module) ResealCards(from, to []byte, cards []hsm.Resealed, _ int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.away {
		return hsm.ErrUnavailable
	}
	for i := range cards {
		plain, err := open(from, cards[i].Ciphertext, cards[i].AAD)
		if cards[i].OK = err == nil; cards[i].OK {
			cards[i].Ciphertext = seal(to, plain, cards[i].Next)
		}
	}
	return nil
}

func (w *world) worker(cfg Config) *Worker {
	w.t.Helper()
	worker, err := New(cfg, Deps{
		Reader: w, Writer: w, Module: module{w}, Vault: w.vault, Now: w.now, Log: slog.New(slog.DiscardHandler),
		Leads: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.leading },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return worker
}

// run lets a worker run, as one process of its node does, until stop.
func (w *world) run(cfg Config) (stop func()) {
	worker := w.worker(cfg)
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { worker.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

func (w *world) expect(when string, want map[payment.KeyID]uint64) {
	w.t.Helper()
	if got, _ := w.CardsUnder(); !maps.Equal(got, want) {
		w.t.Errorf("%s: under the keys are %v, want %v", when, got, want)
	}
}

// Cards follow the data key at the pace that is set, are bound to their token
// from then on, and hold the same number.
func TestFollowsTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.key()
		w.save(300, w.vault.Seal)
		next := w.key()
		w.save(10, w.vault.Seal)
		stop := w.run(Config{PerSecond: 100})
		time.Sleep(20 * time.Second)
		stop()
		w.expect("in the end", map[payment.KeyID]uint64{next: 310})
		for i := range w.resealt {
			// Not more than the pace allows, the first page and a question of one page apart.
			if allowed := 2*page + int(w.resealt[i].Seconds()*100); i+1 > allowed {
				t.Fatalf("%d cards within %s", i+1, w.resealt[i])
			}
		}
		for i := range w.cards[:300] {
			k := &w.cards[i]
			if k.SealedFor != k.Token {
				t.Fatalf("card %d is bound to %x", i, k.SealedFor)
			}
			e, err := vault.ParseEnvelope(k.Sealed)
			if err != nil || e.Key != next {
				t.Fatalf("card %d: %+v %v", i, e, err)
			}
			plain, err := open(fmt.Appendf(nil, "D-%d", next), e.Ciphertext, vault.AppendAdditional(nil, next, merchant, k.Token))
			var c card.Card
			if err != nil || vault.ReadPlain(&c, plain) != nil || string(c.PAN.RevealPAN()) != "4970100000000154" {
				t.Fatalf("card %d: %v", i, err)
			}
		}
	})
}

// Stopped in the middle, another process goes on; while the module is away, or
// another node leads, nothing moves and nothing spins.
func TestStoppedAndAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := w.key()
		w.save(400, w.vault.Seal)
		next := w.key()
		stop := w.run(Config{PerSecond: 50})
		time.Sleep(4 * time.Second)
		stop()
		half, _ := w.CardsUnder()
		if half[old] == 0 || half[next] == 0 {
			t.Fatalf("stopped at %v", half)
		}
		w.away, w.asked, w.read = true, 0, 0
		stop = w.run(Config{PerSecond: 50})
		time.Sleep(30 * time.Second)
		if now, _ := w.CardsUnder(); !maps.Equal(now, half) || w.asked == 0 || w.asked > 31 {
			t.Errorf("the module away: %v, asked %d times", now, w.asked)
		}
		if pages := 400/page + 1 + 31; w.read > pages {
			t.Errorf("%d pages read, %d are enough: a walk begins anew at every try", w.read, pages)
		}
		w.mu.Lock()
		w.away, w.leading = false, false
		w.mu.Unlock()
		time.Sleep(30 * time.Second)
		if now, _ := w.CardsUnder(); !maps.Equal(now, half) {
			t.Errorf("not leading: %v", now)
		}
		w.mu.Lock()
		w.leading = true
		w.mu.Unlock()
		time.Sleep(30 * time.Second)
		stop()
		w.expect("in the end", map[payment.KeyID]uint64{next: 400})
	})
}

// What was sealed under a key file follows too; what does not open stays, and
// its key with it.
func TestKeyFileAndAltered(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := vault.CreateKeyFile(root, rand.Reader); err != nil {
		t.Fatal(err)
	}
	file, err := vault.OpenKeyFile(root, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := vault.Generate(file, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := vault.Open(file, wrapped, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.vault.OpensWith(earlier)
		w.save(5, earlier.Seal)
		old := w.key()
		w.save(5, w.vault.Seal)
		w.cards[7].Sealed[40] ^= 1
		w.cards[8].Merchant = "another"
		next := w.key()
		stop := w.run(Config{Keep: time.Hour, Every: time.Minute})
		time.Sleep(2 * time.Hour)
		stop()
		w.expect("in the end", map[payment.KeyID]uint64{next: 8, old: 2})
		if s := w.keys[old-1].State; s != payment.KeyDecryptOnly {
			t.Errorf("the key of the cards that stay is %s", s)
		}
	})
}

// A data key ends when its time is over and nothing needs it, and not before.
func TestEndsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		first := w.key()
		w.save(5, w.vault.Seal)
		second := w.key()
		w.used[second] = true
		w.save(5, w.vault.Seal)
		third := w.key()
		state := func(id payment.KeyID) payment.KeyState { return w.WorkingKeys()[id-1].State }
		stop := w.run(Config{Keep: 24 * time.Hour, Every: time.Minute})
		defer stop()
		time.Sleep(23 * time.Hour)
		w.expect("before", map[payment.KeyID]uint64{third: 10})
		if state(first) != payment.KeyDecryptOnly {
			t.Errorf("ended before its time: %s", state(first))
		}
		time.Sleep(2 * time.Hour)
		if state(first) != payment.KeyDestroyed || state(second) != payment.KeyDecryptOnly || state(third) != payment.KeyActive {
			t.Errorf("%s, %s, %s", state(first), state(second), state(third))
		}
		w.mu.Lock()
		w.used[second] = false
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if state(second) != payment.KeyDestroyed {
			t.Errorf("nothing owes it any more: %s", state(second))
		}
	})
}

func TestConfig(t *testing.T) {
	usual := Config{}.WithDefaults()
	if faults := usual.Validate(); len(faults) != 0 {
		t.Error(errors.Join(faults...))
	}
	for _, c := range []Config{{PerSecond: -1}, {PerSecond: 20_000}, {Every: time.Millisecond}, {Keep: time.Second}} {
		if c = c.WithDefaults(); len(c.Validate()) != 1 {
			t.Errorf("%+v: %v", c, c.Validate())
		}
	}
}
