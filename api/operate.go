package api

import (
	"bytes"
	"errors"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// Operator takes captures, refunds, increments, partial reversals and voids; it
// mints their ids. Durable when it returns; its error is a *payment.Refusal
// where nothing was done.
type Operator interface {
	Operate(o *payment.Operation, until payment.Instant) (payment.Operation, error)
}

// The fields of the operations' bodies. The amount's are an authorization's.
const (
	fieldOpAmount field = iota
	fieldOpValue
	fieldOpCurrency
	fieldOpFinal
	fieldOpReason
	fieldOpCapture
)

var opAmount = member{"/amount", "amount", object, fieldOpAmount, []member{
	{"/amount/value", "value", number, fieldOpValue, nil},
	{"/amount/currency", "currency", text, fieldOpCurrency, nil},
}}

// captureSchema is the body of POST /v1/authorizations/{id}/captures.
var captureSchema = []member{opAmount, {"/final", "final", boolean, fieldOpFinal, nil}}

// incrementSchema is the body of POST /v1/authorizations/{id}/increments.
var incrementSchema = []member{opAmount}

// refundSchema is the body of POST /v1/refunds.
var refundSchema = []member{
	{"/capture", "capture", text, fieldOpCapture, nil},
	opAmount,
	{"/reason", "reason", text, fieldOpReason, nil},
	{"/merchant", "merchant", text, fieldOpMerchant, nil},
	{"/reference", "reference", text, fieldOpReference, nil},
	{"/card", "card", object, fieldCard, []member{
		{"/card/number", "number", text, fieldCardNumber, nil},
		{"/card/expiry", "expiry", text, fieldCardExpiry, nil},
		{"/card/token", "token", text, fieldCardToken, nil},
	}},
	{"/brand", "brand", text, fieldBrand, nil},
}

// voidSchema is the body of POST /v1/captures/{id}/reversals.
var voidSchema = []member{{"/reason", "reason", text, fieldOpReason, nil}}

// operation starts an operation from a request whose body may be absent where
// all that is left is meant.
func (r *request) operation(k payment.OperationKind, schema []member, maybe bool) (*payment.Operation, bool) {
	o := &payment.Operation{Kind: k, Gateway: r.gateway.ID(), Reason: payment.ReversalCustomer}
	var ok bool
	if o.Key, ok = r.idempotencyKey(); !ok || !r.read(schema, maybe) {
		return nil, false
	}
	return o, true
}

// operationAmount reads an amount; one that is left out is all that remains.
func (d *document) operationAmount(o *payment.Operation, r requirement) {
	if !d.is(fieldOpAmount, object) {
		d.present(fieldOpAmount, "/amount", r)
		return
	}
	var a payment.Authorization
	d.amountOf(&a, fieldOpValue, fieldOpCurrency)
	o.Amount = a.Amount
}

// capture is POST /v1/authorizations/{id}/captures.
func (r *request) capture() {
	o, ok := r.operation(payment.OpCapture, captureSchema, true)
	if !ok {
		return
	}
	r.document.operationAmount(o, optional)
	o.Last = r.document.yes(fieldOpFinal)
	r.operateOnOwn(o)
}

// increment is POST /v1/authorizations/{id}/increments.
func (r *request) increment() {
	o, ok := r.operation(payment.OpIncrement, incrementSchema, false)
	if !ok {
		return
	}
	r.document.operationAmount(o, required)
	r.operateOnOwn(o)
}

// operateOnOwn asks for an operation on the payment of the path.
func (r *request) operateOnOwn(o *payment.Operation) {
	if d := &r.document; d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	p, ok := r.own()
	if !ok {
		return
	}
	o.Payment, o.Merchant = p.Intent.ID, p.Intent.Merchant
	r.operate(o)
}

// refund is POST /v1/refunds.
func (r *request) refund() {
	o, ok := r.operation(payment.OpRefund, refundSchema, false)
	if !ok {
		return
	}
	d := &r.document
	d.operationAmount(o, optional)
	o.Text = d.words(fieldOpReason, "/reason", r.server.cfg.ReferenceBytes)
	if d.is(fieldOpCapture, absent) && !d.is(fieldCard, absent) {
		r.credit(o)
		return
	}
	for _, other := range [...]struct {
		field   field
		pointer string
	}{{fieldOpMerchant, "/merchant"}, {fieldOpReference, "/reference"}, {fieldCard, "/card"}, {fieldBrand, "/brand"}} {
		if !d.is(other.field, absent) {
			d.fault(other.pointer, "ambiguous", "the refund of a capture goes to its card: give capture, or merchant and card")
		}
	}
	named := d.present(fieldOpCapture, "/capture", required)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	capture, ok := r.readOperation(named, payment.OpCapture)
	if !ok {
		r.problem(invalid([]fault{{"/capture", "not_found", "no such capture"}}))
		return
	}
	o.Parent, o.Merchant = capture.ID, capture.Merchant
	r.operate(o)
}

// void is POST /v1/captures/{id}/reversals: what it does depends on how far the
// capture has come, and its answer says so.
func (r *request) void() {
	o, ok := r.operation(payment.OpVoid, voidSchema, true)
	if !ok {
		return
	}
	d := &r.document
	o.Text = d.words(fieldOpReason, "/reason", r.server.cfg.ReferenceBytes)
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	capture, ok := r.readOperation(r.id, payment.OpCapture)
	if !ok {
		r.problem(notFound("no such capture"))
		return
	}
	o.Parent, o.Merchant = capture.ID, capture.Merchant
	r.operate(o)
}

// release is a reversal of a part: POST /v1/authorizations/{id}/reversals with
// an amount, or of something that is captured in part. It says false where the
// part is the whole.
func (r *request) release(c *payment.Cancellation, amount payment.Amount) bool {
	o := payment.Operation{
		Kind: payment.OpRelease, Gateway: c.Gateway, Key: c.RequestKey, Payment: c.ID, Merchant: c.Merchant, Reason: payment.ReversalPartial, Amount: amount,
	}
	done, err := r.server.deps.Operator.Operate(&o, r.deadline())
	var refusal *payment.Refusal
	if errors.As(err, &refusal) && refusal.Kind == payment.RefusedWholeRelease {
		return false
	}
	if err != nil {
		r.refused(err)
		return true
	}
	r.out = appendReleased(r.out, &done)
	r.json(fasthttp.StatusCreated)
	return true
}

// deadline is when the gateway's budget is over.
func (r *request) deadline() payment.Instant { return r.until }

// operate asks the switch and answers.
func (r *request) operate(o *payment.Operation) {
	asked := o.Kind
	done, err := r.server.deps.Operator.Operate(o, r.deadline())
	if err != nil {
		r.refused(err)
		return
	}
	r.out = appendOperated(r.out, &done, asked)
	r.json(fasthttp.StatusCreated)
}

// readOperation reads an operation of one kind that is the gateway's.
func (r *request) readOperation(text []byte, k payment.OperationKind) (payment.Operation, bool) {
	id, err := payment.ParseID(string(text), k.Prefix())
	if err != nil {
		return payment.Operation{}, false
	}
	o, err := r.server.deps.Reader.Operation(id)
	if err != nil || o.Kind != k || !r.gateway.Acts(o.Merchant) {
		return payment.Operation{}, false
	}
	return o, true
}

// getOperation is GET /v1/captures/{id} and GET /v1/refunds/{id}.
func (r *request) getOperation(k payment.OperationKind) {
	id, err := payment.ParseID(string(r.id), k.Prefix())
	if err != nil {
		r.problem(notFound("no such " + k.String()))
		return
	}
	o, err := r.server.deps.Reader.Operation(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && (o.Kind != k || !r.gateway.Acts(o.Merchant)):
		r.problem(notFound("no such " + k.String()))
		return
	case err != nil:
		r.unreadable(err)
		return
	}
	r.out = appendOperationRecord(r.out, &o)
	r.json(fasthttp.StatusOK)
}

// matchOperation is the route of a path about an operation.
func matchOperation(resource, rest []byte, nested bool) (route, []byte) {
	id, below, more := bytes.Cut(rest, []byte("/"))
	switch string(resource) {
	case "captures":
		switch {
		case nested && !more:
			return routeCapture, id
		case nested && string(below) == "reversals":
			return routeCaptureReversals, id
		}
	case "corrections":
		if nested && !more {
			return routeCorrection, id
		}
	case "refunds":
		switch {
		case !nested:
			return routeRefunds, nil
		case !more && string(id) == "by-tag":
			return routeRefundsByTag, nil
		case !more:
			return routeRefund, id
		}
	}
	return routeNone, nil
}
