package hsm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Config says where the security modules are and how long they may take.
type Config struct {
	// Protocol is hsmd (default), or payshield for a module that speaks host
	// commands (docs/payshield.md).
	Protocol    string           `yaml:"protocol"`
	Endpoints   []EndpointConfig `yaml:"endpoints"`    // in order of preference
	Connections int              `yaml:"connections"`  // per endpoint; hsmd serves each with one core
	Window      int              `yaml:"window"`       // operations in flight per connection; beyond: busy
	Timeout     time.Duration    `yaml:"timeout"`      // longest wait for an operation, whatever its caller's deadline
	Silence     time.Duration    `yaml:"silence"`      // without any answer, pings included, until an endpoint is down
	DialTimeout time.Duration    `yaml:"dial_timeout"` // to be connected, TLS handshake included
}

// EndpointConfig is one hsmd: a Unix socket, or an address with TLS.
type EndpointConfig struct {
	Unix    string     `yaml:"unix"`    // path
	Address string     `yaml:"address"` // host:port; needs tls
	TLS     *TLSConfig `yaml:"tls"`
	// PrivateNetwork lets an address of protocol payshield go without tls: such
	// modules often stand in a network of their own.
	PrivateNetwork bool `yaml:"private_network"`
}

// TLSConfig is mutual TLS 1.3; there is no other.
type TLSConfig struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"` // the address's host when empty
}

// The protocols.
const (
	ProtocolHSMD      = "hsmd"
	ProtocolPayshield = "payshield"
)

// The limits of what a configuration may ask for.
const (
	maxEndpoints   = 16
	maxConnections = 16
	maxWindow      = 16384
)

// WithDefaults fills what is not set.
func (c Config) WithDefaults() Config {
	if c.Protocol == "" {
		c.Protocol = ProtocolHSMD
	}
	if c.Connections == 0 {
		c.Connections = 1
	}
	if c.Window == 0 {
		c.Window = 1024
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Silence == 0 {
		c.Silence = 500 * time.Millisecond
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = time.Second
	}
	return c
}

// Validate reports all faults. It is asked after WithDefaults.
func (c *Config) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("hsm."+format, args...)) }
	if c.Protocol != ProtocolHSMD && c.Protocol != ProtocolPayshield {
		fault("protocol: %q is neither %s nor %s", c.Protocol, ProtocolHSMD, ProtocolPayshield)
	}
	if len(c.Endpoints) == 0 || len(c.Endpoints) > maxEndpoints {
		fault("endpoints: %d; 1 to %d are needed", len(c.Endpoints), maxEndpoints)
	}
	for i := range c.Endpoints {
		if e := &c.Endpoints[i]; e.PrivateNetwork && c.Protocol != ProtocolPayshield {
			fault("endpoints[%d].private_network: only with protocol %s", i, ProtocolPayshield)
		}
		for _, err := range c.Endpoints[i].faults() {
			fault("endpoints[%d].%w", i, err)
		}
	}
	for _, n := range []struct {
		name     string
		got, max int
	}{{"connections", c.Connections, maxConnections}, {"window", c.Window, maxWindow}} {
		if n.got < 1 || n.got > n.max {
			fault("%s: %d is not from 1 to %d", n.name, n.got, n.max)
		}
	}
	for _, d := range []struct {
		name          string
		got, min, max time.Duration
	}{
		{"timeout", c.Timeout, 10 * time.Millisecond, time.Minute},
		{"silence", c.Silence, 3 * pingEvery / 2, 10 * time.Second},
		{"dial_timeout", c.DialTimeout, 10 * time.Millisecond, time.Minute},
	} {
		if d.got < d.min || d.got > d.max {
			fault("%s: %s is not from %s to %s", d.name, d.got, d.min, d.max)
		}
	}
	return faults
}

func (e *EndpointConfig) name() string {
	if e.Unix != "" {
		return e.Unix
	}
	return e.Address
}

func (e *EndpointConfig) faults() []error {
	if (e.Unix == "") == (e.Address == "") {
		return []error{errors.New("unix: either this or address is needed, and not both")}
	}
	if e.Unix != "" {
		if e.TLS != nil {
			return []error{errors.New("tls: a Unix socket has none; its peers are known by their user")}
		}
		if len(e.Unix) > maxSocketPath {
			return []error{fmt.Errorf("unix: %d characters; a socket's path has at most %d", len(e.Unix), maxSocketPath)}
		}
		return nil
	}
	var faults []error
	if _, _, err := net.SplitHostPort(e.Address); err != nil {
		faults = append(faults, fmt.Errorf("address: %w", err))
	}
	if e.TLS == nil && e.PrivateNetwork {
		return faults
	}
	if e.TLS == nil {
		return append(faults, errors.New("tls: needed; a security module is not asked over a plain connection"))
	}
	for _, f := range []struct{ name, value string }{{"ca_file", e.TLS.CAFile}, {"cert_file", e.TLS.CertFile}, {"key_file", e.TLS.KeyFile}} {
		if f.value == "" {
			faults = append(faults, fmt.Errorf("tls.%s: needed", f.name))
		}
	}
	return faults
}

// maxSocketPath is the kernel's, less the zero at the end: unix(7).
const maxSocketPath = 107

// config reads the files.
func (t *TLSConfig) config(address string) (*tls.Config, error) {
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.ca_file: %s holds no certificate", t.CAFile)
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file and tls.key_file: %w", err)
	}
	name := t.ServerName
	if name == "" {
		if name, _, err = net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: name}, nil
}
