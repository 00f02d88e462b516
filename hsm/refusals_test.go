package hsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/audit"
)

// refusals are the entries about what was refused, in words.
func (b *book) refusals() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.events {
		if e.Outcome == audit.Refused {
			out = append(out, fmt.Sprintf("%v %s %s: %s", e.Actors, e.Operation, e.Object, e.Reason))
		}
	}
	return out
}

// await waits until an entry says all of some words.
func (m *module) await(words ...string) {
	m.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
	entries:
		for _, e := range m.book.refusals() {
			for _, w := range words {
				if !strings.Contains(e, w) {
					continue entries
				}
			}
			return
		}
	}
	m.t.Errorf("the audit log has no refusal with %q, but %q", words, m.book.refusals())
}

// Every reason for which a key block is refused, through the real server: the
// client is told so, and the audit log says why, of whom and of which block.
func TestRefusedBlocksAreWrittenDown(t *testing.T) {
	m := newModule(t, fileRoot(t))
	run, admin := m.client(m.run()), m.client(m.admin())
	mac, pin, pinAES := m.block(1, "M3TCE", double1), m.block(1, "P0TBE", double2), m.block(1, "P0ABE", aes128)
	kek, strongKEK := m.block(1, "K1TBN", double1), m.block(1, "K1ABN", aes256)
	flipped := func(block []byte, at int) []byte {
		out := bytes.Clone(block)
		out[at] ^= 1
		return out
	}
	sum := make([]byte, 8)
	translate := func(in, out []byte) error {
		_, err := run.TranslatePIN(make([]byte, 16), hsm.In{Key: in, Block: unhex(t, double1)[:8], PAN: pan(t, visa)}, hsm.Out{Key: out}, 0)
		return err
	}
	generate := func(k []byte) error { return run.GenerateMAC(sum, k, hsm.PadZeros, 8, []byte("m"), 0) }
	verify := func(k, previous []byte) error { return run.VerifyMAC(k, previous, hsm.PadZeros, []byte("m"), sum, 0) }
	export := func(kek, k []byte) error { _, err := admin.Export(kek, k, hsm.Block, 0); return err }
	sent, err := admin.Export(strongKEK, m.block(1, "P0TBE", double2), hsm.Block, 0)
	if err != nil {
		t.Fatal(err)
	}
	take := func(want string, block []byte) error {
		a, err := hsm.ParseAttributes(want)
		if err != nil {
			t.Fatal(err)
		}
		_, err = admin.Import(strongKEK, block, hsm.ImportRequest{Form: hsm.Block, Want: a}, 0)
		return err
	}
	const noMAC = "MAC"
	for i, c := range []struct {
		err       error
		operation string
		reason    string
	}{
		{translate(flipped(pin, 5), pin), "key.use translate_pin block sha256 ", noMAC},
		{translate(pin, flipped(pin, 8)), "key.use translate_pin block sha256 ", noMAC},
		{generate(flipped(mac, 7)), "key.use generate_mac block sha256 ", noMAC},
		{verify(flipped(mac, 11), nil), "key.use verify_mac block sha256 ", noMAC},
		{verify(mac, flipped(mac, 11)), "key.use verify_mac block sha256 ", noMAC},
		{translate(mac, pin), "key.use translate_pin", "usage M3, mode C"},
		{translate(pin, mac), "key.use translate_pin", "usage M3, mode C"},
		{generate(pin), "key.use generate_mac", "usage P0, mode B"},
		{verify(pin, nil), "key.use verify_mac", "usage P0, mode B"},
		{generate(m.block(1, "M3TVE", double1)), "key.use generate_mac", "usage M3, mode V"},
		{verify(m.block(1, "M3TGE", double1), nil), "key.use verify_mac", "usage M3, mode G"},
		{translate(m.block(1, "P0TEE", double1), pin), "key.use translate_pin", "usage P0, mode E"},
		{generate(m.block(1, "M3ACE", aes128)), "key.use generate_mac block sha256 ", "A for M3"},
		{translate(pinAES, pin), "key.use translate_pin", ""}, // an AES key and a block of format 0
		{generate(m.block(1, "M3TXE", double1)), "key.use generate_mac block sha256 ", "X for M3"},
		{generate(m.block(1, "M3TCE", double1[:16])), "key.use generate_mac block sha256 ", "8 bytes for M3"},
		{generate(m.block(1, "M3TCE", double1+double1[:16])), "key.use generate_mac block sha256 ", "24 bytes for M3"},
		{generate(m.block(1, "M3TCE", double1[:16]+double1[:16])), "key.use generate_mac block sha256 ", ""}, // equal halves
		{generate(m.block(1, "B1TXE", double1)), "key.use generate_mac block sha256 ", "B1"},
		{generate([]byte("no block")), "key.use generate_mac block sha256 ", ""},
		{export(strongKEK, m.block(1, "P0TBN", double2)), "key.export P0TBN", "must not leave"},
		{export(kek, pinAES), "key.export P0ABE", "weaker"},
		{export(mac, pin), "key.export P0TBE", "usage M3"},
		{take("P0TBE", flipped(sent.Sent, 9)), "key.import", noMAC},
		{take("P0TBN", sent.Sent), "key.import", "header"},
		{take("M3TCE", sent.Sent), "key.import", "header"},
	} {
		if !errors.Is(c.err, hsm.ErrBadKey) {
			t.Errorf("line %d: %v, want %v", i, c.err, hsm.ErrBadKey)
			continue
		}
		m.await("[uid ", c.operation, c.reason)
	}
}

