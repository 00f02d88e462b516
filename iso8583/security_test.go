package iso8583

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"authswitch/card"
	"authswitch/payment"
)

func secure(t *testing.T, name string, own Security) *Dialect {
	t.Helper()
	d, err := load(t, name).Secure(true, own)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// presented is example's card at a counter: chip, PIN block, track 2.
func presented(t *testing.T) (*payment.Authorization, *payment.Intent) {
	t.Helper()
	a, i := example(t)
	a.Channel, a.Entry, a.ThreeDS = payment.CardPresent, payment.ChipRead, payment.ThreeDSecure{}
	a.Card.CVV.Wipe()
	var errs [3]error
	a.Card.PIN, errs[0] = card.NewPINBlock([]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88})
	a.Card.Track2, errs[1] = card.ParseTrack2([]byte("4111111111111111=27122011000000000"))
	a.Card.Chip, errs[2] = card.ParseChip([]byte{0x9F, 0x26, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0x5F, 0x34, 1, 0x03})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return a, i
}

// Each dialect that has MACs sends and recognises them on a link that has them
// on, and on one that has not, sends none.
func TestSecureDialects(t *testing.T) {
	var with []string
	for _, name := range dialectNames(t) {
		if len(load(t, name).Security().MAC.Sent) == 0 {
			if _, err := load(t, name).Secure(true, Security{}); !errors.Is(err, ErrDialect) {
				t.Errorf("%s has no MACs, and a link could turn them on: %v", name, err)
			}
			continue
		}
		with = append(with, name)
		d := secure(t, name, Security{})
		a, i := presented(t)
		frame, err := d.EncodeAuthorization(nil, a, i)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mac := []byte{1, 2, 3, 4, 5, 6, 7, 8}[:d.Security().MAC.Length]
		if !d.SendsMAC(d.AuthorizationMTI()) || !d.WantsMAC(d.AuthorizationMTI().Response()) || !d.PutMAC(frame, mac) {
			t.Fatalf("%s: no place for a MAC", name)
		}
		body, at, _ := d.MACSpan(frame)
		message, got, _, ok := d.Authenticated(frame, nil)
		if !ok || !bytes.Equal(got, mac) || !bytes.Equal(message, frame[body:at]) {
			t.Errorf("%s: MAC %x over %d of %d bytes", name, got, len(message), len(frame))
		}
		var m Message
		if err := d.Unpack(&m, frame); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := []string{"as2805", "ascii87-single", "ascii87", "bcd87", "cb", "ifsf", "unionpay"}; !slices.Equal(with, want) {
		t.Errorf("dialects with MACs: %v, want %v", with, want)
	}
	a, i := presented(t)
	if frame, err := load(t, "cb").EncodeAuthorization(nil, a, i); err != nil || load(t, "cb").PutMAC(frame, make([]byte, 8)) {
		t.Errorf("a MAC where the link has none (%v)", err)
	}
}

// TestGoldenMAC is an 0100 as an acquirer without any code of ours would
// authenticate it: the retail MAC of what is before DE 64, from the algorithm's
// text with DES alone (and checked with `openssl enc -des-ede-cbc`).
func TestGoldenMAC(t *testing.T) {
	d := secure(t, "ascii87", Security{})
	a, i := presented(t)
	a.Card.Chip.Wipe()
	frame, err := d.EncodeAuthorization(nil, a, i)
	if err != nil {
		t.Fatal(err)
	}
	// 0100, bitmap, then 2, 3, 4, 7, 11, 12, 13, 14, 18, 19, 22, 25, 32, 33, 35, 37, 41, 42, 43, 49, 52, 64.
	head := "0100" + "\x72\x3c\x64\x81\xa8\xe0\x90\x01"
	if !strings.HasPrefix(string(frame), head) {
		t.Fatalf("starts with %q", frame[:12])
	}
	message, mac, _, ok := d.Authenticated(frame, nil)
	if !ok || !bytes.Equal(mac, make([]byte, 8)) || len(frame)-len(message) != 8 {
		t.Fatalf("%x", mac)
	}
	k, _ := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	got := retail(t, k, message)
	if want := "5e10556b3b76e877"; hex.EncodeToString(got) != want {
		t.Errorf("MAC %x, want %s over\n%x", got, want, message)
	}
}

// retail is ISO/IEC 9797-1 MAC algorithm 3, padding method 1.
func retail(t *testing.T, k, message []byte) []byte {
	t.Helper()
	first, err := des.NewCipher(k[:8])
	if err != nil {
		t.Fatal(err)
	}
	second, err := des.NewCipher(k[8:])
	if err != nil {
		t.Fatal(err)
	}
	padded := append(slices.Clone(message), make([]byte, (8-len(message)%8)%8)...)
	h := make([]byte, 8)
	for at := 0; at < len(padded); at += 8 {
		for j := range h {
			h[j] ^= padded[at+j]
		}
		first.Encrypt(h, h)
	}
	second.Decrypt(h, h)
	first.Encrypt(h, h)
	return h
}

// AS 2805: 0421 has the MAC of 0420.
func TestRepeatIgnored(t *testing.T) {
	d := secure(t, "as2805", Security{})
	a, i := example(t)
	covered := func(d *Dialect, tries uint16) string {
		frame, err := d.EncodeReversal(nil, &payment.Owed{STAN: 18, Tries: tries, Transmitted: 1123035959}, i, &a.Card)
		if err != nil {
			t.Fatal(err)
		}
		message, _, _, ok := d.Authenticated(frame, []byte("kept from before"))
		if !ok {
			t.Fatal("no MAC")
		}
		return string(message)
	}
	if covered(d, 1) != covered(d, 2) {
		t.Error("a repeat has another MAC than its first transmission")
	}
	if d = secure(t, "as2805", Security{MAC: MACRule{Repeat: "covered"}}); covered(d, 1) == covered(d, 2) {
		t.Error("the link's own contract does not count")
	}
}

// What a repeat's copy is made in is what the caller is given to wipe, however
// little room there was: an array that was left behind has a card number in it.
func TestRepeatLeavesNothingBehind(t *testing.T) {
	a, i := example(t)
	for _, name := range []string{"as2805", "cb", "unionpay"} {
		mti := secure(t, name, Security{}).ReversalMTI().String()
		d := secure(t, name, Security{MAC: MACRule{Algorithm: "3", Padding: 1, Length: 4, Coverage: "message", Repeat: "ignored", Sent: []string{mti}}})
		frame, err := d.EncodeReversal(nil, &payment.Owed{STAN: 18, Tries: 2, Reason: payment.ReversalTimeout, Transmitted: 1123035959}, i, &a.Card)
		if err != nil {
			t.Fatal(err)
		}
		for room := range len(frame) {
			message, _, grown, ok := d.Authenticated(frame, make([]byte, 0, room))
			if !ok {
				t.Fatalf("%s: no MAC", name)
			}
			clear(grown[:cap(grown)])
			if bytes.ContainsFunc(message, func(r rune) bool { return r != 0 }) {
				t.Errorf("%s: with room for %d bytes the message stands where nobody wipes", name, room)
				break
			}
		}
	}
}

// A MAC behind elements beyond 64 stands in DE 128; where the dialect has none,
// nothing is sent.
func TestMACElement(t *testing.T) {
	d := secure(t, "cb", Security{})
	_, i := example(t)
	frame, err := d.EncodeReversal(nil, &payment.Owed{STAN: 18, Tries: 1, Transmitted: 1123035959}, i, &mustExample(t).Card)
	if err != nil {
		t.Fatal(err)
	}
	if last := d.lastElement(frame); last != 128 {
		t.Errorf("the MAC of a reversal stands in DE %d", last)
	}
	narrow := *d
	narrow.mac128 = false
	if _, err := narrow.EncodeReversal(nil, &payment.Owed{STAN: 18, Tries: 1}, i, &mustExample(t).Card); !errors.Is(err, ErrNoMAC) {
		t.Errorf("%v", err)
	}
}

func mustExample(t *testing.T) *payment.Authorization {
	a, _ := example(t)
	return a
}

func TestSecurityFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		own  Security
		say  string
	}{
		{"ascii87", Security{MAC: MACRule{Algorithm: "2"}}, "algorithm"},
		{"ascii87", Security{MAC: MACRule{Padding: 4}}, "padding"},
		{"ascii87", Security{MAC: MACRule{Length: 5}}, "length"},
		{"ascii87", Security{MAC: MACRule{Coverage: "some"}}, "coverage"},
		{"ascii87", Security{MAC: MACRule{Sent: []string{"0999"}}}, "0999"},
		{"unionpay", Security{MAC: MACRule{Length: 8}}, "4 bytes"},
		{"ascii87", Security{PIN: PINRule{Format: "iso2"}}, "iso2"},
		{"cb", Security{KeyExchange: KeyExchangeRule{Form: "raw"}}, "raw key"},
		{"cb", Security{KeyExchange: KeyExchangeRule{Key: "48.9999"}}, "48.9999"},
	} {
		if _, err := load(t, c.name).Secure(true, c.own); !errors.Is(err, ErrDialect) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s, %+v: %v", c.name, c.own, err)
		}
	}
}

