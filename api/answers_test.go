package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"authswitch/payment"
)

func TestAuthorizeApproved(t *testing.T) {
	d := openDoor(t, Config{})
	var asked payment.Authorization
	var number, key string
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		asked, number, key = *a, string(a.Card.PAN.RevealPAN()), string(a.Key)
		*out = testPayment(a)
		return nil
	}
	a := d.ask("POST", "/v1/authorizations", goodBody)
	const want = `{"id":"auth_019ab0e3a5007000800000004b1d0001","status":"approved","amount":{"value":1051,"currency":"EUR"},` +
		`"response_code":"00","reason":null,"retry":null,"approval_code":"A12345","rrn":"632700000017","stan":"000017",` +
		`"scheme":"visa","link":"visa-a","card":{"bin":"41111111","last4":"1111"},"cvv_result":"M","network_transaction_id":null,` +
		`"advice_code":null,"processing_ms":38,"final":true}`
	if a.status != http.StatusCreated || a.text != want {
		t.Errorf("got  %d %s\nwant 201 %s", a.status, a.text, want)
	}
	if asked.Merchant != "parcels" || asked.Gateway != "shop" || asked.Channel != payment.Ecommerce || asked.Amount.Value != 1051 ||
		asked.Amount.Currency != 978 || number != testNumber || key != testIdemKey || asked.ReceivedAt != testInstant ||
		asked.Deadline != testInstant+15e9 {
		t.Errorf("the path was asked for %+v with key %q", asked, key)
	}
}

// outcomes are what the path may come to, and what the gateway is told.
func TestOutcomes(t *testing.T) {
	d := openDoor(t, Config{})
	outcome := func(change func(p *payment.Payment)) func(*payment.Authorization, *payment.Payment) error {
		return func(a *payment.Authorization, out *payment.Payment) error {
			*out = testPayment(a)
			change(out)
			return nil
		}
	}
	status := func(s payment.Status, c payment.Cause) func(*payment.Authorization, *payment.Payment) error {
		return outcome(func(p *payment.Payment) {
			p.Outcome.Status, p.Outcome.Cause, p.Outcome.Response = s, c, payment.Response{}
		})
	}
	fails := func(err error) func(*payment.Authorization, *payment.Payment) error {
		return func(*payment.Authorization, *payment.Payment) error { return err }
	}
	refusal := func(k payment.RefusalKind, pointer, code string) func(*payment.Authorization, *payment.Payment) error {
		return fails(&payment.Refusal{Kind: k, Pointer: pointer, Code: code, Detail: "why"})
	}
	declined := outcome(func(p *payment.Payment) {
		p.Outcome.Status = payment.StatusDeclined
		p.Outcome.Response = payment.Response{
			Code:    payment.MakeResponseCode([]byte("51")),
			Verdict: payment.Verdict{Action: payment.ActionDecline, Reason: payment.ReasonInsufficientFunds, Flags: payment.MayRetry},
		}
	})
	partial := outcome(func(p *payment.Payment) {
		p.Outcome.Status, p.Outcome.Amount.Value = payment.StatusPartiallyApproved, 500
		p.Outcome.Response.Code = payment.MakeResponseCode([]byte("10"))
	})
	for _, c := range []struct {
		name      string
		authorize func(*payment.Authorization, *payment.Payment) error
		status    int
		has       string // in the body
		final     bool
		retry     bool // Retry-After is given
	}{
		{"declined", declined, 201, `"status":"declined","amount":{"value":1051,"currency":"EUR"},"response_code":"51","reason":"insufficient_funds","retry":"later"`, true, false},
		{"partial", partial, 201, `"status":"partially_approved","amount":{"value":500,"currency":"EUR"},"response_code":"10","reason":null`, true, false},
		{"timeout", status(payment.StatusUnknown, payment.CauseTimeout), 504, `"code":"acquirer_timeout"`, true, false},
		{"timeout's cause", status(payment.StatusUnknown, payment.CauseLinkLost), 504, `"cause":"link_lost","reversal":"owed"`, true, false},
		{"timeout's id", status(payment.StatusUnknown, payment.CauseTimeout), 504, `"id":"` + testIDText + `"`, true, false},
		{"cancelled", status(payment.StatusCancelled, payment.CauseCancelled), 409, `"code":"reversed"`, true, false},
		{"not sent", status(payment.StatusNotSent, payment.CauseNoRoute), 503, `"code":"no_route"`, false, true},
		{"undecided", status(payment.StatusNone, payment.NoCause), 503, `"code":"outcome_pending"`, false, true},
		{"invalid", refusal(payment.RefusedInvalid, "/brand", "brand_not_on_card"), 422, `"errors":[{"pointer":"/brand","code":"brand_not_on_card","detail":"why"}]`, false, false},
		{"conflict", refusal(payment.RefusedKeyConflict, "", "idempotency_key_reused"), 422, `"code":"idempotency_key_reused"`, false, false},
		{"running", refusal(payment.RefusedRunning, "", "in_progress"), 409, `"code":"in_progress"`, false, true},
		{"no route", refusal(payment.RefusedNoRoute, "", "no_route"), 503, `"code":"no_route"`, false, true},
		{"overloaded", refusal(payment.RefusedOverloaded, "", "overloaded"), 503, `"code":"overloaded"`, false, true},
		{"pending", refusal(payment.RefusedPending, "", "outcome_pending"), 503, `"code":"outcome_pending"`, false, true},
		{"barred", refusal(payment.RefusedBarred, "", "reversed"), 409, `"code":"reversed"`, true, false},
		{"busy", fails(payment.ErrBusy), 503, `"code":"overloaded"`, false, true},
		{"never sent", fails(payment.ErrNotSent), 503, `"code":"no_route"`, false, true},
		{"any other error", fails(errors.New("raft: leadership lost")), 503, `"code":"outcome_pending"`, false, true},
		{"unavailable", fails(payment.ErrUnavailable), 503, `"code":"outcome_pending"`, false, true},
	} {
		d.fakes.authorize = c.authorize
		a := d.ask("POST", "/v1/authorizations", goodBody)
		again := d.ask("POST", "/v1/authorizations", goodBody)
		if a.status != c.status || !strings.Contains(a.text, c.has) || a.json["final"] != c.final || (a.header.Get("Retry-After") != "") != c.retry {
			t.Errorf("%s: got %d %s Retry-After %q", c.name, a.status, a.text, a.header.Get("Retry-After"))
		}
		if again.text != a.text {
			t.Errorf("%s: two answers to one outcome:\n%s\n%s", c.name, a.text, again.text)
		}
		if strings.Contains(a.text, "raft") {
			t.Errorf("%s: our insides in %s", c.name, a.text)
		}
	}
}

