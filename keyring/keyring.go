// Package keyring looks after the working keys of a cluster: it makes the
// vault's keys and rotates them, hands them to the vault of this node, wraps
// every key anew after a change of the local master key, and takes keys in and
// gives them out for operators.
//
// What a key is and what may become of it is the journal's to decide, what is in
// it the security module's. Here is only when to ask. No clear key but the
// vault's two passes through, each wiped when it is replaced. While the module is
// away nothing is rotated, and nothing stops. Run by cmd on every node; only the
// leader makes keys of its own accord.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
	"authswitch/payment"
)

// Errors of what operators ask; each is wrapped with what is wrong.
var (
	ErrNoKey   = errors.New("no such key")
	ErrRefused = errors.New("refused")
)

// Reader is what there is.
type Reader interface {
	Ring() *payment.KeyRing
	KeysChange() <-chan struct{}
	WorkingKeys() []*payment.Key
}

// Writer changes it, through the journal.
type Writer interface {
	PutKey(k *payment.Key) (*payment.Key, error)
	AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error)
	RewrapKey(id payment.KeyID, was, block []byte, master uint32) (*payment.Key, error)
}

// Module is what the keyring asks of the security module by itself.
type Module interface {
	Generate(a hsm.Attributes, bytes int, deadline int64) (hsm.Key, error)
	ReleaseDataKey(dst *[32]byte, block []byte, deadline int64) error
	Rewrap(block []byte, deadline int64) (hsm.Key, error)
	Status(deadline int64) (hsm.Status, error)
}

// Exchange is what operators ask of it.
type Exchange interface {
	Import(kek, sent []byte, r hsm.ImportRequest, deadline int64) (hsm.Key, error)
	Export(kek, block []byte, form hsm.Form, deadline int64) (hsm.Exported, error)
	KCV(block []byte, deadline int64) (hsm.Key, error)
}

// Vault seals under the key it is given.
type Vault interface {
	Use(id payment.KeyID, data, index *[32]byte) error
	Key() payment.KeyID
	Stop() // seal no more: the key's time is over
}

// Config is when keys change. The zero value is usable.
type Config struct {
	DataKeyEvery time.Duration `yaml:"data_key_every"` // a new data key. Default 24 h
	DataKeyLife  time.Duration `yaml:"data_key_life"`  // then it seals no more, whatever keeps its successor away. Default 720 h
	Preload      time.Duration `yaml:"preload"`        // how long a new key waits for every node to have it. Default 10 s
	Overlap      time.Duration `yaml:"overlap"`        // how long a replaced key of a link still verifies and opens. Default 1 h
	Look         time.Duration `yaml:"look"`           // how often dates and master keys are looked at. Default 15 s
	Alarm        time.Duration `yaml:"alarm"`          // how long before its end a key is said to expire. Default 168 h
}

// WithDefaults fills what is not set.
func (c Config) WithDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.DataKeyEvery, 24 * time.Hour},
		{&c.DataKeyLife, 30 * 24 * time.Hour},
		{&c.Preload, 10 * time.Second},
		{&c.Overlap, time.Hour},
		{&c.Look, 15 * time.Second},
		{&c.Alarm, 7 * 24 * time.Hour},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

// Validate reports all faults. It is asked after WithDefaults.
func (c *Config) Validate() []error {
	var faults []error
	for _, d := range []struct {
		name          string
		got, min, max time.Duration
	}{
		{"data_key_every", c.DataKeyEvery, time.Second, 5 * 24 * time.Hour},
		{"data_key_life", c.DataKeyLife, 2 * c.DataKeyEvery, 365 * 24 * time.Hour},
		{"preload", c.Preload, time.Millisecond, c.DataKeyEvery},
		{"overlap", c.Overlap, time.Second, 30 * 24 * time.Hour},
		{"look", c.Look, time.Millisecond, time.Hour},
		{"alarm", c.Alarm, time.Second, 365 * 24 * time.Hour},
	} {
		if d.got < d.min || d.got > d.max {
			faults = append(faults, fmt.Errorf("keys.%s: %s is not from %s to %s", d.name, d.got, d.min, d.max))
		}
	}
	return faults
}

// Deps are a keyring's neighbours.
type Deps struct {
	Reader   Reader
	Writer   Writer
	Module   Module
	Exchange Exchange
	Vault    Vault
	Leads    func() bool // this node is the one that acts for all
	Links    []payment.LinkName
	Now      func() payment.Instant
	Log      *slog.Logger
	// Registerer takes the metrics. nil: they are kept to itself.
	Registerer prometheus.Registerer
}

