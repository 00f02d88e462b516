package link

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"authswitch/payment"
)

// Config is one link. Every field but Name, Scheme, Dialect and Address may be
// left zero, which means the value its comment names.
type Config struct {
	Name    payment.LinkName    `yaml:"name"`
	Scheme  string              `yaml:"scheme"`
	Dialect payment.DialectName `yaml:"dialect"`
	Address string              `yaml:"address"` // host:port, dialed or, in mode accept, listened on

	// Mode is dial (the default) or accept: then the acquirer connects, from the
	// addresses and networks that Peers lists and no others.
	Mode  Mode     `yaml:"mode,omitempty"`
	Peers []string `yaml:"peers,omitempty"`

	// PrivateNetwork says that the line is protected by other means than TLS;
	// the production profile refuses a plain link without it.
	PrivateNetwork bool `yaml:"private_network"`
	TLS            *TLS `yaml:"tls"` // none: plain TCP

	Connections int `yaml:"connections"` // 1; few: more cost CPU
	// ConnectionsInAll is how many the acquirer gives to all nodes together, which
	// share them through the journal; a node has Connections of them at most. 0:
	// each node has its own Connections.
	ConnectionsInAll int `yaml:"connections_in_all,omitempty"`
	// StateScope is what the acquirer's sign-on is for: connection (the default),
	// station (a node's connections together) or institution (all nodes').
	StateScope Scope `yaml:"state_scope,omitempty"`

	Window         int `yaml:"window"`          // 256 requests in flight per connection
	WindowFloor    int `yaml:"window_floor"`    // an eighth of window, requests it keeps however slowly the acquirer answers
	ReversalWindow int `yaml:"reversal_window"` // 64 more for what is owed; the acquirer must take both together
	LateMemory     int `yaml:"late_memory"`     // 4096 unanswered requests remembered for their late answers

	SendWithin      time.Duration `yaml:"send_within"`       // 3s from Reserve: no byte leaves later
	AnswerTimeout   time.Duration `yaml:"answer_timeout"`    // 10s from send_by: then the outcome is unknown
	MaxOriginalLife time.Duration `yaml:"max_original_life"` // 180s: the acquirer's own maximum, after the latest possible write
	UserTimeout     time.Duration `yaml:"user_timeout"`      // 5s for written bytes to be acknowledged: TCP_USER_TIMEOUT
	DialTimeout     time.Duration `yaml:"dial_timeout"`      // 5s to be connected, TLS handshake included
	SignOnTimeout   time.Duration `yaml:"sign_on_timeout"`   // 10s for the answer to a sign-on; then the connection is dialed again
	EchoEvery       time.Duration `yaml:"echo_every"`        // 30s without a frame from the peer
	EchoUnderLoad   time.Duration `yaml:"echo_under_load"`   // 60s since the last echo, to measure the round trip
	EchoTimeout     time.Duration `yaml:"echo_timeout"`      // 5s for the answer to an echo; then it is a miss
	EchoMisses      int           `yaml:"echo_misses"`       // 2, then no new work; as many again, then the connection is given up
	WriteTimeout    time.Duration `yaml:"write_timeout"`     // 5s for one write
	FrameTimeout    time.Duration `yaml:"frame_timeout"`     // 5s from a frame's first byte to its last
	DrainTimeout    time.Duration `yaml:"drain_timeout"`     // 30s for what is in flight when a connection is to end
	BackoffShortest time.Duration `yaml:"backoff_shortest"`  // 100ms before the first dial after a failure; it doubles
	BackoffLongest  time.Duration `yaml:"backoff_longest"`   // 30s between dials at most, so that a peer that is back is found

	// RemembersReversals says that the acquirer refuses an original that comes
	// after its own reversal, so that "not found" is final at once.
	RemembersReversals bool `yaml:"remembers_reversals"`
}

// Mode is who opens the connections.
type Mode string

// The modes.
const (
	ModeDial   Mode = "dial"
	ModeAccept Mode = "accept"
)

// TLS is how a link is encrypted. Versions below 1.2 are never spoken.
type TLS struct {
	CAFile     string `yaml:"ca_file"`   // the system's roots when empty; in mode accept, whose certificates the peer may show, and none is asked for when empty
	CertFile   string `yaml:"cert_file"` // with KeyFile: mutual TLS
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"` // the address's host when empty
	MinVersion string `yaml:"min_version"` // "1.2" (default) or "1.3"
}

// The limits of what a configuration may ask for.
const (
	maxConnections = 64
	maxInAll       = 512
	maxWindow      = 8192
	maxLateMemory  = 1 << 20
)

