package ceremonycmd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"authswitch/hsm/ceremony"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
)

func ceremonyCommand() *cobra.Command {
	var d desk
	c := &cobra.Command{
		Use: "ceremony", Short: "Bring a key in by components, each in the hands of another officer",
		Long: `A key comes in as two or three components of full length. Each is typed blind, with its key check value, by another
officer at their own terminal; then two of them look at the check value of the whole key and confirm it. Ten minutes
after the start everything is wiped; so it is when an officer comes twice, or alone, or a check value does not fit.
docs/keys.md has the script to print.`,
	}
	d.flags(c)
	c.AddCommand(startCommand(&d, false), startCommand(&d, true), componentCommand(&d), finishCommand(&d), abortCommand(&d), statusCommand(&d), transcriptCommand(&d))
	return c
}

func startCommand(d *desk, rehearsal bool) *cobra.Command {
	o := ceremony.Opening{Rehearsal: rehearsal}
	var algorithm string
	c := &cobra.Command{
		Use: "start", Short: "Begin a ceremony",
		Example: `  authswitch hsm ceremony start --label "zone key, CB, 2027" --usage K1 --algorithm AES --bits 256 --officer alice`,
		Args:    cobra.NoArgs,
	}
	if rehearsal {
		c.Use, c.Short = "rehearse", "Begin a ceremony whose key is thrown away, with components to practise on"
		c.Long = "Begins a ceremony that is the same in every step, but whose key is thrown away at the end, and prints components to\npractise on, one for each officer: they are drawn now and good for nothing else."
		c.Example = "  authswitch hsm ceremony rehearse --officer alice"
		o.Label = "rehearsal"
	}
	c.RunE = d.run(func(ctx context.Context) error {
		switch algorithm {
		case "AES", "TDES":
			o.Algorithm = algorithm[:1]
		default:
			return fmt.Errorf("%w: --algorithm %q is neither AES nor TDES", ErrUsage, algorithm)
		}
		return d.start(ctx, &o)
	})
	f := c.Flags()
	f.StringVar(&o.Label, "label", o.Label, "what the key is, for people")
	f.StringVar(&o.Usage, "usage", "K1", "usage of the key: K0, K1, B0, P0, M1, M3, M6, C0, V1, V2, E0, D0")
	f.StringVar(&algorithm, "algorithm", "AES", "AES or TDES")
	f.IntVar(&o.Bits, "bits", 256, "length of the key, parity included: 128, 192 or 256")
	f.StringVar(&o.Mode, "mode", "B", "mode of use: one letter of X9.143 table 4")
	f.StringVar(&o.Exportability, "exportability", "N", "E, S or N")
	f.IntVar(&o.Components, "components", 2, "2 or 3")
	return d.who(c)
}

func (d *desk) start(ctx context.Context, o *ceremony.Opening) error {
	payload, err := encode(o)
	if err != nil {
		return err
	}
	v, err := d.act(ctx, ceremony.ActStart, payload)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "ceremony %s began: %d components of %d bits, until %s\n", v.Ceremony.ID, v.Ceremony.Components, v.Ceremony.Bits, v.Ceremony.Deadline)
	if o.Rehearsal {
		return d.practice(o)
	}
	return nil
}

// practice prints components for a rehearsal.
func (d *desk) practice(o *ceremony.Opening) error {
	for i := range o.Components {
		b := make([]byte, o.Bits/8)
		if _, err := rand.Read(b); err != nil {
			return fmt.Errorf("draw a component: %w", err)
		}
		k, err := key.New(key.Algorithm(o.Algorithm[0]), b)
		if err != nil {
			return fmt.Errorf("draw a component: %w", err)
		}
		check, err := engine.KCV(&k)
		if err != nil {
			return fmt.Errorf("draw a component: %w", err)
		}
		fmt.Fprintf(d.stdout, "practice component %d: %s  KCV %s\n", i+1, grouped(b), check)
	}
	return nil
}

