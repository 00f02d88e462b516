package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asAdmin is the header of dev's administrator.
func (d *instance) asAdmin() string { return "Authorization: Bearer " + d.info.AdminKey }

// contract is one for Visa and one for CB, with something more in each.
func contracts(more string) string {
	const terms = `"terminal":"TERM0002","acceptor":"STAMPS000000001","acceptor_name":"STAMPS/PARIS/FR","mcc":"9402","acquirer":"497010","country":"250","currencies":["EUR"]`
	return fmt.Sprintf(`[{"scheme":"cb","links":["cb-a","cb-b"],%s%s},{"scheme":"visa","links":["visa-a"],%s%s}]`, terms, more, terms, more)
}

// newMerchant makes a merchant that dev's gateway acts for.
func (d *instance) newMerchant(id, group, more string) answer {
	d.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"card_group":%q,"gateways":["dev"],"contracts":%s,"reason":"test"}`, id, group, contracts(more))
	if group == "" {
		body = strings.Replace(body, `"card_group":"",`, "", 1)
	}
	a := d.ask(http.MethodPost, "/v1/merchants", "m-"+id, body, d.asAdmin())
	if a.status != http.StatusCreated {
		d.t.Fatalf("merchant %s: %d %s", id, a.status, a.body)
	}
	return a
}

func (d *instance) payWith(key, merchant, channel, card string, value int, more string) answer {
	d.t.Helper()
	return d.ask(http.MethodPost, "/v1/authorizations", key, fmt.Sprintf(
		`{"merchant":%q,"reference":%q,"amount":{"value":%d,"currency":"EUR"},"channel":%q,"card":%s%s}`, merchant, key, value, channel, card, more))
}

// fault says whether an answer refuses with a code at a field.
func (a answer) fault(pointer, code string) bool {
	list, _ := a.fields["errors"].([]any)
	for _, e := range list {
		if f, _ := e.(map[string]any); f["pointer"] == pointer && f["code"] == code {
			return a.status == http.StatusUnprocessableEntity
		}
	}
	return false
}

const (
	visaGiven = `{"number":"4111111111111111","expiry":"3012","cvv":"937"}`
	visaBare  = `{"number":"4111111111111111","expiry":"3012"}`
)

// Merchants made through the API of one node are in force on every node at
// once; a change binds the payments that come after it, and none in flight.
func TestMerchantsThroughTheAPI(t *testing.T) {
	d := startDev(t, "--nodes", "3")
	d.newMerchant("stamps", "", `,"channels":["ecommerce"]`)
	for n, node := range d.info.Nodes {
		other := *d
		other.info.API = node.API
		eventually(t, 5*time.Second, "the merchant on "+node.ID, func() bool {
			return other.payWith(fmt.Sprintf("n%d-%d", n, time.Now().UnixNano()), "stamps", "ecommerce", visaGiven, 1000, "").status == http.StatusCreated
		})
	}
	if a := d.payWith("moto", "stamps", "moto", visaGiven, 1000, ""); !a.fault("/channel", "channel_not_accepted") {
		t.Errorf("a channel that is not in the contract: %d %s", a.status, a.body)
	}
	if a := d.payWith("mc", "stamps", "ecommerce", `{"number":"5555555555554444","expiry":"3012","cvv":"937"}`, 1000, ""); !a.fault("/card/number", "scheme_not_accepted") {
		t.Errorf("a scheme without a contract: %d %s", a.status, a.body)
	}

	// In flight while its contract ends: silence until the acquirer's timer.
	inFlight := make(chan answer, 1)
	go func() {
		a, _ := d.tryAsk(http.MethodPost, "/v1/authorizations", "inflight",
			`{"merchant":"stamps","reference":"inflight","amount":{"value":1068,"currency":"EUR"},"channel":"ecommerce","card":`+visaGiven+`}`)
		inFlight <- a
	}()
	eventually(t, 5*time.Second, "the payment in flight", func() bool {
		return strings.Contains(d.ask(http.MethodGet, "/v1/authorizations?merchant=stamps&idempotency_key=inflight", "", "").body, `"pending"`)
	})
	approved := d.payWith("before", "stamps", "ecommerce", visaGiven, 1000, "")
	ended := d.ask(http.MethodDelete, "/v1/merchants/stamps/contracts/visa", "", "", d.asAdmin(), `If-Match: "1"`)
	if ended.status != http.StatusOK || ended.field("version") != "2" {
		t.Fatalf("the contract ends: %d %s", ended.status, ended.body)
	}
	if a := d.payWith("after", "stamps", "ecommerce", visaGiven, 1000, ""); !a.fault("/card/number", "scheme_not_accepted") {
		t.Errorf("after the contract ended: %d %s", a.status, a.body)
	}
	if a := <-inFlight; a.status != http.StatusGatewayTimeout {
		t.Errorf("in flight: %d %s", a.status, a.body)
	}
	item := d.ask(http.MethodGet, "/v1/authorizations?merchant=stamps&idempotency_key=inflight", "", "")
	eventually(t, 15*time.Second, "its reversal, under the terms it was opened with", func() bool {
		item = d.ask(http.MethodGet, "/v1/authorizations?merchant=stamps&idempotency_key=inflight", "", "")
		return strings.Contains(item.body, `"state":"reversed"`)
	})
	if a := d.ask(http.MethodPost, "/v1/authorizations/"+approved.field("id")+"/captures", "capture", `{}`); a.status != http.StatusCreated {
		t.Errorf("a capture of what was approved before: %d %s", a.status, a.body)
	}

	if a := d.ask(http.MethodDelete, "/v1/merchants/stamps/contracts/cb", "", "", d.asAdmin(), `If-Match: "1"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("a change of what is no longer so: %d %s", a.status, a.body)
	}
	versions := d.ask(http.MethodGet, "/v1/merchants/stamps/versions", "", "", d.asAdmin())
	if strings.Count(versions.body, `"changed_by":"dev"`) != 2 {
		t.Errorf("versions: %s", versions.body)
	}
	t.Run("a merchant of the file", func(t *testing.T) { changeFileMerchant(t, d) })
}

