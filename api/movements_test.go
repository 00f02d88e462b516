package api

import (
	"strings"
	"testing"

	"authswitch/payment"
)

const (
	captureID = "cap_019ab0e3a5007000800000004b1d0040"
	tokenText = "card_019ab0e3a5007000800000004b1d0080"
)

func movementID(t *testing.T, text, prefix string) payment.ID {
	t.Helper()
	id, err := payment.ParseID(text, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// movingDoor has one capture of the test's payment and one stored card, and
// answers operations with what the journal would.
func movingDoor(t *testing.T) *door {
	d := openDoor(t, Config{})
	capture := payment.Operation{
		ID: movementID(t, captureID, "cap_"), Kind: payment.OpCapture, Payment: testID(), Merchant: "parcels", Gateway: "shop", Key: []byte("k"),
		Amount: payment.Amount{Value: 600, Currency: 978}, Means: payment.MeansAdvice, State: payment.OperationDone, Link: "visa-a", MTI: 0x0220, STAN: 18,
		Transmitted: 1123035512, CreatedAt: testInstant, DecidedAt: testInstant, Response: payment.Response{Code: payment.MakeResponseCode([]byte("00"))},
	}
	d.fakes.operations = map[payment.ID]payment.Operation{capture.ID: capture}
	token := movementID(t, tokenText, payment.CardPrefix)
	d.fakes.cards = map[payment.ID]payment.StoredCard{token: {
		Token: token, Merchant: "parcels", Status: payment.CardActive, Scheme: payment.Visa, BIN: []byte("41111111"), Last4: [4]byte{'1', '1', '1', '1'},
		Expiry: [4]byte{'3', '0', '1', '2'}, CreatedAt: testInstant, ChangedAt: testInstant,
	}}
	d.fakes.operate = func(o *payment.Operation, _ payment.Instant) (payment.Operation, error) {
		done := *o
		done.ID, done.Link = movementID(t, strings.Replace(captureID, "40", "c0", 1), "cap_"), "visa-a"
		if done.Payment.IsZero() {
			done.Payment = testID()
		}
		if done.Amount.Value == 0 {
			done.Amount = payment.Amount{Value: 451, Currency: 978}
		}
		done.Means = map[payment.OperationKind]payment.OperationMeans{
			payment.OpCapture: payment.MeansAdvice, payment.OpRefund: payment.MeansOnline, payment.OpIncrement: payment.MeansOnline,
			payment.OpRelease: payment.MeansReversal, payment.OpVoid: payment.MeansReversal,
		}[done.Kind]
		done.State = payment.OperationOwed
		if done.Means == payment.MeansOnline {
			done.State = payment.OperationDone
			done.Response.Code = payment.MakeResponseCode([]byte("00"))
		}
		return done, nil
	}
	return d
}

// TestMovements: one line per request; each answer is held to openapi.yaml.
func TestMovements(t *testing.T) {
	d := movingDoor(t)
	authorization, eur := "/v1/authorizations/"+testIDText, `{"amount":{"value":100,"currency":"EUR"}}`
	for _, k := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"all", authorization + "/captures", "", 201, `"status":"pending","amount":{"value":451,"currency":"EUR"},"final_capture":false,"means":"advice"`},
		{"a part", authorization + "/captures", eur, 201, `"amount":{"value":100,"currency":"EUR"}`},
		{"the last", authorization + "/captures", `{"final":true}`, 201, `"final_capture":true`},
		{"nobody's", "/v1/authorizations/" + missingID + "/captures", eur, 404, `"not_found"`},
		{"another's", "/v1/authorizations/" + foreignID + "/captures", eur, 404, `"not_found"`},
		{"unknown field", authorization + "/captures", `{"tip":1}`, 422, `"/tip"`},
		{"zero", authorization + "/captures", `{"amount":{"value":0,"currency":"EUR"}}`, 422, `"/amount/value"`},
		{"negative", authorization + "/captures", `{"amount":{"value":-1,"currency":"EUR"}}`, 422, `"/amount/value"`},
		{"a fraction", authorization + "/captures", `{"amount":{"value":1.5,"currency":"EUR"}}`, 422, `"/amount/value"`},
		{"no currency", authorization + "/captures", `{"amount":{"value":1}}`, 422, `"/amount/currency"`},
		{"increment", authorization + "/increments", eur, 201, `"id":"inc_`},
		{"increment of nothing", authorization + "/increments", `{}`, 422, `"/amount"`},
		{"refund", "/v1/refunds", `{"capture":"` + captureID + `","reason":"wrong parcel"}`, 201, `"status":"approved"`},
		{"refund of nothing", "/v1/refunds", `{}`, 422, `"/capture"`},
		{"refund of no capture", "/v1/refunds", `{"capture":"cap_x"}`, 422, `"/capture"`},
		{"refund with a card's number", "/v1/refunds", `{"capture":"` + captureID + `","reason":"of 4111111111111111"}`, 422, `"pointer":"/reason","code":"card_data"`},
		{"void with a card's number", "/v1/captures/" + captureID + "/reversals", `{"reason":"of 4111111111111111"}`, 422, `"pointer":"/reason","code":"card_data"`},
		{"correction with a card's number", authorization + "/corrections", `{"amount":{"value":100,"currency":"EUR"},"reason":"of 4111111111111111"}`, 422, `"pointer":"/reason","code":"card_data"`},
		{"void", "/v1/captures/" + captureID + "/reversals", "", 201, `"how":"reversal"`},
		{"void of nothing", "/v1/captures/cap_1/reversals", "", 404, `"not_found"`},
		{"a part back", authorization + "/reversals", eur, 201, `"amount":{"value":100,"currency":"EUR"},"status":"pending"`},
	} {
		if a := d.ask("POST", k.path, k.body); a.status != k.status || !strings.Contains(a.text, k.want) {
			t.Errorf("%s: %d %s, want %d with %s", k.name, a.status, a.text, k.status, k.want)
		}
	}
	if a := d.ask("GET", "/v1/captures/"+captureID, ""); a.status != 200 || !strings.Contains(a.text, `"state":"done","refunded":0`) {
		t.Errorf("capture: %d %s", a.status, a.text)
	}
	if a := d.ask("GET", "/v1/refunds/ref_1", ""); a.status != 404 {
		t.Errorf("no refund: %d %s", a.status, a.text)
	}
	if a := d.ask("GET", "/v1/captures/"+captureID, "", "Authorization: Bearer "+otherKey); a.status != 404 {
		t.Errorf("another's capture: %d %s", a.status, a.text)
	}
}

