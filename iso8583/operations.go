package iso8583

import (
	"fmt"
	"slices"

	"authswitch/card"
	"authswitch/payment"
)

// compileOperations finds the messages of captures and refunds.
func compileOperations(d *Dialect, f *paymentsFile) error {
	p := &d.payments
	p.refundFinal, p.verification = f.RefundFinal, f.Verification
	for _, want := range []struct {
		into **message
		mti  string
		what string
		fits func(MTI) bool
	}{
		{&p.capture, f.Capture, "payments: capture", func(m MTI) bool { return m.IsAdvice() && m.Class() <= ClassFinancial }},
		{&p.refund, f.Refund, "payments: refund", func(m MTI) bool { return (m.IsAdvice() || m.IsRequest()) && m.Class() <= ClassFinancial }},
		{&p.sale, f.Sale, "payments: sale", func(m MTI) bool { return m.IsRequest() && m.Class() == ClassFinancial }},
		{&p.upload, f.Upload, "payments: upload", func(m MTI) bool { return m.IsAdvice() && m.Class() == ClassFile }},
		{&p.totals, f.Reconciliation, "payments: reconciliation", func(m MTI) bool { return (m.IsAdvice() || m.IsRequest()) && m.Class() == ClassReconciliation }},
		{&p.completion, f.Completion, "payments: completion", func(m MTI) bool { return m.IsRequest() && m.Class() == ClassFinancial }},
	} {
		if want.mti == "" {
			continue
		}
		mti, err := ParseMTI(want.mti)
		if err != nil {
			return fmt.Errorf("%s: %w", want.what, err)
		}
		if *want.into = d.message(mti); *want.into == nil || !want.fits(mti) {
			return fmt.Errorf("%s: %s is not under messages, or cannot be one: %w", want.what, want.mti, ErrDialect)
		}
	}
	if (p.upload == nil) != (p.totals == nil) {
		return fmt.Errorf("payments: upload and reconciliation belong together: %w", ErrDialect)
	}
	if err := p.totals.saysTotals(); err != nil {
		return err
	}
	return p.completion.namesOriginal()
}

// namesOriginal refuses a completion that its acquirer could take for another
// sale: what is authorized already is never asked for again as if it were not.
func (m *message) namesOriginal() error {
	if m == nil {
		return nil
	}
	for _, want := range []struct {
		de      int
		sources []source
	}{{37, []source{sourceRRN}}, {38, []source{sourceApprovalCode}}, {90, []source{sourceOriginalData90}}, {56, []source{sourceOriginalData56, sourceOriginalData56Century}}} {
		if want.de == 90 && m.mti.Version() > 0 || want.de == 56 && m.mti.Version() == 0 {
			continue
		}
		if !slices.ContainsFunc(m.steps, func(s step) bool { return s.de == want.de && slices.Contains(want.sources, s.source) }) {
			return fmt.Errorf("payments: completion: %s does not name its original in DE %d: %w", m.mti, want.de, ErrDialect)
		}
	}
	return nil
}

// CaptureMTI is the type of the advice that captures; 0 where the acquirer
// takes none, and captures reach it in a file.
func (d *Dialect) CaptureMTI() MTI { return typeOf(d.payments.capture) }

// UploadMTI is the type of the advice that carries a line of a batch upload; 0
// where the acquirer takes none.
func (d *Dialect) UploadMTI() MTI { return typeOf(d.payments.upload) }

// SaleMTI is the type of the one message that authorizes and captures; 0 where
// the link is no single-message one.
func (d *Dialect) SaleMTI() MTI { return typeOf(d.payments.sale) }

// CompletionMTI is the type of the request that captures what an authorization
// held, naming it; 0 where there is none.
func (d *Dialect) CompletionMTI() MTI { return typeOf(d.payments.completion) }

// Verifies says that an authorization of nothing verifies an account.
func (d *Dialect) Verifies() bool { return d.payments.verification }

// RefundMTI is the type of the message that refunds, a request or an advice; 0
// where there is none.
func (d *Dialect) RefundMTI() MTI { return typeOf(d.payments.refund) }

// RefundReversible says that a refund without an answer can be reversed.
func (d *Dialect) RefundReversible() bool { return !d.payments.refundFinal }

