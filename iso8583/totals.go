package iso8583

import (
	"fmt"
	"slices"

	"authswitch/payment"
)

// A batch upload ends with what its messages came to: counts and amounts of
// debits and credits, and the difference, which the acquirer holds to its own.

// settlementDE says in an answer to totals whether they are the acquirer's own.
const settlementDE = 66

// saysTotals refuses a reconciliation that leaves out what it is there for.
func (m *message) saysTotals() error {
	if m == nil {
		return nil
	}
	for _, want := range []source{sourceDebits, sourceDebitAmount, sourceCredits, sourceCreditAmount, sourceNetAmount} {
		if !slices.ContainsFunc(m.steps, func(s step) bool { return s.source == want }) {
			return fmt.Errorf("payments: reconciliation: %s does not say all of debits, debit_amount, credits, credit_amount and net_amount: %w", m.mti, ErrDialect)
		}
	}
	return nil
}

// ReconciliationMTI is the type of the message that carries an upload's totals; 0
// where there is none.
func (d *Dialect) ReconciliationMTI() MTI { return typeOf(d.payments.totals) }

// EncodeTotals appends the message that says what an upload came to, or its
// repeat.
func (d *Dialect) EncodeTotals(dst []byte, x *payment.Totals) ([]byte, error) {
	m := d.payments.totals
	if m == nil {
		return dst, fieldError(0, "", "message type", ErrMapping)
	}
	mti := m.mti
	if x.Tries > 1 {
		mti = mti.Repeat()
	}
	i := payment.Intent{Amount: payment.Amount{Currency: x.Currency}, Terms: x.Terms}
	v := values{totals: x, intent: &i, terms: &i.Terms, stan: x.STAN, transmitted: x.Transmitted}
	return d.encode(dst, m, mti, &v)
}

// DecodeTotals reads what an acquirer said to totals: in balance where DE 66 says
// so, or DE 39 accepts and there is no DE 66. Anything that decides neither, such
// as a system that is down, leaves them unanswered.
func (d *Dialect) DecodeTotals(m *Message) payment.Agreed {
	a := payment.Agreed{Code: payment.MakeResponseCode(m.Bytes(39))}
	accepted := slices.Contains(d.payments.accept, a.Code)
	switch settlement := m.Bytes(settlementDE); {
	case len(settlement) == 1 && settlement[0] == '1' && accepted:
		a.Answered, a.Balanced = true, true
	case len(settlement) == 1 && settlement[0] == '2', a.Code == payment.MakeResponseCode([]byte("95")):
		a.Answered = true
	case len(settlement) == 0 && accepted:
		a.Answered, a.Balanced = true, true
	}
	return a
}

// total is one of the numbers that totals have.
func (v *values) total(out []byte, src source) []byte {
	x := v.totals
	if x == nil {
		return nil
	}
	switch src {
	case sourceDebits:
		return appendNumber(out, uint64(x.Captures))
	case sourceDebitAmount:
		return appendNumber(out, uint64(x.Captured))
	case sourceCredits:
		return appendNumber(out, uint64(x.Refunds))
	case sourceCreditAmount:
		return appendNumber(out, uint64(x.Refunded))
	}
	net, sign := x.Captured-x.Refunded, byte('D')
	if net < 0 {
		net, sign = -net, 'C'
	}
	return appendZeroPadded(append(out, sign), string(appendNumber(nil, uint64(net))), 16)
}

// batchDigits is how many digits a batch's number has on the wire: it begins anew
// after so many.
const batchDigits = 6

// batchNumber names the upload that a message belongs to.
func (v *values) batchNumber(out []byte) []byte {
	number := uint64(0)
	switch {
	case v.totals != nil:
		number = v.totals.Number
	case v.owed != nil:
		number = v.owed.File
	}
	if number == 0 {
		return nil
	}
	return appendZeroPadded(out, string(appendNumber(nil, number%1_000_000)), batchDigits)
}
