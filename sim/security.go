package sim

import (
	"bytes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/pinblock"
)

// Security is the host's own end of the keys, and what it checks with them. It
// is scenario data, written from the contract and not read from the dialect
// file. The zero value checks nothing.
type Security struct {
	// Keys is the path of the key file, mode 0600. It is never written.
	Keys string `yaml:"keys,omitempty"`
	// Kept is the path of a file, mode 0600, where exchanged keys are kept, so that
	// a host that is started again still has them. Empty: they are forgotten.
	Kept string `yaml:"kept,omitempty"`

	MAC      bool `yaml:"mac,omitempty"`       // payment requests and reversals are refused without a MAC that holds; answers get one
	Advices  bool `yaml:"advices,omitempty"`   // with mac: advices (0120, 0220) and their answers too
	Network  bool `yaml:"network,omitempty"`   // with mac: network messages both ways too; one whose MAC does not hold is not answered
	PIN      bool `yaml:"pin,omitempty"`       // the PIN of a request is compared with the card's
	CVV      bool `yaml:"cvv,omitempty"`       // the printed security code is computed and compared
	ARQC     bool `yaml:"arqc,omitempty"`      // the chip's cryptogram is verified and answered
	Required bool `yaml:"required,omitempty"`  // a key exchange must come before the first payment
	MACBytes int  `yaml:"mac_bytes,omitempty"` // default 8
	Padding  int  `yaml:"padding,omitempty"`   // of ISO/IEC 9797-1, default 1

	Exchange KeyExchange `yaml:"key_exchange,omitempty"`
}

// KeyExchange is where keys stand in the network messages of this host.
type KeyExchange struct {
	Function string `yaml:"function,omitempty"` // DE 70 of an exchange; empty: there is none
	Key      string `yaml:"key,omitempty"`      // element or piece, as "48.0020": a TR-31 block
	Check    string `yaml:"check,omitempty"`    // the check value
	// Send lets the host send a key of its own after each sign-on: pin, mac.
	Send []string `yaml:"send,omitempty"`
}

// keyFile is the file of Security.Keys: everything in hexadecimal but the PINs.
type keyFile struct {
	Zone  string            `yaml:"zone"` // AES: protects the key blocks of an exchange
	PIN   string            `yaml:"pin"`  // TDES; with "aes:" in front AES, for blocks of format 4
	MAC   string            `yaml:"mac"`  // TDES: the retail MAC
	Card  string            `yaml:"card"` // TDES: card verification values
	Chip  string            `yaml:"chip"` // TDES: the issuer's master key of cryptograms
	PINs  map[string]string `yaml:"pins"` // account number → PIN
	Other string            `yaml:"other_pin"`
}

// aesMark stands before the digits of an AES key where TDES is usual.
const aesMark = "aes:"

// maxKeyFile bounds the key file.
const maxKeyFile = 1 << 16

// custody is the keys in memory. Exchanged keys replace those of the file until
// the simulator ends.
type custody struct {
	rules Security
	zone  key.Key
	card  key.Key
	chip  key.Key
	pins  map[string]string
	other string // PIN of every card that is not in pins

	mu      sync.Mutex
	pin     cipher.Block
	mac     *mac.MAC
	pinWas  cipher.Block // the keys before: for what was on its way when they changed
	macWas  *mac.MAC
	kept    keyFile                 // what was exchanged, as it is kept
	offered map[string]func() error // keys the peer has not accepted yet, by the trace number of the request
	random  io.Reader
}

