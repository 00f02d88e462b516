package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

// The profiles.
const (
	profileDevelopment = "development"
	profileProduction  = "production"
)

// Validate reports all faults.
func (c *Config) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Profile != profileDevelopment && c.Profile != profileProduction {
		fault("profile: %q is neither development nor production", c.Profile)
	}
	if c.Node.ID == "" {
		fault("node.id: needed")
	}
	if c.Node.DataDir == "" {
		fault("node.data_dir: needed")
	}
	if c.Vault.KeyFile == "" && c.HSM == nil {
		fault("vault.key_file: needed where there is no section hsm")
	}
	if c.Vault.PepperFile == "" {
		fault("vault.pepper_file: needed")
	}
	faults = append(faults, c.validateStore()...)
	faults = append(faults, c.Cluster.validate(c.Node.ID)...)
	if c.HSM != nil {
		faults = append(faults, c.HSM.Validate()...)
		faults = append(faults, c.Keys.Validate()...)
		faults = append(faults, c.Reseal.Validate()...)
	}
	faults = append(faults, c.API.Validate()...)
	faults = append(faults, c.Batches.Validate()...)
	faults = append(faults, validateListen("admin.listen", c.Admin.Listen)...)
	faults = append(faults, validateListen("api.listen", c.API.Listen)...)
	faults = append(faults, c.validateLinks()...)
	faults = append(faults, c.validateSecurity()...)
	faults = append(faults, c.validateMerchants()...)
	if c.Profile == profileProduction {
		faults = append(faults, c.validateProduction()...)
	}
	return faults
}

// validateStore leaves out what is wrong with node, which is said already.
func (c *Config) validateStore() []error {
	s := c.Store
	if s.Node == "" {
		s.Node = "unnamed"
	}
	if s.Dir == "" {
		s.Dir = "."
	}
	return s.Validate()
}

func validateListen(name, address string) []error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return []error{fmt.Errorf("%s: %w", name, err)}
	}
	return nil
}

// validateLinks holds the links to themselves, to each other and to the
// gateways' budget.
func (c *Config) validateLinks() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Links) == 0 {
		fault("links: at least one is needed")
	}
	named := map[payment.LinkName]bool{}
	compiled := map[payment.DialectName]error{"": nil} // its absence is the link's own fault
	for i := range c.Links {
		l := &c.Links[i]
		faults = append(faults, l.Validate()...)
		if named[l.Name] && l.Name != "" {
			fault("link %q: named twice", l.Name)
		}
		named[l.Name] = true
		err, known := compiled[l.Dialect]
		if !known {
			_, err = iso8583.Load(dialects.FS, string(l.Dialect))
			compiled[l.Dialect] = err
		}
		if err != nil {
			fault("link %q: dialect: %w", l.Name, err)
		}
		if l.AnswerTimeout >= c.API.Budget {
			fault("link %q: answer_timeout is %s; the gateway, whose api.budget is %s, would never see an answer's timeout", l.Name, l.AnswerTimeout, c.API.Budget)
		}
	}
	return faults
}

// validateProduction refuses what must not meet real cards.
func (c *Config) validateProduction() []error {
	var faults []error
	if !isLoopback(c.API.Listen) && c.API.CertificateFile == "" {
		faults = append(faults, fmt.Errorf("api.listen: %s without tls; production refuses a plain listener off loopback", c.API.Listen))
	}
	if !isLoopback(c.Admin.Listen) {
		faults = append(faults, fmt.Errorf("admin.listen: %s; production keeps the admin port on loopback", c.Admin.Listen))
	}
	if c.Admin.Profiling {
		faults = append(faults, errors.New("admin.pprof: not in production"))
	}
	for i := range c.Links {
		if l := &c.Links[i]; l.TLS == nil && !l.PrivateNetwork {
			faults = append(faults, fmt.Errorf("link %q: neither tls nor private_network", l.Name))
		}
		if c.Links[i].SimulatorLedger != "" {
			faults = append(faults, fmt.Errorf("link %q: simulator_ledger: production has no simulators", c.Links[i].Name))
		}
	}
	if c.HSM == nil {
		faults = append(faults, errors.New("hsm: needed; production seals cards under keys of a security module"))
	}
	if c.Vault.KeyFile != "" {
		faults = append(faults, errors.New("vault.key_file: not in production; whoever copies a key file and the data has the cards"))
	}
	for i := range c.Gateways {
		if c.Gateways[i].ID == devGateway {
			faults = append(faults, fmt.Errorf("gateways[%d].id: %q is the gateway of authswitch dev; its key is printed for everybody", i, devGateway))
		}
	}
	for i := range c.Administrators {
		if c.Administrators[i].ID == devGateway {
			faults = append(faults, fmt.Errorf("administrators[%d].id: %q is the administrator of authswitch dev; its key is printed for everybody", i, devGateway))
		}
	}
	return faults
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
