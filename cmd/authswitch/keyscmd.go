package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/cmd/authswitch/ceremonycmd"
	"authswitch/hsm/wire"
	"authswitch/payment"
)

// keysCommand is `authswitch hsm keys`.
func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "keys", Short: "Look after the working keys of a cluster",
		Long: `Keys are kept in the journal as TR-31 blocks under the local master key, and go
from pending to active, decrypt-only, retired and destroyed. No command shows or
takes a clear key. Changes need the node's operator.token and are in its log, in
the journal and in the audit log of the security module.

Where keys are under dual control (in production, and since two officers are
enrolled) generate, import and export are asked for with --officer at the admin
socket of hsmd and approved by another officer with hsm officer approve; the
warrant that this gives is taken into the store by hsm keys import WARRANT.`,
	}
	c.AddCommand(keysListCommand(), keysShowCommand(), keysImportCommand(), keysExportCommand(), keysGenerateCommand(),
		keysStateCommand("activate", "Use a pending key from now on; the one before it verifies and opens for the overlap"),
		keysStateCommand("retire", "Use a key for nothing any more"),
		keysStateCommand("destroy", "Destroy the block of a retired key, for ever"))
	return c
}

// keyOperator is an operator with what is said about keys.
type keyOperator struct {
	operator
	output string
	keeper ceremonycmd.Keeper // of the commands that two officers do
}

func keyFlags(c *cobra.Command, o *keyOperator) {
	operatorFlags(c, &o.operator)
	o.key = &keyOperation{}
	c.Flags().StringVarP(&o.output, "output", "o", "table", "table or json")
}

func (o *keyOperator) wantsJSON() (bool, error) {
	if o.output != "table" && o.output != "json" {
		return false, fmt.Errorf("%w: -o %q is neither table nor json", errUsage, o.output)
	}
	return o.asJSON || o.output == "json", nil
}

func (o *keyOperator) printKeys(w io.Writer, keys ...keyView) error {
	asJSON, err := o.wantsJSON()
	if err != nil {
		return err
	}
	if asJSON {
		if keys == nil {
			keys = []keyView{}
		}
		return printJSON(w, keys)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tLINK\tUSAGE\tVERSION\tSTATE\tHEADER\tKCV\tLMK\tSINCE\tEXPIRES\tCARDS\tOFFICERS")
	for i := range keys {
		k := &keys[i]
		expires := k.NotAfter
		if k.State == payment.KeyDecryptOnly.String() {
			expires = k.RetireAt
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", k.ID, k.Link, k.Usage, k.Version, k.State, k.Letters, k.KCV, k.Master, k.Changed, expires, cardsText(k), strings.Join(k.Officers, ", "))
	}
	return t.Flush()
}

// cardsText is how many stored cards are under a data key; blank for others.
func cardsText(k *keyView) string {
	if k.Usage != payment.KeyData.String() {
		return ""
	}
	return strconv.FormatUint(k.Cards, 10)
}

func keysListCommand() *cobra.Command {
	var o keyOperator
	var link, state string
	c := &cobra.Command{
		Use: "list", Short: "List the keys with their state and validity", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := o.wantsJSON(); err != nil {
				return err
			}
			var keys, kept []keyView
			if err := o.ask(cmd.Context(), http.MethodGet, "/operate/keys", &keys); err != nil {
				return err
			}
			for _, k := range keys {
				if (link == "" || k.Link == link) && (state == "" || k.State == state) {
					kept = append(kept, k)
				}
			}
			return o.printKeys(cmd.OutOrStdout(), kept...)
		},
	}
	keyFlags(c, &o)
	c.Flags().StringVar(&link, "link", "", "only this link's; vault: the vault's")
	c.Flags().StringVar(&state, "state", "", "only those in this state")
	return c
}

func keysShowCommand() *cobra.Command {
	var o keyOperator
	c := &cobra.Command{
		Use: "show KEY", Short: "Show one key with its block, which is under the local master key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.wantsJSON()
			if err != nil {
				return err
			}
			var keys []keyView
			if err := o.ask(cmd.Context(), http.MethodGet, "/operate/keys", &keys); err != nil {
				return err
			}
			for i := range keys {
				if keys[i].ID != args[0] {
					continue
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), keys[i])
				}
				if err := o.printKeys(cmd.OutOrStdout(), keys[i]); err != nil {
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), keys[i].Block)
				return err
			}
			return fmt.Errorf("no key %q", args[0])
		},
	}
	keyFlags(c, &o)
	return c
}

