package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"authswitch/merchant"
	"authswitch/payment"
)

// fakeMerchants keeps versions in memory, as the cluster does in its journal.
type fakeMerchants struct {
	versions map[payment.MerchantID][]MerchantState
	broken   error
}

func (f *fakeMerchants) Merchants() (all []MerchantState, err error) {
	for _, v := range f.versions {
		all = append(all, v[len(v)-1])
	}
	slices.SortFunc(all, func(a, b MerchantState) int { return strings.Compare(string(a.Document.ID), string(b.Document.ID)) })
	return all, f.broken
}

func (f *fakeMerchants) Merchant(id payment.MerchantID) (MerchantState, error) {
	v := f.versions[id]
	if len(v) == 0 {
		return MerchantState{}, payment.ErrNotFound
	}
	return v[len(v)-1], f.broken
}

func (f *fakeMerchants) Versions(id payment.MerchantID) ([]MerchantState, error) {
	return slices.DeleteFunc(slices.Clone(f.versions[id]), func(s MerchantState) bool { return s.Version == 0 }), f.broken
}

func (f *fakeMerchants) Change(s *MerchantState) (MerchantState, []merchant.Fault, error) {
	if faults := s.Document.Check(); len(faults) > 0 {
		return *s, faults, nil
	}
	v := f.versions[s.Document.ID]
	if len(v) > 0 && v[len(v)-1].Version != s.Version {
		return *s, nil, payment.ErrMerchantVersion
	}
	next := *s
	next.Version, next.ChangedAt = s.Version+1, testInstant
	if f.versions == nil {
		f.versions = map[payment.MerchantID][]MerchantState{}
	}
	f.versions[next.Document.ID] = append(v, next)
	return next, nil, f.broken
}

const (
	asAdmin     = "Authorization: Bearer " + adminKey
	contentJSON = "Content-Type: application/json"
	contractCB  = `{"scheme":"cb","links":["cb-a"],"terminal":"TERM0001","acceptor":"PARCELS00000001","mcc":"9402","acquirer":"497010"}`
	parcels     = `{"id":"parcels","name":"Parcels","contracts":[` + contractCB + `],"reason":"signed today"}`
)

