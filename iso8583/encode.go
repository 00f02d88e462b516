package iso8583

import (
	"encoding/base64"
	"errors"

	"authswitch/card"
	"authswitch/payment"
)

// values are what the sources of one message read. The scratch holds what has
// to be composed; a value returned is used before the next is asked for.
type values struct {
	authorization *payment.Authorization
	intent        *payment.Intent
	owed          *payment.Owed
	card          *card.Card
	network       *payment.NetworkRequest
	networkCode   string
	totals        *payment.Totals
	stan          payment.STAN
	transmitted   payment.Transmitted
	terms         *payment.Terms
	scratch       [96]byte
}

// EncodeAuthorization appends the request of one authorization. What does not
// fit is a *FieldError whose Pointer names the field of the gateway's request.
func (d *Dialect) EncodeAuthorization(dst []byte, a *payment.Authorization, i *payment.Intent) ([]byte, error) {
	v := values{authorization: a, intent: i, card: &a.Card, terms: &i.Terms, stan: i.STAN, transmitted: i.Transmitted}
	m := d.payments.authorization
	if sale := d.payments.sale; sale != nil && MTI(i.MTI) == sale.mti {
		m = sale
	}
	return d.encode(dst, m, m.mti, &v)
}

// EncodeReversal appends what is owed for an original: a first transmission,
// or its repeat when it was claimed before.
func (d *Dialect) EncodeReversal(dst []byte, o *payment.Owed, i *payment.Intent, c *card.Card) ([]byte, error) {
	mti := d.payments.reversal.mti
	if o.Tries > 1 {
		mti = mti.Repeat()
	}
	v := values{owed: o, intent: i, card: c, terms: &i.Terms, stan: o.STAN, transmitted: o.Transmitted}
	if d.payments.sameSTAN {
		v.stan = i.STAN
	}
	return d.encode(dst, d.payments.reversal, mti, &v)
}

// EncodeNetwork appends a network management request, or the answer to one.
func (d *Dialect) EncodeNetwork(dst []byte, n payment.NetworkRequest) ([]byte, error) {
	m := d.payments.network
	if n.Response {
		m = d.payments.networkAnswer
	}
	v := values{network: &n, terms: &n.Terms, stan: n.STAN, transmitted: n.Transmitted}
	for _, f := range d.payments.functions {
		if f.function == n.Function {
			v.networkCode = f.code
		}
	}
	if v.networkCode == "" {
		return dst, fieldError(d.payments.functionDE, "", "network function", ErrMapping)
	}
	return d.encode(dst, m, m.mti, &v)
}

// EncodeAnswer appends an answer to any request of the peer: the elements the
// dialect lists for the answer, echoed, and a code in DE 39.
func (d *Dialect) EncodeAnswer(dst []byte, m *Message, code payment.ResponseCode) ([]byte, error) {
	b := d.builder()
	defer d.release(b)
	d.startAnswer(b, m, code)
	if err := d.setMAC(b); err != nil {
		return dst, err
	}
	return d.Pack(dst, b)
}

// startAnswer begins the answer to a message.
func (d *Dialect) startAnswer(b *Builder, m *Message, code payment.ResponseCode) {
	mti := m.MTI().Response()
	b.Start(mti)
	b.AnswerHeader(m)
	echoed := []int{7, 11}
	if description := d.message(mti); description != nil {
		echoed = description.mandatory
	}
	for _, de := range echoed {
		if de != 39 && m.Has(de) && !d.isMAC(de) {
			b.Set(de, m.Bytes(de))
		}
	}
	b.Set(39, code.Bytes())
}

func (d *Dialect) builder() *Builder {
	b, ok := d.builders.Get().(*Builder)
	if !ok {
		b = new(Builder)
	}
	return b
}

// release wipes before it gives back: the next owner is another payment.
func (d *Dialect) release(b *Builder) {
	b.Wipe()
	d.builders.Put(b)
}

func (d *Dialect) encode(dst []byte, m *message, mti MTI, v *values) ([]byte, error) {
	b := d.builder()
	out, err := d.fill(dst, b, m, mti, v)
	d.release(b)
	clear(v.scratch[:])
	return out, err
}

func (d *Dialect) fill(dst []byte, b *Builder, m *message, mti MTI, v *values) ([]byte, error) {
	b.Start(mti)
	for i := range m.steps {
		s := &m.steps[i]
		value, err := v.step(s)
		if err != nil {
			return dst, v.failed(s, err)
		}
		if value == nil {
			continue
		}
		if s.sub == "" {
			b.Set(s.de, value)
		} else {
			b.SetSub(s.de, s.sub, value)
		}
	}
	for i := range m.steps {
		if s := &m.steps[i]; s.required && !b.Has(s.de) {
			return dst, v.failed(s, ErrMissing)
		}
	}
	if v.network != nil {
		if err := d.putKey(b, v.network.Key, v.network.Check, v.network.KeyUsage); err != nil {
			return dst, err
		}
	}
	if err := d.setMAC(b); err != nil {
		return dst, err
	}
	out, err := d.Pack(dst, b)
	if err == nil {
		return out, nil
	}
	if fe, ok := errors.AsType[*FieldError](err); ok {
		fe.Pointer = m.pointer(fe)
	}
	return dst, err
}

