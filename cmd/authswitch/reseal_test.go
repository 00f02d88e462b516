package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// saved is a request that saves its card.
func saved(reference, pan string) string {
	return fmt.Sprintf(`{"merchant":"parcels","reference":%q,"amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","save_card":true,"card":{"number":%q,"expiry":"3012","cvv":"123"}}`, reference, pan)
}

// Stored cards follow the data key after its rotation, a killed node goes on
// where it was, tokens pay as before, and every step is in the audit log of the
// security module under its own purpose.
func TestStoredCardsFollowTheDataKey(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	var tokens []string
	for i, pan := range []string{"4111111111111111", "4970100000000154", "5555555555554444", "378282246310005"} {
		a := d.ask(http.MethodPost, "/v1/authorizations", fmt.Sprintf("save-%d", i), saved(fmt.Sprintf("ORDER-%d", i), pan))
		token := a.field("card", "token")
		if a.status != http.StatusCreated || !strings.HasPrefix(token, "card_") {
			t.Fatalf("%d %s", a.status, a.body)
		}
		tokens = append(tokens, token)
	}
	under := func(state string) (cards int, id string) {
		for _, k := range d.keys(func(k *keyLine) bool { return k.Link == "vault" && k.Usage == "data" && k.State == state }) {
			cards, id = cards+k.Cards, k.ID
		}
		return cards, id
	}
	cards, old := under("active")
	if cards != len(tokens) {
		t.Fatalf("%d cards under %s, not %d", cards, old, len(tokens))
	}
	if list, _, code := d.operate("hsm", "keys", "list", "--link", "vault"); code != 0 || !strings.Contains(list, "CARDS") {
		t.Errorf("keys list: %s", list)
	}
	if out, stderr, code := d.operate("hsm", "rotate", "data"); code != 0 {
		t.Fatalf("rotate: %s%s", out, stderr)
	}
	if err := syscall.Kill(d.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "cards under the new key", func() bool {
		if !d.ready() {
			return false
		}
		cards, id := under("active")
		left, _ := under("decrypt-only")
		return id != old && cards == len(tokens) && left == 0
	})
	if n := d.metric("stored_cards_under_earlier_data_keys"); n != 0 {
		t.Errorf("metric: %v", n)
	}
	for i, token := range tokens {
		body := fmt.Sprintf(`{"merchant":"parcels","reference":"AGAIN-%d","amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","card":{"token":%q}}`, i, token)
		if a := d.ask(http.MethodPost, "/v1/authorizations", fmt.Sprintf("again-%d", i), body); a.status != http.StatusCreated || a.field("status") != "approved" {
			t.Errorf("token %d: %d %s", i, a.status, a.body)
		}
	}
	log := string(mustRead(t, filepath.Join(d.dir, "hsm", "audit.jsonl")))
	for _, operation := range []string{"card.reseal", "card.capture"} {
		if !strings.Contains(log, `"operation":"`+operation+`"`) {
			t.Errorf("no %s in the audit log", operation)
		}
	}
	if strings.Contains(log, "card.outbox") {
		t.Error("a card was opened for the outbox although nothing is owed")
	}
}
