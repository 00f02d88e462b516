package benchcmd

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/bench"
)

func rampCommand() *cobra.Command {
	var (
		f    runFlags
		ramp bench.RampOptions
		out  string
	)
	c := &cobra.Command{
		Use:   "ramp",
		Short: "Raise the rate step by step until the switch no longer holds it",
		Long: `Runs one step after another, each --factor faster and --duration long, until a step's 99th percentile is above
--p99, less than --goodput of its payments are decided, or the generator itself is late, twice: the first time may be
a neighbour's doing.`,
		Example: "  authswitch bench ramp --api http://127.0.0.1:8080 --key @key --from 1000 --to 30000 --out ramp.json",
	}
	f.register(c)
	p := c.Flags()
	_ = p.MarkHidden("rate")
	p.Float64Var(&ramp.From, "from", 500, "rate of the first step")
	p.Float64Var(&ramp.To, "to", 50_000, "rate of the last step at most")
	p.Float64Var(&ramp.Factor, "factor", 1.5, "from step to step")
	p.DurationVar(&ramp.P99, "p99", 100*time.Millisecond, "a step whose 99th percentile is above this does not hold")
	p.Float64Var(&ramp.Goodput, "goodput", 0.99, "nor does one with a smaller share of its payments decided")
	p.DurationVar(&ramp.Pause, "pause", time.Second, "between steps")
	p.StringVar(&out, "out", "", "file for the whole result, for bench report and compare")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := f.prepare(c); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(commandContext(c), os.Interrupt, syscall.SIGTERM)
		defer stop()
		study, err := bench.Ramp(ctx, f.options, ramp)
		if err != nil {
			return failed(err)
		}
		if out != "" {
			if err := writeJSON(out, study); err != nil {
				return failed(err)
			}
		}
		if f.json {
			return failed(json.NewEncoder(c.OutOrStdout()).Encode(study))
		}
		return failed(study.Print(c.OutOrStdout()))
	}
	return c
}

func reportCommand() *cobra.Command {
	var out, title string
	c := &cobra.Command{
		Use:     "report RESULTS.json",
		Short:   "Draw a result as one HTML page",
		Example: "  authswitch bench report ramp.json --html ramp.html",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			study, err := readStudy(c, args[0])
			if err != nil {
				return failed(err)
			}
			if out == "-" {
				return failed(bench.WriteReport(c.OutOrStdout(), study, title))
			}
			file, err := os.OpenFile(out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
			if err != nil {
				return failed(err)
			}
			if err := bench.WriteReport(file, study, title); err != nil {
				_ = file.Close()
				return failed(err)
			}
			return failed(file.Close())
		},
	}
	c.Flags().StringVar(&out, "html", "report.html", "the page to write; - for standard output")
	c.Flags().StringVar(&title, "title", "authswitch under load", "heading of the page")
	return c
}

func compareCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "Set two results side by side",
		Long:  "Prints the figures of two results and their ratio; above 1 says that B is better.",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := readStudy(c, args[0])
			if err != nil {
				return failed(err)
			}
			b, err := readStudy(c, args[1])
			if err != nil {
				return failed(err)
			}
			ratios := bench.Compare(a, b)
			if asJSON {
				return failed(json.NewEncoder(c.OutOrStdout()).Encode(ratios))
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(w, "\tA\tB\tB is better by\t\n")
			for _, r := range ratios {
				fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f ×\t\n", r.Name, r.A, r.B, r.Ratio)
			}
			return failed(w.Flush())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON and nothing else")
	return c
}

func readStudy(c *cobra.Command, name string) (*bench.Study, error) {
	file, err := open(c, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	study, err := bench.ReadStudy(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return study, nil
}
