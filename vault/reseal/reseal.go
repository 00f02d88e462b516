// Package reseal moves stored cards to the newest data key, in the background,
// and ends data keys that nothing needs any more.
//
// A card is opened and sealed inside the security module; no number comes out of
// it. What is left to do is written on the cards themselves: a node that was
// stopped, or another leader, begins at the first card again and finds most of it
// done. Tokens stay as they are. Only the leader works; while the module is away
// it waits. The package decides nothing about keys: the journal refuses to end
// one that a card or an open payment needs. Started by cmd.
package reseal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/payment"
	"authswitch/vault"
)

// Reader is what there is, as of this node's replica.
type Reader interface {
	Ring() *payment.KeyRing
	WorkingKeys() []*payment.Key
	CardsBehind(token payment.ID, limit int) ([]payment.StoredCard, error)
	CardsUnder() (map[payment.KeyID]uint64, error)
}

// Writer changes it, through the journal.
type Writer interface {
	ResealCards(list []payment.CardReseal) (int, error)
	AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error)
}

// Module is the security module.
type Module interface {
	ResealCards(from, to []byte, cards []hsm.Resealed, deadline int64) error
}

// Vault opens and seals what was sealed under a key file, before there was a
// security module.
type Vault interface {
	Key() payment.KeyID
	Open(c *card.Card, sealed []byte, id payment.ID) error
	Seal(dst []byte, c *card.Card, merchant payment.MerchantID, id payment.ID) ([]byte, error)
}

// Config is the pace. The zero value is usable.
type Config struct {
	PerSecond int           `yaml:"per_second"` // stored cards sealed anew a second. Default 200
	Every     time.Duration `yaml:"every"`      // between two walks over the cards, besides one at every change of the data key. Default 10 m
	Keep      time.Duration `yaml:"keep"`       // how long after its replacement a data key still opens the payments of its day: no later capture or refund finds their card number. Then, when no stored card and nothing owed needs it, it is destroyed. Default 9600 h
}

// WithDefaults fills what is not set.
func (c Config) WithDefaults() Config {
	if c.PerSecond == 0 {
		c.PerSecond = 200
	}
	if c.Every == 0 {
		c.Every = 10 * time.Minute
	}
	if c.Keep == 0 {
		c.Keep = 400 * 24 * time.Hour
	}
	return c
}

// Validate reports all faults. It is asked after WithDefaults.
func (c *Config) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("reseal."+format, args...)) }
	if c.PerSecond < 1 || c.PerSecond > 10_000 {
		fault("per_second: %d is not from 1 to 10000", c.PerSecond)
	}
	if c.Every < time.Second || c.Every > 24*time.Hour {
		fault("every: %s is not from 1s to 24h", c.Every)
	}
	if c.Keep < time.Minute {
		fault("keep: %s is not 1m or more", c.Keep)
	}
	return faults
}

// Deps are the neighbours.
type Deps struct {
	Reader Reader
	Writer Writer
	Module Module
	Vault  Vault
	Leads  func() bool
	Now    func() payment.Instant
	Log    *slog.Logger
	// Registerer takes the metrics. nil: they are kept to itself.
	Registerer prometheus.Registerer
}

// Worker does it on one node.
type Worker struct {
	cfg     Config
	deps    Deps
	limit   *rate.Limiter // of cards sealed anew
	reads   *rate.Limiter // of cards looked at
	metrics *metrics
	said    string // the last trouble that was logged

	// Where the walk is that was interrupted last, so that a module that is away
	// does not make it begin anew at every try.
	to     payment.KeyID
	behind payment.ID
}

// New makes a worker; Run does the work.
func New(cfg Config, deps Deps) (*Worker, error) {
	cfg = cfg.WithDefaults()
	w := &Worker{cfg: cfg, deps: deps, limit: rate.NewLimiter(rate.Limit(cfg.PerSecond), page), reads: rate.NewLimiter(readRate, page)}
	var err error
	w.metrics, err = newMetrics(deps.Registerer, deps.Reader)
	return w, err
}

