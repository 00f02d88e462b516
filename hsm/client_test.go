package hsm_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"authswitch/hsm"
	"authswitch/hsm/pinblock"
)

// clearPIN forms a PIN block as a terminal would.
func clearPIN(t testing.TB, f pinblock.Format, pinDigits, panDigits string) []byte {
	t.Helper()
	p, err := pinblock.ParsePIN([]byte(pinDigits))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 16)
	if err := pinblock.Encode(out, f, &p, []byte(panDigits), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return out[:8]
}

const visa = "4111111111111111"

func TestTranslatePIN(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.run())
	from, to, toAES := m.block(1, "P0TDE", double1), m.block(1, "P0TEE", double2), m.block(1, "P0AEE", aes128)
	clearBlock := clearPIN(t, pinblock.ISO0, "1234", visa)
	encrypted := tdes(t, double1, clearBlock, true)
	dst := make([]byte, hsm.PINBytes)
	n, err := c.TranslatePIN(dst, hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, 0)
	if err != nil || n != 8 {
		t.Fatalf("%d %v", n, err)
	}
	if got := tdes(t, double2, dst[:8], false); !bytes.Equal(got, clearBlock) {
		t.Errorf("%X, want %X", got, clearBlock)
	}
	if n, err = c.TranslatePIN(dst, hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: toAES, Format: hsm.ISO4}, 0); err != nil || n != 16 {
		t.Fatalf("%d %v", n, err)
	}
	var back pinblock.PIN
	block, err := aes.NewCipher(unhex(t, aes128))
	if err != nil {
		t.Fatal(err)
	}
	if err := pinblock.Decipher4(&back, block, dst, []byte(visa), pinblock.FullPAN); err != nil || back.Len() != 4 {
		t.Errorf("format 4: %v", err)
	}
	for i, line := range []struct {
		in   hsm.In
		out  hsm.Out
		want error
	}{
		{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, "5555555555554444")}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
		{hsm.In{Key: from, Format: hsm.ISO3, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
		{hsm.In{Key: from, Format: hsm.ISO0, Block: clearBlock, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
		{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted[:7], PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrRefused},
		{hsm.In{Key: to, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrBadKey},
		{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: from, Format: hsm.ISO0}, hsm.ErrBadKey},
		{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO1}, hsm.ErrBadKey},
		{hsm.In{Key: []byte("D0016P0TBE00E0000"), Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrBadKey},
		{hsm.In{Key: nil, Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrBadKey},
		{hsm.In{Key: make([]byte, 9000), Format: hsm.ISO0, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrInput},
		{hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted}, hsm.Out{Key: to, Format: hsm.ISO0}, hsm.ErrInput},
	} {
		_, err := c.TranslatePIN(dst, line.in, line.out, 0)
		if !errors.Is(err, line.want) {
			t.Errorf("line %d: %v, want %v", i, err, line.want)
		}
		if line.want == hsm.ErrRefused && err.Error() != hsm.ErrRefused.Error() {
			t.Errorf("line %d says more than it may: %v", i, err)
		}
	}
	if _, err := c.TranslatePIN(dst[:8], hsm.In{Key: from, Block: encrypted, PAN: pan(t, visa)}, hsm.Out{Key: to}, 0); !errors.Is(err, hsm.ErrInput) {
		t.Errorf("no room: %v", err)
	}
}

func TestMAC(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.run())
	k, other := m.block(1, "M3TCE", double1), m.block(1, "M6ACE", aes128)
	message := []byte("0200B238450128A1801600000000000000001234567890123456")
	mac := make([]byte, 8)
	if err := c.GenerateMAC(mac, k, hsm.PadZeros, 8, message, 0); err != nil || !bytes.Equal(mac, unhex(t, "5CA53457B6288324")) {
		t.Fatalf("%X %v", mac, err)
	}
	for i, line := range []struct{ err, want error }{
		{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac, 0), nil},
		{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac[:4], 0), nil},
		{c.VerifyMAC(other, k, hsm.PadZeros, message, mac, 0), nil},
		{c.VerifyMAC(k, other, hsm.PadZeros, message, mac, 0), nil},
		{c.VerifyMAC(other, nil, hsm.PadZeros, message, mac, 0), hsm.ErrRefused},
		{c.VerifyMAC(k, nil, hsm.PadOneAndZeros, message, mac, 0), hsm.ErrRefused},
		{c.VerifyMAC(k, nil, hsm.PadZeros, message[1:], mac, 0), hsm.ErrRefused},
		{c.VerifyMAC(k, nil, hsm.PadZeros, message, mac[:3], 0), hsm.ErrInput},
		{c.VerifyMAC(k, nil, 9, message, mac, 0), hsm.ErrInput},
		{c.VerifyMAC(m.block(1, "P0TBE", double1), nil, hsm.PadZeros, message, mac, 0), hsm.ErrBadKey},
		{c.GenerateMAC(mac, m.block(1, "M3TVE", double1), hsm.PadZeros, 8, message, 0), hsm.ErrBadKey},
		{c.GenerateMAC(mac, k, hsm.PadZeros, 5, message, 0), hsm.ErrInput},
		{c.GenerateMAC(mac, k, hsm.PadZeros, 8, make([]byte, 7000), 0), nil},
		{c.GenerateMAC(mac, k, hsm.PadZeros, 8, make([]byte, 9000), 0), hsm.ErrInput},
	} {
		if !errors.Is(line.err, line.want) {
			t.Errorf("line %d: %v, want %v", i, line.err, line.want)
		}
	}
}