// WithDefaults fills in what was left zero, as New does and `config show` prints.
func (c Config) WithDefaults() Config {
	number := func(v *int, otherwise int) {
		if *v == 0 {
			*v = otherwise
		}
	}
	duration := func(v *time.Duration, otherwise time.Duration) {
		if *v == 0 {
			*v = otherwise
		}
	}
	if c.Mode == "" {
		c.Mode = ModeDial
	}
	if c.StateScope == "" {
		c.StateScope = ScopeConnection
	}
	number(&c.Connections, 1)
	number(&c.Window, 256)
	number(&c.WindowFloor, max(1, c.Window>>3))
	number(&c.ReversalWindow, 64)
	number(&c.LateMemory, 4096)
	number(&c.EchoMisses, 2)
	duration(&c.SendWithin, 3*time.Second)
	duration(&c.AnswerTimeout, 10*time.Second)
	duration(&c.MaxOriginalLife, 180*time.Second)
	duration(&c.UserTimeout, 5*time.Second)
	duration(&c.DialTimeout, 5*time.Second)
	duration(&c.SignOnTimeout, 10*time.Second)
	duration(&c.EchoEvery, 30*time.Second)
	duration(&c.EchoUnderLoad, 60*time.Second)
	duration(&c.EchoTimeout, 5*time.Second)
	duration(&c.WriteTimeout, 5*time.Second)
	duration(&c.FrameTimeout, 5*time.Second)
	duration(&c.DrainTimeout, 30*time.Second)
	duration(&c.BackoffShortest, 100*time.Millisecond)
	duration(&c.BackoffLongest, 30*time.Second)
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("link %q: "+format, append([]any{string(c.Name)}, args...)...))
	}
	if c.Name == "" {
		fault("name is missing")
	}
	if payment.ParseScheme([]byte(c.Scheme)) == payment.NoScheme {
		fault("scheme %q is unknown", c.Scheme)
	}
	if c.Dialect == "" {
		fault("dialect is missing")
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		fault("address: %w", err)
	}
	d := c.WithDefaults()
	between := func(name string, v, low, high int) {
		if v < low || v > high {
			fault("%s is %d; it must be %d to %d", name, v, low, high)
		}
	}
	between("connections", d.Connections, 1, maxConnections)
	between("connections_in_all", d.ConnectionsInAll, 0, maxInAll)
	between("window", d.Window, 1, maxWindow)
	between("window_floor", d.WindowFloor, 1, d.Window)
	between("reversal_window", d.ReversalWindow, 1, maxWindow)
	between("late_memory", d.LateMemory, 1, maxLateMemory)
	between("echo_misses", d.EchoMisses, 1, 100)
	for _, e := range d.durations() {
		if e.value < 10*time.Millisecond || e.value > 24*time.Hour {
			fault("%s is %s; it must be 10ms to 24h", e.name, e.value)
		}
	}
	if d.BackoffLongest < d.BackoffShortest {
		fault("backoff_longest is under backoff_shortest")
	}
	c.validateMode(fault)
	if c.TLS != nil {
		if _, err := c.TLS.config(c.Address, c.Mode); err != nil {
			fault("tls: %w", err)
		}
	}
	return faults
}

// validateMode reports what does not go with who opens the connections, and what
// they are to the acquirer.
func (c *Config) validateMode(fault func(string, ...any)) {
	_, err := parsePeers(c.Peers)
	switch c.StateScope {
	case "", ScopeConnection, ScopeStation, ScopeInstitution:
	default:
		fault("state_scope is %q; it must be connection, station or institution", string(c.StateScope))
	}
	switch {
	case c.Mode != "" && c.Mode != ModeDial && c.Mode != ModeAccept:
		fault("mode is %q; it must be dial or accept", string(c.Mode))
	case err != nil:
		fault("peers: %w", err)
	case c.Mode == ModeAccept && len(c.Peers) == 0:
		fault("peers: needed in mode accept: the addresses that the acquirer connects from")
	case c.Mode != ModeAccept && len(c.Peers) > 0:
		fault("peers: only in mode accept")
	case c.Mode == ModeAccept && c.TLS != nil && c.TLS.CertFile == "":
		fault("tls: cert_file: needed in mode accept")
	}
}

// Shared says whether the nodes of a cluster must agree on who has the link's
// connections, or who speaks for all of them.
func (c *Config) Shared() bool { return c.ConnectionsInAll > 0 || c.StateScope == ScopeInstitution }

// silence is how long a peer may say nothing: longer than its missed echoes
// take to be noticed. Where there is no echo an idle line is renewed daily.
func (c *Config) silence(echo bool) time.Duration {
	if !echo {
		return 24 * time.Hour
	}
	return max(c.EchoEvery, c.SignOnTimeout, c.DrainTimeout) + time.Duration(2*c.EchoMisses+1)*c.EchoTimeout
}

type namedDuration struct {
	name  string
	value time.Duration
}

func (c *Config) durations() []namedDuration {
	return []namedDuration{
		{"send_within", c.SendWithin},
		{"answer_timeout", c.AnswerTimeout},
		{"max_original_life", c.MaxOriginalLife},
		{"user_timeout", c.UserTimeout},
		{"dial_timeout", c.DialTimeout},
		{"sign_on_timeout", c.SignOnTimeout},
		{"echo_every", c.EchoEvery},
		{"echo_under_load", c.EchoUnderLoad},
		{"echo_timeout", c.EchoTimeout},
		{"write_timeout", c.WriteTimeout},
		{"frame_timeout", c.FrameTimeout},
		{"drain_timeout", c.DrainTimeout},
		{"backoff_shortest", c.BackoffShortest},
		{"backoff_longest", c.BackoffLongest},
	}
}

// config reads the files and builds what the handshake needs.
func (t *TLS) config(address string, mode Mode) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName = host
	}
	switch t.MinVersion {
	case "", "1.2":
	case "1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("min_version %q is neither 1.2 nor 1.3", t.MinVersion)
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("cert_file and key_file go together")
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if mode == ModeAccept {
		c.ServerName = ""
		if c.ClientCAs = c.RootCAs; c.ClientCAs != nil {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return c, nil
}
