package routing

import (
	"fmt"

	"authswitch/payment"
)

// RuleConfig is one rule as the configuration file has it, in names. Exactly
// one of Prefer, Avoid and Deny is given.
type RuleConfig struct {
	Name       string               `yaml:"name"`
	Merchants  []payment.MerchantID `yaml:"merchants"`
	Schemes    []string             `yaml:"schemes"`
	Channels   []string             `yaml:"channels"`
	Currencies []string             `yaml:"currencies"`
	AmountFrom int64                `yaml:"amount_from"` // minor units
	AmountTo   int64                `yaml:"amount_to"`   // 0: no upper end
	BINs       []string             `yaml:"bins"`        // "497010" or "497010-497019"
	Prefer     []payment.LinkName   `yaml:"prefer"`
	Avoid      []payment.LinkName   `yaml:"avoid"`
	Deny       []payment.LinkName   `yaml:"deny"`
}

// Validate reports everything wrong with one rule by itself; whether its links
// and merchants exist is NewTable's to say.
func (c *RuleConfig) Validate() []error {
	_, wrong := c.Rule()
	return wrong
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
	for _, text := range c.BINs {
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
	if len(f.all) > 0 {
		return r, f.all // what was not read would be reported again as missing
	}
	return r, r.Validate()
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
