package server

import "time"

// Config is the limits of a server.
type Config struct {
	Connections      int           `yaml:"connections"`        // open at once, over all listeners
	Workers          int           `yaml:"workers"`            // operations that wait for token or audit log, at once; beyond: busy
	PerConnection    int           `yaml:"per_connection"`     // of these, of one connection
	CachedKeys       int           `yaml:"cached_keys"`        // opened keys in memory
	Parents          int           `yaml:"parents"`            // DUKPT parent keys kept per base key
	Devices          int           `yaml:"devices"`            // PIN pads whose counters are remembered
	RevealsPerMinute int           `yaml:"reveals_per_minute"` // cards that persons see
	FrameTimeout     time.Duration `yaml:"frame_timeout"`      // from a frame's first byte to its last
	IdleTimeout      time.Duration `yaml:"idle_timeout"`       // without any frame: clients ping far more often
	WriteTimeout     time.Duration `yaml:"write_timeout"`      // for answers to be taken: a client that never reads is let go
}

// WithDefaults fills what is not set.
func (c Config) WithDefaults() Config {
	for _, n := range []struct {
		value *int
		usual int
	}{
		{&c.Connections, 256},
		{&c.Workers, 256},
		{&c.PerConnection, 64},
		{&c.CachedKeys, 65536},
		{&c.Parents, 4096},
		{&c.Devices, 65536},
		{&c.RevealsPerMinute, 5},
	} {
		if *n.value <= 0 {
			*n.value = n.usual
		}
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.FrameTimeout, 2 * time.Second},
		{&c.IdleTimeout, time.Minute},
		{&c.WriteTimeout, 2 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	return c
}
