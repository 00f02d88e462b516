package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"authswitch/hsm/token"
)

// errSecret is a file of a secret that another could have read.
var errSecret = errors.New("secret file refused")

// maxPIN bounds a token's PIN.
const maxPIN = 256

// openRoot opens the root of trust of a configuration.
func openRoot(c *RootConfig) (token.Keeper, error) {
	if c.Kind == kindFile {
		return token.OpenFile(c.File)
	}
	pin, err := c.pin()
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	return token.OpenPKCS11(c.pkcs11(), pin)
}

func (c *RootConfig) pkcs11() token.PKCS11 {
	return token.PKCS11{Module: c.Module, Label: c.Token, SoftHSMConf: c.SoftHSMConf}
}

// pin reads the user's PIN: systemd puts credentials into a directory of the
// service's own, where modes are its business.
func (c *RootConfig) pin() ([]byte, error) {
	if c.PINCredential == "" {
		return readSecret(c.PINFile)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || filepath.Base(c.PINCredential) != c.PINCredential {
		return nil, fmt.Errorf("%w: root.pin_credential: %q is handed over by systemd (LoadCredential=), which did not start this process", errSecret, c.PINCredential)
	}
	b, err := os.ReadFile(filepath.Join(dir, c.PINCredential))
	if err != nil {
		return nil, fmt.Errorf("%w: root.pin_credential: %w", errSecret, err)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

// readSecret reads a file that nobody else may read; a line's end behind the
// secret is not part of it.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, so others than its owner have a right to it; run: chmod 600 %s", errSecret, path, mode.Perm(), path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: %s belongs to user %d and this process runs as user %d", errSecret, path, stat.Uid, os.Geteuid())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	if b = bytes.TrimRight(b, "\r\n"); len(b) == 0 || len(b) > maxPIN {
		return nil, fmt.Errorf("%w: %s holds no PIN of 1 to %d characters", errSecret, path, maxPIN)
	}
	return b, nil
}
