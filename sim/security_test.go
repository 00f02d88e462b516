package sim

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The host's keys of these tests.
const (
	testZone = "404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F"
	testPIN  = "0123456789ABCDEFFEDCBA9876543210"
	testMAC  = "1123456789ABCDEFFEDCBA9876543211"
)

// secureHost is a simulator with keys.
func secureHost(t *testing.T, rules Security, faults ...Fault) *bench {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	text := "zone: " + testZone + "\npin: " + testPIN + "\nmac: " + testMAC + "\npins: {\"" + visaCard + "\": \"1234\"}\nother_pin: \"9999\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules.Keys = path
	return start(t, func(c *Config) { c.Security, c.Faults, c.Codec = rules, faults, CodecMoov })
}

// exchange sends a message and reads its answer as it travelled.
func (b *bench) exchange(m []byte) []byte {
	b.send(m)
	return b.frame()
}

// retailMAC is ISO/IEC 9797-1 MAC algorithm 3, padding method 1, by hand.
func retailMAC(t *testing.T, keyHex string, message []byte) []byte {
	t.Helper()
	k, err := hex.DecodeString(keyHex)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := des.NewCipher(k[:8])
	two, _ := des.NewCipher(k[8:])
	padded := append(bytes.Clone(message), make([]byte, (8-len(message)%8)%8)...)
	h := make([]byte, 8)
	for ; len(padded) > 0; padded = padded[8:] {
		for i := range h {
			h[i] ^= padded[i]
		}
		one.Encrypt(h, h)
	}
	two.Decrypt(h, h)
	one.Encrypt(h, h)
	return h
}

// block0 is a PIN block of format 0 under the host's PIN key, by hand.
func block0(t *testing.T, pin, pan, keyHex string) string {
	t.Helper()
	field := func(text string) []byte {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	block := field("0" + string('0'+rune(len(pin))) + pin + strings.Repeat("F", 14-len(pin)))
	account := field("0000" + pan[len(pan)-13:len(pan)-1])
	for i := range block {
		block[i] ^= account[i]
	}
	k := field(keyHex)
	c, err := des.NewTripleDESCipher(append(k, k[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	c.Encrypt(block, block)
	return string(block)
}

// request87 is an 0100 with what a test adds, and a MAC of a key over it.
func request87(t *testing.T, stan, keyHex, block string) []byte {
	t.Helper()
	elements := []any{
		2, "16" + visaCard, 3, "000000", 4, "000000001000", 7, "0314101500", 11, stan, 12, "111500", 13, "0314", 32, "0512345", 37, "632700" + stan,
		41, "TERM0001", 42, "SHOP00000000001", 49, "978",
	}
	if block != "" {
		elements = append(elements, 52, block)
	}
	m := text87("0100", append(elements, 64, "\x00\x00\x00\x00\x00\x00\x00\x00")...)
	body := m[:len(m)-8]
	return append(bytes.Clone(body), retailMAC(t, keyHex, body)...)
}

func TestHostChecksMACAndPIN(t *testing.T) {
	p := secureHost(t, Security{MAC: true, PIN: true})
	for i, c := range []struct {
		name, mac, block, code string
	}{
		{"all holds", testMAC, block0(t, "1234", visaCard, testPIN), "00"},
		{"no PIN is asked for", testMAC, "", "00"},
		{"wrong PIN", testMAC, block0(t, "1235", visaCard, testPIN), "55"},
		{"a block of another key", testMAC, block0(t, "1234", visaCard, testMAC), "88"},
		{"a block of another card", testMAC, block0(t, "1234", "4012888888881881", testPIN), "88"},
		{"a MAC of another key", testPIN, block0(t, "1234", visaCard, testPIN), "88"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stan := "00001" + string('0'+rune(i))
			answer := p.exchange(request87(t, stan, c.mac, c.block))
			at := len(answer) - 8
			if want := retailMAC(t, testMAC, answer[:at]); !bytes.Equal(answer[at:], want) {
				t.Errorf("the answer's MAC is %x, want %x", answer[at:], want)
			}
			if code := parse87(t, answer)[39]; code != c.code {
				t.Errorf("answered %s, want %s", code, c.code)
			}
		})
	}
}

func TestHostSpoilsMAC(t *testing.T) {
	for _, fault := range []string{"bad_mac", "wrong_key"} {
		p := secureHost(t, Security{MAC: true}, Fault{Fault: fault, At: 1})
		for i, spoiled := range []bool{true, false} {
			answer := p.exchange(request87(t, "00002"+string('0'+rune(i)), testMAC, ""))
			at := len(answer) - 8
			if holds := bytes.Equal(answer[at:], retailMAC(t, testMAC, answer[:at])); holds == spoiled {
				t.Errorf("%s: answer %d has a MAC that holds: %v", fault, i+1, holds)
			}
		}
	}
}

func TestKeyFileIsGuarded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	for _, c := range []struct {
		text string
		mode os.FileMode
		say  string
	}{
		{"mac: " + testMAC, 0o644, "chmod 600"},
		{"mac: 0123", 0o600, "mac is no key"},
		{"pin: " + testPIN, 0o600, "mac is missing"},
		{"mack: " + testMAC, 0o600, "not a key file"},
	} {
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := openCustody(Security{Keys: path, MAC: true}, nil)
		if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), testMAC) {
			t.Errorf("%s: %v", c.say, err)
		}
	}
}
