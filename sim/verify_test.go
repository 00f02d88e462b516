package sim

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"authswitch/hsm/key"
	"authswitch/payment"
)

// These tests hold what the host and the terminal compute to published known
// answers, and where there are none to the algorithms typed once more.

// vectors are the published known answers, as far as a simulator has a part in
// them.
type vectors struct {
	KCV []struct{ Key, KCV string } `json:"kcv_aes_cmac"`
	CVV []struct {
		CVK, PAN, Expiry, CVV string
		Service               string `json:"service_code"`
	}
	EMV struct {
		IMK, PAN, PSN, ATC, UN, Data string
		Cases                        []struct{ Scheme, ARQC string }
		ARPC                         []struct{ ARC, ARQC, ARPC string }
	}
	TR31    []struct{ Version, KBPK, Block, Key string }
	Format4 []struct{ Key, PIN, PAN, Block string } `json:"pin_block_format4"`
	TDES    struct {
		BDK   string
		Cases []struct{ KSN, PIN string }
	} `json:"dukpt_tdes"`
	AES struct {
		ID       string `json:"initial_key_id"`
		PIN, PAN string
		Random   string
		BDK128   struct {
			BDK   string
			Cases []struct {
				Counter string
				Block   string `json:"format4_block"`
			}
		}
	} `json:"dukpt_aes"`
}