// Keyring is the caretaker of one node. Run does the work; the methods of
// operators may be called at any time.
type Keyring struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	said    string // the last trouble that was logged

	mu      sync.Mutex // around rotations that a person and the caretaker could both begin
	loadMu  sync.Mutex // around loaded
	loaded  map[payment.KeyID]*[32]byte
	trouble error // why the vault has not what it should have
	master  int   // the newest local master key that was seen
}

// New makes a keyring; Run does the work.
func New(cfg Config, deps Deps) (*Keyring, error) {
	k := &Keyring{cfg: cfg.WithDefaults(), deps: deps, loaded: map[payment.KeyID]*[32]byte{}}
	var err error
	k.metrics, err = newMetrics(deps.Registerer, k)
	return k, err
}

// askFor is how long the module may take for one of the keyring's questions.
const askFor = 2 * time.Second

func (k *Keyring) deadline() int64 { return int64(k.deps.Now() + payment.Instant(askFor)) }

// Run looks at the keys whenever one changed, and every so often, until ctx
// ends. Then the clear keys it had are wiped.
func (k *Keyring) Run(ctx context.Context) {
	defer k.wipe()
	for {
		changed := k.deps.Reader.KeysChange()
		again := k.cfg.Look
		if err := k.look(); err != nil {
			k.say(err)
			again = min(again, retryAfter)
		} else {
			k.said = ""
		}
		if soon := k.pendingFor(); soon > 0 {
			again = min(again, soon)
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// retryAfter is between two tries while something is in the way.
const retryAfter = 250 * time.Millisecond

// say logs a trouble once, not at every try.
func (k *Keyring) say(err error) {
	if text := err.Error(); text != k.said {
		k.said = text
		k.deps.Log.Warn("keys: not as they should be; trying again", "error", err)
	}
}

// look does what is due. Every step is repeatable: another node may have done it.
func (k *Keyring) look() error {
	err := k.load()
	k.loadMu.Lock()
	k.trouble = err
	k.loadMu.Unlock()
	if !k.deps.Leads() {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	made := k.makeVaultKeys()
	if errors.Is(err, errNoVaultKeys) && made == nil {
		err = nil // they are there now
	}
	return errors.Join(err, made, k.rewrapAll())
}

// load fetches the clear keys that the vault needs now or next, gives it the
// active ones, and wipes those that were replaced.
func (k *Keyring) load() error {
	ring := k.deps.Reader.Ring()
	data, index := ring.ActiveKey(payment.VaultKeys, payment.KeyData), ring.ActiveKey(payment.VaultKeys, payment.KeyBlindIndex)
	next := ring.Pending(payment.VaultKeys, payment.KeyData)
	k.loadMu.Lock()
	defer k.loadMu.Unlock()
	wanted := map[payment.KeyID]bool{}
	for _, key := range []*payment.Key{index, data, next} {
		if key == nil {
			continue
		}
		wanted[key.ID] = true
		if k.loaded[key.ID] != nil {
			continue
		}
		secret := new([32]byte)
		if err := k.deps.Module.ReleaseDataKey(secret, key.Block, k.deadline()); err != nil {
			k.metrics.releaseFailed.Inc()
			return fmt.Errorf("release %s, %s: %w", key.ID, key.Usage, err)
		}
		k.loaded[key.ID] = secret
	}
	if data == nil || index == nil {
		if k.deps.Vault.Key() != 0 {
			k.deps.Vault.Stop()
		}
		return errNoVaultKeys
	}
	if k.deps.Vault.Key() != data.ID {
		if err := k.deps.Vault.Use(data.ID, k.loaded[data.ID], k.loaded[index.ID]); err != nil {
			return fmt.Errorf("seal under %s: %w", data.ID, err)
		}
		k.deps.Log.Info("cards are sealed under another data key", "key", data.ID.String(), "version", data.Version)
	}
	for id, secret := range k.loaded {
		if !wanted[id] {
			clear(secret[:])
			delete(k.loaded, id)
		}
	}
	return nil
}

var errNoVaultKeys = errors.New("the vault has no keys yet")

// Missing is what keeps a node from being ready: its vault cannot seal.
func (k *Keyring) Missing() []string {
	if k.deps.Vault.Key() != 0 {
		return nil
	}
	k.loadMu.Lock()
	defer k.loadMu.Unlock()
	if k.trouble == nil {
		return []string{"the vault has no data key yet"}
	}
	return []string{"the vault has no data key: " + k.trouble.Error()}
}

func (k *Keyring) wipe() {
	k.loadMu.Lock()
	defer k.loadMu.Unlock()
	for _, secret := range k.loaded {
		clear(secret[:])
	}
	clear(k.loaded)
}
