package ceremonycmd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"authswitch/hsm/ceremony"
)

func officerCommand() *cobra.Command {
	var d desk
	c := &cobra.Command{
		Use: "officer", Short: "Enrol and remove the officers who look after keys",
		Long: `The first two officers are enrolled without dual control, when the module is set up and both are there: each
with an enrolment code that ` + "`hsmd init`" + ` wrote for them, good once.
After that one officer asks and a second one approves, each at their own terminal, within ten minutes; so it is
with keys that are made, taken in, given out or destroyed.`,
	}
	d.flags(c)
	c.AddCommand(officerAddCommand(&d), officerListCommand(&d), officerRemoveCommand(&d), officerApproveCommand(&d))
	return c
}

func officerAddCommand(d *desk) *cobra.Command {
	var keyFile, codeFile string
	c := &cobra.Command{
		Use: "add NAME", Short: "Enrol an officer, with a passphrase or a key of their own",
		Long: `Enrols NAME, who sits at this terminal: with a passphrase, typed twice, or with --key FILE, an Ed25519 key
in a PEM file, which is made where it is not there. The first two type their enrolment code, or name its file with
--code-file. Once two officers are enrolled, --officer says which of them asks, and another one must approve.`,
		Example: `  authswitch hsm officer add alice --socket admin.sock
  authswitch hsm officer add carol --key carol.pem --officer alice --socket admin.sock`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return d.run(func(ctx context.Context) error { return d.add(ctx, args[0], keyFile, codeFile) })(c, nil)
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "PEM file with the new officer's key, instead of a passphrase")
	c.Flags().StringVar(&codeFile, "code-file", "", "file (mode 0600) whose first line is the enrolment code of one of the first two officers; otherwise it is typed")
	return d.who(c)
}

func (d *desk) add(ctx context.Context, name, keyFile, codeFile string) error {
	v, err := d.view()
	if err != nil {
		return err
	}
	if !v.Founding && d.officer == "" {
		return fmt.Errorf("%w: two officers are enrolled: --officer NAME says which of them asks", ErrUsage)
	}
	if v.Founding && d.officer != "" {
		return fmt.Errorf("%w: --officer: the first two are enrolled without", ErrUsage)
	}
	code := ""
	if v.Founding {
		if code, err = d.code(ctx, codeFile); err != nil {
			return err
		}
	}
	o, k, err := d.enrolled(ctx, name, keyFile)
	if err != nil {
		return err
	}
	defer k.Wipe()
	if v.Founding {
		return d.addFounder(o, &k, code)
	}
	payload := func(nonce []byte) ([]byte, error) {
		text, err := encode(o)
		if err != nil {
			return nil, err
		}
		return encode(ceremony.Enrolment{Officer: o, Self: k.Prove(nonce, name, string(ceremony.ActSelf), text)})
	}
	v, err = d.actAs(ceremony.ActEnrol, payload, func(c *ceremony.Challenge) (ceremony.Credential, error) { return d.credential(ctx, d.officer, c) }, d.officer)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "%s, fingerprint %s: ", name, o.Fingerprint())
	return d.waits(v)
}

func (d *desk) addFounder(o ceremony.Officer, k *ceremony.Credential, code string) error {
	payload, err := encode(ceremony.Enrolment{Officer: o, Code: code})
	if err != nil {
		return err
	}
	own := func(*ceremony.Challenge) (ceremony.Credential, error) { return k.Clone(), nil }
	v, err := d.actAs(ceremony.ActEnrol, func([]byte) ([]byte, error) { return payload, nil }, own, o.Name)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "%s is enrolled, fingerprint %s\n", o.Name, o.Fingerprint())
	if v.Founding {
		fmt.Fprintln(d.stdout, "one more officer is enrolled without dual control; do that now")
	}
	return nil
}

// waits says what a second officer has to do.
func (d *desk) waits(v *ceremony.View) error {
	if v.Asked == nil {
		fmt.Fprintln(d.stdout, "done")
		return nil
	}
	fmt.Fprintf(d.stdout, "waits for a second officer until %s: authswitch hsm officer approve %d\n", v.Asked.Deadline, v.Asked.ID)
	return nil
}

func officerRemoveCommand(d *desk) *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME", Short: "Take an officer off the list, under dual control", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return d.run(func(ctx context.Context) error {
				payload, err := encode(ceremony.Removal{Officer: args[0]})
				if err != nil {
					return err
				}
				v, err := d.act(ctx, ceremony.ActRemove, payload)
				if err != nil {
					return err
				}
				return d.waits(v)
			})(c, nil)
		},
	}
	return d.who(c)
}

func officerApproveCommand(d *desk) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "approve NUMBER", Short: "Give the second officer's word to what another one asked", Args: cobra.ExactArgs(1),
		Long: `Shows what another officer asked, and has it done on your word. A key that is made or taken in comes with a warrant,
signed by the token, which ` + "`authswitch hsm keys import WARRANT`" + ` takes into the store of the cluster; a key that is
given out is printed as its peer gets it. --out writes either to a file.`,
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%w: %s is not the number of a request", ErrUsage, c.UseLine())
			}
			return d.run(func(ctx context.Context) error { return d.approve(ctx, id, out) })(c, nil)
		},
	}
	c.Flags().StringVar(&out, "out", "", "file for the warrant, or for what a peer gets")
	return d.who(c)
}

func (d *desk) approve(ctx context.Context, id uint64, out string) error {
	v, err := d.view()
	if err != nil {
		return err
	}
	for _, p := range v.Pending {
		if p.ID != id {
			continue
		}
		if err := d.terminal.confirm(ctx, fmt.Sprintf("%s asks: %s %s.", p.By, p.Action, p.Object)); err != nil {
			return err
		}
		payload, err := encode(ceremony.Approval{ID: id, Action: p.Action, Object: p.Object})
		if err != nil {
			return err
		}
		if v, err = d.act(ctx, ceremony.ActApprove, payload); err != nil {
			return err
		}
		if v.Done != nil {
			return d.done(v.Done, out)
		}
		return d.waits(v)
	}
	return fmt.Errorf("%w: %d", ceremony.ErrNoPending, id)
}

func officerListCommand(d *desk) *cobra.Command {
	return d.reading(&cobra.Command{
		Use: "list", Short: "List officers, and what waits for a second one", Args: cobra.NoArgs,
		RunE: d.run(func(context.Context) error { return d.list() }),
	})
}

func (d *desk) list() error {
	v, err := d.view()
	if err != nil {
		return err
	}
	if d.wantsJSON() {
		return printJSON(d.stdout, struct {
			Officers []ceremony.OfficerView `json:"officers"`
			Pending  []ceremony.PendingView `json:"pending"`
			Founding bool                   `json:"founding"`
		}{v.Officers, v.Pending, v.Founding})
	}
	w := tabwriter.NewWriter(d.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "OFFICER\tPROVES WITH\tFINGERPRINT\tENROLLED\tBY")
	for _, o := range v.Officers {
		by := strings.Join(o.By, ", ")
		if by == "" {
			by = "founder"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Name, o.Kind, o.Fingerprint, o.Enrolled, by)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range v.Pending {
		fmt.Fprintf(d.stdout, "request %d: %s asks %s %s, until %s\n", p.ID, p.By, p.Action, p.Object, p.Deadline)
	}
	return nil
}
