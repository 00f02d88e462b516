// Package stored opens cards that were sealed before: for what is owed to an
// acquirer, from the memory of this node while the payment is fresh, and else by
// the security module, many at a time.
//
// A card that is opened belongs to a record that is named: the module binds the
// two and writes both down. While the module is away nothing is opened and
// nothing lost; callers come again. The package stores nothing on disk and
// retries nothing. Called by outbox and switching through their own interfaces;
// started by cmd.
package stored

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/payment"
	"authswitch/vault"
)

// Module is the security module: it opens what was sealed under one data key,
// given as its key block.
type Module interface {
	DecryptCards(p hsm.Purpose, dataKey []byte, cards []hsm.Sealed, deadline int64) error
}

// Config bounds what is held and what waits. The zero value is usable.
type Config struct {
	Held    int           // cards in memory; beyond it the oldest goes. Default 16,384
	HoldFor time.Duration // Default 60 s
	Queue   int           // callers that wait for the module; beyond it they come again. Default 1,024
	Timeout time.Duration // of one question. Default 2 s
}

func (c Config) withDefaults() Config {
	if c.Held == 0 {
		c.Held = 16 << 10
	}
	if c.HoldFor == 0 {
		c.HoldFor = 60 * time.Second
	}
	if c.Queue == 0 {
		c.Queue = 1024
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	return c
}

// Deps are what the cards are opened with.
type Deps struct {
	Vault  *vault.Vault
	Module Module                  // nil: only what was sealed under a key file opens
	Ring   func() *payment.KeyRing // the data keys' blocks
	Now    func() payment.Instant
	// Registerer takes the metrics. nil: they are kept to itself.
	Registerer prometheus.Registerer
}

// Cards is the vault with what can open its stored cards. It seals as the vault
// does. Good for any number of goroutines; Run must run.
type Cards struct {
	*vault.Vault
	cfg     Config
	deps    Deps
	held    held
	queue   chan *request
	metrics *metrics
	stop    chan struct{}
	once    sync.Once
}

// New makes the cards of a vault.
func New(cfg Config, deps Deps) (*Cards, error) {
	cfg = cfg.withDefaults()
	c := &Cards{Vault: deps.Vault, cfg: cfg, deps: deps, queue: make(chan *request, cfg.Queue), stop: make(chan struct{})}
	c.held.init(cfg.Held)
	var err error
	c.metrics, err = newMetrics(deps.Registerer, c)
	return c, err
}

// Purposed opens cards for one purpose, which has its limit in the module and
// its name in the module's audit log.
type Purposed struct {
	*Cards
	purpose hsm.Purpose
}

// For opens cards for a purpose. Cards itself opens for what is owed to a link.
func (c *Cards) For(p hsm.Purpose) Purposed { return Purposed{c, p} }

// Open opens the card of a payment as Cards does.
func (p Purposed) Open(of *card.Card, i *payment.Intent) error { return p.open(p.purpose, of, i) }

// request is one caller that waits for the module.
type request struct {
	purpose hsm.Purpose
	key     payment.KeyID
	aad     []byte
	intent  *payment.Intent
	sealed  []byte // nonce, ciphertext, tag
	card    *card.Card
	err     error
	done    chan struct{}
}

// Hold keeps a card in memory, wiped after a while, so that its reversal needs
// no security module.
func (c *Cards) Hold(of *card.Card, id payment.ID) { c.held.add(of, id, c.deps.Now()) }

// Forget wipes what Hold kept.
func (c *Cards) Forget(id payment.ID) { c.held.remove(id) }

// Open opens the card of a payment into of's number and expiry, for what is owed
// to its link. payment.ErrUnavailable: not now, because the module is away or the
// purpose's limit used up. Any other error is one of package vault, and no later
// try will do better.
func (c *Cards) Open(of *card.Card, i *payment.Intent) error { return c.open(hsm.Outbox, of, i) }

func (c *Cards) open(p hsm.Purpose, of *card.Card, i *payment.Intent) error {
	if c.held.find(of, i.ID) {
		c.metrics.held.Inc()
		return nil
	}
	e, err := vault.ParseEnvelope(i.Sealed)
	if err != nil {
		return err
	}
	if e.Key == 0 {
		c.metrics.file.Inc()
		return c.Vault.Open(of, i.Sealed, i.ID)
	}
	if c.deps.Module == nil {
		return fmt.Errorf("%w: %s, and no security module is configured", vault.ErrUnknownKey, e.Key)
	}
	r := &request{
		purpose: p, key: e.Key, aad: vault.AppendAdditional(nil, e.Key, i.Merchant, i.ID), intent: i, sealed: e.Ciphertext, card: of, done: make(chan struct{}, 1),
	}
	select {
	case c.queue <- r:
	case <-c.stop:
		return payment.ErrUnavailable
	default:
		c.metrics.full.Inc()
		return payment.ErrUnavailable
	}
	select {
	case <-r.done:
		return r.err
	case <-c.stop:
		// Whoever took the request may still write to the card: wait for it. If
		// nobody did, nobody will.
		c.refuseAll()
		<-r.done
		return r.err
	}
}

// askers ask the module at the same time: while one batch is being opened the
// next one forms.
const askers = 2

// Run opens what is asked for, and wipes what was held long enough, until ctx
// ends; then everything held is wiped and Open refuses.
func (c *Cards) Run(ctx context.Context) {
	var running sync.WaitGroup
	for range askers {
		running.Go(func() { c.ask(ctx) })
	}
	running.Go(func() { c.expire(ctx) })
	running.Wait()
	c.once.Do(func() { close(c.stop) })
	c.refuseAll()
	c.held.wipe()
}

// refuseAll answers those who are in the queue when nobody asks any more, and
// those that raced with the stop into it.
func (c *Cards) refuseAll() {
	for {
		select {
		case r := <-c.queue:
			r.end(payment.ErrUnavailable)
		default:
			return
		}
	}
}

func (r *request) end(err error) {
	r.err = err
	r.done <- struct{}{}
}

func (c *Cards) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.held.expire(c.deps.Now() - payment.Instant(c.cfg.HoldFor))
		}
	}
}

