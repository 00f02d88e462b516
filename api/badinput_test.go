package api

import (
	"strings"
	"testing"

	"authswitch/payment"
)

// with is goodBody with one text replaced.
func with(from, to string) string {
	if !strings.Contains(goodBody, from) {
		panic("goodBody has no " + from)
	}
	return strings.Replace(goodBody, from, to, 1)
}

// add is goodBody with one more member.
func add(member string) string { return goodBody[:len(goodBody)-1] + "," + member + "}" }

// TestBadInput is every bad input with the status it gets and the field that
// is named. None may reach the switch.
func TestBadInput(t *testing.T) {
	d := openDoor(t, Config{BodyBytes: 4096})
	d.fakes.authorize = func(*payment.Authorization, *payment.Payment) error {
		t.Error("a bad request reached the switch")
		return payment.ErrBusy
	}
	const number, expiry, cvv, value, currency = "/card/number", "/card/expiry", "/card/cvv", "/amount/value", "/amount/currency"
	const secure, stored = "/three_d_secure", "/stored_credential"
	post := func(name, body, status, pointer string, headers ...string) {
		t.Helper()
		a := d.ask("POST", "/v1/authorizations", body, headers...)
		checkFault(t, name, a, status, pointer)
		if a.json["final"] == true {
			t.Errorf("%s: final: %s", name, a.text)
		}
	}
	// Not JSON.
	post("empty", ``, "400", "")
	for _, body := range []string{``, ` `, "\xef\xbb\xbf" + goodBody, `hello`} {
		if a := d.ask("POST", "/v1/authorizations", body); !strings.Contains(a.text, "a value was expected") {
			t.Errorf("%.10q: %s", body, a.text)
		}
	}
	post("garbage", `hello`, "400", "")
	post("cut short", goodBody[:40], "400", "")
	post("trailing", goodBody+`{}`, "400", "")
	post("trailing comma", with(`1051,"currency":"EUR"`, `1051,"currency":"EUR",`), "400", "")
	post("single quotes", `{'merchant':'parcels'}`, "400", "")
	post("bare key", `{merchant:"parcels"}`, "400", "")
	post("no colon", `{"merchant" "parcels"}`, "400", "")
	post("leading zero", with("1051", "01051"), "400", "")
	post("plus", with("1051", "+1051"), "400", "")
	post("NaN", with("1051", "NaN"), "400", "")
	post("hex", with("1051", "0x10"), "400", "")
	post("dot", with("1051", "1."), "400", "")
	post("exponent", with("1051", "1e"), "400", "")
	post("control character", with("ORDER-42", "OR\nDER"), "400", "")
	post("bad escape", with("ORDER-42", `OR\x`), "400", "")
	post("bad unicode escape", with("ORDER-42", `OR\u00g0`), "400", "")
	post("lone surrogate", with("ORDER-42", `OR\ud800`), "400", "")
	post("lone low surrogate", with("ORDER-42", `OR\udc00`), "400", "")
	post("not UTF-8", with("ORDER-42", "OR\xff"), "400", "")
	post("NUL after", goodBody+"\x00", "400", "")
	post("byte order mark", "\xef\xbb\xbf"+goodBody, "400", "")
	post("deep", add(`"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)), "400", "")
	// JSON of the wrong shape.
	post("array", `[1]`, "422", "")
	post("null", `null`, "422", "")
	post("string", `"x"`, "422", "")
	post("empty object", `{}`, "422", "/merchant")
	post("unknown field", add(`"colour":"red"`), "422", "/colour")
	post("unknown nested", with(`"cvv":"123"`, `"pin":"1234"`), "422", "/card/pin")
	post("unknown object", add(`"x":{"a":[1,{"b":null}],"c":"d\n"}`), "422", "/x")
	post("card number as a name", add(`"4111111111111111":1`), "422", "")
	post("wrong case", with(`"merchant"`, `"Merchant"`), "422", "/Merchant")
	post("token and expiry", with(`"number":"4111111111111111"`, `"token":"card_1"`), "422", "/card")
	post("twice", add(`"reference":"B"`), "422", "/reference")
	post("twice, nested", with(`"value":1051`, `"value":1051,"value":1051`), "422", value)
	post("twice, object", add(goodCard), "422", "/card")
	post("twice, escaped", add(`"\u0072eference":"B"`), "422", "/reference")
	// Missing.
	post("no merchant", with(`"merchant":"parcels",`, ``), "422", "/merchant")
	post("merchant null", with(`"parcels"`, `null`), "422", "/merchant")
	post("no reference", with(`"reference":"ORDER-42",`, ``), "422", "/reference")
	post("no amount", with(`"amount":{"value":1051,"currency":"EUR"},`, ``), "422", "/amount")
	post("no value", with(`"value":1051,`, ``), "422", value)
	post("no currency", with(`,"currency":"EUR"`, ``), "422", currency)
	post("no channel", with(`"channel":"ecommerce",`, ``), "422", "/channel")
	post("no card", with(`,`+goodCard, ``), "422", "/card")
	post("no number", with(`"number":"4111111111111111",`, ``), "422", number)
	post("no expiry", with(`"expiry":"3012",`, ``), "422", expiry)
	// Of the wrong type.
	post("merchant number", with(`"parcels"`, `7`), "422", "/merchant")
	post("reference array", with(`"ORDER-42"`, `["ORDER-42"]`), "422", "/reference")
	post("amount number", with(`{"value":1051,"currency":"EUR"}`, `1051`), "422", "/amount")
	post("value string", with(`1051`, `"x"`), "422", value)
	post("value bool", with(`1051`, `true`), "422", value)
	post("value object", with(`1051`, `{}`), "422", value)
	post("currency number", with(`"EUR"`, `978`), "422", currency)
	post("channel object", with(`"ecommerce"`, `{}`), "422", "/channel")
	post("card string", with(`{"number":"4111111111111111","expiry":"3012","cvv":"123"}`, `"4111111111111111"`), "422", "/card")
	post("number number", with(`"4111111111111111"`, `4111111111111111`), "422", number)
	post("cvv number", with(`"123"`, `123`), "422", cvv)
	post("partial string", add(`"partial_approval":"yes"`), "422", "/partial_approval")
	// Amounts.
	post("zero", with("1051", "0"), "422", value)
	post("minus zero", with("1051", "-0"), "422", value)
	post("negative", with("1051", "-5"), "422", value)
	post("fraction", with("1051", "10.51"), "422", value)
	post("whole fraction", with("1051", "10.0"), "422", value)
	post("exponent", with("1051", "1e3"), "422", value)
	post("thirteen digits", with("1051", "1000000000000"), "422", value)
	post("overflow", with("1051", "99999999999999999999"), "422", value)
	post("overflow to small", with("1051", "18446744073709552667"), "422", value)
	post("unknown currency", with(`"EUR"`, `"EUX"`), "422", currency)
	post("lower-case currency", with(`"EUR"`, `"eur"`), "422", currency)
	post("gold", with(`"EUR"`, `"XAU"`), "422", currency)
	post("empty currency", with(`"EUR"`, `""`), "422", currency)
	// Cards.
	post("Luhn", with(testNumber, "4111111111111112"), "422", number)
	post("eleven digits", with(testNumber, "41111111111"), "422", number)
	post("twenty digits", with(testNumber, "41111111111111111111"), "422", number)
	post("letters", with(testNumber, "4111x11111111111"), "422", number)
	post("spaces", with(testNumber, "4111 1111 1111 1111"), "422", number)
	post("empty number", with(testNumber, ""), "422", number)
	post("expired", with("3012", "2610"), "422", expiry)
	post("month 13", with("3012", "3013"), "422", expiry)
	post("month 0", with("3012", "3000"), "422", expiry)
	post("expiry letters", with("3012", "30ab"), "422", expiry)
	post("expiry MM/YY", with("3012", "12/30"), "422", expiry)
	post("cvv long", with(`"123"`, `"12345"`), "422", cvv)
	post("cvv letters", with(`"123"`, `"12a"`), "422", cvv)
	post("cvv empty", with(`"123"`, `""`), "422", cvv)
	// The rest of the fields.
	post("reference empty", with("ORDER-42", ""), "422", "/reference")
	post("reference long", with("ORDER-42", strings.Repeat("r", 65)), "422", "/reference")
	post("reference not ASCII", with("ORDER-42", "Ñ"), "422", "/reference")
	post("reference escape", with("ORDER-42", `a\u0000b`), "422", "/reference")
	post("reference is the card", with("ORDER-42", "n 4111111111111111"), "422", "/reference")
	post("channel", with("ecommerce", "fax"), "422", "/channel")
	post("channel empty", with("ecommerce", ""), "422", "/channel")
	post("brand", add(`"brand":"maestro"`), "422", "/brand")
	post("capture", add(`"capture":"sometimes"`), "422", "/capture")
	post("3DS without ECI", add(`"three_d_secure":{"version":"2.2.0"}`), "422", secure+"/eci")
	post("3DS without version", add(`"three_d_secure":{"eci":"05"}`), "422", secure+"/version")
	post("3DS version", add(`"three_d_secure":{"version":"2.2","eci":"05"}`), "422", secure+"/version")
	post("3DS ECI", add(`"three_d_secure":{"version":"2.2.0","eci":"5"}`), "422", secure+"/eci")
	post("3DS value", add(`"three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAAA"}`), "422", secure+"/authentication_value")
	post("3DS value's bits", add(`"three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAAAAAAAAAAAAAAAAAAAAAAAAAB="}`), "422", secure+"/authentication_value")
	post("3DS transaction", add(`"three_d_secure":{"version":"2.2.0","eci":"05","ds_transaction_id":"1"}`), "422", secure+"/ds_transaction_id")
	post("3DS unknown", add(`"three_d_secure":{"version":"2.2.0","eci":"05","cavv":"1"}`), "422", secure+"/cavv")
	post("SCA empty", add(`"sca":{}`), "422", "/sca/exemption")
	post("SCA exemption", add(`"sca":{"exemption":"please"}`), "422", "/sca/exemption")
	post("initiator", add(`"stored_credential":{"initiator":"bank","usage":"first"}`), "422", stored+"/initiator")
	post("usage", add(`"stored_credential":{"initiator":"merchant","usage":"often"}`), "422", stored+"/usage")
	post("usage missing", add(`"stored_credential":{"initiator":"merchant"}`), "422", stored+"/usage")
	post("network id", add(`"stored_credential":{"initiator":"merchant","usage":"recurring","network_transaction_id":"`+strings.Repeat("9", 25)+`"}`), "422", stored+"/network_transaction_id")
	post("network id is the card", add(`"stored_credential":{"initiator":"merchant","usage":"recurring","network_transaction_id":"4111111111111111"}`), "422", stored+"/network_transaction_id")
	// Who asks, and how.
	post("unknown merchant", with(`"parcels"`, `"nobody"`), "403", "/merchant")
	post("foreign merchant", with(`"parcels"`, `"books"`), "403", "/merchant")
	post("merchant empty", with(`"parcels"`, `""`), "403", "/merchant")
	post("no API key", goodBody, "401", "", "Authorization:")
	post("wrong API key", goodBody, "401", "", "Authorization: Bearer ask_wrong")
	post("API key of another scheme", goodBody, "401", "", "Authorization: Basic "+testKey)
	post("long API key", goodBody, "401", "", "Authorization: Bearer "+strings.Repeat("k", 257))
	post("no Idempotency-Key", goodBody, "400", "", "Idempotency-Key:")
	post("long Idempotency-Key", goodBody, "400", "", "Idempotency-Key: "+strings.Repeat("k", 129))
	post("Idempotency-Key not ASCII", goodBody, "400", "", "Idempotency-Key: é")
	post("Idempotency-Key is the card", goodBody, "422", "", "Idempotency-Key: pay-4111111111111111")
	post("no Content-Type", goodBody, "415", "", "Content-Type:")
	post("XML", goodBody, "415", "", "Content-Type: application/xml")
	post("form", goodBody, "415", "", "Content-Type: application/x-www-form-urlencoded")
	post("multipart", goodBody, "415", "", "Content-Type: multipart/form-data; boundary=x")
	post("compressed", goodBody, "415", "", "Content-Encoding: gzip")
	post("too large", add(`"x":"`+strings.Repeat("x", 4096)+`"`), "413", "")
	post("header too large", goodBody, "431", "", "X-Large: "+strings.Repeat("x", 9000))
}

// TestAllFaultsAtOnce: a gateway's developer fixes a request once.
func TestAllFaultsAtOnce(t *testing.T) {
	d := openDoor(t, Config{})
	a := d.ask("POST", "/v1/authorizations",
		`{"merchant":"parcels","amount":{"value":-1,"currency":"XXX"},"channel":"fax","card":{"number":"4111111111111112","cvv":1},"tip":3}`)
	for _, pointer := range []string{
		"/reference", "/amount/value", "/amount/currency", "/channel", "/card/number", "/card/expiry", "/card/cvv", "/tip",
	} {
		checkFault(t, "all at once", a, "422", pointer)
	}
	if n := len(a.json["errors"].([]any)); n != 8 {
		t.Errorf("%d errors, want each field once: %s", n, a.text)
	}
	many := strings.Repeat(`"x":1,`, 40)
	a = d.ask("POST", "/v1/authorizations", "{"+many+goodBody[1:])
	if n := len(a.json["errors"].([]any)); n != maxFaults {
		t.Errorf("%d errors, want no more than %d", n, maxFaults)
	}
}

// TestGoodInput is what must be taken.
func TestGoodInput(t *testing.T) {
	d := openDoor(t, Config{})
	var got payment.Authorization
	var reference string
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		got, reference = *a, string(a.Reference)
		*out = testPayment(a)
		return nil
	}
	good := func(name, body string, holds func() bool, headers ...string) {
		t.Helper()
		got, reference = payment.Authorization{}, ""
		if a := d.ask("POST", "/v1/authorizations", body, headers...); a.status != 201 || !holds() {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
		if err := d.spec.checkRequest(body); err != nil {
			t.Errorf("%s: taken, though openapi.yaml says %v", name, err)
		}
	}
	yes := func() bool { return true }
	good("white space", " \r\n\t"+strings.ReplaceAll(goodBody, ",", " ,\n ")+"\n", yes)
	good("charset", goodBody, yes, "Content-Type: Application/JSON; charset=utf-8")
	good("escapes", with("ORDER-42", `\u004fRDER\/\"\\`), func() bool { return reference == `ORDER/"\` })
	good("escaped name", with(`"reference"`, `"\u0072eference"`), func() bool { return reference == "ORDER-42" })
	good("escaped number", with("4111111111111111", `\u0034111111111111111`), func() bool { return got.Card.PAN.Present() })
	good("largest amount", with("1051", "999999999999"), func() bool { return got.Amount.Value == payment.MaxAmount })
	good("yen", with("EUR", "JPY"), func() bool { return got.Amount.Currency == 392 })
	good("this month's card", with("3012", "2611"), yes)
	good("no CVV", with(`,"cvv":"123"`, ``), func() bool { return !got.Card.CVV.Present() })
	good("CVV null", with(`"123"`, `null`), func() bool { return !got.Card.CVV.Present() })
	good("brand", add(`"brand":"cb"`), func() bool { return got.Brand == payment.CB })
	good("capture", add(`"capture":"manual"`), func() bool { return got.Capture == payment.CaptureManual })
	good("partial", add(`"partial_approval":true`), func() bool { return got.AcceptsPartial })
	good("not partial", add(`"partial_approval":false`), func() bool { return !got.AcceptsPartial })
	good("exemption", add(`"sca":{"exemption":"tra"}`), func() bool { return len(got.Exemption) == 3 })
	good("3DS", add(`"three_d_secure":{"version":"2.2.0","eci":"05","authentication_value":"AAECAwQFBgcICQoLDA0ODxAREhM=","ds_transaction_id":"c272b04f-6e7b-43a2-bb78-90f4fb94aa25"}`),
		func() bool { return got.ThreeDS.Present() && len(got.ThreeDS.DSTransactionID) == 36 })
	good("all null", add(`"brand":null,"three_d_secure":null,"sca":null,"stored_credential":null,"capture":null,"partial_approval":null`), yes)
	good("merchant initiated, no expiry", strings.Replace(add(`"stored_credential":{"initiator":"merchant","usage":"recurring","network_transaction_id":"123456789012345"}`), `"expiry":"3012",`, ``, 1),
		func() bool { return got.StoredCredential.MerchantInitiated && !got.Card.Expiry.Present() })
	good("example of the design", add(`"three_d_secure":{"version":"2.2.0","eci":"05"},"stored_credential":{"initiator":"cardholder","usage":"first","network_transaction_id":null},"capture":"manual"`),
		func() bool { return !got.StoredCredential.MerchantInitiated })
	good("traceparent", goodBody, yes, "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	good("bad traceparent", goodBody, yes, "Traceparent: 00-zzz")
}

func TestPathsAndMethods(t *testing.T) {
	d := openDoor(t, Config{})
	for _, c := range []struct {
		method, path, status, allow string
	}{
		{"GET", "/", "404", ""},
		{"GET", "/v1", "404", ""},
		{"GET", "/v2/links", "404", ""},
		{"GET", "/v1/links/x", "404", ""},
		{"GET", "/v1/whoami/x", "404", ""},
		{"POST", "/v1/reversals/x", "404", ""},
		{"GET", "/v1/authorizations/" + testIDText + "/nothing", "404", ""},
		{"GET", "/v1/payments/" + testIDText, "404", ""},
		{"GET", "/v1/authorizations/", "404", ""},
		{"GET", "/v1/authorizations/" + missingID, "404", ""},
		{"GET", "/v1/authorizations/" + foreignID, "404", ""},
		{"GET", "/v1/authorizations/auth_zz", "404", ""},
		{"GET", "/v1/payments/" + foreignID + "/events", "404", ""},
		{"DELETE", "/v1/authorizations", "405", "GET, POST"},
		{"PUT", "/v1/authorizations/" + testIDText, "405", "GET"},
		{"POST", "/v1/authorizations/" + testIDText, "405", "GET"},
		{"GET", "/v1/authorizations/" + testIDText + "/reversals", "405", "POST"},
		{"GET", "/v1/reversals", "405", "POST"},
		{"POST", "/v1/payments/" + testIDText + "/events", "405", "GET"},
		{"POST", "/v1/links", "405", "GET"},
		{"POST", "/v1/whoami", "405", "GET"},
		{"GET", "/v1/authorizations?colour=red", "400", ""},
		{"GET", "/v1/authorizations?limit=0", "400", ""},
		{"GET", "/v1/authorizations?limit=1001", "400", ""},
		{"GET", "/v1/authorizations?limit=x", "400", ""},
		{"GET", "/v1/authorizations?cursor=x", "400", ""},
		{"GET", "/v1/authorizations?merchant=parcels&merchant=parcels", "400", ""},
		{"GET", "/v1/authorizations?idempotency_key=a&reference=b", "400", ""},
		{"GET", "/v1/authorizations?idempotency_key=a&limit=3", "400", ""},
		{"GET", "/v1/authorizations?idempotency_key=", "400", ""},
		{"GET", "/v1/authorizations?reference=", "400", ""},
		{"GET", "/v1/authorizations?merchant=books", "403", ""},
		{"GET", "/v1/authorizations?merchant=nobody", "403", ""},
		{"GET", "/v1/authorizations?merchant=", "403", ""},
	} {
		a := d.ask(c.method, c.path, "")
		checkFault(t, c.method+" "+c.path, a, c.status, "")
		if a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow %q", c.method, c.path, a.header.Get("Allow"))
		}
	}
}

// TestRate: a key over its rate waits; another key does not.
func TestRate(t *testing.T) {
	d := openDoor(t, Config{})
	if a := d.ask("GET", "/v1/whoami", "", "Authorization: Bearer "+slowKey); a.status != 200 {
		t.Fatalf("the first: %d %s", a.status, a.text)
	}
	a := d.ask("POST", "/v1/authorizations", goodBody, "Authorization: Bearer "+slowKey)
	if a.status != 429 || a.header.Get("Retry-After") != "1000" || a.json["final"] != false {
		t.Errorf("the second: %d %s Retry-After %q", a.status, a.text, a.header.Get("Retry-After"))
	}
	if a := d.ask("GET", "/v1/whoami", ""); a.status != 200 {
		t.Errorf("another key: %d %s", a.status, a.text)
	}
}
