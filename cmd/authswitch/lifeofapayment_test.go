package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// inLedger counts the lines of a simulator's ledger with a decision, for an
// amount.
func (d *instance) inLedger(link, decision string, amount int) (n int) {
	d.t.Helper()
	text, err := os.ReadFile(d.ledger(link))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l struct {
			Decision string
			Amount   int
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Decision == decision && l.Amount == amount {
			n++
		}
	}
	return n
}

func (d *instance) verify() {
	d.t.Helper()
	if out, errs, code := run(d.t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "40s"); code != 0 {
		d.t.Errorf("verify: %d %s%s", code, out, errs)
	}
}

// captured is a capture of all of a payment, done.
func (d *instance) captured(key, auth string) string {
	d.t.Helper()
	a := d.ask(http.MethodPost, "/v1/authorizations/"+auth+"/captures", key, "")
	if a.status != http.StatusCreated {
		d.t.Fatalf("%d %s", a.status, a.body)
	}
	id := a.field("id")
	eventually(d.t, 20*time.Second, "captured", func() bool { return d.ask(http.MethodGet, "/v1/captures/"+id, "", "").field("state") == "done" })
	return id
}

// TestLifeOfAPayment: a card is verified, a parcel that was paid for 5 kg weighs
// 10 and then 2, and money goes back to a card without a payment.
func TestLifeOfAPayment(t *testing.T) {
	d := startDev(t)
	d.addMerchant("books", map[string]any{"unreferenced_refunds": true})

	verification := func(key, more string) answer {
		return d.ask(http.MethodPost, "/v1/card-verifications", key, fmt.Sprintf(
			`{"merchant":"books","reference":"V1","currency":"EUR","channel":"ecommerce","card":{"number":%q,"expiry":"3012","cvv":"937"}%s}`, visaCard, more))
	}
	a := verification("v1", `,"save_card":true`)
	token := a.field("card", "token")
	if a.status != http.StatusCreated || a.field("status") != "approved" || a.field("amount", "value") != "0" || token == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if again := verification("v1", `,"save_card":true`); again.body != a.body {
		t.Errorf("%s\n%s", a.body, again.body)
	}
	verified := a.field("id")
	if record := d.ask(http.MethodGet, "/v1/authorizations/"+verified, "", ""); record.field("state") != "verified" || record.field("capture") != "never" {
		t.Errorf("%s", record.body)
	}
	for path, body := range map[string]string{"captures": "", "increments": `{"amount":{"value":1,"currency":"EUR"}}`} {
		if a := d.ask(http.MethodPost, "/v1/authorizations/"+verified+"/"+path, "of-"+path, body); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s of a verification: %d %s", path, a.status, a.body)
		}
	}
	if a := verification("v2", `,"amount":{"value":1,"currency":"EUR"}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a verification of an amount: %d %s", a.status, a.body)
	}

	// The parcel, on the stored card: 10.00, then 14.00, then 9.00.
	paid := d.ask(http.MethodPost, "/v1/authorizations", "p1", fmt.Sprintf(
		`{"merchant":"books","reference":"PARCEL-1","amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","card":{"token":%q}}`, token))
	auth := paid.field("id")
	total := func(key string, cents int) answer {
		return d.ask(http.MethodPost, "/v1/authorizations/"+auth+"/corrections", key, fmt.Sprintf(`{"amount":{"value":%d,"currency":"EUR"},"reason":"weighed again"}`, cents))
	}
	if a := total("too-early", 1400); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "not_captured") {
		t.Errorf("before the capture: %d %s", a.status, a.body)
	}
	d.captured("c1", auth)
	up := total("up", 1400)
	if up.status != http.StatusCreated || up.field("direction") != "charge" || up.field("status") != "approved" || up.field("amount", "value") != "400" {
		t.Fatalf("%d %s", up.status, up.body)
	}
	if again := total("up", 1400); again.body != up.body {
		t.Errorf("%s\n%s", up.body, again.body)
	}
	if a := total("up-again", 1400); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "no_difference") {
		t.Errorf("the same total: %d %s", a.status, a.body)
	}
	charge := d.ask(http.MethodGet, "/v1/authorizations/"+up.field("charge"), "", "")
	if charge.field("state") != "approved" || charge.field("money", "captured") != "400" || charge.field("reference") != "PARCEL-1" {
		t.Errorf("%s", charge.body)
	}
	eventually(t, 20*time.Second, "the charge is captured", func() bool {
		return strings.Contains(d.ask(http.MethodGet, "/v1/authorizations/"+up.field("charge"), "", "").body, `"state":"done"`)
	})
	down := total("down", 900)
	if down.status != http.StatusCreated || down.field("direction") != "refund" || down.field("amount", "value") != "500" || strings.Count(down.body, "ref_") != 2 {
		t.Fatalf("%d %s", down.status, down.body)
	}
	if a := total("out-of-range", 99999999); a.status != http.StatusCreated || a.field("status") != "approved" && a.field("status") != "declined" {
		t.Errorf("up by much: %d %s", a.status, a.body)
	}
	plain := d.pay("books", "p2", 1000, "")
	d.captured("c2", plain)
	if a := d.ask(http.MethodPost, "/v1/authorizations/"+plain+"/corrections", "no-card", `{"amount":{"value":1400,"currency":"EUR"}}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "no_stored_card") {
		t.Errorf("without a stored card: %d %s", a.status, a.body)
	}

	// Money to a card without a payment.
	credit := func(merchant, key string) answer {
		return d.ask(http.MethodPost, "/v1/refunds", key, fmt.Sprintf(
			`{"merchant":%q,"reference":"GOODWILL-1","amount":{"value":700,"currency":"EUR"},"card":{"number":%q,"expiry":"3012"},"reason":"goodwill"}`, merchant, visaCard))
	}
	back := credit("books", "g1")
	if back.status != http.StatusCreated || back.field("status") != "approved" || back.fields["capture"] != nil {
		t.Fatalf("%d %s", back.status, back.body)
	}
	if again := credit("books", "g1"); again.body != back.body {
		t.Errorf("%s\n%s", back.body, again.body)
	}
	if a := credit(d.info.Merchant, "g2"); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "unreferenced_refund_not_allowed") {
		t.Errorf("where no contract allows it: %d %s", a.status, a.body)
	}
	listed := d.ask(http.MethodGet, "/v1/authorizations?merchant=books&reference=GOODWILL-1", "", "")
	if !strings.Contains(listed.body, `"state":"refund_only"`) || !strings.Contains(listed.body, `"captured":0,"refunded":700,"capturable":0}`) {
		t.Errorf("%s", listed.body)
	}
	if n := d.inLedger("visa-a", "refunded", 700); n != 1 {
		t.Errorf("refunded %d times", n)
	}
	d.verify()
}

