package api

import (
	"errors"

	"github.com/valyala/fasthttp"

	"authswitch/batch"
)

const (
	fieldTagMerchant field = iota
	fieldTagName
	fieldTagReason
	fieldTagPreview
)

// byTagSchema is the body of POST /v1/refunds/by-tag.
var byTagSchema = []member{
	{"/merchant", "merchant", text, fieldTagMerchant, nil},
	{"/tag", "tag", text, fieldTagName, nil},
	{"/reason", "reason", text, fieldTagReason, nil},
	{"/preview", "preview", boolean, fieldTagPreview, nil},
}

// refundByTag is POST /v1/refunds/by-tag: all that is left of every payment with
// a tag becomes a batch, or is only looked at.
func (r *request) refundByTag() {
	if !r.read(byTagSchema, false) {
		return
	}
	d := &r.document
	x := batch.Tagged{Gateway: r.gateway.ID(), Preview: d.yes(fieldTagPreview)}
	var ok bool
	if x.Merchant, ok = r.merchant(fieldTagMerchant); !ok {
		return
	}
	d.present(fieldTagMerchant, "/merchant", required)
	x.Tag = d.printable(fieldTagName, "/tag", maxTag, required)
	x.Reason = d.words(fieldTagReason, "/reason", r.server.cfg.ReferenceBytes)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	if !x.Preview {
		if x.Key, ok = r.idempotencyKey(); !ok {
			return
		}
	}
	v, err := r.server.deps.Batches.TakeTagged(&x)
	var refused *batch.Refusal
	if errors.As(err, &refused) && refused.Code == batch.CodeDuplicate && string(refused.Batch.Key) == string(x.Key) && len(x.Key) > 0 {
		r.out = appendBatch(r.out, asMade(&refused.Batch)) // the same request
		r.json(fasthttp.StatusCreated)
		return
	}
	switch {
	case err != nil:
		r.batchFailed(err)
	case x.Preview:
		r.out = appendPreview(r.out, &v)
		r.json(fasthttp.StatusOK)
	default:
		r.out = appendBatch(r.out, asMade(&v.Batch))
		r.json(fasthttp.StatusCreated)
	}
}
