package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/routing"
)

// validateMerchants reports every fault of merchants, contracts and gateways.
func (c *Config) validateMerchants(links map[payment.LinkName]bool) []error {
	var faults []error
	if _, errs := c.contracts(); len(errs) > 0 {
		faults = append(faults, errs...)
	}
	for i := range c.Merchants {
		m := &c.Merchants[i]
		faults = append(faults, m.Config.Validate()...)
		for _, contract := range m.Contracts {
			for _, name := range contract.Links {
				if !links[name] {
					faults = append(faults, fmt.Errorf("merchant %q, scheme %q: no link %q", m.ID, contract.Scheme, name))
				}
			}
		}
	}
	for i := range c.Gateways {
		faults = append(faults, c.Gateways[i].Validate()...)
	}
	return faults
}

// contracts are all merchants' contracts as routing wants them.
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
			contract.TimeZone = zone
			contract.Priority = j // the order in the file
			faults = append(faults, errs...)
			if len(errs) == 0 {
				faults = append(faults, contract.Validate()...)
			}
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
		PartialApproval: c.PartialApproval,
	}
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

// table builds the routing table of a configuration.
func (c *Config) table() (*routing.Table, error) {
	ranges := routing.DefaultRanges()
	if c.BINs != "" {
		f, err := os.Open(c.BINs)
		if err != nil {
			return nil, fmt.Errorf("bins: %w", err)
		}
		defer f.Close()
		if ranges, err = routing.ReadRanges(f); err != nil {
			return nil, fmt.Errorf("bins: %s: %w", c.BINs, err)
		}
	}
	contracts, faults := c.contracts()
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return routing.NewTable(ranges, contracts, nil)
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
	merchants := make([]merchant.Config, len(c.Merchants))
	for i := range c.Merchants {
		merchants[i] = c.Merchants[i].Config
	}
	return merchant.New(merchants, c.Gateways, hasher)
}
