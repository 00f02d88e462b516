package sim

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
)

// Terminal is the PIN pad of a terminal in tests and demonstrations. With Serial
// it derives a key for each transaction (DUKPT), else all have one zone PIN key.
type Terminal struct {
	KeyFile string    // the zone PIN key, or the base derivation key, in hexadecimal; mode 0600
	Zone    string    // what the switch calls that key
	Serial  string    // key serial number of the transaction: 10 bytes (TDES) or 12 (AES), in hexadecimal
	Random  io.Reader // fill of format 4; nil: the operating system's
}

// PIN is what a terminal gives of a PIN: the encrypted block and how to read it,
// as the gateways' API takes it.
type PIN struct {
	Block  string `json:"block"`
	Format string `json:"format"` // iso0; iso4 under AES
	Key    string `json:"key"`
	Serial string `json:"ksn,omitempty"`
}

// Enter types a PIN for a card.
func (t *Terminal) Enter(pan, pin string) (PIN, error) {
	raw, err := t.readKey()
	if err != nil {
		return PIN{}, err
	}
	defer clear(raw)
	c, err := t.cipher(raw)
	if err != nil {
		return PIN{}, err
	}
	p, err := pinblock.ParsePIN([]byte(pin))
	if err != nil {
		return PIN{}, fmt.Errorf("a PIN: %w", err)
	}
	defer p.Wipe()
	out := PIN{Format: "iso0", Key: t.Zone, Serial: strings.ToUpper(t.Serial)}
	block := make([]byte, c.BlockSize())
	if len(block) == pinblock.Size4 {
		random := t.Random
		if random == nil {
			random = rand.Reader
		}
		out.Format = "iso4"
		err = pinblock.Encipher4(block, c, &p, []byte(pan), pinblock.FullPAN, random)
	} else if err = pinblock.Encode(block, pinblock.ISO0, &p, []byte(pan), nil); err == nil {
		c.Encrypt(block, block)
	}
	if err != nil {
		return PIN{}, fmt.Errorf("a PIN block: %w", err)
	}
	out.Block = strings.ToUpper(hex.EncodeToString(block))
	return out, nil
}

// Payment is a line for `bench run --cards`: a chip card at a counter, with its
// PIN.
func (t *Terminal) Payment(pan, pin string) (string, error) {
	entered, err := t.Enter(pan, pin)
	if err != nil {
		return "", err
	}
	line, err := json.Marshal(map[string]any{
		"channel": "card_present",
		"card":    map[string]any{"entry": "chip", "track2": pan + "=30122011000000000", "pin": entered},
	})
	return string(line), err
}

func (t *Terminal) readKey() ([]byte, error) {
	info, err := os.Stat(t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the terminals' key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (chmod 600): %w", t.KeyFile, ErrScenario)
	}
	text, err := os.ReadFile(t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the terminals' key: %w", err)
	}
	defer clear(text)
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s holds no key: %w", t.KeyFile, ErrScenario)
	}
	return raw, nil
}

// cipher is that of the key of this transaction.
func (t *Terminal) cipher(raw []byte) (cipher.Block, error) {
	serial, err := hex.DecodeString(t.Serial)
	if err != nil {
		return nil, fmt.Errorf("a key serial number in hexadecimal: %w", ErrScenario)
	}
	algorithm := key.TDES
	if len(serial) == dukpt.AESSerialBytes {
		algorithm = key.AES
	}
	k, err := key.New(algorithm, raw)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key: %w", t.KeyFile, ErrScenario)
	}
	defer k.Wipe()
	if len(serial) == 0 {
		return k.Cipher()
	}
	once, err := transactionKey(&k, serial)
	if err != nil {
		return nil, fmt.Errorf("the key of a transaction: %w", err)
	}
	defer once.Wipe()
	return once.Cipher()
}

// transactionKey derives as the device would have: X9.24-1:2009 or X9.24-3:2017.
func transactionKey(base *key.Key, serial []byte) (key.Key, error) {
	if base.Algorithm() == key.TDES {
		b, err := dukpt.NewTDESBase(base, 0)
		if err != nil {
			return key.Key{}, err
		}
		return b.Derive(serial, dukpt.TDESPIN)
	}
	b, err := dukpt.NewAESBase(base)
	if err != nil {
		return key.Key{}, err
	}
	return b.Derive(serial, dukpt.AESPIN, b.KeyType())
}
