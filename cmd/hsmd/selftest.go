package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"authswitch/hsm/selftest"
)

// errSelftest is a self-test with a failure, or with nothing in it.
var errSelftest = errors.New("self-test")

func selftestCommand() *cobra.Command {
	var vectors string
	c := &cobra.Command{
		Use: "selftest --vectors FILE", Short: "Run known answers against the cryptography", Args: noArgs,
		Long: `Runs every case of a file of known answers against the primitives and prints one
line each: pass or fail, family, case; and skip for a family it does not know.
Exits 1 on any failure, or when nothing was checked. It needs no token.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := os.ReadFile(vectors)
			if err != nil {
				return fmt.Errorf("read vectors: %w", err)
			}
			failed, checked, err := selftest.Run(b, cmd.OutOrStdout())
			switch {
			case err != nil:
				return err
			case failed > 0:
				return fmt.Errorf("%w: %d of %d cases fail", errSelftest, failed, checked)
			case checked == 0:
				return fmt.Errorf("%w: nothing was checked", errSelftest)
			}
			return nil
		},
	}
	c.Flags().StringVar(&vectors, "vectors", "", "the file of known answers (required)")
	_ = c.MarkFlagRequired("vectors")
	return c
}
