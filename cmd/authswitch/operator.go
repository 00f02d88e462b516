package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/link"
)

// operator asks a node's admin port, as a person who looks after it.
type operator struct {
	admin     string
	tokenFile string
	name      string
	reason    string
	asJSON    bool
	key       *keyOperation // of the commands that change keys
	result    string        // of a write-off
}

// operatorTokenVariable names the token's file where no flag does. The token
// itself has no flag and no variable: it would stand in process lists.
const operatorTokenVariable = "AUTHSWITCH_OPERATOR_TOKEN_FILE" // #nosec G101 -- a name

// operatorFlags adds what every command of an operator takes.
func operatorFlags(c *cobra.Command, o *operator) {
	f := c.Flags()
	f.StringVar(&o.admin, "admin", "http://127.0.0.1:8081", "URL of the node's admin port")
	f.StringVar(&o.tokenFile, "token-file", os.Getenv(operatorTokenVariable), "the node's operator.token, in its data directory (default: environment "+operatorTokenVariable+")")
	f.StringVar(&o.name, "as", userName(), "your name, for the audit")
	f.StringVar(&o.reason, "reason", "", "why, for the audit")
	f.BoolVar(&o.asJSON, "json", false, "print the node's JSON")
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// operatorTimeout is longer than a commit may take.
const operatorTimeout = 15 * time.Second

// ask sends one request and reads its answer into v.
func (o *operator) ask(ctx context.Context, method, path string, v any) error {
	if o.tokenFile == "" {
		return fmt.Errorf("%w: --token-file is needed: operator.token in the node's data directory", errUsage)
	}
	token, err := readToken(o.tokenFile)
	if err != nil {
		return err
	}
	body, err := json.Marshal(operation{Operator: o.name, Reason: o.reason, Key: o.key, Result: o.result})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(o.admin, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: --admin: %w", errUsage, err)
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", o.admin, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		var failed struct{ Error string }
		if json.Unmarshal(b, &failed) != nil || failed.Error == "" {
			return fmt.Errorf("HTTP %d", answer.StatusCode)
		}
		return errors.New(failed.Error)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// linkState is a link as the admin port shows it.
type linkState struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Hold        string `json:"hold"`
	InFlight    int    `json:"in_flight"`
	Owed        int    `json:"reversals_in_flight"`
	Connections []struct {
		State     string        `json:"state"`
		EchoRTT   time.Duration `json:"echo_rtt_ns"`
		Echoes    uint64        `json:"echoes"`
		LastError string        `json:"last_error"`
	} `json:"connections"`
}

// linkActions are the commands over one link, and when each is done.
func linkActions() []*cobra.Command {
	return []*cobra.Command{
		linkAction("sign-on", "Sign a link on; on one that is signed on, ask the acquirer again",
			func(_, now *linkState) bool { return now.State == link.Ready.String() }),
		linkAction("sign-off", "Sign a link off: what is in flight is answered, then it stays closed until sign-on, enable or a restart",
			func(_, now *linkState) bool { return now.State == link.Down.String() }),
		linkAction("echo", "Send an echo on every connection and wait for the answers", echoed),
		linkAction("drain", "Keep new authorizations from a link; it stays signed on and what is owed goes out, until enable or a restart",
			func(_, now *linkState) bool { return now.InFlight == 0 }),
		linkAction("exchange-keys", "Exchange the link's PIN and MAC keys with the acquirer, and wait until the new ones are active",
			func(_, _ *linkState) bool { return true }),
		linkAction("enable", "End a drain or a sign-off",
			func(_, now *linkState) bool { return now.State == link.Ready.String() }),
	}
}

// echoed says whether every connection that was ready has answered since.
func echoed(before, now *linkState) bool {
	ready := 0
	for i := range now.Connections {
		if i >= len(before.Connections) || before.Connections[i].State != link.Ready.String() {
			continue
		}
		ready++
		if now.Connections[i].Echoes == before.Connections[i].Echoes {
			return false
		}
	}
	return ready > 0
}

// linkPoll is how often a link is looked at while a command waits for it.
const linkPoll = 100 * time.Millisecond

func linkAction(action, short string, done func(before, now *linkState) bool) *cobra.Command {
	var o operator
	var wait time.Duration
	c := &cobra.Command{
		Use: action + " LINK", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var before linkState
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/links/"+url.PathEscape(args[0])+"/"+action, &before); err != nil {
				return err
			}
			now := before
			for deadline := time.Now().Add(wait); !done(&before, &now); {
				if time.Now().After(deadline) {
					_ = o.showLink(cmd.OutOrStdout(), &now)
					return fmt.Errorf("%s %s: asked for, and not there after %s", action, args[0], wait)
				}
				select {
				case <-time.After(linkPoll):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
				if err := o.look(cmd.Context(), &now); err != nil {
					return err
				}
			}
			return o.showLink(cmd.OutOrStdout(), &now)
		},
	}
	operatorFlags(c, &o)
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until it is so")
	return c
}

// look reads a link again.
func (o *operator) look(ctx context.Context, l *linkState) error {
	var all []linkState
	if err := o.ask(ctx, http.MethodGet, "/operate/links", &all); err != nil {
		return err
	}
	for i := range all {
		if all[i].Name == l.Name {
			*l = all[i]
			return nil
		}
	}
	return fmt.Errorf("no link %q any more", l.Name)
}

func (o *operator) showLink(w io.Writer, l *linkState) error {
	if o.asJSON {
		return printJSON(w, l)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LINK\tSTATE\tHOLD\tIN FLIGHT\tREVERSALS IN FLIGHT\tECHO\tLAST ERROR")
	for i := range l.Connections {
		c := &l.Connections[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.Name, c.State, l.Hold, l.InFlight, l.Owed, c.EchoRTT.Round(time.Microsecond), c.LastError)
	}
	return t.Flush()
}

// reloadCommand makes a node read its file again.
func reloadCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "reload", Short: "Make a running node take over BIN ranges, merchants, contracts, rules, gateways and their keys from its file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r reloaded
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/reload", &r); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "in force:", strings.Join(r.Taken, ", "))
			if len(r.Waiting) > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "changed, and waiting for a restart:", strings.Join(r.Waiting, ", "))
			}
			return nil
		},
	}
	operatorFlags(c, &o)
	return c
}

// writeOffCommand closes a payment's exceptions by hand.
func writeOffCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "write-off ID", Short: "Close by hand what an acquirer refuses to reverse", Args: cobra.ExactArgs(1),
		Long: `An exception is a reversal that an acquirer answered in a way no machine may
settle. It stays owed, repeated once an hour, until the acquirer acknowledges it
or a person has settled it otherwise and says so here. Who and why stand in the
payment's history for ever. What is still being reversed cannot be written off.

A capture, refund, increment, partial reversal or void can be an exception too: a
refund without an answer where the link cannot reverse refunds, an advice that
the acquirer refuses. Say with --result what you found out: taken (it is done) or
not_taken (its amount is free again).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.reason == "" {
				return fmt.Errorf("%w: --reason is needed: a ticket, what the acquirer said", errUsage)
			}
			var answer json.RawMessage
			if err := o.ask(cmd.Context(), http.MethodPost, "/operate/payments/"+url.PathEscape(args[0])+"/write-off", &answer); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), answer)
		},
	}
	operatorFlags(c, &o)
	c.Flags().StringVar(&o.result, "result", "", "taken or not_taken: what the acquirer did about operations that are exceptions")
	return c
}
