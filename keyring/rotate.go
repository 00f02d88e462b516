package keyring

import (
	"errors"
	"fmt"
	"time"

	"authswitch/hsm"
	"authswitch/payment"
)

// The headers of the vault's keys: AES-256, never exported. A blind-index key
// only encrypts, by its header, so that the security module decrypts no card
// under it.
const (
	dataLetters  = "D0ABN"
	indexLetters = "D0AEN"
	vaultBytes   = 32
)

// makeVaultKeys makes what is missing of the vault's keys, and the next data key
// when today's is old enough: pending first, so that every node has it before it
// is used.
func (k *Keyring) makeVaultKeys() error {
	if err := k.ensure(payment.KeyBlindIndex, indexLetters); err != nil {
		return err
	}
	active := k.deps.Reader.Ring().ActiveKey(payment.VaultKeys, payment.KeyData)
	if active == nil {
		return k.ensure(payment.KeyData, dataLetters)
	}
	next := k.deps.Reader.Ring().Pending(payment.VaultKeys, payment.KeyData)
	now := k.deps.Now()
	switch {
	case next == nil && now-active.Changed >= payment.Instant(k.cfg.DataKeyEvery):
		_, err := k.generate(payment.VaultKeys, payment.KeyData, dataLetters, vaultBytes)
		return err
	case next != nil && now-next.Created >= payment.Instant(k.cfg.Preload):
		return k.activate(next, 0)
	}
	return nil
}

// ensure makes the first key of a usage, or takes up where a node that made it
// was stopped.
func (k *Keyring) ensure(usage payment.KeyUsage, letters string) error {
	ring := k.deps.Reader.Ring()
	if ring.ActiveKey(payment.VaultKeys, usage) != nil {
		return nil
	}
	next := ring.Pending(payment.VaultKeys, usage)
	if next == nil {
		var err error
		if next, err = k.generate(payment.VaultKeys, usage, letters, vaultBytes); err != nil {
			return err
		}
	}
	err := k.activate(next, 0)
	if errors.Is(err, payment.ErrKeyState) { // another node's was first
		_, err = k.deps.Writer.AdvanceKey(&payment.KeyAdvance{ID: next.ID, To: payment.KeyRetired})
	}
	return err
}

// generate makes a key in the module and keeps it, pending.
func (k *Keyring) generate(link payment.LinkName, usage payment.KeyUsage, letters string, bytes int) (*payment.Key, error) {
	a, err := hsm.ParseAttributes(letters)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	made, err := k.deps.Module.Generate(a, bytes, k.deadline())
	if err != nil {
		return nil, fmt.Errorf("generate a %s key for %s: %w", usage, link, err)
	}
	key := record(link, usage, &made, bytes)
	if usage == payment.KeyData {
		key.NotAfter = k.deps.Now() + payment.Instant(k.cfg.DataKeyLife)
	}
	kept, err := k.deps.Writer.PutKey(key)
	if err != nil {
		return nil, fmt.Errorf("keep a new %s key for %s: %w", usage, link, err)
	}
	k.deps.Log.Info("key made", "key", kept.ID.String(), "link", link, "usage", usage.String(), "kcv", fmt.Sprintf("%X", kept.CheckValue))
	return kept, nil
}

// record is a key as it is kept, of what the module answered.
func record(link payment.LinkName, usage payment.KeyUsage, made *hsm.Key, bytes int) *payment.Key {
	k := &payment.Key{Link: link, Usage: usage, Bits: uint16(8 * bytes), CheckValue: made.KCV, Block: made.Block, Master: uint32(made.Master)}
	copy(k.Letters[:], made.Attributes.String())
	return k
}

func (k *Keyring) activate(key *payment.Key, overlap time.Duration) error {
	if _, err := k.deps.Writer.AdvanceKey(&payment.KeyAdvance{ID: key.ID, To: payment.KeyActive, Overlap: payment.Instant(overlap)}); err != nil {
		return fmt.Errorf("activate %s: %w", key.ID, err)
	}
	k.metrics.rotations.WithLabelValues(key.Usage.String()).Inc()
	k.deps.Log.Info("key active", "key", key.ID.String(), "link", key.Link, "usage", key.Usage.String(), "version", key.Version)
	return nil
}

// pendingFor is how long until a data key that waits may become active, 0 when
// none waits.
func (k *Keyring) pendingFor() time.Duration {
	next := k.deps.Reader.Ring().Pending(payment.VaultKeys, payment.KeyData)
	if next == nil {
		return 0
	}
	return max(time.Duration(next.Created-k.deps.Now())+k.cfg.Preload, time.Millisecond)
}

// rewrapAll wraps every block anew that is not under the newest local master
// key. Nothing waits for it: the module opens blocks under both.
func (k *Keyring) rewrapAll() error {
	status, err := k.deps.Module.Status(k.deadline())
	if err != nil {
		return fmt.Errorf("ask for the local master keys: %w", err)
	}
	if len(status.Masters) == 0 {
		return nil
	}
	newest := status.Masters[len(status.Masters)-1]
	k.loadMu.Lock()
	k.master = newest
	k.loadMu.Unlock()
	_, err = k.rewrapUnder(newest)
	return err
}

// rewrapUnder goes through the keys once and says how many it wrapped.
func (k *Keyring) rewrapUnder(newest int) (count int, err error) {
	for _, key := range k.deps.Reader.WorkingKeys() {
		if len(key.Block) == 0 || key.Master == uint32(newest) {
			continue
		}
		again, err := k.deps.Module.Rewrap(key.Block, k.deadline())
		if err != nil {
			return count, fmt.Errorf("wrap %s under lmk/%d: %w", key.ID, newest, err)
		}
		_, err = k.deps.Writer.RewrapKey(key.ID, key.Block, again.Block, uint32(again.Master))
		if errors.Is(err, payment.ErrKeyChanged) {
			continue // another node did it
		}
		if err != nil {
			return count, fmt.Errorf("keep %s under lmk/%d: %w", key.ID, newest, err)
		}
		count++
	}
	if count > 0 {
		k.deps.Log.Info("keys wrapped under another local master key", "count", count, "lmk", newest)
	}
	return count, nil
}
