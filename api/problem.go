package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/batch"
	"authswitch/payment"
)

// problem is an RFC 9457 answer: why there is no decision. All texts are
// constant, or of other packages' constants; none is the caller's.
type problem struct {
	status int
	code   string
	title  string
	detail string
	about  payment.ID // the payment, zero when none is meant
	cause  string     // of an unknown outcome
	// responseCode is DE 39 as a terminal should see it, where this side and no
	// acquirer says no: 96, system malfunction.
	responseCode string
	reversal     string // "owed" for ever with an unknown outcome
	faults       []fault
	lines        []batch.Fault // of a file of refunds
	batch        payment.ID    // that is there already
	finality     finality
	retryAfter   time.Duration
}

// finality says whether an answer is its idempotency key's for ever.
type finality uint8

const (
	notAboutPayment finality = iota // no payment is meant: no "final" member
	notFinal                        // nothing is stored: the key may, or must, be asked again
	final                           // stored: the key has this answer for ever
)

const problemType = "urn:authswitch:problem:"

func appendProblem(dst []byte, p *problem) []byte {
	dst = append(dst, `{"type":"`+problemType...)
	dst = append(dst, p.code...)
	dst = append(dst, `","title":`...)
	dst = appendString(dst, p.title)
	dst = append(dst, `,"status":`...)
	dst = strconv.AppendInt(dst, int64(p.status), 10)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, p.code)
	if p.detail != "" {
		dst = append(dst, `,"detail":`...)
		dst = appendString(dst, p.detail)
	}
	if !p.about.IsZero() {
		dst = append(dst, `,"instance":"/v1/authorizations/`...)
		dst = p.about.Append(dst, payment.AuthorizationPrefix)
		dst = append(dst, `","id":"`...)
		dst = p.about.Append(dst, payment.AuthorizationPrefix)
		dst = append(dst, '"')
	}
	if p.cause != "" {
		dst = append(dst, `,"cause":`...)
		dst = appendString(dst, p.cause)
	}
	if p.responseCode != "" {
		dst = append(dst, `,"response_code":`...)
		dst = appendString(dst, p.responseCode)
	}
	if p.reversal != "" {
		dst = append(dst, `,"reversal":`...)
		dst = appendString(dst, p.reversal)
	}
	if len(p.faults) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i := range p.faults {
			dst = appendComma(dst, i)
			dst = appendFault(dst, &p.faults[i])
		}
		dst = append(dst, ']')
	}
	if !p.batch.IsZero() {
		dst = append(dst, `,"batch":`...)
		dst = appendID(dst, p.batch, payment.BatchPrefix)
	}
	if len(p.lines) > 0 {
		dst = append(dst, `,"errors":[`...)
		for i := range p.lines {
			dst = appendComma(dst, i)
			dst = appendLineFault(dst, &p.lines[i])
		}
		dst = append(dst, ']')
	}
	if p.finality != notAboutPayment {
		dst = append(dst, `,"final":`...)
		dst = strconv.AppendBool(dst, p.finality == final)
	}
	return append(dst, '}')
}

func appendFault(dst []byte, f *fault) []byte {
	dst = append(dst, `{"pointer":`...)
	dst = appendString(dst, f.pointer)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, f.code)
	dst = append(dst, `,"detail":`...)
	dst = appendString(dst, f.detail)
	return append(dst, '}')
}

// The problems of this package, each code in one place.

func badRequest(code, detail string) problem {
	return problem{status: fasthttp.StatusBadRequest, code: code, title: "Bad request", detail: detail}
}

func notFound(detail string) problem {
	return problem{status: fasthttp.StatusNotFound, code: "not_found", title: "Not found", detail: detail}
}

func unauthorized() problem {
	return problem{
		status: fasthttp.StatusUnauthorized, code: "unauthorized", title: "Unauthorized",
		detail: "give a valid API key as Authorization: Bearer",
	}
}

// otherMerchant answers alike for a merchant of somebody else and for one that
// does not exist.
func otherMerchant(pointer string) problem {
	p := problem{
		status: fasthttp.StatusForbidden, code: "merchant_not_allowed", title: "Forbidden",
		detail: "this key does not act for the merchant",
	}
	if pointer != "" {
		p.faults = []fault{{pointer, "merchant_not_allowed", "this key does not act for the merchant"}}
	}
	return p
}

