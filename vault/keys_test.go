package vault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"authswitch/card"
)

func newRoot(t *testing.T, folder string) *KeyFile {
	t.Helper()
	path := filepath.Join(folder, "root.key")
	if err := CreateKeyFile(path, rand.Reader); err != nil {
		t.Fatal(err)
	}
	root, err := OpenKeyFile(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCreateKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	key := strings.Repeat("k", keySize)
	if err := CreateKeyFile(path, strings.NewReader(key)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != keySize {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if err := CreateKeyFile(path, strings.NewReader(strings.Repeat("x", keySize))); !errors.Is(err, os.ErrExist) {
		t.Errorf("an existing key: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != key {
		t.Error("the existing key was overwritten")
	}
	if err := CreateKeyFile(path+"2", strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no randomness: %v", err)
	}
	if err := CreateKeyFile(filepath.Join(path, "not a folder"), rand.Reader); err == nil {
		t.Error("created below a file")
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// A key file that another user could have read, or that is not whole, is
// refused, and the sentence says what to do.
func TestKeyFileRefused(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, size int, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := OpenKeyFile(write("good", keySize, 0o600), rand.Reader); err != nil {
		t.Error(err)
	}
	if _, err := OpenKeyFile(write("read-only", keySize, 0o400), rand.Reader); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ path, says string }{
		{write("group-read", keySize, 0o640), "chmod 600"},
		{write("group-write", keySize, 0o620), "chmod 600"},
		{write("other-read", keySize, 0o604), "chmod 600"},
		{write("other-execute", keySize, 0o601), "chmod 600"},
		{write("short", keySize-1, 0o600), "31 bytes instead of 32"},
		{write("long", keySize+1, 0o600), "33 bytes instead of 32"},
		{write("empty", 0, 0o600), "restore it from its backup"},
		{folder, "not a regular file"},
		{filepath.Join(folder, "absent"), "umask 077"},
	} {
		_, err := OpenKeyFile(c.path, rand.Reader)
		if !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", filepath.Base(c.path), err)
		}
	}
	info, err := os.Stat(filepath.Join(folder, "good"))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkOwned("good", info, os.Geteuid()+1); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("another user's: %v", err)
	}
}

func TestWrap(t *testing.T) {
	root := newRoot(t, t.TempDir())
	wrapped, err := root.Wrap([]byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := root.Wrap([]byte("a key")); bytes.Equal(again, wrapped) {
		t.Error("two wraps are equal")
	}
	if key, err := root.Unwrap(wrapped); err != nil || string(key) != "a key" {
		t.Errorf("%q %v", key, err)
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 0x10
		if _, err := root.Unwrap(bad); !errors.Is(err, ErrWrappedKeys) {
			t.Errorf("byte %d altered: %v", i, err)
		}
		if _, err := root.Unwrap(wrapped[:i]); !errors.Is(err, ErrWrappedKeys) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := newRoot(t, t.TempDir()).Unwrap(wrapped); !errors.Is(err, ErrWrappedKeys) {
		t.Errorf("another root: %v", err)
	}
	root.random = iotest.ErrReader(io.ErrClosedPipe)
	if _, err := root.Wrap(nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("no randomness: %v", err)
	}
}

// The keys are drawn once; a later start, and another process that raced for
// the first one, have the same.
func TestLoad(t *testing.T) {
	folder := t.TempDir()
	root := newRoot(t, folder)
	path := filepath.Join(folder, "vault.keys")
	first, err := Load(root, path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := testCard(t, "4111111111111111", "2712")
	sealed := seal(t, first, nil, c, testID)
	second, err := Load(root, path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var out card.Card
	if err := second.Open(&out, sealed, testID); err != nil || string(out.PAN.RevealPAN()) != "4111111111111111" {
		t.Errorf("after a restart: %v", err)
	}
	if first.BlindIndex(&c.PAN) != second.BlindIndex(&c.PAN) {
		t.Error("the index key changed")
	}
	if a, b := seal(t, first, nil, c, testID), seal(t, second, nil, c, testID); bytes.Equal(a[5:17], b[5:17]) {
		t.Error("two processes draw the same nonces")
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := Load(newRoot(t, t.TempDir()), path, rand.Reader); !errors.Is(err, ErrWrappedKeys) {
		t.Errorf("under another root: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root, path, rand.Reader); !errors.Is(err, ErrKeyFile) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := Load(root, filepath.Join(folder, "other.keys"), strings.NewReader("short")); err == nil {
		t.Error("keys without randomness")
	}
}

// racing lets another process be first while keys are being drawn.
type racing struct {
	Root
	first func()
}

func (r racing) Wrap(key []byte) ([]byte, error) {
	r.first()
	return r.Root.Wrap(key)
}

// Two processes that both find no keys end with the same ones.
func TestLoadRace(t *testing.T) {
	folder := t.TempDir()
	root := newRoot(t, folder)
	path := filepath.Join(folder, "vault.keys")
	var winner *Vault
	loser, err := Load(racing{root, func() {
		var err error
		if winner, err = Load(root, path, rand.Reader); err != nil {
			t.Error(err)
		}
	}}, path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := testCard(t, "4111111111111111", "2712")
	if winner.BlindIndex(&c.PAN) != loser.BlindIndex(&c.PAN) {
		t.Error("two processes have different keys")
	}
}

func TestOpenRefusesBrokenFiles(t *testing.T) {
	root := newRoot(t, t.TempDir())
	good, err := Generate(root, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(good), "\n")
	header, data, index := lines[0], lines[1], lines[2]
	if _, err := Open(root, []byte(header+data+index), rand.Reader); err != nil {
		t.Fatal(err)
	}
	mustWrap := func(purpose string, key []byte) string {
		line, err := wrapKey(root, purpose, key)
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	other := mustWrap(purposeData, bytes.Repeat([]byte{9}, keySize))
	for name, text := range map[string]string{
		"empty":              "",
		"no header":          data + index,
		"another version":    "authswitch vault 2\n" + data + index,
		"no data key":        header + index,
		"no index key":       header + data,
		"two index keys":     header + data + index + index,
		"purposes swapped":   header + "index" + data[4:] + "data" + index[5:],
		"unknown purpose":    header + data + index + "pin" + data[4:],
		"ids swapped":        header + data[:5] + other[5:13] + data[13:] + index,
		"not hexadecimal":    header + data + index[:len(index)-2] + "z\n",
		"an empty line":      header + data + "\n" + index,
		"a cut line":         header + data + index[:len(index)-9],
		"a short key":        header + mustWrap(purposeData, []byte("short")) + index,
		"larger than a file": header + data + index + strings.Repeat(other, 600),
	} {
		if _, err := Open(root, []byte(text), rand.Reader); !errors.Is(err, ErrWrappedKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(root, good, strings.NewReader("short")); err == nil {
		t.Error("opened without a nonce seed")
	}
}

func FuzzOpenKeys(f *testing.F) {
	folder := f.TempDir()
	if err := CreateKeyFile(filepath.Join(folder, "root.key"), rand.Reader); err != nil {
		f.Fatal(err)
	}
	root, err := OpenKeyFile(filepath.Join(folder, "root.key"), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := Generate(root, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(keysHeader + "\ndata 00 00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := Open(root, text, rand.Reader); err == nil && !bytes.HasPrefix(text, []byte(keysHeader)) {
			t.Error("opened something else")
		}
	})
}

func FuzzOpenEnvelope(f *testing.F) {
	v := knownVault(f)
	c := testCard(f, "4970100000000154", "2712")
	f.Add(seal(f, v, nil, c, testID))
	f.Add([]byte{versionFile})
	first := seal(f, v, nil, c, testID)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		var out card.Card
		if err := v.Open(&out, sealed, testID); err == nil && !bytes.Equal(sealed[:5], first[:5]) {
			t.Error("opened under a key of another id")
		}
	})
}
