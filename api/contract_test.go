package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"authswitch/payment"
)

// contract holds answers to openapi.yaml.
type contract struct {
	spec   *openapi3.T
	router routers.Router
}

// readContract reads openapi.yaml once; it is not changed after.
var readContract = sync.OnceValues(func() (*contract, error) {
	spec, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := spec.Validate(context.Background()); err != nil {
		return nil, err
	}
	spec.Servers = nil // the router would hold the host to them
	router, err := legacy.NewRouter(spec)
	if err != nil {
		return nil, err
	}
	return &contract{spec, router}, nil
})

func openContract(t testing.TB) *contract {
	t.Helper()
	c, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hold fails when an answer is not what the specification promises.
func (c *contract) hold(t testing.TB, request *http.Request, response *http.Response, body []byte) {
	t.Helper()
	if err := c.check(request, response, body); err != nil {
		t.Errorf("%s %s: %d %s\nbreaks openapi.yaml: %v", request.Method, request.URL, response.StatusCode, body, err)
	}
}

// check is what is wrong with an answer. Answers on paths or methods that the
// specification does not know are held to the problem's schema.
func (c *contract) check(request *http.Request, response *http.Response, body []byte) error {
	route, parameters, err := c.router.FindRoute(request)
	var unknown *routers.RouteError
	// The specification's router takes a trailing slash for none; we do not.
	slash := strings.HasSuffix(request.URL.Path, "/")
	if (slash || errors.As(err, &unknown)) && (response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed) {
		return c.checkProblem(response, body)
	}
	if err != nil {
		return err
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(context.Background(), input)
}

// checkRequest is what is wrong with a body that was taken: the specification
// must not promise less than the door does.
func (c *contract) checkRequest(body string) error {
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		return err
	}
	return c.spec.Components.Schemas["AuthorizationRequest"].Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.VisitAsRequest())
}

func (c *contract) checkProblem(response *http.Response, body []byte) error {
	if got := response.Header.Get("Content-Type"); got != problemMedia {
		return errors.New("content type " + got)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return c.spec.Components.Schemas["Problem"].Value.VisitJSON(value, openapi3.EnableJSONSchema2020())
}

// TestContractNotices: a contract that takes anything would hold nothing.
func TestContractNotices(t *testing.T) {
	c := openContract(t)
	p := testPayment(nil)
	good := string(appendAnswer(nil, &p))
	unknown := unknownOutcome(&p)
	timeout := string(appendProblem(nil, &unknown))
	for _, k := range []struct {
		name, path string
		status     int
		media      string
		body       string
		holds      bool
	}{
		{"as it is", "/v1/authorizations", 201, "application/json", good, true},
		{"one member more", "/v1/authorizations", 201, "application/json", strings.Replace(good, `"final"`, `"x":1,"final"`, 1), false},
		{"one member less", "/v1/authorizations", 201, "application/json", strings.Replace(good, `"stan":"000017",`, ``, 1), false},
		{"another status", "/v1/authorizations", 201, "application/json", strings.Replace(good, `"approved"`, `"unknown"`, 1), false},
		{"not final", "/v1/authorizations", 201, "application/json", strings.Replace(good, `true}`, `false}`, 1), false},
		{"another type", "/v1/authorizations", 201, "application/json", strings.Replace(good, `1051`, `"1051"`, 1), false},
		{"another media type", "/v1/authorizations", 201, "text/plain", good, false},
		{"a status it does not have", "/v1/authorizations", 202, "application/json", good, false},
		{"a timeout", "/v1/authorizations", 504, problemMedia, timeout, true},
		{"a timeout without its reversal", "/v1/authorizations", 504, problemMedia, strings.Replace(timeout, `"reversal":"owed",`, ``, 1), false},
		{"a problem without finality", "/v1/authorizations", 422, problemMedia, `{"type":"urn:authswitch:problem:x","title":"X","status":422,"code":"x"}`, false},
		{"no such path", "/v1/nowhere", 404, problemMedia, `{"type":"urn:authswitch:problem:x","title":"X","status":404,"code":"x"}`, true},
		{"no such path, no problem", "/v1/nowhere", 404, problemMedia, `{}`, false},
		{"no such path, served", "/v1/nowhere", 200, problemMedia, `{}`, false},
	} {
		request, err := http.NewRequest(http.MethodPost, "http://door"+k.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response := &http.Response{StatusCode: k.status, Header: http.Header{"Content-Type": {k.media}}}
		if err := c.check(request, response, []byte(k.body)); (err == nil) != k.holds {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// TestFieldCodesAreDocumented: docs/api.md names every code that a field is
// refused with, here, in the switch, and by the journal.
func TestFieldCodesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "### What a field is refused with\n")
	table, _, _ = strings.Cut(table, "\n#")
	documented := map[string]bool{}
	for _, word := range strings.FieldsFunc(table, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		documented[word] = true
	}
	codes := map[string]string{}
	for r := payment.OperationRefusal(1); r.String() != "invalid"; r++ {
		codes[r.String()] = "payment"
	}
	refused := regexp.MustCompile(`(?:"(?:/[a-z_/0-9]*)?"|pointer), (?:Code: )?"([a-z][a-z0-9_]+)", (?:Detail: )?"[^" ]+ [^"]`)
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../switch/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range append(sources, more...) {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range refused.FindAllSubmatch(text, -1) {
			codes[string(code[1])] = source
		}
	}
	if len(codes) < 50 {
		t.Errorf("only %d codes are found", len(codes))
	}
	for code, source := range codes {
		if !documented[code] {
			t.Errorf("%s (%s) is not among the codes of docs/api.md", code, source)
		}
	}
}
