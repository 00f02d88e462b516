package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

// usageRule is what a key of one usage must be.
type usageRule struct {
	usage     tr31.Usage
	tdesBytes string // allowed lengths, one character each: "2" double, "3" triple
	aes       bool
	modes     string
}

// usageRules are the keys that are kept, ANSI X9.143:2021 tables 2, 3 and 4. What a
// standard defines for a double-length key is not taken with a triple one.
func usageRules() []usageRule {
	return []usageRule{
		{tr31.KeyEncryption, "23", true, "BDEN"},
		{tr31.BlockProtection, "23", true, "BDEN"},
		{tr31.PINEncryption, "23", true, "BDEN"},
		{tr31.MACISO1, "23", false, "CGVN"},
		{tr31.MACISO3, "2", false, "CGVN"},
		{tr31.MACCMAC, "23", true, "CGVN"},
		{tr31.DataEncryption, "23", true, "BDEN"},
		{tr31.BaseDerivation, "2", true, "XN"},
		{tr31.CardVerification, "2", false, "CGVN"},
		{tr31.PINIBM3624, "23", false, "CGVN"},
		{tr31.PINVisaPVV, "2", false, "CGVN"},
		{tr31.EMVCryptogram, "2", false, "XN"},
	}
}

// fits checks a header against the rule of its usage.
func fits(h *tr31.Header) error {
	for _, r := range usageRules() {
		if r.usage != h.Usage {
			continue
		}
		if !(h.Algorithm == key.AES && r.aes || h.Algorithm == key.TDES) {
			return fmt.Errorf("%w: %c for %s", ErrAlgorithm, h.Algorithm, h.Usage)
		}
		if !strings.ContainsRune(r.modes, rune(h.Mode)) {
			return fmt.Errorf("%w: %c for %s", ErrMode, h.Mode, h.Usage)
		}
		switch h.Exportability {
		case tr31.Exportable, tr31.Sensitive, tr31.NotAtAll:
			return nil
		}
		return fmt.Errorf("%w: %c", ErrExportability, h.Exportability)
	}
	return fmt.Errorf("%w: %s", ErrUsage, h.Usage)
}

// Permitted says whether a key of these attributes and this many bytes is kept
// at all, before anybody brings it.
func Permitted(a Attributes, bytes int) error {
	h := a.header()
	if err := fits(&h); err != nil {
		return err
	}
	for _, r := range usageRules() {
		if r.usage != a.Usage {
			continue
		}
		if a.Algorithm == key.TDES && bytes%8 == 0 && strings.Contains(r.tdesBytes, fmt.Sprint(bytes/8)) ||
			a.Algorithm == key.AES && (bytes == 16 || bytes == 24 || bytes == 32) {
			return nil
		}
	}
	return fmt.Errorf("%w: %d bits for %s %c", ErrKeyLength, 8*bytes, a.Usage, a.Algorithm)
}

// material makes a Key of what a block held, if its length is one for the usage
// and, for TDES, it is a key that is kept.
func material(h *tr31.Header, secret key.Secret) (key.Key, error) {
	lengths := ""
	for _, r := range usageRules() {
		if r.usage == h.Usage {
			lengths = r.tdesBytes
		}
	}
	if h.Algorithm == key.TDES && (len(secret)%8 != 0 || !strings.Contains(lengths, fmt.Sprint(len(secret)/8))) {
		return key.Key{}, fmt.Errorf("%w: %d bytes for %s", ErrKeyLength, len(secret), h.Usage)
	}
	k, err := key.New(h.Algorithm, secret)
	if err != nil {
		return key.Key{}, fmt.Errorf("%w: %d bytes for %c", ErrKeyLength, len(secret), h.Algorithm)
	}
	if err := strong(&k); err != nil {
		k.Wipe()
		return key.Key{}, err
	}
	return k, nil
}

// strong refuses the keys that must not be used: TDES keys of one part, without
// odd parity, with equal or weak parts; AES keys of one repeated byte, which
// nobody generated.
func strong(k *key.Key) error {
	b := k.Reveal()
	if k.Algorithm() == key.AES {
		if bytes.Count(b, b[:1]) == len(b) {
			return fmt.Errorf("%w: one byte repeated", ErrWeak)
		}
		return nil
	}
	if len(b) < 16 {
		return fmt.Errorf("%w: a single-length TDES key", ErrKeyLength)
	}
	if !k.OddParity() {
		return ErrParity
	}
	for i := 0; i < len(b); i += 8 {
		for j := range i / 8 {
			if bytes.Equal(b[i:i+8], b[8*j:8*j+8]) {
				return ErrEqualParts
			}
		}
		if weakDES(binary.BigEndian.Uint64(b[i:])) {
			return ErrWeak
		}
	}
	return nil
}

// weakDES are the four weak and twelve semi-weak keys of DES with odd parity:
// NIST SP 800-67 clause 3.3.2.
func weakDES(part uint64) bool {
	switch part {
	case 0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
		0x011F011F010E010E, 0x1F011F010E010E01, 0x01E001E001F101F1, 0xE001E001F101F101,
		0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
		0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1:
		return true
	}
	return false
}

// permission is what an operation does with a key.
type permission string

// The permissions, by the modes that give them (X9.143:2021 table 4).
const (
	encrypts  permission = "BEN"
	decrypts  permission = "BDN"
	generates permission = "CGN"
	verifies  permission = "CVN"
	derives   permission = "XN"
)
