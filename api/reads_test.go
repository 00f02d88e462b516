package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// reversedHistory is a payment that timed out on its second route and was
// reversed.
func reversedHistory(p *payment.Payment) []payment.Entry {
	first, second := p.Intent, p.Intent
	first.Link, first.Attempt, first.STAN = "visa-b", 1, 16
	second.Attempt, second.SendBy, second.AnswerBy = 2, testInstant+1e9, testInstant+4e9
	p.Intent, p.State = second, payment.StateReversed
	p.Outcome.Attempt, p.Outcome.Status, p.Outcome.Cause = 2, payment.StatusUnknown, payment.CauseTimeout
	p.Outcome.Response, p.Outcome.Reversal = payment.Response{}, payment.ReversalTimeout
	failed := p.Outcome
	failed.Attempt, failed.Status, failed.Cause = 1, payment.StatusNotSent, payment.CauseLinkLost
	owed := payment.Owed{Link: "visa-a", Seq: 3, ID: p.Intent.ID, Attempt: 2, Reason: payment.ReversalTimeout, Since: testInstant, Due: testInstant}
	sent := owed
	sent.STAN, sent.Transmitted, sent.Tries = 99, 1123040600, 1
	again := sent
	again.Transmitted, again.Tries = 1123040601, 2
	late := payment.Response{Code: payment.MakeResponseCode([]byte("00")), ApprovalCode: payment.ApprovalCode{'L', 'A', 'T', 'E', '0', '1'}}
	at := func(n int) payment.Instant { return testInstant + payment.Instant(n)*payment.Instant(time.Second) }
	return []payment.Entry{
		{At: at(0), State: payment.StateOpen, Event: payment.EventOpened, Kind: payment.EntryIntent, Intent: &first},
		{At: at(1), State: payment.StateOpen, Event: payment.EventNextAttempt, Kind: payment.EntryOutcome, Outcome: &failed},
		{At: at(1), State: payment.StateOpen, Event: payment.EventNextAttempt, Kind: payment.EntryIntent, Intent: &second},
		{At: at(4), State: payment.StateReversing, Event: payment.EventUnknown, Kind: payment.EntryOutcome, Outcome: &p.Outcome},
		{At: at(4), State: payment.StateReversing, Event: payment.EventUnknown, Kind: payment.EntryReversalOwed, Owed: &owed},
		{At: at(5), State: payment.StateReversing, Event: payment.EventUnknown, Kind: payment.EntryReversalSent, Owed: &sent},
		{At: at(5), State: payment.StateReversing, Event: payment.EventLateApproval, Kind: payment.EntryLateAnswer, Response: &late},
		{At: at(6), State: payment.StateReversing, Event: payment.EventUnknown, Kind: payment.EntryReversalSent, Owed: &again},
		{At: at(7), State: payment.StateReversed, Event: payment.EventReversalAcknowledged, Kind: payment.EntryReversalEnded, Owed: &again},
		{At: at(8), State: payment.StateReversed, Event: payment.EventWrittenOff, Kind: payment.EntryWrittenOff, Owed: &again, WriteOff: &payment.WriteOff{Operator: "ana", Reason: "said \"no\" by letter"}},
	}
}

func TestGet(t *testing.T) {
	d := openDoor(t, Config{})
	p := testPayment(nil)
	d.fakes.history[p.Intent.ID] = reversedHistory(&p)
	d.fakes.payments[p.Intent.ID] = p
	const want = `{"id":"auth_019ab0e3a5007000800000004b1d0001","status":"unknown","amount":{"value":1051,"currency":"EUR"},` +
		`"response_code":null,"reason":null,"retry":null,"approval_code":null,"rrn":"632700000017","stan":"000017","scheme":"visa",` +
		`"link":"visa-a","card":{"bin":"41111111","last4":"1111"},"cvv_result":null,"network_transaction_id":null,"advice_code":null,` +
		`"processing_ms":38,"final":true,"state":"reversed","cause":"timeout","merchant":"parcels","idempotency_key":"7f0c-0001",` +
		`"reference":"ORDER-42","tags":[],"channel":"ecommerce","capture":"manual","created_at":"2026-11-23T04:05:57.000Z","attempts":[` +
		`{"link":"visa-b","stan":"000016","rrn":"632700000017","transmitted":"1123040557","mti":"0100","result":"not_sent"},` +
		`{"link":"visa-a","stan":"000017","rrn":"632700000017","transmitted":"1123040557","mti":"0100","result":"unknown"}],` +
		`"reversals":[{"link":"visa-a","stan":"000099","transmitted":"1123040601","tries":2,"state":"written_off"}],"money":null,"operations":[]}`
	for _, path := range []string{
		"/v1/authorizations/" + testIDText, "/v1/authorizations", "/v1/authorizations?merchant=parcels&limit=2",
		"/v1/authorizations?idempotency_key=" + testIdemKey, "/v1/authorizations?merchant=parcels&reference=ORDER-42",
	} {
		body := want
		if !strings.HasSuffix(path, testIDText) {
			body = `{"data":[` + want + `],"has_more":false,"next":null}`
		}
		if a := d.ask("GET", path, ""); a.status != 200 || a.text != body {
			t.Errorf("%s: %d\ngot  %s\nwant %s", path, a.status, a.text, body)
		}
	}
}