func seal(t testing.TB, keyHex string, aad, plain []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(unhex(t, keyHex))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	if _, err := rand.Read(nonce); err != nil {
		t.Fatal(err)
	}
	return gcm.Seal(nonce, nonce, plain, aad)
}

func TestDecryptCards(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.run())
	dataKey := m.block(1, "D0ABN", aes256)
	var cards []hsm.Sealed
	for i := range hsm.MaxCards {
		id := bytes.Repeat([]byte{byte(i + 1)}, 16)
		aad := append([]byte("merchant and kind "), id...)
		cards = append(cards, hsm.Sealed{ID: id, AAD: aad, Ciphertext: seal(t, aes256, aad, append([]byte(visa), byte(i))), Plain: make([]byte, 0, 32)})
	}
	cards[5].Ciphertext[20] ^= 1
	cards[9].AAD = cards[8].AAD
	if err := c.DecryptCards(hsm.Outbox, dataKey, cards, 0); err != nil {
		t.Fatal(err)
	}
	for i := range cards {
		bad := i == 5 || i == 9
		if cards[i].OK == bad || !bad && !bytes.Equal(cards[i].Plain, append([]byte(visa), byte(i))) || bad && len(cards[i].Plain) != 0 {
			t.Errorf("card %d: %v %q", i, cards[i].OK, cards[i].Plain)
		}
	}
	ids := 0
	for _, e := range m.book.events {
		if e.Operation != "card.outbox" || !strings.HasPrefix(e.Actors[0], "uid ") {
			t.Errorf("%+v", e)
		}
		ids += len(strings.Fields(e.Object))
	}
	if ids != hsm.MaxCards {
		t.Errorf("%d ids in the audit log", ids)
	}
	before := len(m.book.events)
	for i, line := range []struct{ err, want error }{
		{c.DecryptCards(hsm.Capture, dataKey, nil, 0), hsm.ErrInput},
		{c.DecryptCards(hsm.Capture, dataKey, append(cards, cards[0]), 0), hsm.ErrInput},
		{c.DecryptCards(9, dataKey, cards[:1], 0), hsm.ErrInput},
		{c.DecryptCards(hsm.Capture, dataKey, []hsm.Sealed{{Ciphertext: cards[0].Ciphertext}}, 0), hsm.ErrInput},
		{c.DecryptCards(hsm.Capture, m.block(1, "P0ABN", aes256), cards[:1], 0), hsm.ErrBadKey},
		{c.DecryptCards(hsm.Reveal, dataKey, cards[:1], 0), hsm.ErrInput},
		{c.RevealCard("", "why", dataKey, &cards[0], 0), hsm.ErrInput},
	} {
		if !errors.Is(line.err, line.want) {
			t.Errorf("line %d: %v, want %v", i, line.err, line.want)
		}
	}
	if len(m.book.events) != before+1 { // the wrong key
		t.Errorf("entries about what was refused: %+v", m.book.events[before:])
	}
	if m.book.breaks(errors.New("disk full")); !errors.Is(c.DecryptCards(hsm.Capture, dataKey, cards[:1], 0), hsm.ErrFailed) || len(cards[0].Plain) != 0 {
		t.Error("decrypted what could not be written down")
	}
}

// A person sees a few cards a minute, each with a reason in the audit log.
func TestReveal(t *testing.T) {
	m := newModule(t, fileRoot(t), func(m *module) { m.cfg.RevealsPerMinute = 3 })
	c := m.client(m.run())
	dataKey := m.block(1, "D0ABN", aes256)
	s := hsm.Sealed{ID: []byte("record"), Ciphertext: seal(t, aes256, nil, []byte(visa))}
	for range 3 {
		if err := c.RevealCard("alice", "ticket 7", dataKey, &s, 0); err != nil || string(s.Plain) != visa {
			t.Fatalf("%q %v", s.Plain, err)
		}
	}
	if !strings.Contains(m.book.last(), "card.reveal allowed: 7265636f7264 alice: ticket 7") {
		t.Errorf("%s", m.book.last())
	}
	if err := c.RevealCard("alice", "ticket 7", dataKey, &s, 0); !errors.Is(err, hsm.ErrLimited) || s.OK || len(s.Plain) != 0 {
		t.Errorf("the fourth in a minute: %v", err)
	}
	if !strings.Contains(m.book.last(), "card.reveal refused") {
		t.Errorf("%s", m.book.last())
	}
	if err := c.DecryptCards(hsm.Outbox, dataKey, []hsm.Sealed{s}, 0); err != nil {
		t.Errorf("what is owed is not limited: %v", err)
	}
}
