package sim

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// both runs a test with each codec: a fault must look alike on the wire.
func both(t *testing.T, test func(t *testing.T, codec Codec)) {
	t.Helper()
	for _, codec := range []Codec{CodecFast, CodecMoov} {
		t.Run(string(codec), func(t *testing.T) { test(t, codec) })
	}
}

func withCodec(codec Codec) func(*Config) { return func(c *Config) { c.Codec = codec } }

// Each row: the last two digits of the amount, DE 39, and the ledger's line.
func TestAnswersByAmount(t *testing.T) {
	rows := []struct {
		digits      int
		code, entry string
	}{
		{0, "00", "approved 00 1000"},
		{2, "00", "approved 00 1002"},
		{1, "01", "declined 01 1001"},
		{3, "03", "declined 03 1003"},
		{4, "04", "declined 04 1004"},
		{5, "05", "declined 05 1005"},
		{6, "06", "declined 06 1006"},
		{10, "10", "approved 10 505"},
		{12, "12", "declined 12 1012"},
		{13, "13", "declined 13 1013"},
		{14, "14", "declined 14 1014"},
		{30, "30", "declined 30 1030"},
		{41, "41", "declined 41 1041"},
		{43, "43", "declined 43 1043"},
		{51, "51", "declined 51 1051"},
		{54, "54", "declined 54 1054"},
		{55, "55", "declined 55 1055"},
		{57, "57", "declined 57 1057"},
		{61, "61", "declined 61 1061"},
		{62, "62", "declined 62 1062"},
		{63, "63", "declined 63 1063"},
		{65, "1A", "declined 1A 1065"},
		{77, "00", "approved 00 1077"},
		{82, "00", "approved 00 1082"},
		{91, "91", "declined 91 1091"},
		{94, "94", "declined 94 1094"},
		{96, "96", "declined 96 1096"},
		{99, "00", "approved 00 1099"},
	}
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		var want []string
		for i, r := range rows {
			stan := fmt.Sprintf("%06d", i+1)
			m := b.ask(authorization(stan, 1000+r.digits))
			if m[0] != "0110" || m[11] != stan || m[39] != r.code {
				t.Errorf(".%02d: got %s STAN %s code %s, want %s", r.digits, m[0], m[11], m[39], r.code)
			}
			if approves := r.code == "00" || r.code == "10"; (m[38] != "") != approves {
				t.Errorf(".%02d: approval code %q", r.digits, m[38])
			}
			want = append(want, stan+" "+r.entry)
		}
		b.wantDecisions(strings.Join(want, "; "))
	})
}

func TestPartialApprovalAnswersWhatIsApproved(t *testing.T) {
	b := start(t, nil)
	if m := b.ask(authorization("000001", 2010)); m[4] != "000000001005" || m[39] != "10" {
		t.Errorf("DE 4 %s, DE 39 %s", m[4], m[39])
	}
	// Reversed in full: what was approved is what is undone.
	if m := b.ask(reversal("0420", "000001", 2010)); m[39] != "00" {
		t.Errorf("reversal: %s", m[39])
	}
	b.wantDecisions("000001 approved 10 1005; 000001 reversed 00 1005")
}

func TestSecurityCodeMismatch(t *testing.T) {
	b := start(t, nil)
	if m := b.ask(authorization("000001", 1082)); m[39] != "00" || !strings.Contains(m[48], "8701N") {
		t.Errorf("DE 39 %s, DE 48 %q", m[39], m[48])
	}
}