func TestMerchants(t *testing.T) {
	d, _ := batchDoor(t) // it knows an operator
	expect := func(what string, a answer, status int, code string) {
		t.Helper()
		if got, _ := a.json["code"].(string); a.status != status || got != code {
			t.Errorf("%s: %d %s", what, a.status, a.text)
		}
	}
	expect("no key", d.ask(http.MethodGet, "/v1/merchants", "", "Authorization:"), 401, "unauthorized")
	expect("a gateway's key", d.ask(http.MethodPost, "/v1/merchants", parcels), 403, "administrators_only")
	expect("an administrator elsewhere", d.ask(http.MethodGet, "/v1/whoami", "", asAdmin), 401, "unauthorized")

	expect("a guess at an operator's credential", d.ask(http.MethodPost, "/v1/merchants", parcels, basic("ana:guess")), 401, "unauthorized")
	expect("an operator where there is none", d.ask(http.MethodPut, "/v1/merchants/nobody", parcels, basic("ana:her:secret"), contentJSON, `If-Match: "1"`), 404, "not_found")

	made := d.ask(http.MethodPost, "/v1/merchants", parcels, asAdmin)
	if made.status != 201 || made.json["version"] != 1.0 || made.json["changed_by"] != "anna" || made.json["reason"] != "signed today" || made.header.Get("ETag") != `"1"` {
		t.Fatalf("made: %d %s", made.status, made.text)
	}
	if again := d.ask(http.MethodPost, "/v1/merchants", parcels, asAdmin); again.status != 201 || again.text != made.text {
		t.Errorf("asked again: %d %s", again.status, again.text)
	}
	expect("another document", d.ask(http.MethodPost, "/v1/merchants", strings.Replace(parcels, "9402", "5999", 1), asAdmin), 409, "merchant_exists")

	one := d.ask(http.MethodGet, "/v1/merchants/parcels", "")
	if one.status != 200 || one.text != made.text {
		t.Errorf("its gateway sees %d %s", one.status, one.text)
	}
	expect("another gateway", d.ask(http.MethodGet, "/v1/merchants/parcels", "", "Authorization: Bearer "+otherKey), 404, "not_found")
	if list := d.ask(http.MethodGet, "/v1/merchants", "", "Authorization: Bearer "+otherKey); strings.Contains(list.text, "parcels") {
		t.Errorf("another gateway's list: %s", list.text)
	}

	change := strings.Replace(parcels, "9402", "5999", 1)
	put := func(body string, headers ...string) answer {
		return d.ask(http.MethodPut, "/v1/merchants/parcels", body, append([]string{contentJSON}, headers...)...)
	}
	expect("no version", put(change, asAdmin), 428, "version_required")
	expect("another version", put(change, asAdmin, `If-Match: "7"`), 412, "version_changed")
	expect("a gateway", put(change, `If-Match: "1"`), 403, "administrators_only")
	expect("another id", put(strings.Replace(change, `"parcels"`, `"books"`, 1), asAdmin, `If-Match: "1"`), 422, "invalid_request")
	if changed := put(change, asAdmin, `If-Match: "1"`); changed.status != 200 || changed.json["version"] != 2.0 || changed.header.Get("ETag") != `"2"` {
		t.Errorf("changed: %d %s", changed.status, changed.text)
	}
	byAna := strings.Replace(change, "signed today", "for the audit", 1)
	if changed := put(byAna, basic("ana:her:secret"), `If-Match: "2"`); changed.status != 200 || changed.json["changed_by"] != "ana" {
		t.Errorf("by an operator: %d %s", changed.status, changed.text)
	}
	expect("the same change from the old version", put(change, asAdmin, `If-Match: "1"`), 412, "version_changed")

	contract := "/v1/merchants/parcels/contracts/visa"
	expect("no such contract", d.ask(http.MethodGet, contract, "", asAdmin), 404, "not_found")
	visa := strings.Replace(strings.Replace(contractCB, `"scheme":"cb",`, "", 1), "cb-a", "visa-a", 1)
	if a := d.ask(http.MethodPut, contract, visa, asAdmin, contentJSON, `If-Match: "3"`); a.status != 200 || !strings.Contains(a.text, `"scheme":"visa"`) {
		t.Errorf("a contract more: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodGet, contract, "", asAdmin); a.status != 200 || a.json["scheme"] != "visa" || a.header.Get("ETag") != `"4"` {
		t.Errorf("the contract: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodDelete, contract+"?reason=tea%09break", "", asAdmin, `If-Match: "4"`); a.status != 422 || !strings.Contains(a.text, `"/reason"`) {
		t.Errorf("a reason that cannot be shown: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodDelete, contract+"?reason=moved+away", "", asAdmin, `If-Match: "4"`); a.status != 200 || a.json["reason"] != "moved away" || strings.Contains(a.text, "visa") {
		t.Errorf("the contract is over: %d %s", a.status, a.text)
	}
	versions := d.ask(http.MethodGet, "/v1/merchants/parcels/versions", "", asAdmin)
	if list, _ := versions.json["data"].([]any); len(list) != 5 {
		t.Errorf("versions: %s", versions.text)
	}
}

func TestMerchantFaults(t *testing.T) {
	d := openDoor(t, Config{})
	for _, c := range []struct{ from, to, pointer, code string }{
		{`"cb"`, `"minitel"`, "/contracts/0/scheme", "invalid_value"},
		{`["cb-a"]`, `[]`, "/contracts/0/links", "invalid_value"},
		{`TERM0001`, `TERM00001`, "/contracts/0/terminal", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"94"`, "/contracts/0/mcc", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":9402`, "/contracts/0/mcc", "wrong_type"},
		{`"mcc":"9402"`, `"mcc":"9402","mcc":"9403"`, "/contracts/0/mcc", "duplicate_field"},
		{`"mcc":"9402"`, `"MCC":"9402"`, "/contracts/0/MCC", "unknown_field"},
		{`"mcc":"9402"`, `"mcc":"9402","capture_within":"tomorrow"`, "/contracts/0/capture_within", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"9402","links":"cb-a"`, "/contracts/0/links", "duplicate_field"},
		{`["cb-a"]`, `"cb-a"`, "/contracts/0/links", "wrong_type"},
		{`["cb-a"]`, `["cb-a",7]`, "/contracts/0/links/1", "wrong_type"},
		{`"mcc":"9402"`, `"mcc":"9402","cvv_by_channel":{"4111111111111111":1}`, "/contracts/0/cvv_by_channel", "wrong_type"},
		{`"mcc":"9402"`, `"mcc":"9402","cvv_by_channel":{"4111111111111111":"never"}`, "/contracts/0/cvv_by_channel", "card_data"},
		{`"mcc":"9402"`, `"mcc":"4111111111111111"`, "/contracts/0/mcc", "card_data"},
		{`"mcc":"9402"`, `"mcc":"9402","4111111111111111":1`, "/contracts/0", "unknown_field"},
		{`"mcc":"9402"`, `"mcc":"9402","currencies":["EUR","ECU"]`, "/contracts/0/currencies/1", "unknown_currency"},
		{`"mcc":"9402"`, `"mcc":"9402","channels":["fax"]`, "/contracts/0/channels/0", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"9402","cvv":"always"`, "/contracts/0/cvv", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"9402","cvv_by_channel":{"moto":"always"}`, "/contracts/0/cvv_by_channel/moto", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"9402","min_amount":-1`, "/contracts/0/min_amount", "invalid_value"},
		{`"mcc":"9402"`, `"mcc":"9402","surprise":1`, "/contracts/0/surprise", "unknown_field"},
		{`"id":"parcels"`, `"id":"Parcels!"`, "/id", "invalid_value"},
		{`"id":"parcels"`, `"id":"4111111111111111"`, "/id", "card_data"},
		{`"name":"Parcels"`, `"name":"of 4111111111111111"`, "/name", "card_data"},
		{`"reason":"signed today"`, `"reason":"of 4111111111111111"`, "/reason", "card_data"},
		{`"reason":"signed today"`, `"reason":"` + strings.Repeat("x", 256) + `"`, "/reason", "invalid_value"},
		{`[` + contractCB + `]`, `[` + contractCB + `,` + contractCB + `]`, "/contracts/1/scheme", "duplicate"},
	} {
		a := d.ask(http.MethodPost, "/v1/merchants", strings.Replace(parcels, c.from, c.to, 1), asAdmin)
		list, _ := a.json["errors"].([]any)
		found := slices.ContainsFunc(list, func(e any) bool {
			f := e.(map[string]any)
			return f["pointer"] == c.pointer && f["code"] == c.code
		})
		if a.status != 422 || !found || strings.Contains(a.text, "4111111111111111") {
			t.Errorf("%s: wants %s at %s: %d %s", c.to, c.code, c.pointer, a.status, a.text)
		}
	}
	if a := d.ask(http.MethodPost, "/v1/merchants", `{"id":`, asAdmin); a.status != 400 {
		t.Errorf("no JSON: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodPost, "/v1/merchants", parcels+"x", asAdmin); a.status != 400 {
		t.Errorf("more than JSON: %d %s", a.status, a.text)
	}
	if a := d.ask(http.MethodDelete, "/v1/merchants/parcels", "", asAdmin); a.status != 405 || a.header.Get("Allow") != "GET, PUT" {
		t.Errorf("delete: %d %s", a.status, a.text)
	}
}
