package api

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/card"
	"authswitch/merchant"
	"authswitch/payment"
)

// route is one path of the API, as metrics name it.
type route uint8

const (
	routeNone route = iota // no such path, or refused before one was read
	routeAuthorizations
	routeAuthorization
	routeAuthorizationReversals
	routeReversals
	routeEvents
	routeLinks
	routeWhoami
	routeCaptures
	routeIncrements
	routeCapture
	routeCaptureReversals
	routeRefunds
	routeRefund
	routeCard
	routeVerifications
	routeCorrections
	routeCorrection
	routeMerchants
	routeMerchant
	routeMerchantVersions
	routeMerchantContract
	routeRefundsByTag
	routeBatches
	routeBatch
	routeBatchResults
	routeBatchRelease
	routeBatchCancel
	routePaymentLinks
	routePaymentLink
	routes
)

var routeNames = [routes]string{
	"none", "/v1/authorizations", "/v1/authorizations/{id}", "/v1/authorizations/{id}/reversals",
	"/v1/reversals", "/v1/payments/{id}/events", "/v1/links", "/v1/whoami",
	"/v1/authorizations/{id}/captures", "/v1/authorizations/{id}/increments", "/v1/captures/{id}", "/v1/captures/{id}/reversals",
	"/v1/refunds", "/v1/refunds/{id}", "/v1/cards/{token}", "/v1/card-verifications", "/v1/authorizations/{id}/corrections", "/v1/corrections/{id}",
	"/v1/merchants", "/v1/merchants/{id}", "/v1/merchants/{id}/versions", "/v1/merchants/{id}/contracts/{scheme}",
	"/v1/refunds/by-tag", "/v1/refund-batches", "/v1/refund-batches/{id}", "/v1/refund-batches/{id}/results", "/v1/refund-batches/{id}/release", "/v1/refund-batches/{id}/cancel",
	"/v1/payment-links", "/v1/payment-links/{id}",
}

// allowed are a path's methods, for 405.
var allowed = [routes]string{
	"", "GET, POST", "GET", "POST", "POST", "GET", "GET", "GET", "POST", "POST", "GET", "POST", "POST", "GET", "DELETE, GET, PATCH", "POST", "POST", "GET",
	"GET, POST", "GET, PUT", "GET", "DELETE, GET, PUT",
	"POST", "GET, POST", "GET", "GET", "POST", "POST",
	"POST", "DELETE, GET",
}

// request is one request in work; it is pooled, and wiped in between.
type request struct {
	server  *Server
	ctx     *fasthttp.RequestCtx
	gateway *merchant.Gateway
	id      []byte // of the path
	below   []byte // of the path, behind what is below the id
	route   route
	came    payment.Instant
	person  string // the named operator who asks, instead of a gateway
	streams bool   // the answer's body is read while it is sent

	until  payment.Instant  // when the gateway's budget is over
	handed *handed          // another node's gateway asks; nil: one of this node's
	handTo payment.LinkName // another node has it up
	here   bool             // no other node took the request
	kept   []byte           // the body as it came, where reading it changes it
	raw    []byte           // the request as it is handed on

	administrator string // who asks about merchants, where that is no gateway
	contractAt    string // of the one contract that the body is about

	document      document
	authorization payment.Authorization
	payment       payment.Payment
	out           []byte
}

// handle serves one request from start to end.
func (s *Server) handle(ctx *fasthttp.RequestCtx) { s.answer(ctx, nil, s.cfg.Budget) }

// answer serves a request of this door's, or one that another node handed here,
// within what is left of its gateway's budget.
func (s *Server) answer(ctx *fasthttp.RequestCtx, h *handed, within time.Duration) {
	start := s.deps.Now()
	r := s.requests.Get().(*request)
	r.ctx, r.handed = ctx, h
	r.until = start + payment.Instant(min(within, s.cfg.Budget))
	r.out = r.out[:0]
	r.came = start
	s.inWork.Add(1)
	r.serve()
	if r.handTo != "" {
		r.handOver()
	}
	s.inWork.Add(-1)
	if s.closing.Load() {
		ctx.SetConnectionClose()
	}
	if !r.streams {
		ctx.Response.SetBody(r.out)
	}
	s.metrics.count(r.route, ctx.Response.StatusCode(), s.deps.Now()-start)

	// The body held card data; its memory is fasthttp's to use again.
	clear(ctx.PostBody())
	r.document.forget()
	r.authorization.Wipe()
	r.forgetHanded()
	card.ClearRegisters()
	r.payment = payment.Payment{}
	r.ctx, r.gateway, r.id, r.below, r.route = nil, nil, nil, nil, routeNone
	r.administrator, r.contractAt = "", ""
	r.person, r.streams = "", false
	if cap(r.out) > maxKept {
		r.out = nil
	}
	s.requests.Put(r)
}