func TestReversalManners(t *testing.T) {
	const accepted, later, unknown, format = "00", "91", "25", "30"
	rows := []struct {
		digits  int
		answers []string // "" is silence
		ledger  string
	}{
		{0, []string{accepted, accepted}, "000001 approved 00 1000; 000001 reversed 00 1000"},
		{51, []string{accepted, accepted}, "000001 declined 51 1051; 000001 reversed 00 1051"},
		{68, []string{accepted, accepted}, "000001 silent  1068; 000001 reversed 00 1068"},
		{84, []string{accepted, accepted}, "000001 approved 00 1084; 000001 reversed 00 1084"},
		{85, []string{"", accepted}, "000001 approved 00 1085; 000001 reversed 00 1085"},
		{86, []string{later, later, accepted, accepted}, "000001 approved 00 1086; 000001 reversed 00 1086"},
		{87, []string{unknown}, "000001 approved 00 1087; 000001 unknown_original 25 1087"},
		{88, []string{format, format}, "000001 approved 00 1088"},
	}
	both(t, func(t *testing.T, codec Codec) {
		for _, r := range rows {
			t.Run(fmt.Sprint(r.digits), func(t *testing.T) {
				b := start(t, withCodec(codec))
				b.send(authorization("000001", 1000+r.digits))
				if r.digits < 60 {
					b.receive()
				}
				for i, want := range r.answers {
					mti := "0420"
					if i > 0 {
						mti = "0421"
					}
					b.send(reversal(mti, "000001", 1000+r.digits))
					if want == "" {
						b.quiet()
						continue
					}
					if m := b.receive(); m[0] != "0430" || m[39] != want || m[37] != "632700777777" || m[11] != "900001" {
						t.Errorf("answer %d: %v, want %s", i+1, m, want)
					}
				}
				b.wantDecisions(r.ledger)
			})
		}
	})
}

// The original is what DE 90, 32 and 41 say: everything else may agree and it
// is still unknown.
func TestOriginalIsFoundByDE90Only(t *testing.T) {
	const good = "0100" + "000001" + "0314101500" + "00000012345" + "00000000000"
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		b.ask(authorization("000001", 1000))
		for name, m := range map[string][]byte{
			"message type": reversalOf("0420", "0200"+good[4:], 1000, "TERM0001", ""),
			"STAN":         reversalOf("0420", "0100"+"000002"+good[10:], 1000, "TERM0001", ""),
			"DE 7":         reversalOf("0420", good[:10]+"0314101501"+good[20:], 1000, "TERM0001", ""),
			"acquirer":     reversalOf("0420", good[:20]+"00000012346"+good[31:], 1000, "TERM0001", ""),
			"terminal":     reversalOf("0420", good, 1000, "TERM0002", ""),
		} {
			if m := b.ask(m); m[39] != "25" {
				t.Errorf("another %s: %s", name, m[39])
			}
		}
		if m := b.ask(reversalOf("0420", good, 1000, "TERM0001", "")); m[39] != "00" {
			t.Errorf("the right one: %s", m[39])
		}
		// As 0400 it is the same reversal, acknowledged again.
		if m := b.ask(reversalOf("0400", good, 1000, "TERM0001", "")); m[0] != "0410" || m[39] != "00" {
			t.Errorf("0400: %v", m)
		}
		e := b.ledger()
		last := e[len(e)-1]
		if last.Decision != "reversed" || last.Original == nil || last.Original.MTI != "0100" || last.Original.STAN != "000001" ||
			last.Original.Transmitted != "0314101500" || last.Original.Acquirer != "12345" {
			t.Errorf("ledger %+v %+v", last, last.Original)
		}
		if codec == CodecFast {
			return // it does not read what follows
		}
		if m := b.ask(reversalOf("0420", "no digits at all here, and yet 42 characte", 1000, "TERM0001", "")); m[39] != "30" {
			t.Errorf("an unreadable DE 90 was answered %v", m)
		}
	})
}

func TestPartialReversal(t *testing.T) {
	const de90 = "0100" + "000001" + "0314101500" + "00000012345" + "00000000000"
	const keep300 = "000000000300" + "000000000000" + "C00000000" + "C00000000"
	b := start(t, nil)
	b.ask(authorization("000001", 1000))
	for range 2 {
		if m := b.ask(reversalOf("0420", de90, 1000, "TERM0001", keep300)); m[39] != "00" {
			t.Errorf("partial: %v", m)
		}
	}
	b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 700")
	if m := b.ask(reversalOf("0420", de90, 1000, "TERM0001", "")); m[39] != "00" {
		t.Errorf("the rest: %v", m)
	}
	b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 700; 000001 reversed 00 300")
}