func openCustody(rules Security, random io.Reader) (*custody, error) {
	v := &custody{rules: rules, offered: map[string]func() error{}, random: random}
	if rules.Keys == "" {
		if rules.MAC || rules.PIN || rules.CVV || rules.ARQC {
			return nil, fmt.Errorf("security: keys: no key file is named: %w", ErrScenario)
		}
		return v, nil
	}
	f, err := readKeyFile(rules.Keys)
	if err != nil {
		return nil, fmt.Errorf("security: keys: %w", err)
	}
	if kept, err := readKeyFile(rules.Kept); rules.Kept != "" && err == nil {
		f.PIN, f.MAC = orElse(kept.PIN, f.PIN), orElse(kept.MAC, f.MAC)
	} else if rules.Kept != "" && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("security: kept: %w", err)
	}
	v.kept.PIN, v.kept.MAC = f.PIN, f.MAC
	v.pins, v.other = f.PINs, f.Other
	var pin, macKey key.Key
	for _, part := range []struct {
		name, text string
		algorithm  key.Algorithm
		into       *key.Key
		needed     bool
	}{
		{"zone", f.Zone, key.AES, &v.zone, rules.Exchange.Function != ""},
		{"pin", f.PIN, key.TDES, &pin, rules.PIN && !rules.Required},
		{"mac", f.MAC, key.TDES, &macKey, rules.MAC && !rules.Required},
		{"card", f.Card, key.TDES, &v.card, rules.CVV},
		{"chip", f.Chip, key.TDES, &v.chip, rules.ARQC},
	} {
		if part.text == "" {
			if part.needed {
				return nil, fmt.Errorf("%s: %s is missing: %w", rules.Keys, part.name, ErrScenario)
			}
			continue
		}
		digits, isAES := strings.CutPrefix(part.text, aesMark)
		if isAES && part.name == "pin" {
			part.algorithm = key.AES
		}
		raw, err := hex.DecodeString(digits)
		if err == nil {
			*part.into, err = key.New(part.algorithm, raw)
		}
		clear(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %s is no key: %w", rules.Keys, part.name, ErrScenario)
		}
	}
	return v, errors.Join(v.usePIN(&pin), v.useMAC(&macKey))
}

func orElse(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// readKeyFile refuses a file that others can read.
func readKeyFile(path string) (*keyFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (chmod 600): %w", path, ErrScenario)
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, err
	}
	var f keyFile
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("%s: %w: not a key file", path, ErrScenario) // the decoder would quote it
	}
	return &f, nil
}

func (v *custody) usePIN(k *key.Key) error {
	if k.Len() == 0 {
		return nil
	}
	c, err := k.Cipher()
	if err == nil {
		v.pin, v.pinWas = c, v.pin
	}
	return err
}

func (v *custody) useMAC(k *key.Key) error {
	if k.Len() == 0 {
		return nil
	}
	m, err := mac.New(mac.ISO3, k)
	if err == nil {
		v.mac, v.macWas = m, v.mac
	}
	return err
}

func (s *Security) bytes() int {
	if s.MACBytes == 0 {
		return macRoom
	}
	return s.MACBytes
}

func (s *Security) padding() mac.Padding { return mac.Padding(max(s.Padding, 1)) }

func (s *Security) validate() []error {
	var faults []error
	if s.MACBytes != 0 && s.MACBytes != 4 && s.MACBytes != 8 {
		faults = append(faults, fmt.Errorf("security: mac_bytes is %d, not 4 or 8", s.MACBytes))
	}
	if (s.Advices || s.Network) && !s.MAC {
		faults = append(faults, errors.New("security: advices, network: without mac nothing has one"))
	}
	if s.Padding < 0 || s.Padding > 3 {
		faults = append(faults, fmt.Errorf("security: padding is %d, not 1 to 3", s.Padding))
	}
	if s.Exchange.Function != "" {
		if _, ok := placeNamed(s.Exchange.Key); !ok {
			faults = append(faults, fmt.Errorf("security: key_exchange: key: %q is no element", s.Exchange.Key))
		}
	}
	for _, usage := range s.Exchange.Send {
		if usage != "pin" && usage != "mac" {
			faults = append(faults, fmt.Errorf("security: key_exchange: send: %q is neither pin nor mac", usage))
		}
	}
	return faults
}

// placeNamed reads "48.0020".
func placeNamed(text string) (place, bool) {
	number, sub, _ := strings.Cut(text, ".")
	de, err := strconv.Atoi(number)
	return place{de, sub}, err == nil && de > 1 && de <= maxElement
}

// macOn says whether messages of a type, and their answers, carry MACs here.
func (s *Security) macOn(m *message) bool {
	switch {
	case m.class() == '8':
		return s.MAC && s.Network
	case m.class() != '4' && (m.function() == '2' || m.function() == '3'):
		return s.MAC && s.Advices
	}
	return s.MAC
}

// carriesMAC says where a message's MAC is, 0 when it has none.
func carriesMAC(m *message) int {
	for _, de := range []int{128, 64} {
		if m.has(de) {
			return de
		}
	}
	return 0
}

