package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"authswitch/bench"
)

// Overload is offered in runs of overloadRun, each overloadStep times the one
// before, until more is no longer answered; then twice what was answered most.
const (
	overloadFrom = 2000 // authorizations/s
	overloadStep = 1.4
	overloadRun  = 10 * time.Second
	overloadMost = 100_000 // authorizations/s
	overloadLate = 1000    // ms: a generator that is later did not offer twice the peak
)

// overload measures what a node does when twice as much comes as it can do, by
// gateways that go away when they are refused, over as many connections as the
// door takes from one address. The node has one processor of its own, and
// generator, acquirers and module the others: were they to share, what is spent
// on offering more would be taken from the node, and less would be answered for
// that reason alone.
func (t *table) overload(ctx context.Context) (err error) {
	if runtime.NumCPU() < 2 {
		return errors.New("needs a processor for the node and one for the rest")
	}
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.apart(ctx); err != nil {
		return err
	}
	offer := func(rate float64, span time.Duration) (r *bench.Report, offered float64, err error) {
		study, err := t.loadDev(ctx, d, "run", "--impatient", "--connections", "4000",
			"--rate", strconv.FormatFloat(rate, 'f', 0, 64), "--duration", span.String())
		if err != nil {
			return nil, 0, err
		}
		r = study.Shown()
		return r, float64(r.Sent) / span.Seconds(), nil
	}
	var peak *bench.Report
	for rate := float64(overloadFrom); rate < overloadMost; rate *= overloadStep {
		r, offered, err := offer(rate, overloadRun)
		if err != nil {
			return err
		}
		more := peak == nil || r.Goodput > 1.03*peak.Goodput
		if peak == nil || r.Goodput > peak.Goodput {
			peak = r
		}
		if !more || r.Goodput < 0.9*offered {
			break
		}
	}
	if peak.Goodput <= 0 {
		return errors.New("nothing was answered at the peak")
	}
	twice, offered, err := offer(2*peak.Goodput, t.load)
	if err != nil {
		return err
	}
	if twice.Late > overloadLate {
		return fmt.Errorf("the generator was %.0f ms late at %.0f/s: it was overloaded itself", twice.Late, 2*peak.Goodput)
	}
	t.figures["overload.peak_per_s"], t.figures["overload.goodput_per_s"] = peak.Goodput, twice.Goodput
	t.figures["overload.offered_ratio"] = offered / peak.Goodput
	t.figures["overload.goodput_ratio"] = twice.Goodput / peak.Goodput
	t.figures["overload.peak_p99_ms"], t.figures["overload.admitted_p99_ms"] = peak.AdmittedP99, twice.AdmittedP99
	t.figures["overload.admitted_p50_ms"] = twice.AdmittedP50
	t.figures["overload.late_ms"] = twice.Late
	t.figures["overload.refused_share"] = float64(twice.Refused) / float64(max(1, twice.Sent))
	return t.verify(ctx, d)
}

// apart gives the node the first processor for itself, and its acquirers, its
// module and the generator the others.
func (d *dev) apart(ctx context.Context) error {
	others := "1-" + strconv.Itoa(runtime.NumCPU()-1)
	pin := func(processors string, pid int) error {
		if out, err := exec.CommandContext(ctx, "taskset", "-a", "-c", "-p", processors, strconv.Itoa(pid)).CombinedOutput(); err != nil { // #nosec G204 -- numbers of ours
			return fmt.Errorf("taskset: %w: %.200s", err, out)
		}
		return nil
	}
	for _, n := range d.Nodes {
		if err := pin("0", n.PID); err != nil {
			return err
		}
	}
	for _, pid := range d.rest() {
		if err := pin(others, pid); err != nil {
			return err
		}
	}
	d.generator = []string{"taskset", "-c", others}
	return nil
}