// maxKept bounds the buffer that goes back to the pool: a page of a thousand
// payments is a megabyte, an answer half a kilobyte.
const maxKept = 64 << 10

// serve finds the route, checks who asks, and asks it.
func (r *request) serve() {
	ctx := r.ctx
	r.route, r.id, r.below = match(ctx.Path())
	if r.route == routeNone {
		r.problem(notFound("no such path"))
		return
	}
	post := ctx.IsPost()
	if !takes(allowed[r.route], ctx.Method()) {
		ctx.Response.Header.Set(fasthttp.HeaderAllow, allowed[r.route])
		r.problem(problem{
			status: fasthttp.StatusMethodNotAllowed, code: "method_not_allowed", title: "Method not allowed",
			detail: "this path takes " + allowed[r.route],
		})
		return
	}
	// Before the key is hashed: what is refused must be cheap, or refusing is what
	// the node does.
	if r.admit(r.asks(post)) && r.authenticate() {
		r.ask(post)
	}
}

// ask asks the route.
func (r *request) ask(post bool) {
	if len(r.ctx.URI().QueryString()) > 0 && !r.takesParameters(post) {
		r.problem(badRequest("invalid_parameter", "this path has no such parameters"))
		return
	}
	switch r.route {
	case routeAuthorizations:
		if post {
			r.authorize()
		} else {
			r.list()
		}
	case routeAuthorization:
		r.get()
	case routeAuthorizationReversals:
		r.reverseByID()
	case routeReversals:
		r.reverse()
	case routeEvents:
		r.events()
	case routeLinks:
		r.links()
	case routeWhoami:
		r.whoami()
	case routeCaptures:
		r.capture()
	case routeIncrements:
		r.increment()
	case routeCapture:
		r.getOperation(payment.OpCapture)
	case routeCaptureReversals:
		r.void()
	case routeRefunds:
		r.refund()
	case routeCard:
		r.card()
	case routeRefund:
		r.getOperation(payment.OpRefund)
	case routeVerifications:
		r.verifyCard()
	case routeCorrections:
		r.correct()
	case routeCorrection:
		r.getOperation(payment.OpCorrection)
	default:
		r.serveResource(post)
	}
}

// takesParameters says whether the route reads its query string, and then refuses
// itself what it does not know. A parameter that is only ignored was meant to do
// something.
func (r *request) takesParameters(post bool) bool {
	switch r.route {
	case routeAuthorizations:
		return !post
	case routeBatches:
		return true
	case routeMerchantContract:
		args := r.ctx.QueryArgs()
		return r.ctx.IsDelete() && args.Len() == 1 && args.Has("reason")
	}
	return false
}

// serveResource asks the routes that are about no payment of the path.
func (r *request) serveResource(post bool) {
	switch r.route {
	case routeMerchants:
		r.merchants()
	case routeMerchant:
		r.merchantByID()
	case routeMerchantVersions:
		r.merchantVersions()
	case routeMerchantContract:
		r.merchantContract()
	case routeRefundsByTag:
		r.refundByTag()
	case routeBatches, routeBatch, routeBatchResults, routeBatchRelease, routeBatchCancel:
		r.batch(post)
	case routePaymentLinks:
		r.makePaymentLink()
	case routePaymentLink:
		r.paymentLink()
	}
}

// takes says whether a list of methods has one.
func takes(methods string, method []byte) bool {
	for methods != "" {
		name, rest, _ := strings.Cut(methods, ", ")
		if name == string(method) {
			return true
		}
		methods = rest
	}
	return false
}

// match is the route of a path and the ids in it.
func match(path []byte) (r route, id, second []byte) {
	if rest, ok := bytes.CutPrefix(path, []byte("/v1/merchants")); ok {
		return matchMerchant(rest)
	}
	r, id = matchPayment(path)
	return r, id, nil
}

// matchMerchant is match of what stands behind /v1/merchants.
func matchMerchant(rest []byte) (r route, id, second []byte) {
	if len(rest) == 0 {
		return routeMerchants, nil, nil
	}
	if rest[0] != '/' || len(rest) == 1 {
		return routeNone, nil, nil
	}
	id, below, nested := bytes.Cut(rest[1:], []byte("/"))
	scheme, one := bytes.CutPrefix(below, []byte("contracts/"))
	switch {
	case !nested:
		return routeMerchant, id, nil
	case string(below) == "versions":
		return routeMerchantVersions, id, nil
	case one && len(scheme) > 0 && !bytes.Contains(scheme, []byte("/")):
		return routeMerchantContract, id, scheme
	}
	return routeNone, nil, nil
}

