package api

import (
	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// Corrector takes what is more than a message about a payment: corrections to
// another total, and refunds that name no payment. Durable when it returns; its
// error is a *payment.Refusal where nothing was done.
type Corrector interface {
	Correct(o *payment.Operation, until payment.Instant) (payment.Operation, error)
	Credit(a *payment.Authorization, o *payment.Operation, until payment.Instant) (payment.Operation, error)
}

// correctionSchema is the body of POST /v1/authorizations/{id}/corrections: what
// the payment is to come to, all in all.
var correctionSchema = []member{opAmount, {"/reason", "reason", text, fieldOpReason, nil}}

// verificationSchema is the body of POST /v1/card-verifications.
var verificationSchema = append(without(authorizationSchema, "amount", "capture", "partial_approval", "retry_of", "payment_link"),
	member{"/currency", "currency", text, fieldAmountCurrency, nil})

// without is a schema less some of its members.
func without(schema []member, names ...string) []member {
	var rest []member
	for _, m := range schema {
		keep := true
		for _, name := range names {
			keep = keep && m.name != name
		}
		if keep {
			rest = append(rest, m)
		}
	}
	return rest
}

// currencyOf reads the currency of an account verification; its amount is zero.
func (d *document) currencyOf(a *payment.Authorization) {
	name := d.present(fieldAmountCurrency, "/currency", required)
	if name == nil {
		return
	}
	var err error
	if a.Amount.Currency, err = payment.ParseCurrency(name); err != nil {
		d.fault("/currency", "unknown_currency", "must be an ISO 4217 code with a minor unit, such as EUR")
	}
}

// verifyCard is POST /v1/card-verifications: an authorization of nothing.
func (r *request) verifyCard() {
	r.authorization.Capture = payment.CaptureNever
	r.decide(verificationSchema)
}

// unverified is the answer to a verification that got none.
func unverified(p *payment.Payment) problem {
	return problem{
		status: fasthttp.StatusGatewayTimeout, code: "acquirer_timeout", title: "Acquirer timeout",
		detail: "the acquirer gave no usable answer in time; the account is not verified, and nothing is held",
		about:  p.Intent.ID, cause: p.Outcome.Cause.String(), finality: final,
	}
}

// correct is POST /v1/authorizations/{id}/corrections.
func (r *request) correct() {
	o, ok := r.operation(payment.OpCorrection, correctionSchema, false)
	if !ok {
		return
	}
	d := &r.document
	d.operationAmount(o, required)
	o.Text = d.words(fieldOpReason, "/reason", r.server.cfg.ReferenceBytes)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	p, ok := r.own()
	if !ok {
		return
	}
	if o.Amount.Currency != p.Intent.Amount.Currency {
		r.problem(invalid([]fault{{"/amount/currency", "currency_mismatch", "must be the authorization's currency"}}))
		return
	}
	o.Payment, o.Merchant = p.Intent.ID, p.Intent.Merchant
	done, err := r.server.deps.Corrector.Correct(o, r.deadline())
	if err != nil {
		r.refused(err)
		return
	}
	r.out = appendOperated(r.out, &done, payment.OpCorrection)
	r.json(fasthttp.StatusCreated)
}

// credit is POST /v1/refunds without a capture: merchant and card instead.
func (r *request) credit(o *payment.Operation) {
	a, d := &r.authorization, &r.document
	a.ReceivedAt, a.Key, a.Gateway, a.Channel, a.Here = r.server.deps.Now(), o.Key, r.gateway.ID(), payment.MOTO, r.here
	if r.handed != nil {
		a.Handed = r.handed.link
	}
	var ok bool
	if a.Merchant, ok = r.merchant(fieldOpMerchant); !ok {
		return
	}
	if d.is(fieldOpMerchant, absent) {
		d.fault("/merchant", "required", "name the merchant")
	}
	if d.is(fieldOpAmount, absent) {
		d.fault("/amount", "required", "must be given")
	}
	a.Amount = o.Amount
	a.Reference = d.printable(fieldOpReference, "/reference", r.server.cfg.ReferenceBytes, required)
	if name := d.present(fieldBrand, "/brand", optional); name != nil {
		if a.Brand = payment.ParseScheme(name); a.Brand == payment.NoScheme {
			d.fault("/brand", "invalid_value", "must be a scheme's name")
		}
	}
	d.paidWith(a, a.ReceivedAt)
	d.leak(a)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	o.Merchant = a.Merchant
	done, err := r.server.deps.Corrector.Credit(a, o, r.deadline())
	if err != nil {
		r.refused(err)
		return
	}
	r.out = appendOperated(r.out, &done, payment.OpRefund)
	r.json(fasthttp.StatusCreated)
}

// appendCorrected writes what a correction does about the difference, and what
// does it.
func appendCorrected(dst []byte, o *payment.Operation) []byte {
	if o.Means == payment.MeansPayment {
		dst = append(dst, `,"direction":"charge","charge":`...)
		return appendID(dst, payment.ChargeOf(o.ID), payment.AuthorizationPrefix)
	}
	dst = append(dst, `,"direction":"refund","refunds":[`...)
	for n := range o.Attempt {
		dst = appendComma(dst, int(n))
		dst = appendID(dst, payment.CorrectionRefund(o.ID, n), payment.OpRefund.Prefix())
	}
	return append(dst, ']')
}
