package api

import (
	"encoding/hex"
	"strconv"
	"time"

	"authswitch/payment"
	"authswitch/query"
)

// appendAnswer writes a network answer: nothing but what intent and outcome
// hold goes into it, so that any node gives the same bytes at any time.
func appendAnswer(dst []byte, p *payment.Payment) []byte {
	dst = append(dst, '{')
	dst = appendDecided(dst, p)
	return append(dst, `,"final":true}`...)
}

// appendDecided writes the members that POST, GET and lists share.
func appendDecided(dst []byte, p *payment.Payment) []byte {
	in, o := &p.Intent, &p.Outcome
	r := &o.Response
	dst = append(dst, `"id":"`...)
	dst = in.ID.Append(dst, payment.AuthorizationPrefix)
	dst = append(dst, `","status":"`...)
	dst = append(dst, status(o.Status)...)
	dst = append(dst, `","amount":`...)
	if o.Status == payment.StatusNone {
		dst = appendAmount(dst, in.Amount)
	} else {
		dst = appendAmount(dst, o.Amount)
	}
	dst = append(dst, `,"response_code":`...)
	dst = appendOptional(dst, trimZero(r.Code[:]))
	dst = append(dst, `,"reason":`...)
	dst = appendName(dst, reason(o))
	dst = append(dst, `,"retry":`...)
	dst = appendName(dst, retry(o))
	dst = append(dst, `,"approval_code":`...)
	dst = appendOptional(dst, trimZero(r.ApprovalCode[:]))
	dst = append(dst, `,"rrn":`...)
	dst = appendOptional(dst, trimZero(in.RRN[:]))
	dst = append(dst, `,"stan":"`...)
	dst = in.STAN.Append(dst)
	dst = append(dst, `","scheme":"`...)
	dst = append(dst, in.Scheme.String()...)
	dst = append(dst, `","link":`...)
	dst = appendString(dst, string(in.Link))
	dst = append(dst, `,"card":{"bin":`...)
	dst = appendOptional(dst, in.BIN)
	dst = append(dst, `,"last4":`...)
	dst = appendOptional(dst, trimZero(in.Last4[:]))
	dst = appendToken(dst, p)
	dst = append(dst, `},"cvv_result":`...)
	dst = appendOptional(dst, trimZero([]byte{r.CVVResult}))
	dst = append(dst, `,"network_transaction_id":`...)
	dst = appendOptional(dst, trimZero(r.NetworkID[:]))
	dst = append(dst, `,"advice_code":`...)
	dst = appendOptional(dst, trimZero(r.AdviceCode[:]))
	dst = append(dst, `,"processing_ms":`...)
	dst = strconv.AppendUint(dst, uint64(o.ProcessingMS), 10)
	if r.Chip != "" { // only answers to a chip have it, and all of those: no new version of the form
		dst = append(dst, `,"emv":"`...)
		dst = hex.AppendEncode(dst, []byte(r.Chip))
		dst = append(dst, '"')
	}
	return dst
}

// status is pending until something is decided.
func status(s payment.Status) string {
	if s == payment.StatusNone {
		return "pending"
	}
	return s.String()
}

// reason explains a decline; an approval needs none.
func reason(o *payment.Outcome) string {
	if o.Status.Approved() {
		return ""
	}
	return o.Response.Verdict.Reason.String()
}

// retry is advice on a decline only.
func retry(o *payment.Outcome) string {
	if o.Status != payment.StatusDeclined {
		return ""
	}
	return o.Response.Verdict.Retry()
}

// appendItem writes a payment as GET shows it: the answer's members, where it
// stands now, and what was put on the wire.
func appendItem(dst []byte, item *query.Item) []byte {
	p := &item.Payment
	dst = append(dst, '{')
	dst = appendDecided(dst, p)
	dst = append(dst, `,"final":`...)
	dst = strconv.AppendBool(dst, p.Outcome.Status != payment.StatusNone && p.Outcome.Status != payment.StatusNotSent)
	dst = append(dst, `,"state":"`...)
	dst = append(dst, p.State.String()...)
	dst = append(dst, `","cause":`...)
	dst = appendName(dst, p.Outcome.Cause.String())
	dst = append(dst, `,"merchant":`...)
	dst = appendString(dst, string(p.Intent.Merchant))
	dst = append(dst, `,"idempotency_key":`...)
	dst = appendText(dst, p.Intent.Key)
	dst = append(dst, `,"reference":`...)
	dst = appendText(dst, p.Intent.Reference)
	dst = append(dst, `,"tags":`...)
	dst = appendTags(dst, p.Intent.Tags)
	dst = append(dst, `,"channel":"`...)
	dst = append(dst, p.Intent.Channel.String()...)
	dst = append(dst, `","capture":"`...)
	dst = append(dst, p.Intent.Capture.Mode.String()...)
	dst = append(dst, `","created_at":`...)
	dst = appendInstant(dst, item.CreatedAt)
	dst = append(dst, `,"attempts":[`...)
	for i := range item.Attempts {
		dst = appendComma(dst, i)
		dst = appendAttempt(dst, &item.Attempts[i])
	}
	dst = append(dst, `],"reversals":[`...)
	for i := range item.Reversals {
		dst = appendComma(dst, i)
		dst = appendReversal(dst, &item.Reversals[i])
	}
	dst = append(dst, ']')
	dst = appendMoney(dst, p)
	dst = appendOperations(dst, item)
	return append(appendLinked(dst, &p.Intent), '}')
}