// page is how many cards are read at once, and the most of one question and one
// command.
const page = 32

// readRate is how many cards a second a walk looks at: ten million in eight
// minutes, and a node that has payments to do.
const readRate = 20_000

// look is how often is seen whether there is work: whether this node leads, and
// which data key is active.
const look = time.Second

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	var walked payment.KeyID // the key that the last whole walk moved cards to
	var next payment.Instant
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		active := w.deps.Reader.Ring().ActiveKey(payment.VaultKeys, payment.KeyData)
		now := w.deps.Now()
		if active != nil && w.deps.Leads() && (active.ID != walked || now >= next) {
			err := w.walk(ctx, active)
			switch {
			case err == nil:
				walked, next, w.said = active.ID, now+payment.Instant(w.cfg.Every), ""
			case ctx.Err() == nil && !errors.Is(err, errStop):
				w.say(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// say logs a trouble once, not at every try.
func (w *Worker) say(err error) {
	if text := err.Error(); text != w.said {
		w.said = text
		w.deps.Log.Warn("stored cards are not under the newest data key yet; trying again", "error", err)
	}
}

// errStop ends a walk that is another's, or another key's, by now.
var errStop = errors.New("no longer this node's walk")

// walk looks at every stored card once, and seals anew what is not under the
// active key. When it is through, data keys that nothing needs are ended.
func (w *Worker) walk(ctx context.Context, active *payment.Key) error {
	if w.to != active.ID {
		w.to, w.behind = active.ID, payment.ID{}
	}
	moved, left := 0, 0
	for {
		if err := w.reads.WaitN(ctx, page); err != nil {
			return err
		}
		cards, err := w.deps.Reader.CardsBehind(w.behind, page)
		if err != nil {
			return fmt.Errorf("read stored cards: %w", err)
		}
		if len(cards) == 0 {
			break
		}
		m, l, err := w.page(ctx, active, cards)
		moved, left = moved+m, left+l
		if err != nil {
			return err
		}
		w.behind = cards[len(cards)-1].Token
	}
	w.behind = payment.ID{}
	if moved > 0 || left > 0 {
		w.deps.Log.Info("stored cards sealed anew", "count", moved, "left", left, "key", active.ID.String())
	}
	w.endKeys()
	return nil
}

// page seals some cards anew.
func (w *Worker) page(ctx context.Context, active *payment.Key, cards []payment.StoredCard) (moved, left int, err error) {
	byKey := map[payment.KeyID][]*payment.StoredCard{}
	for i := range cards {
		k := &cards[i]
		if k.Status == payment.CardDeleted || len(k.Sealed) == 0 {
			continue
		}
		if under := payment.SealedUnder(k.Sealed); under != active.ID {
			byKey[under] = append(byKey[under], k)
		}
	}
	for under, some := range byKey {
		if err := w.limit.WaitN(ctx, len(some)); err != nil {
			return moved, left, err
		}
		if now := w.deps.Reader.Ring().ActiveKey(payment.VaultKeys, payment.KeyData); !w.deps.Leads() || now == nil || now.ID != active.ID {
			return moved, left, errStop
		}
		m, l, err := w.move(under, active, some)
		moved, left = moved+m, left+l
		if err != nil {
			return moved, left, err
		}
	}
	return moved, left, nil
}

// move seals cards of one key anew, and says how many stay because they do not
// open.
func (w *Worker) move(under payment.KeyID, active *payment.Key, cards []*payment.StoredCard) (moved, left int, err error) {
	var list []payment.CardReseal
	if under == 0 {
		list = w.fromFile(active, cards)
	} else if list, err = w.inModule(under, active, cards); err != nil {
		return 0, 0, err
	}
	if left = len(cards) - len(list); left > 0 {
		w.metrics.left.Add(float64(left))
		w.deps.Log.Error("stored cards do not open and stay as they are", "count", left, "key", under.String())
	}
	if len(list) == 0 {
		return 0, left, nil
	}
	if moved, err = w.deps.Writer.ResealCards(list); err != nil {
		return 0, left, fmt.Errorf("keep cards under %s: %w", active.ID, err)
	}
	w.metrics.moved.Add(float64(moved))
	return moved, left, nil
}

// askFor is how long the module may take for one question.
const askFor = 2 * time.Second

func (w *Worker) inModule(under payment.KeyID, active *payment.Key, cards []*payment.StoredCard) ([]payment.CardReseal, error) {
	from := w.deps.Reader.Ring().Key(under)
	if from == nil || from.Usage != payment.KeyData {
		return nil, nil
	}
	var out []payment.CardReseal
	for len(cards) > 0 {
		asked, size := make([]hsm.Resealed, 0, len(cards)), 0
		for _, k := range cards {
			e, err := vault.ParseEnvelope(k.Sealed)
			if err != nil {
				e.Ciphertext = nil // it does not open, and is told so
			}
			r := hsm.Resealed{
				ID: k.Token[:], Ciphertext: e.Ciphertext,
				AAD: vault.AppendAdditional(nil, under, k.Merchant, k.SealedFor), Next: vault.AppendAdditional(nil, active.ID, k.Merchant, k.Token),
			}
			size += len(r.ID) + len(r.AAD) + len(r.Next) + len(r.Ciphertext) + 8
			if size > hsm.ResealBytes && len(asked) > 0 {
				break
			}
			asked = append(asked, r)
		}
		if err := w.deps.Module.ResealCards(from.Block, active.Block, asked, int64(w.deps.Now()+payment.Instant(askFor))); err != nil {
			return nil, fmt.Errorf("seal cards of %s under %s: %w", under, active.ID, err)
		}
		for i := range asked {
			if asked[i].OK {
				out = append(out, payment.CardReseal{Token: cards[i].Token, Was: cards[i].Sealed, Sealed: vault.AppendEnvelope(nil, active.ID, asked[i].Ciphertext)})
			}
		}
		cards = cards[len(asked):]
	}
	return out, nil
}

// fromFile seals anew what was sealed under the key file: with the keys that
// this node holds.
func (w *Worker) fromFile(active *payment.Key, cards []*payment.StoredCard) []payment.CardReseal {
	var out []payment.CardReseal
	if w.deps.Vault.Key() != active.ID {
		return nil // it has not heard of the key yet; the next walk finds them
	}
	for _, k := range cards {
		if sealed := w.again(k); payment.SealedUnder(sealed) == active.ID {
			out = append(out, payment.CardReseal{Token: k.Token, Was: k.Sealed, Sealed: sealed})
		}
	}
	return out
}

func (w *Worker) again(k *payment.StoredCard) []byte {
	var c card.Card
	defer c.Wipe()
	if err := w.deps.Vault.Open(&c, k.Sealed, k.SealedFor); err != nil {
		return nil
	}
	sealed, err := w.deps.Vault.Seal(nil, &c, k.Merchant, k.Token)
	if err != nil {
		return nil
	}
	return sealed
}

// endKeys destroys data keys whose time is over. The journal has the last word:
// one that a card or something owed needs stays.
func (w *Worker) endKeys() {
	for _, k := range w.deps.Reader.WorkingKeys() {
		if k.Usage != payment.KeyData || k.State != payment.KeyDecryptOnly || w.deps.Now()-k.Changed < payment.Instant(w.cfg.Keep) {
			continue
		}
		_, err := w.deps.Writer.AdvanceKey(&payment.KeyAdvance{ID: k.ID, To: payment.KeyRetired})
		if err == nil {
			_, err = w.deps.Writer.AdvanceKey(&payment.KeyAdvance{ID: k.ID, To: payment.KeyDestroyed})
		}
		switch {
		case errors.Is(err, payment.ErrKeyUsed):
			w.deps.Log.Info("an old data key is still needed", "key", k.ID.String())
		case err != nil:
			w.say(fmt.Errorf("end %s: %w", k.ID, err))
		default:
			w.metrics.ended.Inc()
			w.deps.Log.Info("an old data key is destroyed: nothing was sealed under it any more", "key", k.ID.String())
		}
	}
}
