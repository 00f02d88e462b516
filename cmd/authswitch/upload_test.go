package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ledgerLines are a simulator's lines of some message types.
func ledgerLines(t *testing.T, ledger string, mtis ...string) (lines []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		for _, mti := range mtis {
			if l["mti"] == mti {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// uploaded is the newest batch upload of the link of Visa that is closed.
func (d *instance) uploaded() (batch struct {
	State  string
	Lines  int
	Over   int
	Agreed int `json:"totals_answered"`
	Differ int `json:"totals_differ"`
},
) {
	d.t.Helper()
	out, errs, code := d.operate("clearing", "list", "visa-a", "--json")
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil {
		d.t.Fatalf("%d %s%s", code, out, errs)
	}
	for _, raw := range all {
		if strings.Contains(string(raw), `"upload"`) && !strings.Contains(string(raw), `"open"`) {
			_ = json.Unmarshal(raw, &batch)
			return batch
		}
	}
	return batch
}

// TestBatchUpload: captures of a contract that says so leave as 0320 when the
// day has ended, each once, also where the node dies in the middle of them; then
// the acquirer agrees to what they came to. A void before that takes its line out,
// after it is a refund.
func TestBatchUpload(t *testing.T) {
	d := startDev(t)
	ledger := d.acquirer("ascii87")
	d.addMerchant("books", map[string]any{"capture_by": "batch_upload"})
	capture := func(key, auth, body string) answer {
		t.Helper()
		a := d.ask(http.MethodPost, "/v1/authorizations/"+auth+"/captures", key, body)
		if a.status != http.StatusCreated || a.field("means") != "upload" || a.field("status") != "pending" {
			t.Fatalf("%s: %d %s", key, a.status, a.body)
		}
		return a
	}
	first := d.pay("books", "a1", 1000, "")
	part, gone := capture("c1", first, `{"amount":{"value":600,"currency":"EUR"}}`), capture("c2", first, `{"amount":{"value":150,"currency":"EUR"}}`)
	if a := d.ask(http.MethodPost, "/v1/captures/"+gone.field("id")+"/reversals", "v1", ""); a.field("how") != "withdrawn" {
		t.Errorf("void before the end of the day: %d %s", a.status, a.body)
	}
	const more = 40
	for n := range more {
		d.pay("books", "more-"+string(rune('A'+n)), 500, `,"capture":"automatic"`)
	}
	if lines := ledgerLines(t, ledger, "0320"); len(lines) != 0 {
		t.Fatalf("before the end of the day: %v", lines)
	}
	if out, errs, code := d.operate("clearing", "close", "visa-a"); code != 0 || !strings.Contains(out, "upload") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	eventually(t, 60*time.Second, "the first lines", func() bool { return len(ledgerLines(t, ledger, "0320")) > 0 })
	if err := syscall.Kill(d.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 120*time.Second, "the batch is settled", func() bool {
		a, err := d.tryAsk(http.MethodGet, "/v1/links", "", "")
		return err == nil && a.status == http.StatusOK && d.uploaded().State == "settled"
	})
	if b := d.uploaded(); b.Lines != more+1 || b.Over != more+1 || b.Agreed != 1 || b.Differ != 0 {
		t.Errorf("%+v", b)
	}
	lines, seen := ledgerLines(t, ledger, "0320", "0321"), map[any]bool{} // the kill may come between a claim and its first byte
	for _, l := range lines {
		if l["decision"] != "captured" || l["batch"] != "000001" || seen[l["rrn"]] {
			t.Errorf("%v", l)
		}
		seen[l["rrn"]] = true
	}
	if len(lines) != more+1 {
		t.Errorf("%d lines came, not %d", len(lines), more+1)
	}
	if totals := ledgerLines(t, ledger, "0520", "0521"); len(totals) == 0 || totals[0]["decision"] != "reconciled" || totals[0]["response_code"] != "00" || totals[0]["amount"] != float64(600+500*more) {
		t.Errorf("totals: %v", totals)
	}
	if state := d.ask(http.MethodGet, "/v1/captures/"+part.field("id"), "", "").field("state"); state != "done" {
		t.Errorf("the capture is %s", state)
	}
	a := d.ask(http.MethodPost, "/v1/captures/"+part.field("id")+"/reversals", "v2", "")
	if a.status != http.StatusCreated || a.field("how") != "refund" || a.field("amount", "value") != "600" {
		t.Errorf("void after the end of the day: %d %s", a.status, a.body)
	}
	d.verify()
}
