package iso8583

import (
	"slices"
	"strings"

	"authswitch/payment"
)

// term is a value of the merchant's contract. Name and city of DE 43 are cut
// to the room the dialect gives them: they are for the cardholder to read.
func (v *values) term(out []byte, s *step) []byte {
	text, _ := termOf(v.terms, s)
	if text == "" {
		return nil
	}
	return append(out, text...)
}

// termOf is what a step takes from the contract, and how the contract calls it; ""
// where it takes nothing from there.
func termOf(t *payment.Terms, s *step) (text, name string) {
	switch s.source {
	case sourceMCC:
		return t.MCC, "mcc"
	case sourceAcquirer:
		return t.Acquirer, "acquirer"
	case sourceForwarder:
		return t.Forwarder, "forwarder"
	case sourceTerminal:
		return t.Terminal, "terminal"
	case sourceAcceptor:
		return t.Acceptor, "acceptor"
	case sourceCountry:
		return t.Country, "country"
	case sourceAcceptorName, sourceAcceptorCity, sourceAcceptorCountry:
		return acceptorPart(t.AcceptorName, s), "acceptor_name"
	}
	return "", ""
}

// Lacks names what a contract does not say and a payment of this dialect must have,
// as contracts call it.
func (d *Dialect) Lacks(t *payment.Terms) (names []string) {
	said := map[int]bool{} // elements that have a part from elsewhere, or from what the contract says
	m := d.payments.authorization
	for pass := range 2 {
		for i := range m.steps {
			s := &m.steps[i]
			text, name := termOf(t, s)
			switch {
			case name == "", text != "":
				said[s.de] = true
			case !s.required || s.only != 0 || s.fallback != sourceNone:
			case pass == 1 && !said[s.de] && !slices.Contains(names, name):
				names = append(names, name)
			}
		}
	}
	return names
}

// acceptorPart is one of "name/city/country", or the three with spaces between
// where a dialect has no pieces for them.
func acceptorPart(text string, s *step) string {
	name, rest, _ := strings.Cut(text, "/")
	city, country, _ := strings.Cut(rest, "/")
	part := name
	switch s.source {
	case sourceAcceptorCity:
		part = city
	case sourceAcceptorCountry:
		part = country
	}
	if len(part) > s.element.max {
		part = part[:s.element.max]
	}
	return part
}

// original is what a reversal says of the message it reverses.
func (v *values) original(out []byte, src source) []byte {
	i := v.intent
	if o := v.operation(); o != nil && o.Kind == payment.OpRefund && o.Means != payment.MeansReversal && !o.Approved {
		return nil // it is of no payment that the acquirer knows
	}
	switch src {
	case sourceApprovalCode:
		if v.owed == nil {
			return nil
		}
		return absent(append(out, trimRight(v.owed.ApprovalCode[:])...))
	case sourceOriginalData90:
		o := v.originalMessage()
		out = appendMTIText(out, MTI(o.MTI))
		out = o.STAN.Append(out)
		out = o.Transmitted.Append(out)
		out = appendZeroPadded(out, i.Terms.Acquirer, 11)
		return appendZeroPadded(out, i.Terms.Forwarder, 11)
	case sourceOriginalData56:
		o := v.originalMessage()
		out = appendMTIText(out, MTI(o.MTI))
		out = o.STAN.Append(out)
		out = append(out, i.Local[:]...)
		out = append(out, '0'+byte(len(i.Terms.Acquirer)/10), '0'+byte(len(i.Terms.Acquirer)%10))
		return append(out, i.Terms.Acquirer...)
	case sourceOriginalData56Century:
		o := v.originalMessage()
		out = appendMTIText(out, MTI(o.MTI))
		out = append(out, "000000"...)
		out = o.STAN.Append(out)
		out = append(append(out, "20"...), i.Local[:]...)
		return append(out, i.Terms.Acquirer...)
	default:
		return nil
	}
}

// originalMessage is what a reversal or advice names: a message of an
// operation, or the authorization.
func (v *values) originalMessage() payment.Message {
	if v.owed != nil && v.owed.Original.MTI != 0 {
		return v.owed.Original
	}
	return payment.Message{MTI: v.intent.MTI, STAN: v.intent.STAN, Transmitted: v.intent.Transmitted}
}

func appendMTIText(dst []byte, mti MTI) []byte {
	t := mti.text()
	return append(dst, t[:]...)
}

// appendZeroPadded right-justifies digits among zeros; a configuration check
// keeps ids within eleven digits, a longer one loses its leading ones.
func appendZeroPadded(dst []byte, digits string, width int) []byte {
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits[max(0, len(digits)-width):]...)
}

func trimRight(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == 0 || b[len(b)-1] == ' ') {
		b = b[:len(b)-1]
	}
	return b
}

