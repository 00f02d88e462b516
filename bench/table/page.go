package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
)

var errMarkers = errors.New("no such place in the document")

// The places in the documents that are written from the results, and nothing
// else in them is.
const (
	measuredPlace = "measured" // docs/performance.md: every row
	budgetPlace   = "budget"   // docs/performance.md: CPU by step
	speedPlace    = "speed"    // README.md: the short table
	machineLine   = "Measured on "
)

// step is a part of the CPU of an authorization and what it may take of it.
type step struct {
	figure string
	what   string
	budget float64 // µs
}

// steps are the budget of docs/performance.md. The first six are the node's
// and add up to its target, all to that of one authorization.
func steps() []step {
	return []step{
		{"one_node.cpu_us_door", "door: HTTP, JSON, keys, answer", 20},
		{"one_node.cpu_us_switch", "switch: sealing, routing, the steps themselves", 6},
		{"one_node.cpu_us_codec", "codec: two messages packed or read", 3},
		{"one_node.cpu_us_link", "link: one round trip", 6},
		{"one_node.cpu_us_journal", "journal: two commits, Raft and Pebble", 30},
		{"one_node.cpu_us_runtime", "Go's scheduler and collector", 5},
		{"one_node.cpu_us_generator", "load generator", 15},
		{"one_node.cpu_us_simulator", "acquirer simulators, their ledgers on disk", 10},
	}
}

// document rewrites the generated places of both documents from the results.
// The machine is named by whoever measured: rewriting elsewhere keeps the name
// that stands there.
func (t *table) document(machine string) error {
	content, err := os.ReadFile(t.out)
	if err != nil {
		return err
	}
	figures := map[string]float64{}
	if err := json.Unmarshal(content, &figures); err != nil {
		return fmt.Errorf("%s: %w", t.out, err)
	}
	page, err := os.ReadFile(t.page)
	if err != nil {
		return err
	}
	if machine == "" {
		machine = machineOf(string(page))
	}
	head := machineLine + machine + ", all processes on it together"
	text, err := between(string(page), measuredPlace, head+".\n\n"+targetTable(figures, rows())+"\n"+verdict(figures, rows())+t.reasons())
	if err != nil {
		return fmt.Errorf("%s: %w", t.page, err)
	}
	if text, err = between(text, budgetPlace, budgetTable(figures)); err != nil {
		return fmt.Errorf("%s: %w", t.page, err)
	}
	if err := os.WriteFile(t.page, []byte(text), 0o644); err != nil { // #nosec G306 -- committed with the sources
		return err
	}
	readme, err := os.ReadFile(t.readme)
	if err != nil {
		return err
	}
	short := head + " ([what each figure is](docs/performance.md), `make bench`).\n\n" + targetTable(figures, shortRows()) + "\n" + verdict(figures, rows())
	if text, err = between(string(readme), speedPlace, short); err != nil {
		return fmt.Errorf("%s: %w", t.readme, err)
	}
	return os.WriteFile(t.readme, []byte(text), 0o644) // #nosec G306 -- committed with the sources
}

// between replaces what stands between <!-- place --> and <!-- /place -->.
func between(document, place, with string) (string, error) {
	opening, closing := "<!-- "+place+" -->", "<!-- /"+place+" -->"
	before, rest, opened := strings.Cut(document, opening)
	_, after, closed := strings.Cut(rest, closing)
	if !opened || !closed {
		return "", fmt.Errorf("%w: %s … %s", errMarkers, opening, closing)
	}
	return before + opening + "\n" + strings.TrimSpace(with) + "\n" + closing + after, nil
}

// machineOf reads the machine's name out of a document written earlier.
func machineOf(document string) string {
	_, rest, found := strings.Cut(document, machineLine)
	name, _, ended := strings.Cut(rest, ", all processes")
	if !found || !ended {
		return "a machine that nobody named"
	}
	return name
}

// targetTable is the rows with their targets, as Markdown.
func targetTable(figures map[string]float64, rows []row) string {
	var b strings.Builder
	b.WriteString("| | target | measured | | beside its peer |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		peer := ""
		if ratio, there := figures[r.beside]; there {
			peer = r.comparison(ratio)
		}
		v, there := figures[r.figure]
		if !there {
			fmt.Fprintf(&b, "| %s | %s | not measured | | %s |\n", r.what, r.bound(), peer)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.bound(), number(v), r.judge(v), peer)
	}
	return b.String()
}

// judge says in words how far a figure is from its target.
func (r *row) judge(v float64) string {
	if r.target == 0 {
		return ""
	}
	if r.met(v) {
		return "met"
	}
	if v >= 2*r.target {
		return fmt.Sprintf("**short of the target**: %.1f times of it", v/r.target)
	}
	return fmt.Sprintf("**short of the target** by %.0f %%", 100*math.Abs(v-r.target)/r.target)
}

// reasons says why what was asked for could not be measured.
func (t *table) reasons() string {
	var said []string
	for _, m := range t.missing {
		if !strings.HasSuffix(m, notAsked) {
			said = append(said, strings.Join(strings.Fields(m), " "))
		}
	}
	if len(said) == 0 {
		return ""
	}
	return " Failed: " + strings.Join(said, "; ") + "."
}

// verdict sums the rows up, so that nobody has to look for what falls short.
func verdict(figures map[string]float64, rows []row) string {
	var short, missing []string
	for _, r := range rows {
		switch v, there := figures[r.figure]; {
		case !there:
			missing = append(missing, r.what)
		case !r.met(v):
			short = append(short, fmt.Sprintf("%s (%s, %s)", r.what, number(v), r.bound()))
		}
	}
	var b strings.Builder
	switch {
	case len(short) > 0:
		b.WriteString("Short of the target: " + strings.Join(short, "; ") + ".")
	case len(missing) < len(rows):
		b.WriteString("Every measured figure meets its target.")
	}
	if len(missing) > 0 {
		b.WriteString(" Not measured: " + strings.Join(missing, "; ") + ".")
	}
	if valid, there := figures["one_node.valid"]; there && valid == 0 {
		fmt.Fprintf(&b, " The run of one node was not valid: the generator itself was late by %s ms.", number(figures["one_node.late_ms"]))
	}
	return b.String()
}

// budgetTable is the CPU of one authorization by step, as Markdown.
func budgetTable(figures map[string]float64) string {
	var b strings.Builder
	b.WriteString("| step | budget, µs | measured, µs | |\n|---|---|---|---|\n")
	var budget, spent float64
	whole := true
	for _, s := range steps() {
		v, there := figures[s.figure]
		budget, spent, whole = budget+s.budget, spent+v, whole && there
		r := row{target: s.budget}
		if !there {
			fmt.Fprintf(&b, "| %s | %s | not measured | |\n", s.what, number(s.budget))
			continue
		}
		over := ""
		if !r.met(v) {
			over = "over its budget"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.what, number(s.budget), number(v), over)
	}
	if whole {
		fmt.Fprintf(&b, "| all | %s | %s | |\n", number(budget), number(spent))
	}
	return b.String()
}
