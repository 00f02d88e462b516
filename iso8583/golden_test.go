package iso8583

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	moov "github.com/moov-io/iso8583"

	"authswitch/card"
	"authswitch/payment"
)

// goldenSection is one message of a trace: its bytes, element by element with
// the description beside them, and what reading it must give.
type goldenSection struct {
	line   int
	frame  []byte
	expect []string
}

// readGolden reads testdata/golden/NAME.txt. The files were put together by
// hand from the dialects' descriptions: there is no flag to rewrite them.
func readGolden(t *testing.T, name string) map[string]goldenSection {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "golden", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]goldenSection{}
	title := ""
	for i, line := range strings.Split(string(raw), "\n") {
		s := sections[title]
		switch {
		case strings.HasPrefix(line, "== "):
			title = line[3:]
			sections[title] = goldenSection{line: i + 1}
			continue
		case strings.HasPrefix(line, "= "):
			s.expect = append(s.expect, line[2:])
		case strings.HasPrefix(line, "#") || line == "":
			continue
		default:
			text, _, _ := strings.Cut(line, " ")
			part, err := hex.DecodeString(text)
			if err != nil {
				t.Fatalf("%s:%d: %v", name, i+1, err)
			}
			s.frame = append(s.frame, part...)
		}
		sections[title] = s
	}
	return sections
}

func TestGolden(t *testing.T) {
	for _, name := range dialectNames(t) {
		t.Run(name, func(t *testing.T) {
			d := load(t, name)
			a, i := example(t)
			i.MTI = uint16(d.AuthorizationMTI())
			i.Terms.AcceptorName = "PARCELS ONLINE/PARIS/FR"
			owed := &payment.Owed{Reason: payment.ReversalTimeout, STAN: 18, Transmitted: 1123035522, Tries: 1}
			again := *owed
			again.Tries = 2
			sections := readGolden(t, name)
			for _, want := range []string{"authorization", "answer", "reversal", "repeat", "sign-on"} {
				if _, ok := sections[want]; !ok {
					t.Fatalf("no section %q", want)
				}
			}
			for title, s := range sections {
				var got []byte
				var err error
				switch title {
				case "authorization":
					got, err = d.EncodeAuthorization(nil, a, i)
				case "authorization moto", "authorization stored", "authorization recurring", "authorization counter":
					a, i := channelExample(t, d, title)
					got, err = d.EncodeAuthorization(nil, a, i)
				case "reversal":
					got, err = d.EncodeReversal(nil, owed, i, &a.Card)
				case "repeat":
					got, err = d.EncodeReversal(nil, &again, i, &a.Card)
				case "sign-on":
					got, err = d.EncodeNetwork(nil, payment.NetworkRequest{Function: payment.SignOn, STAN: 3, Transmitted: 1123035512, Terms: i.Terms})
				case "upload", "upload repeat":
					got, err = d.EncodeOperation(nil, uploadExample(title), i, &a.Card)
				case "totals", "totals repeat":
					got, err = d.EncodeTotals(nil, totalsExample(title, i))
				case "totals answer", "totals answer out of balance", "totals answer of an error":
					got = s.frame
					goldenTotals(t, d, name, s)
				default:
					got = s.frame
					goldenAnswer(t, d, name, s)
				}
				if err != nil {
					t.Errorf("%s:%d: %v", name, s.line, err)
				} else if string(got) != string(s.frame) {
					var diff strings.Builder
					err := d.Diff(&diff, s.frame, got)
					t.Errorf("%s:%d %s: want -, got +\n%x\n%x\n%s (%v)", name, s.line, title, s.frame, got, diff.String(), err)
				}
				for _, f := range d.Validate(s.frame) {
					t.Errorf("%s:%d %s: %s", name, s.line, title, f)
				}
			}
		})
	}
}

// uploadExample is a line of batch 42, sent for the first time or again.
func uploadExample(title string) *payment.Owed {
	o := &payment.Owed{
		STAN: 18, Transmitted: 1123035522, Tries: 1, Approved: true, ApprovalCode: payment.ApprovalCode{'A', '1', 'B', '2', 'C', '3'},
		Operation: payment.ID{1}, Kind: payment.OpCapture, Means: payment.MeansUpload, MTI: 0x0320, Amount: payment.Amount{Value: 1051, Currency: 978}, File: 42,
	}
	if title == "upload repeat" {
		o.Tries = 2
	}
	return o
}

func totalsExample(title string, i *payment.Intent) *payment.Totals {
	x := &payment.Totals{
		Number: 42, Groups: 1, Terms: i.Terms, Currency: 978, Captures: 3, Captured: 3051, Refunds: 1, Refunded: 250, Tries: 1, STAN: 18, Transmitted: 1123035522,
	}
	if title == "totals repeat" {
		x.Tries = 2
	}
	return x
}

