package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

// Here the switch's codec is one side and the simulator, with its own profile
// and (in moov mode) its own codec, the other: where they disagree about a
// dialect, one of them is wrong.

func dialectNames(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(dialects.FS, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if !strings.HasPrefix(f, "base-") {
			names = append(names, strings.TrimSuffix(f, ".yaml"))
		}
	}
	if !slices.Contains(names, "ascii87") {
		t.Fatalf("dialects %v", names)
	}
	return names
}

// switchSide encodes and decodes as the switch does.
type switchSide struct {
	*bench
	dialect *iso8583.Dialect
	framing framing
	buffer  []byte
	answer  iso8583.Message
}

func newSwitchSide(t *testing.T, name string, codec Codec) *switchSide {
	t.Helper()
	return newSwitchSideOf(t, name, codec, Security{})
}

// newSwitchSideWith is beside a host with keys, which speaks with moov's codec.
func newSwitchSideWith(t *testing.T, name string, security Security) *switchSide {
	t.Helper()
	return newSwitchSideOf(t, name, CodecMoov, security)
}

func newSwitchSideOf(t *testing.T, name string, codec Codec, security Security) *switchSide {
	t.Helper()
	d, err := iso8583.Load(dialects.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.MoovSpec(); codec == CodecMoov && err != nil {
		t.Skipf("moov cannot speak it: %v", err)
	}
	b := start(t, func(c *Config) { c.Dialect, c.Codec, c.Security = name, codec, security })
	return &switchSide{bench: b, dialect: d, framing: framingOf(d.Framing())}
}

func (s *switchSide) ask(frame []byte, err error) *iso8583.Message {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.conn.Write(s.framing.end(append(s.framing.begin(nil), frame...), 0)); err != nil {
		s.t.Fatal(err)
	}
	answer := s.frame()
	if err := s.dialect.Unpack(&s.answer, answer); err != nil {
		s.t.Fatalf("answer % x: %v", answer, err)
	}
	return &s.answer
}

// frame reads one frame of the dialect's framing.
func (s *switchSide) frame() []byte {
	s.t.Helper()
	for {
		m, used, err := s.framing.cut(s.buffer)
		if err != nil {
			s.t.Fatal(err)
		}
		if used > 0 {
			s.buffer = s.buffer[used:]
			return m
		}
		piece := make([]byte, 4096)
		n, err := s.conn.Read(piece)
		if err != nil {
			s.t.Fatalf("waiting for an answer: %v", err)
		}
		s.buffer = append(s.buffer, piece[:n]...)
	}
}

func (s *switchSide) payment(stan payment.STAN, amount int64) (*payment.Authorization, *payment.Intent) {
	s.t.Helper()
	pan, err := card.ParsePAN([]byte(visaCard))
	if err != nil {
		s.t.Fatal(err)
	}
	expiry, err := card.ParseExpiry([]byte("2712"))
	if err != nil {
		s.t.Fatal(err)
	}
	cvv, err := card.ParseCVV([]byte("123"))
	if err != nil {
		s.t.Fatal(err)
	}
	a := &payment.Authorization{
		Amount: payment.Amount{Value: amount, Currency: 978}, Channel: payment.Ecommerce, AcceptsPartial: true,
		Card: card.Card{PAN: pan, Expiry: expiry, CVV: cvv},
	}
	i := &payment.Intent{
		Attempt: 1, Amount: a.Amount, Channel: a.Channel, Partial: true, MTI: uint16(s.dialect.AuthorizationMTI()), STAN: stan, Transmitted: 314101500,
		RRN: payment.RRN([]byte(fmt.Sprintf("6327%08d", stan))), Local: payment.LocalTime([]byte("260314111500")),
		Terms: payment.Terms{
			Terminal: "10000001", Acceptor: "100000000000001", AcceptorName: "PARCELS ONLINE/PARIS/FR", MCC: "5942", Acquirer: "970001", Forwarder: "970002", Country: "250",
		},
	}
	return a, i
}

func TestEveryDialect(t *testing.T) {
	for _, name := range dialectNames(t) {
		for _, codec := range []Codec{CodecFast, CodecMoov} {
			t.Run(name+"/"+string(codec), func(t *testing.T) {
				s := newSwitchSide(t, name, codec)
				s.signsOnAndOff()
				s.approves()
				s.presents()
				s.declinesWithEveryCode()
				s.takesEveryChannel()
				s.spoils()
				s.reverses()
				if n := s.sim.Stats(); n.Unreadable != 0 || n.Unsendable != 0 {
					t.Errorf("%+v", n)
				}
			})
		}
	}
}

func (s *switchSide) signsOnAndOff() {
	s.t.Helper()
	for i, f := range []payment.NetworkFunction{payment.SignOn, payment.Echo, payment.SignOff, payment.SignOn} {
		m := s.ask(s.dialect.EncodeNetwork(nil, payment.NetworkRequest{
			Function: f, STAN: payment.STAN(900 + i), Transmitted: 314101500, Terms: payment.Terms{Acquirer: "970001", Forwarder: "970002"},
		}))
		s.ownTime(m)
		n, ok := s.dialect.DecodeNetwork(m)
		if !ok || !n.Response || !n.Accepted || n.STAN != payment.STAN(900+i) || n.Function != f {
			s.t.Errorf("network function %d: %+v", f, n)
		}
	}
}

// ownTime: where the dialect file says that the peer sets DE 7, the host does, by
// a clock of its own.
func (s *switchSide) ownTime(m *iso8583.Message) {
	s.t.Helper()
	const asked = "0314101500 0314101510 0314101520" // by what this test sends
	at := string(m.Bytes(7))
	if own := !strings.Contains(asked, at); own != s.dialect.Correlation().PeerSetsTransmitted {
		s.t.Errorf("%s: DE 7 is %q", m.MTI(), at)
	}
}

func (s *switchSide) approves() {
	s.t.Helper()
	a, i := s.payment(1, 1000)
	var r payment.Response
	if err := s.dialect.DecodeAuthorization(s.ask(s.dialect.EncodeAuthorization(nil, a, i)), &r); err != nil {
		s.t.Fatal(err)
	}
	if r.Verdict.Action != payment.ActionApprove || r.ApprovalCode.String() == "" || r.Amount != a.Amount && r.Amount != (payment.Amount{}) {
		s.t.Errorf("approval %+v", r)
	}
	p := s.sim.host.profile
	if p.cvv.de != 0 && r.CVVResult != 'M' {
		s.t.Errorf("result of the security code %q", r.CVVResult)
	}
	if len(p.networkID) > 0 && len(r.NetworkID.String()) < 9 {
		s.t.Errorf("network transaction id %q", r.NetworkID.String())
	}
	a, i = s.payment(2, 2010)
	m := s.ask(s.dialect.EncodeAuthorization(nil, a, i))
	s.ownTime(m)
	if err := s.dialect.DecodeAuthorization(m, &r); err != nil {
		s.t.Fatal(err)
	}
	if r.Verdict.Action != payment.ActionApprovePartially || !strings.HasSuffix(string(m.Bytes(4)), "000000001005") {
		s.t.Errorf("partial approval %+v, DE 4 %s", r, m.Bytes(4))
	}
}

// presents: a chip card at a counter, its track odd and even in length. Dialects
// without a place for one refuse to encode it.
func (s *switchSide) presents() {
	s.t.Helper()
	for n, track := range []string{visaCard + "=27122011000000000", visaCard + "=2712201100000000"} {
		a, i := s.payment(payment.STAN(20+n), 1000)
		a.Channel, a.Entry, i.Channel = payment.CardPresent, payment.ChipRead, payment.CardPresent
		a.Card.CVV.Wipe()
		var err error
		if a.Card.Track2, err = card.ParseTrack2([]byte(track)); err != nil {
			s.t.Fatal(err)
		}
		frame, err := s.dialect.EncodeAuthorization(nil, a, i)
		if errors.Is(err, iso8583.ErrMapping) {
			s.t.Logf("no counter: %v", err)
			return
		}
		var r payment.Response
		if err := s.dialect.DecodeAuthorization(s.ask(frame, err), &r); err != nil || r.Verdict.Action != payment.ActionApprove {
			s.t.Errorf("%s: %+v %v", track, r.Verdict, err)
		}
		entries := s.ledger()
		if last := entries[len(entries)-1]; last.Card != "411111******1111" {
			s.t.Errorf("the ledger's card is %q", last.Card)
		}
	}
}

// declinesWithEveryCode: each code of the simulator means in the dialect what
// the simulator means by it.
func (s *switchSide) declinesWithEveryCode() {
	s.t.Helper()
	reasons := map[int]payment.Reason{
		5: payment.ReasonDoNotHonour, 14: payment.ReasonInvalidCard, 30: payment.ReasonFormatError, 41: payment.ReasonLostCard, 43: payment.ReasonStolenCard,
		51: payment.ReasonInsufficientFunds, 54: payment.ReasonExpiredCard, 61: payment.ReasonLimitExceeded, 65: payment.ReasonAuthenticationRequired,
		91: payment.ReasonIssuerUnavailable, 94: payment.ReasonDuplicate, 96: payment.ReasonMalfunction, 12: payment.ReasonInvalidTransaction,
	}
	stan := payment.STAN(100)
	for digits, b := range builtIn() {
		if b.decision != declined || b.delivery != deliverNormally {
			continue
		}
		stan++
		a, i := s.payment(stan, int64(3000+digits))
		var r payment.Response
		if err := s.dialect.DecodeAuthorization(s.ask(s.dialect.EncodeAuthorization(nil, a, i)), &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Verdict.Action != payment.ActionDecline {
			s.t.Errorf(".%02d: code %s is %+v", digits, r.Code, r.Verdict)
		}
		if want, ok := reasons[digits]; ok && r.Verdict.Reason != want {
			s.t.Errorf(".%02d: code %s means %s, not %s", digits, r.Code, r.Verdict.Reason, want)
		}
	}
}

// takesEveryChannel: what the dialect file says of each channel, with a card that
// is given and one on file, is what this side thinks can be true.
func (s *switchSide) takesEveryChannel() {
	s.t.Helper()
	stan := payment.STAN(600)
	for c := payment.Ecommerce; c <= payment.Instalment; c++ {
		for _, onFile := range []bool{false, true} {
			stan++
			a, i := s.payment(stan, 4000)
			a.Channel, i.Channel, i.OnFile = c, c, onFile
			if onFile {
				a.StoredCredential.Usage = []byte("subsequent")
				a.StoredCredential.MerchantInitiated = c == payment.Recurring || c == payment.Instalment
				a.Card.CVV = card.CVV{}
			}
			var r payment.Response
			if err := s.dialect.DecodeAuthorization(s.ask(s.dialect.EncodeAuthorization(nil, a, i)), &r); err != nil {
				s.t.Fatal(err)
			}
			if r.Verdict.Action != payment.ActionApprove {
				s.t.Errorf("%s, on file %t: code %s", c, onFile, r.Code)
			}
		}
	}
}

// spoils: the faults that change an answer do so in every dialect.
func (s *switchSide) spoils() {
	s.t.Helper()
	for digits, spoilt := range map[int]func(m *iso8583.Message) bool{
		71: func(m *iso8583.Message) bool { return !strings.HasSuffix(string(m.Bytes(11)), "000771") },
		75: func(m *iso8583.Message) bool { return !strings.HasSuffix(string(m.Bytes(4)), "3075") },
		76: func(m *iso8583.Message) bool { return string(m.Bytes(41)) != "10000001" && len(m.Bytes(41)) > 0 },
		79: func(m *iso8583.Message) bool { return m.MTI()&0xFFF == 0x620 },
		81: func(m *iso8583.Message) bool { return m.MTI().Class() != s.dialect.AuthorizationMTI().Class() },
	} {
		a, i := s.payment(payment.STAN(700+digits), int64(3000+digits))
		if m := s.ask(s.dialect.EncodeAuthorization(nil, a, i)); !spoilt(m) {
			s.t.Errorf(".%02d: the answer is a good one", digits)
		}
	}
	for _, digits := range []int{72, 78, 97} {
		a, i := s.payment(payment.STAN(700+digits), int64(3000+digits))
		frame, err := s.dialect.EncodeAuthorization(nil, a, i)
		if err == nil {
			_, err = s.conn.Write(s.framing.end(append(s.framing.begin(nil), frame...), 0))
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if s.dialect.Unpack(&s.answer, s.frame()) == nil {
			s.t.Errorf(".%02d: the answer can be read", digits)
		}
	}
}

func (s *switchSide) reverses() {
	s.t.Helper()
	a, i := s.payment(500, 1000)
	s.ask(s.dialect.EncodeAuthorization(nil, a, i))
	owed := &payment.Owed{Reason: payment.ReversalTimeout, Tries: 1, STAN: 501, Transmitted: 314101510}
	reverse := func(i *payment.Intent, o *payment.Owed) payment.AdviceVerdict {
		s.t.Helper()
		m := s.ask(s.dialect.EncodeReversal(nil, o, i, &a.Card))
		if m.MTI() != s.dialect.ReversalMTI().Response() {
			s.t.Errorf("a reversal is answered by %s", m.MTI())
		}
		s.ownTime(m)
		var r payment.Response
		if err := s.dialect.DecodeReversal(m, &r); err != nil {
			s.t.Fatal(err)
		}
		return r.Advice
	}
	if v := reverse(i, owed); v != payment.AdviceAcknowledged {
		s.t.Errorf("reversal: verdict %d", v)
	}
	again := *owed
	again.Tries, again.Transmitted = 2, 314101520
	if v := reverse(i, &again); v != payment.AdviceAcknowledged {
		s.t.Errorf("repeat: verdict %d", v)
	}
	_, never := s.payment(600, 1000)
	if v := reverse(never, &payment.Owed{Reason: payment.ReversalTimeout, Tries: 1, STAN: 601, Transmitted: 314101510}); v != payment.AdviceNotFound {
		s.t.Errorf("reversal of nothing: verdict %d", v)
	}
	entries := s.ledger()
	if len(entries) < 3 {
		s.t.Fatalf("ledger %+v", entries)
	}
	tail := entries[len(entries)-3:]
	if tail[0].Decision != "approved" || tail[1].Decision != "reversed" || tail[2].Decision != "unknown_original" {
		s.t.Fatalf("ledger ends in %+v", tail)
	}
	if o := tail[1].Original; o == nil || !strings.HasSuffix(o.STAN, "000500") || o.Transmitted != "0314101500" || o.Acquirer != "970001" {
		s.t.Errorf("original %+v", o)
	}
	if e := tail[0]; !strings.HasSuffix(e.STAN, "000500") || e.Acquirer != "970001" || e.Terminal != "10000001" || e.Currency != "978" && e.Currency != "" || e.Amount != 1000 || e.RRN != "632700000500" && e.RRN != "" {
		s.t.Errorf("approval in the ledger %+v", e)
	}
	// What a restart reads is what was known.
	s.conn.Close()
	s.bench = s.restart(nil)
	s.buffer = nil
	if v := reverse(i, &again); v != payment.AdviceAcknowledged {
		s.t.Errorf("repeat after a restart: verdict %d", v)
	}
}

// chipRequest is a chip card's request, its account number, sequence number and
// DE 55 as given.
func (s *switchSide) chipRequest(stan payment.STAN, number string, emv []byte) ([]byte, error) {
	s.t.Helper()
	var b iso8583.Builder
	b.Start(0x0100)
	for de, value := range map[int]string{
		2: number, 3: "000000", 4: "000000001000", 7: "0314101500", 11: fmt.Sprintf("%06d", stan), 12: "111500", 13: "0314", 22: "051", 23: "000", 25: "00",
		32: "970001", 37: fmt.Sprintf("6327%08d", stan), 41: "10000001", 42: "100000000000001", 49: "978",
	} {
		b.Set(de, []byte(value))
	}
	b.Set(55, emv)
	return s.dialect.Pack(nil, &b)
}
