package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/batch"
	"authswitch/card"
	"authswitch/payment"
	"authswitch/query"
)

// Batches takes refund batches and what is done with them. Errors are
// *batch.Refusal where nothing was done.
type Batches interface {
	Take(f *batch.File) (payment.Batch, error)
	TakeTagged(x *batch.Tagged) (batch.Preview, error)
	Act(a *payment.BatchAct) (payment.Batch, error)
}

// BatchReader reads batches and what became of their lines.
type BatchReader interface {
	batch.Outcomes
	Batch(id payment.ID) (payment.Batch, error)
	Batches(m payment.MerchantID, before payment.ID, limit int) ([]payment.Batch, bool, error)
}

// People knows the named operators.
type People interface {
	// Verify says whether a secret is the operator's. payment.ErrBusy: too many
	// are asked about at once, or this one was guessed at too often.
	Verify(name string, secret []byte) (bool, error)
}

// batchPath is where files come in, which are larger than any other body.
const batchPath = "/v1/refund-batches"

// received gives a file of refunds, and nothing else, its own limits; only a
// gateway's key gets them.
func (s *Server) received(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if !bytes.HasPrefix(header.RequestURI(), []byte(batchPath)) {
		return fasthttp.RequestConfig{}
	}
	c := fasthttp.RequestConfig{WriteTimeout: s.cfg.BatchTimeout}
	key, ok := bytes.CutPrefix(header.Peek(fasthttp.HeaderAuthorization), []byte("Bearer "))
	if ok && header.IsPost() && len(key) <= maxAPIKey && s.deps.Gateways.Authenticate(key) != nil {
		c.ReadTimeout, c.MaxRequestBodySize = s.cfg.BatchTimeout, s.cfg.BatchBytes
	}
	return c
}

// matchBatch is the route of a path about refund batches.
func matchBatch(rest []byte, nested bool) (route, []byte) {
	id, below, more := bytes.Cut(rest, []byte("/"))
	switch {
	case !nested:
		return routeBatches, nil
	case !more:
		return routeBatch, id
	}
	switch string(below) {
	case "results":
		return routeBatchResults, id
	case "release":
		return routeBatchRelease, id
	case "cancel":
		return routeBatchCancel, id
	}
	return routeNone, nil
}

// batch is every request about refund batches.
func (r *request) batch(post bool) {
	switch r.route {
	case routeBatches:
		if post {
			r.takeBatch()
		} else {
			r.listBatches()
		}
	case routeBatch:
		if b, ok := r.ownBatch(); ok {
			r.out = appendBatch(r.out, &b)
			r.json(fasthttp.StatusOK)
		}
	case routeBatchResults:
		r.batchResults()
	case routeBatchRelease:
		r.actOnBatch(false)
	case routeBatchCancel:
		r.actOnBatch(true)
	}
}

// isBatch says whether named operators may ask the route, too.
func (r route) isBatch() bool { return r >= routeBatches && r <= routeBatchCancel }

// authenticatePerson finds the operator of a Basic credential.
func (r *request) authenticatePerson(credential []byte) bool {
	var decoded [2 * maxAPIKey]byte
	n := 0
	var err error
	if base64.StdEncoding.DecodedLen(len(credential)) <= len(decoded) {
		n, err = base64.StdEncoding.Decode(decoded[:], credential)
	}
	defer clear(decoded[:])
	name, secret, ok := bytes.Cut(decoded[:n], []byte{':'})
	if err == nil && ok && len(name) > 0 && len(secret) > 0 {
		is, err := r.server.deps.People.Verify(string(name), secret)
		switch {
		case errors.Is(err, payment.ErrBusy):
			r.problem(problem{
				status: fasthttp.StatusTooManyRequests, code: "rate_limited", title: "Too many requests",
				detail: "operators' credentials are checked a few at a time, and rarely after wrong ones", retryAfter: time.Minute,
			})
			return false
		case err != nil:
			r.server.deps.Log.Warn("operator not verified", "error", err)
			r.problem(unavailable())
			return false
		case is:
			r.person = string(name)
			return true
		}
	}
	r.ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Basic")
	p := unauthorized()
	p.detail = "no such operator, or another credential"
	r.problem(p)
	return false
}

