package sim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/tr31"
)

// exchange is the host's part of a key exchange. The usage stands in the block's
// header; a key counts from when its answer leaves, and one of the host's own
// from when the peer has accepted it.

// How much of a check value travels.
const (
	checkBytes    = 3 // TDES: of an encrypted block of zeros
	checkBytesAES = 5 // AES: of the CMAC of a block of zeros
)

// checkValue is that of a key, ANSI X9.24-1:2017 annex A.
func checkValue(k *key.Key) ([]byte, error) {
	c, err := k.Cipher()
	if err != nil {
		return nil, err
	}
	out := make([]byte, c.BlockSize())
	if k.Algorithm() == key.AES {
		return out[:checkBytesAES], mac.NewCMAC(c).Sum(out, 0, make([]byte, c.BlockSize()))
	}
	c.Encrypt(out, out)
	return out[:checkBytes], nil
}

// accept takes a key block of the peer and says its check value.
func (v *custody) accept(block []byte) ([]byte, error) {
	protector, err := tr31.New(tr31.D, &v.zone)
	if err != nil {
		return nil, err
	}
	h, secret, err := protector.Open(block)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	k, err := key.New(h.Algorithm, secret)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	check, err := checkValue(&k)
	if err != nil {
		return nil, err
	}
	return check, v.use(h.Usage, &k)
}

func (v *custody) use(u tr31.Usage, k *key.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch u {
	case tr31.PINEncryption:
		v.kept.PIN = hex.EncodeToString(k.Reveal())
		if k.Algorithm() == key.AES {
			v.kept.PIN = aesMark + v.kept.PIN
		}
		return errors.Join(v.usePIN(k), v.keep())
	case tr31.MACISO3:
		v.kept.MAC = hex.EncodeToString(k.Reveal())
		return errors.Join(v.useMAC(k), v.keep())
	}
	return fmt.Errorf("a key of usage %s: %w", u, ErrScenario)
}

// keep writes what was exchanged, whole or not at all.
func (v *custody) keep() error {
	if v.rules.Kept == "" {
		return nil
	}
	text := fmt.Appendf(nil, "pin: %q\nmac: %q\n", v.kept.PIN, v.kept.MAC)
	defer clear(text)
	if err := os.WriteFile(v.rules.Kept+".new", text, 0o600); err != nil {
		return fmt.Errorf("keeping a key: %w", err)
	}
	if err := os.Rename(v.rules.Kept+".new", v.rules.Kept); err != nil {
		return fmt.Errorf("keeping a key: %w", err)
	}
	return nil
}

// offer makes a key for the peer, and says how it is used when the peer has it.
func (v *custody) offer(usage string) (block, check []byte, use func() error, err error) {
	h := tr31.Header{Version: tr31.D, Usage: tr31.PINEncryption, Algorithm: key.TDES, Mode: tr31.EncryptDecrypt, Exportability: tr31.Exportable}
	if usage == "mac" {
		h.Usage, h.Mode = tr31.MACISO3, tr31.GenerateVerify
	}
	secret := make(key.Secret, 16)
	defer secret.Wipe()
	if _, err := io.ReadFull(v.random, secret); err != nil {
		return nil, nil, nil, err
	}
	k, err := key.New(key.TDES, secret)
	if err != nil {
		return nil, nil, nil, err
	}
	k.FixParity()
	if check, err = checkValue(&k); err != nil {
		return nil, nil, nil, err
	}
	protector, err := tr31.New(tr31.D, &v.zone)
	if err != nil {
		return nil, nil, nil, err
	}
	if block, err = protector.Seal(h, k.Reveal(), v.random); err != nil {
		return nil, nil, nil, err
	}
	return block, check, func() error { return v.use(h.Usage, &k) }, nil
}

// await keeps an offer until the peer answers it: an answer is to one request,
// known by its trace number, and another sign-on may have brought another key
// meanwhile.
func (v *custody) await(stan string, use func() error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.offered[stan] = use
}

// settle ends the offer that a request with this trace number made.
func (v *custody) settle(stan string, accepted bool) error {
	v.mu.Lock()
	use := v.offered[stan]
	delete(v.offered, stan)
	v.mu.Unlock()
	if use == nil || !accepted {
		return nil
	}
	return use()
}

// exchangeKey handles a network message of the peer that brings a key, or asks
// for one. It says how the message is answered, and whether at all.
func (c *conn) exchangeKey(m *message) (code string, answered bool) {
	p, x := c.host.profile, c.custody.rules.Exchange
	at, _ := placeNamed(x.Key)
	fault := c.host.onExchange()
	if fault != nil && fault.Fault == faultNo0810 {
		return "", false
	}
	if fault != nil && fault.Fault == faultAnswer {
		return c.host.spell(fault.Code), true
	}
	block := c.valueAt(m, at)
	if block == nil {
		return p.networkRefused, true
	}
	check, err := c.custody.accept(block)
	if err != nil {
		c.log.Warn("a key was not taken", "error", err)
		return p.networkRefused, true
	}
	if fault != nil && fault.Fault == faultLose {
		return "", false
	}
	c.check = append(c.check[:0], check...)
	return p.networkAccepted, true
}

// valueAt is a place of the message read last.
func (c *conn) valueAt(m *message, at place) []byte {
	if !m.has(at.de) {
		return nil
	}
	if at.sub == "" {
		return m.values[at.de]
	}
	return c.codec.sub(at.de, at.sub)
}

// sendKeys lets the host start an exchange.
func (c *conn) sendKeys() {
	x := c.custody.rules.Exchange
	at, _ := placeNamed(x.Key)
	checkAt, hasCheck := placeNamed(x.Check)
	for _, usage := range x.Send {
		block, check, use, err := c.custody.offer(usage)
		if err != nil {
			c.log.Error("no key can be sent", "error", err)
			return
		}
		c.extra = c.extra[:0]
		c.extra = append(c.extra, placed{at, block})
		if hasCheck {
			c.extra = append(c.extra, placed{checkAt, []byte(fmt.Sprintf("%X", check))})
		}
		c.ask(x.Function)
		c.custody.await(string(c.digits(c.stan, c.stanLen())), use)
		c.extra = c.extra[:0]
	}
}

// placed is a value and where it goes.
type placed struct {
	place
	value []byte
}
