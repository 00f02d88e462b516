// Package schedule runs what falls due by itself: it looks the due-time index
// up, claims what is due through the journal and lets the journal decide.
//
// It keeps nothing: what is due stands in the journal, so that a node that dies
// loses no date. It must not decide anything about a payment. Started by cmd on
// every node; only the leader's Runner acts.
package schedule

import (
	"context"
	"log/slog"
	"time"

	"authswitch/payment"
)

// Journal has the index.
type Journal interface {
	// Leads says whether this node is the one that acts.
	Leads() bool
	DueCaptures(limit int) ([]payment.DueCapture, error)
	ExpireCaptures(due []payment.DueCapture) (int, error)
}

// Config of a runner. The zero value is usable.
type Config struct {
	// Every is how often the index is asked. Default 1 s.
	Every time.Duration
	// Batch is how many payments one command names. Default 128, at most 256.
	Batch int
}

// Runner asks the index and acts.
type Runner struct {
	cfg     Config
	journal Journal
	log     *slog.Logger
}

// New builds a runner; Run does the work.
func New(cfg Config, journal Journal, log *slog.Logger) *Runner {
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	if cfg.Batch <= 0 || cfg.Batch > 256 {
		cfg.Batch = 128
	}
	return &Runner{cfg: cfg, journal: journal, log: log}
}

// Run acts until the context ends.
func (r *Runner) Run(ctx context.Context) {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.journal.Leads() {
			r.expire(ctx)
		}
	}
}

// expire ends the time for captures of all that is due, batch by batch.
func (r *Runner) expire(ctx context.Context) {
	for ctx.Err() == nil {
		due, err := r.journal.DueCaptures(r.cfg.Batch)
		if err != nil || len(due) == 0 {
			r.failed("look for captures that are over", err)
			return
		}
		reversed, err := r.journal.ExpireCaptures(due)
		if err != nil {
			r.failed("end the time for captures", err)
			return
		}
		if reversed > 0 {
			r.log.Info("what nobody captured in time is reversed", "count", reversed)
		}
		if len(due) < r.cfg.Batch {
			return
		}
	}
}

func (r *Runner) failed(what string, err error) {
	if err != nil {
		r.log.Warn("schedule waits for the next round", "step", what, "error", err)
	}
}