// grouped is hexadecimal in fours, as it is read and typed.
func grouped(b []byte) string {
	var out bytes.Buffer
	for i := range b {
		if i > 0 && i%2 == 0 {
			out.WriteByte(' ')
		}
		fmt.Fprintf(&out, "%02X", b[i])
	}
	return out.String()
}

func componentCommand(d *desk) *cobra.Command {
	return d.who(&cobra.Command{
		Use: "component", Short: "Type your component, blind, and its check value", Args: cobra.NoArgs,
		RunE: d.run(d.component),
	})
}

func (d *desk) component(ctx context.Context) error {
	if d.officer == "" {
		return fmt.Errorf("%w: %w", ErrUsage, errOfficer)
	}
	if err := d.terminal.check(); err != nil {
		return err
	}
	v, err := d.view()
	if err != nil {
		return err
	}
	if v.Ceremony == nil || v.Ceremony.State != ceremony.Collecting.String() {
		return ceremony.ErrNone
	}
	fmt.Fprintf(d.terminal.out, "Ceremony %s: %s, %s %s, %d bits; %d of %d components are there. Until %s.\n", v.Ceremony.ID, v.Ceremony.Label,
		v.Ceremony.Usage, v.Ceremony.Algorithm, v.Ceremony.Bits, len(v.Ceremony.Brought), v.Ceremony.Components, v.Ceremony.Deadline)
	typed, err := d.terminal.secret(ctx, fmt.Sprintf("Component, %d hexadecimal digits, not shown: ", v.Ceremony.Bits/4))
	if err != nil {
		return err
	}
	defer clear(typed)
	secret, err := unhex(typed)
	if err != nil {
		return fmt.Errorf("component: %w; nothing was sent, type it again", err)
	}
	defer clear(secret)
	text, err := d.terminal.line(ctx, "Its key check value: ")
	if err != nil {
		return err
	}
	kcv, err := unhex([]byte(text))
	if err != nil {
		return fmt.Errorf("key check value: %w; nothing was sent, type both again", err)
	}
	payload := ceremony.AppendComponent(nil, secret, kcv)
	defer clear(payload)
	if v, err = d.act(ctx, ceremony.ActComponent, payload); err != nil {
		return err
	}
	d.printCeremony(v)
	return nil
}

func finishCommand(d *desk) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "finish", Short: "Look at the check value of the whole key, and confirm it", Args: cobra.NoArgs,
		Long: "Two of the officers who brought components do this, each at their own terminal. After the second the key block is\nprinted: it is under the local master key, and goes into the store with\n`authswitch hsm keys import --form stored`.",
		RunE: d.run(func(ctx context.Context) error { return d.finish(ctx, out) }),
	}
	c.Flags().StringVar(&out, "out", "", "file for the key block, besides printing it")
	return d.who(c)
}

