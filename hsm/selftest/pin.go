package selftest

import (
	"bytes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/pinblock"
)

func (m *member) format() pinblock.Format { return pinblock.Format(min(m.number("format"), 255)) }

func (m *member) pin() pinblock.PIN {
	p, err := pinblock.ParsePIN([]byte(m.text("pin")))
	if err != nil {
		m.wrong("pin: %w", err)
	}
	return p
}

func holds(got, want *pinblock.PIN) error {
	var a, b [12]byte
	return errNot(a[:got.RevealPIN(&a)], b[:want.RevealPIN(&b)])
}

// pinBlock reads a clear block and forms it again: byte for byte where its fill
// is known, else so that it reads back.
func (r *report) pinBlock(m member) {
	r.check(m, "", func() error {
		f, want, pan, block := m.format(), m.pin(), []byte(m.optional("pan", "")), m.hex("block")
		var got pinblock.PIN
		if err := pinblock.Decode(&got, f, block, pan); err != nil {
			return err
		}
		if err := holds(&got, &want); err != nil {
			return err
		}
		random := anyBytes()
		known := f == pinblock.ISO0 || f == pinblock.ISO2 || m.has("fill")
		if m.has("fill") {
			random = fillOf(f, m.text("fill"), want.Len())
		}
		again := make([]byte, pinblock.Size)
		if err := pinblock.Encode(again, f, &want, pan, random); err != nil {
			return err
		}
		if known {
			return errNot(again, block)
		}
		if err := pinblock.Decode(&got, f, again, pan); err != nil {
			return err
		}
		return holds(&got, &want)
	})
}

// fill is a source that makes Encode choose published nibbles.
type fill struct {
	nibbles []byte
	at      int
}

func fillOf(f pinblock.Format, digits string, pinLength int) io.Reader {
	out := &fill{}
	for _, c := range []byte(digits) {
		n := bytes.IndexByte([]byte("0123456789ABCDEF"), c)
		if f == pinblock.ISO3 {
			n -= 0xA // Encode draws A to F as 0 to 5
		}
		out.nibbles = append(out.nibbles, byte(max(n, 0)))
	}
	if len(out.nibbles) > 0 { // the first nibble is for the place behind the PIN
		out.at = (len(out.nibbles) - pinLength%len(out.nibbles)) % len(out.nibbles)
	}
	return out
}

// anyBytes is a source for what is published without its random part: a check
// that repeats byte for byte needs no better.
func anyBytes() io.Reader { return &fill{nibbles: []byte{3, 1, 4, 1, 5, 9, 2, 6, 5}} }

func (f *fill) Read(p []byte) (int, error) {
	if len(f.nibbles) == 0 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = f.nibbles[f.at]
		f.at = (f.at + 1) % len(f.nibbles)
	}
	return len(p), nil
}

func (r *report) pinBlock4(m member) {
	r.check(m, "", func() error {
		k, want := m.key(key.AES, "key"), m.pin()
		return format4(&m, &k, &want, m.hex("block"))
	})
}

// format4 enciphers a PIN with published random bytes, and deciphers it.
func format4(m *member, k *key.Key, want *pinblock.PIN, block []byte) error {
	c, err := k.Cipher()
	if err != nil {
		return err
	}
	pan := []byte(m.text("pan"))
	out := make([]byte, pinblock.Size4)
	if err := pinblock.Encipher4(out, c, want, pan, pinblock.FullPAN, bytes.NewReader(m.hex("random"))); err != nil {
		return err
	}
	if err := errNot(out, block); err != nil {
		return err
	}
	var got pinblock.PIN
	if err := pinblock.Decipher4(&got, c, out, pan, pinblock.FullPAN); err != nil {
		return err
	}
	return holds(&got, want)
}

// pinBlockRefused gives a clear block, or with a key an encrypted one, that
// must be refused.
func (r *report) pinBlockRefused(m member) {
	r.check(m, "", func() error {
		f, pan, block := m.format(), []byte(m.optional("pan", "")), m.hex("block")
		var p pinblock.PIN
		var err error
		if f == pinblock.ISO4 {
			k := m.key(key.AES, "key")
			c, failure := k.Cipher()
			if failure != nil {
				return failure
			}
			err = pinblock.Decipher4(&p, c, block, pan, pinblock.FullPAN)
		} else {
			err = pinblock.Decode(&p, f, block, pan)
		}
		if err == nil {
			return errAccepted
		}
		if !errors.Is(err, pinblock.ErrRefused) || p.Len() != 0 {
			return err
		}
		return nil
	})
}

