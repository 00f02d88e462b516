package batch

import (
	"bytes"
	"unicode/utf8"

	"authswitch/card"
	"authswitch/payment"
)

// Limits of a line's texts.
const (
	maxOrder   = 64
	maxComment = 128
	maxName    = 128
)

// row is a line that was read. Its slices are the reader's.
type row struct {
	number  int
	amount  payment.Amount
	brand   payment.Scheme
	pan     card.PAN // wiped with the row
	masked  []byte   // of a number that is not whole
	order   []byte
	comment []byte
	payment []byte
}

// rowReader reads the fields of one line and notes every fault of it.
type rowReader struct {
	layout *layout
	fields [][]byte
	row    *row
	faults *[]Fault
	bad    bool
}

func (r *rowReader) fault(c column, code, detail string) {
	r.bad = true
	*r.faults = append(*r.faults, Fault{Line: r.row.number, Column: columnNames[c], Code: code, Detail: detail})
}

func (r *rowReader) of(c column) []byte { return r.layout.of(r.fields, c) }

// read fills a row, and says whether all of it can be taken.
func (r *rowReader) read() bool {
	if len(r.fields) != r.layout.width {
		r.bad = true
		*r.faults = append(*r.faults, Fault{Line: r.row.number, Code: "wrong_columns", Detail: "the line has another number of columns than it should"})
		return false
	}
	r.amount()
	r.currency()
	r.brand()
	r.card()
	r.row.order = r.text(columnOrder, maxOrder)
	r.row.comment = r.text(columnComment, maxComment)
	r.text(columnName, maxName) // not kept: the payment has its own
	r.row.payment = r.of(columnPayment)
	if len(r.row.payment) == 0 && len(r.row.order) == 0 {
		r.fault(columnPayment, "required", "name the payment, its capture or the order: a refund without one is not taken")
	}
	switch string(bytes.ToLower(r.of(columnOperation))) {
	case "", "refund", "credit":
	default:
		r.fault(columnOperation, "unsupported_operation", "must be refund")
	}
	r.leak()
	return !r.bad
}

func (r *rowReader) amount() {
	digits := r.of(columnAmount)
	if len(digits) == 0 {
		r.fault(columnAmount, "required", "must be given, in minor units")
		return
	}
	var v int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			r.fault(columnAmount, "not_whole", "must be a whole number of minor units, without sign and point")
			return
		}
		if v = v*10 + int64(c-'0'); v > payment.MaxAmount {
			r.fault(columnAmount, "too_large", "must be at most 999999999999")
			return
		}
	}
	if v == 0 {
		r.fault(columnAmount, "not_positive", "must be above zero")
	}
	r.row.amount.Value = v
}

func (r *rowReader) currency() {
	name := r.of(columnCurrency)
	if len(name) == 0 {
		r.fault(columnCurrency, "required", "must be given")
		return
	}
	var err error
	if r.row.amount.Currency, err = payment.ParseCurrency(name); err != nil {
		r.fault(columnCurrency, "unknown_currency", "must be an ISO 4217 code with a minor unit, such as EUR")
	}
}

func (r *rowReader) brand() {
	name := bytes.ToLower(r.of(columnBrand))
	if len(name) == 0 {
		return
	}
	if r.row.brand = payment.ParseScheme(name); r.row.brand == payment.NoScheme {
		r.fault(columnBrand, "unknown_brand", "must be a scheme's name")
	}
}

// card reads a number, whole or masked. Whichever it is, it only says which
// payment is meant.
func (r *rowReader) card() {
	if expiry := r.of(columnExpiry); len(expiry) > 0 && !allDigits(bytes.Replace(expiry, []byte{'/'}, nil, 1), 4) {
		r.fault(columnExpiry, "invalid_value", "must be four digits")
	}
	number := r.of(columnCard)
	if len(number) == 0 {
		return
	}
	if bytes.ContainsAny(number, "*xX") {
		if len(number) < 12 || len(number) > 19 || !allDigits(number[len(number)-4:], 4) {
			r.fault(columnCard, "invalid_value", "must be a card number, or one masked but for its last four digits")
			return
		}
		r.row.masked = number
		return
	}
	var err error
	if r.row.pan, err = card.ParsePAN(number); err != nil {
		r.fault(columnCard, "invalid_value", "must be 12 to 19 digits with a check digit that holds")
	}
}

// text is a field that is kept or shown: valid UTF-8 without control characters.
func (r *rowReader) text(c column, limit int) []byte {
	b := r.of(c)
	switch {
	case len(b) > limit:
		r.fault(c, "too_long", "is too long")
	case !utf8.Valid(b):
		r.fault(c, "not_utf8", "must be UTF-8")
	case bytes.ContainsFunc(b, func(x rune) bool { return x < 0x20 || x == 0x7F }):
		r.fault(c, "invalid_value", "holds a control character")
	default:
		return b
	}
	return nil
}

// leak refuses a line whose kept texts hold a card number.
func (r *rowReader) leak() {
	for _, kept := range []struct {
		c column
		b []byte
	}{{columnOrder, r.row.order}, {columnComment, r.row.comment}} {
		own := r.row.pan.Present() && bytes.Contains(kept.b, r.row.pan.RevealPAN())
		if own || kept.c == columnComment && card.HoldsNumber(kept.b) {
			r.fault(kept.c, "card_data", "must not contain a card number")
		}
	}
}

func allDigits(b []byte, length int) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == length
}
