package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// linkCommand shows links over the gateways' API, and changes them over the
// admin port.
func linkCommand() *cobra.Command {
	c := &cobra.Command{Use: "link", Short: "See the links to acquirers, sign them on and off, drain them"}
	c.AddCommand(linkList(), linkShow())
	c.AddCommand(linkActions()...)
	return c
}

// links are all of them, as the API shows them.
type links struct {
	Data []map[string]any `json:"data"`
}

func linkList() *cobra.Command {
	var api client
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the links and what they owe", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all links
			if err := api.get(cmd.Context(), "/v1/links", &all); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all.Data)
			}
			return printLinks(cmd.OutOrStdout(), all.Data)
		},
	}
	clientFlags(c, &api)
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's JSON")
	return c
}

func printLinks(w io.Writer, all []map[string]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LINK\tSCHEME\tDIALECT\tADDRESS\tSTATE\tIN FLIGHT\tWINDOW\tREVERSALS OWED")
	for _, l := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cell(l["name"]), cell(l["scheme"]), cell(l["dialect"]), cell(l["address"]), cell(l["state"]), cell(l["in_flight"]), cell(l["window_now"]), cell(l["reversals_owed"]))
	}
	return t.Flush()
}

func linkShow() *cobra.Command {
	var api client
	var asJSON bool
	c := &cobra.Command{
		Use: "show LINK", Short: "Show all there is to know about a link", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all links
			if err := api.get(cmd.Context(), "/v1/links", &all); err != nil {
				return err
			}
			for _, l := range all.Data {
				if l["name"] != args[0] {
					continue
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), l)
				}
				t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, name := range []string{
					"name", "scheme", "dialect", "address", "state", "signed_on", "connections", "in_flight", "window", "window_now", "echo_us",
					"reversals_owed", "oldest_owed_since", "exceptions", "ledger",
				} {
					if v := cell(l[name]); v != "" {
						fmt.Fprintf(t, "%s\t%s\n", name, v)
					}
				}
				return t.Flush()
			}
			return fmt.Errorf("no link %q", args[0])
		},
	}
	clientFlags(c, &api)
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's JSON")
	return c
}
