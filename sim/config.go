package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// ErrScenario is a scenario that cannot be played.
var ErrScenario = errors.New("the scenario cannot be played")

// Config is a scenario file. Every field but name, dialect, listen and ledger
// has a usable zero value.
type Config struct {
	Name    string `yaml:"name"`
	Dialect string `yaml:"dialect"`          // an embedded dialect's name, or a path to a file
	Listen  string `yaml:"listen,omitempty"` // an address, or dial
	// Dial is the address of a link in mode accept: the host opens Connections
	// to it, again and again, instead of listening.
	Dial        string `yaml:"dial,omitempty"`
	Connections int    `yaml:"connections,omitempty"` // default 1 with dial
	Ledger      string `yaml:"ledger"`
	// Wire is a file of the messages that came and left, described and masked;
	// empty: none is kept.
	Wire string `yaml:"wire,omitempty"`
	// LedgerSync is group (each decision is on disk before its answer leaves;
	// the default) or none (handed to the kernel: survives a kill of the
	// simulator, not a power cut; for load runs that do not measure its disk).
	LedgerSync LedgerSync `yaml:"ledger_sync,omitempty"`
	Codec      Codec      `yaml:"codec,omitempty"` // moov (default) or fast

	Latency   Latency       `yaml:"latency,omitempty"`
	LateAfter time.Duration `yaml:"late_after,omitempty"` // how late a late answer is; default 4 s

	RememberReversals bool          `yaml:"remember_reversals,omitempty"` // a reversal that came first bars its original
	RequireSignOn     bool          `yaml:"require_sign_on,omitempty"`    // payments on a connection that has not signed on are refused
	EchoEvery         time.Duration `yaml:"echo_every,omitempty"`         // 0: the simulator sends no echo of its own

	Amounts map[string]string `yaml:"amounts,omitempty"` // last two digits → what to do, over the built-in table
	Codes   map[string]string `yaml:"codes,omitempty"`   // 1987 code → this host's spelling, over the built-in table
	Faults  []Fault           `yaml:"faults,omitempty"`
	Seed    uint64            `yaml:"seed,omitempty"`

	Security Security `yaml:"security,omitempty"` // the host's keys, and what it checks with them

	MaxConnections int `yaml:"max_connections,omitempty"` // default 64 at once; one more is closed
	MaxDecisions   int `yaml:"max_decisions,omitempty"`   // kept in memory; default 20,000,000, about 60 bytes each
	MaxDelayed     int `yaml:"max_delayed,omitempty"`     // answers waiting for their time, per connection; default 100,000
}

// LedgerSync is how far a decision is before its answer leaves.
type LedgerSync string

// The ways.
const (
	SyncGroup LedgerSync = "group"
	SyncNone  LedgerSync = "none"
)

// Codec is whose codec the simulator speaks with.
type Codec string

// The codecs.
const (
	CodecMoov Codec = "moov"
	CodecFast Codec = "fast"
)

// Latency is how long an ordinary answer takes.
type Latency struct {
	Distribution string        `yaml:"distribution,omitempty"` // none, constant, normal, lognormal, exponential
	Mean         time.Duration `yaml:"mean,omitempty"`         // of the distribution
	Deviation    time.Duration `yaml:"deviation,omitempty"`    // of normal and lognormal
	Max          time.Duration `yaml:"max,omitempty"`          // cut off here; 0: ten times the mean
}

// maxScenarioBytes bounds a scenario file.
const maxScenarioBytes = 1 << 20

// ReadConfig reads a scenario file. A key it does not know is refused with its
// line.
func ReadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the scenario: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxScenarioBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("reading the scenario: %w", err)
	}
	if len(raw) > maxScenarioBytes {
		return Config{}, fmt.Errorf("%s is longer than %d bytes: %w", path, maxScenarioBytes, ErrScenario)
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a scenario and reports all of its faults at once.
func ParseConfig(raw []byte) (Config, error) {
	var c Config
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrScenario, err)
	}
	if faults := c.Validate(); len(faults) > 0 {
		return Config{}, fmt.Errorf("%w: %w", ErrScenario, errors.Join(faults...))
	}
	return c, nil
}

// Validate names all that is wrong.
func (c *Config) Validate() []error {
	var faults []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	wrong(c.Name == "", "name: missing")
	wrong(c.Dialect == "", "dialect: missing")
	wrong(c.Listen == "" && c.Dial == "", "listen: missing")
	wrong(c.Listen != "" && c.Dial != "", "dial: not together with listen")
	wrong(c.Connections < 0, "connections: negative")
	wrong(c.Connections > 0 && c.Dial == "", "connections: only with dial; max_connections bounds those of peers")
	wrong(c.Ledger == "", "ledger: missing")
	wrong(!slices.Contains([]LedgerSync{"", SyncGroup, SyncNone}, c.LedgerSync), "ledger_sync: %q is neither group nor none", c.LedgerSync)
	wrong(!slices.Contains([]Codec{"", CodecFast, CodecMoov}, c.Codec), "codec: %q is neither fast nor moov", c.Codec)
	wrong(c.LateAfter < 0, "late_after: negative")
	wrong(c.EchoEvery < 0, "echo_every: negative")
	wrong(c.MaxConnections < 0, "max_connections: negative")
	wrong(c.MaxDecisions < 0, "max_decisions: negative")
	wrong(c.MaxDelayed < 0, "max_delayed: negative")
	faults = append(faults, c.Latency.validate()...)
	faults = append(faults, c.Security.validate()...)
	for digits, name := range c.Amounts {
		n, err := strconv.Atoi(digits)
		wrong(err != nil || n < 0 || len(digits) != 2, "amounts: %q is not two digits", digits)
		_, known := behaviourNamed(name)
		wrong(!known, "amounts: %q: %q is neither a behaviour nor a response code", digits, name)
	}
	for code, spelled := range c.Codes {
		wrong(!known87(code), "codes: %q is no code that a simulator gives", code)
		wrong(len(spelled) < 1 || len(spelled) > 4, "codes: %q: %q is not 1 to 4 characters", code, spelled)
	}
	for i := range c.Faults {
		for _, err := range c.Faults[i].validate() {
			faults = append(faults, fmt.Errorf("faults[%d]: %w", i, err))
		}
	}
	return faults
}

func (l *Latency) validate() []error {
	var faults []error
	switch l.Distribution {
	case "", "none":
	case "constant", "normal", "lognormal", "exponential":
		if l.Mean <= 0 {
			faults = append(faults, fmt.Errorf("latency: %s needs a mean", l.Distribution))
		}
	default:
		faults = append(faults, fmt.Errorf("latency: distribution %q is not known", l.Distribution))
	}
	if l.Mean < 0 || l.Deviation < 0 || l.Max < 0 {
		faults = append(faults, errors.New("latency: negative"))
	}
	return faults
}

// withDefaults fills what the scenario left out.
func (c Config) withDefaults() Config {
	if c.LedgerSync == "" {
		c.LedgerSync = SyncGroup
	}
	if c.Codec == "" {
		c.Codec = CodecMoov
	}
	if c.LateAfter == 0 {
		c.LateAfter = 4 * time.Second
	}
	if c.Connections == 0 && c.Dial != "" {
		c.Connections = 1
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.MaxDecisions == 0 {
		c.MaxDecisions = 20_000_000
	}
	if c.MaxDelayed == 0 {
		c.MaxDelayed = 100_000
	}
	if c.Latency.Max == 0 {
		c.Latency.Max = 10 * c.Latency.Mean
	}
	return c
}