// ask takes what waits, as much as goes into one question.
func (c *Cards) ask(ctx context.Context) {
	batch := make([]*request, 0, hsm.MaxCards)
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.queue:
			batch = append(batch[:0], r)
		}
	fill:
		for len(batch) < hsm.MaxCards {
			select {
			case r := <-c.queue:
				batch = append(batch, r)
			default:
				break fill
			}
		}
		c.openAll(batch)
		clear(batch)
	}
}

// openAll asks once for each purpose and data key that the batch needs: one key,
// but around a rotation.
func (c *Cards) openAll(batch []*request) {
	for len(batch) > 0 {
		first := batch[0]
		n := 0
		for i, r := range batch {
			if r.key == first.key && r.purpose == first.purpose {
				batch[i], batch[n] = batch[n], batch[i]
				n++
			}
		}
		for part := batch[:n]; len(part) > 0; {
			m := fitting(part)
			c.openUnder(part[:m])
			part = part[m:]
		}
		batch = batch[n:]
	}
}

// questionBytes are left for cards in one frame to the module, beside the key
// block. Sixty-four fit unless their merchants have long names.
const questionBytes = 7600

// fitting is how many cards fit into one question: one at least.
func fitting(batch []*request) int {
	size := 0
	for n, r := range batch {
		size += len(r.intent.ID) + len(r.aad) + len(r.sealed) + 6
		if size > questionBytes && n > 0 {
			return n
		}
	}
	return len(batch)
}

// openUnder asks for cards of one purpose under one key.
func (c *Cards) openUnder(batch []*request) {
	purpose, key := batch[0].purpose, batch[0].key
	record := c.deps.Ring().Key(key)
	if record == nil || record.Usage != payment.KeyData {
		c.answerAll(batch, fmt.Errorf("%w: %s", vault.ErrUnknownKey, key))
		return
	}
	cards := make([]hsm.Sealed, len(batch))
	room := make([]byte, len(batch)*vault.PlainSize)
	defer clear(room)
	for i, r := range batch {
		from := i * vault.PlainSize
		cards[i] = hsm.Sealed{ID: r.intent.ID[:], AAD: r.aad, Ciphertext: r.sealed, Plain: room[from : from : from+vault.PlainSize]}
	}
	deadline := c.deps.Now() + payment.Instant(c.cfg.Timeout)
	if err := c.deps.Module.DecryptCards(purpose, record.Block, cards, int64(deadline)); err != nil {
		if errors.Is(err, hsm.ErrLimited) {
			c.metrics.limited.Add(float64(len(batch)))
		} else {
			c.metrics.failed.Add(float64(len(batch)))
		}
		c.answerAll(batch, fmt.Errorf("%w: security module: %w", payment.ErrUnavailable, err))
		return
	}
	for i, r := range batch {
		if !cards[i].OK {
			c.metrics.altered.Inc()
			r.end(vault.ErrAltered)
			continue
		}
		c.metrics.module.Inc()
		r.end(vault.ReadPlain(r.card, cards[i].Plain))
	}
	for i := range cards { // a module that made room of its own
		clear(cards[i].Plain[:cap(cards[i].Plain)])
	}
}

func (c *Cards) answerAll(batch []*request, err error) {
	if !errors.Is(err, payment.ErrUnavailable) {
		c.metrics.altered.Add(float64(len(batch)))
	}
	for _, r := range batch {
		r.end(err)
	}
}
