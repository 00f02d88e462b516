package hsm_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"authswitch/hsm"
	"authswitch/hsm/token"
)

// softHSM is a real token, made for the test in a SoftHSM of its own.
func softHSM(t testing.TB) token.Keeper {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	err := errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nlog.level = ERROR\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	c := token.PKCS11{Module: "/usr/lib/softhsm/libsofthsm2.so", Label: "engine", SoftHSMConf: conf}
	if err := token.InitPKCS11(c, []byte("officer"), []byte("user")); err != nil {
		t.Fatalf("%v: `make setup` installs SoftHSM", err)
	}
	r, err := token.OpenPKCS11(c, []byte("user"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := r.CreateMaster(1); err != nil {
		t.Fatal(err)
	}
	d, err := r.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if d.Manufacturer != "SoftHSM project" {
		t.Fatalf("the root of trust is %+v, not SoftHSM", d)
	}
	return r
}

// The engine for real: every kind of operation with keys under a master key
// that lives in SoftHSM, through client, socket and server.
func TestOnSoftHSM(t *testing.T) {
	m := newModule(t, softHSM(t))
	c, admin := m.client(m.run()), m.client(m.admin())
	generate := func(c *hsm.Client, spelled string, bytes int) hsm.Key {
		t.Helper()
		a, err := hsm.ParseAttributes(spelled)
		if err != nil {
			t.Fatal(err)
		}
		k, err := c.Generate(a, bytes, 0)
		if err != nil || k.Attributes != a || k.Master != 1 {
			t.Fatalf("%s: %+v %v", spelled, k, err)
		}
		shown, err := c.KCV(k.Block, 0)
		if err != nil || !sameKCV(shown.KCV, k.KCV) || shown.Attributes != a || shown.Master != 1 {
			t.Fatalf("%s: %+v %v", spelled, shown, err)
		}
		return k
	}
	// A PIN key that goes to a peer in a block and comes back, and MACs under it.
	kbpk := generate(admin, "K1ABN", 32)
	mac := generate(c, "M6ACE", 16)
	sent, err := c.Export(kbpk.Block, mac.Block, hsm.Block, 0)
	if err != nil || !sameKCV(sent.KCV, mac.KCV) || sent.Sent[0] != 'D' {
		t.Fatalf("%+v %v", sent, err)
	}
	back, err := c.Import(kbpk.Block, sent.Sent, hsm.ImportRequest{Form: hsm.Block, Want: mac.Attributes, CheckValue: mac.KCV}, 0)
	if err != nil || !sameKCV(back.KCV, mac.KCV) {
		t.Fatalf("%+v %v", back, err)
	}
	var sum [8]byte
	if err := c.GenerateMAC(sum[:], mac.Block, 0, 8, []byte("message"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.VerifyMAC(back.Block, nil, 0, []byte("message"), sum[:], 0); err != nil {
		t.Errorf("under the key that came back: %v", err)
	}
	// Raw, as networks send keys.
	kek, pin := generate(admin, "K0TBN", 24), generate(c, "P0TBS", 16)
	raw, err := c.Export(kek.Block, pin.Block, hsm.Raw, 0)
	if err != nil || len(raw.Sent) != 16 {
		t.Fatalf("%+v %v", raw, err)
	}
	if k, err := c.Import(kek.Block, raw.Sent, hsm.ImportRequest{Form: hsm.Raw, Want: pin.Attributes, CheckValue: raw.KCV}, 0); err != nil || !sameKCV(k.KCV, pin.KCV) {
		t.Errorf("%+v %v", k, err)
	}
	if _, err := c.Import(kek.Block, raw.Sent, hsm.ImportRequest{Form: hsm.Raw, Want: pin.Attributes, CheckValue: []byte{1, 2, 3}}, 0); !errors.Is(err, hsm.ErrBadKey) {
		t.Errorf("a wrong check value: %v", err)
	}
	// Every flipped character of a header is refused, and the reason written down.
	for i := range 16 {
		bad := bytes.Clone(sent.Sent)
		bad[i] ^= 1
		if _, err := c.Import(kbpk.Block, bad, hsm.ImportRequest{Form: hsm.Block, Want: mac.Attributes}, 0); !errors.Is(err, hsm.ErrBadKey) {
			t.Errorf("character %d flipped: %v", i, err)
		}
		if last := m.book.last(); !strings.Contains(last, "key.import refused") {
			t.Errorf("character %d flipped: the audit log says %s", i, last)
		}
	}
	// A data key, released and used.
	data := generate(c, "D0ABN", 32)
	var clearKey [32]byte
	if err := c.ReleaseDataKey(&clearKey, data.Block, 0); err != nil || !strings.Contains(m.book.last(), "key.release allowed") {
		t.Fatalf("%v: %s", err, m.book.last())
	}
	if err := c.ReleaseDataKey(&clearKey, pin.Block, 0); !errors.Is(err, hsm.ErrBadKey) || !strings.Contains(m.book.last(), "key.release refused") {
		t.Errorf("a PIN key left: %v: %s", err, m.book.last())
	}
}

func sameKCV(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }

// A master key is replaced under load: blocks of the old one go on to open,
// each is wrapped again, and after the old one is destroyed only those open.
func TestMasterRotation(t *testing.T) {
	m := newModule(t, softHSM(t))
	c, admin := m.client(m.run()), m.client(m.admin())
	k := m.block(1, "M3TCN", double1)
	message := []byte("message")
	var mac [8]byte
	if err := c.GenerateMAC(mac[:], k, hsm.PadZeros, 8, message, 0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	current := k
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				block := current
				mu.Unlock()
				if err := c.VerifyMAC(block, nil, hsm.PadZeros, message, mac[:], 0); err != nil {
					t.Errorf("during the rotation: %v", err)
					return
				}
			}
		})
	}
	n, err := admin.NewMaster(0)
	if err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	wrapped, err := c.Rewrap(k, 0)
	if err != nil || wrapped.Master != 2 || bytes.Equal(wrapped.Block, k) || !strings.Contains(m.book.last(), "from lmk/1 to lmk/2") {
		t.Fatalf("%+v %v: %s", wrapped, err, m.book.last())
	}
	if again, err := c.Rewrap(wrapped.Block, 0); err != nil || !bytes.Equal(again.Block, wrapped.Block) {
		t.Errorf("wrapped twice: %v", err)
	}
	if shown, err := c.KCV(k, 0); err != nil || shown.Master != 1 {
		t.Errorf("%+v %v", shown, err)
	}
	mu.Lock()
	current = wrapped.Block
	mu.Unlock()
	if err := admin.RetireMaster(2, 0); !errors.Is(err, hsm.ErrBadKey) {
		t.Errorf("the one that seals was destroyed: %v", err)
	}
	close(stop)
	all.Wait()
	if err := admin.RetireMaster(1, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.VerifyMAC(k, nil, hsm.PadZeros, message, mac[:], 0); !errors.Is(err, hsm.ErrBadKey) {
		t.Errorf("a block of a destroyed master key: %v", err)
	}
	if err := c.VerifyMAC(wrapped.Block, nil, hsm.PadZeros, message, mac[:], 0); err != nil {
		t.Error(err)
	}
	if s, err := c.Status(0); err != nil || len(s.Masters) != 1 || s.Masters[0] != 2 {
		t.Errorf("%+v %v", s, err)
	}
}

// Another module on the same token makes a master key: blocks under it open
// here without anybody saying so.
func TestMasterOfAnother(t *testing.T) {
	root := softHSM(t)
	m, other := newModule(t, root), newModule(t, root)
	if n, err := other.client(other.admin()).NewMaster(0); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	k := m.block(2, "M3TCN", double1)
	c := m.client(m.run())
	await(t, "the new master key is seen", func() bool {
		_, err := c.KCV(k, 0)
		return err == nil
	})
	if n, err := m.client(m.admin()).Reload(0); err != nil || n != 2 {
		t.Error(n, err)
	}
}