// ReversesPartially says that a reversal can leave a part held.
func (d *Dialect) ReversesPartially() bool {
	for i := range d.payments.reversal.steps {
		switch d.payments.reversal.steps[i].source {
		case sourceReplacement, sourceReplacedAmounts:
			return true
		}
	}
	return false
}

func typeOf(m *message) MTI {
	if m == nil {
		return 0
	}
	return m.mti
}

// EncodeOperation appends what is owed for an operation: an advice or its
// repeat, or a request, which has no repeat. A reversal is EncodeReversal's.
func (d *Dialect) EncodeOperation(dst []byte, o *payment.Owed, i *payment.Intent, c *card.Card) ([]byte, error) {
	mti := MTI(o.MTI)
	m := d.message(mti)
	if m == nil {
		return dst, fieldError(0, "", "message type", ErrMapping)
	}
	if mti.IsAdvice() && o.Tries > 1 {
		mti = mti.Repeat()
	}
	// What only a gateway's own request has is absent: no security code, no
	// 3-D Secure.
	a := payment.Authorization{Channel: i.Channel, Amount: o.Amount, Card: card.Card{PAN: c.PAN, Expiry: c.Expiry}}
	defer a.Wipe()
	v := values{authorization: &a, owed: o, intent: i, card: c, terms: &i.Terms, stan: o.STAN, transmitted: o.Transmitted}
	return d.encode(dst, m, mti, &v)
}

// operation is what is owed where that is about an operation; nil elsewhere.
func (v *values) operation() *payment.Owed {
	if v.owed == nil || v.owed.Operation.IsZero() {
		return nil
	}
	return v.owed
}

// amountValue is DE 4: an operation's own amount.
func (v *values) amountValue() int64 {
	if o := v.operation(); o != nil {
		return o.Amount.Value
	}
	return v.intent.Amount.Value
}

// actual is DE 4 where a partial reversal shows there what is still held.
func (v *values) actual() int64 {
	if v.partial() {
		return v.owed.Remains
	}
	return v.amountValue()
}

// byChannel chooses by the channel of the request, or of the payment that an
// advice is about; a request says more closely how its card was read, and a card
// on file was not read at all.
func (v *values) byChannel(out []byte, s *step) ([]byte, error) {
	channel := v.intent.Channel
	a := v.authorization
	if a != nil {
		channel = a.Channel
	}
	if v.verification() {
		if value, err := s.chosenExactly(out, "verification"); value != nil || err != nil {
			return value, err
		}
	}
	if a != nil && a.Entry != payment.NoEntryMode {
		if value, err := s.chosenExactly(out, a.Entry.String()); value != nil || err != nil {
			return value, err
		}
	} else if v.intent.OnFile {
		if value, err := s.chosenExactly(out, "stored"); value != nil || err != nil {
			return value, err
		}
	}
	return s.chosen(out, channel.String())
}

// verification says whether an account is verified, and nothing is held.
func (v *values) verification() bool {
	return v.intent != nil && v.intent.Capture.Mode == payment.CaptureNever
}

// holds reports whether a message is one of a condition's set.
func (v *values) holds(c condition) bool {
	o := v.operation()
	return v.authorization != nil && c.holds(v.authorization) ||
		c&onlyCompletion != 0 && o != nil && o.Kind == payment.OpCapture ||
		c&onlyVerification != 0 && v.verification()
}

// partial says whether a reversal leaves a part held.
func (v *values) partial() bool {
	o := v.operation()
	return o != nil && o.Kind == payment.OpRelease && o.Means == payment.MeansReversal
}

// processing is DE 3: a purchase, or a refund (20).
func (v *values) processing(out []byte) []byte {
	if o := v.operation(); o != nil && o.Kind == payment.OpRefund {
		return append(out, "200000"...)
	}
	return append(out, "000000"...)
}

// amounts are those that only partial reversals have: DE 95 says what is still
// held, DE 30 what was.
func (v *values) amounts(out []byte, s *step, src source) []byte {
	if !v.partial() {
		return nil
	}
	if src == sourceReplacedAmounts {
		out = appendZeroPadded(out, string(appendNumber(nil, uint64(v.owed.Amount.Value))), 12)
		return append(out, "000000000000"...)
	}
	out = appendZeroPadded(out, string(appendNumber(nil, uint64(v.owed.Remains))), 12)
	if s.element.class == classN { // some write DE 95 as digits only
		return append(out, "000000000000000000000000000000"...)
	}
	return append(out, "000000000000C00000000C00000000"...)
}
