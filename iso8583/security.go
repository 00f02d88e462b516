package iso8583

import (
	"errors"
	"fmt"
	"slices"
)

// Security is what a dialect asks of the security module: which messages carry
// a MAC and how it is made, how PIN blocks travel, how keys are exchanged. It
// stands in the dialect file; a link may lay its own contract over it. Whether
// a link has any of it at all is the link's to say: Secure.
type Security struct {
	MAC         MACRule         `yaml:"mac"`
	PIN         PINRule         `yaml:"pin"`
	KeyExchange KeyExchangeRule `yaml:"key_exchange"`
}

// MACRule is how messages are authenticated (DE 64, or 128 where an element
// beyond 64 is present).
type MACRule struct {
	Algorithm string   `yaml:"algorithm"` // of ISO/IEC 9797-1: "1" (CBC-MAC), "3" (retail MAC) or "5" (CMAC)
	Padding   int      `yaml:"padding"`   // method 1, 2 or 3 of ISO/IEC 9797-1; CMAC has its own
	Length    int      `yaml:"length"`    // bytes of the MAC, 4 or 8; the rest of the element stays zero
	Coverage  string   `yaml:"coverage"`  // message: from the type to the MAC; frame: the network header too
	Repeat    string   `yaml:"repeat"`    // covered, or ignored: 0421 has the MAC of 0420 (AS 2805)
	Sent      []string `yaml:"sent"`      // message types that leave with a MAC; a repeat is as its first transmission
	Received  []string `yaml:"received"`  // message types that are believed only with a MAC that holds
}

// PINRule is how the PIN block of a card-present request travels.
type PINRule struct {
	Format string `yaml:"format"` // of ISO 9564-1: iso0, iso3 (TDES, 8 bytes) or iso4 (AES, 16 bytes)
	PAN    string `yaml:"pan"`    // of iso4: full, or rightmost12, the older rule
}

// KeyExchangeRule is how keys arrive and leave in network management messages.
type KeyExchangeRule struct {
	// Initiate is what an exchange that starts here does: request (an 0800 asks,
	// the peer's 0810 brings the key) or send (a key is made here and goes with
	// the 0800). Empty: only the peer starts one.
	Initiate string `yaml:"initiate"`
	Form     string `yaml:"form"`  // raw: TDES in ECB under the zone's key; tr31: a key block under it
	Key      string `yaml:"key"`   // the element, or the piece of one, that holds the key
	Check    string `yaml:"check"` // the one that holds its check value; raw keys need it
	// Usage is the element or piece that says which key comes, and Usages what
	// stands there for each: pin, mac. Without it a key block's header says it.
	Usage  string            `yaml:"usage"`
	Usages map[string]string `yaml:"usages"`
}

// The words of a Security.
const (
	coverageFrame     = "frame"
	repeatIgnored     = "ignored"
	exchangeFormRaw   = "raw"
	exchangeFormTR31  = "tr31"
	initiateByRequest = "request"
	initiateBySending = "send"
)

// Raw says that keys travel without a header.
func (k KeyExchangeRule) Raw() bool { return k.Form == exchangeFormRaw }

// Requests says that an exchange that starts here asks for a key; Sends that it
// brings one.
func (k KeyExchangeRule) Requests() bool { return k.Initiate == initiateByRequest }

// Sends says that an exchange that starts here brings a key of our making.
func (k KeyExchangeRule) Sends() bool { return k.Initiate == initiateBySending }

// Possible says that the dialect has keys in its network messages at all.
func (k KeyExchangeRule) Possible() bool { return k.Key != "" }

// over lays what is given in o over s.
func (s Security) over(o Security) Security {
	text := func(into *string, v string) {
		if v != "" {
			*into = v
		}
	}
	text(&s.MAC.Algorithm, o.MAC.Algorithm)
	text(&s.MAC.Coverage, o.MAC.Coverage)
	text(&s.MAC.Repeat, o.MAC.Repeat)
	text(&s.PIN.Format, o.PIN.Format)
	text(&s.PIN.PAN, o.PIN.PAN)
	text(&s.KeyExchange.Initiate, o.KeyExchange.Initiate)
	text(&s.KeyExchange.Form, o.KeyExchange.Form)
	text(&s.KeyExchange.Key, o.KeyExchange.Key)
	text(&s.KeyExchange.Check, o.KeyExchange.Check)
	text(&s.KeyExchange.Usage, o.KeyExchange.Usage)
	if o.KeyExchange.Usages != nil {
		s.KeyExchange.Usages = o.KeyExchange.Usages
	}
	if o.MAC.Padding != 0 {
		s.MAC.Padding = o.MAC.Padding
	}
	if o.MAC.Length != 0 {
		s.MAC.Length = o.MAC.Length
	}
	if o.MAC.Sent != nil {
		s.MAC.Sent = o.MAC.Sent
	}
	if o.MAC.Received != nil {
		s.MAC.Received = o.MAC.Received
	}
	return s
}