// actsFor says whether whoever asks may see a merchant's batches.
func (r *request) actsFor(m payment.MerchantID) bool {
	return r.person != "" || r.gateway.Acts(m)
}

// ownBatch reads the batch of the path.
func (r *request) ownBatch() (payment.Batch, bool) {
	id, err := payment.ParseID(string(r.id), payment.BatchPrefix)
	if err != nil {
		r.problem(notFound("no such batch"))
		return payment.Batch{}, false
	}
	b, err := r.server.deps.BatchReader.Batch(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && !r.actsFor(b.Merchant):
		r.problem(notFound("no such batch"))
	case err != nil:
		r.batchFailed(err)
	default:
		return b, true
	}
	return payment.Batch{}, false
}

// takeBatch is POST /v1/refund-batches: a file.
func (r *request) takeBatch() {
	f := batch.File{Body: r.ctx.PostBody()}
	if !r.fileParameters(&f) {
		return
	}
	header := &r.ctx.Request.Header
	media, _, _ := bytes.Cut(header.ContentType(), []byte(";"))
	switch {
	case !bytes.EqualFold(bytes.TrimSpace(media), []byte("text/csv")) || len(header.ContentEncoding()) > 0:
		r.problem(problem{
			status: fasthttp.StatusUnsupportedMediaType, code: "unsupported_media_type", title: "Unsupported media type",
			detail: "the body must be text/csv, not compressed", finality: notFinal,
		})
		return
	case header.ContentLength() < 0:
		// Read by pieces it would leave copies behind that nobody wipes.
		p := badRequest("length_required", "give a Content-Length: a file of refunds is not taken in chunks")
		p.finality = notFinal
		r.problem(p)
		return
	}
	var ok bool
	if !f.DryRun {
		if f.Key, ok = r.idempotencyKey(); !ok {
			return
		}
	}
	if f.Digest, ok = r.contentDigest(); !ok {
		return
	}
	b, err := r.server.deps.Batches.Take(&f)
	r.batchTaken(&b, err, f.DryRun, f.Key)
}

// batchTaken answers with a batch that was made, or would be.
func (r *request) batchTaken(b *payment.Batch, err error, dry bool, key []byte) {
	var refused *batch.Refusal
	if errors.As(err, &refused) && refused.Code == batch.CodeDuplicate && len(key) > 0 && bytes.Equal(refused.Batch.Key, key) {
		*b, err = refused.Batch, nil // the same request
	}
	switch {
	case err != nil:
		r.batchFailed(err)
	case dry:
		r.out = appendDryRun(r.out, b)
		r.json(fasthttp.StatusOK)
	default:
		r.out = appendBatch(r.out, asMade(b))
		r.json(fasthttp.StatusCreated)
	}
}

// asMade is a batch as it was when it was taken: the answer to its request, for
// ever.
func asMade(b *payment.Batch) *payment.Batch {
	return &payment.Batch{
		ID: b.ID, Merchant: b.Merchant, Gateway: b.Gateway, Name: b.Name, Tag: b.Tag, State: payment.BatchHeld, Needs: b.Needs, Lines: b.Lines, Totals: b.Totals, CreatedAt: b.CreatedAt,
	}
}

// fileParameters reads what the query string says of a file.
func (r *request) fileParameters(f *batch.File) bool {
	fault := ""
	var named []byte
	for name, v := range r.ctx.QueryArgs().All() {
		switch string(name) {
		case "merchant":
			named = bytes.Clone(v)
		case "name":
			if f.Name = bytes.Clone(v); len(v) > maxFileName || !isPrintable(v) || card.HoldsNumber(v) {
				fault = "name must be printable ASCII, 128 characters at most, and no card number"
			}
		case "lines":
			n, err := strconv.Atoi(string(v))
			if err != nil || n < 1 {
				fault = "lines must be the number of lines of refunds"
			}
			f.Lines = n
		case "dry_run":
			if f.DryRun = string(v) == "true"; !f.DryRun && string(v) != "false" {
				fault = "dry_run must be true or false"
			}
		default:
			fault = "the parameters are merchant, name, lines and dry_run"
		}
	}
	if fault != "" {
		p := badRequest("invalid_parameter", fault)
		p.finality = notFinal
		r.problem(p)
		return false
	}
	f.Gateway = r.gateway.ID()
	var ok bool
	f.Merchant, ok = r.merchantNamed(named)
	return ok
}

