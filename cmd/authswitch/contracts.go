package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

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
	faults = append(faults, c.captureFaults()...)
	ranges, err := c.ranges()
	if err != nil {
		faults = append(faults, err)
	}
	_, err = routing.NewTable(ranges, contracts, rules)
	faults = append(faults, each(err)...)
	// Keys are compared by their hashes: the hasher is not needed to find faults.
	_, err = merchant.New(c.merchants(), c.Gateways, nil)
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
func (c *Config) contracts() ([]routing.Contract, []error) {
	var all []routing.Contract
	var faults []error
	for i := range c.Merchants {
		m := &c.Merchants[i]
		zone, err := time.LoadLocation(m.TimeZone)
		if err != nil {
			faults = append(faults, fmt.Errorf("merchant %q: time_zone: %w", m.ID, err))
			zone = time.UTC
		}
		for j := range m.Contracts {
			contract, errs := m.Contracts[j].contract(m.ID)
			if len(errs) > 0 {
				faults = append(faults, errs...)
				continue // what was not read would be reported again as missing
			}
			contract.TimeZone = zone
			contract.Priority = j // the order in the file
			all = append(all, contract)
		}
	}
	return all, faults
}

// contract reads one contract's names into codes.
func (c *ContractConfig) contract(m payment.MerchantID) (routing.Contract, []error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("merchant %q, scheme %q: "+format, append([]any{m, c.Scheme}, args...)...))
	}
	r := routing.Contract{
		Merchant: m,
		Scheme:   payment.ParseScheme([]byte(c.Scheme)),
		Links:    slices.Clone(c.Links),
		Terms: payment.Terms{
			Terminal: c.Terminal, Acceptor: c.Acceptor, AcceptorName: c.AcceptorName, MCC: c.MCC,
			Acquirer: c.Acquirer, Forwarder: c.Forwarder, Country: c.Country,
		},
		MaxAmount:       c.MaxAmount,
		PartialApproval: c.PartialApproval, CaptureWithin: c.CaptureWithin, FreeRefunds: c.FreeRefunds,
	}
	by, known := routing.ParseCaptureBy(c.CaptureBy)
	switch {
	case !known:
		fault("capture_by: %q is neither advice, file nor batch_upload", c.CaptureBy)
	case by == routing.CaptureByBatchUpload:
		fault("capture_by: batch_upload is not built: no dialect describes its messages; take advice or file")
	}
	r.CaptureBy = by
	if r.Scheme == payment.NoScheme {
		fault("unknown scheme")
	}
	for _, name := range c.Currencies {
		currency, err := payment.ParseCurrency([]byte(name))
		if err != nil {
			fault("currencies: %q: %w", name, err)
		}
		r.Currencies = append(r.Currencies, currency)
	}
	for _, name := range c.Channels {
		channel := payment.ParseChannel([]byte(name))
		if channel == payment.NoChannel {
			fault("channels: %q is unknown", name)
		}
		r.Channels = append(r.Channels, channel)
	}
	switch c.CVV {
	case "", "optional":
	case "required":
		r.CVV = routing.CVVRequired
	default:
		fault("cvv: %q is neither optional nor required", c.CVV)
	}
	return r, faults
}

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

// directory builds the view of merchants and gateways.
func (c *Config) directory() (*merchant.Directory, error) {
	pepper, err := merchant.ReadPepper(c.Vault.PepperFile)
	if err != nil {
		return nil, err
	}
	hasher, err := merchant.NewHasher(pepper)
	if err != nil {
		return nil, err
	}
	return merchant.New(c.merchants(), c.Gateways, hasher)
}

// merchants are the merchants without their contracts.
func (c *Config) merchants() []merchant.Config {
	all := make([]merchant.Config, len(c.Merchants))
	for i := range c.Merchants {
		all[i] = c.Merchants[i].Config
	}
	return all
}
