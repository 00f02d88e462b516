// Package ceremonycmd is `authswitch hsm ceremony` and `authswitch hsm officer`:
// the end of the key ceremony that stands on the officers' tables. It speaks to
// the admin socket of hsmd.
//
// Key material and passphrases are typed at a terminal with its echo off, and
// come in no other way: no flag, no variable, no pipe. Called by cmd/authswitch.
package ceremonycmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"authswitch/hsm"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/wire"
)

// Errors of the tools.
var (
	ErrUsage       = errors.New("usage")
	errTerminal    = errors.New("this is typed at a terminal: standard input is none")
	errNotSaid     = errors.New("not confirmed; nothing was done")
	errInterrupted = errors.New("interrupted; nothing was done")
	errOfficer     = errors.New("--officer NAME is needed: who you are")
	errPublicKey   = errors.New("not a PEM file with an ECDSA PUBLIC KEY")
)

// Commands are the groups, for the `hsm` command.
func Commands() []*cobra.Command { return []*cobra.Command{ceremonyCommand(), officerCommand()} }

// patience is how long a tool waits for the module.
const patience = 5 * time.Second

// desk is where the module is, and who comes to it.
type desk struct {
	socket                 string
	address, ca, cert, key string
	officer, officerKey    string
	output                 string
	json                   bool
	client                 *hsm.Client
	terminal               *terminal
	stdout                 io.Writer
}

// flags adds where the module is, for a group.
func (d *desk) flags(c *cobra.Command) { d.where(c.PersistentFlags()) }

// flagSet is a command's own flags, or those of a group.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
}

func (d *desk) where(f flagSet) {
	f.StringVar(&d.socket, "socket", os.Getenv("AUTHSWITCH_HSM_ADMIN"), "hsmd's admin socket (default: environment AUTHSWITCH_HSM_ADMIN)")
	f.StringVar(&d.address, "address", "", "host:port of a distant hsmd's admin listener, instead of --socket; needs the three TLS files")
	f.StringVar(&d.ca, "tls-ca", "", "PEM file of the authority of --address")
	f.StringVar(&d.cert, "tls-cert", "", "PEM file of this client's certificate")
	f.StringVar(&d.key, "tls-key", "", "PEM file of this client's private key")
}

// who adds who one is.
func (d *desk) who(c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.StringVar(&d.officer, "officer", "", "your name as an officer")
	f.StringVar(&d.officerKey, "officer-key", "", "PEM file with your own key, where you are enrolled with one; otherwise your passphrase is asked")
	return c
}

// reading adds the form of an answer.
func (d *desk) reading(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&d.output, "output", "o", "table", "table or json")
	c.Flags().BoolVar(&d.json, "json", false, "short for -o json")
	return c
}

func (d *desk) wantsJSON() bool { return d.json || d.output == "json" }

// run connects, does something, and leaves.
func (d *desk) run(do func(ctx context.Context) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		if d.output != "" && d.output != "table" && d.output != "json" {
			return fmt.Errorf("%w: -o %q is neither table nor json", ErrUsage, d.output)
		}
		d.stdout = c.OutOrStdout()
		d.terminal = &terminal{in: os.Stdin, out: os.Stderr}
		stop, err := d.connect(c.Context())
		if err != nil {
			return err
		}
		defer stop()
		return do(c.Context())
	}
}

func (d *desk) connect(ctx context.Context) (stop func(), err error) {
	var e hsm.EndpointConfig
	switch {
	case (d.socket == "") == (d.address == ""):
		return nil, fmt.Errorf("%w: either --socket or --address is needed, and not both", ErrUsage)
	case d.socket != "":
		e.Unix = d.socket
	default:
		e.Address, e.TLS = d.address, &hsm.TLSConfig{CAFile: d.ca, CertFile: d.cert, KeyFile: d.key}
	}
	d.client, err = hsm.New(hsm.Config{Endpoints: []hsm.EndpointConfig{e}, Timeout: patience}, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); d.client.Run(running) }()
	stop = func() { cancel(); <-done }
	up, enough := context.WithTimeout(ctx, patience)
	defer enough()
	if err := d.client.AwaitUp(up); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// ask asks one operation and reads its answer.
func (d *desk) ask(op wire.Op, fields []byte, into any) error {
	body, err := d.client.Ask(op, fields, 0)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the module's answer: %w", err)
	}
	return nil
}

func (d *desk) view() (*ceremony.View, error) {
	var v ceremony.View
	return &v, d.ask(ceremony.OpView, nil, &v)
}

// act proves who asks and lets it be done. What is secret in the payload is the
// caller's to wipe.
func (d *desk) act(ctx context.Context, action ceremony.Action, payload []byte) (*ceremony.View, error) {
	if d.officer == "" {
		return nil, fmt.Errorf("%w: %w", ErrUsage, errOfficer)
	}
	return d.actAs(action, func([]byte) ([]byte, error) { return payload, nil }, func(c *ceremony.Challenge) (ceremony.Credential, error) {
		return d.credential(ctx, d.officer, c)
	}, d.officer)
}

// actAs is act for whoever a credential is made for; the payload may need the
// challenge.
func (d *desk) actAs(action ceremony.Action, payload func(nonce []byte) ([]byte, error), credential func(*ceremony.Challenge) (ceremony.Credential, error), name string) (*ceremony.View, error) {
	var c ceremony.Challenge
	if err := d.ask(ceremony.OpChallenge, wire.AppendString(nil, name), &c); err != nil {
		return nil, err
	}
	k, err := credential(&c)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	// Typing takes longer than a challenge lives: another one, now that all is there.
	if err := d.ask(ceremony.OpChallenge, wire.AppendString(nil, name), &c); err != nil {
		return nil, err
	}
	body, err := payload(c.Nonce)
	if err != nil {
		return nil, err
	}
	a := ceremony.Act{Nonce: c.Nonce, Officer: name, Action: action, Payload: body, Signature: k.Prove(c.Nonce, name, string(action), body)}
	fields := a.Append(make([]byte, 0, wire.MaxFrame))
	defer clear(fields)
	var v ceremony.View
	return &v, d.ask(ceremony.OpAct, fields, &v)
}

// encode writes a payload.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write a request: %w", err)
	}
	return b, nil
}

// printJSON prints what a script reads.
func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
