package clearing

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"authswitch/payment"
)

// The form of a clearing file (docs/clearing.md): comma-separated lines as RFC
// 4180 has them, ended by LF.
//
//	H,authswitch-clearing,1,LINK,BATCH,CLOSED AT
//	D,LINE,KIND,OPERATION,…                        one a capture or refund
//	T,CURRENCY,CAPTURES,AMOUNT,REFUNDS,AMOUNT      one a currency
//	E,LINES
//
// The last line tells a whole file from one that was cut.

// format and its version stand in the first line.
const (
	format  = "authswitch-clearing"
	version = "1"
)

// page is how many lines are read at once.
const page = 1000

type total struct {
	currency          payment.Currency
	captures, refunds int64 // how many
	captured, repaid  int64 // minor units
}

// Render is a closed batch's file.
func Render(batches Batches, records Records, b *payment.ClearingBatch) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	put := func(fields ...string) { _ = w.Write(fields) } // into memory
	put("H", format, version, string(b.Link), strconv.FormatUint(b.Number, 10), stamp(b.ClosedAt))
	var totals []total
	n, last := 0, uint32(0)
	for {
		lines, err := batches.ClearingLines(b.Means, b.Link, b.Number, last, page)
		if err != nil {
			return nil, fmt.Errorf("read clearing lines: %w", err)
		}
		for _, l := range lines {
			o, err := records.Operation(l.Operation)
			if err != nil {
				return nil, fmt.Errorf("read what clearing line %d is: %w", l.Line, err)
			}
			p, err := records.Payment(o.Payment)
			if err != nil {
				return nil, fmt.Errorf("read the payment of clearing line %d: %w", l.Line, err)
			}
			n++
			put(detail(n, &o, &p)...)
			totals = add(totals, &o)
			last = l.Line
		}
		if len(lines) < page {
			break
		}
	}
	if n != int(b.Lines) {
		return nil, fmt.Errorf("batch %d of link %s has %d lines, and %d are there", b.Number, b.Link, b.Lines, n)
	}
	slices.SortFunc(totals, func(x, y total) int { return cmp.Compare(x.currency.String(), y.currency.String()) })
	for _, t := range totals {
		put("T", t.currency.String(), number(t.captures), number(t.captured), number(t.refunds), number(t.repaid))
	}
	put("E", strconv.Itoa(n))
	w.Flush()
	return out.Bytes(), w.Error()
}

// detail is one capture or refund: what it is, whose, how much, and what the
// acquirer knows its authorization by. Never a card number.
func detail(n int, o *payment.Operation, p *payment.Payment) []string {
	i, r := &p.Intent, &p.Outcome.Response
	capture := ""
	if o.Kind == payment.OpRefund && !o.Parent.IsZero() {
		capture = string(o.Parent.Append(nil, payment.OpCapture.Prefix()))
	}
	return []string{
		"D", strconv.Itoa(n), o.Kind.String(), string(o.ID.Append(nil, o.Kind.Prefix())), i.ID.String(), capture,
		string(i.Merchant), i.Terms.Acceptor, i.Terms.Terminal, i.Terms.MCC, i.Terms.Acquirer,
		number(o.Amount.Value), o.Amount.Currency.String(), i.Scheme.String(), string(i.BIN) + "***" + string(i.Last4[:]),
		i.RRN.String(), i.STAN.String(), string(i.Transmitted.Append(nil)), text(r.ApprovalCode[:]), text(r.NetworkID[:]),
		string(i.Local[:]), string(i.Reference), stamp(o.CreatedAt),
	}
}

func add(totals []total, o *payment.Operation) []total {
	at := slices.IndexFunc(totals, func(t total) bool { return t.currency == o.Amount.Currency })
	if at < 0 {
		at = len(totals)
		totals = append(totals, total{currency: o.Amount.Currency})
	}
	t := &totals[at]
	if o.Kind == payment.OpRefund {
		t.refunds, t.repaid = t.refunds+1, t.repaid+o.Amount.Value
	} else {
		t.captures, t.captured = t.captures+1, t.captured+o.Amount.Value
	}
	return totals
}

func number(v int64) string { return strconv.FormatInt(v, 10) }

func text(b []byte) string { return strings.TrimRight(string(b), "\x00 ") }

func stamp(at payment.Instant) string { return time.Unix(0, int64(at)).UTC().Format(time.RFC3339) }
