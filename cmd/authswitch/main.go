// Command authswitch is the switch node and every operator tool.
//
// It reads configuration, builds the parts top to bottom, and stops them in
// order; what the parts do is in their packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // merchants' time zones, on machines that have no zone files

	"github.com/spf13/cobra"

	"authswitch/cmd/authswitch/benchcmd"
	"authswitch/cmd/authswitch/routecmd"
	"authswitch/cmd/authswitch/simcmd"
)

// Exit codes: 0 done, 1 failed, 2 usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

// errUsage marks errors of the words of a call.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(exitCode(err))
}

// exitCode is what a script sees.
func exitCode(err error) int {
	var exit *benchcmd.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if errors.Is(err, errUsage) || errors.Is(err, routecmd.ErrUsage) {
		return exitUsage
	}
	return exitFailed
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "authswitch",
		Short:         "A card authorization switch: JSON in, ISO 8583 out, every outcome decided once",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	c.AddCommand(
		serveCommand(),
		devCommand(),
		configCommand(),
		versionCommand(),
		dialectCommand(),
		messageCommand(),
		routecmd.Commands(tableOf),
		simcmd.Command(),
		benchcmd.Commands(),
		authorizeCommand(),
		linkCommand(),
		transactionCommand(),
	)
	return c
}