// failed names the element and the field of the request it came from.
func (v *values) failed(s *step, err error) error {
	fe := fieldError(s.de, s.sub, s.element.name, err)
	fe.Pointer = s.pointer()
	return fe
}

// pointer finds the request's field behind an element that did not pack.
func (m *message) pointer(fe *FieldError) string {
	pointer := ""
	for i := range m.steps {
		s := &m.steps[i]
		if s.de != fe.DE {
			continue
		}
		if p := s.pointer(); p != "" {
			pointer = p
		}
		if s.sub == fe.Sub {
			return s.pointer()
		}
	}
	return pointer
}

func (s *step) pointer() string {
	switch s.source {
	case sourcePAN:
		return "/card/number"
	case sourceExpiry:
		return "/card/expiry"
	case sourceTrack2:
		return "/card/track2"
	case sourcePINBlock:
		return "/card/pin/block"
	case sourceChip, sourcePANSequence:
		return "/card/emv"
	case sourceCVV, sourceByCVV:
		return "/card/cvv"
	case sourceAmount, sourceActualAmount:
		return "/amount/value"
	case sourceCurrency, sourceExponent:
		return "/amount/currency"
	case sourceECI:
		return "/three_d_secure/eci"
	case sourceCAVV, sourceCAVVBytes:
		return "/three_d_secure/authentication_value"
	case sourceDSTransaction:
		return "/three_d_secure/ds_transaction_id"
	case sourceThreeDSVersion:
		return "/three_d_secure/version"
	case sourceNetworkID:
		return "/stored_credential/network_transaction_id"
	case sourceByChannel:
		return "/channel"
	case sourceByExemption:
		return "/sca/exemption"
	case sourceByCredential:
		return "/stored_credential/usage"
	case sourceMCC, sourceAcquirer, sourceTerminal, sourceAcceptor, sourceAcceptorName:
		return "/merchant"
	default:
		return ""
	}
}

// step is what a step puts into the message, nil where there is nothing.
func (v *values) step(s *step) ([]byte, error) {
	if s.only != 0 && !v.holds(s.only) {
		return nil, nil
	}
	value, err := v.value(s, s.source)
	if value == nil && err == nil && s.fallback != sourceNone {
		return v.value(s, s.fallback)
	}
	return value, err
}

func (v *values) value(s *step, src source) ([]byte, error) {
	out := v.scratch[:0]
	switch src {
	case sourceNone:
		return nil, nil
	case sourceLiteral:
		return s.literal, nil
	case sourcePAN:
		return absent(v.card.PAN.RevealPAN()), nil
	case sourceExpiry:
		return absent(v.card.Expiry.RevealExpiry()), nil
	case sourceAmount:
		return appendNumber(out, uint64(v.amountValue())), nil
	case sourceActualAmount:
		return appendNumber(out, uint64(v.actual())), nil
	case sourceProcessing:
		return v.processing(out), nil
	case sourceReplacement, sourceReplacedAmounts:
		return v.amounts(out, s, src), nil
	case sourceByChannel:
		return v.byChannel(out, s)
	case sourceCurrency:
		return v.intent.Amount.Currency.Append(out), nil
	case sourceExponent:
		return appendNumber(out, uint64(max(0, v.intent.Amount.Currency.Exponent()))), nil
	case sourceTransmitted:
		return v.transmitted.Append(out), nil
	case sourceSTAN:
		return v.stan.Append(out), nil
	case sourceOriginalSTAN:
		return v.intent.STAN.Append(out), nil
	case sourceRRN:
		return append(out, v.intent.RRN[:]...), nil
	case sourceLocalTime, sourceLocalDate, sourceLocalMonthDay, sourceLocalDateTime, sourceLocalCentury:
		return v.local(out, src), nil
	case sourceMCC, sourceAcquirer, sourceForwarder, sourceTerminal, sourceAcceptor,
		sourceAcceptorName, sourceAcceptorCity, sourceAcceptorCountry, sourceCountry:
		return v.term(out, s), nil
	case sourceApprovalCode, sourceOriginalData90, sourceOriginalData56, sourceOriginalData56Century:
		return v.original(out, src), nil
	case sourceNetworkFunction:
		return append(out, v.networkCode...), nil
	case sourceNetworkCode:
		return absent(v.network.Code.Bytes()), nil
	case sourceMACZeros:
		return v.scratch[:copy(v.scratch[:], zeros[:s.element.max])], nil
	case sourceByReason:
		return s.chosen(out, v.owed.Reason.String())
	case sourceNetworkID:
		return absent(v.intent.NetworkTransactionID), nil
	case sourceBanknetTrace:
		return v.banknetTrace(out), nil
	case sourceBatchNumber:
		return v.batchNumber(out), nil
	case sourceDebits, sourceDebitAmount, sourceCredits, sourceCreditAmount, sourceNetAmount:
		return v.total(out, src), nil
	default:
		return v.requested(out, s, src)
	}
}

