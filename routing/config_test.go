package routing

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"authswitch/payment"
)

func TestRuleConfig(t *testing.T) {
	const text = `
name: tickets
merchants: [parcels]
schemes: [cb, visa]
channels: [ecommerce]
currencies: [EUR, JPY]
amount_from: 100
amount_to: 200
bins: ["497010", "5100-5109"]
avoid: [cb-a]
`
	var c RuleConfig
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	r, wrong := c.Rule()
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if got := r.Conditions() + " → " + r.Action.String() + " " + joined(r.Links); got !=
		"merchant parcels; scheme cb, visa; channel ecommerce; currency EUR, JPY; amount from 100; amount to 200; card 497010, 5100-5109 → avoid cb-a" {
		t.Error(got)
	}
	if b := r.BINs[1]; b.Low != 5100e15 || b.High != 5109_999999999999999 {
		t.Errorf("%019d %019d", b.Low, b.High)
	}
}

func TestRuleConfigFaults(t *testing.T) {
	one := links("cb-a")
	for _, c := range []struct {
		config RuleConfig
		want   string
	}{
		{RuleConfig{Name: "r", Deny: one}, ""},
		{RuleConfig{Name: "r"}, `rule "r": exactly one of prefer, avoid and deny must name links`},
		{RuleConfig{Name: "r", Deny: one, Prefer: one}, `rule "r": exactly one of prefer, avoid and deny must name links`},
		{RuleConfig{Deny: one}, `rule "": the name is not 1 to 40 printable characters`},
		{
			RuleConfig{Name: "r", Deny: one, Schemes: []string{"vis"}, Channels: []string{"post"}, Currencies: []string{"eur", "XAU"}, BINs: []string{"x"}},
			`rule "r": unknown scheme "vis"; rule "r": unknown channel "post"; rule "r": unknown currency "eur"; rule "r": unknown currency "XAU"; ` +
				`rule "r": "x" is not a prefix of 1 to 11 digits, or two of equal length with '-' between`,
		},
	} {
		var words []string
		for _, err := range c.config.Validate() {
			words = append(words, err.Error())
		}
		if got := strings.Join(words, "; "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.config, got, c.want)
		}
	}
}

func TestParseBIN(t *testing.T) {
	for _, c := range []struct{ text, low, high string }{
		{"4", "4000000000000000000", "4999999999999999999"},
		{"497010", "4970100000000000000", "4970109999999999999"},
		{"51-55", "5100000000000000000", "5599999999999999999"},
		{"41111111111", "4111111111100000000", "4111111111199999999"},
		{"0-9", "0000000000000000000", "9999999999999999999"},
	} {
		b, err := ParseBIN(c.text)
		if err != nil || fmt.Sprintf("%019d", b.Low) != c.low || fmt.Sprintf("%019d", b.High) != c.high || b.String() != c.text {
			t.Errorf("%s: %019d %019d %v", c.text, b.Low, b.High, err)
		}
	}
	for _, bad := range []string{"", "-", "4-", "-4", "4-55", "55-51", "4a", "4 ", "1-2-3", "411111111111", "４"} {
		if b, err := ParseBIN(bad); err == nil {
			t.Errorf("%q: %v", bad, b)
		}
	}
}

func TestNames(t *testing.T) {
	if CVVOptional.String() != "optional" || CVVRequired.String() != "required" || Action(0).String() != "none" {
		t.Error("names")
	}
	if _, err := NewTable(nil, nil, []Rule{{Name: "r"}}); err == nil || errors.Is(err, ErrNoRoute) {
		t.Error(err)
	}
	for c := payment.Ecommerce; c.String() != "unknown"; c++ {
		if channelBits([]payment.Channel{c}) == 0 {
			t.Errorf("%s does not fit the bits of a plan", c)
		}
	}
}

func FuzzParseBIN(f *testing.F) {
	f.Add("497010-497019")
	f.Add("4")
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := ParseBIN(text); err == nil && b.Low > b.High {
			t.Errorf("%q: %d is above %d", text, b.Low, b.High)
		}
	})
}
