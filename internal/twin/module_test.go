package twin_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"authswitch/card"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/tr31"
	"authswitch/iso8583"
	"authswitch/payment"
	"authswitch/sim"
)

// The clear keys of these runs: the terminals' and the acquirers'.
const (
	terminalsKey = "0123456789ABCDEFFEDCBA9876543210"
	acquirersKey = "89ABCDEF0123456776543210FEDCBA98"
)

// module is the security module in process: the real engine, which translates
// from the terminals' zone into the acquirers'. It notes what left.
type module struct {
	engine    *engine.Engine
	terminals *engine.Key
	acquirers *engine.Key
	sent      [][]byte
}

func newModule(t *testing.T) *module {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	lmk, err := key.New(key.AES, []byte("the local master key of a test.."))
	must(err)
	p, err := tr31.New(tr31.D, &lmk)
	must(err)
	m := &module{}
	m.engine, err = engine.New(p, random("engine"), 16)
	must(err)
	for _, k := range []struct {
		clear string
		into  **engine.Key
	}{{terminalsKey, &m.terminals}, {acquirersKey, &m.acquirers}} {
		h := tr31.Header{Version: tr31.D, Usage: tr31.PINEncryption, Algorithm: key.TDES, Mode: tr31.EncryptDecrypt, Exportability: tr31.NotAtAll}
		block, err := p.Seal(h, unhex(t, k.clear), random(k.clear))
		must(err)
		*k.into, err = m.engine.Load(block)
		must(err)
	}
	return m
}

// TranslatePIN is the zone's part of a payment.
func (m *module) TranslatePIN(a *payment.Authorization, _ payment.Instant) error {
	a.Card.PIN.Wipe()
	if !a.PIN.Present() {
		return nil
	}
	var out [pinblock.Size4]byte
	n, err := m.engine.TranslatePIN(out[:], engine.Incoming{
		Key: m.terminals, Format: pinblock.ISO0, Block: a.PIN.Block.RevealPINBlock(), PAN: a.Card.PAN.RevealPAN(),
	}, engine.Outgoing{Key: m.acquirers, Format: pinblock.ISO0})
	if err != nil {
		return err
	}
	m.sent = append(m.sent, bytes.Clone(out[:n]))
	a.Card.PIN, err = card.NewPINBlock(out[:n])
	return err
}

func (*module) Protect(iso8583.MTI, []byte, payment.Instant) error { return nil }
func (*module) PINAnswered(*payment.Response)                      {}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openBank writes what the cardholders' bank and the terminals know, outside of
// what the runs leave: keys, and each card's PIN.
func openBank(t *testing.T, dir string, cards wallet) (keys string, terminal sim.Terminal) {
	t.Helper()
	text := "pin: " + acquirersKey + "\npins:\n"
	for _, c := range cards {
		text += fmt.Sprintf("  %q: %q\n", c.number, c.pin)
	}
	keys, pad := filepath.Join(dir, "keys"), filepath.Join(dir, "pad")
	for file, content := range map[string]string{keys: text, pad: terminalsKey} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return keys, sim.Terminal{KeyFile: pad, Zone: "terminals"}
}
