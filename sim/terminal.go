package sim

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
)

// TerminalPIN is the PIN pad of a terminal in tests and demonstrations: a PIN
// block of format 0 under the zone PIN key of its terminals, in hexadecimal. The
// file holds that key, as `dev` writes it, mode 0600.
func TerminalPIN(keyFile, pan, pin string) (string, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return "", fmt.Errorf("the terminals' key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (chmod 600): %w", keyFile, ErrScenario)
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return "", fmt.Errorf("the terminals' key: %w", err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("%s holds no key: %w", keyFile, ErrScenario)
	}
	defer clear(raw)
	k, err := key.New(key.TDES, raw)
	if err != nil {
		return "", fmt.Errorf("%s holds no key: %w", keyFile, ErrScenario)
	}
	defer k.Wipe()
	c, err := k.Cipher()
	if err != nil {
		return "", fmt.Errorf("%s holds no key: %w", keyFile, ErrScenario)
	}
	p, err := pinblock.ParsePIN([]byte(pin))
	if err != nil {
		return "", fmt.Errorf("a PIN: %w", err)
	}
	defer p.Wipe()
	block := make([]byte, pinblock.Size)
	if err := pinblock.Encode(block, pinblock.ISO0, &p, []byte(pan), nil); err != nil {
		return "", fmt.Errorf("a PIN block: %w", err)
	}
	c.Encrypt(block, block)
	return strings.ToUpper(hex.EncodeToString(block)), nil
}
