package selftest

import (
	"fmt"
	"strings"

	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

// first is the first byte of a value that must have one.
func (m *member) first(name, missing string) byte {
	s := m.optional(name, missing)
	if s == "" {
		m.wrong("%s is empty", name)
		return 0
	}
	return s[0]
}

func codeIs(got issuer.Code, err error, want string) error {
	if err != nil {
		return err
	}
	if !got.Equal([]byte(want)) {
		return fmt.Errorf("%q, want %q", got.Reveal(), want)
	}
	return nil
}

func (r *report) cvv(m member) {
	r.check(m, "", func() error {
		k := m.key(key.TDES, "cvk")
		got, err := issuer.CVV(&k, []byte(m.text("pan")), []byte(m.text("expiry")), []byte(m.text("service_code")))
		return codeIs(got, err, m.text("cvv"))
	})
}

func (r *report) pvv(m member) {
	r.check(m, "", func() error {
		k := m.key(key.TDES, "pvk")
		got, err := issuer.PVV(&k, m.first("pvki", "1"), []byte(m.text("pan")), []byte(m.text("pin")))
		return codeIs(got, err, m.text("pvv"))
	})
}

func (r *report) ibm3624(m member) {
	r.check(m, "", func() error {
		k, pin := m.key(key.TDES, "pvk"), m.text("pin")
		table, err := issuer.ParseTable([]byte(m.text("table")))
		if err != nil {
			return err
		}
		v := issuer.Validation{Start: m.number("start"), Length: m.number("length"), Pad: m.first("pad", "F")}
		offset := m.optional("offset", strings.Repeat("0", len(pin)))
		got, err := issuer.IBM3624(&k, table, v, []byte(m.text("pan")), []byte(offset))
		return codeIs(got, err, pin)
	})
}

// emv has cryptograms in cases and issuers' answers in arpc, each of a scheme
// that says how its session key and padding are.
func (r *report) emv(m member) {
	for _, c := range m.cases("cases") {
		r.check(c, "arqc", func() error {
			session, padding, err := c.session()
			if err != nil {
				return err
			}
			got, err := issuer.Cryptogram(&session, padding, c.hex("data"))
			if err != nil {
				return err
			}
			return errNot(got[:], c.fixed("arqc", 8))
		})
	}
	for _, c := range m.cases("arpc") {
		r.check(c, "arpc", func() error {
			session, _, err := c.session()
			if err != nil {
				return err
			}
			arqc := [8]byte(c.fixed("arqc", 8))
			switch c.number("method") {
			case 1:
				got, err := issuer.Answer1(&session, arqc, [2]byte(c.fixed("arc", 2)))
				if err != nil {
					return err
				}
				return errNot(got[:], c.hex("arpc"))
			case 2:
				var proprietary []byte
				if c.has("proprietary") {
					proprietary = c.hex("proprietary")
				}
				got, err := issuer.Answer2(&session, arqc, [4]byte(c.fixed("csu", 4)), proprietary)
				if err != nil {
					return err
				}
				return errNot(got[:], c.hex("arpc"))
			}
			return fmt.Errorf("unknown method %d", c.number("method"))
		})
	}
}

// session derives the key that a scheme's name stands for.
func (m *member) session() (key.Key, mac.Padding, error) {
	scheme := m.text("scheme")
	chip := issuer.Chip{PAN: []byte(m.text("pan")), Sequence: []byte(m.optional("psn", "00"))}
	padding := mac.OneAndZeros
	name := strings.ToUpper(strings.ReplaceAll(scheme, " ", ""))
	has := func(marks ...string) bool {
		for _, mark := range marks {
			if strings.Contains(name, mark) {
				return true
			}
		}
		return false
	}
	switch {
	case has("CSK", "COMMON", "CVN18", "CVN22"):
		chip.Session = issuer.CommonSession
	case has("MASTERCARD", "M/CHIP", "SKD", "INTERAC", "CVN133"):
		chip.Session = issuer.MastercardSKD
		chip.UN = [4]byte(m.fixed("un", 4))
	case has("VISA", "CVN10", "CVN17"):
		padding = mac.Zeros
	default:
		return key.Key{}, 0, fmt.Errorf("unknown scheme %q", scheme)
	}
	if chip.Session != issuer.CardKey {
		chip.ATC = [2]byte(m.fixed("atc", 2))
	}
	if has("OPTIONB") {
		chip.Master = issuer.OptionB
	}
	if has("PAD1") {
		padding = mac.Zeros
	} else if has("PAD2") {
		padding = mac.OneAndZeros
	}
	imk := m.key(key.TDES, "imk")
	defer imk.Wipe()
	session, err := issuer.SessionKey(&imk, chip)
	return session, padding, err
}