// A partial reversal that comes once more, from a slow line, after an increment:
// what it would leave is what the payment came to before that.
func TestPartialReversalComesAgainLate(t *testing.T) {
	const de90 = "0100" + "000001" + "0314101500" + "00000012345" + "00000000000"
	keep := func(amount string) string { return amount + "000000000000" + "C00000000" + "C00000000" }
	b := start(t, nil)
	b.ask(authorization("000001", 1000))
	b.ask(reversalOf("0420", de90, 1000, "TERM0001", keep("000000000300")))
	b.ask(bytes.Replace(authorization("000002", 500), []byte("632700000002"), []byte("632700000001"), 1))
	const soFar = "000001 approved 00 1000; 000001 reversed 00 700; 000002 approved 00 500"
	b.wantDecisions(soFar)
	send := func(mti, stan, when, left string) {
		frame := reversalOf(mti, de90, 1000, "TERM0001", keep(left))
		frame = bytes.Replace(bytes.Replace(frame, []byte("900001"), []byte(stan), 1), []byte("0314101507"), []byte(when), 1)
		if m := b.ask(frame); m[39] != "00" {
			t.Errorf("%s at %s: %v", stan, when, m)
		}
	}
	send("0421", "900001", "0314101507", "000000000300")
	b = b.restart(nil)
	send("0421", "900001", "0314101507", "000000000300")
	send("0421", "900001", "0314111507", "000000000300")
	b.wantDecisions(soFar)
	// Another one, of a node whose clock is an hour behind.
	send("0420", "900002", "0314091507", "000000000700")
	b.wantDecisions(soFar + "; 000001 reversed 00 100")
	send("0420", "900001", "0314101507", "000000000300")
	b.wantDecisions(soFar + "; 000001 reversed 00 100")
}

func TestReversalBeforeItsOriginal(t *testing.T) {
	t.Run("forgotten", func(t *testing.T) {
		b := start(t, nil)
		if m := b.ask(reversal("0420", "000001", 1000)); m[39] != "25" {
			t.Errorf("reversal: %v", m)
		}
		if m := b.ask(authorization("000001", 1000)); m[39] != "00" {
			t.Errorf("original: %v", m)
		}
		b.wantDecisions("000001 unknown_original 25 1000; 000001 approved 00 1000")
	})
	t.Run("remembered", func(t *testing.T) {
		b := start(t, func(c *Config) { c.RememberReversals = true })
		if m := b.ask(reversal("0420", "000001", 1000)); m[39] != "25" {
			t.Errorf("reversal: %v", m)
		}
		if m := b.ask(authorization("000001", 1000)); m[39] != "12" || m[38] != "" {
			t.Errorf("original: %v", m)
		}
		b.wantDecisions("000001 unknown_original 25 1000; 000001 declined 12 1000")
	})
	t.Run("remembered, and repeated", func(t *testing.T) {
		b := start(t, func(c *Config) { c.RememberReversals = true })
		for _, mti := range []string{"0420", "0421"} {
			if m := b.ask(reversal(mti, "000001", 1000)); m[39] != "25" {
				t.Errorf("reversal: %v", m)
			}
		}
		lines := b.ledger()
		if len(lines) != 2 || lines[0].Original == nil || lines[1].Original == nil || *lines[0].Original != *lines[1].Original {
			t.Errorf("a repeat names another original: %+v", lines)
		}
	})
}

func TestRepeatsAndDuplicates(t *testing.T) {
	b := start(t, nil)
	first := b.ask(authorization("000001", 1000))
	if m := b.ask(payment87("0101", "000001", "0314101500", 1000)); m[0] != "0110" || m[39] != "00" || m[38] != first[38] || m[48] != first[48] {
		t.Errorf("repeat: %v, first %v", m, first)
	}
	if m := b.ask(authorization("000001", 1000)); m[39] != "94" || m[38] != "" {
		t.Errorf("duplicate: %v", m)
	}
	// The same STAN at another time is another payment.
	if m := b.ask(payment87("0100", "000001", "0314101501", 1000)); m[39] != "00" || m[38] == first[38] {
		t.Errorf("another payment: %v", m)
	}
	b.wantDecisions("000001 approved 00 1000; 000001 declined 94 1000; 000001 approved 00 1000")
}

