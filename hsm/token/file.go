package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

// The file root is lines of text, so that a person sees what is there:
//
//	authswitch hsm file root 1
//	lmk 1 5be0…
//	audit 1 3077…
//	test-keys
//
// The audit key is SEC 1 in DER.
const (
	fileHeader = "authswitch hsm file root 1"
	maxFile    = 64 << 10
)

// fileRoot is a root of trust that a thief of one file has.
type fileRoot struct {
	path string

	mu      sync.Mutex
	masters map[int]key.Key
	audits  map[int]*ecdsa.PrivateKey
	test    bool
}

// CreateFile makes an empty root in a new file. One that is there is left
// alone.
func CreateFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	_, err = f.WriteString(fileHeader + "\n")
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	return nil
}

// OpenFile reads a root. It refuses a file that another user could have read.
func OpenFile(path string) (Keeper, error) {
	r := &fileRoot{path: path}
	if err := r.read(); err != nil {
		return nil, err
	}
	return r, nil
}

// read takes the file as it is now: another process may have added a key.
func (r *fileRoot) read() error {
	text, err := readOwned(r.path)
	if err != nil {
		return err
	}
	defer clear(text)
	masters, audits, test := map[int]key.Key{}, map[int]*ecdsa.PrivateKey{}, false
	for number, line := range bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		words := strings.Split(string(line), " ")
		switch {
		case number == 0 && string(line) == fileHeader:
		case number > 0 && len(words) == 3 && words[0] == "lmk":
			err = readMaster(masters, words)
		case number > 0 && len(words) == 3 && words[0] == "audit":
			err = readAudit(audits, words)
		case number > 0 && string(line) == "test-keys":
			test = true
		default:
			err = errors.New("not a line of a key file")
		}
		if err != nil {
			return fmt.Errorf("%w: %s line %d: %w; restore it from its backup", ErrFile, r.path, number+1, err)
		}
	}
	r.masters, r.audits, r.test = masters, audits, test
	return nil
}

func readMaster(masters map[int]key.Key, words []string) error {
	n, ok := numberOf(masterPrefix+words[1], masterPrefix)
	b, err := hex.DecodeString(words[2])
	if !ok || err != nil || len(b) != masterBytes {
		return errors.New("not a local master key")
	}
	defer clear(b)
	masters[n], err = key.New(key.AES, b)
	return err
}

func readAudit(audits map[int]*ecdsa.PrivateKey, words []string) error {
	n, ok := numberOf(auditPrefix+words[1], auditPrefix)
	b, err := hex.DecodeString(words[2])
	if !ok || err != nil {
		return errors.New("not an audit key")
	}
	defer clear(b)
	if audits[n], err = x509.ParseECPrivateKey(b); err != nil {
		return errors.New("not an audit key")
	}
	return nil
}

func readOwned(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; run `hsmd init`, or restore it from its backup", ErrFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrFile, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, so others than its owner have a right to it; run: chmod 600 %s", ErrFile, path, mode, path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: %s belongs to user %d and this process runs as user %d", ErrFile, path, stat.Uid, os.Geteuid())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrFile, path, maxFile)
	}
	return b, nil
}

// change reads the file again, changes what it holds, and writes it whole or
// not at all.
func (r *fileRoot) change(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	var out bytes.Buffer
	defer func() { clear(out.Bytes()) }()
	fmt.Fprintln(&out, fileHeader)
	for _, n := range slices.Sorted(maps.Keys(r.masters)) {
		k := r.masters[n]
		fmt.Fprintf(&out, "lmk %d %x\n", n, k.Reveal())
	}
	for _, n := range slices.Sorted(maps.Keys(r.audits)) {
		der, err := x509.MarshalECPrivateKey(r.audits[n])
		if err != nil {
			return fmt.Errorf("%w: writing an audit key: %w", ErrFile, err)
		}
		fmt.Fprintf(&out, "audit %d %x\n", n, der)
		clear(der)
	}
	if r.test {
		fmt.Fprintln(&out, "test-keys")
	}
	if err := replaceFile(r.path, out.Bytes()); err != nil {
		return fmt.Errorf("%w: %w", ErrFile, err)
	}
	return nil
}

// replaceFile writes a file of mode 0600 whole or not at all.
func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
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
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Masters reads the file again.
func (r *fileRoot) Masters() ([]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(r.masters)), nil
}

// CMAC computes under lmk/<master>.
func (r *fileRoot) CMAC(master int, dst, input []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.masters[master]
	if !ok {
		return fmt.Errorf("%w: no %s in %s", ErrKey, masterName(master), r.path)
	}
	c, err := k.Cipher()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFile, masterName(master), err)
	}
	return mac.NewCMAC(c).Sum(dst, 0, input)
}

// Sign signs with audit/<number>.
func (r *fileRoot) Sign(number int, digest []byte) ([]byte, error) {
	if len(digest) != digestBytes {
		return nil, fmt.Errorf("%w: a digest of %d bytes", ErrNotFit, len(digest))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.audits[number]
	if !ok {
		return nil, fmt.Errorf("%w: no %s in %s", ErrKey, auditName(number), r.path)
	}
	return ecdsa.SignASN1(rand.Reader, k, digest)
}

// PublicKey is that of audit/<number>.
func (r *fileRoot) PublicKey(number int) (*ecdsa.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.audits[number]
	if !ok {
		return nil, fmt.Errorf("%w: no %s in %s", ErrKey, auditName(number), r.path)
	}
	return &k.PublicKey, nil
}

// Describe says what it is, and that it is not what it stands in for.
func (r *fileRoot) Describe() (Description, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Description{Kind: "file", Manufacturer: "authswitch", Model: "key file", Label: r.path, Library: "none", TestKeys: r.test}, nil
}

// Close wipes the masters.
func (r *fileRoot) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.masters)
	clear(r.audits)
	return nil
}

// CreateMaster draws lmk/<n>.
func (r *fileRoot) CreateMaster(n int) error {
	b := make([]byte, masterBytes)
	defer clear(b)
	if _, err := rand.Read(b); err != nil {
		return fmt.Errorf("drawing a local master key: %w", err)
	}
	k, err := key.New(key.AES, b)
	if err != nil {
		return fmt.Errorf("drawing a local master key: %w", err)
	}
	defer k.Wipe()
	return r.ImportMaster(n, &k)
}

// ImportMaster takes lmk/<n> in.
func (r *fileRoot) ImportMaster(n int, k *key.Key) error {
	if err := checkMaster(n, k); err != nil {
		return err
	}
	return r.change(func() error {
		if _, there := r.masters[n]; there {
			return fmt.Errorf("%w: %s in %s", ErrExists, masterName(n), r.path)
		}
		r.masters[n] = *k
		return nil
	})
}

// DestroyMaster forgets lmk/<n>.
func (r *fileRoot) DestroyMaster(n int) error {
	return r.change(func() error {
		if _, there := r.masters[n]; !there {
			return fmt.Errorf("%w: no %s in %s", ErrKey, masterName(n), r.path)
		}
		delete(r.masters, n)
		return nil
	})
}

// CreateAudit draws audit/<n>.
func (r *fileRoot) CreateAudit(n int) error {
	if err := checkNumber(n); err != nil {
		return err
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("drawing an audit key: %w", err)
	}
	return r.change(func() error {
		if _, there := r.audits[n]; there {
			return fmt.Errorf("%w: %s in %s", ErrExists, auditName(n), r.path)
		}
		r.audits[n] = k
		return nil
	})
}

// MarkTest writes the line of test keys.
func (r *fileRoot) MarkTest() error {
	return r.change(func() error {
		r.test = true
		return nil
	})
}
