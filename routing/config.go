package routing

import (
	"fmt"
	"os"
	"time"

	"authswitch/payment"
)

// Config is the routing part of the configuration file.
type Config struct {
	// Bins is a CSV file of BIN ranges; empty: the published prefixes.
	Bins      string           `yaml:"bins"`
	Contracts []ContractConfig `yaml:"contracts"`
	Rules     []RuleConfig     `yaml:"rules"`
}

// ContractConfig is one merchant's contract for one scheme, in names.
type ContractConfig struct {
	Merchant        payment.MerchantID `yaml:"merchant"`
	Scheme          string             `yaml:"scheme"`
	Priority        int                `yaml:"priority"`
	Links           []payment.LinkName `yaml:"links"`
	Terms           TermsConfig        `yaml:"terms"`
	Currencies      []string           `yaml:"currencies"`
	Channels        []string           `yaml:"channels"`
	MaxAmount       int64              `yaml:"max_amount"`
	PartialApproval bool               `yaml:"partial_approval"`
	CVV             string             `yaml:"cvv"` // optional (or empty) or required
	TimeZone        string             `yaml:"time_zone"`
}

// TermsConfig are payment.Terms.
type TermsConfig struct {
	Terminal     string `yaml:"terminal"`
	Acceptor     string `yaml:"acceptor"`
	AcceptorName string `yaml:"acceptor_name"`
	MCC          string `yaml:"mcc"`
	Acquirer     string `yaml:"acquirer"`
	Forwarder    string `yaml:"forwarder"`
	Country      string `yaml:"country"`
}

// RuleConfig is one rule, in names. Exactly one of Prefer, Avoid and Deny is
// given.
type RuleConfig struct {
	Name       string               `yaml:"name"`
	Merchants  []payment.MerchantID `yaml:"merchants"`
	Schemes    []string             `yaml:"schemes"`
	Channels   []string             `yaml:"channels"`
	Currencies []string             `yaml:"currencies"`
	AmountFrom int64                `yaml:"amount_from"`
	AmountTo   int64                `yaml:"amount_to"`
	Bins       []string             `yaml:"bins"`
	Prefer     []payment.LinkName   `yaml:"prefer"`
	Avoid      []payment.LinkName   `yaml:"avoid"`
	Deny       []payment.LinkName   `yaml:"deny"`
}

// Validate reports everything that can be seen without reading the BIN file.
func (c *Config) Validate() []error {
	var f faults
	for i := range c.Contracts {
		_, wrong := c.Contracts[i].Contract()
		f.all = append(f.all, wrong...)
	}
	for i := range c.Rules {
		_, wrong := c.Rules[i].Rule()
		f.all = append(f.all, wrong...)
	}
	return f.all
}

// Table reads the BIN file and builds the table.
func (c *Config) Table() (*Table, error) {
	var f faults
	ranges, err := c.ranges()
	if err != nil {
		f.add(err)
	}
	contracts := make([]Contract, len(c.Contracts))
	for i := range c.Contracts {
		var wrong []error
		contracts[i], wrong = c.Contracts[i].Contract()
		f.all = append(f.all, wrong...)
	}
	rules := make([]Rule, len(c.Rules))
	for i := range c.Rules {
		var wrong []error
		rules[i], wrong = c.Rules[i].Rule()
		f.all = append(f.all, wrong...)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return NewTable(ranges, contracts, rules)
}

func (c *Config) ranges() ([]Range, error) {
	if c.Bins == "" {
		return DefaultRanges(), nil
	}
	file, err := os.Open(c.Bins)
	if err != nil {
		return nil, fmt.Errorf("BIN ranges: %w", err)
	}
	defer file.Close()
	ranges, err := ReadRanges(file)
	if err != nil {
		return nil, fmt.Errorf("BIN ranges %s:\n%w", c.Bins, err)
	}
	return ranges, nil
}

// Contract reads the names, or says everything that is wrong.
func (c *ContractConfig) Contract() (Contract, []error) {
	var f faults
	name := fmt.Sprintf("merchant %q, scheme %q", c.Merchant, c.Scheme)
	contract := Contract{
		Merchant: c.Merchant, Priority: c.Priority, Links: c.Links, Terms: payment.Terms(c.Terms),
		MaxAmount: c.MaxAmount, PartialApproval: c.PartialApproval,
		Currencies: readNames(&f, name, "currency", c.Currencies, readCurrency),
		Channels:   readNames(&f, name, "channel", c.Channels, readChannel),
	}
	switch c.CVV {
	case "", "optional":
	case "required":
		contract.CVV = CVVRequired
	default:
		f.addf("%s: cvv %q is neither optional nor required", name, c.CVV)
	}
	zone, err := time.LoadLocation(c.TimeZone)
	if err != nil || c.TimeZone == "Local" {
		f.addf("%s: unknown time zone %q", name, c.TimeZone)
	}
	contract.TimeZone = zone
	var known bool
	if contract.Scheme, known = readScheme(c.Scheme); !known {
		f.addf("%s: unknown scheme", name)
		return contract, f.all // Validate would only say that it is missing
	}
	return contract, append(f.all, contract.Validate()...)
}

// Rule reads the names, or says everything that is wrong.
func (c *RuleConfig) Rule() (Rule, []error) {
	var f faults
	name := fmt.Sprintf("rule %q", c.Name)
	r := Rule{
		Name: c.Name, Merchants: c.Merchants, AmountFrom: c.AmountFrom, AmountTo: c.AmountTo,
		Schemes:    readNames(&f, name, "scheme", c.Schemes, readScheme),
		Channels:   readNames(&f, name, "channel", c.Channels, readChannel),
		Currencies: readNames(&f, name, "currency", c.Currencies, readCurrency),
	}
	for _, text := range c.Bins {
		bin, err := ParseBIN(text)
		if err != nil {
			f.addf("%s: %w", name, err)
			continue
		}
		r.BINs = append(r.BINs, bin)
	}
	given := 0
	for _, one := range []struct {
		action Action
		links  []payment.LinkName
	}{{Prefer, c.Prefer}, {Avoid, c.Avoid}, {Deny, c.Deny}} {
		if len(one.links) > 0 {
			r.Action, r.Links = one.action, one.links
			given++
		}
	}
	if given != 1 {
		f.addf("%s: exactly one of prefer, avoid and deny must name links", name)
		return r, f.all
	}
	return r, append(f.all, r.Validate()...)
}

// readNames reads a list, reporting each unknown name.
func readNames[T any](f *faults, owner, kind string, names []string, read func(string) (T, bool)) []T {
	var list []T
	for _, name := range names {
		value, known := read(name)
		if !known {
			f.addf("%s: unknown %s %q", owner, kind, name)
			continue
		}
		list = append(list, value)
	}
	return list
}

func readScheme(name string) (payment.Scheme, bool) {
	s := payment.ParseScheme([]byte(name))
	return s, s != payment.NoScheme
}

func readChannel(name string) (payment.Channel, bool) {
	c := payment.ParseChannel([]byte(name))
	return c, c != payment.NoChannel
}

func readCurrency(name string) (payment.Currency, bool) {
	c, err := payment.ParseCurrency([]byte(name))
	return c, err == nil
}
