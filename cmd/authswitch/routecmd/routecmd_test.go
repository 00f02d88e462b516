package routecmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"authswitch/cmd/authswitch/routecmd"
	"authswitch/payment"
	"authswitch/routing"
)

// load knows one configuration, "node.yaml".
func load(path string) (*routing.Table, error) {
	if path != "node.yaml" {
		return nil, errors.New("no such file")
	}
	terms := payment.Terms{Terminal: "T1", Acceptor: "PARCELS", MCC: "5942", Acquirer: "97001"}
	return routing.NewTable(routing.DefaultRanges(), []routing.Contract{
		{Merchant: "parcels", Scheme: payment.CB, Links: []payment.LinkName{"cb-a", "cb-b"}, Terms: terms, Currencies: []payment.Currency{978}},
		{Merchant: "parcels", Scheme: payment.Visa, Priority: 1, Links: []payment.LinkName{"visa-a"}, Terms: terms, CVV: routing.CVVEverywhere(routing.CVVRequired)},
	}, []routing.Rule{{Name: "phone", Action: routing.Avoid, Links: []payment.LinkName{"cb-a"}, Channels: []payment.Channel{payment.MOTO}}})
}

// run calls `route` with words and a standard input.
func run(input string, words ...string) (string, error) {
	c := routecmd.Commands(load)
	c.SilenceUsage, c.SilenceErrors = true, true
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetIn(strings.NewReader(input))
	c.SetArgs(words)
	err := c.Execute()
	return out.String(), err
}

func TestExplain(t *testing.T) {
	for _, c := range []struct{ input, words, says string }{
		{"4970100000000154\n", "", "1. cb over cb-a: in the contract's order"},
		{"4970100000000154", "--channel moto", "1. cb over cb-b: in the contract's order"},
		{"4970100000000154", "--brand visa", "1. visa over visa-a: in the contract's order"},
		{"", "--bin 497010", "card 497010******00"},
		{"", "--bin 49701012 --amount 60000", "accepts ecommerce, 600.00 EUR"},
		{"", "--bin 411111 --no-cvv --stored-card", "1. visa over visa-a"},
		{"", "--bin 411111 --no-cvv --merchant-initiated --currency usd", "1. visa over visa-a"},
	} {
		out, err := run(c.input, append([]string{"explain", "--config", "node.yaml", "--merchant", "parcels"}, strings.Fields(c.words)...)...)
		if err != nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v\n%s", c.words, err, out)
		}
		if strings.Contains(out, "4970100000000154") {
			t.Errorf("%s: the card number is shown", c.words)
		}
	}
}

// A payment without a route is a failure, not a matter of usage, and is
// explained all the same.
func TestNoRoute(t *testing.T) {
	for _, output := range []string{"table", "json"} {
		out, err := run("", "explain", "--config", "node.yaml", "--merchant", "parcels", "--bin", "411111", "--no-cvv", "-o", output)
		if err == nil || errors.Is(err, routecmd.ErrUsage) || !strings.Contains(out, "the contract requires a security code") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestExplainJSON(t *testing.T) {
	out, err := run("4970100000000154", "explain", "--config", "node.yaml", "--merchant", "parcels", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var view struct {
		Routes []struct{ Scheme, Link, Reason string }
		Error  string
		Lines  []string `json:"explanation"`
	}
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatal(err)
	}
	if len(view.Routes) != 3 || view.Routes[0].Link != "cb-a" || view.Routes[2].Scheme != "visa" || view.Error != "" || len(view.Lines) < 5 {
		t.Errorf("%+v", view)
	}
}

func TestTable(t *testing.T) {
	out, err := run("", "table", "--config", "node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"parcels   cb      0         cb-a, cb-b  97001     EUR         all       optional",
		"phone  channel moto  avoid cb-a",
		"497000  497999  cb          visa        FR       illustrative",
	} {
		if !strings.Contains(out, says) {
			t.Errorf("%q is not in\n%s", says, out)
		}
	}
	out, err = run("", "table", "--config", "node.yaml", "-o", "json")
	var view struct {
		Contracts []struct{ Links []string }
		Rules     []struct{ Name string }
		Ranges    []struct{ Low string }
	}
	if err != nil || json.Unmarshal([]byte(out), &view) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(view.Contracts) != 2 || len(view.Rules) != 1 || len(view.Ranges) != len(routing.DefaultRanges()) || view.Ranges[0].Low != "222100" {
		t.Errorf("%+v", view)
	}
}

// One line per case: what is wrong with the words is exit code 2, and a card
// number is never repeated.
func TestUsage(t *testing.T) {
	const good = "explain --config node.yaml --merchant parcels "
	for _, c := range []struct{ input, words, says string }{
		{"", "sideways", "no such command"},
		{"", "4970100000000154", "no such command"},
		{"", "table", "--config is needed"},
		{"", "table --config node.yaml -o xml", `-o "xml" is neither table nor json`},
		{"", "table --config node.yaml 4970100000000154", "takes no arguments"},
		{"", good + "4970100000000154", "takes no arguments"},
		{"", "explain --config node.yaml", "--merchant is needed"},
		{"", good + "--currency XXX", "unknown currency"},
		{"", good + "--channel post", `--channel "post" is unknown`},
		{"", good + "--brand vista", `--brand "vista" is unknown`},
		{"", good + "--amount 0", "--amount is not between"},
		{"", good + "--amount 1000000000000", "--amount is not between"},
		{"", good + "--bin 49701", "--bin has 5 digits"},
		{"", good + "--bin 4970100000000154", "--bin has 16 digits"},
		{"", good + "--bin 49701x", "not only digits"},
		{"", good, "impossible length"},
		{"4970100000000155\n", good, "check digit does not hold"},
		{strings.Repeat("4", 100), good, "impossible length"},
	} {
		_, err := run(c.input, strings.Fields(c.words)...)
		if !errors.Is(err, routecmd.ErrUsage) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "49701000000001") {
			t.Errorf("%s: %v", c.words, err)
		}
	}
	if _, err := run("", "table", "--config", "other.yaml"); err == nil || errors.Is(err, routecmd.ErrUsage) {
		t.Errorf("a missing file: %v", err)
	}
}
