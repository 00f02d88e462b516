package benchcmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"authswitch/bench"
)

var errDiffer = errors.New("the sides do not agree")

func verifyCommand() *cobra.Command {
	var (
		api, key, answers string
		asJSON            bool
		o                 bench.VerifyOptions
	)
	c := &cobra.Command{
		Use:   "verify",
		Short: "Compare what gateways were told, the journal and the acquirers' ledgers",
		Long: `Waits until nothing is owed, or --settle is over, then compares three sides: the answers a run recorded, the journal
as the API shows it, and the simulators' ledgers. Each difference is named with the invariant it breaks, and the exit
code is 1. What is still owed is named as open; it is not a difference. Nothing is changed and nothing is asked for
again. No load should run meanwhile, and the key must be for every merchant whose payments went to these links.`,
		Example: "  authswitch bench verify --api http://127.0.0.1:8080 --key @key --answers run.answers --settle 20s",
	}
	p := c.Flags()
	p.StringVar(&api, "api", "", "address of the API, or several with commas between them")
	p.StringVar(&key, "key", "", "API key, or @FILE")
	p.StringArrayVar(&o.Ledgers, "ledger", nil, "a simulator's ledger; may be repeated (default: those of GET /v1/links)")
	p.StringVar(&answers, "answers", "", "the answers file of bench run")
	p.DurationVar(&o.Settle, "settle", time.Minute, "how long to wait until nothing is owed")
	p.BoolVar(&asJSON, "json", false, "print one JSON object and nothing else")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := errors.Join(required("api", api), required("key", key)); err != nil {
			return usage(err)
		}
		var err error
		if o.Key, err = bench.Key(key); err != nil {
			return usage(err)
		}
		if answers != "" {
			file, err := open(c, answers)
			if err != nil {
				return failed(fmt.Errorf("answers: %w", err))
			}
			defer func() { _ = file.Close() }()
			o.Answers = file
		}
		// A million payments are some 300 MB of small records and maps: collect
		// them early rather than hold twice that.
		debug.SetGCPercent(25)
		o.API, o.Now, o.Dial = list(api), time.Now, (&net.Dialer{}).DialContext
		ctx, stop := signal.NotifyContext(commandContext(c), os.Interrupt, syscall.SIGTERM)
		defer stop()
		found, err := bench.Verify(ctx, o)
		if err != nil {
			return failed(err)
		}
		if asJSON {
			err = json.NewEncoder(c.OutOrStdout()).Encode(found)
		} else {
			err = found.Print(c.OutOrStdout())
		}
		if err == nil && found.Count > 0 {
			err = errDiffer
		}
		return failed(err)
	}
	return c
}
