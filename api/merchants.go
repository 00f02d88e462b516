package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	json2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"authswitch/card"
	"authswitch/merchant"
	"authswitch/payment"
)

// MerchantState is one version of a merchant. Version 0 stands in the nodes'
// files and was never changed through the API.
type MerchantState struct {
	Document  merchant.Document
	Version   uint64
	ChangedAt payment.Instant
	ChangedBy string
	Reason    string
}

// Merchants are the merchants with their contracts, as the cluster agreed on
// them. Errors are of payment: ErrNotFound, ErrMerchantVersion,
// ErrMerchantLimit, ErrUnavailable, ErrBusy, ErrPending.
type Merchants interface {
	Merchants() ([]MerchantState, error)
	Merchant(id payment.MerchantID) (MerchantState, error)
	Versions(id payment.MerchantID) ([]MerchantState, error)
	// Change makes a document the next version; s.Version is the one it was made
	// from. Faults, when there are any, are why nothing was done.
	Change(s *MerchantState) (MerchantState, []merchant.Fault, error)
}

// Administrators know who may change merchants; "" is nobody.
type Administrators interface {
	Administrator(key []byte) string
}

// merchantBody is what a change sends.
type merchantBody struct {
	merchant.Document
	Reason string `json:"reason"`
}

// contractBody is what a change of one contract sends.
type contractBody struct {
	merchant.ContractConfig
	Reason string `json:"reason"`
}

// maxReason is the longest reason of a change.
const maxReason = 255

// isMerchant says whether administrators may ask the route: those of the nodes'
// files with their keys, and named operators with their credentials.
func (r route) isMerchant() bool { return r >= routeMerchants && r <= routeMerchantContract }

// mayAdminister says whether the request is an administrator's, and answers
// when it is not.
func (r *request) mayAdminister() bool {
	if r.administrator != "" {
		return true
	}
	p := problem{
		status: fasthttp.StatusForbidden, code: "administrators_only", title: "Forbidden",
		detail: "merchants are changed with an administrator's key or an operator's credential",
	}
	r.problem(p)
	return false
}

// mayRead says whether the request may see a merchant: an administrator's may
// see all, a gateway's those that it acts for.
func (r *request) mayRead(id payment.MerchantID) bool {
	return r.administrator != "" || r.gateway != nil && r.gateway.Acts(id)
}

// merchants is GET and POST /v1/merchants.
func (r *request) merchants() {
	if r.ctx.IsPost() {
		r.createMerchant()
		return
	}
	all, err := r.server.deps.Merchants.Merchants()
	if err != nil {
		r.unreadable(err)
		return
	}
	r.out = append(r.out, `{"data":[`...)
	n := 0
	for i := range all {
		if r.mayRead(all[i].Document.ID) {
			r.out = appendMerchant(appendComma(r.out, n), &all[i])
			n++
		}
	}
	r.out = append(r.out, `],"has_more":false,"next":null}`...)
	r.json(fasthttp.StatusOK)
}

func (r *request) createMerchant() {
	var body merchantBody
	if !r.mayAdminister() || !r.decode(&body) || !r.numberless("/id", string(body.ID)) || !r.numberless("/name", body.Name) || !r.reason(body.Reason) {
		return
	}
	now, err := r.server.deps.Merchants.Merchant(body.ID)
	switch {
	case err == nil && !sameDocument(&now.Document, &body.Document):
		r.problem(problem{
			status: fasthttp.StatusConflict, code: "merchant_exists", title: "Merchant exists",
			detail: "change it with PUT and If-Match",
		})
		return
	case err == nil: // asked again
		r.showMerchant(fasthttp.StatusCreated, &now)
		return
	case !errors.Is(err, payment.ErrNotFound):
		r.unreadable(err)
		return
	}
	r.change(fasthttp.StatusCreated, &MerchantState{Document: body.Document, ChangedBy: r.administrator, Reason: body.Reason})
}

// sameDocument compares what would be stored.
func sameDocument(a, b *merchant.Document) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// ownMerchant reads the merchant of the path, if the key may see it.
func (r *request) ownMerchant() (MerchantState, bool) {
	id := payment.MerchantID(r.id)
	if !r.mayRead(id) {
		r.problem(notFound("no such merchant"))
		return MerchantState{}, false
	}
	s, err := r.server.deps.Merchants.Merchant(id)
	switch {
	case errors.Is(err, payment.ErrNotFound):
		r.problem(notFound("no such merchant"))
		return s, false
	case err != nil:
		r.unreadable(err)
		return s, false
	}
	return s, true
}

// merchantByID is GET and PUT /v1/merchants/{id}.
func (r *request) merchantByID() {
	s, ok := r.ownMerchant()
	switch {
	case !ok:
	case r.ctx.IsGet():
		r.showMerchant(fasthttp.StatusOK, &s)
	default:
		r.replaceMerchant(&s)
	}
}