func matchPayment(path []byte) (route, []byte) {
	rest, ok := bytes.CutPrefix(path, []byte("/v1/"))
	if !ok {
		return routeNone, nil
	}
	resource, rest, nested := bytes.Cut(rest, []byte("/"))
	switch string(resource) {
	case "authorizations":
		if !nested {
			return routeAuthorizations, nil
		}
		id, below, more := bytes.Cut(rest, []byte("/"))
		if !more {
			return routeAuthorization, id
		}
		switch string(below) {
		case "reversals":
			return routeAuthorizationReversals, id
		case "captures":
			return routeCaptures, id
		case "increments":
			return routeIncrements, id
		case "corrections":
			return routeCorrections, id
		}
	case "payments":
		if id, below, _ := bytes.Cut(rest, []byte("/")); string(below) == "events" {
			return routeEvents, id
		}
	case "reversals":
		if !nested {
			return routeReversals, nil
		}
	case "links":
		if !nested {
			return routeLinks, nil
		}
	case "cards":
		if token, _, more := bytes.Cut(rest, []byte("/")); nested && !more {
			return routeCard, token
		}
	case "card-verifications":
		if !nested {
			return routeVerifications, nil
		}
	case "captures", "refunds", "corrections":
		return matchOperation(resource, rest, nested)
	case "refund-batches":
		return matchBatch(rest, nested)
	case "payment-links":
		if !nested {
			return routePaymentLinks, nil
		}
		if id, _, more := bytes.Cut(rest, []byte("/")); !more {
			return routePaymentLink, id
		}
	case "whoami":
		if !nested {
			return routeWhoami, nil
		}
	}
	return routeNone, nil
}

// authenticate finds the gateway and takes the request out of its rate.
func (r *request) authenticate() bool {
	header := r.ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)
	if basic, ok := bytes.CutPrefix(header, []byte("Basic ")); ok && r.route.isBatch() && !(r.route == routeBatches && r.ctx.IsPost()) {
		return r.authenticatePerson(basic)
	} else if ok && r.route.isMerchant() {
		ok = r.authenticatePerson(basic)
		r.administrator = r.person
		return ok
	}
	key, ok := bytes.CutPrefix(header, []byte("Bearer "))
	if ok && len(key) > 0 && len(key) <= maxAPIKey {
		r.gateway = r.server.deps.Gateways.Authenticate(key)
		if r.gateway == nil && r.route.isMerchant() {
			r.administrator = r.server.deps.Administrators.Administrator(key)
		}
	}
	if r.administrator != "" {
		return true
	}
	if r.gateway == nil {
		r.ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
		r.problem(unauthorized())
		return false
	}
	if r.handed != nil {
		return true // its rate was judged where it came in
	}
	wait, ok := r.gateway.Allow()
	if !ok {
		r.problem(problem{
			status: fasthttp.StatusTooManyRequests, code: "rate_limited", title: "Too many requests",
			detail: "the key's rate is used up; nothing was sent", finality: r.postFinality(), retryAfter: wait,
		})
	}
	return ok
}

// postFinality marks a refusal of a request that was about a payment.
func (r *request) postFinality() finality {
	if r.ctx.IsPost() && r.route != routeMerchants {
		return notFinal
	}
	return notAboutPayment
}

// json answers with what out holds.
func (r *request) json(status int) {
	r.ctx.SetStatusCode(status)
	r.ctx.Response.Header.SetContentType("application/json")
}

// problem answers with a problem.
func (r *request) problem(p problem) {
	r.out = appendProblem(r.out[:0], &p)
	setProblem(r.ctx, &p)
}

func setProblem(ctx *fasthttp.RequestCtx, p *problem) {
	ctx.SetStatusCode(p.status)
	ctx.Response.Header.SetContentType("application/problem+json")
	if p.retryAfter > 0 {
		seconds := (p.retryAfter + time.Second - 1) / time.Second
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.FormatInt(int64(seconds), 10))
	}
}

// refuseUnread answers a request that could not be read: too large, too slow,
// or not HTTP. The connection closes after it. What did arrive of the body is
// already back in fasthttp's pool, out of our reach: it is overwritten by the
// next body there, not wiped.
func (s *Server) refuseUnread(ctx *fasthttp.RequestCtx, err error) {
	p := badRequest("malformed_request", "this is not an HTTP request")
	var small *fasthttp.ErrSmallBuffer
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		p = problem{
			status: fasthttp.StatusRequestEntityTooLarge, code: "body_too_large", title: "Body too large",
			detail: "the body is over the limit",
		}
	case errors.As(err, &small):
		p = problem{
			status: fasthttp.StatusRequestHeaderFieldsTooLarge, code: "header_too_large", title: "Header too large",
			detail: "request line and header are over the limit",
		}
	case errors.As(err, &timeout) && timeout.Timeout():
		p = problem{
			status: fasthttp.StatusRequestTimeout, code: "request_timeout", title: "Request timeout",
			detail: "the request did not arrive in time",
		}
	}
	setProblem(ctx, &p)
	ctx.Response.SetBody(appendProblem(nil, &p))
	s.metrics.count(routeNone, p.status, 0)
}
