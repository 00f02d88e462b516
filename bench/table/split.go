package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var errProfile = errors.New("a profile of another shape")

// splitRate is offered where the node's own rate was not measured before.
const splitRate = 4000

// split measures which part of the node takes how much of its CPU: a profile
// under load gives the shares, the kernel's accounting the sum.
func (t *table) split(ctx context.Context) (err error) {
	o, err := t.newTrial(ctx, "split", profiled)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.stop()) }()
	if err := o.start(ctx); err != nil {
		return err
	}
	rate, length := float64(splitRate), 2*t.step
	if held, there := t.figures["one_node.authorizations_per_s"]; there {
		rate = 0.9 * held
	}
	profile := make(chan error, 1)
	go func() { profile <- o.profile(ctx, length-length/5) }()
	study, err := t.loadDev(ctx, o.dev, "run", "--rate", strconv.FormatFloat(rate, 'f', 0, 64), "--duration", length.String(),
		"--pids", "node="+strconv.Itoa(o.node.Process.Pid))
	if err = errors.Join(err, <-profile); err != nil {
		return err
	}
	node := study.Shown().CPUSplit["node"]
	if held, there := t.figures["one_node.cpu_us_node"]; there {
		node = held
	}
	traces, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", "-unit=us", o.profileFile()).Output() // #nosec G204 -- our own file
	if err != nil {
		return fmt.Errorf("go tool pprof: %w", err)
	}
	shares, err := shareOut(traces)
	if err != nil {
		return err
	}
	for name, share := range shares {
		t.figures["one_node.cpu_us_"+name] = share * node
	}
	return nil
}

func (o *trial) profileFile() string { return filepath.Join(o.folder, "profile") }

// profile takes a CPU profile of the node, in whole seconds, one at least.
func (o *trial) profile(ctx context.Context, length time.Duration) error {
	seconds := max(1, int(length.Seconds()))
	content, err := o.get(ctx, o.dev.Admin+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds))
	if err != nil {
		return err
	}
	return os.WriteFile(o.profileFile(), content, 0o600)
}

// owner is whose CPU a function of a package is; the packages that everybody
// calls (payment, card, the standard library) are their caller's.
func owner(function string) string {
	for _, p := range []struct{ prefix, name string }{
		{"authswitch/api", "door"},
		{"authswitch/merchant", "door"},
		{"authswitch/query", "door"},
		{"github.com/valyala/fasthttp", "door"},
		{"authswitch/switch", "switch"},
		{"authswitch/routing", "switch"},
		{"authswitch/vault", "switch"},
		{"authswitch/outbox", "switch"},
		{"authswitch/iso8583", "codec"},
		{"authswitch/link", "link"},
		{"authswitch/store", "journal"},
		{"authswitch/journal", "journal"},
		{"github.com/hashicorp/raft", "journal"},
		{"github.com/cockroachdb/pebble", "journal"},
	} {
		if rest, found := strings.CutPrefix(function, p.prefix); found && (rest == "" || strings.ContainsRune("./", rune(rest[0]))) {
			return p.name
		}
	}
	return ""
}

// shareOut reads what `go tool pprof -traces` prints — a block for each stack,
// the value and the innermost function on its first line — and gives each
// owner's share. A stack without an owner is the runtime's.
func shareOut(traces []byte) (shares map[string]float64, err error) {
	shares = map[string]float64{"door": 0, "switch": 0, "codec": 0, "link": 0, "journal": 0, "runtime": 0}
	total := 0.0
	blocks := bytes.Split(traces, []byte("-----------+"))
	for _, block := range blocks[1:] {
		value, whose := 0.0, ""
		for line := range strings.Lines(string(block)) {
			words := strings.Fields(line)
			if len(words) > 1 && value == 0 {
				if v, found := strings.CutSuffix(words[0], "us"); found {
					if value, err = strconv.ParseFloat(v, 64); err != nil {
						return nil, fmt.Errorf("%w: %q", errProfile, line)
					}
					words = words[1:]
				}
			}
			if len(words) > 0 && whose == "" {
				whose = owner(words[0])
			}
		}
		if whose == "" {
			whose = "runtime"
		}
		shares[whose] += value
		total += value
	}
	if total == 0 {
		return nil, fmt.Errorf("%w: no samples", errProfile)
	}
	for name := range shares {
		shares[name] /= total
	}
	return shares, nil
}
