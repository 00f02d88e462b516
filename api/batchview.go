package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/batch"
	"authswitch/payment"
)

// appendBatch writes a batch as it stands.
func appendBatch(dst []byte, b *payment.Batch) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendID(dst, b.ID, payment.BatchPrefix)
	dst = append(dst, `,"merchant":`...)
	dst = appendString(dst, string(b.Merchant))
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, b.State.String())
	dst = append(dst, `,"name":`...)
	dst = appendOptional(dst, b.Name)
	dst = append(dst, `,"tag":`...)
	dst = appendOptional(dst, b.Tag)
	dst = append(dst, ',')
	dst = appendSums(dst, b)
	dst = append(dst, `,"releases":[`...)
	for i := range b.Releases {
		r := &b.Releases[i]
		dst = append(appendComma(dst, i), `{"by":`...)
		dst = appendString(dst, r.Who)
		dst = append(dst, `,"operator":`...)
		dst = strconv.AppendBool(dst, r.Operator)
		dst = append(dst, `,"at":`...)
		dst = append(appendInstant(dst, r.At), '}')
	}
	dst = append(dst, `],"progress":{`...)
	for i, n := range [...]struct {
		name  string
		value uint32
	}{
		{"started", b.Started},
		{"approved", b.Done},
		{"declined", b.Declined},
		{"failed", b.Failed},
		{"refused", b.Refused},
		{"in_doubt", b.InDoubt()},
		{"exceptions", b.Exceptions},
	} {
		dst = appendString(appendComma(dst, i), n.name)
		dst = strconv.AppendUint(append(dst, ':'), uint64(n.value), 10)
	}
	dst = append(dst, `},"created_at":`...)
	dst = appendInstant(dst, b.CreatedAt)
	dst = append(dst, `,"released_at":`...)
	dst = appendMaybe(dst, b.ReleasedAt)
	dst = append(dst, `,"ended_at":`...)
	dst = appendMaybe(dst, b.EndedAt)
	dst = append(dst, `,"cancelled_by":`...)
	dst = appendName(dst, b.CancelledBy)
	return append(dst, '}')
}

// appendSums writes how much a batch is and how many words it needs.
func appendSums(dst []byte, b *payment.Batch) []byte {
	dst = append(dst, `"lines":`...)
	dst = strconv.AppendUint(dst, uint64(b.Lines), 10)
	dst = append(dst, `,"totals":[`...)
	for i, a := range b.Totals {
		dst = appendAmount(appendComma(dst, i), a)
	}
	dst = append(dst, `],"releases_needed":`...)
	return strconv.AppendUint(dst, uint64(b.Needs), 10)
}

// appendMaybe writes a moment, null while it has not come.
func appendMaybe(dst []byte, at payment.Instant) []byte {
	if at == 0 {
		return append(dst, `null`...)
	}
	return appendInstant(dst, at)
}

// appendDryRun writes what a file would come to.
func appendDryRun(dst []byte, b *payment.Batch) []byte {
	dst = append(dst, `{"merchant":`...)
	dst = appendString(dst, string(b.Merchant))
	dst = append(dst, `,"name":`...)
	dst = appendOptional(dst, b.Name)
	dst = append(dst, ',')
	return append(appendSums(dst, b), '}')
}

func appendBatchPage(dst []byte, list []payment.Batch, more bool) []byte {
	dst = append(dst, `{"data":[`...)
	for i := range list {
		dst = appendBatch(appendComma(dst, i), &list[i])
	}
	dst = append(dst, `],"has_more":`...)
	dst = strconv.AppendBool(dst, more)
	dst = append(dst, `,"next":`...)
	if !more || len(list) == 0 {
		return append(dst, `null}`...)
	}
	return append(appendID(dst, list[len(list)-1].ID, payment.BatchPrefix), '}')
}

// appendPreview writes what a mass refund comes to.
func appendPreview(dst []byte, v *batch.Preview) []byte {
	dst = append(dst, `{"payments":`...)
	dst = strconv.AppendInt(dst, int64(v.Payments), 10)
	dst = append(dst, ',')
	dst = appendSums(dst, &v.Batch)
	dst = append(dst, `,"left_out":{"counts":{`...)
	for i, why := range batch.Reasons() {
		dst = appendString(appendComma(dst, i), why)
		dst = strconv.AppendInt(append(dst, ':'), int64(v.Counts[why]), 10)
	}
	dst = append(dst, `},"payments":[`...)
	for i := range v.Left {
		dst = append(appendComma(dst, i), `{"authorization":`...)
		dst = appendID(dst, v.Left[i].Payment, payment.AuthorizationPrefix)
		dst = append(dst, `,"reason":`...)
		dst = append(appendString(dst, v.Left[i].Why), '}')
	}
	return append(dst, `]}}`...)
}

// appendLineFault writes what is wrong with one line of a file.
func appendLineFault(dst []byte, f *batch.Fault) []byte {
	dst = append(dst, `{"line":`...)
	dst = strconv.AppendInt(dst, int64(f.Line), 10)
	dst = append(dst, `,"column":`...)
	dst = appendName(dst, f.Column)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, f.Code)
	dst = append(dst, `,"detail":`...)
	return append(appendString(dst, f.Detail), '}')
}

// batchFailed answers with why nothing was done.
func (r *request) batchFailed(err error) {
	var refused *batch.Refusal
	switch {
	case errors.As(err, &refused):
		r.problem(problemOfBatch(refused))
	case errors.Is(err, payment.ErrBusy):
		p := overloaded("as many files as may be are in work: send it again")
		p.retryAfter = 5 * time.Second
		r.problem(p)
	case errors.Is(err, payment.ErrNotFound):
		r.problem(notFound("no such batch"))
	default:
		r.server.deps.Log.Warn("request about a batch not served", "route", routeNames[r.route], "error", err)
		p := unavailable()
		p.detail = "the journal cannot be asked now; ask the same again, nothing is done twice"
		r.problem(p)
	}
}

func problemOfBatch(f *batch.Refusal) problem {
	p := problem{status: fasthttp.StatusUnprocessableEntity, code: f.Code, title: "Batch refused", detail: f.Detail, lines: f.Faults, batch: f.Batch.ID, finality: notFinal}
	switch f.Code {
	case batch.CodeDuplicate, batch.CodeState, batch.CodeSame:
		p.status = fasthttp.StatusConflict
	case batch.CodeOperators:
		p.status = fasthttp.StatusForbidden
	case batch.CodeUnknown:
		p.status = fasthttp.StatusNotFound
	}
	return p
}
