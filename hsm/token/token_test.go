package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

const (
	userPIN    = "user-pin"
	officerPIN = "officer-pin"
)

// softConf is a SoftHSM of the test's own.
func softConf(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", filepath.Join(dir, "tokens")), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// soft is an initialised token in a SoftHSM of the test's own. The module is
// one per process: tests with it do not run side by side.
func soft(t testing.TB) PKCS11 {
	t.Helper()
	c := PKCS11{Module: softHSM, Label: "test", SoftHSMConf: softConf(t)}
	if err := InitPKCS11(c, []byte(officerPIN), []byte(userPIN)); err != nil {
		t.Fatalf("%v; `make setup` installs SoftHSM", err)
	}
	return c
}

func open(t testing.TB, c PKCS11) Keeper {
	t.Helper()
	r, err := OpenPKCS11(c, []byte(userPIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// The token is the real one: what stands here is what SoftHSM says of itself.
func TestIsSoftHSM(t *testing.T) {
	d, err := open(t, soft(t)).Describe()
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "pkcs11" || d.Manufacturer != "SoftHSM project" || !strings.HasPrefix(d.Model, "SoftHSM") || d.Label != "test" || d.Serial == "" || d.TestKeys {
		t.Errorf("%+v", d)
	}
}

// Both roots do the same, asked the same way.
func TestRoots(t *testing.T) {
	for _, c := range []struct {
		name string
		open func(t *testing.T) (r Keeper, again func() Keeper)
	}{
		{"SoftHSM", func(t *testing.T) (Keeper, func() Keeper) {
			conf := soft(t)
			r, err := OpenPKCS11(conf, []byte(userPIN))
			if err != nil {
				t.Fatal(err)
			}
			return r, func() Keeper { return open(t, conf) }
		}},
		{"file", func(t *testing.T) (Keeper, func() Keeper) {
			path := filepath.Join(t.TempDir(), "root")
			if err := CreateFile(path); err != nil {
				t.Fatal(err)
			}
			if err := CreateFile(path); !errors.Is(err, ErrExists) {
				t.Errorf("created twice: %v", err)
			}
			reopen := func() Keeper {
				r, err := OpenFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			return reopen(), reopen
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, again := c.open(t)
			exercise(t, r)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			afterwards(t, again())
		})
	}
}

// exercise leaves lmk/1 (imported), lmk/3 (drawn), audit/1 and the test mark.
func exercise(t *testing.T, r Keeper) {
	t.Helper()
	if n, err := r.Masters(); err != nil || len(n) != 0 {
		t.Fatalf("%v %v", n, err)
	}
	known := masterKey(t)
	for i, c := range []struct{ err, want error }{
		{r.ImportMaster(1, known), nil},
		{r.ImportMaster(1, known), ErrExists},
		{r.CreateMaster(1), ErrExists},
		{r.CreateMaster(2), nil},
		{r.CreateMaster(3), nil},
		{r.DestroyMaster(2), nil},
		{r.DestroyMaster(2), ErrKey},
		{r.CreateMaster(0), ErrTooLarge},
		{r.CreateMaster(1000), ErrTooLarge},
		{r.CreateAudit(1), nil},
		{r.CreateAudit(1), ErrExists},
		{r.CreateAudit(-1), ErrTooLarge},
		{r.MarkTest(), nil},
		{r.MarkTest(), nil},
		{r.CMAC(9, make([]byte, 16), nil), ErrKey},
		{r.ImportMaster(5, new(short(t))), ErrNotFit},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("line %d: %v, want %v", i, c.err, c.want)
		}
	}
	if _, err := r.Sign(2, make([]byte, 32)); !errors.Is(err, ErrKey) {
		t.Errorf("signed with a key that is not there: %v", err)
	}
	if _, err := r.Sign(1, make([]byte, 31)); !errors.Is(err, ErrNotFit) {
		t.Errorf("signed a short digest: %v", err)
	}
	if _, err := r.PublicKey(2); !errors.Is(err, ErrKey) {
		t.Errorf("a public key that is not there: %v", err)
	}
}

func afterwards(t *testing.T, r Keeper) {
	t.Helper()
	defer r.Close()
	if n, err := r.Masters(); err != nil || len(n) != 2 || n[0] != 1 || n[1] != 3 {
		t.Fatalf("%v %v", n, err)
	}
	if d, err := r.Describe(); err != nil || !d.TestKeys {
		t.Errorf("the mark of test keys is gone: %v", err)
	}
	known, err := masterKey(t).Cipher()
	if err != nil {
		t.Fatal(err)
	}
	var other [16]byte
	for _, message := range [][]byte{nil, []byte("8 bytes."), make([]byte, 16), []byte("more than one block of a cipher")} {
		var got, want [16]byte
		if err := mac.NewCMAC(known).Sum(want[:], 0, message); err != nil {
			t.Fatal(err)
		}
		if err := r.CMAC(1, got[:], message); err != nil || got != want {
			t.Errorf("%q: %x %v, want %x", message, got, err, want)
		}
		if err := r.CMAC(3, other[:], message); err != nil || other == want {
			t.Errorf("lmk/3 is lmk/1: %v", err)
		}
	}
	digest := sha256.Sum256([]byte("the chain"))
	public, err := r.PublicKey(1)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := r.Sign(1, digest[:])
	if err != nil || !ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Errorf("the signature does not verify: %v", err)
	}
	digest[0] ^= 1
	if ecdsa.VerifyASN1(public, digest[:], signature) {
		t.Error("the signature verifies over another digest")
	}
}

func masterKey(t testing.TB) *key.Key {
	t.Helper()
	k, err := key.New(key.AES, []byte("thirty-two bytes of a master key"))
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

func short(t testing.TB) key.Key {
	t.Helper()
	k, err := key.New(key.AES, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Many goroutines on one token: a session each, or SoftHSM takes the process
// down.
func TestSideBySide(t *testing.T) {
	r := open(t, soft(t))
	if err := errors.Join(r.CreateMaster(1), r.CreateAudit(1)); err != nil {
		t.Fatal(err)
	}
	var want [16]byte
	if err := r.CMAC(1, want[:], []byte("x")); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 50 {
				var got [16]byte
				if err := r.CMAC(1, got[:], []byte("x")); err != nil || got != want {
					t.Errorf("%x %v", got, err)
				}
			}
			if _, err := r.Sign(1, make([]byte, 32)); err != nil {
				t.Error(err)
			}
			if _, err := r.Masters(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A master key never leaves, and does nothing but CMACs: asked of the token
// itself, past our code.
func TestMastersStay(t *testing.T) {
	r := open(t, soft(t)).(*pkcs11Root)
	if err := errors.Join(r.CreateMaster(1), r.ImportMaster(2, masterKey(t))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lmk/1", "lmk/2"} {
		h, err := r.handle(name)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := r.ctx.GetAttributeValue(r.owner, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil {
			t.Errorf("%s: its value is read: %d bytes", name, len(v[0].Value))
		}
		if r.ctx.EncryptInit(r.owner, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_ECB, nil)}, h) == nil {
			t.Errorf("%s encrypts", name)
		}
		for _, a := range []uint{pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_DECRYPT} {
			if r.ctx.SetAttributeValue(r.owner, h, []*pkcs11.Attribute{pkcs11.NewAttribute(a, true)}) == nil && a == pkcs11.CKA_EXTRACTABLE {
				t.Errorf("%s becomes extractable", name)
			}
		}
	}
}

// A key that another program made, and that may leave or decrypt, is no local
// master key.
func TestForeignMaster(t *testing.T) {
	for _, c := range []struct {
		attribute uint
		value     any
	}{
		{pkcs11.CKA_EXTRACTABLE, true},
		{pkcs11.CKA_SENSITIVE, false},
		{pkcs11.CKA_DECRYPT, true},
		{pkcs11.CKA_WRAP, true},
		{pkcs11.CKA_VALUE_LEN, 16},
	} {
		t.Run(fmt.Sprintf("%X", c.attribute), func(t *testing.T) {
			r := open(t, soft(t)).(*pkcs11Root)
			template := append(masterUse(), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "lmk/1"), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32))
			for _, a := range template {
				if a.Type == c.attribute {
					a.Value = pkcs11.NewAttribute(c.attribute, c.value).Value
				}
			}
			if _, err := r.ctx.GenerateKey(r.owner, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, template); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Masters(); !errors.Is(err, ErrNotFit) || !strings.Contains(err.Error(), "lmk/1") {
				t.Errorf("attribute %X: %v", c.attribute, err)
			}
		})
	}
}

// What can be wrong with a token, and the words that cure it.
func TestTokenRefused(t *testing.T) {
	good := soft(t)
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	conf := filepath.Join(dir, "bad.conf")
	if err := errors.Join(os.WriteFile(text, []byte("no library"), 0o600),
		os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "absent")+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		c    PKCS11
		pin  string
		want error
		says string
	}{
		{PKCS11{Module: filepath.Join(dir, "absent.so"), Label: "test"}, userPIN, ErrModule, "make setup"},
		{PKCS11{Module: text, Label: "test"}, userPIN, ErrModule, "root.module"},
		{PKCS11{Module: softHSM, Label: "test", SoftHSMConf: conf}, userPIN, ErrModule, "directories.tokendir"},
		{PKCS11{Module: softHSM, Label: "other", SoftHSMConf: good.SoftHSMConf}, userPIN, ErrAbsent, "hsmd init"},
		{good, "wrong-pin", ErrPIN, "root.pin_file"},
		{good, "", ErrPIN, "root.pin_file"},
		{good, officerPIN, ErrPIN, "root.pin_file"},
	} {
		r, err := OpenPKCS11(c.c, []byte(c.pin))
		if err == nil {
			_ = r.Close()
		}
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "wrong-pin") {
			t.Errorf("%+v: %v", c.c, err)
		}
	}
	if err := InitPKCS11(good, []byte(officerPIN), []byte("another")); !errors.Is(err, ErrExists) {
		t.Errorf("initialised twice: %v", err)
	}
	open(t, good) // and after all that it still opens
}

// The token's directory goes away under a running module.
func TestTokenGone(t *testing.T) {
	c := soft(t)
	r := open(t, c)
	if err := os.RemoveAll(filepath.Join(filepath.Dir(c.SoftHSMConf), "tokens")); err != nil {
		t.Fatal(err)
	}
	if err := r.CreateMaster(1); err == nil || !strings.Contains(err.Error(), "token directory") {
		t.Errorf("a key in a token that is gone: %v", err)
	}
}

// What SoftHSM never answers, other tokens do.
func TestTokenErrors(t *testing.T) {
	for _, c := range []struct {
		value uint
		want  error
		says  string
	}{
		{pkcs11.CKR_PIN_LOCKED, ErrLocked, "security officer"},
		{pkcs11.CKR_USER_PIN_NOT_INITIALIZED, ErrPIN, "security officer"},
		{pkcs11.CKR_DEVICE_MEMORY, ErrFull, "make room"},
		{pkcs11.CKR_DEVICE_REMOVED, ErrAbsent, "put it back"},
		{pkcs11.CKR_TOKEN_WRITE_PROTECTED, ErrToken, "write protected"},
		{pkcs11.CKR_DEVICE_ERROR, ErrToken, "has room"},
		{pkcs11.CKR_MECHANISM_INVALID, ErrToken, "MECHANISM_INVALID"},
	} {
		if err := tokenError("doing it", pkcs11.Error(c.value)); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "doing it") {
			t.Errorf("%X: %v", c.value, err)
		}
	}
	if err := tokenError("doing it", errors.New("else")); !errors.Is(err, ErrToken) {
		t.Error(err)
	}
}

func TestFileRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	master := "lmk 1 " + strings.Repeat("ab", 32) + "\n"
	for _, c := range []struct{ path, says string }{
		{write("group", fileHeader+"\n"+master, 0o640), "chmod 600"},
		{write("empty", "", 0o600), "line 1"},
		{write("other", "authswitch vault 1\n", 0o600), "line 1"},
		{write("short", fileHeader+"\nlmk 1 abab\n", 0o600), "line 2"},
		{write("number", fileHeader+"\nlmk 01 "+strings.Repeat("ab", 32)+"\n", 0o600), "line 2"},
		{write("audit", fileHeader+"\n"+master+"audit 1 abab\n", 0o600), "line 3"},
		{write("word", fileHeader+"\n"+master+"else\n", 0o600), "line 3"},
		{write("long", fileHeader+"\n"+strings.Repeat("\n", maxFile), 0o600), "larger"},
		{dir, "regular"},
		{filepath.Join(dir, "absent"), "hsmd init"},
	} {
		if _, err := OpenFile(c.path); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "abab") {
			t.Errorf("%s: %v", filepath.Base(c.path), err)
		}
	}
	if r, err := OpenFile(write("good", fileHeader+"\n"+master, 0o600)); err != nil {
		t.Error(err)
	} else if n, err := r.Masters(); err != nil || len(n) != 1 {
		t.Error(n, err)
	}
}

// A change writes the whole file or leaves it, and nothing beside it.
func TestFileChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "root")
	if err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	r, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.CreateMaster(1), second.CreateMaster(2), r.CreateMaster(3)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Masters(); err != nil || len(n) != 3 {
		t.Errorf("of two processes one overwrote the other: %v %v", n, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	before, _ := os.ReadFile(path)
	if err := r.CreateMaster(3); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a refused change was written")
	}
}