// changeFileMerchant: what the file says is version 0, and what the journal says
// goes before it, after a restart, too.
func changeFileMerchant(t *testing.T, d *instance) {
	now := d.ask(http.MethodGet, "/v1/merchants/"+d.info.Merchant, "", "", d.asAdmin())
	if now.field("version") != "0" {
		t.Fatalf("%d %s", now.status, now.body)
	}
	if a := d.ask(http.MethodDelete, "/v1/merchants/"+d.info.Merchant+"/contracts/amex", "", "", d.asAdmin(), `If-Match: "0"`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	amex := func() answer { return d.authorize(fmt.Sprint("amex", time.Now().UnixNano()), amexCard, 1000) }
	if a := amex(); !a.fault("/card/number", "scheme_not_accepted") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if _, errs, code := run(t, "config", "reload", "--admin", d.info.Admin, "--token-file", d.info.Nodes[0].DataDir+"/operator.token"); code != 0 {
		t.Errorf("reload: %s", errs)
	}
	if a := amex(); !a.fault("/card/number", "scheme_not_accepted") {
		t.Errorf("after a reload: %d %s", a.status, a.body)
	}
}

// The CVV policy of a merchant, per channel and for cards on file, is held
// before anything is sent.
func TestCVVPolicyOfAMerchant(t *testing.T) {
	d := startDev(t)
	d.newMerchant("stamps", "", `,"cvv":"required","cvv_by_channel":{"moto":"never"},"cvv_stored_by_channel":{"ecommerce":"required","moto":"never"}`)
	saved := d.payWith("save", "stamps", "ecommerce", visaGiven, 1000, `,"save_card":true,"stored_credential":{"initiator":"cardholder","usage":"first"}`)
	token := saved.field("card", "token")
	if token == "" {
		t.Fatalf("not saved: %d %s", saved.status, saved.body)
	}
	withToken := fmt.Sprintf(`{"token":%q}`, token)
	tokenCVV := fmt.Sprintf(`{"token":%q,"cvv":"937"}`, token)
	mit := `,"stored_credential":{"initiator":"merchant","usage":"recurring"}`
	for n, c := range []struct{ channel, card, more, code string }{
		{"ecommerce", visaGiven, "", ""},
		{"ecommerce", visaBare, "", "cvv_required"},
		{"pay_by_link", visaBare, "", "cvv_required"},
		{"moto", visaBare, "", ""},
		{"moto", visaGiven, "", "cvv_not_allowed"},
		{"ecommerce", withToken, "", "cvv_required"},
		{"ecommerce", tokenCVV, "", ""},
		{"moto", withToken, "", ""},
		{"moto", tokenCVV, "", "cvv_not_allowed"},
		{"recurring", withToken, mit, ""},
		{"ecommerce", withToken, mit, ""}, // nobody is there to give one
	} {
		a := d.payWith(fmt.Sprint("cvv-", n), "stamps", c.channel, c.card, 1000, c.more)
		if c.code == "" && a.status != http.StatusCreated || c.code != "" && !a.fault("/card/cvv", c.code) {
			t.Errorf("%d %s %s: wants %q: %d %s", n, c.channel, c.card, c.code, a.status, a.body)
		}
	}
}

// A group's merchants pay with each other's stored cards on every channel; a
// merchant outside it does not know them.
func TestCardGroups(t *testing.T) {
	d := startDev(t)
	d.newMerchant("web", "post", "")
	d.newMerchant("counter", "post", "")
	d.newMerchant("stranger", "", "")
	saved := d.payWith("save", "web", "ecommerce", visaGiven, 1000, `,"save_card":true`)
	token := saved.field("card", "token")
	card := fmt.Sprintf(`{"token":%q}`, token)
	for n, c := range []struct{ merchant, channel string }{{"counter", "card_present"}, {"counter", "moto"}, {"web", "ecommerce"}} {
		if a := d.payWith(fmt.Sprint("use-", n), c.merchant, c.channel, card, 1000, ""); a.field("status") != "approved" || a.field("card", "token") != token {
			t.Errorf("%s %s: %d %s", c.merchant, c.channel, a.status, a.body)
		}
	}
	unknown := d.payWith("unknown", "web", "ecommerce", `{"token":"card_00000000000000000000000000000001"}`, 1000, "")
	foreign := d.payWith("foreign", "stranger", "ecommerce", card, 1000, "")
	if !foreign.fault("/card/token", "unknown_token") || foreign.body != unknown.body {
		t.Errorf("another's token must look like none:\n%s\n%s", foreign.body, unknown.body)
	}
	// Saved again at the counter it keeps its token, and still opens for both.
	again := d.payWith("again", "counter", "moto", visaBare, 1000, `,"save_card":true`)
	if again.field("card", "token") != token {
		t.Errorf("one card, one token: %s", again.body)
	}
	for n, m := range []string{"web", "counter"} {
		if a := d.payWith(fmt.Sprint("after-", n), m, "ecommerce", card, 1000, ""); a.field("status") != "approved" {
			t.Errorf("%s: %d %s", m, a.status, a.body)
		}
	}
	if a := d.ask(http.MethodPatch, "/v1/cards/"+token, "", `{"expiry":"3105"}`); a.status != http.StatusOK || a.field("group") != "post" || a.field("expiry") != "3105" {
		t.Errorf("another expiry: %d %s", a.status, a.body)
	}
	if a := d.payWith("renewed", "web", "ecommerce", card, 1000, ""); a.field("status") != "approved" {
		t.Errorf("with its new expiry: %d %s", a.status, a.body)
	}
	if a := d.ask(http.MethodDelete, "/v1/cards/"+token, "", ""); a.field("status") != "deleted" {
		t.Errorf("deleted: %d %s", a.status, a.body)
	}
	if a := d.payWith("gone", "counter", "moto", card, 1000, ""); !a.fault("/card/token", "unknown_token") {
		t.Errorf("a deleted token: %d %s", a.status, a.body)
	}
}

// A soft decline asks for authentication; the second attempt names the first.
func TestSoftDecline(t *testing.T) {
	d := startDev(t)
	const secured = `,"three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAABBEg0VhI0VniQEjRWAAAAAAA=","ds_transaction_id":"c272b04f-6e7b-43a2-bb78-90f4fb94aa25"}`
	pay := func(key, card string, value int, more string) answer {
		d.t.Helper()
		return d.payWith(key, d.info.Merchant, "ecommerce", card, value, more)
	}
	for _, card := range []string{visaCard, cbCard, mastercardCard, amexCard} {
		given := fmt.Sprintf(`{"number":%q,"expiry":"3012","cvv":"937"}`, card)
		first := pay("soft-"+card[:2], given, 1065, "")
		if first.field("status") != "declined" || first.field("retry") != "authenticate" || first.field("reason") != "authentication_required" {
			t.Errorf("%s: %d %s", card, first.status, first.body)
		}
		retry := fmt.Sprintf(`,"retry_of":%q`, first.field("id"))
		if a := pay("bare-"+card[:2], given, 1065, retry); !a.fault("/three_d_secure/authentication_value", "authentication_required") {
			t.Errorf("%s, not authenticated: %d %s", card, a.status, a.body)
		}
		if a := pay("other-"+card[:2], given, 1100, retry+secured); !a.fault("/amount", "another_amount") {
			t.Errorf("%s, another amount: %d %s", card, a.status, a.body)
		}
		second := pay("second-"+card[:2], given, 1065, retry+secured)
		record := d.ask(http.MethodGet, "/v1/authorizations/"+second.field("id"), "", "")
		if second.status != http.StatusCreated || record.field("retry_of") != first.field("id") {
			t.Errorf("%s: %d %s\n%s", card, second.status, second.body, record.body)
		}
	}
	approved := pay("fine", visaGiven, 1000, "")
	if a := pay("no-soft", visaGiven, 1000, fmt.Sprintf(`,"retry_of":%q`, approved.field("id"))+secured); !a.fault("/retry_of", "not_a_soft_decline") {
		t.Errorf("of an approval: %d %s", a.status, a.body)
	}
	soft := pay("soft", visaGiven, 1065, "")
	if a := pay("other-card", `{"number":"4000000000000002","expiry":"3012"}`, 1065, fmt.Sprintf(`,"retry_of":%q`, soft.field("id"))+secured); !a.fault("/card", "another_card") {
		t.Errorf("another card: %d %s", a.status, a.body)
	}
	if a := pay("nothing", visaGiven, 1065, `,"retry_of":"auth_00000000000000000000000000000001"`+secured); !a.fault("/retry_of", "unknown_payment") {
		t.Errorf("of nothing: %d %s", a.status, a.body)
	}
}

// A payment link is paid once: of many payments that race for it, one is sent.
func TestPaymentLinkRace(t *testing.T) {
	d := startDev(t)
	link := d.ask(http.MethodPost, "/v1/payment-links", "race", fmt.Sprintf(
		`{"merchant":%q,"reference":"race","amount":{"value":1000,"currency":"EUR"},"expires_at":%q}`, d.info.Merchant, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	if link.status != http.StatusCreated {
		t.Fatalf("%d %s", link.status, link.body)
	}
	const racers = 8
	answers := make(chan answer, racers)
	for n := range racers {
		go func() {
			a, _ := d.tryAsk(http.MethodPost, "/v1/authorizations", fmt.Sprint("race-", n), fmt.Sprintf(
				`{"merchant":%q,"reference":"race","amount":{"value":1000,"currency":"EUR"},"channel":"pay_by_link","payment_link":%q,"card":%s}`, d.info.Merchant, link.field("id"), visaGiven))
			answers <- a
		}()
	}
	approved := 0
	for range racers {
		switch a := <-answers; {
		case a.field("status") == "approved":
			approved++
		case a.status == http.StatusConflict && a.field("code") == "payment_link_in_use", a.fault("/payment_link", "payment_link_over"):
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if now := d.ask(http.MethodGet, "/v1/payment-links/"+link.field("id"), "", ""); approved != 1 || now.field("status") != "paid" {
		t.Errorf("%d approved: %s", approved, now.body)
	}
}

// The same from the command line: a document is shown, changed and applied.
func TestMerchantCommand(t *testing.T) {
	d := startDev(t)
	as := []string{"--api", d.info.API, "--key", d.info.AdminKey}
	ask := func(args ...string) (string, string, int) {
		return run(t, append(append([]string{"merchant"}, args...), as...)...)
	}
	document, errs, code := ask("show", d.info.Merchant)
	if code != 0 || !strings.Contains(document, "scheme: amex") {
		t.Fatalf("%d %s %s", code, document, errs)
	}
	path := filepath.Join(t.TempDir(), "merchant.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(document, `cvv: ""`, "cvv: never", 1))
	if out, errs, code := ask("apply", path, "--reason", "no codes"); code != 0 || !strings.Contains(out, "version 1") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	const letters = "id: letters\ngateways: [dev]\ncontracts:\n  - {scheme: visa, links: [visa-a], terminal: TERM0001, acceptor: LETTERS, mcc: \"9402\", acquirer: \"497010\", country: \"250\"}\n"
	write(letters)
	if out, errs, code := ask("apply", path); code != 1 || !strings.Contains(errs, "/contracts/0/acceptor_name: required: the dialect of link \"visa-a\" needs it in every payment") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	write(strings.Replace(letters, "country", "acceptor_name: LETTERS/PARIS/FR, country", 1))
	if out, errs, code := ask("apply", path); code != 0 || !strings.Contains(out, "letters is at version 1") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if list, _, _ := ask("list"); !strings.Contains(list, "no codes") || !strings.Contains(list, "letters") {
		t.Errorf("%s", list)
	}
	if list, _, _ := ask("versions", d.info.Merchant); strings.Count(list, "dev") != 1 {
		t.Errorf("%s", list)
	}
	write("id: letters\ncontracts:\n  - {scheme: visa, links: [nowhere], terminal: TERM0001, acceptor: LETTERS, mcc: \"9402\", acquirer: \"497010\"}\n")
	if _, errs, code := ask("apply", path); code != 1 || !strings.Contains(errs, `no link "nowhere"`) {
		t.Errorf("%d %s", code, errs)
	}
	write("id: letters\ncontacts: []\n")
	if _, errs, code := ask("apply", path); code != 1 || !strings.Contains(errs, "contacts") {
		t.Errorf("%d %s", code, errs)
	}
}
