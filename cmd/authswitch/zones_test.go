package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authswitch/cmd/authswitch/simcmd"
)

// atCounter is a payment at dev's counter with a PIN block.
func (d *instance) atCounter(block string, amount int) string {
	return fmt.Sprintf(`{"merchant":%q,"reference":"TILL-1","amount":{"value":%d,"currency":"EUR"},"channel":"card_present",`+
		`"card":{"entry":"chip","track2":%q,"pin":{"block":%q,"format":"iso0","key":"terminals"}}}`, d.info.Merchant, amount, cbCard+"=30122011000000000", block)
}

// pinBlock is what a terminal of dev makes of a PIN.
func (d *instance) pinBlock(pan, pin string) string {
	d.t.Helper()
	block, err := simcmd.TerminalPIN(filepath.Join(d.dir, "hsm", "terminals.p0"), pan, pin)
	if err != nil {
		d.t.Fatal(err)
	}
	return block
}

// operations adds up a counter of the node over all its labels but one.
func (d *instance) operations(name, label string) float64 {
	return sumOf(d.t, d.metrics(), name, label)
}

func sumOf(t *testing.T, metrics, name, label string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			fields := strings.Fields(line)
			v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// A payment with a PIN goes through the security module and the acquirer's own
// keys; keys are exchanged while it goes on; without the module it is refused at
// once and nothing is sent, while card-not-present traffic does not notice and
// never asked it for anything.
func TestCounter(t *testing.T) {
	hsmd(t)
	d := startDev(t, "--sim-codec", "moov") // which reads track 2 in packed digits as others do
	good := d.pinBlock(cbCard, "1234")
	asked := d.operations("hsm_operations_total", `op="translate_pin"`) + d.operations("hsm_operations_total", `op="generate_mac"`) + d.operations("hsm_operations_total", `op="verify_mac"`)
	if a := d.ask(http.MethodPost, "/v1/authorizations", "not-present", d.body(visaCard, 1000)); a.field("status") != "approved" {
		t.Fatalf("card not present: %d %s", a.status, a.body)
	}
	now := d.operations("hsm_operations_total", `op="translate_pin"`) + d.operations("hsm_operations_total", `op="generate_mac"`) + d.operations("hsm_operations_total", `op="verify_mac"`)
	if now != asked || d.operations("zone_operations_total", "") != asked {
		t.Errorf("card not present asked the security module: %v, then %v", asked, now)
	}
	for i, c := range []struct {
		name, block  string
		status       int
		code, refuse string
	}{
		{"approved", good, http.StatusCreated, "00", ""},
		{"wrong PIN", d.pinBlock(cbCard, "4321"), http.StatusCreated, "55", ""},
		{"another card's block", d.pinBlock(visaCard, "1234"), http.StatusUnprocessableEntity, "", "pin_refused"},
		{"no block", "0011223344556677", http.StatusUnprocessableEntity, "", "pin_refused"},
	} {
		a := d.ask(http.MethodPost, "/v1/authorizations", "counter-"+strconv.Itoa(i), d.atCounter(c.block, 1000))
		if a.status != c.status || a.field("response_code") != c.code || !strings.Contains(a.body, c.refuse) || strings.Contains(a.body, c.block) {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
		if a.status == http.StatusCreated && a.field("link") != "cb-b" {
			t.Errorf("%s: went to %s", c.name, a.field("link"))
		}
	}
	// An answer that never comes: the reversal has its own MAC, and is believed.
	if a := d.ask(http.MethodPost, "/v1/authorizations", "silence", d.atCounter(good, 1068)); a.status != http.StatusGatewayTimeout {
		t.Errorf("silence: %d %s", a.status, a.body)
	}
	eventually(t, 10*time.Second, "the reversal is acknowledged", func() bool { return d.metric("reversals_owed") == 0 })
	if n := countDecisions(d.readLedger("cb-b"), 1068, "reversed"); n != 1 {
		t.Errorf("%d reversals at the acquirer", n)
	}

	before := d.operations("zone_key_exchanges_total", `result="active"`)
	if out, errs, code := d.operate("link", "exchange-keys", "cb-b"); code != 0 {
		t.Errorf("exchange-keys: %d %s%s", code, out, errs)
	}
	if after := d.operations("zone_key_exchanges_total", `result="active"`); after != before+2 {
		t.Errorf("%v keys exchanged, then %v", before, after)
	}
	if _, errs, code := d.operate("link", "exchange-keys", "visa-a"); code != 1 || !strings.Contains(errs, "exchange") {
		t.Errorf("a link without keys: %d %s", code, errs)
	}
	if a := d.ask(http.MethodPost, "/v1/authorizations", "new-keys", d.atCounter(good, 1000)); a.field("status") != "approved" {
		t.Errorf("under new keys: %d %s", a.status, a.body)
	}
	d.capturesWithMAC(good)
	if n := d.operations("link_bad_macs_total", ""); n != 0 {
		t.Errorf("%v bad MACs", n)
	}
	d.moduleAway(good)
}

// capturesWithMAC: a capture leaves with a MAC, which the acquirer wants, and
// its answer's is checked.
func (d *instance) capturesWithMAC(good string) {
	d.t.Helper()
	a := d.ask(http.MethodPost, "/v1/authorizations", "to-capture", d.atCounter(good, 4200))
	before := d.zoneCounters()
	c := d.ask(http.MethodPost, "/v1/authorizations/"+a.field("id")+"/captures", "capture", `{"final":true}`)
	if c.status != http.StatusCreated {
		d.t.Fatalf("capture: %d %s", c.status, c.body)
	}
	eventually(d.t, 10*time.Second, "the capture is at the acquirer", func() bool { return countDecisions(d.readLedger("cb-b"), 4200, "captured") == 1 })
	var used zoneCounters
	eventually(d.t, 10*time.Second, "its answer is checked", func() bool {
		used = d.zoneCounters().since(before)
		return used.verified == 1
	})
	if used.made != 1 || used.failed != 0 {
		d.t.Errorf("%+v", used)
	}
}

// moduleAway stops the security module, lets it go on, kills it.
func (d *instance) moduleAway(good string) {
	t := d.t
	t.Helper()
	pid := func() int {
		b, err := os.ReadFile(filepath.Join(d.dir, "hsm", "pid"))
		if err != nil {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		stopped := pid()
		if err := syscall.Kill(stopped, signal); err != nil {
			t.Fatal(err)
		}
		sent := len(d.readLedger("cb-b"))
		if signal == syscall.SIGSTOP {
			a := d.ask(http.MethodPost, "/v1/authorizations", "away-"+signal.String(), d.atCounter(good, 1000))
			if a.status != http.StatusServiceUnavailable || a.field("code") != "security_unavailable" || a.field("response_code") != "96" {
				t.Errorf("%s: %d %s", signal, a.status, a.body)
			}
			if len(d.readLedger("cb-b")) != sent {
				t.Errorf("%s: something was sent", signal)
			}
		}
		if a := d.ask(http.MethodPost, "/v1/authorizations", "away-cnp-"+signal.String(), d.body(visaCard, 1000)); a.field("status") != "approved" {
			t.Errorf("%s: card not present: %d %s", signal, a.status, a.body)
		}
		if signal == syscall.SIGSTOP {
			if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		// The same key: what was refused is not its answer.
		eventually(t, 15*time.Second, "PIN payments are back", func() bool {
			return d.ask(http.MethodPost, "/v1/authorizations", "away-"+signal.String(), d.atCounter(good, 1000)).field("status") == "approved"
		})
	}
}