// TestParametersOfOtherPaths: a parameter that would only be ignored is refused.
func TestParametersOfOtherPaths(t *testing.T) {
	d := openDoor(t, Config{})
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/links?merchant=parcels"},
		{"GET", "/v1/whoami?x"},
		{"GET", "/v1/merchants?limit=1"},
		{"GET", "/v1/authorizations/" + testIDText + "?expand=events"},
		{"POST", "/v1/authorizations?dry_run=true"},
		{"GET", "/v1/payments/" + testIDText + "/events?limit=5"},
		{"DELETE", "/v1/merchants/parcels/contracts/cb?because=x"},
	} {
		who := ""
		if strings.HasPrefix(c.path, "/v1/merchants") {
			who = asAdmin
		}
		if a := d.ask(c.method, c.path, "", who); a.status != 400 || a.json["code"] != "invalid_parameter" {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.text)
		}
	}
}

func TestPages(t *testing.T) {
	d := openDoor(t, Config{})
	const nothing = `{"data":[],"has_more":false,"next":null}`
	if a := d.ask("GET", "/v1/authorizations?limit=1", ""); !strings.HasSuffix(a.text, `],"has_more":true,"next":"`+testIDText+`"}`) {
		t.Errorf("the first page: %d %s", a.status, a.text)
	}
	for _, path := range []string{
		"?cursor=" + testIDText, "?idempotency_key=unknown", "?reference=unknown", "?idempotency_key=theirs", "?reference=THEIRS",
	} {
		if a := d.ask("GET", "/v1/authorizations"+path, ""); a.status != 200 || a.text != nothing {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
}

// TestOpenPayment: a payment without an outcome is pending and not final.
func TestOpenPayment(t *testing.T) {
	d := openDoor(t, Config{})
	p := testPayment(nil)
	p.State, p.Outcome = payment.StateOpen, payment.Outcome{}
	d.fakes.payments[p.Intent.ID] = p
	d.fakes.history[p.Intent.ID] = d.fakes.history[p.Intent.ID][:1]
	a := d.ask("GET", "/v1/authorizations/"+testIDText, "")
	if a.json["status"] != "pending" || a.json["final"] != false || a.json["state"] != "open" || !strings.Contains(a.text, `"result":"open"`) ||
		!strings.Contains(a.text, `"amount":{"value":1051,"currency":"EUR"}`) {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestEvents(t *testing.T) {
	d := openDoor(t, Config{})
	p := testPayment(nil)
	d.fakes.history[p.Intent.ID] = reversedHistory(&p)
	d.fakes.payments[p.Intent.ID] = p
	a := d.ask("GET", "/v1/payments/"+testIDText+"/events", "")
	for _, want := range []string{
		`{"data":[{"at":"2026-11-23T04:05:57.000Z","kind":"intent","event":"opened","state":"open","attempt":{"number":1,"link":"visa-b","scheme":"visa","dialect":"visa","mti":"0100","stan":"000016","rrn":"632700000017","transmitted":"1123040557","send_by":null,"answer_by":null}}`,
		`"kind":"outcome","event":"unknown","state":"reversing","outcome":{"attempt":2,"status":"unknown","cause":"timeout","amount":{"value":1051,"currency":"EUR"},"response_code":null,"approval_code":null,"reversal_reason":"timeout","processing_ms":38}}`,
		`"kind":"reversal_owed","event":"unknown","state":"reversing","reversal":{"link":"visa-a","attempt":2,"reason":"timeout","stan":null,"transmitted":null,"tries":0,`,
		`{"at":"2026-11-23T04:06:02.000Z","kind":"reversal_sent","state":"reversing","reversal":{"link":"visa-a","attempt":2,"reason":"timeout","stan":"000099","transmitted":"1123040600","tries":1,`,
		`"kind":"late_answer","event":"late_approval","state":"reversing","response":{"response_code":"00","approval_code":"LATE01"}}`,
		`{"at":"2026-11-23T04:06:04.000Z","kind":"reversal_ended","event":"reversal_acknowledged","state":"reversed","reversal":{"link":"visa-a","attempt":2,"reason":"timeout","stan":"000099","transmitted":"1123040601","tries":2,`,
		`"kind":"written_off","event":"written_off","state":"reversed","reversal":{"link":"visa-a","attempt":2,`,
		`,"write_off":{"operator":"ana","reason":"said \"no\" by letter"}}],"has_more":false,"next":null}`,
	} {
		if !strings.Contains(a.text, want) {
			t.Errorf("no %s\nin %s", want, a.text)
		}
	}
}

func TestLinksAndWhoami(t *testing.T) {
	d := openDoor(t, Config{})
	d.fakes.links = []Link{
		{Name: "cb-a", Scheme: payment.CB, Dialect: "cb", Address: "127.0.0.1:9001", Ledger: "/data/cb-a.jsonl", State: "ready", SignedOn: true, Connections: 2, InFlight: 3, Window: 256, WindowNow: 192, EchoRoundTrip: 1500 * time.Microsecond, ReversalsOwed: 1, OldestOwedSince: testInstant},
		{Name: "visa-a", State: "down"},
	}
	const want = `{"data":[{"name":"cb-a","scheme":"cb","dialect":"cb","address":"127.0.0.1:9001","ledger":"/data/cb-a.jsonl","clearing":null,"state":"ready","signed_on":true,"connections":2,"in_flight":3,"window":256,"window_now":192,"echo_us":1500,"reversals_owed":1,"oldest_owed_since":"2026-11-23T04:05:57.000Z","exceptions":0,"operations_owed":0},` +
		`{"name":"visa-a","scheme":null,"dialect":"","address":"","ledger":null,"clearing":null,"state":"down","signed_on":false,"connections":0,"in_flight":0,"window":0,"window_now":0,"echo_us":null,"reversals_owed":0,"oldest_owed_since":null,"exceptions":0,"operations_owed":0}],"has_more":false,"next":null}`
	if a := d.ask("GET", "/v1/links", ""); a.text != want {
		t.Errorf("links: %d %s", a.status, a.text)
	}
	if a := d.ask("GET", "/v1/whoami", ""); a.text != `{"gateway":"shop","merchants":["parcels"]}` {
		t.Errorf("whoami: %d %s", a.status, a.text)
	}
}

// TestBrokenStore: what cannot be read is 503, and the reason stays in the log
// with the trace that the gateway knows.
func TestBrokenStore(t *testing.T) {
	d := openDoor(t, Config{})
	d.fakes.broken = errors.New("pebble: disk on fire")
	for _, path := range []string{
		"/v1/authorizations", "/v1/authorizations/" + testIDText, "/v1/payments/" + testIDText + "/events", "/v1/authorizations?idempotency_key=" + testIdemKey,
	} {
		a := d.ask("GET", path, "", "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if a.status != 503 || a.json["code"] != "unavailable" || strings.Contains(a.text, "pebble") {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	if a := d.ask("POST", "/v1/authorizations/"+testIDText+"/reversals", ""); a.status != 503 {
		t.Errorf("reversal: %d %s", a.status, a.text)
	}
	if log := d.log.String(); strings.Count(log, "disk on fire") != 5 || !strings.Contains(log, "trace_id=0af7651916cd43dd8448eb211c80319c") {
		t.Errorf("the log says %s", log)
	}
}

// TestForeignBytes: whatever an acquirer sends, the answer is JSON.
func TestForeignBytes(t *testing.T) {
	d := openDoor(t, Config{})
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		*out = testPayment(a)
		out.Outcome.Response.ApprovalCode = payment.ApprovalCode{'"', '\\', 0x01, 0x7F, 0xFF, 'x'}
		return nil
	}
	a := d.ask("POST", "/v1/authorizations", goodBody)
	if !strings.Contains(a.text, `"approval_code":"\"\\\u0001\u007f\u00ffx"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func TestMetrics(t *testing.T) {
	d := openDoor(t, Config{})
	registry := d.server.deps.Registerer.(*prometheus.Registry)
	d.ask("POST", "/v1/authorizations", goodBody)
	d.ask("POST", "/v1/authorizations", goodBody)
	d.ask("POST", "/v1/authorizations", `{}`)
	d.ask("GET", "/nowhere", "")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if v := m.GetCounter().GetValue(); v != 0 {
				got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = v
			}
		}
	}
	want := map[string]float64{"/v1/authorizations 201": 2, "/v1/authorizations 422": 1, "none 404": 1}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("counted %v", got)
	}
}
