package main

import (
	"path/filepath"
	"time"

	"authswitch/api"
	"authswitch/batch"
	"authswitch/hsm"
	"authswitch/keyring"
	"authswitch/link"
	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/store"
	"authswitch/vault/reseal"
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
	Keys      keyring.Config           `yaml:"keys"`      // when keys change; needs hsm
	Reseal    reseal.Config            `yaml:"reseal"`    // how stored cards follow them
	HSM       *hsm.Config              `yaml:"hsm"`       // absent: no PIN, no MAC
	TestKeys  string                   `yaml:"test_keys"` // blocks that hsmd init --test-keys printed; never in production
	Store     store.Config             `yaml:"store"`
	Clearing  ClearingConfig           `yaml:"clearing"`
	Batches   batch.Config             `yaml:"batches"` // of refunds
	Cluster   ClusterConfig            `yaml:"cluster"` // none: this node is alone
	Links     []LinkConfig             `yaml:"links"`
	BINs      string                   `yaml:"bins"` // CSV; empty: the built-in table of published prefixes
	Merchants []merchant.Document      `yaml:"merchants"`
	Rules     []routing.RuleConfig     `yaml:"rules"` // over the contracts' order of links, top down
	Gateways  []merchant.GatewayConfig `yaml:"gateways"`
	// Administrators may change merchants and contracts through the API.
	Administrators []merchant.AdministratorConfig `yaml:"administrators"`
}

// NodeConfig names the node and its place on disk.
type NodeConfig struct {
	ID      payment.NodeID `yaml:"id"`
	DataDir string         `yaml:"data_dir"`
	// StopAfter is how long the node is out of rotation before a signal stops
	// it: as long as the balancer in front needs to see /ready say no. 0: at once.
	StopAfter time.Duration `yaml:"stop_after"`
}

// AdminConfig is the operators' port.
type AdminConfig struct {
	Listen string `yaml:"listen"` // 127.0.0.1:8081
	// Profiling serves /debug/pprof/. Off: a profile costs CPU, and a dump of
	// goroutines tells whoever reaches the port about our insides. What it
	// serves of the heap is statistics, never contents.
	Profiling bool `yaml:"pprof"`
}

// VaultConfig names the files that protect cardholder data.
type VaultConfig struct {
	KeyFile    string `yaml:"key_file"`    // root of the data keys where there is no hsm, mode 0600; with hsm, of what was sealed before
	PepperFile string `yaml:"pepper_file"` // keys the hashes of API keys, mode 0600
}

// ClearingConfig is where clearing files are written.
type ClearingConfig struct {
	Dir string `yaml:"dir"` // default: clearing, in the node's data directory
}

// LinkConfig is a link and what the switch may assume of its acquirer.
type LinkConfig struct {
	link.Config `yaml:",inline"`
	// KeepsNoHold: after 06, 22 and 96 the acquirer holds nothing, so that
	// another route may be tried.
	KeepsNoHold bool `yaml:"keeps_no_hold"`
	// RefundsFinal: the acquirer reverses no refund. One without an answer waits
	// for a person, and no machine repeats it.
	RefundsFinal bool `yaml:"refunds_final,omitempty"`
	// Security is what the link has the security module do; nothing when left out.
	Security LinkSecurity `yaml:"security,omitempty"`
	// CutOver is when the link's business day ends, HH:MM UTC: its clearing file
	// is closed, and voids of what was captured before become refunds. The
	// acquirer's own cut-over (0800, 201) counts too.
	CutOver string `yaml:"cut_over,omitempty"` // default 00:00
	// SimulatorLedger is where the simulator behind this link writes what it
	// decided; shown by GET /v1/links so that `bench verify` finds it. Never in
	// production.
	SimulatorLedger string `yaml:"simulator_ledger"`
}

// complete fills defaults and makes paths absolute.
func (c *Config) complete(dir string) {
	if c.Profile == "" {
		c.Profile = profileDevelopment
	}
	if c.Admin.Listen == "" {
		c.Admin.Listen = "127.0.0.1:8081"
	}
	for _, path := range []*string{
		&c.Node.DataDir, &c.TestKeys, &c.Vault.KeyFile, &c.Vault.PepperFile, &c.BINs, &c.Store.Dir, &c.Clearing.Dir, &c.API.CertificateFile, &c.API.KeyFile,
	} {
		absolute(path, dir)
	}
	c.API = c.API.WithDefaults()
	c.completeModule(dir)
	c.Keys, c.Reseal = c.Keys.WithDefaults(), c.Reseal.WithDefaults()
	c.Batches = c.Batches.WithDefaults()
	c.Store.Node = c.Node.ID
	c.Cluster.complete(&c.Store, dir)
	if c.Clearing.Dir == "" {
		c.Clearing.Dir = filepath.Join(c.Node.DataDir, "clearing")
	}
	if c.Store.Dir == "" {
		c.Store.Dir = c.Node.DataDir
	}
	c.Store = c.Store.WithDefaults()
	for i := range c.Links {
		l := &c.Links[i]
		l.Config = l.Config.WithDefaults()
		if l.CutOver == "" {
			l.CutOver = "00:00"
		}
		if l.TLS != nil {
			for _, path := range []*string{&l.TLS.CAFile, &l.TLS.CertFile, &l.TLS.KeyFile} {
				absolute(path, dir)
			}
		}
	}
}

// absolute makes a path that is relative to the file one that is not.
func absolute(path *string, dir string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(dir, *path)
	}
}
