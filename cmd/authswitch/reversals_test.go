package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a gateway reverses by the little it knows, whenever it asks: before the
// original comes, while it runs, after it was approved, again, and after it
// ended without money. Another gateway gets nothing.
func TestGatewayReversals(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.add(misbehaviour{name: "one"}, "cb")
	b.add(misbehaviour{name: "two"}, "visa")
	b.gateways = [][]string{{"one-cb"}, {"two-visa"}} // each its own merchant only
	d := b.start()
	eventually(t, 20*time.Second, "ready", d.ready)
	g := &undoing{t: t, d: d, merchant: "one-cb"}

	t.Run("before the original, by key", func(t *testing.T) {
		first := g.reverse("undo-early", "idempotency_key", "early")
		if first.status != http.StatusCreated || first.field("status") != "not_found" || first.field("authorization") != "" {
			t.Errorf("%d %s", first.status, first.body)
		}
		for range 2 { // and for ever
			a := g.authorize("early", "R-early", 1000)
			if a.status != http.StatusConflict || a.field("code") != "reversed" || a.field("final") != "true" {
				t.Errorf("the original: %d %s", a.status, a.body)
			}
		}
		if again := g.reverse("undo-early", "idempotency_key", "early"); again.body != first.body || again.status != first.status {
			t.Errorf("again: %d %s", again.status, again.body)
		}
	})

	t.Run("before the original, by reference", func(t *testing.T) {
		if a := g.reverse("undo-reference", "reference", "R-barred"); a.status != http.StatusCreated || a.field("status") != "not_found" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := g.authorize("with-barred-reference", "R-barred", 1000); a.status != http.StatusConflict || a.field("code") != "reversed" {
			t.Errorf("the original: %d %s", a.status, a.body)
		}
		if a := g.authorize("with-other-reference", "R-free", 1000); a.field("status") != "approved" {
			t.Errorf("another reference: %d %s", a.status, a.body)
		}
	})

	t.Run("while it runs", func(t *testing.T) {
		asked := make(chan answer, 1)
		go func() { asked <- g.authorize("running", "R-running", 1068) }()
		eventually(t, 5*time.Second, "the acquirer was asked", func() bool { return g.decided(1068, "silent") == 1 })
		a := g.reverse("undo-running", "idempotency_key", "running")
		if a.status != http.StatusCreated || a.field("status") != "pending" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if original := <-asked; original.status != http.StatusConflict || original.field("code") != "reversed" || original.field("final") != "true" {
			t.Errorf("the original: %d %s", original.status, original.body)
		}
		g.ends(t, a.field("authorization"), "reversed")
		if g.decided(1068, "reversed") != 1 {
			t.Errorf("not reversed at the acquirer:\n%s", g.d.readLedger(g.merchant))
		}
	})

	t.Run("after approval, by key", func(t *testing.T) { g.approved(t, "idempotency_key", 2100) })
	t.Run("after approval, by reference", func(t *testing.T) { g.approved(t, "reference", 2200) })
	t.Run("after approval, by id", func(t *testing.T) { g.approved(t, "", 2300) })

	t.Run("what needs none", func(t *testing.T) {
		g.authorize("declined", "R-declined", 1051)
		a := g.reverse("undo-declined", "idempotency_key", "declined")
		if a.status != http.StatusCreated || a.field("status") != "not_needed" || a.field("state") != "declined" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if g.decided(1051, "reversed") != 0 {
			t.Error("a decline was reversed")
		}
	})

	t.Run("by another gateway", func(t *testing.T) { g.foreign(t, b.keys[1]) })

	t.Run("its key used otherwise", func(t *testing.T) {
		if a := g.reverse("undo-early", "idempotency_key", "something else"); a.status != http.StatusUnprocessableEntity || a.field("code") != "idempotency_key_reused" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := g.reverse("early-too", "", ""); a.status != http.StatusUnprocessableEntity {
			t.Errorf("without a name: %d %s", a.status, a.body)
		}
	})

	out, errs, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--ledger", b.ledger(g.merchant), "--settle", "10s")
	if code != 0 {
		t.Errorf("verify: exit %d\n%s%s", code, out, errs)
	}
}

// undoing is a gateway that reverses.
type undoing struct {
	t        *testing.T
	d        *instance
	merchant string
}

func (g *undoing) authorize(key, reference string, amount int) answer {
	body := fmt.Sprintf(`{"merchant":%q,"reference":%q,"amount":{"value":%d,"currency":"EUR"},"channel":"ecommerce","card":{"number":%q,"expiry":"3012","cvv":"937"}}`,
		g.merchant, reference, amount, visaCard)
	a, err := g.d.tryAsk(http.MethodPost, "/v1/authorizations", key, body)
	if err != nil {
		g.t.Error(err)
	}
	return a
}