// DecodeAuthorization reads the answer to an authorization. Without a usable
// DE 39 the verdict is an unknown outcome and the error says why.
func (d *Dialect) DecodeAuthorization(m *Message, r *payment.Response) error {
	*r = payment.Response{Verdict: payment.Verdict{Action: payment.ActionNone, Flags: payment.MustReverse, Reason: payment.ReasonUnknownCode}}
	code := m.Bytes(39)
	if len(code) == 0 {
		return fieldError(39, "", "response code", ErrMissing)
	}
	r.Code = payment.MakeResponseCode(code)
	if len(code) > 2 {
		r.ActionCodeClass = code[0]
	}
	copy(r.ApprovalCode[:], trimRight(m.Bytes(38)))
	a := &d.payments.answer
	value, ok := number(a.amount.in(m))
	r.Verdict = d.payments.verdict(r.Code, ok && value == 0)
	if ok {
		if currency, ok := number(a.currency.in(m)); ok && currency < 1000 {
			r.Amount = payment.Amount{Value: int64(value), Currency: payment.Currency(currency)}
		}
	}
	if result := a.cvvResult.in(m); len(result) > 0 && result[0] != ' ' {
		r.CVVResult = result[0]
	}
	copy(r.AdviceCode[:], a.adviceCode.in(m))
	n := 0
	for _, p := range a.networkID {
		n += copy(r.NetworkID[n:], p.in(m))
	}
	clear(r.NetworkID[len(trimRight(r.NetworkID[:])):])
	if date := m.Bytes(15); len(date) >= 4 {
		copy(r.SettlementDate[:], date[len(date)-4:]) // MMDD, YYMMDD or CCYYMMDD
	}
	r.Chip = d.chipAnswer(m)
	return nil
}

// number reads up to 18 digits; spaces and signs are none.
func number(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 18 || !allDigits(b) {
		return 0, false
	}
	v := uint64(0)
	for _, c := range b {
		v = v*10 + uint64(c-'0')
	}
	return v, true
}

// DecodeReversal reads the answer to what was owed: r.Advice says whether that
// settles it. A code in the dialect's repeat_accept counts only after a
// repeat, which the caller knows: see AcknowledgesRepeat.
func (d *Dialect) DecodeReversal(m *Message, r *payment.Response) error {
	err := d.DecodeAuthorization(m, r)
	p := &d.payments
	switch {
	case err != nil:
		r.Advice = payment.AdviceRepeat
	case hasCode(p.accept, r.Code):
		r.Advice = payment.AdviceAcknowledged
	case hasCode(p.notFound, r.Code):
		r.Advice = payment.AdviceNotFound
	case hasCode(p.retry, r.Code):
		r.Advice = payment.AdviceRepeat
	default:
		r.Advice = payment.AdviceExceptional
	}
	return err
}

// DecodeAdvice reads the answer to an advice or to an operation's request: its
// verdict decides about a request, r.Advice about an advice. A code that says
// later is no answer to an advice.
func (d *Dialect) DecodeAdvice(m *Message, r *payment.Response) error {
	err := d.DecodeAuthorization(m, r)
	switch {
	case err != nil:
		r.Advice = payment.AdviceRepeat
	case r.Verdict.Action == payment.ActionApprove:
		r.Advice = payment.AdviceAcknowledged
	case hasCode(d.payments.retry, r.Code):
		r.Advice = payment.AdviceRepeat
	default:
		r.Advice = payment.AdviceExceptional
	}
	return err
}

// AcknowledgesRepeat says that this answer to a repeated reversal means it was
// processed before (94 where the dialect says so).
func (d *Dialect) AcknowledgesRepeat(r *payment.Response) bool {
	return hasCode(d.payments.repeatAccept, r.Code)
}

func hasCode(list []payment.ResponseCode, code payment.ResponseCode) bool {
	return slices.Contains(list, code)
}

// DecodeNetwork reads a network management message, request or answer; false
// when the message is of another class.
func (d *Dialect) DecodeNetwork(m *Message) (payment.NetworkMessage, bool) {
	var n payment.NetworkMessage
	if m.MTI().Class() != ClassNetwork || m.Rejected() {
		return n, false
	}
	n.Response = m.MTI().IsResponse()
	function := m.Bytes(d.payments.functionDE)
	for _, f := range d.payments.functions {
		if f.code == string(function) {
			n.Function = f.function
		}
	}
	n.Code = payment.MakeResponseCode(m.Bytes(39))
	n.Accepted = n.Response && hasCode(d.payments.networkAccept, n.Code)
	if stan, ok := number(m.Bytes(11)); ok && stan <= uint64(payment.MaxSTAN) {
		n.STAN = payment.STAN(stan)
	}
	if at, ok := number(m.Bytes(7)); ok && at <= 1231235959 {
		n.Transmitted = payment.Transmitted(at)
	}
	if n.Function == payment.KeyExchange {
		d.readKey(m, &n)
	}
	return n, true
}
