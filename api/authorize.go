package api

import (
	"bytes"
	"errors"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// authorize is POST /v1/authorizations: the hot path.
func (r *request) authorize() {
	r.decide(authorizationSchema)
}

// decide reads an authorization in the schema of its endpoint, has it decided,
// and answers.
func (r *request) decide(schema []member) {
	a := &r.authorization
	a.ReceivedAt = r.server.deps.Now()
	var ok bool
	if a.Key, ok = r.idempotencyKey(); !ok || !r.read(schema, false) {
		return
	}
	d := &r.document
	if a.Merchant, ok = r.merchant(fieldMerchant); !ok {
		return
	}
	d.authorization(a, &r.server.cfg, r.gateway, a.ReceivedAt)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	if p := a.Priority(); p > payment.PriorityCustomer && !r.admit(p, true) {
		return
	}
	a.Gateway = r.gateway.ID()
	a.Deadline, a.Here = r.until, r.here
	if r.handed != nil {
		a.Handed = r.handed.link
	}
	if err := r.server.deps.Authorizer.Authorize(a, &r.payment); err != nil {
		r.refused(err)
		return
	}
	r.decided(&r.payment)
}

// decided answers with an outcome.
func (r *request) decided(p *payment.Payment) {
	switch p.Outcome.Status {
	case payment.StatusApproved, payment.StatusPartiallyApproved, payment.StatusDeclined:
		r.out = appendAnswer(r.out, p)
		r.json(fasthttp.StatusCreated)
	case payment.StatusUnknown:
		if p.Intent.Capture.Mode == payment.CaptureNever {
			r.problem(unverified(p))
			return
		}
		r.problem(unknownOutcome(p))
	case payment.StatusCancelled:
		r.problem(cancelled(p.Intent.ID))
	case payment.StatusNotSent:
		r.problem(notSent())
	default:
		r.problem(pending())
	}
}

// refused answers with what the path said, and logs what it should not have.
func (r *request) refused(err error) {
	if e, ok := errors.AsType[*payment.Elsewhere](err); ok {
		r.elsewhere(e)
		return
	}
	p := refused(err)
	if p.status >= fasthttp.StatusInternalServerError && p.code != "no_route" && p.code != "overloaded" && p.code != "security_unavailable" {
		r.log(err)
	}
	r.problem(p)
}

// log names the trace, so that a gateway's complaint finds the line.
func (r *request) log(err error) {
	r.server.deps.Log.Warn("request not served",
		"route", routeNames[r.route], "gateway", string(r.gateway.ID()), "trace_id", traceID(r.ctx), "error", err)
}

// idempotencyKey is the header that names this request for ever.
func (r *request) idempotencyKey() ([]byte, bool) {
	key := r.ctx.Request.Header.Peek("Idempotency-Key")
	p := badRequest("idempotency_key_missing", "give an Idempotency-Key: it makes asking again safe")
	switch {
	case len(key) == 0:
	case len(key) > r.server.cfg.KeyBytes:
		p = badRequest("idempotency_key_invalid", "the Idempotency-Key is too long")
	case !isPrintable(key):
		p = badRequest("idempotency_key_invalid", "the Idempotency-Key must be printable ASCII")
	default:
		return key, true
	}
	p.finality = notFinal
	r.problem(p)
	return nil, false
}

// read reads the body by a schema; maybe allows that there is none.
func (r *request) read(schema []member, maybe bool) bool {
	body := r.ctx.PostBody()
	if maybe && len(body) == 0 {
		r.document.forget()
		return true
	}
	header := &r.ctx.Request.Header
	if !isJSON(header.ContentType()) || len(header.ContentEncoding()) > 0 {
		r.problem(problem{
			status: fasthttp.StatusUnsupportedMediaType, code: "unsupported_media_type", title: "Unsupported media type",
			detail: "the body must be application/json, not compressed", finality: notFinal,
		})
		return false
	}
	r.keep(body)
	if !r.document.read(body, schema) {
		p := badRequest("malformed_json", "the body is not JSON: "+r.document.scan.reason)
		p.finality = notFinal
		r.problem(p)
		return false
	}
	return true
}

// isJSON takes application/json with or without parameters.
func isJSON(contentType []byte) bool {
	media, _, _ := bytes.Cut(contentType, []byte(";"))
	return bytes.EqualFold(bytes.TrimSpace(media), []byte("application/json"))
}

// merchant checks a body's merchant against the key's scope. An absent or
// mistyped one is left to the field checks, which name it.
func (r *request) merchant(f field) (payment.MerchantID, bool) {
	named := r.document.bytes(f)
	if named == nil {
		return "", true
	}
	m, ok := r.gateway.Merchant(named)
	if !ok {
		p := otherMerchant("/merchant")
		p.finality = notFinal
		r.problem(p)
	}
	return m, ok
}

// traceID is the trace of a W3C traceparent, "" when there is none or it is
// malformed.
func traceID(ctx *fasthttp.RequestCtx) string {
	parent := ctx.Request.Header.Peek("Traceparent")
	if len(parent) != 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return ""
	}
	id := parent[3:35]
	zero := true
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
		zero = zero && c == '0'
	}
	if zero {
		return ""
	}
	return string(id)
}
