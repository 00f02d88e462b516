package iso8583

import (
	"fmt"
	"slices"
	"strings"

	"authswitch/payment"
)

// payments is the compiled second half of a dialect file: what payments become
// on the wire and what answers mean.
type payments struct {
	messages      []*message
	authorization *message
	reversal      *message
	capture       *message // nil: none
	refund        *message // nil: none
	upload        *message // nil: none
	totals        *message // nil: none; of an upload
	sale          *message // nil: none, and the link is not a single-message one
	completion    *message // nil: none
	refundFinal   bool
	verification  bool
	network       *message
	networkAnswer *message
	sameSTAN      bool
	responses     []responseRule // sorted by code
	accept        []payment.ResponseCode
	repeatAccept  []payment.ResponseCode
	notFound      []payment.ResponseCode
	retry         []payment.ResponseCode // and those that are security trouble
	networkAccept []payment.ResponseCode
	functionDE    int
	functions     []functionCode
	correlation   Correlation
	answer        answer
}

type responseRule struct {
	code    payment.ResponseCode
	verdict payment.Verdict
	zero    bool // holds for a zero amount only
}

type functionCode struct {
	function payment.NetworkFunction
	code     string
}

// answer is where an answer's parts are.
type answer struct {
	amount, currency, cvvResult, adviceCode place
	networkID                               []place
}

// place is an element or a piece of one; DE 0 is nowhere.
type place struct {
	de  int
	sub string
}

func (p place) in(m *Message) []byte {
	switch {
	case p.de == 0:
		return nil
	case p.sub == "":
		return m.Bytes(p.de)
	}
	return m.Sub(p.de, p.sub)
}

// Correlation says which elements, with the answer's message class, find the
// request an answer belongs to.
type Correlation struct {
	Elements            []int // such as 11, 7, 41; in this order
	PeerSetsTransmitted bool  // the peer puts its own time into DE 7
}

// Correlation is how answers of this dialect find their request.
func (d *Dialect) Correlation() Correlation { return d.payments.correlation }

// SameSTAN says that a reversal travels under its original's trace number.
func (d *Dialect) SameSTAN() bool { return d.payments.sameSTAN }

// AuthorizationMTI is the type EncodeAuthorization writes unless the intent
// says that it is a sale.
func (d *Dialect) AuthorizationMTI() MTI { return d.payments.authorization.mti }

// ReversalMTI is the type EncodeReversal writes, without the repeat bit.
func (d *Dialect) ReversalMTI() MTI { return d.payments.reversal.mti }

// NetworkAccept is the code that says yes to a network management request.
func (d *Dialect) NetworkAccept() payment.ResponseCode { return d.payments.networkAccept[0] }

// NetworkMTI is the type of network management requests.
func (d *Dialect) NetworkMTI() MTI { return d.payments.network.mti }

func compilePayments(d *Dialect, f *file) error {
	p := &d.payments
	names := make([]string, 0, len(f.Messages))
	for name := range f.Messages {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		m, err := compileMessage(d, name, f.Messages[name])
		if err != nil {
			return err
		}
		p.messages = append(p.messages, m)
	}
	for _, want := range []struct {
		into **message
		mti  string
		what string
	}{
		{&p.authorization, f.Payments.Authorization, "payments: authorization"},
		{&p.reversal, f.Payments.Reversal, "payments: reversal"},
		{&p.network, f.Network.MTI, "network: mti"},
	} {
		mti, err := ParseMTI(want.mti)
		if err != nil {
			return fmt.Errorf("%s: %w", want.what, err)
		}
		if *want.into = d.message(mti); *want.into == nil {
			return fmt.Errorf("%s: %s is not under messages: %w", want.what, want.mti, ErrDialect)
		}
	}
	if err := compileOperations(d, &f.Payments); err != nil {
		return err
	}
	if p.networkAnswer = d.message(p.network.mti.Response()); p.networkAnswer == nil {
		return fmt.Errorf("network: no %s under messages: %w", p.network.mti.Response(), ErrDialect)
	}
	if err := compileResponses(p, f.Responses); err != nil {
		return err
	}
	if err := compileAnswer(d, &f.Answer); err != nil {
		return err
	}
	if err := compileNetwork(d, &f.Network); err != nil {
		return err
	}
	return compileReversal(d, f)
}

// message is the description of a type, whatever its repeat bit.
func (d *Dialect) message(mti MTI) *message {
	for _, m := range d.payments.messages {
		if m.mti == mti {
			return m
		}
	}
	if mti.IsRepeat() {
		return d.message(mti.Original())
	}
	return nil
}

// actionNames and flagNames are read-only: the words of the responses section.
var actionNames = map[string]payment.Action{
	"approve": payment.ActionApprove, "partial": payment.ActionApprovePartially, "decline": payment.ActionDecline, "unknown": payment.ActionNone,
}

var flagNames = map[string]payment.Flags{
	"retry": payment.MayRetry, "other": payment.TryOther, "other_no_hold": payment.TryOtherNoHold, "other_terms": payment.TryOtherTerms,
	"reverse": payment.MustReverse, "stand_in": payment.MayStandIn, "block": payment.BlockToken, "stop_mandate": payment.StopMandate, "identify": payment.NeedsIdentity,
	"alarm": payment.RaiseAlarm, "authenticate": payment.NeedsAuth, "new_data": payment.NeedsNewData, "security": payment.SecurityTrouble,
}

