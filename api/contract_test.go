package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
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

// hold fails when an answer is not what the specification promises. Answers on
// paths or methods that it does not know are held to the problem's schema.
func (c *contract) hold(t testing.TB, request *http.Request, response *http.Response, body []byte) {
	t.Helper()
	route, parameters, err := c.router.FindRoute(request)
	var unknown *routers.RouteError
	// The specification's router takes a trailing slash for none; we do not.
	slash := strings.HasSuffix(request.URL.Path, "/")
	if (slash || errors.As(err, &unknown)) && (response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusMethodNotAllowed) {
		c.holdProblem(t, response, body)
		return
	}
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.URL, err)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: parameters, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s: %d %s\nbreaks openapi.yaml: %v", request.Method, request.URL, response.StatusCode, body, err)
	}
}

func (c *contract) holdProblem(t testing.TB, response *http.Response, body []byte) {
	t.Helper()
	if got := response.Header.Get("Content-Type"); got != problemMedia {
		t.Errorf("content type %q of %s", got, body)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	schema := c.spec.Components.Schemas["PaymentProblem"].Value
	if response.StatusCode < 500 {
		schema = c.spec.Components.Schemas["Problem"].Value
	}
	if err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("%d %s\nbreaks the problem's schema: %v", response.StatusCode, body, err)
	}
}