// zeros is read-only: what stands in a MAC element until the MAC is known.
var zeros [16]byte

// absent makes an empty value none.
func absent(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// chosen is the line of a step's table; a key without a line leaves the
// element out.
func (s *step) chosen(out []byte, key string) ([]byte, error) {
	value, ok := s.choose(key)
	if !ok {
		return nil, nil
	}
	return append(out, value...), nil
}

// requested are the values only a gateway's own request has.
func (v *values) requested(out []byte, s *step, src source) ([]byte, error) {
	a := v.authorization
	switch src {
	case sourceTrack2:
		return absent(a.Card.Track2.RevealTrack2()), nil
	case sourcePINBlock:
		if !a.Card.PIN.Present() {
			return nil, nil
		}
		return a.Card.PIN.RevealPINBlock(), nil
	case sourceCVV:
		return absent(a.Card.CVV.RevealCVV()), nil
	case sourceChip:
		return absent(a.Card.Chip.RevealChip()), nil
	case sourcePANSequence:
		return a.Card.Chip.AppendSequence(out), nil
	case sourceECI:
		return absent(a.ThreeDS.ECI), nil
	case sourceCAVV:
		return absent(a.ThreeDS.AuthenticationValue), nil
	case sourceCAVVBytes:
		return v.cavvBytes(out)
	case sourceDSTransaction:
		return absent(a.ThreeDS.DSTransactionID), nil
	case sourceThreeDSVersion:
		if len(a.ThreeDS.Version) == 0 {
			return nil, nil
		}
		return a.ThreeDS.Version[:1], nil
	case sourceByExemption:
		if len(a.Exemption) == 0 {
			return s.chosenExactly(out, "none")
		}
		return s.chosen(out, string(a.Exemption))
	case sourceByCredential:
		return v.credential(out, s)
	case sourceByECI:
		if len(a.ThreeDS.ECI) == 0 {
			return s.chosenExactly(out, "none")
		}
		return s.chosen(out, string(a.ThreeDS.ECI))
	case sourceByPartial:
		if a.AcceptsPartial {
			return s.chosenExactly(out, "yes")
		}
		return s.chosenExactly(out, "no")
	case sourceByCVV:
		if a.Card.CVV.Present() {
			return s.chosenExactly(out, "present")
		}
		return s.chosenExactly(out, "absent")
	}
	return nil, ErrMapping
}

// chosenExactly is chosen without the default: nothing was asked for.
func (s *step) chosenExactly(out []byte, key string) ([]byte, error) {
	for i := range s.choices {
		if s.choices[i].key == key {
			return append(out, s.choices[i].value...), nil
		}
	}
	return nil, nil
}

// credential chooses by who starts a payment with stored card data, and why.
func (v *values) credential(out []byte, s *step) ([]byte, error) {
	c := &v.authorization.StoredCredential
	if len(c.Usage) == 0 {
		return s.chosenExactly(out, "none")
	}
	var key [48]byte
	k := append(key[:0], "cardholder_"...)
	if c.MerchantInitiated {
		k = append(key[:0], "merchant_"...)
	}
	if len(c.Usage) > 32 {
		return nil, ErrTooLong
	}
	k = append(k, c.Usage...)
	for i := range s.choices {
		if s.choices[i].key == string(k) {
			return append(out, s.choices[i].value...), nil
		}
	}
	return s.chosenExactly(out, "default")
}

// cavvBytes is the cryptogram as the 20 bytes its base64 stands for.
func (v *values) cavvBytes(out []byte) ([]byte, error) {
	text := v.authorization.ThreeDS.AuthenticationValue
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > 64 {
		return nil, ErrTooLong
	}
	n, err := base64.StdEncoding.Decode(v.scratch[:64], text)
	if err != nil {
		return nil, ErrCharacters
	}
	return out[:n], nil
}

// banknetTrace is Mastercard's reference of an earlier payment as DE 48.63
// wants it: what DE 63 held after the network code, the date, two blanks.
func (v *values) banknetTrace(out []byte) []byte {
	id := v.intent.NetworkTransactionID
	if len(id) < 4 || len(id) > 24 {
		return nil
	}
	out = append(out, id[3:]...)
	return append(out, "  "...)
}

func (v *values) local(out []byte, src source) []byte {
	l := &v.intent.Local
	switch src {
	case sourceLocalTime:
		return l.Clock()
	case sourceLocalDate:
		return l.Date()
	case sourceLocalMonthDay:
		return l[2:6]
	case sourceLocalCentury:
		return append(append(out, "20"...), l[:]...)
	default:
		return l[:]
	}
}

// appendNumber writes v in decimal.
func appendNumber(dst []byte, v uint64) []byte {
	from := len(dst)
	for {
		dst = append(dst, '0'+byte(v%10))
		if v /= 10; v == 0 {
			break
		}
	}
	for i, j := from, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}
