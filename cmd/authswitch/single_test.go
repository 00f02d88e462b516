package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// acquirer starts another simulator and puts it behind the link of Visa.
func (d *instance) acquirer(dialect string) (ledger string) {
	d.t.Helper()
	program, err := binary()
	if err != nil {
		d.t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", portBase()+50)
	ledger = filepath.Join(d.dir, dialect+"-ledger.jsonl")
	scenario := filepath.Join(d.dir, dialect+"-scenario.yaml")
	text := fmt.Sprintf("name: visa-a\ndialect: %s\nlisten: %s\nledger: %s\n", dialect, address, ledger)
	if err := os.WriteFile(scenario, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	sim := exec.Command(program, "sim", "run", scenario)
	sim.Stdout, sim.Stderr = d.logs, d.logs
	if err := sim.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = sim.Process.Kill(); _ = sim.Wait() })
	d.restartNode(func(link map[string]any) {
		if link["name"] == "visa-a" {
			link["address"], link["dialect"], link["simulator_ledger"] = address, dialect, ledger
		}
	})
	return ledger
}

// TestSingleMessageLinks: automatic is one 0200 and nothing is captured
// afterwards; manual is a 0100 that a 0200 completes, naming it; and where
// nothing could, it is refused before anything is sent.
func TestSingleMessageLinks(t *testing.T) {
	d := startDev(t)
	ledger := d.acquirer("ascii87-single")
	sale := d.pay(d.info.Merchant, "sale", 1000, `,"capture":"automatic"`)
	capture := "cap_" + sale[len("auth_"):]
	if a := d.ask(http.MethodGet, "/v1/captures/"+capture, "", ""); a.field("means") != "sale" || a.field("state") != "done" {
		t.Errorf("%s", a.body)
	}
	if a := d.ask(http.MethodPost, "/v1/authorizations/"+sale+"/captures", "again", ""); a.status != http.StatusUnprocessableEntity {
		t.Errorf("captured again: %d %s", a.status, a.body)
	}
	held := d.pay(d.info.Merchant, "hold", 2000, "")
	if a := d.ask(http.MethodPost, "/v1/authorizations/"+held+"/captures", "part", `{"amount":{"value":1500,"currency":"EUR"},"final":true}`); a.field("status") != "approved" || a.field("means") != "online" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := d.ask(http.MethodPost, "/v1/captures/"+capture+"/reversals", "void", ""); a.field("how") != "reversal" {
		t.Errorf("%d %s", a.status, a.body)
	}
	eventually(t, 20*time.Second, "the sale is reversed", func() bool {
		return d.ask(http.MethodGet, "/v1/authorizations/"+sale, "", "").field("state") == "reversed"
	})
	d.verify()
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for line := range strings.Lines(string(text)) {
		mti := line[strings.Index(line, `"mti":"`)+7:][:4]
		decision := line[strings.Index(line, `"decision":"`)+12:]
		seen = append(seen, mti+" "+decision[:strings.IndexByte(decision, '"')])
	}
	all := strings.Join(seen, ", ")
	for _, want := range []string{"0200 approved", "0100 approved", "0200 captured", "0420 reversed"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s among %s", want, all)
		}
	}
	if strings.Contains(all, "0220") || strings.Count(all, "0200 approved") != 1 {
		t.Errorf("left: %s", all)
	}

	d.acquirer("ancv")
	a := d.ask(http.MethodPost, "/v1/authorizations", "later", d.body(visaCard, 1000))
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "capture_mode_not_supported") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
