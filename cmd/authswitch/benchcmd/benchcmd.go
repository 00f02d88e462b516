// Package benchcmd is the command line of the load harness and the verifier:
// `authswitch bench …`. It reads flags, calls package bench and prints; it
// decides nothing about load or correctness. Called by: cmd/authswitch.
package benchcmd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

// ExitError is an error with the exit code it asks for: 1 failed, 2 usage.
type ExitError struct {
	Code int
	Err  error
}

// Error implements error.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// failed makes an error end the program with 1.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: exitFailed, Err: err}
}

// usage makes an error end the program with 2.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: exitUsage, Err: err}
}

// Commands is the `bench` command with its subcommands.
func Commands() *cobra.Command {
	c := &cobra.Command{
		Use:           "bench",
		Short:         "Put load on a switch, and check that nothing was lost",
		Args:          cobra.ArbitraryArgs, // an unknown command is refused below, as a matter of usage
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				// The words are not repeated: one may be a card number.
				return usage(errors.New("bench: no such command; there are run, ramp, report, compare and verify"))
			}
			return c.Help()
		},
	}
	c.AddCommand(runCommand(), rampCommand(), reportCommand(), compareCommand(), verifyCommand())
	for _, sub := range c.Commands() {
		sub.Args = usageArgs(sub.Args)
		sub.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	}
	return c
}

// usageArgs makes wrong arguments a matter of usage; none are allowed unless
// the command says so.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		check = cobra.NoArgs
	}
	return func(c *cobra.Command, args []string) error { return usage(check(c, args)) }
}

var errRequired = errors.New("is required")

// required refuses an empty value of a flag.
func required(name, value string) error {
	if value == "" {
		return usage(fmt.Errorf("--%s %w", name, errRequired))
	}
	return nil
}