// What lint refuses of a file's security.
func TestLintSecurity(t *testing.T) {
	for _, c := range []struct{ change, say string }{
		{"messages: {\"0100\": {conditional: [14]}}", "lists neither DE 64 nor 128"},
		{"mac: [64]", "DE 128, which is not listed"},
		{"security: {pin: {format: iso4}}", "16 bytes, the element 8"},
		{"messages: {\"0100\": {elements: {52: null}}}", "no element for the block"},
		{"fields: {48: {subfields: {\"0020\": {sensitive: \"\"}}}}", "not marked sensitive: key"},
		{"network: {functions: {key_exchange: null}}", "no function key_exchange"},
		{"messages: {\"0810\": {conditional: [33]}}", "0810 does not list it"},
	} {
		fsys := fstest.MapFS{"changed.yaml": {Data: []byte("name: changed\nextends: cb\nstatus: test\n" + c.change + "\n")}}
		for _, name := range []string{"cb.yaml", "base-87.yaml"} {
			raw, err := fsFile(name)
			if err != nil {
				t.Fatal(err)
			}
			fsys[name] = &fstest.MapFile{Data: raw}
		}
		if _, err := Load(fsys, "changed"); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.change, err)
		}
	}
}

// Card-present elements are there when the request has them, and only then.
func TestCardPresent(t *testing.T) {
	for name, chip := range map[string]int{"ascii87": 55, "cb": 55, "visa": 55, "mastercard": 55, "amex": 0} {
		d := load(t, name)
		a, i := presented(t)
		frame, err := d.EncodeAuthorization(nil, a, i)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var m Message
		if err := d.Unpack(&m, frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(m.Bytes(35)) != "4111111111111111=27122011000000000" && string(m.Bytes(35)) != "4111111111111111D27122011000000000" {
			t.Errorf("%s: no track 2", name)
		}
		if !bytes.Equal(m.Bytes(52), a.Card.PIN.RevealPINBlock()) {
			t.Errorf("%s: DE 52 is %x", name, m.Bytes(52))
		}
		if m.Has(55) != (chip > 0) || chip > 0 && !bytes.Contains(m.Bytes(55), a.Card.Chip.RevealChip()) {
			t.Errorf("%s: DE 55 is %x", name, m.Bytes(55))
		}
		a, i = example(t)
		if frame, err = d.EncodeAuthorization(frame[:0], a, i); err != nil || d.Unpack(&m, frame) != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Has(23) || m.Has(35) || m.Has(52) || m.Has(55) {
			t.Errorf("%s: an e-commerce request has a card-present element", name)
		}
	}
}

// Only what is for the chip comes back of an issuer's DE 55.
func TestChipAnswer(t *testing.T) {
	for name, wrap := range map[string]string{"ascii87": "", "visa": "010022"} {
		d := load(t, name)
		var b Builder
		b.Start(0x0110)
		data, _ := hex.DecodeString("910A1122334455667788303057" + "0441111111" + "8A023030" + "7109860700112233445566" + "9F360200019F1000")
		if wrap != "" {
			data, _ = hex.DecodeString(wrap[:2] + "00" + hex.EncodeToString([]byte{byte(len(data))}) + hex.EncodeToString(data))
		}
		b.Set(39, []byte("00"))
		b.Set(55, data)
		frame, err := d.Pack(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		var m Message
		var r payment.Response
		if err := d.Unpack(&m, frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := d.DecodeAuthorization(&m, &r); err != nil {
			t.Fatal(err)
		}
		if got, want := hex.EncodeToString([]byte(r.Chip)), "910a112233445566778830308a0230307109860700112233445566"; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A key travels in the places the dialect has for it, and is read from there.
func TestKeyInMessage(t *testing.T) {
	raw := Security{KeyExchange: KeyExchangeRule{
		Form: "raw", Key: "48.0020", Check: "48.0021", Usage: "53", Usages: map[string]string{"pin": "1000000000000000", "mac": "2000000000000000"},
	}}
	for _, c := range []struct {
		name, usage string
		own         Security
		key         string
	}{
		{"cb", "", Security{}, "D0112P0TE00S0000" + strings.Repeat("AB", 48)},
		{"cb", "mac", raw, "\x01\x23\x45\x67\x89\xAB\xCD\xEF\xFE\xDC\xBA\x98\x76\x54\x32\x10"},
		{"mastercard", "", Security{}, "D0096P0TE00S0000" + strings.Repeat("AB", 40)},
	} {
		d, err := load(t, c.name).Secure(false, c.own)
		if err != nil {
			t.Fatal(err)
		}
		check := []byte{0x08, 0xD7, 0xB4}
		frame, err := d.EncodeNetwork(nil, payment.NetworkRequest{
			Function: payment.KeyExchange, STAN: 7, Transmitted: 1126070000, Key: []byte(c.key), Check: check, KeyUsage: c.usage,
			Terms: payment.Terms{Acquirer: "497010", Forwarder: "497010"},
		})
		if err != nil {
			t.Fatal(err)
		}
		var m Message
		if err := d.Unpack(&m, frame); err != nil {
			t.Fatal(err)
		}
		n, ok := d.DecodeNetwork(&m)
		if !ok || n.Function != payment.KeyExchange || string(n.Key) != c.key || !bytes.Equal(n.Check, check) || n.KeyUsage != c.usage {
			t.Errorf("%s: %x %x %q", c.name, n.Key, n.Check, n.KeyUsage)
		}
		answer, err := d.EncodeKeyAnswer(nil, &m, d.NetworkAccept(), check)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Unpack(&m, answer); err != nil {
			t.Fatal(err)
		}
		if n, ok = d.DecodeNetwork(&m); !ok || !n.Accepted || n.Key != nil || !bytes.Equal(n.Check, check) {
			t.Errorf("%s: answered %+v", c.name, n)
		}
	}
}
