package api

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"authswitch/batch"
	"authswitch/payment"
)

const batchID = "batch_019ab0e3a5007000800000004b1d0040"

// batchFakes stand for what the door asks about batches.
type batchFakes struct {
	t     *testing.T
	take  func(f *batch.File) (payment.Batch, error)
	acted payment.BatchAct
	err   error
}

func (f *batchFakes) one() payment.Batch {
	return payment.Batch{
		ID: movementID(f.t, batchID, payment.BatchPrefix), Merchant: "parcels", Gateway: "shop", Key: []byte(testIdemKey), Name: []byte("refunds.csv"), State: payment.BatchReleased, Needs: 2, Lines: 3,
		Totals: []payment.Amount{{Value: 3000, Currency: 978}}, Releases: []payment.Release{{Who: "ana", Operator: true, At: testInstant}}, Lanes: []payment.BatchLane{{Link: "visa-a", Chunks: 1}},
		Started: 2, Done: 1, Refused: 1, CreatedAt: testInstant,
	}
}

func (f *batchFakes) Take(x *batch.File) (payment.Batch, error) { return f.take(x) }

func (f *batchFakes) TakeTagged(x *batch.Tagged) (batch.Preview, error) {
	return batch.Preview{Payments: 4, Counts: map[string]int{"not_captured": 1}, Left: []batch.Left{{Payment: testID(), Why: "not_captured"}}, Batch: f.one()}, f.err
}

func (f *batchFakes) Act(a *payment.BatchAct) (payment.Batch, error) {
	f.acted = *a
	return f.one(), f.err
}

func (f *batchFakes) Batch(id payment.ID) (payment.Batch, error) {
	if b := f.one(); b.ID == id {
		return b, nil
	}
	return payment.Batch{}, payment.ErrNotFound
}

func (f *batchFakes) Batches(payment.MerchantID, payment.ID, int) ([]payment.Batch, bool, error) {
	return []payment.Batch{f.one()}, true, nil
}

func (f *batchFakes) BatchLines(_ payment.ID, _ uint8, chunk uint32) ([]payment.BatchLine, error) {
	lines := []payment.BatchLine{{Number: 2, Amount: payment.Amount{Value: 1000, Currency: 978}, Order: []byte(`a "b", c`)}, {Number: 3, Amount: payment.Amount{Value: 1000, Currency: 978}}, {Number: 4, Amount: payment.Amount{Value: 1000, Currency: 978}}}
	if chunk > 0 {
		return nil, nil
	}
	return lines, nil
}

func (f *batchFakes) BatchLine(_ payment.ID, line uint32) (o payment.Operation, why payment.LineRefusal, err error) {
	switch line {
	case 2:
		o = payment.Operation{ID: testID(), Kind: payment.OpRefund, State: payment.OperationDone, Response: payment.Response{Code: payment.MakeResponseCode([]byte("00"))}}
	case 3:
		why.Why = payment.RefusedNothingLeft
	}
	return o, why, nil
}

func (f *batchFakes) Verify(name string, secret []byte) (bool, error) {
	if name == "busy" {
		return false, payment.ErrBusy
	}
	return name == "ana" && string(secret) == "her:secret", nil
}

func batchDoor(t *testing.T) (*door, *batchFakes) {
	f := &batchFakes{t: t}
	f.take = func(x *batch.File) (payment.Batch, error) {
		b := f.one()
		if x.DryRun {
			b.ID = payment.ID{}
		}
		return b, nil
	}
	d := openDoor(t, Config{BodyBytes: 2048, BatchBytes: 1 << 20})
	d.server.deps.Batches, d.server.deps.BatchReader, d.server.deps.People = f, f, f
	return d, f
}

func basic(credential string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(credential))
}

