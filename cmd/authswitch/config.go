package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"authswitch/api"
	"authswitch/link"
	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/store"
)

// Config is the one file a node reads. Unknown keys are refused with their
// line; relative paths are relative to the file.
type Config struct {
	// Profile production refuses what is only good for trying things out.
	Profile   string                   `yaml:"profile"`
	Node      NodeConfig               `yaml:"node"`
	API       api.Config               `yaml:"api"`
	Admin     AdminConfig              `yaml:"admin"`
	Vault     VaultConfig              `yaml:"vault"`
	Store     store.Config             `yaml:"store"`
	Links     []LinkConfig             `yaml:"links"`
	BINs      string                   `yaml:"bins"` // CSV; empty: the built-in table of published prefixes
	Merchants []MerchantConfig         `yaml:"merchants"`
	Gateways  []merchant.GatewayConfig `yaml:"gateways"`
}

// NodeConfig names the node and its place on disk.
type NodeConfig struct {
	ID      payment.NodeID `yaml:"id"`
	DataDir string         `yaml:"data_dir"`
}

// AdminConfig is the operators' port.
type AdminConfig struct {
	Listen string `yaml:"listen"` // 127.0.0.1:8081
	// Profiling serves /debug/pprof/. Off: a profile costs CPU, and a dump of
	// goroutines tells whoever reaches the port about our insides. Never a heap
	// dump: that would hold card data.
	Profiling bool `yaml:"pprof"`
}

// VaultConfig names the files that protect cardholder data.
type VaultConfig struct {
	KeyFile    string `yaml:"key_file"`    // root of the data keys, mode 0600
	PepperFile string `yaml:"pepper_file"` // keys the hashes of API keys, mode 0600
}

// LinkConfig is a link and what the switch may assume of its acquirer.
type LinkConfig struct {
	link.Config `yaml:",inline"`
	// KeepsNoHold: after 06, 22 and 96 the acquirer holds nothing, so that
	// another route may be tried.
	KeepsNoHold bool `yaml:"keeps_no_hold"`
	// SimulatorLedger is where the simulator behind this link writes what it
	// decided; shown by GET /v1/links so that `bench verify` finds it. Never in
	// production.
	SimulatorLedger string `yaml:"simulator_ledger"`
}

// MerchantConfig is a merchant with its contracts.
type MerchantConfig struct {
	merchant.Config `yaml:",inline"`
	TimeZone        string           `yaml:"time_zone"` // IANA name; UTC when empty
	Contracts       []ContractConfig `yaml:"contracts"`
}

// ContractConfig is a merchant's contract for one scheme.
type ContractConfig struct {
	Scheme          string             `yaml:"scheme"`
	Links           []payment.LinkName `yaml:"links"` // in order of preference
	Terminal        string             `yaml:"terminal"`
	Acceptor        string             `yaml:"acceptor"`
	AcceptorName    string             `yaml:"acceptor_name"` // name/city/country
	MCC             string             `yaml:"mcc"`
	Acquirer        string             `yaml:"acquirer"`
	Forwarder       string             `yaml:"forwarder"`
	Country         string             `yaml:"country"`    // ISO 3166 numeric
	Currencies      []string           `yaml:"currencies"` // ISO 4217 alphabetic
	Channels        []string           `yaml:"channels"`
	MaxAmount       int64              `yaml:"max_amount"` // minor units; 0: no limit of ours
	PartialApproval bool               `yaml:"partial_approval"`
	CVV             string             `yaml:"cvv"` // optional (default), required, never
}

// maxConfigBytes bounds the file.
const maxConfigBytes = 4 << 20

// readConfig reads, completes and validates a file; all faults at once.
func readConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("configuration %s is larger than %d bytes", path, maxConfigBytes)
	}
	var c Config
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	c.complete(filepath.Dir(path))
	if faults := c.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("configuration %s:\n%w", path, errors.Join(faults...))
	}
	return &c, nil
}

// complete fills defaults and makes paths absolute.
func (c *Config) complete(dir string) {
	if c.Profile == "" {
		c.Profile = profileDevelopment
	}
	if c.Admin.Listen == "" {
		c.Admin.Listen = "127.0.0.1:8081"
	}
	for _, path := range []*string{&c.Node.DataDir, &c.Vault.KeyFile, &c.Vault.PepperFile, &c.BINs} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	c.Store.Node = c.Node.ID
	if c.Store.Dir == "" {
		c.Store.Dir = c.Node.DataDir
	}
}

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
	if c.Vault.KeyFile == "" {
		fault("vault.key_file: needed")
	}
	if c.Vault.PepperFile == "" {
		fault("vault.pepper_file: needed")
	}
	if len(c.Links) == 0 {
		fault("links: at least one is needed")
	}
	faults = append(faults, c.API.Validate()...)
	seen := map[payment.LinkName]bool{}
	for i := range c.Links {
		l := &c.Links[i]
		faults = append(faults, l.Validate()...)
		if seen[l.Name] {
			fault("links: %q is named twice", l.Name)
		}
		seen[l.Name] = true
	}
	faults = append(faults, c.validateMerchants(seen)...)
	if c.Profile == profileProduction {
		faults = append(faults, c.validateProduction()...)
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
	faults = append(faults, errors.New("vault.key_file: production needs a security module as root of the data keys, which this version does not have yet"))
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

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and show configuration"}
	var path string
	check := &cobra.Command{
		Use: "check", Short: "Report every fault of a configuration file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := readConfig(path); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	show := &cobra.Command{
		Use: "show", Short: "Show a configuration with its defaults filled in", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return yaml.NewEncoder(cmd.OutOrStdout()).Encode(config)
		},
	}
	c.PersistentFlags().StringVar(&path, "config", "authswitch.yaml", "the configuration file")
	c.AddCommand(check, show)
	return c
}
