package batch

import (
	"fmt"

	"authswitch/payment"
)

// Config of refund batches. The zero value is usable; what is left zero has the
// value its comment names.
type Config struct {
	Lines        int   `yaml:"lines"`         // 100000 in one batch: a mass refund of a stadium
	Uploads      int   `yaml:"uploads"`       // 2 in work at once on a node; others are told to come back
	ReleaseLimit int64 `yaml:"release_limit"` // 1000000 minor units of any currency: above it two operators release
	Rate         int   `yaml:"rate"`          // 2500 lines a second, so that live payments keep their latency
	LinkWindow   int   `yaml:"link_window"`   // 192 operations owed on a link before its next lines are started
	Step         int   `yaml:"step"`          // 32 lines in one command: live payments wait for so many at most, and a lane starts no more of them than one commit after the other does
}

// The limits of what a configuration may ask for.
const (
	maxUploads    = 16
	maxRate       = 100_000
	maxLinkWindow = 10_000
)

// WithDefaults fills in what was left zero.
func (c Config) WithDefaults() Config {
	number := func(v *int, otherwise int) {
		if *v == 0 {
			*v = otherwise
		}
	}
	number(&c.Lines, 100_000)
	number(&c.Uploads, 2)
	number(&c.Rate, 2500)
	number(&c.LinkWindow, 192)
	number(&c.Step, 32)
	amount := func(v *int64, otherwise int64) {
		if *v == 0 {
			*v = otherwise
		}
	}
	amount(&c.ReleaseLimit, 1_000_000)
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() []error {
	d := c.WithDefaults()
	var faults []error
	for _, f := range []struct {
		name         string
		v, low, high int
	}{
		{"lines", d.Lines, 1, payment.MaxBatchLines},
		{"uploads", d.Uploads, 1, maxUploads},
		{"rate", d.Rate, 1, maxRate},
		{"link_window", d.LinkWindow, 1, maxLinkWindow},
		{"step", d.Step, 1, payment.MaxBatchRun},
	} {
		if f.v < f.low || f.v > f.high {
			faults = append(faults, fmt.Errorf("batches.%s is %d; it must be %d to %d", f.name, f.v, f.low, f.high))
		}
	}
	if d.ReleaseLimit < 1 || d.ReleaseLimit > payment.MaxAmount {
		faults = append(faults, fmt.Errorf("batches.release_limit is %d; it must be 1 to %d", d.ReleaseLimit, payment.MaxAmount))
	}
	return faults
}
