package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"authswitch/cmd/authswitch/simcmd"
	"authswitch/payment"
	"authswitch/routing"
)

// dev has MACs and PINs on one link, whose simulator holds the other end of the
// keys: both come by key exchange under the test key of its zone. Payments at a
// counter prefer it.
const (
	devSecureLink = "cb-b"
	devTerminals  = "terminals" // the zone of the terminals at the counter

	terminalsKeyBytes = 16
)

// terminalsKey is the file with the terminals' zone PIN key, in hexadecimal.
func (m *devModule) terminalsKey() string { return filepath.Join(m.dir, devTerminals+".p0") }

// terminalsBase is that of the base derivation key of those with DUKPT.
func (m *devModule) terminalsBase() string { return filepath.Join(m.dir, devTerminals+".b0") }

// secure turns MAC and PIN on for the link that has them.
func (m *devModule) secure(config *Config, link *LinkConfig, scenario map[string]any, dir string) error {
	if m == nil || link.Name != devSecureLink {
		return nil
	}
	zone, err := os.ReadFile(m.testKeyFile(devSecureLink, "k1"))
	if err != nil {
		return fmt.Errorf("read a test key: %w", err)
	}
	keys := filepath.Join(dir, devSecureLink+".keys")
	if _, err := keepSecret(keys, func() (string, error) {
		chip := make([]byte, terminalsKeyBytes)
		if _, err := rand.Read(chip); err != nil {
			return "", fmt.Errorf("draw a test key: %w", err)
		}
		return fmt.Sprintf("zone: %q\nchip: %q\nother_pin: %q\n", strings.TrimSpace(string(zone)), hex.EncodeToString(chip), simcmd.CounterPIN), nil
	}); err != nil {
		return err
	}
	link.Security = LinkSecurity{MAC: true, PIN: true}
	scenario["security"] = map[string]any{
		"keys": keys, "kept": filepath.Join(dir, devSecureLink+".kept"), "mac": true, "advices": true, "pin": true, "arqc": true, "required": true,
		"key_exchange": map[string]any{"function": "101", "key": "48.0020", "check": "48.0021"},
	}
	config.TestKeys = m.testKeyBlocks()
	config.Gateways[0].PINZones = []payment.LinkName{devTerminals}
	config.Rules = append(config.Rules, routing.RuleConfig{
		Name: "counter", Schemes: []string{payment.CB.String()}, Channels: []string{payment.CardPresent.String()}, Prefer: []payment.LinkName{devSecureLink},
	})
	return nil
}

// counterExample is a payment at a counter, with a PIN, to paste; empty without
// a security module.
func (m *devModule) counterExample(info devInfo) (string, error) {
	if m == nil {
		return "", nil
	}
	block, err := simcmd.TerminalPIN(m.terminalsKey(), simcmd.CounterCard, simcmd.CounterPIN)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`
A payment at the counter with a PIN (the security module translates it for %s, and makes and checks the MACs;
a block that is none under the terminals' key gets 422, a wrong PIN response code 55):

curl -sS %s/v1/authorizations -H 'Authorization: Bearer %s' \
  -H 'Content-Type: application/json' -H "Idempotency-Key: $RANDOM-$RANDOM" \
  -d '{"merchant":"%s","reference":"TILL-1","amount":{"value":1000,"currency":"EUR"},"channel":"card_present","card":{"entry":"chip","track2":"%s=30122011000000000","pin":{"block":"%s","format":"iso0","key":"%s"}}}'
`, devSecureLink, info.API, info.Key, info.Merchant, simcmd.CounterCard, block, devTerminals), nil
}