func (d *desk) finish(ctx context.Context, out string) error {
	v, err := d.view()
	if err != nil {
		return err
	}
	if v.Ceremony == nil {
		return ceremony.ErrNone
	}
	c := v.Ceremony
	question := fmt.Sprintf("Key check value of the whole key: %s. Is it the one on paper?", c.KCV)
	if c.State == ceremony.Collecting.String() {
		question = fmt.Sprintf("Only %d of %d components are there. To finish now ends the ceremony and wipes them.", len(c.Brought), c.Components)
	}
	if err := d.terminal.confirm(ctx, question); err != nil {
		return err
	}
	payload, err := encode(ceremony.Confirmation{Ceremony: c.ID, KCV: c.KCV})
	if err != nil {
		return err
	}
	if v, err = d.act(ctx, ceremony.ActConfirm, payload); err != nil {
		return err
	}
	d.printCeremony(v)
	if v.Key == nil || out == "" {
		return nil
	}
	if err := os.WriteFile(out, []byte(v.Key.Block+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the key block: %w", err)
	}
	return nil
}

func abortCommand(d *desk) *cobra.Command {
	return d.who(&cobra.Command{
		Use: "abort", Short: "Give the ceremony up and wipe its components", Args: cobra.NoArgs,
		RunE: d.run(func(ctx context.Context) error {
			v, err := d.act(ctx, ceremony.ActAbort, nil)
			if err != nil {
				return err
			}
			d.printCeremony(v)
			return nil
		}),
	})
}

func statusCommand(d *desk) *cobra.Command {
	return d.reading(&cobra.Command{
		Use: "status", Short: "Say where the ceremony stands", Args: cobra.NoArgs,
		RunE: d.run(func(context.Context) error {
			v, err := d.view()
			if err != nil {
				return err
			}
			if d.wantsJSON() {
				return printJSON(d.stdout, struct {
					Ceremony *ceremony.StateView `json:"ceremony"`
					Key      *ceremony.KeyView   `json:"key"`
				}{v.Ceremony, v.Key})
			}
			d.printCeremony(v)
			return nil
		}),
	})
}

// printCeremony says where it stands and what comes next.
func (d *desk) printCeremony(v *ceremony.View) {
	if v.Ceremony == nil {
		fmt.Fprintln(d.stdout, "no ceremony was held since the module started")
		return
	}
	c := v.Ceremony
	fmt.Fprintf(d.stdout, "ceremony %s (%s): %s\n", c.ID, c.Label, c.State)
	for i, b := range c.Brought {
		fmt.Fprintf(d.stdout, "component %d: %s, KCV %s\n", i+1, b.Officer, b.KCV)
	}
	if c.KCV != "" {
		fmt.Fprintf(d.stdout, "KCV of the whole key: %s\n", c.KCV)
	}
	if c.Reason != "" {
		fmt.Fprintf(d.stdout, "reason: %s\n", c.Reason)
	}
	if c.State == ceremony.Done.String() && c.Rehearsal {
		fmt.Fprintln(d.stdout, "this was a rehearsal: the key was thrown away")
	}
	if v.Key != nil {
		fmt.Fprintf(d.stdout, "key block: %s\n", v.Key.Block)
	}
}

func transcriptCommand(d *desk) *cobra.Command {
	var out, check, publicKey string
	c := &cobra.Command{
		Use: "transcript", Short: "Print the signed transcript of the last ceremony, or verify one", Args: cobra.NoArgs,
		Long: "Prints the transcript of the last ceremony, signed by the token's audit key. With --verify FILE and --public-key it\nchecks one that was filed, and asks no module.",
		RunE: func(c *cobra.Command, args []string) error {
			if check != "" {
				return verifyTranscript(c.OutOrStdout(), check, publicKey)
			}
			return d.run(func(context.Context) error { return d.transcript(out) })(c, args)
		},
	}
	c.Flags().StringVar(&out, "out", "", "file to write it to, instead of printing it")
	c.Flags().StringVar(&check, "verify", "", "file with a transcript to verify")
	c.Flags().StringVar(&publicKey, "public-key", "", "PEM file with the audit key's public half")
	return c
}

func (d *desk) transcript(out string) error {
	var paper json.RawMessage
	if err := d.ask(ceremony.OpPaper, nil, &paper); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, paper, "", "  "); err != nil {
		return fmt.Errorf("read the transcript: %w", err)
	}
	text.WriteByte('\n')
	if out == "" {
		_, err := d.stdout.Write(text.Bytes())
		return err
	}
	if err := os.WriteFile(out, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the transcript: %w", err)
	}
	return nil
}

func verifyTranscript(out io.Writer, path, publicKey string) error {
	if publicKey == "" {
		return fmt.Errorf("%w: --verify needs --public-key", ErrUsage)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the transcript: %w", err)
	}
	public, err := readPublicKey(publicKey)
	if err != nil {
		return err
	}
	t, err := ceremony.VerifyTranscript(file, public)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ok: ceremony %s (%s), %s; audit log entry %s\n", t.Ceremony, t.Label, t.Result, t.Audit)
	return nil
}

func readPublicKey(path string) (*ecdsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: %w", path, errPublicKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errPublicKey)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, errPublicKey)
	}
	return public, nil
}
