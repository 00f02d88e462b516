package api

import (
	"errors"
	"fmt"
	"time"
)

// Errors of the configuration.
var (
	ErrNegative = errors.New("must not be negative")
	ErrTooSmall = errors.New("is too small")
	ErrTooLarge = errors.New("is too large")
	ErrTLS      = errors.New("certificate and key go together")
)

// Config of the door. Every zero value stands for the default beside it.
type Config struct {
	Listen string `yaml:"listen"` // 127.0.0.1:8080

	// CertificateFile and KeyFile turn TLS on (1.2 and up).
	CertificateFile string `yaml:"certificate_file"`
	KeyFile         string `yaml:"key_file"`

	// Budget is how long a gateway waits for an authorization: longer than any
	// acquirer's timer, so that the answer is the acquirer's or its timeout's.
	Budget time.Duration `yaml:"budget"` // 15s

	BodyBytes             int `yaml:"body_bytes"`              // 16384: ten times a full authorization
	HeaderBytes           int `yaml:"header_bytes"`            // 8192, request line included
	Connections           int `yaml:"connections"`             // 8192 open at once
	ConnectionsPerAddress int `yaml:"connections_per_address"` // 4096: one address cannot take them all
	Requests              int `yaml:"requests"`                // 4096 in work at once; beyond: 503 overloaded

	// QueueTarget is how old what waits for the journal, or on its way there for a
	// processor, may be when a customer's request comes; merchants' and batches' give
	// way before. What has been older for the interval is not waited behind: 503
	// overloaded. What two commits usually take is not counted.
	QueueTarget   time.Duration `yaml:"queue_target"`   // 200ms
	QueueInterval time.Duration `yaml:"queue_interval"` // 500ms: a burst may be longer in line

	ReadTimeout  time.Duration `yaml:"read_timeout"`  // 5s from a request's first byte to its last
	WriteTimeout time.Duration `yaml:"write_timeout"` // 5s for an answer to leave
	IdleTimeout  time.Duration `yaml:"idle_timeout"`  // 60s between requests of a connection

	BatchBytes   int           `yaml:"batch_bytes"`   // 16777216: largest file of refunds; each one in work is held in memory
	BatchTimeout time.Duration `yaml:"batch_timeout"` // 2m for such a file to arrive, or its results to leave

	KeyBytes       int `yaml:"key_bytes"`       // 128: longest Idempotency-Key
	ReferenceBytes int `yaml:"reference_bytes"` // 64: longest reference
	PageSize       int `yaml:"page_size"`       // 100 payments when a list names no limit
}

// maxAPIKey bounds the bearer key before it is hashed.
const maxAPIKey = 256

// Bounds of the configuration: what is outside them is a mistake.
const (
	minBody      = 1 << 10
	maxBody      = 1 << 20
	maxBatchBody = 256 << 20
	minHeader    = 1 << 10
	maxHeader    = 64 << 10
	maxConns     = 1 << 20
	maxKey       = 255
	maxTimeout   = 10 * time.Minute
	maxPage      = 1000
)

// WithDefaults fills what is zero, as New does and `config show` prints.
func (c Config) WithDefaults() Config {
	number := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	duration := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8080"
	}
	duration(&c.Budget, 15*time.Second)
	number(&c.BodyBytes, 16<<10)
	number(&c.HeaderBytes, 8<<10)
	number(&c.Connections, 8192)
	number(&c.ConnectionsPerAddress, max(1, min(4096, c.Connections)))
	number(&c.Requests, 4096)
	duration(&c.QueueTarget, 200*time.Millisecond)
	duration(&c.QueueInterval, 500*time.Millisecond)
	duration(&c.ReadTimeout, 5*time.Second)
	duration(&c.WriteTimeout, 5*time.Second)
	duration(&c.IdleTimeout, time.Minute)
	number(&c.BatchBytes, 16<<20)
	duration(&c.BatchTimeout, 2*time.Minute)
	number(&c.KeyBytes, 128)
	number(&c.ReferenceBytes, 64)
	number(&c.PageSize, 100)
	return c
}

// Validate reports everything wrong with the configuration.
func (c *Config) Validate() []error {
	var faults []error
	d := c.WithDefaults()
	number := func(name string, v, low, high int) {
		switch {
		case v < 0:
			faults = append(faults, fmt.Errorf("api.%s: %w", name, ErrNegative))
		case v < low:
			faults = append(faults, fmt.Errorf("api.%s: %w: at least %d", name, ErrTooSmall, low))
		case v > high:
			faults = append(faults, fmt.Errorf("api.%s: %w: at most %d", name, ErrTooLarge, high))
		}
	}
	duration := func(name string, v time.Duration) {
		switch {
		case v < 0:
			faults = append(faults, fmt.Errorf("api.%s: %w", name, ErrNegative))
		case v > maxTimeout:
			faults = append(faults, fmt.Errorf("api.%s: %w: at most %s", name, ErrTooLarge, maxTimeout))
		}
	}
	if (c.CertificateFile == "") != (c.KeyFile == "") {
		faults = append(faults, fmt.Errorf("api.certificate_file, key_file: %w", ErrTLS))
	}
	duration("budget", d.Budget)
	number("body_bytes", d.BodyBytes, minBody, maxBody)
	number("header_bytes", d.HeaderBytes, minHeader, maxHeader)
	number("connections", d.Connections, 1, maxConns)
	number("connections_per_address", d.ConnectionsPerAddress, 1, maxConns)
	number("requests", d.Requests, 1, maxConns)
	duration("queue_target", d.QueueTarget)
	duration("queue_interval", d.QueueInterval)
	duration("read_timeout", d.ReadTimeout)
	duration("write_timeout", d.WriteTimeout)
	duration("idle_timeout", d.IdleTimeout)
	number("batch_bytes", d.BatchBytes, minBody, maxBatchBody)
	duration("batch_timeout", d.BatchTimeout)
	number("key_bytes", d.KeyBytes, 8, maxKey)
	number("reference_bytes", d.ReferenceBytes, 1, maxKey)
	number("page_size", d.PageSize, 1, maxPage)
	return faults
}
