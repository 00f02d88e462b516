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
	"strings"
	"syscall"
	_ "time/tzdata" // merchants' time zones, on machines that have no zone files

	"github.com/spf13/cobra"

	"authswitch/cmd/authswitch/auditcmd"
	"authswitch/cmd/authswitch/benchcmd"
	"authswitch/cmd/authswitch/ceremonycmd"
	"authswitch/cmd/authswitch/hsmcmd"
	"authswitch/cmd/authswitch/routecmd"
	"authswitch/cmd/authswitch/simcmd"
	"authswitch/cmd/authswitch/topcmd"
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
	if exit, ok := errors.AsType[*benchcmd.ExitError](err); ok {
		return exit.Code
	}
	if errors.Is(err, errUsage) || errors.Is(err, routecmd.ErrUsage) || errors.Is(err, auditcmd.ErrUsage) || errors.Is(err, hsmcmd.ErrUsage) || errors.Is(err, ceremonycmd.ErrUsage) {
		return exitUsage
	}
	return exitFailed
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "authswitch",
		Short: "A card authorization switch: JSON in, ISO 8583 out, every outcome decided once",
		Long: `authswitch takes card authorizations from payment gateways as JSON, sends them to
acquirers and schemes as ISO 8583, and decides every outcome once.

Exit codes: 0 done, 1 failed, 2 a mistake in the words of the call.`,
		Example: `  authswitch dev                                  a node and its acquirers, here and now
  authswitch config check --config node.yaml      every fault of a configuration
  authswitch serve --config node.yaml             a node
  authswitch link list --key @api.key             the links, and what is owed on them
  authswitch top                                  rates and latencies, now
  authswitch transaction show ID --key @api.key   a payment and its history`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"run", "Run a switch:", []*cobra.Command{devCommand(), serveCommand(), configCommand()}},
		{"operate", "Look after one that runs:", []*cobra.Command{authorizeCommand(), captureCommand(), refundCommand(), voidCommand(), correctCommand(), batchCommand(), operatorCommand(), transactionCommand(), linkCommand(), merchantCommand(), clearingCommand(), nodeCommand(), clusterCommand(), routecmd.Commands(tableOf), topcmd.Command(), auditcmd.Command(), hsmcmd.Commands(moduleOf, append(ceremonycmd.Commands(), keysCommand(), rotateCommand())...)}},
		{"integrate", "Bring an acquirer on, and prove it:", []*cobra.Command{dialectCommand(), messageCommand(), simcmd.Command(), benchcmd.Commands()}},
		{"other", "And:", []*cobra.Command{versionCommand()}},
	} {
		c.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, command := range group.commands {
			command.GroupID = group.id
			c.AddCommand(command)
		}
	}
	c.SetHelpCommandGroupID("other")
	c.SetCompletionCommandGroupID("other")
	c.InitDefaultCompletionCmd() // now, so that its words are held to the same rule
	usageErrors(c)
	// A group is runnable only to refuse what it does not know; its help does
	// not offer to run it.
	c.SetUsageTemplate(strings.Replace(c.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	return c
}