func (r *request) replaceMerchant(s *MerchantState) {
	var body merchantBody
	if !r.mayAdminister() || !r.matches(s) || !r.decode(&body) || !r.numberless("/name", body.Name) || !r.reason(body.Reason) {
		return
	}
	if body.ID == "" {
		body.ID = s.Document.ID
	}
	if body.ID != s.Document.ID {
		r.problem(invalidMerchant([]fault{{"/id", "invalid_value", "is not the path's"}}))
		return
	}
	r.change(fasthttp.StatusOK, &MerchantState{Document: body.Document, Version: s.Version, ChangedBy: r.administrator, Reason: body.Reason})
}

// merchantVersions is GET /v1/merchants/{id}/versions: who made what of it.
func (r *request) merchantVersions() {
	s, ok := r.ownMerchant()
	if !ok {
		return
	}
	all, err := r.server.deps.Merchants.Versions(s.Document.ID)
	if err != nil {
		r.unreadable(err)
		return
	}
	r.out = append(r.out, `{"data":[`...)
	for i := range all {
		r.out = appendMerchant(appendComma(r.out, i), &all[i])
	}
	r.out = append(r.out, `],"has_more":false,"next":null}`...)
	r.json(fasthttp.StatusOK)
}

// merchantContract is GET, PUT and DELETE /v1/merchants/{id}/contracts/{scheme}.
func (r *request) merchantContract() {
	s, ok := r.ownMerchant()
	if !ok {
		return
	}
	scheme, place := payment.ParseScheme(r.below), -1
	for i := range s.Document.Contracts {
		if scheme != payment.NoScheme && payment.ParseScheme([]byte(s.Document.Contracts[i].Scheme)) == scheme {
			place = i
		}
	}
	if scheme == payment.NoScheme || place < 0 && !r.ctx.IsPut() {
		r.problem(notFound("the merchant has no contract for that scheme"))
		return
	}
	if r.ctx.IsGet() {
		r.ctx.Response.Header.Set(fasthttp.HeaderETag, versionTag(s.Version))
		r.out = appendJSON(r.out, &s.Document.Contracts[place])
		r.json(fasthttp.StatusOK)
		return
	}
	r.changeContract(&s, scheme, place)
}

func (r *request) changeContract(s *MerchantState, scheme payment.Scheme, place int) {
	if !r.mayAdminister() || !r.matches(s) {
		return
	}
	next := MerchantState{Document: s.Document, Version: s.Version, ChangedBy: r.administrator}
	contracts := append([]merchant.ContractConfig(nil), s.Document.Contracts...)
	if r.ctx.IsDelete() {
		next.Reason = string(r.ctx.QueryArgs().Peek("reason"))
		if !r.reason(next.Reason) {
			return
		}
		next.Document.Contracts = append(contracts[:place], contracts[place+1:]...)
		r.change(fasthttp.StatusOK, &next)
		return
	}
	var body contractBody
	if !r.decode(&body) || !r.reason(body.Reason) {
		return
	}
	if body.Scheme == "" {
		body.Scheme = scheme.String()
	}
	if payment.ParseScheme([]byte(body.Scheme)) != scheme {
		r.problem(invalidMerchant([]fault{{"/scheme", "invalid_value", "is not the path's"}}))
		return
	}
	next.Reason = body.Reason
	if place < 0 {
		contracts, place = append(contracts, merchant.ContractConfig{}), len(contracts)
	}
	contracts[place] = body.ContractConfig
	next.Document.Contracts = contracts
	r.contractAt = "/contracts/" + strconv.Itoa(place)
	r.change(fasthttp.StatusOK, &next)
}

// matches holds a change to the version that it was made from.
func (r *request) matches(s *MerchantState) bool {
	given := string(r.ctx.Request.Header.Peek(fasthttp.HeaderIfMatch))
	switch {
	case given == "":
		r.problem(problem{
			status: fasthttp.StatusPreconditionRequired, code: "version_required", title: "Precondition required",
			detail: "give the ETag that you read as If-Match: nobody's change is then lost",
		})
	case given != versionTag(s.Version):
		r.otherVersion(s)
	default:
		return true
	}
	return false
}

func (r *request) otherVersion(s *MerchantState) {
	r.ctx.Response.Header.Set(fasthttp.HeaderETag, versionTag(s.Version))
	r.problem(problem{
		status: fasthttp.StatusPreconditionFailed, code: "version_changed", title: "Changed meanwhile",
		detail: "the merchant is at another version: read it again",
	})
}

func versionTag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// change makes a version and answers with it.
func (r *request) change(status int, s *MerchantState) {
	done, faults, err := r.server.deps.Merchants.Change(s)
	switch {
	case len(faults) > 0:
		r.problem(invalidMerchant(r.faultsOf(faults)))
	case errors.Is(err, payment.ErrMerchantVersion) && status == fasthttp.StatusCreated:
		r.problem(problem{status: fasthttp.StatusConflict, code: "merchant_exists", title: "Merchant exists", detail: "change it with PUT and If-Match"})
	case errors.Is(err, payment.ErrMerchantVersion):
		r.otherVersion(s)
	case errors.Is(err, payment.ErrMerchantLimit):
		r.problem(problem{status: fasthttp.StatusConflict, code: "merchant_limit", title: "Too many merchants", detail: "there are as many merchants as there may be"})
	case err != nil:
		r.unreadable(err)
	default:
		r.showMerchant(status, &done)
	}
}

