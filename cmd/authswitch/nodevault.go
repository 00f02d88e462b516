package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"authswitch/hsm"
	"authswitch/keyring"
	"authswitch/payment"
	"authswitch/vault"
	"authswitch/vault/reseal"
	"authswitch/vault/stored"
)

// vaultKeys are the wrapped data keys, in the node's directory.
const vaultKeys = "vault.keys"

// openVault makes the vault: with a security module without keys, which the
// keyring fetches once the journal is there, else under the key file.
func (n *node) openVault(context.Context) error {
	keys := filepath.Join(n.cfg.Node.DataDir, "vault.keys")
	if n.hsm == nil {
		if err := refuseLostKeys(keys, filepath.Join(n.cfg.Store.Dir, "state")); err != nil {
			return err
		}
		var err error
		n.vault, err = openKeyFile(n.cfg.Vault.KeyFile, keys)
		return err
	}
	var err error
	if n.vault, err = vault.New(rand.Reader); err != nil {
		return err
	}
	if _, err := os.Stat(keys); errors.Is(err, fs.ErrNotExist) || n.cfg.Vault.KeyFile == "" {
		return nil // this node never sealed under a key file
	}
	earlier, err := openKeyFile(n.cfg.Vault.KeyFile, keys)
	if err != nil {
		return fmt.Errorf("what was sealed before there was a security module: %w", err)
	}
	n.vault.OpensWith(earlier)
	return nil
}

func openKeyFile(root, keys string) (*vault.Vault, error) {
	r, err := vault.OpenKeyFile(root, rand.Reader)
	if err != nil {
		return nil, err
	}
	return vault.Load(r, keys, rand.Reader)
}

// refuseLostKeys keeps a node whose wrapped data keys are gone from drawing new
// ones beside a journal that was sealed under the old: what is owed could never
// be opened again.
func refuseLostKeys(keys, state string) error {
	if _, err := os.Stat(keys); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or Load says what is wrong with it
	}
	if _, err := os.Stat(state); err == nil {
		return fmt.Errorf("%s is missing, but %s holds payments sealed under its keys: restore it from the backup", keys, state)
	}
	return nil
}

// openCards makes what opens stored cards, for the outbox, and keeps those that
// are about to be reversed.
func (n *node) openCards(ctx context.Context) error {
	var err error
	d := stored.Deps{Vault: n.vault, Ring: n.store.Ring, Now: wallClock, Registerer: n.registry}
	if n.hsm != nil {
		d.Module = n.hsm
	}
	n.cards, err = stored.New(stored.Config{}, d)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.cards.Run(ctx)
	}()
	n.stopCards = func() {
		stop()
		<-done
	}
	return nil
}

// openKeys starts the caretaker of the working keys, where there is a security
// module to keep them under.
func (n *node) openKeys(ctx context.Context) error {
	if n.hsm == nil {
		return nil
	}
	links := make([]payment.LinkName, len(n.cfg.Links))
	for i := range n.cfg.Links {
		links[i] = n.cfg.Links[i].Name
	}
	var err error
	n.keys, err = keyring.New(n.cfg.Keys, keyring.Deps{
		Reader: n.store, Writer: n.store, Module: trusted{n.hsm, n.cfg.Profile == profileProduction}, Exchange: n.hsm, Vault: n.vault,
		Leads: n.store.Leads, Links: links, Now: wallClock, Log: n.log, Registerer: n.registry,
	})
	if err != nil {
		return err
	}
	again, err := reseal.New(n.cfg.Reseal, reseal.Deps{
		Reader: n.store, Writer: n.store, Module: n.hsm, Vault: n.vault, Leads: n.store.Leads, Now: wallClock, Log: n.log, Registerer: n.registry,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var both sync.WaitGroup
		both.Go(func() { again.Run(ctx) })
		n.keys.Run(ctx)
		both.Wait()
	}()
	n.stopKeys = func() {
		stop()
		<-done
	}
	return nil
}

// keysDoor is the operators' door to the working keys.
func (n *node) keysDoor() keysDoor {
	d := keysDoor{keys: n.keys, cards: n.store.CardsUnder, guard: keyGuard{now: wallClock, production: n.cfg.Profile == profileProduction}}
	if n.hsm != nil {
		d.guard.module = n.hsm.Control
	}
	return d
}

// trusted is the security module as the vault may use it: in production one
// whose root is a token and that never saw a test key.
type trusted struct {
	*hsm.Client
	production bool
}

var errNotForProduction = errors.New("production refuses this security module")

// ReleaseDataKey asks the module first what it is. That is rare: at a start, and
// when the data key changes.
func (t trusted) ReleaseDataKey(dst *[32]byte, block []byte, deadline int64) error {
	if t.production {
		s, err := t.Client.Status(deadline)
		switch {
		case err != nil:
			return err
		case s.TestKeys:
			return fmt.Errorf("%w: test keys were let in under its root", errNotForProduction)
		case s.Root != "pkcs11":
			return fmt.Errorf("%w: its root of trust is a %s, not a token", errNotForProduction, s.Root)
		}
	}
	return t.Client.ReleaseDataKey(dst, block, deadline)
}
