package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"authswitch/cmd/authswitch/routecmd"
)

// usageErrors makes every mistake in the words of a call end with exit code 2,
// through the whole tree: cobra's own errors end with 1, and an unknown
// command below a group would print help and end with 0. The words themselves
// are not repeated: one of them may be a card number.
func usageErrors(c *cobra.Command) {
	check := c.Args
	group := c.HasSubCommands() && !c.Runnable()
	if group {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if group && len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		if check == nil {
			check = cobra.NoArgs
		}
		if err := check(c, args); err != nil {
			if errors.Is(err, routecmd.ErrUsage) {
				return err // its package has said it better
			}
			return fmt.Errorf("%w: %s", errUsage, c.UseLine())
		}
		if err := c.ValidateRequiredFlags(); err != nil {
			return fmt.Errorf("%w: %s: %w", errUsage, c.CommandPath(), err)
		}
		return nil
	}
	for _, sub := range c.Commands() {
		usageErrors(sub)
	}
}

// unknownCommand names what there is, the likeliest first.
func unknownCommand(c *cobra.Command, word string) error {
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(word); len(near) > 0 {
		return fmt.Errorf("%w: %s: no such command; did you mean %s?", errUsage, c.CommandPath(), strings.Join(near, " or "))
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return fmt.Errorf("%w: %s: no such command; there are %s", errUsage, c.CommandPath(), strings.Join(names, ", "))
}