// reverse names the original by one of its names.
func (g *undoing) reverse(key, by, name string) answer {
	body := fmt.Sprintf(`{"merchant":%q,"reason":"customer_cancellation"}`, g.merchant)
	if by != "" {
		body = fmt.Sprintf(`{"merchant":%q,%q:%q,"reason":"timeout"}`, g.merchant, by, name)
	}
	return g.d.ask(http.MethodPost, "/v1/reversals", key, body)
}

// approved reverses an approval, twice with one key and once with another: the
// acquirer is told once.
func (g *undoing) approved(t *testing.T, by string, amount int) {
	name := fmt.Sprintf("undone-%d", amount)
	original := g.authorize(name, "R-"+name, amount)
	id := original.field("id")
	if original.field("status") != "approved" {
		t.Fatalf("%d %s", original.status, original.body)
	}
	undo := func(key string) answer {
		switch by {
		case "":
			return g.d.ask(http.MethodPost, "/v1/authorizations/"+id+"/reversals", key, `{"reason":"suspected_fraud"}`)
		case "reference":
			return g.reverse(key, by, "R-"+name)
		}
		return g.reverse(key, by, name)
	}
	first := undo("undo-" + name)
	if first.status != http.StatusCreated || first.field("status") != "pending" || first.field("authorization") != id {
		t.Errorf("%d %s", first.status, first.body)
	}
	g.ends(t, id, "reversed")
	if again := undo("undo-" + name); again.body != first.body {
		t.Errorf("again: %s, first %s", again.body, first.body)
	}
	if later := undo("undo-again-" + name); later.status != http.StatusCreated || later.field("status") != "reversed" {
		t.Errorf("with another key: %d %s", later.status, later.body)
	}
	if told := g.authorize(name, "R-"+name, amount); told.body != original.body {
		t.Errorf("the original is now told\n%s, not\n%s", told.body, original.body)
	}
	if n := g.decided(amount, "reversed"); n != 1 {
		t.Errorf("reversed %d times at the acquirer", n)
	}
	found := g.d.ask(http.MethodGet, "/v1/authorizations?merchant="+g.merchant+"&reference=R-"+name, "", "")
	if found.status != http.StatusOK || !strings.Contains(found.body, `"state":"reversed"`) || strings.Contains(found.body, visaCard) {
		t.Errorf("found by reference: %d %s", found.status, found.body)
	}
	events := g.d.ask(http.MethodGet, "/v1/payments/"+id+"/events", "", "")
	for _, kind := range []string{"intent", "outcome", "reversal_owed", "reversal_sent", "reversal_ended"} {
		if n := strings.Count(events.body, `"kind":"`+kind+`"`); n != 1 {
			t.Errorf("%d events %s: %s", n, kind, events.body)
		}
	}
}

// foreign asks with the key of a gateway that does not act for the merchant.
func (g *undoing) foreign(t *testing.T, key string) {
	original := g.authorize("kept", "R-kept", 2400)
	id := original.field("id")
	other := *g.d
	other.info.Key = key
	theirs := &undoing{t: t, d: &other, merchant: g.merchant}
	if a := theirs.reverse("steal", "idempotency_key", "kept"); a.status != http.StatusForbidden {
		t.Errorf("by key: %d %s", a.status, a.body)
	}
	if a := theirs.reverse("steal-too", "reference", "R-kept"); a.status != http.StatusForbidden {
		t.Errorf("by reference: %d %s", a.status, a.body)
	}
	if a := other.ask(http.MethodPost, "/v1/authorizations/"+id+"/reversals", "steal-by-id", `{}`); a.status != http.StatusNotFound && a.status != http.StatusForbidden {
		t.Errorf("by id: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/v1/authorizations/" + id, "/v1/payments/" + id + "/events", "/v1/authorizations?merchant=" + g.merchant + "&idempotency_key=kept"} {
		if a := other.ask(http.MethodGet, path, "", ""); a.status != http.StatusNotFound && a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if state := g.d.ask(http.MethodGet, "/v1/authorizations/"+id, "", "").field("state"); state != "approved" {
		t.Errorf("it is %s now", state)
	}
}

func (g *undoing) ends(t *testing.T, id, state string) {
	t.Helper()
	eventually(t, 15*time.Second, id+" is "+state, func() bool {
		return g.d.ask(http.MethodGet, "/v1/authorizations/"+id, "", "").field("state") == state
	})
}

// decided counts what the acquirer did about an amount.
func (g *undoing) decided(amount int, decision string) int {
	return countDecisions(g.d.readLedger(g.merchant), amount, decision)
}
