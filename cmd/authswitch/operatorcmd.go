package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// operatorCommand is `authswitch operator`.
func operatorCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "operator", Short: "Look after the named operators, who release refund batches",
		Long: `A named operator has a credential of their own, which is shown once when it is
made; what is kept of it is an Argon2id hash, in the journal of every node. A refund
batch above the limit is released by two different operators, never by a gateway's
key. Who added and removed them, when and why, stands in the journal for ever.`,
	}
	c.AddCommand(operatorAddCommand(), operatorListCommand(), operatorRemoveCommand())
	return c
}

func operatorAddCommand() *cobra.Command {
	var o operator
	var file string
	c := &cobra.Command{
		Use: "add NAME", Short: "Add an operator and print the credential, once", Args: cobra.ExactArgs(1),
		Example: `  authswitch operator add ana --reason "joins the back office" --secret-file ana.secret`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var v personView
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/operators/"+url.PathEscape(args[0])+"/add", &v); err != nil {
				return err
			}
			if file != "" {
				if err := writeSecret(file, v.Secret); err != nil {
					return fmt.Errorf("%s is added, and the credential is lost (remove and add again): %w", v.Name, err)
				}
				v.Secret = ""
			}
			return showPeople(cmd.OutOrStdout(), &o, v)
		},
	}
	operatorFlags(c, &o)
	c.Flags().StringVar(&file, "secret-file", "", "write the credential into a new file of mode 0600 instead")
	return c
}

// writeSecret never overwrites: the file there may be somebody else's.
func writeSecret(path, secret string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(secret + "\n"); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func operatorListCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "list", Short: "List the operators, those who were removed too", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []personView
			if err := o.ask(cmd.Context(), http.MethodGet, "/operate/operators", &all); err != nil {
				return err
			}
			return showPeople(cmd.OutOrStdout(), &o, all...)
		},
	}
	operatorFlags(c, &o)
	return c
}

func operatorRemoveCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove an operator: the credential ends, and releases that wait for a second one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var v personView
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/operators/"+url.PathEscape(args[0])+"/remove", &v); err != nil {
				return err
			}
			return showPeople(cmd.OutOrStdout(), &o, v)
		},
	}
	operatorFlags(c, &o)
	return c
}

func showPeople(w io.Writer, o *operator, all ...personView) error {
	if o.asJSON {
		return printJSON(w, all)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATUS\tBY\tAT\tREASON\tCREDENTIAL")
	for i := range all {
		p := &all[i]
		var last personEventView
		if n := len(p.Events); n > 0 {
			last = p.Events[n-1]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Status, last.By, last.At, last.Reason, p.Secret)
	}
	return t.Flush()
}
