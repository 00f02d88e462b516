package api

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// reference is the body as encoding/json reads it.
type reference struct {
	Merchant  string `json:"merchant"`
	Reference string `json:"reference"`
	Amount    struct {
		Value    int64  `json:"value"`
		Currency string `json:"currency"`
	} `json:"amount"`
	Channel string `json:"channel"`
	Card    struct {
		Number string  `json:"number"`
		Expiry *string `json:"expiry"`
		CVV    *string `json:"cvv"`
	} `json:"card"`
	Brand        *string `json:"brand"`
	ThreeDSecure *struct {
		Version string  `json:"version"`
		ECI     string  `json:"eci"`
		Value   *string `json:"authentication_value"`
		ID      *string `json:"ds_transaction_id"`
	} `json:"three_d_secure"`
	SCA *struct {
		Exemption string `json:"exemption"`
	} `json:"sca"`
	Stored *struct {
		Initiator string  `json:"initiator"`
		Usage     string  `json:"usage"`
		NetworkID *string `json:"network_transaction_id"`
	} `json:"stored_credential"`
	Capture *string `json:"capture"`
	Partial *bool   `json:"partial_approval"`
}

// longDigits would be a card number in an answer; the longest that our own
// texts hold is the largest amount's twelve.
var longDigits = regexp.MustCompile(`[0-9]{13}`)

// checkBody reads a body with our reader and with encoding/json, and compares.
func checkBody(t *testing.T, body []byte) {
	t.Helper()
	original := bytes.Clone(body)
	cfg := Config{}.WithDefaults()
	d, a := &document{}, &payment.Authorization{}
	ok := d.read(body, authorizationSchema)
	if ok && !json.Valid(original) {
		t.Fatalf("taken, though it is not JSON: %q", original)
	}
	if !ok {
		if d.scan.reason == "" {
			t.Fatalf("refused without a reason: %q", original)
		}
		// The three documented kinds of strictness.
		strict := !utf8.Valid(original) || bytes.Contains(bytes.ToLower(original), []byte(`\ud`)) ||
			bytes.Count(original, []byte("["))+bytes.Count(original, []byte("{")) > maxDepth
		if json.Valid(original) && !strict {
			t.Fatalf("refused (%s), though it is JSON: %q", d.scan.reason, original)
		}
		return
	}
	d.authorization(a, &cfg, nil, testInstant)
	if d.count > 0 {
		p := invalid(d.faults[:d.count])
		if out := appendProblem(nil, &p); !json.Valid(out) || longDigits.Match(out) {
			t.Fatalf("a problem that is not JSON or holds a number: %s", out)
		}
		return
	}
	var want reference
	decoder := json.NewDecoder(bytes.NewReader(original))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&want); err != nil {
		t.Fatalf("taken, though encoding/json says %v: %q", err, original)
	}
	compare := func(name, got, want string) {
		if got != want {
			t.Fatalf("%s is %q, encoding/json says %q: %q", name, got, want, original)
		}
	}
	compare("merchant", string(d.bytes(fieldMerchant)), want.Merchant)
	compare("reference", string(a.Reference), want.Reference)
	compare("currency", a.Amount.Currency.String(), want.Amount.Currency)
	compare("channel", a.Channel.String(), want.Channel)
	compare("number", string(a.Card.PAN.RevealPAN()), want.Card.Number)
	compare("expiry", string(a.Card.Expiry.RevealExpiry()), text0(want.Card.Expiry))
	compare("cvv", string(a.Card.CVV.RevealCVV()), text0(want.Card.CVV))
	if a.Amount.Value != want.Amount.Value || a.AcceptsPartial != (want.Partial != nil && *want.Partial) {
		t.Fatalf("amount %d, partial %t: %q", a.Amount.Value, a.AcceptsPartial, original)
	}
	if s := want.ThreeDSecure; s != nil {
		compare("version", string(a.ThreeDS.Version), s.Version)
		compare("eci", string(a.ThreeDS.ECI), s.ECI)
		compare("value", string(a.ThreeDS.AuthenticationValue), text0(s.Value))
		compare("transaction", string(a.ThreeDS.DSTransactionID), text0(s.ID))
	}
	if s := want.SCA; s != nil {
		compare("exemption", string(a.Exemption), s.Exemption)
	}
	if s := want.Stored; s != nil {
		compare("usage", string(a.StoredCredential.Usage), s.Usage)
		compare("network id", string(a.StoredCredential.NetworkTransactionID), text0(s.NetworkID))
	}
}