func known(t *testing.T) *vectors {
	t.Helper()
	raw, err := os.ReadFile("../hsm/testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return &v
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keyFileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The security code of the published example is matched, its neighbours are not.
func TestHostVerifiesCVV(t *testing.T) {
	checked := 0
	for _, c := range known(t).CVV {
		if c.Service != "000" { // what is printed on the card: 000 in the place of the service code
			continue
		}
		b := start(t, func(s *Config) {
			s.Security, s.Codec = Security{Keys: keyFileOf(t, "card: "+c.CVK), CVV: true}, CodecMoov
		})
		ask := func(stan, expiry, code string) byte {
			b.send(text87("0100", 2, fmt.Sprintf("%02d", len(c.PAN))+c.PAN, 3, "000000", 4, "000000001000", 7, "0314101500", 11, stan, 14, expiry,
				32, "0512345", 37, "632700"+stan, 41, "TERM0001", 42, "SHOP00000000001", 48, "007"+"9203"+code, 49, "978"))
			answer := parse87(t, b.frame())
			if answer[39] != "00" {
				t.Errorf("answered %s", answer[39])
			}
			_, result, _ := strings.Cut(answer[48], "8701")
			return (result + "?")[0]
		}
		want, _ := strconv.Atoi(c.CVV)
		if got := ask("000001", c.Expiry, c.CVV); got != 'M' {
			t.Errorf("the published value: %c", got)
		}
		if got := ask("000002", c.Expiry, fmt.Sprintf("%03d", (want+1)%1000)); got != 'N' {
			t.Errorf("another value: %c", got)
		}
		if got := ask("000003", "1208", c.CVV); got != 'N' {
			t.Errorf("another expiry: %c", got)
		}
		checked++
	}
	if checked == 0 {
		t.Error("no published value was checked")
	}
}

// tdes is two-key TDES of one block.
func tdes(t *testing.T, k, block []byte) []byte {
	t.Helper()
	c, err := des.NewTripleDESCipher(append(bytes.Clone(k), k[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	c.Encrypt(out, block)
	return out
}

// chipKeys derives a card's key (EMV Book 2 A1.4.1) and a session's (A1.3.1), by
// hand.
func chipKeys(t *testing.T, imk []byte, pan, psn string, atc []byte) (card, session []byte) {
	t.Helper()
	two := func(k, left, right []byte) []byte {
		out := append(tdes(t, k, left), tdes(t, k, right)...)
		for i, b := range out { // odd parity
			out[i] = b &^ 1
			if ones := strings.Count(strconv.FormatUint(uint64(out[i]), 2), "1"); ones%2 == 0 {
				out[i] |= 1
			}
		}
		return out
	}
	y := unhex(t, (pan + psn)[len(pan+psn)-16:])
	inverse := make([]byte, 8)
	for i, b := range y {
		inverse[i] = ^b
	}
	card = two(imk, y, inverse)
	return card, two(card, []byte{atc[0], atc[1], 0xF0, 0, 0, 0, 0, 0}, []byte{atc[0], atc[1], 0x0F, 0, 0, 0, 0, 0})
}

// The host verifies the cryptogram of the published card over the published
// data, and answers it. The keys derived by hand give the published cryptogram,
// which is of padding method 1; a host of EMV's common session key has method 2.
func TestHostVerifiesARQC(t *testing.T) {
	v := known(t).EMV
	card, session := chipKeys(t, unhex(t, v.IMK), v.PAN, v.PSN, unhex(t, v.ATC))
	data := unhex(t, v.Data)
	for _, c := range v.Cases {
		k := session
		if strings.Contains(c.Scheme, "CVN10") {
			k = card
		}
		if got := retailMAC(t, hex.EncodeToString(k), data); fmt.Sprintf("%X", got) != c.ARQC {
			t.Fatalf("%s, by hand: %X, published %s", c.Scheme, got, c.ARQC)
		}
	}
	answerOf := func(k, arqc []byte) []byte { // ARPC method 1
		in := bytes.Clone(arqc)
		in[0] ^= '0'
		in[1] ^= '0'
		return tdes(t, k, in)
	}
	if p := v.ARPC[0]; p.ARC != "3030" || fmt.Sprintf("%X", answerOf(card, unhex(t, p.ARQC))) != p.ARPC {
		t.Fatalf("ARPC by hand: %X, published %s", answerOf(card, unhex(t, p.ARQC)), p.ARPC)
	}

	padded := append(bytes.Clone(data), 0x80)
	arqc := retailMAC(t, hex.EncodeToString(session), padded)
	s := newSwitchSideWith(t, "bcd87", Security{Keys: keyFileOf(t, "chip: "+v.IMK), ARQC: true})
	for i, c := range []struct {
		name, code string
		spoil      func(emv []byte)
	}{
		{"published", "00", func([]byte) {}},
		{"another amount", "05", func(emv []byte) { emv[3] ^= 1 }},
		{"another cryptogram", "05", func(emv []byte) { emv[len(emv)-1] ^= 1 }},
	} {
		emv := chipObjects(t, data, arqc)
		c.spoil(emv)
		m := s.ask(s.chipRequest(payment.STAN(30+i), v.PAN, emv))
		if code := string(m.Bytes(39)); code != c.code {
			t.Errorf("%s: answered %s, want %s", c.name, code, c.code)
		}
		want := append(append([]byte{0x91, 10}, answerOf(session, arqc)...), "00\x8A\x0200"...)
		if got := m.Bytes(55); c.code == "00" && !bytes.Equal(got, want) {
			t.Errorf("%s: DE 55 of the answer is %X, want %X", c.name, got, want)
		} else if c.code != "00" && len(got) != 0 {
			t.Errorf("%s: an answer to the chip: %X", c.name, got)
		}
	}
}

// chipObjects is DE 55 with the signed data cut into its objects.
func chipObjects(t *testing.T, data, arqc []byte) []byte {
	t.Helper()
	var out []byte
	for _, o := range []struct {
		tag    string
		length int
	}{{"9F02", 6}, {"9F03", 6}, {"9F1A", 2}, {"95", 5}, {"5F2A", 2}, {"9A", 3}, {"9C", 1}, {"9F37", 4}, {"82", 2}, {"9F36", 2}, {"9F10", len(data) - 33}} {
		out = append(append(out, unhex(t, o.tag)...), byte(o.length))
		out = append(out, data[:o.length]...)
		data = data[o.length:]
	}
	if len(data) != 0 {
		t.Fatalf("%d bytes of the published data are in no object", len(data))
	}
	return append(append(out, 0x9F, 0x26, 8), arqc...)
}

// A published PIN key, in a published block under the published key of the zone,
// is taken, and its published check value answered; with any other character in
// its header it is refused.
func TestHostTakesPublishedKey(t *testing.T) {
	v := known(t)
	checked := 0
	for _, c := range v.TR31 {
		if c.Version != "D" || len(c.KBPK) != 64 || len(c.Block) != 112 {
			continue
		}
		s := newSwitchSideWith(t, "cb", Security{Keys: keyFileOf(t, "zone: "+c.KBPK), Exchange: KeyExchange{Function: "101", Key: "48.0020", Check: "48.0021"}})
		offer := func(block string) payment.NetworkMessage {
			frame, err := s.dialect.EncodeNetwork(nil, payment.NetworkRequest{Function: payment.KeyExchange, STAN: 77, Transmitted: 314101500, Key: []byte(block)})
			n, ok := s.dialect.DecodeNetwork(s.ask(frame, err))
			if !ok {
				t.Fatal("no answer to a key exchange")
			}
			return n
		}
		for _, at := range []int{5, 7, 8, 11} { // usage, algorithm, mode, exportability
			flipped := []byte(c.Block)
			flipped[at] ^= 1
			if n := offer(string(flipped)); n.Accepted || len(n.Check) != 0 {
				t.Errorf("taken with another header: %s", flipped[:16])
			}
		}
		if s.sim.custody.pin != nil {
			t.Error("the host has a key before one was taken")
		}
		n := offer(c.Block)
		if want := v.KCV[0]; want.Key != c.Key || !n.Accepted || fmt.Sprintf("%X", n.Check) != want.KCV {
			t.Errorf("accepted %v, check value %X, published %s of %s", n.Accepted, n.Check, want.KCV, want.Key)
		}
		checked++
	}
	if checked == 0 {
		t.Error("no published block was tried")
	}
}

// The published block of format 4 holds the PIN; after an exchange it still does,
// under the key before; after another it does not.
func TestHostReadsFormat4(t *testing.T) {
	for _, c := range known(t).Format4 {
		text := fmt.Sprintf("pin: aes:%s\npins: {%q: %q}\nother_pin: \"9999\"\n", c.Key, c.PAN, c.PIN)
		v, err := openCustody(Security{Keys: keyFileOf(t, text), PIN: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for changes, opens := range []bool{true, true, false} {
			holds, unreadable := v.pinHolds(unhex(t, c.Block), []byte(c.PAN))
			if holds != opens || unreadable == opens {
				t.Errorf("after %d changes of the key: holds %v, unreadable %v", changes, holds, unreadable)
			}
			if _, unreadable := v.pinHolds(unhex(t, c.Block), []byte("4111111111111111")); !unreadable {
				t.Error("of another card: readable")
			}
			next, err := key.New(key.AES, bytes.Repeat([]byte{byte(changes + 1)}, 16))
			if err != nil {
				t.Fatal(err)
			}
			if err := v.usePIN(&next); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What a terminal with DUKPT sends is the published block, TDES and AES.
func TestTerminalDUKPT(t *testing.T) {
	v := known(t)
	if len(v.TDES.Cases) == 0 || len(v.AES.BDK128.Cases) == 0 {
		t.Fatal("no published blocks")
	}
	base := keyFileOf(t, v.TDES.BDK+"\n")
	for _, c := range v.TDES.Cases {
		got, err := (&Terminal{KeyFile: base, Zone: "pos", Serial: c.KSN}).Enter("4012345678909", "1234") // X9.24-1:2009 annex A.4
		if err != nil || got != (PIN{Block: c.PIN, Format: "iso0", Key: "pos", Serial: c.KSN}) {
			t.Errorf("%s: %+v %v, published %s", c.KSN, got, err, c.PIN)
		}
	}
	base = keyFileOf(t, v.AES.BDK128.BDK)
	for _, c := range v.AES.BDK128.Cases {
		terminal := Terminal{KeyFile: base, Zone: "pos", Serial: v.AES.ID + c.Counter, Random: bytes.NewReader(unhex(t, v.AES.Random))}
		got, err := terminal.Enter(v.AES.PAN, v.AES.PIN)
		if err != nil || got.Block != c.Block || got.Format != "iso4" {
			t.Errorf("%s: %+v %v, published %s", c.Counter, got, err, c.Block)
		}
	}
}

// A terminal says what is wrong with its key, and nothing of it.
func TestTerminalRefuses(t *testing.T) {
	good := keyFileOf(t, testPIN)
	for name, c := range map[string]struct {
		terminal Terminal
		pan, pin string
		says     string
	}{
		"no key file":     {Terminal{KeyFile: filepath.Join(t.TempDir(), "none")}, visaCard, "1234", "no such file"},
		"no key":          {Terminal{KeyFile: keyFileOf(t, "0123")}, visaCard, "1234", "holds no key"},
		"no digits":       {Terminal{KeyFile: keyFileOf(t, "secret")}, visaCard, "1234", "holds no key"},
		"no serial":       {Terminal{KeyFile: good, Serial: "xx"}, visaCard, "1234", "serial number"},
		"a short serial":  {Terminal{KeyFile: good, Serial: "0123"}, visaCard, "1234", "key of a transaction"},
		"a counter of 0":  {Terminal{KeyFile: good, Serial: "FFFF9876543210E00000"}, visaCard, "1234", "key of a transaction"},
		"a PIN of three":  {Terminal{KeyFile: good}, visaCard, "123", "a PIN"},
		"no card number":  {Terminal{KeyFile: good}, "x", "1234", "a PIN block"},
		"others can read": {Terminal{KeyFile: readable(t, testPIN)}, visaCard, "1234", "chmod 600"},
	} {
		if _, err := c.terminal.Payment(c.pan, c.pin); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), testPIN) {
			t.Errorf("%s: %v", name, err)
		}
	}
	line, err := (&Terminal{KeyFile: good, Zone: "pos"}).Payment(visaCard, "1234")
	if err != nil || !strings.Contains(line, `"channel":"card_present"`) || !strings.Contains(line, strings.ToUpper(hex.EncodeToString([]byte(block0(t, "1234", visaCard, testPIN))))) {
		t.Errorf("%s %v", line, err)
	}
}

func readable(t *testing.T, text string) string {
	t.Helper()
	path := keyFileOf(t, text)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
