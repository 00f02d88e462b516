package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// reconfigure changes the merchants and gateways of every node's file and has
// the nodes take them over.
func (d *instance) reconfigure(edit func(c map[string]any)) {
	d.t.Helper()
	for _, n := range d.info.Nodes {
		file := filepath.Join(d.dir, n.ID+".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		var c map[string]any
		if err := yaml.Unmarshal(text, &c); err != nil {
			d.t.Fatal(err)
		}
		edit(c)
		if text, err = yaml.Marshal(c); err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if out, errs, code := run(d.t, "config", "reload", "--admin", n.Admin, "--token-file", filepath.Join(n.DataDir, "operator.token"), "--as", "ana"); code != 0 {
			d.t.Fatalf("reload: %d %s%s", code, out, errs)
		}
	}
}

// addMerchant gives dev's gateway another merchant with a contract for Visa.
func (d *instance) addMerchant(id string, contract map[string]any) {
	d.t.Helper()
	whole := map[string]any{
		"scheme": "visa", "links": []string{"visa-a"}, "terminal": "TERM0002", "acceptor": "BOOKS0000000001", "acceptor_name": "BOOKS/PARIS/FR", "mcc": "5942", "acquirer": "497010", "country": "250",
		"currencies": []string{"EUR"},
	}
	maps.Copy(whole, contract)
	d.reconfigure(func(c map[string]any) {
		c["merchants"] = append(c["merchants"].([]any), map[string]any{"id": id, "name": id, "contracts": []any{whole}})
		gateway := c["gateways"].([]any)[0].(map[string]any)
		gateway["merchants"] = append(gateway["merchants"].([]any), id)
	})
}

// pay authorizes for a merchant and returns the id of what is approved.
func (d *instance) pay(merchant, key string, amount int, more string) string {
	d.t.Helper()
	a := d.ask(http.MethodPost, "/v1/authorizations", key, fmt.Sprintf(
		`{"merchant":%q,"reference":"ORDER-43","amount":{"value":%d,"currency":"EUR"},"channel":"ecommerce","card":{"number":%q,"expiry":"3012","cvv":"937"}%s}`, merchant, amount, visaCard, more))
	if a.status != http.StatusCreated || a.field("status") != "approved" {
		d.t.Fatalf("%d %s", a.status, a.body)
	}
	return a.field("id")
}

// TestClearingFiles: captures of a contract that says so reach the acquirer in
// a file, each once, and not before the day ends; a void takes its line out, and
// after the day is a refund.
func TestClearingFiles(t *testing.T) {
	d := startDev(t)
	d.addMerchant("books", map[string]any{"capture_by": "file"})
	capture := func(key, auth, body string) answer {
		t.Helper()
		a := d.ask(http.MethodPost, "/v1/authorizations/"+auth+"/captures", key, body)
		if a.status != http.StatusCreated || a.field("means") != "file" || a.field("status") != "pending" {
			t.Fatalf("%s: %d %s", key, a.status, a.body)
		}
		return a
	}
	first, second := d.pay("books", "a1", 1000, ""), d.pay("books", "a2", 2000, "")
	part, rest := capture("c1", first, `{"amount":{"value":600,"currency":"EUR"}}`), capture("c2", first, "")
	gone := capture("c3", second, "")
	if again := capture("c1", first, `{"amount":{"value":600,"currency":"EUR"}}`); again.body != part.body {
		t.Errorf("%s\n%s", part.body, again.body)
	}
	if a := d.ask(http.MethodPost, "/v1/captures/"+gone.field("id")+"/reversals", "v1", ""); a.field("how") != "withdrawn" || a.field("status") != "reversed" {
		t.Errorf("void before the end of the day: %d %s", a.status, a.body)
	}
	automatic := d.pay("books", "a3", 3000, `,"capture":"automatic"`)

	list, errs, code := d.operate("clearing", "list", "visa-a", "--json")
	if code != 0 || !strings.Contains(list, `"state": "open"`) || !strings.Contains(list, `"lines": 3`) {
		t.Fatalf("%d %s%s", code, list, errs)
	}
	if files, _ := filepath.Glob(filepath.Join(d.dir, "clearing", "*")); len(files) != 0 {
		t.Errorf("before the end of the day: %v", files)
	}
	if out, errs, code := d.operate("clearing", "close", "visa-a"); code != 0 || !strings.Contains(out, "ana") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	eventually(t, 10*time.Second, "the captures are done", func() bool {
		return d.ask(http.MethodGet, "/v1/captures/"+rest.field("id"), "", "").field("state") == "done"
	})
	files, err := filepath.Glob(filepath.Join(d.dir, "clearing", "visa-a-*.csv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"capture," + part.field("id") + "," + first + ",,books,BOOKS0000000001,", ",600,EUR,visa,41111111***1111,", ",400,EUR,", "capture,cap_" + automatic[len("auth_"):], "\nT,EUR,3,4000,0,0\nE,3\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), visaCard) || strings.Contains(string(text), gone.field("id")) {
		t.Errorf("a card number, or what was withdrawn, in\n%s", text)
	}

	a := d.ask(http.MethodPost, "/v1/captures/"+rest.field("id")+"/reversals", "v2", "")
	if a.status != http.StatusCreated || a.field("how") != "refund" || !strings.HasPrefix(a.field("id"), "ref_") || a.field("amount", "value") != "400" {
		t.Errorf("void after the end of the day: %d %s", a.status, a.body)
	}
	if again := d.ask(http.MethodPost, "/v1/captures/"+rest.field("id")+"/reversals", "v2", ""); again.field("id") != a.field("id") || again.field("how") != "refund" {
		t.Errorf("%s\n%s", a.body, again.body)
	}
	if a := d.ask(http.MethodPost, "/v1/reversals", "r3", `{"merchant":"books","idempotency_key":"a3"}`); a.status != http.StatusUnprocessableEntity || a.field("code") != "capture_settled" || !strings.Contains(a.body, automatic) {
		t.Errorf("a reversal of what is in a closed file: %d %s", a.status, a.body)
	}
	eventually(t, 10*time.Second, "refunded", func() bool {
		return d.ask(http.MethodGet, "/v1/refunds/"+a.field("id"), "", "").field("state") == "done"
	})
	if out, errs, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "20s"); code != 0 {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "clearing", "visa-a-000099.csv"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "1s"); code != 1 || !strings.Contains(out, "difference M3") {
		t.Errorf("every line twice: %d %s", code, out)
	}
}