// Refusals that repeat are one entry and then a count: nobody fills the audit log
// with them, and none is lost.
func TestRefusalsAreNoFlood(t *testing.T) {
	const each, kinds = 5000, 3
	m := newModule(t, fileRoot(t), func(m *module) { m.cfg.RefusalsEvery = time.Hour })
	c := m.client(m.run())
	wrong := [kinds][]byte{m.block(1, "P0TBE", double1), m.block(1, "M3TVE", double1), []byte("no block")}
	sum := make([]byte, 8)
	for range each {
		for _, k := range wrong {
			if err := c.GenerateMAC(sum, k, hsm.PadZeros, 8, []byte("m"), 0); !errors.Is(err, hsm.ErrBadKey) {
				t.Fatal(err)
			}
		}
	}
	m.server.Close() // it writes what it counted
	got := m.book.refusals()
	if len(got) != 2*kinds {
		t.Errorf("%d entries of %d refusals: %q", len(got), kinds*each, got)
	}
	for _, e := range got[kinds:] {
		if !strings.Contains(e, fmt.Sprintf("%d more: ", each-1)) {
			t.Errorf("a count: %s", e)
		}
	}
	// Of more kinds than are told apart, the number is known.
	m.start()
	c = m.client(m.run())
	before := len(m.book.refusals())
	letters := "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	usages := 0
	for _, a := range letters {
		for _, b := range letters[:12] {
			k := m.block(1, fmt.Sprintf("%c%cTCE", a, b), double1)
			if err := c.GenerateMAC(sum, k, hsm.PadZeros, 8, []byte("m"), 0); !errors.Is(err, hsm.ErrBadKey) {
				t.Fatal(err)
			}
			usages++
		}
	}
	m.server.Close()
	got = m.book.refusals()[before:]
	if len(got) != 257 || !strings.Contains(got[256], fmt.Sprintf("%d refusals of more kinds", usages-256)) {
		t.Errorf("%d entries of %d kinds, the last %s", len(got), usages, got[len(got)-1])
	}
	m.start() // the test's end closes it
}

// Each purpose has its limit: beyond it cards stay closed, the client is told so,
// and the audit log says it. Other purposes go on.
func TestPurposesAreLimited(t *testing.T) {
	now := time.Now()
	m := newModule(t, fileRoot(t), func(m *module) {
		m.cfg.OutboxPerSecond, m.cfg.CapturesPerSecond = 70, 64
		m.now = func() time.Time { return now } // no second passes
	})
	c := m.client(m.run())
	dataKey := m.block(1, "D0ABN", aes256)
	cards := make([]hsm.Sealed, hsm.MaxCards)
	for i := range cards {
		id := []byte(fmt.Sprintf("record %02d", i))
		cards[i] = hsm.Sealed{ID: id, AAD: id, Ciphertext: seal(t, aes256, id, []byte(visa)), Plain: make([]byte, 0, 32)}
	}
	for i, line := range []struct {
		purpose hsm.Purpose
		cards   int
		want    error
	}{
		{hsm.Outbox, 64, nil},
		{hsm.Outbox, 7, hsm.ErrLimited},
		{hsm.Outbox, 6, nil},
		{hsm.Outbox, 1, hsm.ErrLimited},
		{hsm.Capture, 64, nil}, // of its own
		{hsm.Capture, 1, hsm.ErrLimited},
	} {
		err := c.DecryptCards(line.purpose, dataKey, cards[:line.cards], 0)
		if !errors.Is(err, line.want) || line.want != nil && (!strings.Contains(err.Error(), "a second are the limit for "+line.purpose.String()) || len(cards[0].Plain) != 0) {
			t.Errorf("line %d: %v, want %v", i, err, line.want)
		}
	}
	m.await("card.outbox ", "70 a second are the limit for outbox (limits.outbox_per_second)")
	m.await("card.capture ", "64 a second are the limit for capture")
}