// security is a Security compiled for the way of a message.
type security struct {
	rule           Security
	on             bool // MACs
	sent, received []MTI
	key, check     place
	usage          place
}

// ErrNoMAC means that a message that must carry a MAC has no element for it.
var ErrNoMAC = errors.New("no element for the MAC")

// Secure is the dialect as one link speaks it: with MACs on or off, and the
// link's own contract laid over the dialect's. The dialect itself, as Load
// gives it, speaks without.
func (d *Dialect) Secure(mac bool, own Security) (*Dialect, error) {
	s, err := d.compileSecurity(d.file.Security.over(own), mac)
	if err != nil {
		return nil, fmt.Errorf("dialect %s: security: %w", d.name, err)
	}
	out := *d
	out.security = s
	return &out, nil
}

// Security is what stands in the dialect file, with what the link laid over it.
func (d *Dialect) Security() Security { return d.security.rule }

func (d *Dialect) compileSecurity(rule Security, mac bool) (security, error) {
	s := security{rule: rule, on: mac}
	if faults := d.checkSecurity(&rule, mac); len(faults) > 0 {
		return s, errors.Join(faults...)
	}
	for _, list := range []struct {
		into *[]MTI
		from []string
	}{{&s.sent, rule.MAC.Sent}, {&s.received, rule.MAC.Received}} {
		for _, text := range list.from {
			mti, err := ParseMTI(text)
			if err != nil {
				return s, fmt.Errorf("mac: %w", err)
			}
			*list.into = append(*list.into, mti)
		}
	}
	for _, part := range []struct {
		into *place
		text string
	}{{&s.key, rule.KeyExchange.Key}, {&s.check, rule.KeyExchange.Check}, {&s.usage, rule.KeyExchange.Usage}} {
		var err error
		if *part.into, err = d.parsePlace(part.text); err != nil {
			return s, fmt.Errorf("key_exchange: %w", err)
		}
	}
	return s, nil
}

// checkSecurity names all that could not work. mac says that MACs are wanted:
// what is wrong with them then matters.
func (d *Dialect) checkSecurity(s *Security, mac bool) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrDialect}, args...)...))
	}
	oneOf := func(name, v string, words ...string) {
		if v != "" && !slices.Contains(words, v) {
			fault("%s is %q, which is none of %v", name, v, words)
		}
	}
	m := &s.MAC
	oneOf("mac.algorithm", m.Algorithm, "1", "3", "5")
	oneOf("mac.coverage", m.Coverage, "message", coverageFrame)
	oneOf("mac.repeat", m.Repeat, "covered", repeatIgnored)
	oneOf("pin.format", s.PIN.Format, "iso0", "iso3", "iso4")
	oneOf("pin.pan", s.PIN.PAN, "full", "rightmost12")
	oneOf("key_exchange.initiate", s.KeyExchange.Initiate, initiateByRequest, initiateBySending)
	oneOf("key_exchange.form", s.KeyExchange.Form, exchangeFormRaw, exchangeFormTR31)
	if m.Padding < 0 || m.Padding > 3 {
		fault("mac.padding is %d, which is no method of ISO/IEC 9797-1", m.Padding)
	}
	if m.Length != 0 && m.Length != 4 && m.Length != 8 {
		fault("mac.length is %d; a MAC has 4 or 8 bytes", m.Length)
	}
	if mac {
		d.checkMAC(m, fault)
	}
	k := &s.KeyExchange
	if k.Possible() && k.Form == "" {
		fault("key_exchange: the form of the key is not said: raw or tr31")
	}
	if k.Possible() && k.Raw() && (k.Check == "" || k.Usage == "" || len(k.Usages) == 0) {
		fault("key_exchange: a raw key says nothing of itself: it needs check, usage and usages")
	}
	for usage := range k.Usages {
		oneOf("key_exchange.usages", usage, "pin", "mac")
	}
	return faults
}

