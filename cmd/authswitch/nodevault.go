package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"authswitch/vault"
	"authswitch/vault/stored"
)

// vaultKeys are the wrapped data keys, in the node's directory.
const vaultKeys = "vault.keys"

func (n *node) openVault(context.Context) error {
	root, err := vault.OpenKeyFile(n.cfg.Vault.KeyFile, rand.Reader)
	if err != nil {
		return err
	}
	keys := filepath.Join(n.cfg.Node.DataDir, vaultKeys)
	if err := refuseLostKeys(keys, filepath.Join(n.cfg.Store.Dir, "state")); err != nil {
		return err
	}
	n.vault, err = vault.Load(root, keys, rand.Reader)
	return err
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
	n.cards, err = stored.New(stored.Config{}, stored.Deps{Vault: n.vault, Ring: n.store.Ring, Now: wallClock, Registerer: n.registry})
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