// TestBatchDoor: one line per request; each answer is held to openapi.yaml.
func TestBatchDoor(t *testing.T) {
	d, f := batchDoor(t)
	const at, missing = "/v1/refund-batches/" + batchID, "/v1/refund-batches/batch_019ab0e3a5007000800000004b1d0041"
	csv, ana, wrong := "Content-Type: text/csv", basic("ana:her:secret"), basic("ana:guess")
	large := strings.Repeat("x", 10_000)
	for _, c := range []struct {
		name, method, path, body, headers string
		status                            int
		want                              string
	}{
		{"upload", "POST", "/v1/refund-batches?name=a.csv&lines=3", large, csv, 201, `"status":"held"`},
		{"dry run", "POST", "/v1/refund-batches?dry_run=true", "x", csv, 200, `"releases_needed":2`},
		{"not csv", "POST", "/v1/refund-batches", "x", "Content-Type: application/json", 415, `"unsupported_media_type"`},
		{"parameter", "POST", "/v1/refund-batches?colour=x", "x", csv, 400, `"invalid_parameter"`},
		{"lines", "POST", "/v1/refund-batches?lines=-1", "x", csv, 400, `"invalid_parameter"`},
		{"card in the name", "POST", "/v1/refund-batches?name=4111111111111111", "x", csv, 400, `"invalid_parameter"`},
		{"digest", "POST", "/v1/refund-batches", "x", csv + "\nContent-Digest: md5=:x:", 400, `"invalid_digest"`},
		{"another's merchant", "POST", "/v1/refund-batches?merchant=other", "x", csv, 403, `"merchant_not_allowed"`},
		{"an operator's file", "POST", "/v1/refund-batches", "x", csv + "\n" + ana, 401, `"unauthorized"`},
		{"list", "GET", "/v1/refund-batches?limit=1", "", "", 200, `"next":"` + batchID},
		{"list of an operator", "GET", "/v1/refund-batches", "", ana, 400, `"invalid_parameter"`},
		{"one", "GET", at, "", "", 200, `"progress":{"started":2,"approved":1,"declined":0,"failed":0,"refused":1,"in_doubt":0,"exceptions":0}`},
		{"one, by an operator", "GET", at, "", ana, 200, `"status":"released"`},
		{"one, by a guess", "GET", at, "", wrong, 401, `"unauthorized"`},
		{"one, in the rush", "GET", at, "", basic("busy:x"), 429, `"rate_limited"`},
		{"no such", "GET", missing, "", "", 404, `"not_found"`},
		{"another's", "GET", at, "", "Authorization: Bearer " + otherKey, 404, `"not_found"`},
		{"release", "POST", at + "/release", "", "", 200, `"releases":[{"by":"ana","operator":true`},
		{"release, by an operator", "POST", at + "/release", "", ana, 200, `"released"`},
		{"cancel", "POST", at + "/cancel", "", "", 200, `"id"`},
		{"no such act", "POST", at + "/run", "", "", 404, `"not_found"`},
		{"wrong method", "GET", at + "/release", "", "", 405, `"method_not_allowed"`},
		{"by tag", "POST", "/v1/refunds/by-tag", `{"merchant":"parcels","tag":"show"}`, "", 201, `"status":"held"`},
		{"by tag, preview", "POST", "/v1/refunds/by-tag", `{"merchant":"parcels","tag":"show","preview":true}`, "", 200, `"payments":4`},
		{"by no tag", "POST", "/v1/refunds/by-tag", `{"merchant":"parcels"}`, "", 422, `"/tag"`},
		{"by tag, an operator", "POST", "/v1/refunds/by-tag", `{"merchant":"parcels","tag":"show"}`, ana, 401, `"unauthorized"`},
		{"results", "GET", at + "/results", "", "", 200, "\n2,approved,1000,EUR,\"a \"\"b\"\", c\","},
	} {
		a := d.ask(c.method, c.path, c.body, strings.FieldsFunc(c.headers, func(r rune) bool { return r == '\n' })...)
		if a.status != c.status || !strings.Contains(a.text, c.want) {
			t.Errorf("%s: %d %s", c.name, a.status, a.text)
		}
		if strings.Contains(c.name, "by an operator") && c.method == "POST" && (f.acted.Who != "ana" || !f.acted.Operator) {
			t.Errorf("%s: %+v", c.name, f.acted)
		}
	}
	a := d.ask("GET", at+"/results", "")
	if lines := strings.Split(a.text, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[2], "3,refused,") || !strings.Contains(lines[2], "nothing_left") || !strings.HasPrefix(lines[3], "4,waiting,") {
		t.Errorf("%s", a.text)
	}
	batchRefusals(t, d, f, at, csv)
}

// batchRefusals: what a batch is refused for, as gateways see it.
func batchRefusals(t *testing.T, d *door, f *batchFakes, at, csv string) {
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{&batch.Refusal{Code: batch.CodeDuplicate, Detail: "x", Batch: payment.Batch{ID: f.one().ID, Key: []byte("another")}}, 409, `"batch":"` + batchID},
		{&batch.Refusal{Code: batch.CodeDuplicate, Detail: "x", Batch: f.one()}, 201, `"status":"held"`}, // the same request
		{&batch.Refusal{Code: batch.CodeLines, Detail: "x", Faults: []batch.Fault{{Line: 7, Column: "amount", Code: "not_whole", Detail: "y"}, {Line: 9, Code: "malformed", Detail: "z"}}}, 422, `"errors":[{"line":7,"column":"amount","code":"not_whole","detail":"y"},{"line":9,"column":null`},
		{&batch.Refusal{Code: batch.CodeTooMany, Detail: "x"}, 422, `"too_many_lines"`},
		{payment.ErrBusy, 503, `"overloaded"`},
		{payment.ErrUnavailable, 503, `"unavailable"`},
		{errors.New("disk"), 503, `"unavailable"`},
	} {
		f.take = func(*batch.File) (payment.Batch, error) { return payment.Batch{}, c.err }
		if a := d.ask("POST", "/v1/refund-batches", "x", csv); a.status != c.status || !strings.Contains(a.text, c.want) {
			t.Errorf("%v: %d %s", c.err, a.status, a.text)
		}
	}
	for code, status := range map[string]int{batch.CodeOperators: 403, batch.CodeSame: 409, batch.CodeState: 409, batch.CodeUnknown: 404} {
		f.err = &batch.Refusal{Code: code, Detail: "x"}
		if a := d.ask("POST", at+"/release", ""); a.status != status || !strings.Contains(a.text, code) {
			t.Errorf("%s: %d %s", code, a.status, a.text)
		}
	}
	if a := d.ask("POST", "/v1/authorizations", strings.Repeat("x", 10_000)); a.status != 413 {
		t.Errorf("other bodies keep their limit: %d %s", a.status, a.text)
	}
}
