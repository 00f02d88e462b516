package api

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
	"authswitch/query"
)

// own reads the payment of the path's id. One that is not the gateway's is not
// found, like one that does not exist.
func (r *request) own() (payment.Payment, bool) {
	id, err := payment.ParseID(string(r.id), payment.AuthorizationPrefix)
	if err != nil {
		r.problem(notFound("no such authorization"))
		return payment.Payment{}, false
	}
	p, err := r.server.deps.Reader.Payment(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && !r.gateway.Acts(p.Intent.Merchant):
		r.problem(notFound("no such authorization"))
		return payment.Payment{}, false
	case err != nil:
		r.unreadable(err)
		return payment.Payment{}, false
	}
	return p, true
}

func (r *request) unreadable(err error) {
	r.log(err)
	r.problem(unavailable())
}

// get is GET /v1/authorizations/{id}.
func (r *request) get() {
	p, ok := r.own()
	if !ok {
		return
	}
	item, err := r.server.deps.Reader.Item(p.Intent.ID)
	if err != nil {
		r.unreadable(err)
		return
	}
	r.out = appendItem(r.out, &item)
	r.json(fasthttp.StatusOK)
}

// list is GET /v1/authorizations: by key, by reference, or page by page.
func (r *request) list() {
	q, ok := r.parameters()
	if !ok {
		return
	}
	var page query.Page
	var err error
	finder := r.server.deps.Finder
	switch {
	case len(q.key) > 0:
		page, err = finder.ByKey(q.merchant, q.key)
	case len(q.reference) > 0:
		page, err = finder.ByReference(q.merchant, q.reference)
	default:
		page, err = finder.List(q.merchant, q.before, q.limit)
	}
	if err != nil {
		r.unreadable(err)
		return
	}
	r.out = appendPage(r.out, &page)
	r.json(fasthttp.StatusOK)
}

// parameters of a list.
type parameters struct {
	merchant  payment.MerchantID
	key       []byte
	reference []byte
	before    payment.ID
	limit     int
}

// parameters reads the query string; an unknown or repeated parameter is
// refused, because ignoring a misspelt filter shows the wrong payments.
func (r *request) parameters() (parameters, bool) {
	q := parameters{limit: r.server.cfg.PageSize}
	var named []byte
	var fault string
	seen := make(map[string]bool, 4)
	for name, v := range r.ctx.QueryArgs().All() {
		if seen[string(name)] {
			fault = "a parameter is given twice"
		}
		seen[string(name)] = true
		var err error
		switch string(name) {
		case "merchant":
			named = v
		case "idempotency_key":
			q.key = v
		case "reference":
			q.reference = v
		case "cursor":
			if q.before, err = payment.ParseID(string(v), payment.AuthorizationPrefix); err != nil {
				fault = "cursor must be the next of a page"
			}
		case "limit":
			if q.limit, err = strconv.Atoi(string(v)); err != nil || q.limit < 1 || q.limit > query.MaxPage {
				fault = "limit must be 1 to " + strconv.Itoa(query.MaxPage)
			}
		default:
			fault = "the parameters are merchant, idempotency_key, reference, limit and cursor"
		}
	}
	switch {
	case fault != "":
	case seen["idempotency_key"] && seen["reference"]:
		fault = "ask by idempotency_key or by reference, not by both"
	case seen["idempotency_key"] && len(q.key) == 0, seen["reference"] && len(q.reference) == 0:
		fault = "idempotency_key and reference must not be empty"
	case (seen["idempotency_key"] || seen["reference"]) && (seen["cursor"] || seen["limit"]):
		fault = "limit and cursor belong to a list without idempotency_key and reference"
	case !seen["merchant"] && len(r.gateway.Merchants()) == 1:
		q.merchant = r.gateway.Merchants()[0]
		return q, true
	case !seen["merchant"]:
		fault = "name the merchant"
	}
	if fault != "" {
		r.problem(badRequest("invalid_parameter", fault))
		return q, false
	}
	var ok bool
	if q.merchant, ok = r.gateway.Merchant(named); !ok {
		r.problem(otherMerchant(""))
	}
	return q, ok
}

// events is GET /v1/payments/{id}/events.
func (r *request) events() {
	p, ok := r.own()
	if !ok {
		return
	}
	history, err := r.server.deps.Reader.History(p.Intent.ID)
	if err != nil {
		r.unreadable(err)
		return
	}
	r.out = append(r.out, `{"data":[`...)
	for i := range history {
		r.out = appendComma(r.out, i)
		r.out = appendEntry(r.out, &history[i])
	}
	r.out = append(r.out, `],"has_more":false,"next":null}`...)
	r.json(fasthttp.StatusOK)
}

// links is GET /v1/links.
func (r *request) links() {
	r.out = append(r.out, `{"data":[`...)
	for i, l := range r.server.deps.Links() {
		r.out = appendComma(r.out, i)
		r.out = appendLink(r.out, &l)
	}
	r.out = append(r.out, `],"has_more":false,"next":null}`...)
	r.json(fasthttp.StatusOK)
}

// whoami is GET /v1/whoami: what a key may act for.
func (r *request) whoami() {
	r.out = append(r.out, `{"gateway":`...)
	r.out = appendString(r.out, string(r.gateway.ID()))
	r.out = append(r.out, `,"merchants":[`...)
	for i, m := range r.gateway.Merchants() {
		r.out = appendComma(r.out, i)
		r.out = appendString(r.out, string(m))
	}
	r.out = append(r.out, `]}`...)
	r.json(fasthttp.StatusOK)
}
