package api

import (
	"net/http"
	"strings"
	"testing"

	"authswitch/payment"
)

// fakeLinks keeps links in memory.
type fakeLinks struct {
	links map[payment.ID]payment.PayLink
}

func (f *fakeLinks) KeepLink(k *payment.PayLink) (payment.PayLink, error) {
	if k.ID.IsZero() {
		k.ID = testID()
	}
	if f.links == nil {
		f.links = map[payment.ID]payment.PayLink{}
	}
	kept := *k
	kept.CreatedAt, kept.ChangedAt = testInstant, testInstant
	kept.Reference, kept.Text, kept.Key = []byte(string(k.Reference)), []byte(string(k.Text)), []byte(string(k.Key))
	f.links[k.ID] = kept
	return kept, nil
}

func (f *fakeLinks) PaymentLink(id payment.ID) (payment.PayLink, error) {
	k, ok := f.links[id]
	if !ok {
		return k, payment.ErrNotFound
	}
	return k, nil
}

const linkBody = `{"merchant":"parcels","reference":"INVOICE-9","amount":{"value":4500,"currency":"EUR"},"expires_at":"2026-12-31T00:00:00Z","uses":2,"description":"Invoice 9"}`

func TestPaymentLinks(t *testing.T) {
	d := openDoor(t, Config{})
	made := d.ask(http.MethodPost, "/v1/payment-links", linkBody)
	id, _ := made.json["id"].(string)
	if made.status != 201 || made.json["status"] != "open" || made.json["uses"] != 2.0 || made.json["authorization"] != nil {
		t.Fatalf("%d %s", made.status, made.text)
	}
	if a := d.ask(http.MethodGet, "/v1/payment-links/"+id, ""); a.status != 200 || a.text != made.text {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodGet, "/v1/payment-links/"+id, "", "Authorization: Bearer "+otherKey); a.status != 404 {
		t.Errorf("another's: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodDelete, "/v1/payment-links/"+id, "", "Authorization: Bearer "+otherKey); a.status != 404 {
		t.Errorf("cancelled by another: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodDelete, "/v1/payment-links/"+id, ""); a.status != 200 || a.json["status"] != "cancelled" {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodGet, "/v1/payment-links/plink_1", ""); a.status != 404 {
		t.Errorf("no id: %d %s", a.status, a.text)
	}
	for _, c := range []struct{ from, to, pointer string }{
		{`"parcels"`, `null`, "/merchant"},
		{`"reference":"INVOICE-9",`, ``, "/reference"},
		{`"value":4500`, `"value":0`, "/amount/value"},
		{`"EUR"`, `"ECU"`, "/amount/currency"},
		{`"amount":{"value":4500,"currency":"EUR"},`, ``, "/amount"},
		{`"2026-12-31T00:00:00Z"`, `"tomorrow"`, "/expires_at"},
		{`"2026-12-31T00:00:00Z"`, `"2026-01-01T00:00:00Z"`, "/expires_at"},
		{`"2026-12-31T00:00:00Z"`, `"2036-01-01T00:00:00Z"`, "/expires_at"},
		{`"uses":2`, `"uses":0`, "/uses"},
		{`"uses":2`, `"uses":1.5`, "/uses"},
		{`"uses":2`, `"uses":10001`, "/uses"},
		{`"uses":2`, `"usses":2`, "/usses"},
		{`Invoice 9`, `of 4111111111111111`, "/description"},
	} {
		a := d.ask(http.MethodPost, "/v1/payment-links", strings.Replace(linkBody, c.from, c.to, 1))
		if a.status != 422 || !strings.Contains(a.text, `"pointer":"`+c.pointer+`"`) {
			t.Errorf("%s: %d %s", c.to, a.status, a.text)
		}
	}
	if a := d.ask(http.MethodPost, "/v1/payment-links", linkBody, "Idempotency-Key:"); a.status != 400 {
		t.Errorf("no key: %d %s", a.status, a.text)
	}
}
