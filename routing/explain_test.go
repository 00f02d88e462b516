package routing

import (
	"bytes"
	"strings"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

// explained is the table that the stories below are told of.
func explained(t *testing.T) *Table {
	bin, err := ParseBIN("497011-497019")
	if err != nil {
		t.Fatal(err)
	}
	return newTable(t, testContracts(),
		Rule{Name: "tickets", Action: Prefer, Links: links("cb-b"), Currencies: []payment.Currency{eur}, AmountFrom: 50_000, AmountTo: 90_000},
		Rule{Name: "phone", Action: Deny, Links: links("cb-b"), Channels: []payment.Channel{payment.MOTO}},
		Rule{Name: "trial", Action: Avoid, Links: links("cb-a"), BINs: []BIN{bin}},
		Rule{Name: "visa only", Action: Avoid, Links: links("visa-a"), Schemes: []payment.Scheme{payment.Visa}},
		Rule{Name: "books", Action: Deny, Links: links("cb-a"), Merchants: []payment.MerchantID{"books"}},
	)
}

func TestExplain(t *testing.T) {
	table := explained(t)
	cb := pan(t, "4970100000000154")
	for _, c := range []struct {
		name  string
		query Query
		want  string
	}{
		{"co-badged", Query{Merchant: "parcels", PAN: cb, Amount: payment.Amount{Value: 60_000, Currency: eur}, Channel: payment.Ecommerce, CVVPresent: true}, `
card 497010******0154
  line 28 (497000-497999): cb, issued in FR, illustrative
  co-badged with visa: line 16 (400000-499999)
merchant parcels has contracts for cb (priority 0), visa (priority 0), amex (priority 0)
cb contract
  accepts ecommerce, 600.00 EUR
  rule tickets matches: prefer cb-b
  rule phone does not match: it is for moto
  rule trial does not match: it is for cards 497011-497019
  rule visa only does not match: it is for visa
  rule books does not match: it is for merchants books
visa contract
  accepts ecommerce, 600.00 EUR
  rule tickets does not match: the contract does not use cb-b
  rule phone does not match: the contract does not use cb-b
  rule trial does not match: the contract does not use cb-a
  rule visa only matches: avoid visa-a
  rule books does not match: it is for merchants books
routes
  1. cb over cb-b: preferred by rule tickets
  2. cb over cb-a: in the contract's order
  3. visa over visa-a: avoided by rule visa only
`},
		{"refused", Query{Merchant: "parcels", PAN: cb, Brand: payment.Visa, Amount: payment.Amount{Value: 1051, Currency: jpy}, Channel: payment.Ecommerce}, `
card 497010******0154
  line 28 (497000-497999): cb, issued in FR, illustrative
  co-badged with visa: line 16 (400000-499999)
  the cardholder chose visa
merchant parcels has contracts for cb (priority 0), visa (priority 0), amex (priority 0)
visa contract
  refuses: currency not in the contract (JPY is not among EUR, USD)
no route: currency not in the contract
`},
		{"unknown", Query{Merchant: "nobody", PAN: firstCard(t, "999999")}, `
card 999999******0006
  is in no BIN range
merchant "nobody" has no contract
no route: unknown merchant: no contract for the card's scheme
`},
	} {
		var out bytes.Buffer
		table.Explain(&out, &c.query)
		if got := "\n" + out.String(); got != c.want {
			t.Errorf("%s:%s\nwant%s", c.name, got, c.want)
		}
	}
}

// Every refusal is explained by the term behind it, and every condition of a
// rule by its own words.
func TestExplainSaysWhy(t *testing.T) {
	table := explained(t)
	base := Query{Merchant: "parcels", PAN: pan(t, "4111111111111111"), Amount: payment.Amount{Value: 1051, Currency: eur}, Channel: payment.Ecommerce, CVVPresent: true}
	for _, c := range []struct {
		change func(*Query)
		says   string
	}{
		{func(q *Query) { q.CVVPresent = false }, "refuses: the contract requires a security code (its CVV policy is required)"},
		{func(q *Query) { q.Amount.Value = 100_001 }, "refuses: amount above the contract's limit (the limit is 1000.00 EUR)"},
		{func(q *Query) { q.PAN, q.Channel = pan(t, "378282246310005"), payment.MOTO }, "refuses: channel not in the contract (moto is not among ecommerce, card_present)"},
		{func(q *Query) { q.PAN = pan(t, "4970100000000154") }, "rule tickets does not match: it begins at 500.00 EUR"},
		{func(q *Query) { q.PAN, q.Amount.Value = pan(t, "4970100000000154"), 90_001 }, "rule tickets does not match: it ends at 900.00 EUR"},
		{func(q *Query) { q.PAN, q.Amount.Currency = pan(t, "4970100000000154"), usd }, "rule tickets does not match: it is for EUR"},
	} {
		q := base
		c.change(&q)
		var out bytes.Buffer
		table.Explain(&out, &q)
		if !strings.Contains(out.String(), c.says) {
			t.Errorf("%q is not in\n%s", c.says, out.String())
		}
	}
}

// The explanation shows no more of a card than its mask.
func TestExplainHidesTheCard(t *testing.T) {
	table := explained(t)
	for _, number := range []string{"4970100000000154", "4111111111111111", "378282246310005"} {
		var out bytes.Buffer
		table.Explain(&out, &Query{Merchant: "parcels", PAN: pan(t, number), Channel: payment.Ecommerce, Amount: payment.Amount{Value: 1, Currency: eur}})
		if strings.Contains(out.String(), number[:9]) || strings.Contains(out.String(), number[6:12]) {
			t.Errorf("digits of the card in\n%s", out.String())
		}
	}
	var none card.PAN
	var out bytes.Buffer
	table.Explain(&out, &Query{PAN: &none})
	if !strings.Contains(out.String(), "card absent") {
		t.Error(out.String())
	}
}

func TestConditions(t *testing.T) {
	bin, _ := ParseBIN("497010")
	full := Rule{
		Merchants: []payment.MerchantID{"parcels"}, Schemes: []payment.Scheme{payment.CB}, Channels: []payment.Channel{payment.MOTO},
		Currencies: []payment.Currency{eur}, AmountFrom: 1, AmountTo: 2, BINs: []BIN{bin},
	}
	if got := full.Conditions(); got != "merchant parcels; scheme cb; channel moto; currency EUR; amount from 1; amount to 2; card 497010" {
		t.Error(got)
	}
	if got := new(Rule).Conditions(); got != "always" {
		t.Error(got)
	}
}

func TestAmountText(t *testing.T) {
	for _, c := range []struct {
		value    int64
		currency payment.Currency
		want     string
	}{{5, eur, "0.05 EUR"}, {1051, eur, "10.51 EUR"}, {1051, jpy, "1051 JPY"}, {1051, 788, "1.051 TND"}, {0, eur, "0.00 EUR"}} {
		if got := amountText(payment.Amount{Value: c.value, Currency: c.currency}); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
