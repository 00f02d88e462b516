package zone_test

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/hsm/dukpt"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/zone"
)

// Clear keys of these tests: published test values with odd parity.
const (
	macKey  = "0123456789ABCDEFFEDCBA9876543210"
	pinKey  = "1123456789ABCDEFFEDCBA9876543210"
	posKey  = "1323456789ABCDEFFEDCBA9876543210"
	baseKey = "0123456789ABCDEFFEDCBA9876543211"
	kekKey  = "404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F"
	pan     = "4111111111111111"
)

type rig struct {
	*zone.Zone
	t       *testing.T
	dialect *iso8583.Dialect
	module  *module
	journal *journal
	now     payment.Instant
	trouble []payment.KeyUsage
}

func newRig(t *testing.T, own iso8583.Security, change ...func(c *zone.Config)) *rig {
	t.Helper()
	cfg := zone.Config{Link: "cb-b", PIN: true}
	for _, f := range change {
		f(&cfg)
	}
	plain, err := iso8583.Load(dialects.FS, "cb")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, module: newModule(t), journal: &journal{}, now: payment.Instant(1_795_500_000 * time.Second)}
	if r.dialect, err = plain.Secure(true, own); err != nil {
		t.Fatal(err)
	}
	r.journal.publish()
	r.Zone, err = zone.New(cfg, zone.Deps{
		Dialect: r.dialect, Module: r.module, Exchange: r.module, Keys: r.journal, Ring: func() *payment.KeyRing { return r.journal.ring.Load() },
		Now: func() payment.Instant {
			if r.now == 0 {
				return wallNow()
			}
			return r.now
		}, Trouble: func(u payment.KeyUsage) { r.trouble = append(r.trouble, u) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keys gives the link its keys and the terminals theirs.
func (r *rig) keys() *rig {
	r.journal.have(r.t, "cb-b", r.module.seal(r.t, "M3TCN", macKey))
	r.journal.have(r.t, "cb-b", r.module.seal(r.t, "P0TBN", pinKey))
	r.journal.have(r.t, "pos", r.module.seal(r.t, "P0TBN", posKey))
	r.journal.have(r.t, "dukpt", r.module.seal(r.t, "B0TXN", baseKey))
	return r
}

// message is an 0100, or an 0110 with a code, packed by the link's dialect.
func (r *rig) message(mti iso8583.MTI, code string) []byte {
	r.t.Helper()
	var b iso8583.Builder
	b.Start(mti)
	for de, value := range map[int]string{2: pan, 3: "000000", 4: "000000001000", 7: "1126071500", 11: "000017", 37: "633000000017", 41: "TERM0001"} {
		b.Set(de, []byte(value))
	}
	if code != "" {
		b.Set(39, []byte(code))
	}
	b.Set(64, make([]byte, 8))
	frame, err := r.dialect.Pack(nil, &b)
	if err != nil {
		r.t.Fatal(err)
	}
	return frame
}

func unhex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// retail is the MAC from the algorithm's text, with DES alone.
func retail(t *testing.T, k, message []byte) []byte {
	t.Helper()
	one, _ := des.NewCipher(k[:8])
	two, _ := des.NewCipher(k[8:])
	h := make([]byte, 8)
	for at := 0; at < len(message); at += 8 {
		for i := range min(8, len(message)-at) {
			h[i] ^= message[at+i]
		}
		one.Encrypt(h, h)
	}
	two.Decrypt(h, h)
	one.Encrypt(h, h)
	return h
}

func TestProtectAndCheck(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	frame := r.message(0x0100, "")
	if err := r.Protect(0x0100, frame, 0); err != nil {
		t.Fatal(err)
	}
	at := len(frame) - 8
	if want := retail(t, unhex(t, macKey), frame[:at]); !bytes.Equal(frame[at:], want) {
		t.Errorf("MAC %x, want %x", frame[at:], want)
	}
	if err := r.Check(frame, 0); err != nil {
		t.Errorf("its own MAC: %v", err)
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 1
		if err := r.Check(bad, 0); !errors.Is(err, payment.ErrBadMAC) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if err := r.Check(frame[:at-1], 0); !errors.Is(err, payment.ErrBadMAC) {
		t.Errorf("cut: %v", err)
	}
	asked := r.module.asked.Load()
	if err := r.Protect(0x0800, frame, 0); err != nil || r.module.asked.Load() != asked {
		t.Errorf("a type without a MAC was worked on (%v)", err)
	}
	r.module.away.Store(true)
	if err := r.Protect(0x0100, frame, 0); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("module away: %v", err)
	}
	if err := r.Check(frame, 0); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("module away: %v", err)
	}
}

// After a change of keys the key before goes on verifying.
func TestOverlap(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	old := r.message(0x0110, "00")
	if err := r.Protect(0x0100, old, 0); err != nil {
		t.Fatal(err)
	}
	was := r.MACKey()
	r.journal.have(t, "cb-b", r.module.seal(t, "M3TCN", posKey))
	if r.MACKey() == was {
		t.Error("another key has the same number")
	}
	if err := r.Check(old, 0); err != nil {
		t.Errorf("under the key before: %v", err)
	}
	fresh := r.message(0x0110, "00")
	if err := r.Protect(0x0100, fresh, 0); err != nil {
		t.Fatal(err)
	}
	if at := len(fresh) - 8; !bytes.Equal(fresh[at:], retail(t, unhex(t, posKey), fresh[:at])) {
		t.Error("the new key is not used")
	}
}

// The peer uses a new key as soon as it has it, before the exchange is settled
// here: what it sends then is believed. A key that was never offered to anybody, or
// was refused, is not tried.
func TestPeerIsAhead(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	next, err := r.journal.PutKey(recordOf("cb-b", r.module.seal(t, "M3TCN", posKey)))
	if err != nil {
		t.Fatal(err)
	}
	ahead := r.message(0x0110, "00")
	at := len(ahead) - 8
	copy(ahead[at:], retail(t, unhex(t, posKey), ahead[:at]))
	if err := r.Check(ahead, 0); err != nil {
		t.Errorf("under the key that the peer just took: %v", err)
	}
	own := r.message(0x0100, "")
	if err := r.Protect(0x0100, own, 0); err != nil || !bytes.Equal(own[len(own)-8:], retail(t, unhex(t, macKey), own[:len(own)-8])) {
		t.Errorf("the key that is not settled is used: %v", err)
	}
	ahead[at] ^= 1
	if err := r.Check(ahead, 0); !errors.Is(err, payment.ErrBadMAC) {
		t.Errorf("a flipped bit: %v", err)
	}
	ahead[at] ^= 1
	if err := r.Settle(next, payment.KeyNotTaken); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(ahead, 0); !errors.Is(err, payment.ErrBadMAC) {
		t.Errorf("under a key that the peer refused: %v", err)
	}
}

// A key that becomes active while a frame is checked is tried on it too.
func TestActiveMeanwhile(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	frame := r.message(0x0110, "00")
	at := len(frame) - 8
	copy(frame[at:], retail(t, unhex(t, posKey), frame[:at]))
	r.module.verifying = func() {
		r.module.verifying = nil
		r.journal.have(t, "cb-b", r.module.seal(t, "M3TCN", posKey))
	}
	if err := r.Check(frame, 0); err != nil {
		t.Errorf("%v", err)
	}
}

// A MAC key of another algorithm than the link's is not used.
func TestAlgorithmOfKey(t *testing.T) {
	r := newRig(t, iso8583.Security{MAC: iso8583.MACRule{Algorithm: "1"}}).keys()
	if err := r.Protect(0x0100, r.message(0x0100, ""), 0); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("%v", err)
	}
}

// request is a card-present request with a PIN block.
func request(t *testing.T, zoneName payment.LinkName, format payment.PINFormat, block, ksn []byte) *payment.Authorization {
	t.Helper()
	a := &payment.Authorization{Channel: payment.CardPresent, PIN: payment.PIN{Format: format, Zone: zoneName, Serial: ksn}}
	var errs [2]error
	a.Card.PAN, errs[0] = card.ParsePAN([]byte(pan))
	a.PIN.Block, errs[1] = card.NewPINBlock(block)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return a
}

// block is a PIN under a double-length key, format 0.
func block(t *testing.T, k []byte, pin string) []byte {
	t.Helper()
	p, err := pinblock.ParsePIN([]byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	if err := pinblock.Encode(out, pinblock.ISO0, &p, []byte(pan), nil); err != nil {
		t.Fatal(err)
	}
	c, err := des.NewTripleDESCipher(append(bytes.Clone(k), k[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	c.Encrypt(out, out)
	return out
}

func TestTranslatePIN(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	want := block(t, unhex(t, pinKey), "1234")

	a := request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil)
	if err := r.TranslatePIN(a, 0); err != nil || !bytes.Equal(a.Card.PIN.RevealPINBlock(), want) {
		t.Errorf("zone to zone: %x, want %x (%v)", a.Card.PIN.RevealPINBlock(), want, err)
	}

	ksn := unhex(t, "FFFF9876543210E00008")
	base, err := key.New(key.TDES, unhex(t, baseKey))
	if err != nil {
		t.Fatal(err)
	}
	b, err := dukpt.NewTDESBase(&base, 0)
	if err != nil {
		t.Fatal(err)
	}
	once, err := b.Derive(ksn, dukpt.TDESPIN)
	if err != nil {
		t.Fatal(err)
	}
	a = request(t, "dukpt", payment.PINFormat0, block(t, once.Reveal(), "1234"), ksn)
	if err := r.TranslatePIN(a, 0); err != nil || !bytes.Equal(a.Card.PIN.RevealPINBlock(), want) {
		t.Errorf("DUKPT to zone: %x, want %x (%v)", a.Card.PIN.RevealPINBlock(), want, err)
	}

	for _, c := range []struct {
		name string
		a    *payment.Authorization
		err  error
	}{
		{"a block of another key", request(t, "pos", payment.PINFormat0, block(t, unhex(t, pinKey), "1234"), nil), payment.ErrPINRefused},
		{"an unknown zone", request(t, "nowhere", payment.PINFormat0, want, nil), payment.ErrSecurity},
		{"another serial number", request(t, "dukpt", payment.PINFormat0, block(t, once.Reveal(), "1234"), unhex(t, "FFFF9876543210E00009")), payment.ErrPINRefused},
		{"a format that TDES does not carry", request(t, "pos", payment.PINFormat4, bytes.Repeat([]byte{1}, 16), nil), payment.ErrSecurity},
	} {
		if err := r.TranslatePIN(c.a, 0); !errors.Is(err, c.err) || c.a.Card.PIN.Present() {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	asked := r.module.asked.Load()
	if err := r.TranslatePIN(&payment.Authorization{}, 0); err != nil || r.module.asked.Load() != asked {
		t.Errorf("without a PIN the module was asked (%v)", err)
	}
	r.module.away.Store(true)
	if err := r.TranslatePIN(request(t, "pos", payment.PINFormat0, want, nil), 0); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("module away: %v", err)
	}
}

// Five of the last twenty PIN answers, within a minute, stop PIN traffic until
// another key is active.
func TestPINAnswersStop(t *testing.T) {
	trouble := &payment.Response{Verdict: payment.Verdict{Action: payment.ActionDecline, Reason: payment.ReasonKeyError, Flags: payment.SecurityTrouble}}
	fine := &payment.Response{Verdict: payment.Verdict{Action: payment.ActionApprove, Reason: payment.ReasonApproved}}
	for _, c := range []struct {
		name  string
		say   string // x trouble, . fine, m a minute passes
		stops bool
	}{
		{"five in a row", "xxxxx", true},
		{"four", "xxxx", false},
		{"five among good ones", "x...x...x...x...x", true},
		{"five of twenty-one", "xxxx" + strings.Repeat(".", 17) + "x", false},
		{"not within a minute", "xxmmxxx", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, iso8583.Security{}).keys()
			for _, what := range c.say {
				switch what {
				case 'm':
					r.now += payment.Instant(31 * time.Second)
				case 'x':
					r.PINAnswered(trouble)
				default:
					r.PINAnswered(fine)
				}
			}
			pin := func() error {
				return r.TranslatePIN(request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil), 0)
			}
			if err := pin(); c.stops != errors.Is(err, payment.ErrSecurity) || c.stops != (len(r.trouble) == 1) {
				t.Fatalf("%v, %v", err, r.trouble)
			}
			r.journal.have(t, "cb-b", r.module.seal(t, "P0TBN", macKey))
			if err := pin(); err != nil {
				t.Errorf("after an exchange: %v", err)
			}
		})
	}
}

// peer is the other end of an exchange: it has the zone's key in the clear.
func (r *rig) zoned() hsm.Key {
	k := r.module.seal(r.t, "K1ABN", kekKey)
	r.journal.have(r.t, "cb-b", k)
	return k
}

func TestKeyFromPeer(t *testing.T) {
	r := newRig(t, iso8583.Security{})
	kek := r.zoned()
	made, err := r.module.Generate(hsm.Attributes{Usage: [2]byte{'M', '3'}, Algorithm: 'T', Mode: 'C', Exportability: 'E'}, 16, 0)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := r.module.Export(kek.Block, made.Block, hsm.Block, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, offered := range map[string]payment.OfferedKey{
		"another check value": {Key: sent.Sent, Check: []byte{1, 2, 3}},
		"a flipped bit":       {Key: append([]byte("D0113"), sent.Sent[5:]...)},
		"no block":            {Key: []byte("short")},
	} {
		if _, err := r.Take(offered); !errors.Is(err, zone.ErrExchange) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, err := r.Take(payment.OfferedKey{Key: sent.Sent, Check: sent.KCV})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.journal.ring.Load().Pending("cb-b", payment.KeyMAC); got == nil || r.MACKey() != 0 {
		t.Error("the key is not pending first")
	}
	if err := r.Settle(k, payment.KeyTaken); err != nil || r.MACKey() != uint32(k.ID) {
		t.Errorf("%v", err)
	}
	if err := r.Protect(0x0100, r.message(0x0100, ""), 0); err != nil {
		t.Error(err)
	}
}

// While nobody knows whether the peer took a new MAC key, what arrives is
// believed under either; the first message under the new one settles it. No PIN
// leaves while the PIN key is in doubt.
func TestDoubt(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	r.zoned()
	old := r.MACKey()
	offered, k, err := r.Make(payment.KeyMAC)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(k, payment.KeyInDoubt); err != nil {
		t.Fatal(err)
	}
	if wanted := r.Wanted(false); len(wanted) != 1 || wanted[0] != payment.KeyMAC {
		t.Errorf("wanted: %v", wanted)
	}
	under := func(mac []byte) []byte {
		frame := r.message(0x0110, "00")
		copy(frame[len(frame)-8:], mac)
		return frame
	}
	plain := r.message(0x0110, "00")
	if err := r.Check(under(retail(t, unhex(t, macKey), plain[:len(plain)-8])), 0); err != nil || r.MACKey() != old {
		t.Errorf("under the old key: %v, active %d", err, r.MACKey())
	}
	var made [8]byte
	if err := r.module.GenerateMAC(made[:], k.Block, 1, 8, plain[:len(plain)-8], 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(under(made[:]), 0); err != nil || r.MACKey() != uint32(k.ID) {
		t.Errorf("under the new key: %v, active %d", err, r.MACKey())
	}
	if len(r.Wanted(false)) != 0 || len(offered.Check) != 3 {
		t.Errorf("still wanted: %v", r.Wanted(false))
	}

	_, p, err := r.Make(payment.KeyPIN)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(p, payment.KeyInDoubt); err != nil {
		t.Fatal(err)
	}
	a := request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil)
	if err := r.TranslatePIN(a, 0); !errors.Is(err, payment.ErrSecurity) || a.Card.PIN.Present() {
		t.Errorf("a PIN left while its key is in doubt (%v)", err)
	}
	_, again, err := r.Make(payment.KeyPIN)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(again, payment.KeyTaken); err != nil {
		t.Fatal(err)
	}
	if err := r.TranslatePIN(a, 0); err != nil {
		t.Errorf("after a new exchange: %v", err)
	}
	if s := r.journal.keys[p.ID-1].State; s != payment.KeyRetired {
		t.Errorf("the doubtful key is %s", s)
	}
}

// Only a link that says so has counters out of order refused.
func TestCountersInOrder(t *testing.T) {
	for _, want := range []bool{false, true} {
		r := newRig(t, iso8583.Security{}, func(c *zone.Config) { c.InOrder = want }).keys()
		a := request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil)
		if err := r.TranslatePIN(a, 0); err != nil || r.module.inOrder.Load() != want {
			t.Errorf("in order %t: asked with %t, %v", want, r.module.inOrder.Load(), err)
		}
	}
}