// Cards move to another data key inside the module: only those that open, each
// bound to what it is told, written down first, within a limit of its own.
func TestResealCards(t *testing.T) {
	now := time.Now()
	m := newModule(t, fileRoot(t), func(m *module) {
		m.cfg.ResealsPerSecond = 70
		m.now = func() time.Time { return now }
	})
	c := m.client(m.run())
	const next = "0123456789ABCDEF0123456789ABCDEF00112233445566778899AABBCCDDEEFF"
	from, to := m.block(1, "D0ABN", aes256), m.block(1, "D0ABN", next)
	cards := make([]hsm.Resealed, hsm.MaxCards/2)
	for i := range cards {
		id := []byte(fmt.Sprintf("record %02d", i))
		cards[i] = hsm.Resealed{ID: id, AAD: id, Next: append([]byte("next "), id...), Ciphertext: seal(t, aes256, id, []byte(visa))}
	}
	cards[3].Ciphertext[20] ^= 1
	cards[4].Ciphertext = nil
	if err := c.ResealCards(from, to, cards, 0); err != nil {
		t.Fatal(err)
	}
	for i := range cards {
		if cards[i].OK != (i != 3 && i != 4) {
			t.Errorf("card %d: %t", i, cards[i].OK)
		}
	}
	check := []hsm.Sealed{{ID: cards[5].ID, AAD: cards[5].Next, Ciphertext: cards[5].Ciphertext}, {ID: cards[6].ID, AAD: cards[6].AAD, Ciphertext: cards[6].Ciphertext}}
	if err := c.DecryptCards(hsm.Outbox, to, check, 0); err != nil || !check[0].OK || string(check[0].Plain) != visa || check[1].OK {
		t.Errorf("%v: %+v", err, check)
	}
	ids := 0
	for _, e := range m.book.events {
		if e.Operation == "card.reseal" && e.Outcome == audit.Allowed {
			ids += len(strings.Fields(e.Object))
		}
	}
	if ids != len(cards) {
		t.Errorf("%d ids in the audit log", ids)
	}
	for i, line := range []struct{ err, want error }{
		{c.ResealCards(from, m.block(1, "D0ADN", next), cards[:1], 0), hsm.ErrBadKey}, // may not encrypt
		{c.ResealCards(m.block(1, "D0AEN", aes256), to, cards[:1], 0), hsm.ErrBadKey}, // may not decrypt: a blind-index key
		{c.ResealCards(from, m.block(1, "P0ABN", aes256), cards[:1], 0), hsm.ErrBadKey},
		{c.ResealCards(from, to, nil, 0), hsm.ErrInput},
		{c.ResealCards(from, to, []hsm.Resealed{{Ciphertext: cards[0].Ciphertext}}, 0), hsm.ErrInput},
		{c.ResealCards(from, to, cards, 0), nil},
		{c.ResealCards(from, to, cards[:7], 0), hsm.ErrLimited},
		{c.DecryptCards(9, from, check[:1], 0), hsm.ErrInput},
		{c.DecryptCards(hsm.Purpose(4), from, check[:1], 0), hsm.ErrInput}, // reseal gives no number away
	} {
		if !errors.Is(line.err, line.want) {
			t.Errorf("line %d: %v, want %v", i, line.err, line.want)
		}
	}
	m.await("card.reseal ", "70 a second are the limit for reseal")
	if m.book.breaks(errors.New("disk full")); !errors.Is(c.ResealCards(from, to, cards[:1], 0), hsm.ErrFailed) && !errors.Is(c.ResealCards(from, to, cards[:1], 0), hsm.ErrLimited) {
		t.Error("done without the audit log")
	}
}
