package main

import (
	"context"
	"errors"
	"strconv"

	"authswitch/bench"
)

// overload measures what a node does when twice as much comes as it can do:
// first the peak, then twice that, by gateways that go away when they are
// refused, over as many connections as the door takes from one address. The
// generator shares the machine, and what it spends on requests that are refused
// is not there for the node: the ratio is the least that one with a machine of
// its own shows.
func (t *table) overload(ctx context.Context) (err error) {
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	rate, known := t.figures["one_node.authorizations_per_s"]
	if !known {
		if rate, err = t.climb(ctx, d, 2000); err != nil {
			return err
		}
	}
	offer := func(rate float64) (*bench.Report, error) {
		study, err := t.loadDev(ctx, d, "run", "--impatient", "--connections", "4000",
			"--rate", strconv.FormatFloat(rate, 'f', 0, 64), "--duration", t.load.String())
		if err != nil {
			return nil, err
		}
		return study.Shown(), nil
	}
	peak, err := offer(rate)
	if err != nil {
		return err
	}
	twice, err := offer(2 * rate)
	if err != nil {
		return err
	}
	if peak.Goodput <= 0 {
		return errors.New("nothing was answered at the peak")
	}
	t.figures["overload.peak_per_s"], t.figures["overload.goodput_per_s"] = peak.Goodput, twice.Goodput
	t.figures["overload.goodput_ratio"] = twice.Goodput / peak.Goodput
	t.figures["overload.peak_p99_ms"], t.figures["overload.admitted_p99_ms"] = peak.AdmittedP99, twice.AdmittedP99
	t.figures["overload.admitted_p50_ms"] = twice.AdmittedP50
	t.figures["overload.refused_share"] = float64(twice.Refused) / float64(max(1, twice.Sent))
	return t.verify(ctx, d)
}