// appendLinked writes what a payment has to do with others, where it has.
func appendLinked(dst []byte, in *payment.Intent) []byte {
	if !in.Follows.IsZero() {
		dst = appendID(append(dst, `,"retry_of":`...), in.Follows, payment.AuthorizationPrefix)
	}
	if !in.PaymentLink.IsZero() {
		dst = appendID(append(dst, `,"payment_link":`...), in.PaymentLink, payment.LinkPrefix)
	}
	return dst
}

func appendAttempt(dst []byte, a *query.Attempt) []byte {
	dst = append(dst, `{"link":`...)
	dst = appendString(dst, string(a.Link))
	dst = append(dst, `,"stan":"`...)
	dst = a.STAN.Append(dst)
	dst = append(dst, `","rrn":`...)
	dst = appendOptional(dst, trimZero(a.RRN[:]))
	dst = append(dst, `,"transmitted":"`...)
	dst = a.Transmitted.Append(dst)
	dst = append(dst, `","mti":"`...)
	dst = appendMTI(dst, a.MTI)
	dst = append(dst, `","result":`...)
	dst = appendString(dst, a.Result)
	return append(dst, '}')
}

func appendReversal(dst []byte, r *query.Reversal) []byte {
	dst = append(dst, `{"link":`...)
	dst = appendString(dst, string(r.Link))
	dst = append(dst, `,"stan":`...)
	dst = appendSTAN(dst, r.STAN)
	dst = append(dst, `,"transmitted":`...)
	dst = appendTransmitted(dst, r.Transmitted)
	dst = append(dst, `,"tries":`...)
	dst = strconv.AppendUint(dst, uint64(r.Tries), 10)
	dst = append(dst, `,"state":`...)
	dst = appendString(dst, r.State)
	return append(dst, '}')
}

// appendPage writes a list of payments.
func appendPage(dst []byte, p *query.Page) []byte {
	dst = append(dst, `{"data":[`...)
	for i := range p.Items {
		dst = appendComma(dst, i)
		dst = appendItem(dst, &p.Items[i])
	}
	dst = append(dst, `],"has_more":`...)
	dst = strconv.AppendBool(dst, p.More)
	dst = append(dst, `,"next":`...)
	if p.More {
		dst = append(dst, '"')
		dst = p.Next.Append(dst, payment.AuthorizationPrefix)
		dst = append(dst, '"')
	} else {
		dst = append(dst, `null`...)
	}
	return append(dst, '}')
}

func appendComma(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}

func appendAmount(dst []byte, a payment.Amount) []byte {
	dst = append(dst, `{"value":`...)
	dst = strconv.AppendInt(dst, a.Value, 10)
	dst = append(dst, `,"currency":"`...)
	dst = append(dst, a.Currency.String()...)
	return append(dst, `"}`...)
}

func appendSTAN(dst []byte, s payment.STAN) []byte {
	if s == 0 {
		return append(dst, `null`...)
	}
	dst = append(dst, '"')
	return append(s.Append(dst), '"')
}

func appendTransmitted(dst []byte, t payment.Transmitted) []byte {
	if t == 0 {
		return append(dst, `null`...)
	}
	dst = append(dst, '"')
	return append(t.Append(dst), '"')
}

// appendMTI writes the four digits that an intent keeps as BCD nibbles.
func appendMTI(dst []byte, mti uint16) []byte {
	for shift := 12; shift >= 0; shift -= 4 {
		dst = append(dst, '0'+byte(mti>>shift)&0xF)
	}
	return dst
}

// appendInstant writes RFC 3339 in UTC with milliseconds; never is null.
func appendInstant(dst []byte, at payment.Instant) []byte {
	if at == 0 {
		return append(dst, `null`...)
	}
	dst = append(dst, '"')
	dst = time.Unix(0, int64(at)).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, '"')
}

// appendName writes a constant name, null when it is empty.
func appendName(dst []byte, name string) []byte {
	if name == "" {
		return append(dst, `null`...)
	}
	return appendString(dst, name)
}

// appendOptional writes a text, null when it is empty.
func appendOptional(dst, b []byte) []byte {
	if len(b) == 0 {
		return append(dst, `null`...)
	}
	return appendText(dst, b)
}

const hexDigits = "0123456789abcdef"

// appendText writes a string of bytes that came from outside: a gateway or an
// acquirer. Whatever is not printable ASCII is escaped byte for byte, so that
// the answer is always JSON and always the same.
func appendText(dst, b []byte) []byte {
	dst = append(dst, '"')
	for _, c := range b {
		dst = appendByte(dst, c)
	}
	return append(dst, '"')
}

// appendString is appendText of a string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		dst = appendByte(dst, s[i])
	}
	return append(dst, '"')
}

func appendByte(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c >= 0x20 && c < 0x7F:
		return append(dst, c)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
}

func trimZero(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}