// TestMovementRefusals: what the journal refuses is named.
func TestMovementRefusals(t *testing.T) {
	d := movingDoor(t)
	d.fakes.operate = func(*payment.Operation, payment.Instant) (payment.Operation, error) {
		return payment.Operation{}, &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: "/amount/value", Code: "amount_too_large", Detail: "too much"}
	}
	a := d.ask("POST", "/v1/authorizations/"+testIDText+"/captures", "")
	if a.status != 422 || !strings.Contains(a.text, `"pointer":"/amount/value","code":"amount_too_large"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// TestStoredCards: what people see of a card, and what they may change.
func TestStoredCards(t *testing.T) {
	d := movingDoor(t)
	path := "/v1/cards/" + tokenText
	for _, k := range []struct {
		name, method, body string
		status             int
		want               string
	}{
		{"as it is", "GET", "", 200, `"bin":"41111111","last4":"1111","expiry":"3012","holder":null`},
		{"another expiry", "PATCH", `{"expiry":"3101"}`, 200, `"expiry":"3101"`},
		{"a name", "PATCH", `{"holder":"J DOE"}`, 200, `"holder":"J DOE"`},
		{"a number for a name", "PATCH", `{"holder":"4111111111111111"}`, 422, `"pointer":"/holder","code":"card_data"`},
		{"an expiry that is over", "PATCH", `{"expiry":"2001"}`, 422, `"/expiry"`},
		{"a number", "PATCH", `{"number":"4111111111111111"}`, 422, `"/number"`},
		{"deleted", "DELETE", "", 200, `"status":"deleted"`},
		{"gone", "GET", "", 404, `"not_found"`},
		{"another method", "POST", "", 405, `"method_not_allowed"`},
	} {
		headers := []string{}
		if k.method == "PATCH" {
			headers = append(headers, "Content-Type: application/json")
		}
		if a := d.ask(k.method, path, k.body, headers...); a.status != k.status || !strings.Contains(a.text, k.want) {
			t.Errorf("%s: %d %s, want %d with %s", k.name, a.status, a.text, k.status, k.want)
		}
	}
}

// TestTokenInRequest: a card is a number or a token.
func TestTokenInRequest(t *testing.T) {
	d := openDoor(t, Config{})
	var got payment.Authorization
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		got = *a
		*out = testPayment(a)
		out.Intent.Token = movementID(t, tokenText, payment.CardPrefix)
		return nil
	}
	with := func(card string) string { return strings.Replace(goodBody, goodCard, card, 1) }
	a := d.ask("POST", "/v1/authorizations", with(`"card":{"token":"`+tokenText+`","cvv":"123"}`))
	if a.status != 201 || string(got.Card.Token) != tokenText || !got.Card.CVV.Present() || !strings.Contains(a.text, `"token":"`+tokenText+`"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
	for _, k := range []struct{ name, body, pointer string }{
		{"both", with(`"card":{"token":"` + tokenText + `","number":"4111111111111111"}`), "/card"},
		{"saved again", with(`"save_card":true,"card":{"token":"` + tokenText + `"}`), "/save_card"},
	} {
		if a := d.ask("POST", "/v1/authorizations", k.body); a.status != 422 || !strings.Contains(a.text, `"pointer":"`+k.pointer+`"`) {
			t.Errorf("%s: %d %s", k.name, a.status, a.text)
		}
	}
}

// TestMoneyAddsUp: authorized and incremented is what was released, what was
// captured, and what can be captured still, in every state of an approved payment.
func TestMoneyAddsUp(t *testing.T) {
	for state, want := range map[payment.State]string{
		payment.StateApproved:   `,"money":{"authorized":1000,"incremented":50,"released":400,"captured":100,"refunded":0,"capturable":550}`,
		payment.StateReversing:  `,"money":{"authorized":1000,"incremented":50,"released":950,"captured":100,"refunded":0,"capturable":0}`,
		payment.StateReversed:   `,"money":{"authorized":1000,"incremented":50,"released":950,"captured":100,"refunded":0,"capturable":0}`,
		payment.StateException:  `,"money":{"authorized":1000,"incremented":50,"released":950,"captured":100,"refunded":0,"capturable":0}`,
		payment.StateWrittenOff: `,"money":{"authorized":1000,"incremented":50,"released":950,"captured":100,"refunded":0,"capturable":0}`,
	} {
		p := payment.Payment{State: state, Outcome: payment.Outcome{Status: payment.StatusApproved}, Account: payment.Account{Authorized: 1000, Incremented: 50, Released: 400, Captured: 100}}
		if got := string(appendMoney(nil, &p)); got != want {
			t.Errorf("%v: %s", state, got)
		}
		if p.Account.Released != 400 {
			t.Errorf("%v: what is shown was changed", state)
		}
	}
}
