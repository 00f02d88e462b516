package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The first payment of a newcomer, and everything the simulators can answer it
// by amount.
func TestPayments(t *testing.T) {
	d := startDev(t)

	t.Run("approved on every scheme", func(t *testing.T) {
		for _, card := range []struct{ number, scheme string }{
			{visaCard, "visa"}, {cbCard, "cb"}, {mastercardCard, "mastercard"}, {amexCard, "amex"},
		} {
			a := d.authorize("approved-"+card.scheme, card.number, 1000)
			if a.status != http.StatusCreated || a.field("status") != "approved" || a.field("scheme") != card.scheme || a.field("response_code") == "" {
				t.Errorf("%s: %d %s", card.scheme, a.status, a.body)
			}
		}
	})

	t.Run("the same key gets the same bytes", func(t *testing.T) {
		first, again := d.authorize("same", visaCard, 1000), d.authorize("same", visaCard, 1000)
		if first.status != again.status || first.body != again.body {
			t.Errorf("%s\n%s", first.body, again.body)
		}
		if other := d.authorize("same", visaCard, 2000); other.status != http.StatusUnprocessableEntity {
			t.Errorf("another body: %d %s", other.status, other.body)
		}
	})

	t.Run("declined", func(t *testing.T) {
		a := d.authorize("declined", visaCard, 1051)
		if a.status != http.StatusCreated || a.field("status") != "declined" || a.field("response_code") != "51" || a.field("reason") != "insufficient_funds" {
			t.Errorf("%d %s", a.status, a.body)
		}
	})

	t.Run("issuer down: other routes, then a decline", func(t *testing.T) {
		a := d.authorize("down", cbCard, 1091)
		if a.status != http.StatusCreated || a.field("status") != "declined" || a.field("link") == "cb-a" {
			t.Errorf("%d %s", a.status, a.body)
		}
		item := d.ask(http.MethodGet, "/v1/authorizations?merchant="+d.info.Merchant+"&idempotency_key=down", "", "")
		for _, link := range []string{`"cb-a"`, `"cb-b"`} {
			if !strings.Contains(item.body, link) {
				t.Errorf("%s was not tried: %s", link, item.body)
			}
		}
	})

	t.Run("no answer", func(t *testing.T) { reversed(t, d, "silence", 1068) })
	t.Run("late answer", func(t *testing.T) { reversed(t, d, "late", 1069) })

	t.Run("what is found and what is not", func(t *testing.T) {
		a := d.ask(http.MethodGet, "/v1/authorizations?merchant="+d.info.Merchant+"&idempotency_key=declined", "", "")
		if a.status != http.StatusOK || !strings.Contains(a.body, `"declined"`) {
			t.Errorf("by key: %d %s", a.status, a.body)
		}
		for _, path := range []string{"/v1/authorizations/auth_00000000000000000000000000000000", "/v1/authorizations/x", "/nowhere"} {
			if a := d.ask(http.MethodGet, path, "", ""); a.status != http.StatusNotFound {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
}

// reversed asks an amount whose answer does not come in time. The key asked
// before, during and after gets the first final answer; the reversal is
// acknowledged moments later.
func reversed(t *testing.T, d *instance, key string, amount int) {
	started := time.Now()
	before := make(chan answer, 1)
	go func() {
		a, _ := d.tryAsk(http.MethodPost, "/v1/authorizations", key, d.body(visaCard, amount))
		before <- a
	}()
	a := d.authorize(key, visaCard, amount)
	if took := time.Since(started); took > 8*time.Second {
		t.Errorf("answered after %s: the gateway's budget is 8 s", took)
	}
	if a.status != http.StatusGatewayTimeout || a.field("code") != "acquirer_timeout" || a.field("final") != "true" || a.field("reversal") != "owed" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if b := <-before; b.body != a.body {
		t.Errorf("two at once: %s\n%s", b.body, a.body)
	}
	id := a.field("id")
	eventually(t, 15*time.Second, "the reversal acknowledged", func() bool {
		if again := d.authorize(key, visaCard, amount); again.body != a.body {
			t.Fatalf("the same key later: %s\n%s", again.body, a.body)
		}
		return d.ask(http.MethodGet, "/v1/authorizations/"+id, "", "").field("state") == "reversed"
	})
	events := d.ask(http.MethodGet, "/v1/payments/"+id+"/events", "", "")
	for _, kind := range []string{"intent", "outcome", "reversal_sent", "reversal_ended"} {
		if !strings.Contains(events.body, `"`+kind+`"`) {
			t.Errorf("no %s among the events: %s", kind, events.body)
		}
	}
	ledger, err := os.ReadFile(d.ledger("visa-a"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ledger), `"reversed"`) && !strings.Contains(string(ledger), `"unknown_original"`) {
		t.Errorf("no reversal in the simulator's ledger:\n%s", ledger)
	}
}

func (d *instance) ledger(link string) string {
	for _, l := range d.info.Links {
		if l.Name == link {
			return l.Ledger
		}
	}
	d.t.Fatalf("no link %s", link)
	return ""
}

// A clean stop drains and ends with 0; without --keep nothing stays behind.
func TestCleanStop(t *testing.T) {
	d := startDev(t)
	if a := d.authorize("one", visaCard, 1000); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if err := d.stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "api.key")); err != nil {
		t.Errorf("--keep did not keep: %v", err)
	}
}

// Two of them on the same ports: the second says so instead of showing the
// first one's node as its own.
func TestPortsTaken(t *testing.T) {
	d := startDev(t)
	port := d.info.API[strings.LastIndexByte(d.info.API, ':')+1:]
	_, errs, code := run(t, "dev", "--port-base", port)
	if code != 1 || !strings.Contains(errs, "--port-base") {
		t.Errorf("exit %d: %s", code, errs)
	}
}
