// Package hsmcmd is `authswitch hsm`: it asks the security modules of a node's
// configuration. Called by: cmd/authswitch.
package hsmcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/hsm"
)

// Errors of the tools.
var (
	ErrUsage = errors.New("usage")
	errAway  = errors.New("not every security module answers")
)

// Load is the section hsm of a node's configuration file.
type Load func(configPath string) (hsm.Config, error)

// Commands is the `hsm` command. More of its subcommands may come from others.
func Commands(load Load, more ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: "hsm", Short: "Look after the security module and its keys"}
	c.AddCommand(append([]*cobra.Command{statusCommand(load)}, more...)...)
	return c
}

// request is what status is asked, in the words of the call.
type request struct {
	load           Load
	config, socket string
	output         string
	json           bool
}

func statusCommand(load Load) *cobra.Command {
	q := request{load: load}
	c := &cobra.Command{
		Use: "status", Short: "Ask each security module what it is and which master keys it holds",
		Long: `Asks every endpoint of a node's configuration, or the one at --socket, and prints
what its token says of itself. Exits 1 when one of them does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return q.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&q.config, "config", "", "the node's configuration file")
	f.StringVar(&q.socket, "socket", "", "a Unix socket of hsmd, run or admin, instead of a configuration")
	f.StringVarP(&q.output, "output", "o", "table", "table or json")
	f.BoolVar(&q.json, "json", false, "short for -o json")
	return c
}

// Module is one line of the answer.
type Module struct {
	Endpoint     string `json:"endpoint"`
	Up           bool   `json:"up"`
	Error        string `json:"error,omitempty"`
	Version      string `json:"version,omitempty"`
	Profile      string `json:"profile,omitempty"`
	Root         string `json:"root,omitempty"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Token        string `json:"token,omitempty"`
	TestKeys     bool   `json:"test_keys"`
	Masters      []int  `json:"masters,omitempty"`
	StartedAt    string `json:"started_at,omitempty"`
	CachedKeys   int    `json:"cached_keys"`
	RoundTripUS  int64  `json:"round_trip_us,omitempty"`
}

func (q *request) run(ctx context.Context, out io.Writer) error {
	if q.output != "table" && q.output != "json" {
		return fmt.Errorf("%w: -o %q is neither table nor json", ErrUsage, q.output)
	}
	cfg, err := q.endpoints()
	if err != nil {
		return err
	}
	modules := make([]Module, len(cfg.Endpoints))
	away := 0
	for i := range cfg.Endpoints {
		one := cfg
		one.Endpoints, one.Connections = cfg.Endpoints[i:i+1], 1
		if modules[i], err = Ask(ctx, one); err != nil {
			modules[i].Error = err.Error()
			away++
		}
	}
	if err := q.print(out, modules); err != nil {
		return err
	}
	if away > 0 {
		return fmt.Errorf("%w: %d of %d do not", errAway, away, len(modules))
	}
	return nil
}

func (q *request) endpoints() (hsm.Config, error) {
	switch {
	case (q.config == "") == (q.socket == ""):
		return hsm.Config{}, fmt.Errorf("%w: hsm status: either --config or --socket is needed, and not both", ErrUsage)
	case q.socket != "":
		return hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: q.socket}}}, nil
	}
	return q.load(q.config)
}

// patience is how long a tool waits for a module.
const patience = 3 * time.Second

// Connect is a client for a tool: up, until stop is called.
func Connect(ctx context.Context, cfg hsm.Config) (c *hsm.Client, stop func(), err error) {
	c, err = hsm.New(cfg, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	stop = func() { cancel(); <-done }
	up, enough := context.WithTimeout(ctx, patience)
	defer enough()
	if err := c.AwaitUp(up); err != nil {
		stop()
		return nil, nil, err
	}
	return c, stop, nil
}

// Ask asks the one endpoint of a configuration.
func Ask(ctx context.Context, cfg hsm.Config) (Module, error) {
	e := cfg.Endpoints[0]
	m := Module{Endpoint: e.Unix + e.Address}
	c, stop, err := Connect(ctx, cfg)
	if err != nil {
		return m, err
	}
	defer stop()
	began := time.Now()
	s, err := c.Status(0)
	if err != nil {
		return m, err
	}
	m.RoundTripUS = time.Since(began).Microseconds()
	m.Up, m.Version, m.Profile, m.Root, m.Manufacturer, m.Model = true, s.Version, s.Profile, s.Root, s.Manufacturer, s.Model
	m.Serial, m.Token, m.TestKeys, m.Masters, m.CachedKeys = s.Serial, s.Label, s.TestKeys, s.Masters, s.Cached
	m.StartedAt = time.Unix(0, s.StartedAt).UTC().Format(time.RFC3339)
	return m, nil
}

func (q *request) print(out io.Writer, modules []Module) error {
	if q.json || q.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(modules)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ENDPOINT\tSTATE\tROOT OF TRUST\tTOKEN\tMASTER KEYS\tKEYS IN USE\tSINCE\tNOTE")
	for _, m := range modules {
		if !m.Up {
			fmt.Fprintf(w, "%s\taway\t\t\t\t\t\t%s\n", m.Endpoint, m.Error)
			continue
		}
		note := ""
		if m.TestKeys {
			note = "test keys: not for production"
		}
		if m.Root == "file" {
			note = "a file is the root of trust: for development only"
		}
		fmt.Fprintf(w, "%s\tup\t%s %s\t%s\t%v\t%d\t%s\t%s\n", m.Endpoint, m.Manufacturer, m.Model, m.Token, m.Masters, m.CachedKeys, m.StartedAt, note)
	}
	return w.Flush()
}
