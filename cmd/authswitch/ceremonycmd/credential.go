package ceremonycmd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"authswitch/hsm/ceremony"
)

// credential is what an enrolled officer signs with: a key file, or a passphrase
// typed now.
func (d *desk) credential(ctx context.Context, name string, c *ceremony.Challenge) (ceremony.Credential, error) {
	if c.Kind == ceremony.ByKey {
		if d.officerKey == "" {
			return ceremony.Credential{}, fmt.Errorf("%w: %s is enrolled with a key: --officer-key FILE is needed", ErrUsage, name)
		}
		return readKey(d.officerKey)
	}
	if c.Stretch == nil {
		return ceremony.Credential{}, fmt.Errorf("%w: %s", ceremony.ErrNoOfficer, name)
	}
	passphrase, err := d.terminal.secret(ctx, fmt.Sprintf("Passphrase of %s: ", name))
	if err != nil {
		return ceremony.Credential{}, err
	}
	defer clear(passphrase)
	k, err := ceremony.FromPassphrase(passphrase, *c.Stretch)
	if errors.Is(err, ceremony.ErrPassphrase) {
		return ceremony.Credential{}, ceremony.ErrProof // shorter than any that was enrolled
	}
	return k, err
}

// enrolled is a credential for somebody new: a passphrase typed twice, or a key
// file, which is made where it is not there.
func (d *desk) enrolled(ctx context.Context, name, keyFile string) (ceremony.Officer, ceremony.Credential, error) {
	o := ceremony.Officer{Name: name, Kind: ceremony.ByKey}
	if keyFile != "" {
		k, err := readOrMakeKey(keyFile)
		if err == nil {
			o.Public = k.Public()
		}
		return o, k, err
	}
	o.Kind = ceremony.ByPassphrase
	passphrase, err := d.terminal.secret(ctx, fmt.Sprintf("New passphrase of %s (at least %d characters): ", name, ceremony.MinPassphrase))
	if err != nil {
		return o, ceremony.Credential{}, err
	}
	defer clear(passphrase)
	again, err := d.terminal.secret(ctx, "The same again: ")
	if err != nil {
		return o, ceremony.Credential{}, err
	}
	defer clear(again)
	if !bytes.Equal(passphrase, again) {
		return o, ceremony.Credential{}, errors.New("the two are not the same; nothing was done")
	}
	salt := make([]byte, ceremony.SaltBytes)
	if _, err := rand.Read(salt); err != nil {
		return o, ceremony.Credential{}, fmt.Errorf("draw a salt: %w", err)
	}
	s := ceremony.NewStretch(salt)
	o.Stretch = &s
	k, err := ceremony.FromPassphrase(passphrase, s)
	if err == nil {
		o.Public = k.Public()
	}
	return o, k, err
}

const keyType = "PRIVATE KEY"

// readKey reads an officer's own key, which must be theirs alone.
func readKey(path string) (ceremony.Credential, error) {
	info, err := os.Stat(path)
	if err != nil {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: others than its owner have a right to %s; run: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: %w", err)
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyType {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: %s is no PEM file with a %s", path, keyType)
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: %s holds none", path)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return ceremony.Credential{}, fmt.Errorf("read an officer's key: %s is not of Ed25519", path)
	}
	defer clear(private)
	return ceremony.FromKey(private)
}

func readOrMakeKey(path string) (ceremony.Credential, error) {
	k, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return k, fmt.Errorf("draw an officer's key: %w", err)
	}
	defer clear(private)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return k, fmt.Errorf("write an officer's key: %w", err)
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der})
	defer clear(text)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return k, fmt.Errorf("write an officer's key: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return k, fmt.Errorf("write an officer's key: %w", err)
	}
	return ceremony.FromKey(private)
}
