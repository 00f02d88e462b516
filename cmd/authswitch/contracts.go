package main

import (
	"errors"
	"fmt"
	"os"

	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/routing"
)

// validateMerchants reports every fault of merchants, contracts, rules and
// gateways. What cannot be read is reported first; the routing table is then
// built from the rest.
func (c *Config) validateMerchants() []error {
	contracts, faults := c.contracts()
	rules, errs := c.rules()
	faults = append(faults, errs...)
	faults = append(faults, c.unknownLinks()...)
	spoken := c.spoken()
	faults = append(faults, c.captureFaults(spoken)...)
	for _, l := range c.lacks(spoken) {
		faults = append(faults, l.why(c))
	}
	ranges, err := c.ranges()
	if err != nil {
		faults = append(faults, err)
	}
	_, err = routing.NewTable(ranges, contracts, rules)
	faults = append(faults, each(err)...)
	// Keys are compared by their hashes: the hasher is not needed to find faults.
	_, err = merchant.New(merchant.Configs(c.Merchants), c.Gateways, c.Administrators, nil)
	return append(faults, each(err)...)
}

// each is every fault of an error that joins many, without what wraps them.
func each(err error) []error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if joined, ok := inner.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// unknownLinks are the links that contracts name and nobody defines. A rule's
// links must stand in a contract, which routing checks.
func (c *Config) unknownLinks() []error {
	known := map[payment.LinkName]bool{}
	for i := range c.Links {
		known[c.Links[i].Name] = true
	}
	var faults []error
	for i := range c.Merchants {
		m := &c.Merchants[i]
		for _, contract := range m.Contracts {
			for _, name := range contract.Links {
				if !known[name] {
					faults = append(faults, fmt.Errorf("merchant %q, scheme %q: no link %q", m.ID, contract.Scheme, name))
				}
			}
		}
	}
	return faults
}

// contracts are all merchants' contracts as routing wants them, without those
// that cannot be read. Whether they make sense is routing's to say.
func (c *Config) contracts() ([]routing.Contract, []error) { return merchant.Contracts(c.Merchants) }

// rules are the rules as routing wants them, without those that cannot be read.
func (c *Config) rules() ([]routing.Rule, []error) {
	var all []routing.Rule
	var faults []error
	for i := range c.Rules {
		rule, errs := c.Rules[i].Rule()
		if len(errs) > 0 {
			faults = append(faults, errs...)
			continue
		}
		all = append(all, rule)
	}
	return all, faults
}

// ranges are the card number ranges of the file, or the built-in ones.
func (c *Config) ranges() ([]routing.Range, error) {
	if c.BINs == "" {
		return routing.DefaultRanges(), nil
	}
	f, err := os.Open(c.BINs)
	if err != nil {
		return nil, fmt.Errorf("bins: %w", err)
	}
	defer f.Close()
	ranges, err := routing.ReadRanges(f)
	if err != nil {
		return nil, fmt.Errorf("bins: %s: %w", c.BINs, err)
	}
	return ranges, nil
}

// table builds the routing table of a configuration that was read: everything
// in it is valid.
func (c *Config) table() (*routing.Table, error) {
	ranges, err := c.ranges()
	if err != nil {
		return nil, err
	}
	contracts, faults := c.contracts()
	rules, more := c.rules()
	if err := errors.Join(append(faults, more...)...); err != nil {
		return nil, err
	}
	return routing.NewTable(ranges, contracts, rules)
}

// tableOf is the routing table of a configuration file, for the route tools.
func tableOf(path string) (*routing.Table, error) {
	c, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	return c.table()
}

// directoryOf builds the view of these merchants and the file's gateways.
func (c *Config) directoryOf(documents []merchant.Document) (*merchant.Directory, error) {
	pepper, err := merchant.ReadPepper(c.Vault.PepperFile)
	if err != nil {
		return nil, err
	}
	hasher, err := merchant.NewHasher(pepper)
	if err != nil {
		return nil, err
	}
	return merchant.New(merchant.Configs(documents), c.Gateways, c.Administrators, hasher)
}