// restartNode changes the links of the node's file and starts it again.
func (d *instance) restartNode(edit func(link map[string]any)) {
	d.t.Helper()
	file := filepath.Join(d.dir, d.info.Nodes[0].ID+".yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	var c map[string]any
	if err := yaml.Unmarshal(text, &c); err != nil {
		d.t.Fatal(err)
	}
	for _, l := range c["links"].([]any) {
		edit(l.(map[string]any))
	}
	if text, err = yaml.Marshal(c); err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	before := d.pid()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, 20*time.Second, "the node is back", func() bool {
		a, err := d.tryAsk(http.MethodGet, "/v1/links", "", "")
		return err == nil && d.pid() != before && a.status == http.StatusOK && strings.Count(a.body, `"state":"ready"`) == len(d.info.Links)
	})
}

// TestRefundWithoutAnswer: where the link reverses refunds, each attempt is
// reversed before the next, and none is paid twice; where it does not, the
// refund waits for a person and no machine repeats it.
func TestRefundWithoutAnswer(t *testing.T) {
	d := startDev(t)
	refund := func(key string, cents int) string {
		t.Helper()
		capture := d.captured("c-"+key, d.pay(d.info.Merchant, "p-"+key, 5000, ""))
		a := d.ask(http.MethodPost, "/v1/refunds", key, fmt.Sprintf(`{"capture":%q,"amount":{"value":%d,"currency":"EUR"}}`, capture, cents))
		if a.status != http.StatusCreated || a.field("status") != "pending" || a.field("final") != "false" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.field("id")
	}
	state := func(id string) string { return d.ask(http.MethodGet, "/v1/refunds/"+id, "", "").field("state") }

	reversible := refund("r1", 1084) // paid, and no answer
	eventually(t, 120*time.Second, "every attempt is reversed", func() bool { return state(reversible) == "failed" })
	paid, undone := d.inLedger("visa-a", "refunded", 1084), d.inLedger("visa-a", "reversed", 1084)
	if paid != undone || paid < 2 {
		t.Errorf("paid %d times, undone %d times", paid, undone)
	}

	d.restartNode(func(link map[string]any) {
		if link["name"] == "visa-a" {
			link["refunds_final"] = true
		}
	})
	final := refund("r2", 1184)
	eventually(t, 30*time.Second, "a person's", func() bool { return state(final) == "exception" })
	time.Sleep(5 * time.Second) // nothing may happen: there is nothing to wait on
	if n := d.inLedger("visa-a", "refunded", 1184); n != 1 || state(final) != "exception" {
		t.Errorf("paid %d times, %s", n, state(final))
	}
	auth := d.ask(http.MethodGet, "/v1/refunds/"+final, "", "").field("authorization")
	if _, errs, code := d.operate("transaction", "write-off", auth, "--reason", "their statement"); code != 1 || !strings.Contains(errs, "--result") {
		t.Errorf("without a result: %d %s", code, errs)
	}
	if out, errs, code := d.operate("transaction", "write-off", auth, "--reason", "their statement", "--result", "taken"); code != 0 || !strings.Contains(out, `"written_off": 1`) {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	if state(final) != "done" {
		t.Errorf("%s", state(final))
	}
	d.verify()
}