// authentic checks the MAC of a request: over all between network header and
// MAC, which are the last bytes of the frame.
func (v *custody) authentic(frame []byte, headerLen int, m *message) bool {
	de := carriesMAC(m)
	if de == 0 || len(frame) < headerLen+len(m.values[de]) {
		return false
	}
	at := len(frame) - len(m.values[de])
	v.mu.Lock()
	keys := [2]*mac.MAC{v.mac, v.macWas}
	v.mu.Unlock()
	var scratch [16]byte
	for _, k := range keys {
		if k != nil && k.Verify(scratch[:], v.rules.padding(), frame[headerLen:at], frame[at:at+v.rules.bytes()]) == nil {
			return true
		}
	}
	return false
}

// authenticate writes the MAC of an answer in its place, the last bytes of the
// frame; spoiled makes it one that does not hold, foreign one of another key.
func (v *custody) authenticate(frame []byte, headerLen int, d delivery) {
	at := len(frame) - macRoom
	v.mu.Lock()
	k := v.mac
	v.mu.Unlock()
	var out [16]byte
	if k == nil || k.Sum(out[:], v.rules.padding(), frame[headerLen:at]) != nil {
		return
	}
	switch d {
	case deliverBadMAC:
		out[0] ^= 1
	case deliverWrongKey:
		other, err := key.New(key.TDES, []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10"))
		if err != nil {
			panic(err) // sixteen bytes are a key
		}
		wrong, err := mac.New(mac.ISO3, &other)
		if err == nil {
			_ = wrong.Sum(out[:], v.rules.padding(), frame[headerLen:at])
		}
	}
	clear(frame[at:])
	copy(frame[at:], out[:v.rules.bytes()])
}

// macRoom is the length of DE 64 and 128.
const macRoom = 8

// pinHolds takes the PIN out of an encrypted block and compares it with the
// card's. unreadable: the block is none under the host's key, nor under the one
// before it, which a block on its way during an exchange may have.
func (v *custody) pinHolds(block, pan []byte) (holds, unreadable bool) {
	v.mu.Lock()
	keys := [2]cipher.Block{v.pin, v.pinWas}
	v.mu.Unlock()
	var pin pinblock.PIN
	defer pin.Wipe()
	if !decipher(&pin, keys[0], block, pan) && !decipher(&pin, keys[1], block, pan) {
		return false, true
	}
	var digits [12]byte
	defer clear(digits[:])
	n := pin.RevealPIN(&digits)
	want, known := v.pins[string(pan)]
	if !known {
		want = v.other
	}
	return want != "" && string(digits[:n]) == want, false
}

// decipher opens a PIN block under one key: format 4 under AES, the others under
// TDES. false: it is none.
func decipher(pin *pinblock.PIN, c cipher.Block, block, pan []byte) bool {
	if c == nil || len(block) != c.BlockSize() {
		return false
	}
	var work [pinblock.Size4]byte
	defer clear(work[:])
	if len(block) == pinblock.Size4 {
		copy(work[:], block)
		return pinblock.Decipher4(pin, c, work[:], pan, pinblock.FullPAN) == nil
	}
	c.Decrypt(work[:pinblock.Size], block)
	return pinblock.Decode(pin, pinblock.Format(work[0]>>4), work[:pinblock.Size], pan) == nil
}

// any says whether the host takes a scheme's check at all.
func (s *Security) any() bool { return s.MAC || s.PIN || s.CVV || s.ARQC }

// refusal is the 1987 code that the security of a request asks for, "" when it
// asks for none.
func (v *custody) refusal(frame []byte, headerLen int, m *message, chip *chipData) string {
	switch {
	case v.rules.macOn(m) && !v.authentic(frame, headerLen, m):
		return codeKey
	case !slices.Contains([]byte{'1', '2'}, m.class()):
		return ""
	}
	if v.rules.PIN && m.has(52) {
		holds, unreadable := v.pinHolds(m.values[52], cardOf(m))
		switch {
		case unreadable:
			return codeKey
		case !holds:
			return codePIN
		}
	}
	if v.rules.ARQC && m.has(55) && !v.cryptogram(m, chip) {
		return codeChip
	}
	return ""
}

// The codes of what does not hold.
const (
	codeKey  = "88"
	codePIN  = "55"
	codeChip = "05"
)