func overloaded(detail string) problem {
	return problem{
		status: fasthttp.StatusServiceUnavailable, code: "overloaded", title: "Overloaded", detail: detail,
		finality: notFinal, retryAfter: time.Second,
	}
}

func invalid(faults []fault) problem {
	return problem{
		status: fasthttp.StatusUnprocessableEntity, code: "invalid_request", title: "Invalid request",
		detail: "fields of the request cannot be accepted; nothing was sent", faults: faults, finality: notFinal,
	}
}

func unavailable() problem {
	return problem{
		status: fasthttp.StatusServiceUnavailable, code: "unavailable", title: "Unavailable",
		detail: "this node cannot read its journal now; ask again", retryAfter: time.Second,
	}
}

func pending() problem {
	return problem{
		status: fasthttp.StatusServiceUnavailable, code: "outcome_pending", title: "Outcome pending",
		detail:   "the outcome is not known here yet; repeat the request with the same Idempotency-Key on any node",
		finality: notFinal, retryAfter: time.Second,
	}
}

// unknownOutcome is the answer for ever to a payment whose acquirer never gave
// a usable one.
func unknownOutcome(p *payment.Payment) problem {
	return problem{
		status: fasthttp.StatusGatewayTimeout, code: "acquirer_timeout", title: "Acquirer timeout",
		detail: "the acquirer gave no usable answer in time; the payment is not approved and its reversal is owed",
		about:  p.Intent.ID, cause: p.Outcome.Cause.String(), reversal: "owed", finality: final,
	}
}

func cancelled(id payment.ID) problem {
	return problem{
		status: fasthttp.StatusConflict, code: "reversed", title: "Reversed",
		detail: "the gateway reversed this payment; it is not approved",
		about:  id, finality: final,
	}
}

func notSent() problem {
	return problem{
		status: fasthttp.StatusServiceUnavailable, code: "no_route", title: "No route",
		detail:   "no acquirer could be reached and nothing was sent; the key may be used again",
		finality: notFinal, retryAfter: time.Second,
	}
}

// refused maps what the path said instead of an outcome. An error that is no
// refusal may have come after the intent was durable, so the only honest
// answer is that the outcome is pending.
func refused(err error) problem {
	var r *payment.Refusal
	if !errors.As(err, &r) {
		switch {
		case errors.Is(err, payment.ErrBusy):
			return overloaded("a limit is reached and nothing was sent")
		case errors.Is(err, payment.ErrNotSent):
			return notSent()
		}
		return pending()
	}
	p := problem{code: r.Code, detail: r.Detail, finality: notFinal, retryAfter: r.RetryAfter}
	switch r.Kind {
	case payment.RefusedInvalid:
		p = invalid([]fault{{r.Pointer, r.Code, r.Detail}})
	case payment.RefusedKeyConflict:
		p.status, p.title = fasthttp.StatusUnprocessableEntity, "Idempotency key used again"
	case payment.RefusedRunning:
		p.status, p.title = fasthttp.StatusConflict, "Still running"
	case payment.RefusedNoRoute:
		p.status, p.title = fasthttp.StatusServiceUnavailable, "No route"
	case payment.RefusedOverloaded:
		p.status, p.title = fasthttp.StatusServiceUnavailable, "Overloaded"
	case payment.RefusedSecurity:
		p.status, p.title, p.responseCode = fasthttp.StatusServiceUnavailable, "Security unavailable", "96"
	case payment.RefusedMissing:
		p.status, p.title = fasthttp.StatusNotFound, "Not found"
	case payment.RefusedBarred:
		p.status, p.title, p.finality = fasthttp.StatusConflict, "Reversed", final
	default:
		p = pending()
	}
	if p.retryAfter == 0 && (p.status == fasthttp.StatusServiceUnavailable || p.status == fasthttp.StatusConflict && p.finality != final) {
		p.retryAfter = time.Second
	}
	return p
}