func keysImportCommand() *cobra.Command {
	var o keyOperator
	c := &cobra.Command{
		Use: "import FILE", Short: "Take a key in, pending: a TR-31 block or a raw cryptogram under the link's zone key; FILE may be -", Args: cobra.ExactArgs(1),
		Long: `Takes in what a peer sent: with --form tr31 a key block under the link's block
protection key (K1), with --form raw the bare cryptogram in hexadecimal under its
key-encrypting key (K0), which needs --kcv. With --form stored it is a block
under the local master key, as a ceremony leaves it. The header must say exactly
--header. Prints the key check value to read out to the peer.

FILE may also be the warrant of two officers, or the signed transcript of a
ceremony: then header, check value and officers are those it says. Under dual
control nothing else is taken; with --officer two officers take a peer's key in.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sent, err := readSent(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			o.key.Sent = sent
			if strings.HasPrefix(sent, "{") {
				o.key.Form = formPaper
			} else if o.key.Letters == "" {
				return fmt.Errorf("%w: hsm keys import: --header is needed", errUsage)
			}
			if o.keeper.Officer() {
				return o.importByTwo(cmd)
			}
			return o.change(cmd, "/operate/keys/import")
		},
	}
	keyFlags(c, &o)
	o.keeper.Flags(c)
	f := c.Flags()
	f.StringVar(&o.key.Link, "link", "", "whose key it is (required)")
	f.StringVar(&o.key.Form, "form", "tr31", "tr31, raw or stored")
	f.StringVar(&o.key.Letters, "header", "", "usage, algorithm, mode and exportability, as in P0TBE (required but for a warrant or a transcript)")
	f.StringVar(&o.key.KCV, "kcv", "", "the key check value it must have, hexadecimal")
	f.BoolVar(&o.key.Legacy, "legacy", false, "take key blocks of versions A and C")
	f.StringVar(&o.key.NotBefore, "not-before", "", "first moment of use, RFC 3339")
	f.StringVar(&o.key.NotAfter, "not-after", "", "end of use, RFC 3339")
	f.StringVar(&o.key.Second, "second", "", "the other officer's name; a warrant or a transcript says both, and proves them")
	_ = c.MarkFlagRequired("link")
	return c
}

// maxSent bounds what is read: the transcript of a ceremony, laid out for people.
const maxSent = 12 << 10

func readSent(in io.Reader, path string) (string, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSent))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// change asks for an operation that answers with a key.
func (o *keyOperator) change(cmd *cobra.Command, path string) error {
	if _, err := o.wantsJSON(); err != nil {
		return err
	}
	var k keyView
	if err := o.ask(cmd.Context(), http.MethodPost, path, &k); err != nil {
		return err
	}
	return o.printKey(cmd.OutOrStdout(), &k)
}

func (o *keyOperator) printKey(w io.Writer, k *keyView) error {
	asJSON, err := o.wantsJSON()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(w, k)
	}
	return o.printKeys(w, *k)
}

func keysExportCommand() *cobra.Command {
	var o keyOperator
	c := &cobra.Command{
		Use: "export KEY", Short: "Give a key to its link's peer, under the link's zone key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.wantsJSON()
			if err != nil {
				return err
			}
			if o.keeper.Officer() {
				return o.exportByTwo(cmd, args[0])
			}
			var v sentView
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/keys/"+url.PathEscape(args[0])+"/export", &v); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nkcv %s, %s under %s\n", v.Sent, v.KCV, v.ID, v.Under)
			return err
		},
	}
	keyFlags(c, &o)
	o.keeper.Flags(c)
	c.Flags().StringVar(&o.key.Form, "form", "tr31", "tr31 or raw")
	return c
}

func keysGenerateCommand() *cobra.Command {
	var o keyOperator
	c := &cobra.Command{
		Use: "generate", Short: "Make a key for a link in the security module, pending: like the one in use where nothing else is said", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.keeper.Officer() {
				return o.generateByTwo(cmd)
			}
			return o.change(cmd, "/operate/keys/generate")
		},
	}
	keyFlags(c, &o)
	o.keeper.Flags(c)
	f := c.Flags()
	f.StringVar(&o.key.Link, "link", "", "whose key it is (required)")
	f.StringVar(&o.key.Usage, "usage", "", "pin, mac, … (required)")
	f.StringVar(&o.key.Letters, "header", "", "usage, algorithm, mode and exportability, as in P0TBE")
	f.IntVar(&o.key.Bytes, "bytes", 0, "its length")
	_ = c.MarkFlagRequired("link")
	_ = c.MarkFlagRequired("usage")
	return c
}

func keysStateCommand(action, short string) *cobra.Command {
	var o keyOperator
	var overlap time.Duration
	c := &cobra.Command{
		Use: action + " KEY", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.key.OverlapSec = int64(overlap / time.Second)
			return o.change(cmd, "/operate/keys/"+url.PathEscape(args[0])+"/"+action)
		},
	}
	keyFlags(c, &o)
	if action == "activate" {
		c.Flags().DurationVar(&overlap, "overlap", 0, "how long the key before it still verifies and opens (default: keys.overlap of the node)")
	}
	if action == "retire" {
		c.Flags().BoolVar(&o.key.Force, "force", false, "also a key that is in use: what needs it stops")
	}
	return c
}

// rotateCommand is `authswitch hsm rotate`.
func rotateCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "rotate", Short: "Change keys now: the vault's data key, or wrap all under a new local master key",
		Long: `The vault's data key changes every day by itself, and keys are wrapped under a new
local master key within keys.look; these commands do it now. A link's keys change
by a key exchange with its peer, or by hsm keys generate, export and activate.`,
	}
	c.AddCommand(rotateDataCommand(), rotateMasterCommand())
	return c
}

func rotateDataCommand() *cobra.Command {
	var o keyOperator
	var wait time.Duration
	c := &cobra.Command{
		Use: "data", Short: "Seal cards under a new data key; what is sealed already stays readable", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var k keyView
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/keys/rotate/data", &k); err != nil {
				return err
			}
			if err := o.await(cmd.Context(), &k, wait); err != nil {
				return err
			}
			return o.printKey(cmd.OutOrStdout(), &k)
		},
	}
	keyFlags(c, &o)
	c.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until it is active: every node loads it first")
	return c
}

// await looks at a key until it is active.
func (o *keyOperator) await(ctx context.Context, k *keyView, wait time.Duration) error {
	for deadline := time.Now().Add(wait); k.State != payment.KeyActive.String(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is made and still %s after %s: see the log of the cluster's leader", k.ID, k.State, wait)
		}
		select {
		case <-time.After(linkPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
		var keys []keyView
		if err := o.ask(ctx, http.MethodGet, "/operate/keys", &keys); err != nil {
			return err
		}
		for i := range keys {
			if keys[i].ID == k.ID {
				*k = keys[i]
			}
		}
	}
	return nil
}

func rotateMasterCommand() *cobra.Command {
	var o keyOperator
	var another bool
	var destroy int
	c := &cobra.Command{
		Use: "lmk", Short: "Wrap every key under the newest local master key of the security module", Args: cobra.NoArgs,
		Long: `Wraps every key under the newest local master key now, through a node; by itself
that happens within keys.look. With --new the security module makes the next local
master key first, with --destroy N it destroys an earlier one, for ever: both at
the admin socket of hsmd (--socket), and under dual control asked for by --officer
and approved by another one. Destroy only when working_keys_under_earlier_lmk has
been 0 for a minute.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case another && destroy != 0:
				return fmt.Errorf("%w: either --new or --destroy, one after the other", errUsage)
			case another:
				return o.master(cmd, wire.OpNewMaster, 0)
			case destroy != 0:
				return o.master(cmd, wire.OpRetireMaster, destroy)
			}
			return o.wrapAll(cmd)
		},
	}
	keyFlags(c, &o)
	o.keeper.Flags(c)
	c.Flags().BoolVar(&another, "new", false, "make the next local master key; it seals from then on")
	c.Flags().IntVar(&destroy, "destroy", 0, "destroy the local master key of this number")
	return c
}

func (o *keyOperator) wrapAll(cmd *cobra.Command) error {
	asJSON, err := o.wantsJSON()
	if err != nil {
		return err
	}
	var v mastersView
	if err := o.ask(cmd.Context(), http.MethodPost, "/operate/keys/rotate/lmk", &v); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), v)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d keys wrapped under lmk/%d\n", v.Wrapped, v.Master)
	return err
}