// compileResponses reads lines such as `51: decline insufficient_funds retry`.
func compileResponses(p *payments, lines map[string]string) error {
	for code, line := range lines {
		words := strings.Fields(line)
		if len(code) < 1 || len(code) > 4 || len(words) < 2 {
			return fmt.Errorf("response %q: wants an action and a reason: %w", code, ErrDialect)
		}
		action, ok := actionNames[words[0]]
		if !ok {
			return fmt.Errorf("response %q: action %q is not known: %w", code, words[0], ErrDialect)
		}
		reason, ok := payment.ParseReason(words[1])
		if !ok {
			return fmt.Errorf("response %q: reason %q is not known: %w", code, words[1], ErrDialect)
		}
		v := payment.Verdict{Action: action, Reason: reason}
		zero := false
		for _, word := range words[2:] {
			if word == "zero_amount" {
				zero = true
				continue
			}
			flag, ok := flagNames[word]
			if !ok {
				return fmt.Errorf("response %q: %q is not known: %w", code, word, ErrDialect)
			}
			v.Flags |= flag
		}
		p.responses = append(p.responses, responseRule{payment.MakeResponseCode([]byte(code)), v, zero})
	}
	slices.SortFunc(p.responses, func(a, b responseRule) int { return strings.Compare(string(a.code[:]), string(b.code[:])) })
	return nil
}

// verdict is the meaning of a DE 39; one that the file does not map means an
// unknown outcome, and so does an approval that holds for a zero amount only
// (85, an account verification) when money was asked for.
func (p *payments) verdict(code payment.ResponseCode, zero bool) payment.Verdict {
	low, high := 0, len(p.responses)
	for low < high {
		middle := (low + high) / 2
		if string(p.responses[middle].code[:]) < string(code[:]) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < len(p.responses) && p.responses[low].code == code && (zero || !p.responses[low].zero) {
		return p.responses[low].verdict
	}
	return payment.Verdict{Action: payment.ActionNone, Flags: payment.RaiseAlarm | payment.MustReverse, Reason: payment.ReasonUnknownCode}
}

func compileAnswer(d *Dialect, f *answerFile) error {
	a := &d.payments.answer
	var err error
	for _, part := range []struct {
		into *place
		text string
	}{{&a.amount, f.Amount}, {&a.currency, f.Currency}, {&a.cvvResult, f.CVVResult}, {&a.adviceCode, f.AdviceCode}} {
		if *part.into, err = d.parsePlace(part.text); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	for _, text := range f.NetworkID {
		p, err := d.parsePlace(text)
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		a.networkID = append(a.networkID, p)
	}
	return nil
}

func (d *Dialect) parsePlace(text string) (place, error) {
	if text == "" {
		return place{}, nil
	}
	s, err := compileStep(d, text, &sourceFile{From: "="})
	if err != nil {
		return place{}, fmt.Errorf("%s: %w", text, err)
	}
	return place{s.de, s.sub}, nil
}

// functionNames is read-only.
var functionNames = map[string]payment.NetworkFunction{
	"sign_on": payment.SignOn, "sign_off": payment.SignOff, "echo": payment.Echo, "cut_over": payment.CutOver,
	"key_exchange": payment.KeyExchange, "target_down": payment.TargetDown,
}

func compileNetwork(d *Dialect, f *networkFile) error {
	p := &d.payments
	if f.Function < 2 || f.Function > maxDE || d.elements[f.Function] == nil {
		return fmt.Errorf("network: function DE %d is not defined: %w", f.Function, ErrDialect)
	}
	p.functionDE = f.Function
	for name, code := range f.Functions {
		function, ok := functionNames[name]
		if !ok {
			return fmt.Errorf("network: function %q is not known: %w", name, ErrDialect)
		}
		p.functions = append(p.functions, functionCode{function, code})
	}
	slices.SortFunc(p.functions, func(a, b functionCode) int { return int(a.function) - int(b.function) })
	var err error
	p.networkAccept, err = codes(f.Accept)
	return err
}

func compileReversal(d *Dialect, f *file) error {
	p := &d.payments
	switch f.Reversal.STAN {
	case "new":
	case "same":
		p.sameSTAN = true
	default:
		return fmt.Errorf("reversal: stan is %q, not new or same: %w", f.Reversal.STAN, ErrDialect)
	}
	var errs [4]error
	p.accept, errs[0] = codes(f.Reversal.Accept)
	p.repeatAccept, errs[1] = codes(f.Reversal.RepeatAccept)
	p.notFound, errs[2] = codes(f.Reversal.NotFound)
	p.retry, errs[3] = codes(slices.Concat(f.Reversal.Retry, f.Reversal.Security))
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("reversal: %w", err)
		}
	}
	p.correlation = Correlation{Elements: f.Correlation.Elements, PeerSetsTransmitted: f.Correlation.OwnTransmitted}
	if len(p.correlation.Elements) < 2 {
		return fmt.Errorf("correlation: a key has at least two elements, never DE 11 alone: %w", ErrDialect)
	}
	for _, de := range p.correlation.Elements {
		if de < 2 || de > maxDE || d.elements[de] == nil {
			return fmt.Errorf("correlation: DE %d is not defined: %w", de, ErrDialect)
		}
	}
	return nil
}

func codes(list []string) ([]payment.ResponseCode, error) {
	out := make([]payment.ResponseCode, 0, len(list))
	for _, s := range list {
		if len(s) < 1 || len(s) > 4 {
			return nil, fmt.Errorf("code %q has not one to four characters: %w", s, ErrDialect)
		}
		out = append(out, payment.MakeResponseCode([]byte(s)))
	}
	return out, nil
}