// maxFileName bounds what a file is called.
const maxFileName = 128

// merchantNamed is the merchant of a parameter, which a key that acts for one
// only may leave out.
func (r *request) merchantNamed(named []byte) (payment.MerchantID, bool) {
	if named == nil && len(r.gateway.Merchants()) == 1 {
		return r.gateway.Merchants()[0], true
	}
	if named == nil {
		p := badRequest("invalid_parameter", "name the merchant")
		p.finality = r.postFinality()
		r.problem(p)
		return "", false
	}
	m, ok := r.gateway.Merchant(named)
	if !ok {
		p := otherMerchant("")
		p.finality = r.postFinality()
		r.problem(p)
	}
	return m, ok
}

// contentDigest is the SHA-256 of RFC 9530's header; nil without one.
func (r *request) contentDigest() ([]byte, bool) {
	header := r.ctx.Request.Header.Peek("Content-Digest")
	if len(header) == 0 {
		return nil, true
	}
	text, ok := bytes.CutPrefix(bytes.TrimSpace(header), []byte("sha-256=:"))
	text, ended := bytes.CutSuffix(text, []byte(":"))
	sum, err := base64.StdEncoding.DecodeString(string(text))
	if !ok || !ended || err != nil || len(sum) != 32 {
		p := badRequest("invalid_digest", "Content-Digest must be sha-256=:…:, in base64 (RFC 9530)")
		p.finality = notFinal
		r.problem(p)
		return nil, false
	}
	return sum, true
}

// listBatches is GET /v1/refund-batches.
func (r *request) listBatches() {
	if r.person != "" {
		r.problem(badRequest("invalid_parameter", "a list is a merchant's: ask with its gateway's key"))
		return
	}
	limit, before, fault := r.server.cfg.PageSize, payment.ID{}, ""
	var named []byte
	for name, v := range r.ctx.QueryArgs().All() {
		var err error
		switch string(name) {
		case "merchant":
			named = bytes.Clone(v)
		case "limit":
			if limit, err = strconv.Atoi(string(v)); err != nil || limit < 1 || limit > query.MaxPage {
				fault = "limit must be 1 to " + strconv.Itoa(query.MaxPage)
			}
		case "cursor":
			if before, err = payment.ParseID(string(v), payment.BatchPrefix); err != nil {
				fault = "cursor must be the next of a page"
			}
		default:
			fault = "the parameters are merchant, limit and cursor"
		}
	}
	if fault != "" {
		r.problem(badRequest("invalid_parameter", fault))
		return
	}
	m, ok := r.merchantNamed(named)
	if !ok {
		return
	}
	list, more, err := r.server.deps.BatchReader.Batches(m, before, limit)
	if err != nil {
		r.batchFailed(err)
		return
	}
	r.out = appendBatchPage(r.out, list, more)
	r.json(fasthttp.StatusOK)
}

// actOnBatch is POST /v1/refund-batches/{id}/release and /cancel. Asked again it
// does nothing more, so it needs no key.
func (r *request) actOnBatch(cancel bool) {
	b, ok := r.ownBatch()
	if !ok {
		return
	}
	a := payment.BatchAct{ID: b.ID, Merchant: b.Merchant, Cancel: cancel, Who: r.person, Operator: r.person != ""}
	if !a.Operator {
		a.Who = string(r.gateway.ID())
	}
	b, err := r.server.deps.Batches.Act(&a)
	r.server.deps.Log.Info("batch", "id", string(r.id), "cancel", cancel, "by", a.Who, "operator", a.Operator, "error", err)
	if err != nil {
		r.batchFailed(err)
		return
	}
	r.out = appendBatch(r.out, &b)
	r.json(fasthttp.StatusOK)
}

// batchResults is GET /v1/refund-batches/{id}/results: a file, written as it is
// read. What fails in the middle ends the connection, so that a part does not
// pass for the whole.
func (r *request) batchResults() {
	b, ok := r.ownBatch()
	if !ok {
		return
	}
	r.streams = true
	r.ctx.SetStatusCode(fasthttp.StatusOK)
	r.ctx.Response.Header.SetContentType("text/csv; charset=utf-8")
	r.ctx.SetBodyStream(batch.NewResults(r.server.deps.BatchReader, &b), -1)
}
