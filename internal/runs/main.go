// Runs writes what was run into docs/testing.md, from the logs that the
// harnesses themselves append to in docs/runs: date, commit, seeds, what
// happened in them, what was found. A number that is in no log is in no table.
// It is run by make runs and imported by nobody.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	logs  = "docs/runs"
	page  = "docs/testing.md"
	begin = "<!-- runs: written by make runs -->\n"
	end   = "<!-- /runs -->\n"
)

var errMarks = errors.New("the page has no place for the table")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := filepath.Glob(filepath.Join(logs, "*.log"))
	if err != nil {
		return fmt.Errorf("find the logs: %w", err)
	}
	var t table
	for _, file := range files {
		if err := t.read(file); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	written, err := between(string(text), begin, end, t.String())
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	rounds, err := clusterTable()
	if err != nil {
		return err
	}
	if written, err = between(written, clusterBegin, clusterEnd, rounds); err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	if err := os.WriteFile(page, []byte(written), 0o644); err != nil { //nolint:gosec // a page of the tree
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// row is all that one harness ran at one commit.
type row struct {
	harness, commit, first, last string
	seeds                        uint64
	counts                       []count
	mutants, noticed             int
}

type count struct {
	what  string
	value float64
}

// table is the page's, with what the logs say was found.
type table struct {
	rows  []*row
	found []string
}

func (t *table) row(harness, commit, date string) *row {
	for _, r := range t.rows {
		if r.harness == harness && r.commit == commit {
			r.first, r.last = min(r.first, date), max(r.last, date)
			return r
		}
	}
	r := &row{harness: harness, commit: commit, first: date, last: date}
	t.rows = append(t.rows, r)
	return r
}

func (t *table) read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read a log: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if note, isNote := strings.CutPrefix(line, "# "); isNote {
			t.found = append(t.found, strings.TrimSuffix(filepath.Base(file), ".log")+", "+note)
			continue
		}
		t.line(strings.Fields(line))
	}
	return lines.Err()
}

// line adds one: date, commit, harness, and pairs of names and numbers; a
// mutant's is its own.
func (t *table) line(words []string) {
	if len(words) < 4 {
		return
	}
	if words[2] == "mutant" {
		r := t.row("mutants", words[1], words[0])
		r.mutants++
		if !strings.Contains(strings.Join(words, " "), `noticed by "nobody"`) {
			r.noticed++
		}
		return
	}
	r := t.row(words[2], words[1], words[0])
	if words[3] == "seeds" && len(words) > 6 {
		from, err1 := strconv.ParseUint(words[4], 10, 64)
		to, err2 := strconv.ParseUint(words[6], 10, 64)
		if err1 == nil && err2 == nil {
			r.seeds += to - from + 1
		}
		words = words[4:]
	}
	for i := 3; i+1 < len(words); i += 2 {
		if v, err := strconv.ParseFloat(words[i+1], 64); err == nil {
			r.add(words[i], v)
		}
	}
}

func (r *row) add(what string, v float64) {
	for i := range r.counts {
		if r.counts[i].what == what {
			r.counts[i].value += v
			return
		}
	}
	r.counts = append(r.counts, count{what, v})
}

// String is the table in Markdown, and the list of what was found.
func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| harness | commit | when | seeds | what happened in them |\n|---|---|---|---|---|\n")
	slices.SortStableFunc(t.rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.harness, b.harness), cmp.Compare(a.first, b.first))
	})
	for _, r := range t.rows {
		when := r.first
		if r.last != r.first {
			when += " to " + r.last
		}
		seeds, what := strconv.FormatUint(r.seeds, 10), make([]string, 0, len(r.counts))
		for _, c := range r.counts {
			what = append(what, strconv.FormatFloat(c.value, 'f', 0, 64)+" "+strings.ReplaceAll(c.what, "-", " "))
		}
		if r.mutants > 0 {
			seeds, what = "", []string{fmt.Sprintf("%d of %d noticed", r.noticed, r.mutants)}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.harness, r.commit, when, seeds, strings.Join(what, ", "))
	}
	if len(t.found) > 0 {
		b.WriteString("\nWhat ended a run, as its log has it:\n\n")
		for _, f := range t.found {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	return b.String()
}
