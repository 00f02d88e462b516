package server

import "time"

// Config is the limits of a server.
type Config struct {
	Connections      int `yaml:"connections"`        // open at once, over all listeners
	Workers          int `yaml:"workers"`            // operations that wait for token or audit log, at once; beyond: busy
	PerConnection    int `yaml:"per_connection"`     // of these, of one connection
	CachedKeys       int `yaml:"cached_keys"`        // opened keys in memory
	Parents          int `yaml:"parents"`            // DUKPT parent keys kept per base key
	Devices          int `yaml:"devices"`            // PIN pads whose counters are remembered
	RevealsPerMinute int `yaml:"reveals_per_minute"` // cards that persons see
	// Stored cards that are opened a second, by what for: who takes a node over
	// gets at them no faster.
	OutboxPerSecond   int           `yaml:"outbox_per_second"`   // for what is owed to a link
	CapturesPerSecond int           `yaml:"captures_per_second"` // for captures, refunds and payments with a stored card
	ResealsPerSecond  int           `yaml:"reseals_per_second"`  // under a newer data key
	RefusalsEvery     time.Duration `yaml:"refusals_every"`      // how often repeated refusals are written into the audit log, as a count
	HostHeader        int           `yaml:"host_header"`         // characters before a host command, given back in its answer
	FrameTimeout      time.Duration `yaml:"frame_timeout"`       // from a frame's first byte to its last
	IdleTimeout       time.Duration `yaml:"idle_timeout"`        // without any frame: clients ping far more often
	WriteTimeout      time.Duration `yaml:"write_timeout"`       // for answers to be taken: a client that never reads is let go
}

// WithDefaults fills what is not set.
func (c Config) WithDefaults() Config {
	number := func(v *int, otherwise int) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	duration := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	number(&c.Connections, 256)
	number(&c.Workers, 256)
	number(&c.PerConnection, 64)
	number(&c.CachedKeys, 65536)
	number(&c.Parents, 4096)
	number(&c.Devices, 65536)
	number(&c.RevealsPerMinute, 5)
	number(&c.OutboxPerSecond, 10_000)
	number(&c.CapturesPerSecond, 10_000)
	number(&c.ResealsPerSecond, 2000)
	number(&c.HostHeader, 16)
	duration(&c.RefusalsEvery, 10*time.Second)
	duration(&c.FrameTimeout, 2*time.Second)
	duration(&c.IdleTimeout, time.Minute)
	duration(&c.WriteTimeout, 2*time.Second)
	return c
}
