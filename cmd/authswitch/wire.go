package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"authswitch/sim"
)

// wireFile is where a simulator keeps the messages of its wire: beside its
// ledger.
func wireFile(ledger string) string { return strings.TrimSuffix(ledger, ".jsonl") + ".wire" }

// maxWireLine is more than a described message takes.
const maxWireLine = 1 << 20

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
		sim.WireLine
		link string
	}
	var all []seen
	files := 0
	for _, l := range links.Data {
		if l.Ledger == "" {
			continue
		}
		for _, path := range []string{wireFile(l.Ledger) + ".1", wireFile(l.Ledger)} {
			lines, err := readWire(path, rrn)
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

// readWire reads the lines about one reference number.
func readWire(path, rrn string) (lines []sim.WireLine, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the wire: %w", err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, maxWireLine)
	for in.Scan() {
		var l sim.WireLine
		if json.Unmarshal(in.Bytes(), &l) == nil && l.RRN == rrn { // a last line may be half written
			lines = append(lines, l)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the wire: %w", err)
	}
	return lines, nil
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}