func TestAdvicesAreAccepted(t *testing.T) {
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		b.ask(authorization("000001", 1051)) // declined; an advice is accepted all the same
		capture := func(mti, transmitted string) []byte {
			return text87(mti, 2, "16"+visaCard, 3, "000000", 4, "000000001051", 7, transmitted, 11, "000009", 12, "111500", 13, "0314", 32, "0512345",
				37, "632700000001", 41, "TERM0001", 42, "MERCHANT0000001", 49, "978", 90, "0100"+"000001"+"0314101500"+"00000012345"+"00000000000")
		}
		for mti, transmitted := range map[string]string{"0220": "0314101600", "0221": "0314101700"} {
			if m := b.ask(capture(mti, transmitted)); m[0] != "0230" || m[39] != "00" {
				t.Errorf("%s: %v", mti, m)
			}
		}
		refund := text87("0200", 2, "16"+visaCard, 3, "200000", 4, "000000001000", 7, "0314101800", 11, "000010", 12, "111500", 13, "0314", 32, "0512345",
			37, "632700000002", 41, "TERM0001", 42, "MERCHANT0000001", 49, "978")
		if m := b.ask(refund); m[0] != "0210" || m[39] != "00" {
			t.Errorf("refund: %v", m)
		}
		b.wantDecisions("000001 declined 51 1051; 000001 captured 00 1051; 000010 refunded 00 1000")
	})
}

func TestUnknownTypeAndBadFrames(t *testing.T) {
	both(t, func(t *testing.T, codec Codec) {
		b := start(t, withCodec(codec))
		if m := b.ask(text87("0600", 7, "0314101500", 11, "000001")); m[0] != "0610" || m[39] != "30" {
			t.Errorf("unknown type: %v", m)
		}
		// No amount: a format error, never a decision.
		if m := b.ask(text87("0100", 2, "16"+visaCard, 7, "0314101500", 11, "000002", 37, "632700000002")); m[0] != "0110" || m[39] != "30" {
			t.Errorf("no amount: %v", m)
		}
		b.send([]byte("nonsense that is long enough to be a message"))
		b.quiet()
		if n := b.sim.Stats().Unreadable; n != 1 {
			t.Errorf("%d unreadable frames counted", n)
		}
		// Beyond the largest message the framing is lost.
		if _, err := b.conn.Write([]byte{0xFF, 0xFF}); err != nil {
			t.Fatal(err)
		}
		b.closed()
	})
}

func TestTrack2IsACardToo(t *testing.T) {
	b := start(t, nil)
	m := b.ask(text87("0100", 3, "000000", 4, "000000001000", 7, "0314101500", 11, "000001", 35, "26"+visaCard+"=271210110", 37, "632700000001", 41, "TERM0001", 49, "978"))
	if m[39] != "00" {
		t.Fatalf("answer %v", m)
	}
	if e := b.ledger()[0]; e.Card != "411111******1111" {
		t.Errorf("ledger %+v", e)
	}
	raw, err := os.ReadFile(b.config.Ledger)
	if err != nil || strings.Contains(string(raw), "1111111111") || strings.Contains(string(raw), "2712") {
		t.Errorf("card data in the ledger (%v): %s", err, raw)
	}
}

func TestLatency(t *testing.T) {
	for _, distribution := range []string{"constant", "normal", "lognormal", "exponential"} {
		b := start(t, func(c *Config) {
			c.Latency = Latency{Distribution: distribution, Mean: 4 * time.Millisecond, Deviation: time.Millisecond}
		})
		begin := time.Now()
		var messages [][]byte
		for i := range 50 {
			messages = append(messages, authorization(fmt.Sprintf("%06d", i+1), 1000))
		}
		b.send(messages...)
		seen := map[string]bool{}
		for range messages {
			seen[b.receive()[11]] = true
		}
		if len(seen) != len(messages) {
			t.Errorf("%s: %d answers", distribution, len(seen))
		}
		if distribution == "constant" && time.Since(begin) < 4*time.Millisecond {
			t.Errorf("answers before their time")
		}
	}
}
