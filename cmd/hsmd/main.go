// Command hsmd is the security module: payment cryptography in a process of its
// own, with its master keys in a PKCS#11 token.
//
// It reads its configuration, opens the root of trust and the audit log, and
// serves; what the parts do is in packages below hsm. `init` makes token and
// keys, `selftest` runs known answers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes: 0 done, 1 failed, 2 usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

// errUsage marks errors of the words of a call.
var errUsage = errors.New("usage")

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	if errors.Is(err, errUsage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "hsmd",
		Short: "The security module of authswitch",
		Long: `hsmd does the payment cryptography of authswitch: PIN blocks, MACs, key blocks,
stored cards. Its master keys live in a PKCS#11 token (SoftHSM, or any vendor's
module) and never leave it; everything else is under them.

Exit codes: 0 done, 1 failed, 2 a mistake in the words of the call.`,
		Example: `  hsmd init --config hsmd.yaml                 token, local master key, audit key
  hsmd serve --config hsmd.yaml                the module
  hsmd selftest --vectors payment-crypto.json  known answers`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%w: one of its commands is needed: init, serve, selftest, version", errUsage)
		},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	c.AddCommand(initCommand(), serveCommand(), selftestCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "hsmd", version)
			return err
		},
	})
	return c
}

// noArgs is cobra.NoArgs as a mistake in the words of the call.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}
