package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"authswitch/cmd/authswitch/simcmd"
)

// wireFile is where a simulator keeps the messages of its wire: beside its
// ledger.
func wireFile(ledger string) string { return strings.TrimSuffix(ledger, ".jsonl") + ".wire" }

// errNoWire says that no simulator of the node keeps its wire.
var errNoWire = errors.New("no link of this node has a simulator that keeps its wire; of a real acquirer, see authswitch message from-pcap")

// printWire shows the messages of a payment as the simulators saw and answered
// them: what its reference number names.
func printWire(ctx context.Context, api *client, w io.Writer, rrn string) error {
	var links struct {
		Data []struct{ Name, Ledger string }
	}
	if err := api.get(ctx, "/v1/links", &links); err != nil {
		return err
	}
	type seen struct {
		simcmd.WireLine
		link string
	}
	var all []seen
	files := 0
	for _, l := range links.Data {
		if l.Ledger == "" {
			continue
		}
		for _, path := range []string{wireFile(l.Ledger) + ".1", wireFile(l.Ledger)} {
			lines, err := simcmd.ReadWire(path, rrn)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			files++
			for _, line := range lines {
				all = append(all, seen{line, l.Name})
			}
		}
	}
	if files == 0 {
		return errNoWire
	}
	slices.SortStableFunc(all, func(a, b seen) int { return cmp.Compare(a.At, b.At) })
	for _, m := range all {
		way := "→"
		if m.Way == "sent" {
			way = "←"
		}
		if _, err := fmt.Fprintf(w, "\n%s  %s %s  %s\n%s", m.At, way, m.link, m.MTI, indented(m.Text)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}
