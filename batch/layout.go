package batch

import (
	"bytes"
	"slices"
	"strconv"
)

// column is what a field of a line is.
type column uint8

const (
	columnAmount column = iota
	columnCurrency
	columnBrand
	columnCard
	columnExpiry
	columnOrder
	columnComment
	columnName
	columnPayment
	columnOperation
	columns
)

// columnNames are the columns as a header names them, in the order in which the
// layout without a header has them: the one that payment platforms use.
var columnNames = [columns]string{"amount", "currency", "brand", "card", "expiry", "order", "comment", "name", "payment", "operation"}

// trailer begins a last line that says how many lines there are, and perhaps
// what their amounts come to: "#end,30000,12345600".
const trailer = "#end"

// layout says where each column stands; -1: nowhere.
type layout struct {
	at    [columns]int
	width int
}

// platform is the layout of ten columns without a header.
func platform() layout {
	l := layout{width: int(columns)}
	for c := range l.at {
		l.at[c] = c
	}
	return l
}

// headed reads a header line. Unknown names are refused: a column that is not
// understood may be the one that matters.
func headed(fields [][]byte) (layout, *Refusal) {
	var l layout
	for c := range l.at {
		l.at[c] = -1
	}
	l.width = len(fields)
	for n, field := range fields {
		c := slices.Index(columnNames[:], string(bytes.ToLower(field)))
		switch {
		case c < 0:
			return l, refuse(CodeHeader, "column "+strconv.Itoa(n+1)+" of the header has none of the names amount, currency, brand, card, expiry, order, comment, name, payment, operation")
		case l.at[c] >= 0:
			return l, refuse(CodeHeader, "the header names "+columnNames[c]+" twice")
		}
		l.at[c] = n
	}
	for _, c := range []column{columnAmount, columnCurrency} {
		if l.at[c] < 0 {
			return l, refuse(CodeHeader, "the header has no column "+columnNames[c])
		}
	}
	if l.at[columnPayment] < 0 && l.at[columnOrder] < 0 {
		return l, refuse(CodeHeader, "the header has neither payment nor order: nothing says what is refunded")
	}
	return l, nil
}

// of is a column of a row, nil where the layout has none.
func (l *layout) of(fields [][]byte, c column) []byte {
	if at := l.at[c]; at >= 0 && at < len(fields) {
		return fields[at]
	}
	return nil
}

// recognize finds the layout by the first line, and says whether that line is a
// header. A first line that holds semicolons is the platform's; it may have a
// header, which must then name its ten columns.
func recognize(first []byte, r *rows) (l layout, header bool, refused *Refusal) {
	if bytes.IndexByte(first, ';') >= 0 {
		r.separator = ';'
	}
	fields, err := r.split(first)
	if err != nil {
		return l, false, refuse(CodeHeader, err.Error())
	}
	if r.separator == ';' && (len(fields[0]) == 0 || fields[0][0] >= '0' && fields[0][0] <= '9' || fields[0][0] == '-') {
		return platform(), false, nil
	}
	l, refused = headed(fields)
	return l, true, refused
}