// faultsOf names faults by the body that was sent: of one contract, by its own.
func (r *request) faultsOf(list []merchant.Fault) []fault {
	var all []fault
	for i := range list {
		if len(all) == maxFaults {
			break
		}
		pointer := list[i].Pointer
		if r.contractAt != "" {
			pointer = strings.TrimPrefix(pointer, r.contractAt)
		}
		f := fault{knownPointer(jsontext.Pointer(pointer)), list[i].Code, list[i].Detail}
		if card.HoldsNumber([]byte(f.detail)) { // it quotes what was sent
			f.code, f.detail = "card_data", "must not contain a card number"
		}
		all = append(all, f)
	}
	return all
}

func invalidMerchant(faults []fault) problem {
	return problem{
		status: fasthttp.StatusUnprocessableEntity, code: "invalid_request", title: "Invalid request",
		detail: "fields of the request cannot be accepted; nothing was changed", faults: faults,
	}
}

// reason holds the text that the audit keeps to what can be shown.
func (r *request) reason(text string) bool {
	if len(text) <= maxReason && isPrintable([]byte(text)) {
		return r.numberless("/reason", text)
	}
	r.problem(invalidMerchant([]fault{{"/reason", "invalid_value", "must be printable ASCII, 255 characters at most"}}))
	return false
}

// numberless keeps card numbers out of what is logged and kept for ever.
func (r *request) numberless(pointer, text string) bool {
	if !card.HoldsNumber([]byte(text)) {
		return true
	}
	r.problem(invalidMerchant([]fault{{pointer, "card_data", "must not contain a card number"}}))
	return false
}

// decode reads a body strictly. No card data is in it: reflection may see it.
func (r *request) decode(into any) bool {
	header := &r.ctx.Request.Header
	if !isJSON(header.ContentType()) || len(header.ContentEncoding()) > 0 {
		r.problem(problem{
			status: fasthttp.StatusUnsupportedMediaType, code: "unsupported_media_type", title: "Unsupported media type",
			detail: "the body must be application/json, not compressed",
		})
		return false
	}
	if err := json2.Unmarshal(r.ctx.PostBody(), into, json2.RejectUnknownMembers(true)); err != nil {
		r.problem(wrongJSON(err))
		return false
	}
	return true
}

// wrongJSON says the first thing that is wrong with a body, and where. The names
// are those of the schema, as they are written there, and each stands once: of two
// values of one name encoding/json takes the last, and another reader the first.
func wrongJSON(err error) problem {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok && errors.Is(err, jsontext.ErrDuplicateName) {
		return invalidMerchant([]fault{{knownPointer(syntax.JSONPointer), "duplicate_field", "the field stands here twice"}})
	}
	wrong, ok := errors.AsType[*json2.SemanticError](err)
	switch {
	case !ok:
		return badRequest("malformed_json", "the body is not JSON that this path takes")
	case errors.Is(err, json2.ErrUnknownName):
		return invalidMerchant([]fault{{knownPointer(wrong.JSONPointer), "unknown_field", "no such field here"}})
	case wrong.Err != nil:
		return invalidMerchant([]fault{{knownPointer(wrong.JSONPointer), "invalid_value", "cannot be read as what it is to be"}})
	}
	return invalidMerchant([]fault{{knownPointer(wrong.JSONPointer), "wrong_type", "must be another type than " + kindName(wrong.JSONKind)}})
}

// knownPointer is a pointer up to the first name that may not be echoed, as
// unknownPointer has it: what the caller makes up could be a card number.
func knownPointer(p jsontext.Pointer) (known string) {
	for name := range p.Tokens() {
		longer := unknownPointer(known, []byte(name))
		if _, err := strconv.ParseUint(name, 10, 16); err == nil {
			longer = known + "/" + name // of a list
		}
		if longer == known {
			break
		}
		known = longer
	}
	return known
}

// kindName is how a value's type is called.
func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "bool"
	}
	return k.String()
}

func (r *request) showMerchant(status int, s *MerchantState) {
	r.ctx.Response.Header.Set(fasthttp.HeaderETag, versionTag(s.Version))
	r.out = appendMerchant(r.out, s)
	r.json(status)
}

// appendMerchant writes a document with what the journal says of it.
func appendMerchant(dst []byte, s *MerchantState) []byte {
	d := s.Document
	if d.Contracts == nil {
		d.Contracts = []merchant.ContractConfig{}
	}
	dst = appendJSON(dst, &d)
	dst = append(dst[:len(dst)-1], `,"version":`...)
	dst = strconv.AppendUint(dst, s.Version, 10)
	dst = append(dst, `,"changed_at":`...)
	dst = appendInstant(dst, s.ChangedAt)
	dst = append(dst, `,"changed_by":`...)
	dst = appendName(dst, s.ChangedBy)
	dst = append(dst, `,"reason":`...)
	return append(appendName(dst, s.Reason), '}')
}

// appendJSON writes what has no card data and is not hot.
func appendJSON(dst []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, numbers and lists of them
		return append(dst, `null`...)
	}
	return append(dst, text...)
}