func text0(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// seeds cover every branch of the reader.
var seeds = []string{
	goodBody,
	`{"merchant":"parcels","reference":"a\u0062\n\"\\\/\b\f\r\t","amount":{"value":1,"currency":"EUR"},"channel":"moto","card":{"number":"5555555555554444","expiry":"3012"},"brand":"mastercard","partial_approval":true}`,
	`{"merchant":"é\u00e9😀\ud83d\ude00","card":null,"amount":[{"a":1.5e-3},true,false,null,"x"],"x":{"y":{}}}`,
	`{"stored_credential":{"initiator":"merchant","usage":"recurring","network_transaction_id":"1"},"sca":{"exemption":"tra"},"capture":"manual","three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAECAwQFBgcICQoLDA0ODxAREhM=","ds_transaction_id":"c272b04f-6e7b-43a2-bb78-90f4fb94aa25"}}`,
	`{"merchant":"\ud800","reference":"\udc00"}`, `{"a":"\u12`, `{"a":"\`, `{"a":-}`, `{"a":1e+}`, `{"a":tru}`, `{,}`, `{"a":1,}`, `[1,]`, `[[[[[[[[[[[[[[[[[[[[`, `"x"`, `nul`, ``, ` `, `{"":0}`, "{\"a\":\"\x01\"}",
	`{"merchant":"a","merchant":"b"}`, `{"Merchant":"a"}`, `{"amount":{"value":-0,"currency":"EUR"}}`, `{"amount":{"value":9223372036854775808}}`,
}

func TestBodiesLikeEncodingJSON(t *testing.T) {
	for _, s := range seeds {
		checkBody(t, []byte(s))
		// Every prefix, and every byte replaced by a structural one.
		for i := range s {
			checkBody(t, []byte(s[:i]))
			for _, c := range []byte("\"{,\\0\xff") {
				b := []byte(s)
				b[i] = c
				checkBody(t, b)
			}
		}
	}
}

func FuzzAuthorizationBody(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(checkBody0)
}

func checkBody0(t *testing.T, body []byte) { checkBody(t, bytes.Clone(body)) }

// FuzzHandle sends any request at all to the door; no answer may hold a number
// that the request carried as a card's, break JSON, or panic.
func FuzzHandle(f *testing.F) {
	f.Add("POST", "/v1/authorizations", testIdemKey, goodBody)
	f.Add("POST", "/v1/reversals", "k", `{"merchant":"parcels","reference":"4111111111111111"}`)
	f.Add("POST", "/v1/authorizations/"+testIDText+"/reversals", "k", `{"reason":"timeout"}`)
	f.Add("GET", "/v1/authorizations?merchant=parcels&limit=1&cursor="+missingID, "", "")
	f.Add("GET", "/v1/payments/"+testIDText+"/events", "", "")
	f.Add("GET", "/v1/authorizations?%zz=1&&=;", "", "")
	fakes := newFakes()
	server, err := New(Config{}, testDeps(f, fakes, &bytes.Buffer{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path, key, body string) {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetMethod(method)
		ctx.Request.SetRequestURI(path)
		ctx.Request.Header.Set("Authorization", "Bearer "+testKey)
		ctx.Request.Header.Set("Idempotency-Key", key)
		ctx.Request.Header.SetContentType("application/json")
		ctx.Request.SetBodyString(body)
		server.handle(&ctx)
		answer := ctx.Response.Body()
		if !json.Valid(answer) || ctx.Response.StatusCode() < 200 || ctx.Response.StatusCode() > 504 {
			t.Errorf("%d %q", ctx.Response.StatusCode(), answer)
		}
		if strings.Contains(body, testNumber) && bytes.Contains(answer, []byte(testNumber)) {
			t.Errorf("the answer holds the number: %s", answer)
		}
	})
}

// TestNoAllocations: reading a body, checking it and writing the answer.
func TestNoAllocations(t *testing.T) {
	cfg := Config{}.WithDefaults()
	full := add(`"brand":"visa","three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAECAwQFBgcICQoLDA0ODxAREhM="},` +
		`"sca":{"exemption":"tra"},"stored_credential":{"initiator":"cardholder","usage":"first"},"partial_approval":true`)
	body, out := make([]byte, len(full)), make([]byte, 0, 1024)
	d, a, p := &document{}, &payment.Authorization{}, testPayment(nil)
	unknown := testPayment(nil)
	unknown.Outcome.Status, unknown.Outcome.Cause = payment.StatusUnknown, payment.CauseTimeout
	allocations := testing.AllocsPerRun(100, func() {
		copy(body, full)
		if !d.read(body, authorizationSchema) {
			t.Fatal(d.scan.reason)
		}
		if d.authorization(a, &cfg, nil, testInstant); d.count > 0 {
			t.Fatal(d.faults[0])
		}
		out = appendAnswer(out[:0], &p)
		problem := unknownOutcome(&unknown)
		out = appendProblem(out[:0], &problem)
		a.Wipe()
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

// newAsked is a request as the server hands it to handle.
func newAsked() *fasthttp.RequestCtx {
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/v1/authorizations")
	ctx.Request.Header.Set("Authorization", "Bearer "+testKey)
	ctx.Request.Header.Set("Idempotency-Key", testIdemKey)
	ctx.Request.Header.SetContentType("application/json")
	ctx.Request.SetBodyString(goodBody)
	return ctx
}

// TestHandleAllocations: the whole handler, key and headers included.
func TestHandleAllocations(t *testing.T) {
	fakes := newFakes()
	answer := testPayment(nil)
	fakes.authorize = func(_ *payment.Authorization, out *payment.Payment) error {
		*out = answer
		return nil
	}
	server, err := New(Config{}, testDeps(t, fakes, &bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	ctx := newAsked()
	allocations := testing.AllocsPerRun(200, func() {
		copy(ctx.Request.Body(), goodBody)
		ctx.Response.Reset()
		server.handle(ctx)
	})
	if ctx.Response.StatusCode() != 201 {
		t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if allocations != 0 && pooling {
		t.Errorf("%v allocations", allocations)
	}
}

// TestWiped: nothing of the card is left in memory that is used again.
func TestWiped(t *testing.T) {
	for _, body := range []string{goodBody, with("3012", "2001"), goodBody[:len(goodBody)-1], with("ORDER", `\u004f`)} {
		fakes := newFakes()
		var kept *payment.Authorization
		fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
			kept = a
			*out = testPayment(a)
			return nil
		}
		server, err := New(Config{}, testDeps(t, fakes, &bytes.Buffer{}))
		if err != nil {
			t.Fatal(err)
		}
		ctx := newAsked()
		ctx.Request.SetBodyString(body)
		buffer := ctx.Request.Body()
		server.handle(ctx)
		if !bytes.Equal(buffer, make([]byte, len(body))) {
			t.Errorf("the body is left: %q", buffer)
		}
		if kept != nil && (kept.Card.PAN.Present() || kept.Card.CVV.Present() || kept.Key != nil || kept.Reference != nil) {
			t.Errorf("the authorization is left")
		}
		r := server.requests.Get().(*request)
		if r.document.scan.b != nil || r.ctx != nil || r.authorization.Card.PAN.Present() || r.payment.Intent.Key != nil {
			t.Errorf("the pooled request keeps %+v", r.document)
		}
	}
}

func BenchmarkReadAndWrite(b *testing.B) {
	cfg := Config{}.WithDefaults()
	body, out := make([]byte, len(goodBody)), make([]byte, 0, 1024)
	d, a, p := &document{}, &payment.Authorization{}, testPayment(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(goodBody)))
	for b.Loop() {
		copy(body, goodBody)
		if !d.read(body, authorizationSchema) {
			b.Fatal(d.scan.reason)
		}
		d.authorization(a, &cfg, nil, testInstant)
		out = appendAnswer(out[:0], &p)
		a.Wipe()
	}
}

func BenchmarkRead(b *testing.B) {
	body, d := []byte(goodBody), &document{}
	b.ReportAllocs()
	for b.Loop() {
		d.read(body, authorizationSchema)
	}
}

func BenchmarkReadEncodingJSON(b *testing.B) {
	body := []byte(goodBody)
	b.ReportAllocs()
	for b.Loop() {
		var r reference
		if err := json.Unmarshal(body, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	fakes := newFakes()
	answer := testPayment(nil)
	fakes.authorize = func(_ *payment.Authorization, out *payment.Payment) error {
		*out = answer
		return nil
	}
	server, err := New(Config{}, testDeps(b, fakes, &bytes.Buffer{}))
	if err != nil {
		b.Fatal(err)
	}
	ctx := newAsked()
	b.ReportAllocs()
	for b.Loop() {
		copy(ctx.Request.Body(), goodBody)
		ctx.Response.Reset()
		server.handle(ctx)
	}
}
