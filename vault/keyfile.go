package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// keySize is AES-256.
const keySize = 32

// KeyFile is a Root whose key is a file of 32 bytes that only its owner can
// read. It is for development and for a first installation: whoever copies the
// file and the data has the cards.
type KeyFile struct {
	aead   cipher.AEAD
	random io.Reader
}

// CreateKeyFile draws a root key and writes it to a new file with mode 0600. A
// file that is already there is never overwritten: without its key everything
// sealed is lost.
func CreateKeyFile(path string, random io.Reader) error {
	key := make([]byte, keySize)
	defer clear(key)
	if _, err := io.ReadFull(random, key); err != nil {
		return fmt.Errorf("drawing the vault's root key: %w", err)
	}
	if err := createFile(path, key); err != nil {
		return fmt.Errorf("creating the vault key file: %w", err)
	}
	return nil
}

// OpenKeyFile reads a root key. It refuses a file that another user could have
// read or replaced, and says what to do about it. Random is for the nonces of
// Wrap.
func OpenKeyFile(path string, random io.Reader) (*KeyFile, error) {
	key, err := readOwned(path, keySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if len(key) != keySize {
		return nil, fmt.Errorf("%w: %s has %d bytes instead of %d; restore it from its backup, or, if nothing was sealed with it yet, remove it and create a new one",
			ErrKeyFile, path, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("vault root key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("vault root key: %w", err)
	}
	return &KeyFile{aead, random}, nil
}

// Wrap encrypts a key: nonce, then ciphertext and tag. Wraps are few (one per
// new key), so a random nonce does.
func (k *KeyFile) Wrap(key []byte) ([]byte, error) {
	out := make([]byte, nonceSize, nonceSize+len(key)+tagSize)
	if _, err := io.ReadFull(k.random, out); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return k.aead.Seal(out, out, key, nil), nil
}

// Unwrap decrypts what Wrap wrote.
func (k *KeyFile) Unwrap(wrapped []byte) ([]byte, error) {
	if len(wrapped) < nonceSize+tagSize {
		return nil, ErrWrappedKeys
	}
	key, err := k.aead.Open(nil, wrapped[:nonceSize], wrapped[nonceSize:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: not wrapped under this root key", ErrWrappedKeys)
	}
	return key, nil
}

// readOwned reads at most limit+1 bytes of a file after checking the file it
// has open, so that nothing can be swapped between check and read.
func readOwned(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w; restore it from its backup, or, on a first installation, run: (umask 077; head -c 32 /dev/urandom > %s)", ErrKeyFile, err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if err := checkOwned(path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return b, nil
}

func checkOwned(path string, info fs.FileInfo, user int) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrKeyFile, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, so others than its owner have a right to it; run: chmod 600 %s", ErrKeyFile, path, mode, path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != user {
		return fmt.Errorf("%w: %s belongs to user %d and this process runs as user %d; run: chown %d %s", ErrKeyFile, path, stat.Uid, user, user, path)
	}
	return nil
}

// createFile writes a new file with mode 0600 so that after a crash it is
// either whole or absent: a temporary one, fsync, then a hard link under the
// real name, which fails where a rename would overwrite.
func createFile(path string, content []byte) error {
	folder := filepath.Dir(path)
	f, err := os.CreateTemp(folder, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(folder)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