// checkMAC is about a link that has MACs on.
func (d *Dialect) checkMAC(m *MACRule, fault func(string, ...any)) {
	if m.Algorithm == "" || m.Length == 0 || m.Algorithm != "5" && m.Padding == 0 {
		fault("mac: algorithm, padding and length must be given where MACs are on")
	}
	if !d.mac64 && !d.mac128 {
		fault("mac: the dialect has no element for one")
		return
	}
	for _, de := range []int{64, 128} {
		if e := d.elements[de]; d.isMAC(de) && e.max < m.Length {
			fault("mac: DE %d has %d bytes, the MAC %d", de, e.max, m.Length)
		}
	}
	for _, text := range slices.Concat(m.Sent, m.Received) {
		mti, err := ParseMTI(text)
		if err != nil {
			fault("mac: %q is no message type", text)
			continue
		}
		if d.message(mti) == nil {
			fault("mac: %s is not under messages", text)
		}
	}
	if len(m.Sent) == 0 && len(m.Received) == 0 {
		fault("mac: no message type is named: sent, received")
	}
}

// SendsMAC says that messages of a type leave with a MAC on this link.
func (d *Dialect) SendsMAC(mti MTI) bool {
	return d.security.on && slices.Contains(d.security.sent, mti.Original())
}

// WantsMAC says that messages of a type are believed on this link only with a
// MAC that holds.
func (d *Dialect) WantsMAC(mti MTI) bool {
	return d.security.on && slices.Contains(d.security.received, mti.Original())
}

// HasMAC says that any message of this link carries a MAC.
func (d *Dialect) HasMAC() bool { return d.security.on }

// setMAC puts the element of the MAC into a message that carries one: zeros,
// whose place Authenticated finds again.
func (d *Dialect) setMAC(b *Builder) error {
	if !d.SendsMAC(b.mti) {
		return nil
	}
	de := 64
	if b.present[1]|b.present[2] != 0 {
		de = 128
	}
	if !d.isMAC(de) {
		if de == 64 && d.mac128 {
			de = 128
		} else {
			return fieldError(de, "", "message authentication code", ErrNoMAC)
		}
	}
	b.Set(de, zeros[:d.elements[de].max])
	return nil
}

// Authenticated cuts a frame into what a MAC is over and the MAC it carries.
// Both alias the frame or scratch, which is grown as needed and returned. ok is
// false where the frame has no MAC element.
func (d *Dialect) Authenticated(frame, scratch []byte) (message, mac, grown []byte, ok bool) {
	body, at, ok := d.MACSpan(frame)
	if !ok {
		return nil, nil, scratch, false
	}
	from := body
	if d.security.rule.MAC.Coverage == coverageFrame {
		from = 0
	}
	message, mac = frame[from:at], frame[at:]
	scratch = slices.Grow(scratch[:0], len(message)+len(mac)) // growing later would leave a card number behind that nobody wipes
	if d.security.rule.MAC.Repeat == repeatIgnored && d.isRepeat(frame[body:]) {
		scratch = append(scratch, message...)
		d.clearRepeat(scratch[body-from:])
		message = scratch
	}
	if d.elements[d.lastElement(frame)].coding == codingHex {
		start := len(scratch)
		for i := 0; i+1 < len(mac); i += 2 {
			high, low := hexNibble(mac[i]), hexNibble(mac[i+1])
			if high > 15 || low > 15 {
				return nil, nil, scratch, false
			}
			scratch = append(scratch, high<<4|low)
		}
		mac = scratch[start:]
	}
	return message, mac[:min(len(mac), max(d.security.rule.MAC.Length, 4))], scratch, true
}

// isRepeat looks at the last digit of a message type on the wire.
func (d *Dialect) isRepeat(message []byte) bool { return message[d.lastDigit()]&1 == 1 }

// clearRepeat makes it that of the first transmission: in all three codings the
// lowest bit of the byte is that of the digit.
func (d *Dialect) clearRepeat(message []byte) { message[d.lastDigit()] &^= 1 }

// lastDigit is the byte of a message that holds the type's last digit.
func (d *Dialect) lastDigit() int {
	if d.mtiCoding == codingBCD {
		return 1
	}
	return 3
}

// PutMAC writes a MAC of the rule's length into its place in a frame. false
// where the frame has none.
func (d *Dialect) PutMAC(frame, mac []byte) bool {
	_, at, ok := d.MACSpan(frame)
	if !ok {
		return false
	}
	place := frame[at:]
	if d.elements[d.lastElement(frame)].coding != codingHex {
		return copy(place, mac) == len(mac)
	}
	if len(place) < 2*len(mac) {
		return false
	}
	for i, c := range mac {
		place[2*i], place[2*i+1] = upperHex[c>>4], upperHex[c&15]
	}
	return true
}
