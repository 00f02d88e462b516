// Command table measures the rows of the performance table (docs/performance.md)
// in one run on one machine: our codec, link, routing, door and whole node,
// and beside them the peers of bench/peers on the same message. It prints the
// table, writes the figures, flat, name → number, and from them the tables in
// docs/performance.md and README.md. A row it could not measure
// is listed with the reason, never left out silently. It is a program for
// developers, run from the module's root by `make bench`; nothing imports it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"authswitch/bench"
)

// settings are the flags.
type settings struct {
	binary   string
	out      string
	page     string
	readme   string
	doc      bool
	html     string
	short    time.Duration // per small measurement
	load     time.Duration // per run of the node
	step     time.Duration // per step of the ramp
	late     time.Duration
	portBase int
	owed     int
	lines    int
	sustain  time.Duration
	only     string
}

// table is a measurement under way.
type table struct {
	settings
	scratch string
	figures map[string]float64
	missing []string // what was not run, and why
}

func main() {
	t := table{figures: map[string]float64{}}
	flag.StringVar(&t.binary, "bin", "bin/authswitch", "the program to measure")
	flag.StringVar(&t.out, "out", "bench/results.json", "file for the figures")
	flag.StringVar(&t.page, "page", "docs/performance.md", "document whose tables are written from the figures")
	flag.StringVar(&t.readme, "readme", "README.md", "document that gets the short table")
	flag.BoolVar(&t.doc, "doc", false, "measure nothing: write the documents from the figures that are there")
	flag.StringVar(&t.html, "html", "", "file for the report of the node's ramp (default: none)")
	flag.DurationVar(&t.short, "short", 2*time.Second, "length of each small measurement")
	flag.DurationVar(&t.load, "load", 30*time.Second, "length of each run of the node")
	flag.DurationVar(&t.step, "step", 4*time.Second, "length of each step of the ramp")
	flag.DurationVar(&t.late, "late-limit", 20*time.Millisecond, "the generator's lateness, p99, that a run may have")
	flag.IntVar(&t.portBase, "port-base", 28_000, "first of the hundred ports to use")
	flag.IntVar(&t.owed, "owed", mostOwed, "reversals that the outage leaves owed")
	flag.IntVar(&t.lines, "lines", fullBatch, "lines of the batch of refunds")
	flag.DurationVar(&t.sustain, "sustained", 3*time.Minute, "length of the run that watches memory")
	flag.StringVar(&t.only, "only", "codec,link,routing,switching,hsm,node,overload,macpin,split,door,outage,movements,records,cluster,tls,sustained", "parts to measure")
	flag.Parse()
	if t.doc {
		exit(t.document(""))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := t.run(ctx)
	stop()
	exit(err)
}

// exit ends the program with a failure, if there is one.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// part is one group of rows.
type part struct {
	name string
	run  func(context.Context) error
}

func (t *table) run(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "authswitch-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	t.scratch = scratch
	if err := t.buildPeers(ctx); err != nil {
		t.skip("peers", err)
	}
	for _, p := range []part{
		{"codec", t.codec},
		{"link", t.link},
		{"routing", t.routing},
		{"switching", t.switching},
		{"hsm", t.hsm},
		{"node", t.node},
		{"overload", t.overload},
		{"macpin", t.macPIN},
		{"split", t.split},
		{"door", t.door},
		{"outage", t.outage},
		{"movements", t.movements},
		{"records", t.records},
		{"cluster", t.cluster},
		{"tls", t.mutualTLS},
		{"sustained", t.sustained},
	} {
		if !strings.Contains(","+t.only+",", ","+p.name+",") {
			t.missing = append(t.missing, p.name+notAsked)
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", p.name)
		began := time.Now()
		if err := p.run(ctx); err != nil {
			t.skip(p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", p.name, time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := t.print(os.Stdout, bench.Machine()); err != nil {
		return err
	}
	if len(t.figures) == 0 {
		return errors.New("nothing could be measured")
	}
	if err := t.write(); err != nil {
		return err
	}
	return t.document(bench.Machine())
}

// notAsked is why a part is missing that -only leaves out.
const notAsked = ": not asked for"

func (t *table) skip(name string, err error) {
	t.missing = append(t.missing, fmt.Sprintf("%s: %v", name, err))
	fmt.Fprintf(os.Stderr, "not run: %s: %v\n", name, err)
}

// write puts the figures into the results file. Parts that were not asked for
// keep the figures they had: a change of one part is measured alone.
func (t *table) write() error {
	all := map[string]float64{}
	if before, err := os.ReadFile(t.out); err == nil && t.only != flag.Lookup("only").DefValue {
		if err := json.Unmarshal(before, &all); err != nil {
			return fmt.Errorf("%s: %w", t.out, err)
		}
	}
	for name, v := range t.figures {
		all[name] = round(v)
	}
	content, err := json.MarshalIndent(all, "", "  ") // sorted by name
	if err != nil {
		return err
	}
	return os.WriteFile(t.out, append(content, '\n'), 0o644) // #nosec G306 -- committed with the sources
}

func (t *table) peers() string { return filepath.Join(t.scratch, "peers") }

// buildPeers compiles the other module.
func (t *table) buildPeers(ctx context.Context) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", t.peers(), ".")
	c.Dir = "bench/peers"
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %.300s", err, out)
	}
	return nil
}

// peer runs one of the peers' measurements.
func (t *table) peer(ctx context.Context, args ...string) (map[string]float64, error) {
	out, err := exec.CommandContext(ctx, t.peers(), args...).Output() // #nosec G204 -- our own program
	if err != nil {
		return nil, fmt.Errorf("peers %s: %w", args[0], err)
	}
	var figures map[string]float64
	if err := json.Unmarshal(out, &figures); err != nil {
		return nil, fmt.Errorf("peers %s: %w", args[0], err)
	}
	return figures, nil
}

// codec measures ours and moov's on the same message, in ASCII and in BCD.
func (t *table) codec(ctx context.Context) error {
	for _, c := range []struct{ dialect, prefix string }{{"ascii87", "codec."}, {"bcd87", "codec.bcd_"}} {
		ours, err := measureCodec(c.dialect, t.scratch, t.short)
		if err != nil {
			return err
		}
		t.figures[c.prefix+"pack_ns"], t.figures[c.prefix+"unpack_ns"] = ours.packNS, ours.unpackNS
		theirs, err := t.peer(ctx, "codec", "--spec", ours.spec, "--frame", ours.frame, "--for", t.short.String())
		if err != nil {
			return err
		}
		t.figures[c.prefix+"pack_ratio_moov"] = theirs["pack_ns"] / ours.packNS
		t.figures[c.prefix+"unpack_ratio_moov"] = theirs["unpack_ns"] / ours.unpackNS
	}
	return nil
}

// link measures round trips with 256 in flight on one connection.
func (t *table) link(ctx context.Context) error {
	ours, err := goBench(ctx, "./link", "BenchmarkRoundTrip/256$", t.short)
	if err != nil {
		return err
	}
	t.figures["link.roundtrips_per_s"] = ours["roundtrips/s"]
	codec, err := measureCodec("ascii87", t.scratch, 10*time.Millisecond)
	if err != nil {
		return err
	}
	theirs, err := t.peer(ctx, "connection", "--spec", codec.spec, "--frame", codec.frame, "--for", t.short.String(), "--in-flight", "256")
	if err != nil {
		return err
	}
	t.figures["link.ratio_moov"] = ours["roundtrips/s"] / theirs["roundtrips_per_s"]
	return nil
}

func (t *table) routing(ctx context.Context) error {
	got, err := goBench(ctx, "./routing", "BenchmarkRoute$", t.short)
	if err != nil {
		return err
	}
	t.figures["routing.lookup_ns"] = got["ns/op"]
	return nil
}

func (t *table) switching(ctx context.Context) error {
	got, err := goBench(ctx, "./switch", "BenchmarkAuthorize$", t.short)
	if err != nil {
		return err
	}
	t.figures["switching.authorize_ns"] = got["ns/op"]
	t.figures["switching.authorize_allocations"] = got["allocs/op"]
	return nil
}