func goldenTotals(t *testing.T, d *Dialect, name string, s goldenSection) {
	t.Helper()
	var m Message
	if err := d.Unpack(&m, s.frame); err != nil {
		t.Fatalf("%s:%d: %v", name, s.line, err)
	}
	got := "unanswered"
	switch a := d.DecodeTotals(&m); {
	case a.Balanced:
		got = "balanced"
	case a.Answered:
		got = "differs"
	}
	if len(s.expect) != 1 || s.expect[0] != got {
		t.Errorf("%s:%d: %s, want %v", name, s.line, got, s.expect)
	}
}

// channelExample is the example on another channel: by telephone; with a card on
// file on the site and at the counter; and by the merchant, recurring.
func channelExample(t *testing.T, d *Dialect, title string) (*payment.Authorization, *payment.Intent) {
	t.Helper()
	a, i := example(t)
	i.MTI = uint16(d.AuthorizationMTI())
	a.ThreeDS = payment.ThreeDSecure{}
	stored := payment.StoredCredential{Usage: []byte("subsequent")}
	switch title {
	case "authorization moto":
		a.Channel = payment.MOTO
		i.Channel = a.Channel
		return a, i
	case "authorization recurring":
		a.Channel = payment.Recurring
		stored = payment.StoredCredential{Usage: []byte("recurring"), MerchantInitiated: true}
	case "authorization counter":
		a.Channel = payment.CardPresent
	}
	a.StoredCredential, a.Card.CVV = stored, card.CVV{}
	i.Channel, i.OnFile = a.Channel, true
	i.NetworkTransactionID = []byte("123456789012345")
	if d.Name() == "mastercard" {
		i.NetworkTransactionID = []byte("MCC1234567891123")
	}
	return a, i
}

// TestGoldenChannels: the dialects whose channels the documents promise have
// their traces.
func TestGoldenChannels(t *testing.T) {
	for _, name := range []string{"visa", "mastercard", "cb"} {
		sections := readGolden(t, name)
		for _, channel := range []string{"moto", "stored", "recurring", "counter"} {
			if _, ok := sections["authorization "+channel]; !ok {
				t.Errorf("%s: no trace of %s", name, channel)
			}
		}
	}
}

// TestGoldenMoov holds the golden frames to moov's codec, which shares nothing
// with ours but the specification: both ways for what we send, reading for what
// a peer sends. Traces and codec together cannot be wrong in the same way. What moov has no words for it cannot read; that is never a whole
// trace.
func TestGoldenMoov(t *testing.T) {
	for _, name := range dialectNames(t) {
		d := load(t, name)
		spec, compared := moovSpec(t, d), 0
		for title, s := range readGolden(t, name) {
			var m Message
			if err := d.Unpack(&m, s.frame); err != nil {
				t.Errorf("%s:%d %s: %v", name, s.line, title, err)
				continue
			}
			if slices.ContainsFunc(d.MoovGaps(), m.Has) {
				continue
			}
			compared++
			compare := sameInMoov
			if title == "answer" {
				// The peer's order of pieces stands on the wire; moov packs its own.
				compare = func(d *Dialect, spec *moov.MessageSpec, ours *Message, frame []byte) error {
					return compareMutated(d, spec, frame, ours)
				}
			}
			if err := compare(d, spec, &m, s.frame); err != nil {
				t.Errorf("%s:%d %s: %v", name, s.line, title, err)
			}
		}
		if compared < 2 {
			t.Errorf("%s: %d sections compared", name, compared)
		}
	}
}

func goldenAnswer(t *testing.T, d *Dialect, name string, s goldenSection) {
	t.Helper()
	var m Message
	if err := d.Unpack(&m, s.frame); err != nil {
		t.Errorf("%s:%d: %v", name, s.line, err)
		return
	}
	var r payment.Response
	if err := d.DecodeReversal(&m, &r); err != nil {
		t.Errorf("%s:%d: %v", name, s.line, err)
	}
	if len(s.expect) == 0 {
		t.Errorf("%s:%d: nothing expected of an answer", name, s.line)
	}
	for _, line := range s.expect {
		what, want, _ := strings.Cut(line, " ")
		got := map[string]string{
			"code": r.Code.String(), "approval": r.ApprovalCode.String(), "cvv": string(r.CVVResult), "network": r.NetworkID.String(),
			"amount": fmt.Sprintf("%d %d", r.Amount.Value, r.Amount.Currency), "settlement": string(r.SettlementDate[:]),
			"advice_code": string(r.AdviceCode[:]),
			"action":      []string{"unknown", "approve", "partial", "decline"}[r.Verdict.Action],
			"advice":      []string{"repeat", "acknowledged", "not_found", "exceptional"}[r.Advice],
		}[what]
		if got != want {
			t.Errorf("%s:%d: %s is %q, want %q", name, s.line, what, got, want)
		}
	}
}