func TestReversals(t *testing.T) {
	d := openDoor(t, Config{})
	var got payment.Cancellation
	var answer payment.Cancelled
	var fail error
	d.fakes.reverse = func(c *payment.Cancellation) (payment.Cancelled, error) {
		got = *c
		got.Key, got.Reference, got.RequestKey = clone(c.Key), clone(c.Reference), clone(c.RequestKey)
		return answer, fail
	}
	byID := "/v1/authorizations/" + testIDText + "/reversals"
	for _, c := range []struct {
		name, path, body string
		answer           payment.Cancelled
		want             string
	}{
		{"approved", byID, `{}`, payment.Cancelled{Found: true, ID: testID(), State: payment.StateReversing}, `{"authorization":"` + testIDText + `","status":"pending","state":"reversing","final":true}`},
		{"no body", byID, ``, payment.Cancelled{Found: true, ID: testID(), State: payment.StateReversed}, `{"authorization":"` + testIDText + `","status":"reversed","state":"reversed","final":true}`},
		{"declined", byID, `{"reason":"timeout"}`, payment.Cancelled{Found: true, ID: testID(), State: payment.StateDeclined}, `{"authorization":"` + testIDText + `","status":"not_needed","state":"declined","final":true}`},
		{"exception", byID, `{}`, payment.Cancelled{Found: true, ID: testID(), State: payment.StateException}, `{"authorization":"` + testIDText + `","status":"pending","state":"exception","final":true}`},
		{"by key", "/v1/reversals", `{"merchant":"parcels","idempotency_key":"lost","reason":"timeout"}`, payment.Cancelled{}, `{"authorization":null,"status":"not_found","state":null,"final":true}`},
		{"by reference", "/v1/reversals", `{"merchant":"parcels","reference":"ORDER-42"}`, payment.Cancelled{Found: true, ID: testID(), State: payment.StateReversing}, `{"authorization":"` + testIDText + `","status":"pending","state":"reversing","final":true}`},
	} {
		answer = c.answer
		a := d.ask("POST", c.path, c.body)
		if a.status != 201 || a.text != c.want {
			t.Errorf("%s: got %d %s", c.name, a.status, a.text)
		}
		if got.Merchant != "parcels" || got.Gateway != "shop" || string(got.RequestKey) != testIdemKey {
			t.Errorf("%s: asked %+v", c.name, got)
		}
	}
	if string(got.Reference) != "ORDER-42" || got.Key != nil || !got.ID.IsZero() || got.Reason != payment.ReversalCustomer {
		t.Errorf("by reference asked %+v", got)
	}
	fail = &payment.Refusal{Kind: payment.RefusedPending, Code: "outcome_pending"}
	if a := d.ask("POST", byID, `{}`); a.status != 503 || a.json["final"] != false {
		t.Errorf("a reversal that could not commit: %d %s", a.status, a.text)
	}
	fail, answer = nil, payment.Cancelled{Conflict: true}
	if a := d.ask("POST", byID, `{}`); a.status != 422 || a.json["code"] != "idempotency_key_reused" {
		t.Errorf("a reversal's key used again: %d %s", a.status, a.text)
	}
	fail = payment.ErrNotFound
	if a := d.ask("POST", byID, `{}`); a.status != 404 {
		t.Errorf("a reversal of nothing: %d %s", a.status, a.text)
	}
	got = payment.Cancellation{}
	for _, c := range []struct{ name, path, body, status, pointer string }{
		{"partial amount", byID, `{"amount":{"value":-1,"currency":"EUR"}}`, "422", "/amount/value"},
		{"unknown reason", byID, `{"reason":"late_response"}`, "422", "/reason"},
		{"array", byID, `[]`, "422", ""},
		{"no name", "/v1/reversals", `{"merchant":"parcels"}`, "422", "/idempotency_key"},
		{"two names", "/v1/reversals", `{"merchant":"parcels","idempotency_key":"a","reference":"b"}`, "422", "/reference"},
		{"empty name", "/v1/reversals", `{"merchant":"parcels","idempotency_key":""}`, "422", "/idempotency_key"},
		{"long name", "/v1/reversals", `{"merchant":"parcels","reference":"` + strings.Repeat("r", 65) + `"}`, "422", "/reference"},
		{"no merchant", "/v1/reversals", `{"reference":"b"}`, "422", "/merchant"},
		{"foreign merchant", "/v1/reversals", `{"merchant":"books","reference":"b"}`, "403", "/merchant"},
		{"no body", "/v1/reversals", ``, "415", ""},
	} {
		headers := []string{}
		if c.body == "" {
			headers = append(headers, "Content-Type:")
		}
		a := d.ask("POST", c.path, c.body, headers...)
		checkFault(t, c.name, a, c.status, c.pointer)
	}
	for _, id := range []string{missingID, foreignID, "auth_1", "x"} {
		if a := d.ask("POST", "/v1/authorizations/"+id+"/reversals", `{}`); a.status != 404 {
			t.Errorf("reversal of %s: %d %s", id, a.status, a.text)
		}
	}
	if got.Merchant != "" {
		t.Errorf("a bad reversal reached the switch: %+v", got)
	}
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// checkFault holds a refusal to its status and to one of its errors' pointers;
// "" wants none in particular.
func checkFault(t *testing.T, name string, a answer, status, pointer string) {
	t.Helper()
	if got := http.StatusText(a.status); got == "" || status != strconv.Itoa(a.status) {
		t.Errorf("%s: got %d %s", name, a.status, a.text)
		return
	}
	if pointer == "" {
		return
	}
	errs, _ := a.json["errors"].([]any)
	for _, e := range errs {
		if m, _ := e.(map[string]any); m["pointer"] == pointer {
			return
		}
	}
	t.Errorf("%s: no error names %s: %s", name, pointer, a.text)
}
