package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
)

func dialectCommand() *cobra.Command {
	c := &cobra.Command{Use: "dialect", Short: "List, check and describe the ISO 8583 dialects"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the dialects", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return listDialects(cmd.OutOrStdout())
		}},
		&cobra.Command{Use: "lint [NAME|FILE]...", Short: "Look for what compiles and would still be wrong", Args: cobra.ArbitraryArgs, RunE: func(cmd *cobra.Command, args []string) error {
			return lintDialects(cmd.OutOrStdout(), args)
		}},
		&cobra.Command{Use: "doc NAME|FILE", Short: "Describe a dialect for a person, in Markdown", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			d, err := loadDialect(args[0])
			if err != nil {
				return err
			}
			return d.Doc(cmd.OutOrStdout())
		}},
	)
	return c
}

// dialectNames are the embedded dialects; bases only serve to be extended.
func dialectNames() ([]string, error) {
	entries, err := dialects.FS.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list dialects: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".yaml")
		if ok && !strings.HasPrefix(name, "base-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// loadDialect takes an embedded dialect's name, or the path of a file that may
// extend one.
func loadDialect(name string) (*iso8583.Dialect, error) {
	if strings.HasSuffix(name, ".yaml") {
		return iso8583.Load(os.DirFS(filepath.Dir(name)), strings.TrimSuffix(filepath.Base(name), ".yaml"))
	}
	return iso8583.Load(dialects.FS, name)
}

func listDialects(w io.Writer) error {
	names, err := dialectNames()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DIALECT\tREQUEST\tREVERSAL\tSTATUS")
	for _, name := range names {
		d, err := loadDialect(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", d.Name(), d.AuthorizationMTI(), d.ReversalMTI(), d.Status())
	}
	return t.Flush()
}

func lintDialects(w io.Writer, names []string) error {
	if len(names) == 0 {
		var err error
		if names, err = dialectNames(); err != nil {
			return err
		}
	}
	found := 0
	for _, name := range names {
		d, err := loadDialect(name)
		if err != nil {
			fmt.Fprintf(w, "%s: %v\n", name, err)
			found++
			continue
		}
		for _, f := range d.Lint() {
			fmt.Fprintf(w, "%s: DE %d: %s\n", name, f.DE, f.Text)
			found++
		}
	}
	if found > 0 {
		return fmt.Errorf("%d findings", found)
	}
	_, err := fmt.Fprintf(w, "%d dialects, nothing found\n", len(names))
	return err
}

func messageCommand() *cobra.Command {
	var dialect string
	c := &cobra.Command{
		Use: "message", Short: "View, compare and check ISO 8583 messages, masked",
		Long: `A message is read from a file, or from standard input where the file is "-" or left
out: hexadecimal (spaces and line ends are ignored), or raw bytes. It is the
frame without its length prefix. Card data is always masked.`,
	}
	c.PersistentFlags().StringVar(&dialect, "dialect", "ascii87", "the dialect's name, or a file's path")
	// each is a subcommand over one or two messages of the dialect.
	each := func(use, short string, messages int, do func(w io.Writer, d *iso8583.Dialect, frames [][]byte) error) {
		args := cobra.MaximumNArgs(1)
		if messages > 1 {
			args = cobra.ExactArgs(messages)
		}
		c.AddCommand(&cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
			d, err := loadDialect(dialect)
			if err != nil {
				return err
			}
			frames := make([][]byte, messages)
			for i := range frames {
				if frames[i], err = readMessage(cmd.InOrStdin(), args, i); err != nil {
					return err
				}
			}
			return do(cmd.OutOrStdout(), d, frames)
		}})
	}
	each("view [FILE]", "Show a message's elements", 1, func(w io.Writer, d *iso8583.Dialect, frames [][]byte) error {
		return d.Describe(w, frames[0])
	})
	each("diff FILE FILE", "Show the elements in which two messages differ", 2, func(w io.Writer, d *iso8583.Dialect, frames [][]byte) error {
		return d.Diff(w, frames[0], frames[1])
	})
	each("validate [FILE]", "Hold a message to its dialect", 1, func(w io.Writer, d *iso8583.Dialect, frames [][]byte) error {
		return reportFindings(w, d.Validate(frames[0]))
	})
	c.AddCommand(fromPcap(&dialect), toPcap(&dialect))
	return c
}

func reportFindings(w io.Writer, findings []iso8583.Finding) error {
	for _, f := range findings {
		fmt.Fprintf(w, "DE %d: %s\n", f.DE, f.Text)
	}
	if len(findings) > 0 {
		return fmt.Errorf("%d findings", len(findings))
	}
	_, err := fmt.Fprintln(w, "valid")
	return err
}

// readMessage reads the nth argument's file, or standard input.
func readMessage(in io.Reader, args []string, n int) ([]byte, error) {
	if n < len(args) && args[n] != "-" {
		f, err := os.Open(args[n])
		if err != nil {
			return nil, fmt.Errorf("open message: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4*iso8583.MaxFrame))
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	digits := bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, b)
	raw := make([]byte, hex.DecodedLen(len(digits)))
	if n, err := hex.Decode(raw, digits); err == nil && len(digits) > 0 {
		return raw[:n], nil
	}
	return b, nil
}
