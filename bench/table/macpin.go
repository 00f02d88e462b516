package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"authswitch/bench"
)

var errNoModule = errors.New("dev has no security module: bin/hsmd is not there")

// macPINRates are offered per second, the second where the first does not hold:
// within what a node holds, so that what is compared is the work and not the
// waiting, and enough that commits and writes carry several.
func macPINRates() []int { return []int{3000, 1000} }

// ecommerceCB is a payment on dev's link cb-a, which has neither MACs nor PINs.
const ecommerceCB = `{"channel":"ecommerce","card":{"number":"4970100000000154","expiry":"3012","cvv":"123"},"brand":"cb"}`

// macPIN measures an authorization with MACs both ways and a PIN beside one
// without: one node, the same scheme and dialect, dev's two links for it. With
// and without take turns, so that the machine's moods meet both.
func (t *table) macPIN(ctx context.Context) (err error) {
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if d.HSM == nil {
		return errNoModule
	}
	with, without, err := t.counterCards(ctx, d)
	if err != nil {
		return err
	}
	var plain, secured macPINSums
	for _, rate := range macPINRates() {
		plain, secured, err = t.byTurns(ctx, d, rate, without, with)
		t.figures["node.mac_pin_at_per_s"] = float64(rate)
		if !errors.Is(err, errNotApproved) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := t.verify(ctx, d); err != nil {
		return err
	}
	t.figures["node.mac_pin_cpu_us"], t.figures["node.mac_pin_without_cpu_us"] = secured.cpu, plain.cpu
	t.figures["node.mac_pin_ratio"] = secured.cpu / plain.cpu
	t.figures["node.mac_pin_node_us"], t.figures["node.mac_pin_without_node_us"] = secured.node, plain.node
	t.figures["node.mac_pin_hsmd_us"] = secured.hsmd
	t.figures["node.mac_pin_p50_ms"], t.figures["node.mac_pin_without_p50_ms"] = secured.p50, plain.p50
	return nil
}

// byTurns pays without and with, twice each.
func (t *table) byTurns(ctx context.Context, d *dev, rate int, without, with string) (plain, secured macPINSums, err error) {
	for range 2 {
		for cards, sums := range map[string]*macPINSums{without: &plain, with: &secured} {
			study, err := t.loadDev(ctx, d, "run", "--rate", strconv.Itoa(rate), "--duration", (t.load / 2).String(), "--cards", cards, "--pids", d.processesApart())
			if err == nil {
				err = sums.add(study.Shown())
			}
			if err != nil {
				return plain, secured, err
			}
		}
	}
	return plain.halved(), secured.halved(), nil
}

// counterCards writes what to pay with: at dev's counter, with a PIN, and without.
func (t *table) counterCards(ctx context.Context, d *dev) (with, without string, err error) {
	with, without = filepath.Join(t.scratch, "counter"), filepath.Join(t.scratch, "ecommerce")
	line, err := exec.CommandContext(ctx, t.binary, "sim", "terminal", filepath.Join(d.DataDir, "hsm", "terminals.p0")).Output() // #nosec G204 -- the program to measure
	if err != nil {
		return "", "", fmt.Errorf("sim terminal: %w", err)
	}
	return with, without, errors.Join(os.WriteFile(with, line, 0o600), os.WriteFile(without, []byte(ecommerceCB), 0o600))
}

// macPINSums adds up runs of one kind.
type macPINSums struct{ cpu, node, hsmd, p50 float64 }

var errNotApproved = errors.New("payments that should all be approved were not")

func (s *macPINSums) add(r *bench.Report) error {
	if r.Approved != r.Answered || r.Approved == 0 {
		return fmt.Errorf("%w: %d of %d, errors %v", errNotApproved, r.Approved, r.Answered, r.Errors)
	}
	s.cpu += r.CPU
	s.node += r.CPUSplit["node"]
	s.hsmd += r.CPUSplit["hsmd"]
	s.p50 += r.P50
	return nil
}

func (s macPINSums) halved() macPINSums {
	return macPINSums{s.cpu / 2, s.node / 2, s.hsmd / 2, s.p50 / 2}
}

// processesApart is processes with the security module under its own name.
func (d *dev) processesApart() string {
	module := strconv.Itoa(d.HSM.PID)
	all := strings.Split(d.processes(), ",")
	for i, p := range all {
		if _, pid, _ := strings.Cut(p, "="); pid == module {
			all[i] = "hsmd=" + pid
		}
	}
	return strings.Join(all, ",")
}
