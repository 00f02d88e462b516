package api

import (
	"errors"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// The fields of the reversals' bodies.
const (
	fieldReason field = iota
	fieldReversalMerchant
	fieldReversalKey
	fieldReversalReference
	fieldReversalAmount
	fieldReversalValue
	fieldReversalCurrency
)

// reversalByIDSchema is the body of POST /v1/authorizations/{id}/reversals.
// Without an amount it is of all that the payment still holds.
var reversalByIDSchema = []member{
	{"/reason", "reason", text, fieldReason, nil},
	{"/amount", "amount", object, fieldReversalAmount, []member{
		{"/amount/value", "value", number, fieldReversalValue, nil},
		{"/amount/currency", "currency", text, fieldReversalCurrency, nil},
	}},
}

// reversalSchema is the body of POST /v1/reversals.
var reversalSchema = []member{
	{"/merchant", "merchant", text, fieldReversalMerchant, nil},
	{"/idempotency_key", "idempotency_key", text, fieldReversalKey, nil},
	{"/reference", "reference", text, fieldReversalReference, nil},
	{"/reason", "reason", text, fieldReason, nil},
}

// reasons that a gateway may give; the others are the switch's own findings.
var reversalReasons = []string{"customer_cancellation", "timeout", "malfunction", "suspected_fraud"}

// reverseByID is POST /v1/authorizations/{id}/reversals.
func (r *request) reverseByID() {
	c := payment.Cancellation{Gateway: r.gateway.ID()}
	var ok bool
	if c.RequestKey, ok = r.idempotencyKey(); !ok {
		return
	}
	if !r.read(reversalByIDSchema, true) {
		return
	}
	d := &r.document
	c.Reason = d.reversalReason()
	var part payment.Authorization
	if d.is(fieldReversalAmount, object) {
		d.amountOf(&part, fieldReversalValue, fieldReversalCurrency)
	}
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	p, ok := r.own()
	if !ok {
		return
	}
	c.ID, c.Merchant = p.Intent.ID, p.Intent.Merchant
	if (part.Amount.Value > 0 || p.Account.Captured > 0) && r.release(&c, part.Amount) {
		return
	}
	r.cancel(&c)
}

// reverse is POST /v1/reversals: of a payment whose answer the gateway never
// got, named by what the gateway knows.
func (r *request) reverse() {
	c := payment.Cancellation{Gateway: r.gateway.ID()}
	var ok bool
	if c.RequestKey, ok = r.idempotencyKey(); !ok {
		return
	}
	if !r.read(reversalSchema, false) {
		return
	}
	if c.Merchant, ok = r.merchant(fieldReversalMerchant); !ok {
		return
	}
	d := &r.document
	if d.is(fieldReversalMerchant, absent) {
		d.fault("/merchant", "required", "name the merchant")
	}
	c.Key = d.printable(fieldReversalKey, "/idempotency_key", r.server.cfg.KeyBytes, optional)
	c.Reference = d.printable(fieldReversalReference, "/reference", r.server.cfg.ReferenceBytes, optional)
	switch byKey, byReference := !d.is(fieldReversalKey, absent), !d.is(fieldReversalReference, absent); {
	case !byKey && !byReference:
		d.fault("/idempotency_key", "required", "name the payment by idempotency_key or by reference")
	case byKey && byReference:
		d.fault("/reference", "ambiguous", "name the payment by one of idempotency_key and reference")
	}
	c.Reason = d.reversalReason()
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	r.cancel(&c)
}

// reversalReason is the cardholder's change of mind unless another is given.
func (d *document) reversalReason() payment.ReversalReason {
	name := d.oneOf(fieldReason, "/reason", reversalReasons, optional)
	if name == nil {
		return payment.ReversalCustomer
	}
	reason, _ := payment.ParseReversalReason(name)
	return reason
}

// cancel asks the switch and answers.
func (r *request) cancel(c *payment.Cancellation) {
	cancelled, err := r.server.deps.Reverser.Reverse(c)
	if err != nil {
		if errors.Is(err, payment.ErrNotFound) {
			r.problem(notFound("no such authorization"))
			return
		}
		r.refused(err)
		return
	}
	if cancelled.Captured && c.ID.IsZero() {
		r.problem(problem{
			status: fasthttp.StatusUnprocessableEntity, code: "capture_settled", title: "Captured and settled",
			detail: "what was captured of " + cancelled.ID.String() + " was settled at its link's cut-over, or refunds were made of it, and nothing was done: refund its captures", finality: notFinal,
		})
		return
	}
	if cancelled.Captured && r.release(c, payment.Amount{}) {
		return // a capture came between
	}
	if cancelled.Conflict {
		r.problem(problem{
			status: fasthttp.StatusUnprocessableEntity, code: "idempotency_key_reused", title: "Idempotency key used again",
			detail: "this Idempotency-Key was used for another request", finality: notFinal,
		})
		return
	}
	r.out = appendCancelled(r.out, &cancelled)
	r.json(fasthttp.StatusCreated)
}

// appendCancelled writes a reversal. Its status is what it came to when it was
// accepted; where it stands later is in the payment's state and events.
func appendCancelled(dst []byte, c *payment.Cancelled) []byte {
	dst = append(dst, `{"authorization":`...)
	if c.Found {
		dst = append(dst, '"')
		dst = c.ID.Append(dst, payment.AuthorizationPrefix)
		dst = append(dst, '"')
	} else {
		dst = append(dst, `null`...)
	}
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, reversalStatus(c))
	dst = append(dst, `,"state":`...)
	if c.Found {
		dst = appendString(dst, c.State.String())
	} else {
		dst = append(dst, `null`...)
	}
	return append(dst, `,"final":true}`...)
}

func reversalStatus(c *payment.Cancelled) string {
	if !c.Found {
		return "not_found"
	}
	switch c.State {
	case payment.StateReversing, payment.StateException:
		return "pending"
	case payment.StateReversed, payment.StateWrittenOff:
		return "reversed"
	}
	return "not_needed"
}
