package selftest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/tr31"
)

var (
	errAccepted = errors.New("accepted")
	errNothing  = errors.New("the case shows nothing")
)

// check runs one part of a case. What is missing from the vectors comes first:
// it is why the part then fails.
func (r *report) check(m member, part string, f func() error) {
	name := m.name
	if part != "" {
		name += "." + part
	}
	err := f()
	if *m.err != nil {
		err, *m.err = *m.err, nil
	}
	r.result(name, err)
}

func protectorOf(m *member, block []byte) (*tr31.Protector, error) {
	if len(block) == 0 {
		return nil, errNothing
	}
	v, a := tr31.Version(block[0]), key.TDES
	if v == tr31.D {
		a = key.AES
	}
	k := m.key(a, "kbpk")
	defer k.Wipe()
	return tr31.New(v, &k)
}

// keyBlock opens a block, and for the versions that are sealed, seals its key
// and opens that.
func (r *report) keyBlock(m member) {
	r.check(m, "", func() error {
		block, want := []byte(m.text("block")), m.hex("key")
		p, err := protectorOf(&m, block)
		if err != nil {
			return err
		}
		h, secret, err := p.Open(block)
		if err != nil {
			return err
		}
		if err := errNot(secret, want); err != nil {
			return err
		}
		if v := m.optional("version", string(block[:1])); v != string(rune(h.Version)) {
			return fmt.Errorf("version %c, want %s", h.Version, v)
		}
		if p.Version() != tr31.B && p.Version() != tr31.D {
			return nil
		}
		sealed, err := p.Seal(h, secret, anyBytes())
		if err != nil {
			return err
		}
		if _, secret, err = p.Open(sealed); err != nil {
			return fmt.Errorf("sealed again: %w", err)
		}
		return errNot(secret, want)
	})
}

func (r *report) keyBlockRefused(m member) {
	r.check(m, "", func() error {
		block := []byte(m.text("block"))
		p, err := protectorOf(&m, block)
		if errors.Is(err, tr31.ErrVersion) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, _, err := p.Open(block); err == nil {
			return errAccepted
		}
		return nil
	})
}

func (r *report) checkValueTDES(m member) {
	r.check(m, "", func() error {
		k, want := m.key(key.TDES, "key"), m.hex("kcv")
		whole, err := encrypted(&k, make([]byte, 8))
		if err != nil {
			return err
		}
		return checkValue(&k, whole, want)
	})
}

func (r *report) checkValueAES(m member) {
	r.check(m, "", func() error {
		k, want := m.key(key.AES, "key"), m.hex("kcv")
		s, err := mac.New(mac.CMAC, &k)
		if err != nil {
			return err
		}
		whole := make([]byte, 16)
		if err := s.Sum(whole, 0, make([]byte, 16)); err != nil {
			return err
		}
		return checkValue(&k, whole, want)
	})
}

// checkValue compares a published value of any length, and the engine's, with
// the whole of which both are the start.
func checkValue(k *key.Key, whole, want []byte) error {
	v, err := engine.KCV(k)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(whole, v.Bytes()) {
		return errNot(v.Bytes(), whole[:len(v.Bytes())])
	}
	return prefix(whole, want)
}

// prefix compares the start of a value with what is published of it.
func prefix(whole, want []byte) error {
	if len(want) == 0 || len(want) > len(whole) {
		return errNothing
	}
	return errNot(whole[:len(want)], want)
}

func (r *report) cmac(m member) {
	cases := m.cases("cases")
	if _, list := m.values["cases"]; !list {
		cases = []member{m}
	}
	for _, c := range cases {
		r.check(c, "", func() error {
			a, err := cipherOf(c.text("algorithm"))
			if err != nil {
				return err
			}
			k, want := c.key(a, "key"), c.hex("mac")
			message := c.hex("message")
			if c.has("bytes") {
				n := c.number("bytes")
				if n > len(message) {
					return errNothing
				}
				message = message[:n]
			}
			return macIs(mac.CMAC, &k, 0, message, want)
		})
	}
}

// cipherOf reads the names that publications give a cipher.
func cipherOf(name string) (key.Algorithm, error) {
	for _, known := range []struct {
		start string
		a     key.Algorithm
	}{{"AES", key.AES}, {"TDES", key.TDES}, {"TDEA", key.TDES}, {"3DES", key.TDES}, {"DES", key.TDES}} {
		if strings.HasPrefix(name, known.start) {
			return known.a, nil
		}
	}
	return 0, fmt.Errorf("unknown algorithm %q", name)
}

func (r *report) macISO9797(m member) {
	r.check(m, "", func() error {
		name, want := m.text("algorithm"), m.hex("mac")
		a := key.TDES
		if strings.Contains(name, "AES") {
			a = key.AES
		}
		algorithms := map[byte]mac.Algorithm{'1': mac.ISO1, '3': mac.ISO3, '5': mac.CMAC}
		if name == "" || algorithms[name[0]] == 0 {
			return fmt.Errorf("unknown algorithm %q", name)
		}
		var message []byte
		if m.has("text") {
			message = []byte(m.text("text"))
		} else {
			message = m.hex("message")
		}
		padding := mac.Padding(0)
		if name[0] != '5' {
			padding = mac.Padding(m.number("padding"))
		}
		k := m.key(a, "key")
		return macIs(algorithms[name[0]], &k, padding, message, want)
	})
}

// macIs computes a MAC, compares it and verifies it.
func macIs(a mac.Algorithm, k *key.Key, p mac.Padding, message, want []byte) error {
	s, err := mac.New(a, k)
	if err != nil {
		return err
	}
	out := make([]byte, s.Size())
	if err := s.Sum(out, p, message); err != nil {
		return err
	}
	if err := prefix(out, want); err != nil {
		return err
	}
	if len(want) < 4 { // too short to be verified as one
		return nil
	}
	return s.Verify(out, p, message, want)
}
