package benchcmd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"authswitch/bench"
)

// runFlags are the flags of `bench run`; `bench ramp` shares the most of them.
type runFlags struct {
	api, key, amounts, mix, pids, admin string
	cards                               string
	answers, out                        string
	json                                bool
	procs                               int
	options                             bench.Options
}

func (f *runFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.api, "api", "", "address of the API, or several with commas between them")
	p.StringVar(&f.key, "key", "", "API key, or @FILE")
	p.StringVar(&f.options.Merchant, "merchant", "", "merchant (default: the key's first)")
	p.StringVar(&f.options.Currency, "currency", "EUR", "currency of the amounts")
	p.Float64Var(&f.options.Rate, "rate", 100, "authorizations offered per second")
	p.DurationVar(&f.options.Duration, "duration", 10*time.Second, "how long to offer load")
	p.BoolVar(&f.options.Poisson, "poisson", false, "exponential gaps between arrivals instead of constant ones")
	p.StringVar(&f.amounts, "amounts", "", "amounts in minor units: 1000,2500 or 1000-9900 (by hundreds; the default)")
	p.StringVar(&f.mix, "mix", "", "percent of other answers: declined=5,unavailable=1,silent=1,late=1")
	p.StringVar(&f.cards, "cards", "", "file of what to pay with, one JSON object a line, in turn (default: the schemes' test cards in e-commerce; sim terminal prints a line)")
	p.Uint64Var(&f.options.Seed, "seed", 1, "seed of amounts and gaps")
	p.IntVar(&f.options.Connections, "connections", 1024, "connections at most; opened as they are needed")
	p.IntVar(&f.options.MaxOpen, "max-open", 200_000, "payments without a final answer at most; more are not sent and the run is invalid")
	p.DurationVar(&f.options.Timeout, "timeout", 30*time.Second, "of one attempt")
	p.BoolVar(&f.options.Impatient, "impatient", false, "what is refused as overloaded is not asked again, but counted as refused")
	p.DurationVar(&f.options.Drain, "drain", time.Minute, "how long after --duration final answers are still asked for")
	p.IntVar(&f.procs, "procs", 1, "processors the generator may use; one costs a third less CPU per request than two")
	p.DurationVar(&f.options.LateLimit, "late-limit", 5*time.Millisecond, "the run is invalid when the generator's own lateness is above this at the 99th percentile")
	p.StringVar(&f.pids, "pids", "", "processes whose CPU counts too: NAME=PID,…")
	p.StringVar(&f.admin, "admin", "", "admin addresses whose /metrics give the stages, with commas between them")
	p.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
}

// prepare turns flags into options.
func (f *runFlags) prepare(c *cobra.Command) error {
	if err := errors.Join(required("api", f.api), required("key", f.key)); err != nil {
		return usage(err)
	}
	o := &f.options
	var err error
	if o.Key, err = bench.Key(f.key); err != nil {
		return usage(err)
	}
	if o.Amounts, err = bench.ParseAmounts(f.amounts); err != nil {
		return usage(err)
	}
	if o.Mix, err = bench.ParseMix(f.mix); err != nil {
		return usage(err)
	}
	if o.Cards, err = readCards(f.cards); err != nil {
		return usage(err)
	}
	if o.Processes, err = bench.ParseProcesses(f.pids); err != nil {
		return usage(err)
	}
	if !(o.Rate > 0) || o.Duration <= 0 || f.procs < 1 {
		return usage(fmt.Errorf("--rate, --duration, --procs: %w", bench.ErrOptions))
	}
	// The generator shares the machine with what it measures: it takes little
	// of it, and trades memory, which it hardly uses, for fewer collections.
	runtime.GOMAXPROCS(f.procs)
	debug.SetGCPercent(400)
	o.API = list(f.api)
	o.Admin = list(f.admin)
	o.Now, o.Random, o.Dial = time.Now, rand.Reader, (&net.Dialer{}).DialContext
	o.Progress = c.ErrOrStderr()
	return nil
}

// readCards reads --cards.
func readCards(name string) ([]bench.Card, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--cards: %w", err)
	}
	defer func() { _ = file.Close() }()
	cards, err := bench.ReadCards(file)
	if err != nil {
		return nil, fmt.Errorf("--cards: %s: %w", name, err)
	}
	return cards, nil
}

// list splits at commas, without empty parts.
func list(given string) []string {
	return strings.FieldsFunc(given, func(r rune) bool { return r == ',' || r == ' ' })
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Offer authorizations at a fixed rate and measure the answers",
		Long: `Offers authorizations at a fixed rate, whatever the switch does (an open loop), and measures each from the
instant it should have left to its final answer. Refused and broken connections and answers that are not final are
counted, and asked again with the same idempotency key until --drain after the end.

A run is invalid when the generator itself was late (p99 above --late-limit), when payments were over its limits, or when it was
interrupted: its latencies then say something about the generator. The exit code is 0 all the same; look at "valid".`,
		Example: "  authswitch bench run --api http://127.0.0.1:8080 --key @key --rate 500 --duration 30s --json",
	}
	f.register(c)
	c.Flags().StringVar(&f.answers, "answers", "", "file for every answer received, for bench verify")
	c.Flags().StringVar(&f.out, "out", "", "file for the whole result, for bench report and compare")
	c.RunE = func(c *cobra.Command, _ []string) error { return f.run(c) }
	return c
}

func (f *runFlags) run(c *cobra.Command) error {
	if err := f.prepare(c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(commandContext(c), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if f.answers != "" {
		file, err := os.OpenFile(f.answers, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return failed(fmt.Errorf("answers: %w", err))
		}
		f.options.Answers = file
	}
	report, err := bench.Run(ctx, f.options)
	if err != nil {
		return failed(err)
	}
	if f.out != "" {
		if err := writeJSON(f.out, bench.Single(report)); err != nil {
			return failed(err)
		}
	}
	if f.json {
		return failed(json.NewEncoder(c.OutOrStdout()).Encode(report.Result))
	}
	return failed(report.Print(c.OutOrStdout()))
}

func commandContext(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

func writeJSON(name string, v any) error {
	content, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(content, '\n'), 0o600)
}

// open opens a file to read, with - for standard input.
func open(c *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.InOrStdin()), nil
	}
	return os.Open(name)
}
