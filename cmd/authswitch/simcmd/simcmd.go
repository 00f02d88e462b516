// Package simcmd is `authswitch sim`: one simulator alone, in a process of its
// own. It only wires: scenario, clock, listener and log into package sim.
// Called by: cmd/authswitch.
package simcmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"authswitch/iso8583/dialects"
	"authswitch/sim"
)

// Command is `authswitch sim`.
func Command() *cobra.Command {
	c := &cobra.Command{Use: "sim", Short: "Play an acquirer or issuer"}
	c.AddCommand(runCommand(), terminalCommand())
	return c
}

func runCommand() *cobra.Command {
	var procs int
	c := &cobra.Command{
		Use:   "run SCENARIO.yaml",
		Short: "Run one simulator: its own address, dialect, ledger and faults",
		Long: `Runs one simulator until SIGTERM or SIGINT. When it takes connections it prints one line:

  simulator NAME listening on ADDRESS

With "dial" in its scenario it connects to a link in mode accept instead, and prints nothing.

The answer to a request is chosen by the last two digits of its amount; docs/simulators.md has the table and
the scenario file's keys. Logs go to standard error and never hold a card number.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			// A simulator has one connection or two, and shares the machine with
			// what it is a witness of: on more processors it mostly wakes and
			// parks threads.
			runtime.GOMAXPROCS(max(procs, 1))
			return run(ctx, cmd, args[0])
		},
	}
	c.Flags().IntVar(&procs, "procs", 1, "processors the simulator may use; one costs a fifth less CPU per message than two")
	return c
}

func run(ctx context.Context, cmd *cobra.Command, path string) error {
	config, err := sim.ReadConfig(path)
	if err != nil {
		return err
	}
	files, name := locate(config.Dialect)
	config.Dialect = name
	s, err := sim.New(config, sim.Deps{
		Now: time.Now,
		Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, network, address)
		},
		Dial:     (&net.Dialer{}).DialContext,
		Dialects: files,
		Log:      slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
		Listening: func(a net.Addr) {
			fmt.Fprintf(cmd.OutOrStdout(), "simulator %s listening on %s\n", config.Name, a)
		},
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// locate says where a dialect is: the name of an embedded one, or a path to a
// file, which may still extend embedded ones.
func locate(dialect string) (fs.FS, string) {
	if !strings.ContainsRune(dialect, filepath.Separator) && filepath.Ext(dialect) == "" {
		return dialects.FS, dialect
	}
	name := strings.TrimSuffix(filepath.Base(dialect), filepath.Ext(dialect))
	return layered{os.DirFS(filepath.Dir(dialect)), dialects.FS}, name
}

// layered is two file systems, the first over the second.
type layered struct{ over, under fs.FS }

// Open opens a file of the upper one, or where it has none, of the lower.
func (l layered) Open(name string) (fs.File, error) {
	f, err := l.over.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l.under.Open(name)
	}
	return f, err
}

// The published test card that `sim terminal` and dev pay with at a counter, and
// its PIN: no flag takes another.
const (
	CounterCard = "4970100000000154"
	CounterPIN  = "1234"
)

// TerminalPIN is a PIN block as a terminal of dev makes it, for the example that
// dev prints.
func TerminalPIN(keyFile, pan, pin string) (string, error) {
	entered, err := (&sim.Terminal{KeyFile: keyFile}).Enter(pan, pin)
	return entered.Block, err
}

func terminalCommand() *cobra.Command {
	var t sim.Terminal
	c := &cobra.Command{
		Use:   "terminal KEYFILE",
		Short: "Play a terminal: print a payment at a counter, with its PIN, for bench run --cards",
		Long: `Prints one line of JSON: what a chip terminal sends of the published test card ` + CounterCard + ` with the PIN ` + CounterPIN + `.
KEYFILE holds its zone PIN key in hexadecimal, mode 0600 (dev: hsm/terminals.p0 in its data directory): a block of format 0.
With --ksn it holds a base derivation key, and the block is under the key of that transaction: TDES DUKPT (10 bytes, format 0) or
AES DUKPT (12 bytes, format 4; dev: hsm/terminals.b0).`,
		Example: "  authswitch sim terminal DATA/hsm/terminals.p0 > counter\n  authswitch bench run --api … --key @key --cards counter",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t.KeyFile = args[0]
			line, err := t.Payment(CounterCard, CounterPIN)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
	c.Flags().StringVar(&t.Zone, "zone", "terminals", "what the switch calls the key")
	c.Flags().StringVar(&t.Serial, "ksn", "", "key serial number, in hexadecimal (default: the key is a zone PIN key)")
	return c
}