// dukptTDES derives the initial key and, for each serial number, what is
// published of it: the transaction key, a PIN block, MACs.
func (r *report) dukptTDES(m member) {
	k := m.key(key.TDES, "bdk")
	base, err := dukpt.NewTDESBase(&k, 16)
	if *m.err != nil || err != nil {
		r.check(m, "bdk", func() error { return err })
		return
	}
	cases := m.cases("cases")
	if len(cases) > 0 && m.has("ik") {
		r.check(m, "ik", func() error {
			ik, err := base.InitialKey(cases[0].hex("ksn"))
			if err != nil {
				return err
			}
			return errNot(ik.Reveal(), m.hex("ik"))
		})
	}
	for _, c := range cases {
		derive := func(use dukpt.TDESUse) (key.Key, error) { return base.Derive(c.hex("ksn"), use) }
		if c.has("key") {
			r.check(c, "key", func() error {
				k, err := derive(dukpt.TDESFuture)
				if err != nil {
					return err
				}
				return errNot(k.Reveal(), c.hex("key"))
			})
		}
		if c.has("pin") {
			r.check(c, "pin", func() error {
				k, err := derive(dukpt.TDESPIN)
				if err != nil {
					return err
				}
				clearBlock, err := blocks(&k, c.hex("pin"), cipher.Block.Decrypt)
				if err != nil {
					return err
				}
				return errNot(clearBlock, c.hex("clear_pin_block"))
			})
		}
		r.dukptMAC(c, "mac_request", dukpt.TDESMACRequest, derive)
		r.dukptMAC(c, "mac_response", dukpt.TDESMACResponse, derive)
	}
}

// dukptMAC is a MAC by algorithm 3 over text, as X9.24-1 annex A.4 shows it.
func (r *report) dukptMAC(c member, name string, use dukpt.TDESUse, derive func(dukpt.TDESUse) (key.Key, error)) {
	if !c.has(name) {
		return
	}
	r.check(c, name, func() error {
		k, err := derive(use)
		if err != nil {
			return err
		}
		return macIs(mac.ISO3, &k, mac.Zeros, []byte(c.text("mac_text")), c.hex(name))
	})
}

// dukptAES has a member for each base key: its initial key and, for each
// counter, the working keys and a PIN block that are published.
func (r *report) dukptAES(m member) {
	names := make([]string, 0, len(m.values))
	for name, value := range m.values {
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) == nil && object["bdk"] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		of := m.cases(name)
		if len(of) != 1 {
			continue // an object that has just been read is one case
		}
		of[0].name, of[0].prefix = m.prefix+name, m.prefix+name+"."
		r.dukptAESBase(of[0])
	}
	if _, ok := m.values["bdk"]; ok {
		r.dukptAESBase(m)
	}
}

func (r *report) dukptAESBase(m member) {
	k := m.key(key.AES, "bdk")
	base, err := dukpt.NewAESBase(&k)
	if *m.err != nil || err != nil {
		r.check(m, "bdk", func() error { return err })
		return
	}
	if m.has("ik") {
		r.check(m, "ik", func() error {
			ik, err := base.InitialKey(m.hex("initial_key_id"))
			if err != nil {
				return err
			}
			return errNot(ik.Reveal(), m.hex("ik"))
		})
	}
	for _, c := range m.cases("cases") {
		derive := func(use dukpt.AESUse) (key.Key, error) {
			ksn := append(c.fixed("initial_key_id", dukpt.InitialKeyIDBytes), c.fixed("counter", 4)...)
			return base.Derive(ksn, use, base.KeyType())
		}
		for _, u := range []struct {
			name string
			use  dukpt.AESUse
		}{
			{"key", dukpt.AESDerivation},
			{"pin_key", dukpt.AESPIN},
			{"mac_gen_key", dukpt.AESMACGenerate},
			{"mac_ver_key", dukpt.AESMACVerify},
			{"mac_both_key", dukpt.AESMACBoth},
			{"data_key", dukpt.AESDataEncrypt},
			{"data_dec_key", dukpt.AESDataDecrypt},
			{"data_both_key", dukpt.AESDataBoth},
			{"key_encryption_key", dukpt.AESKeyEncryption},
		} {
			if !c.has(u.name) {
				continue
			}
			r.check(c, u.name, func() error {
				k, err := derive(u.use)
				if err != nil {
					return err
				}
				return errNot(k.Reveal(), c.hex(u.name))
			})
		}
		if c.has("format4_block") {
			r.check(c, "format4_block", func() error {
				k, err := derive(dukpt.AESPIN)
				if err != nil {
					return err
				}
				want := c.pin()
				return format4(&c, &k, &want, c.hex("format4_block"))
			})
		}
	}
}
