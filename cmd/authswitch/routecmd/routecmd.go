// Package routecmd is `authswitch route`: it shows a routing table and says why
// a payment would go where it goes. It asks no running node: it reads the
// configuration file as a node would. Called by: cmd/authswitch.
package routecmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"authswitch/routing"
)

// ErrUsage marks errors of the words of a call: exit code 2.
var ErrUsage = errors.New("usage")

// Load builds the routing table of a configuration file.
type Load func(configPath string) (*routing.Table, error)

// Commands is the `route` command with its subcommands.
func Commands(load Load) *cobra.Command {
	c := &cobra.Command{
		Use:   "route",
		Short: "Show the routing table, and why a payment takes its route",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				// The words are not repeated: one may be a card number.
				return fmt.Errorf("%w: route: no such command; there are table and explain", ErrUsage)
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	o := &options{load: load}
	f := c.PersistentFlags()
	f.StringVar(&o.config, "config", "", "the node's configuration file")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.BoolVar(&o.json, "json", false, "short for -o json")
	c.AddCommand(tableCommand(o), explainCommand(o))
	return c
}

// options are what both commands take.
type options struct {
	load   Load
	config string
	output string
	json   bool
}

// table loads the table after checking the options.
func (o *options) table() (*routing.Table, error) {
	switch {
	case o.output != "table" && o.output != "json":
		return nil, fmt.Errorf("%w: -o %q is neither table nor json", ErrUsage, o.output)
	case o.config == "":
		return nil, fmt.Errorf("%w: --config is needed", ErrUsage)
	}
	return o.load(o.config)
}

func (o *options) wantsJSON() bool { return o.json || o.output == "json" }

// noArguments refuses any as a matter of usage: above all a card number.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no arguments; a card number is read from standard input", ErrUsage, c.CommandPath())
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
