package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

const (
	clusterLog   = "docs/runs/cluster.jsonl"
	clusterBegin = "<!-- cluster: written by make runs -->\n"
	clusterEnd   = "<!-- /cluster -->\n"
)

// clusterLine is a line of the log of make soak-cluster: a fault, or a round of
// them, which has no fault; the first lines of the log are both in one.
type clusterLine struct {
	Commit, Fault, Node, Found                       string
	Rate, Sent, Approved, Declined, Unknown, History int
	Seconds                                          float64
	Gap                                              float64 `json:"gap_ms"`
	Outage                                           float64 `json:"outage_ms"`
	Ready                                            float64 `json:"ready_ms"`
	HandOver                                         float64 `json:"hand_over_ms"`
	Calm                                             float64 `json:"calm_p99_ms"`
	Traced                                           float64 `json:"traced_p99_ms"`
	Slow                                             float64 `json:"slow_p99_ms"`
	Versions                                         string
}

// clusterSeries is all that ran at one rate with one program: numbers of two are
// not of one distribution.
type clusterSeries struct {
	rate                                                 int
	commit                                               string
	rounds, faults, found, deaths, partitions, powerCuts int
	total                                                clusterLine // sums of the rounds'
	byFault                                              map[string][]clusterLine
}

// clusterTable is what that log has, by rate, program and fault: the highest
// rate and the newest program first.
func clusterTable() (string, error) {
	text, err := os.ReadFile(clusterLog)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the log: %w", err)
	}
	var all []*clusterSeries
	for line := range strings.Lines(string(text)) {
		var l clusterLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return "", fmt.Errorf("%s: %w", clusterLog, err)
		}
		at := slices.IndexFunc(all, func(s *clusterSeries) bool { return s.rate == l.Rate && s.commit == l.Commit })
		if at < 0 {
			at = len(all)
			all = append(all, &clusterSeries{rate: l.Rate, commit: l.Commit, byFault: map[string][]clusterLine{}})
		}
		all[at].add(l)
	}
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b *clusterSeries) int { return cmp.Compare(b.rate, a.rate) })
	var b strings.Builder
	for _, series := range all {
		series.write(&b)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func (r *clusterSeries) add(l clusterLine) {
	if l.Fault != "" && l.Node != "" { // without one the harness ended before it
		r.faults++
		r.byFault[l.Fault] = append(r.byFault[l.Fault], l)
		switch what, whom, _ := strings.Cut(l.Fault, " "); {
		case what == "kill" && whom != "acquirers":
			r.deaths++
		case what == "cut":
			r.partitions++
		case what == "power":
			r.powerCuts++
		}
	}
	if l.Fault == "" || l.Sent > 0 {
		r.rounds++
		r.total.Seconds += l.Seconds
		r.total.Sent += l.Sent
		r.total.Approved += l.Approved
		r.total.Declined += l.Declined
		r.total.Unknown += l.Unknown
		r.total.History += l.History
		if l.Found != "" {
			r.found++
		}
	}
}

func (r *clusterSeries) write(b *strings.Builder) {
	fmt.Fprintf(b, "At %d/s, commit %s: rounds %d, faults %d, among them kills of nodes %d, partitions %d, power cuts %d; %d payments, %d approved, %d declined, %d neither (unknown and reversed, most of them); porcupine explained %d requests. Rounds in which something was found: %d.\n\n",
		r.rate, r.commit, r.rounds, r.faults, r.deaths, r.partitions, r.powerCuts, r.total.Sent, r.total.Approved, r.total.Declined, r.total.Unknown, r.total.History, r.found)
	b.WriteString("| fault | times | longest time without an answer, ms: p50, p99, worst | to the first answer to what was asked after it, ms: p50, p99, worst | until all were ready, ms: p50, worst | |\n|---|--:|---|---|---|---|\n")
	for _, fault := range slices.Sorted(maps.Keys(r.byFault)) {
		lines := r.byFault[fault]
		gap := spread(lines, func(l clusterLine) float64 { return l.Gap })
		outage := spread(lines, func(l clusterLine) float64 { return l.Outage })
		ready := spread(lines, func(l clusterLine) float64 { return l.Ready })
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s |\n", fault, len(lines), gap.words(0.5, 0.99, 1), outage.words(0.5, 0.99, 1), ready.words(0.5, 1), more(lines))
	}
	b.WriteString("\n")
}

// more is what only a few faults have.
func more(lines []clusterLine) string {
	var words []string
	slower := spread(lines, func(l clusterLine) float64 { return l.Slow / max(l.Traced, 1) })
	if len(slower) > 0 {
		last := lines[len(lines)-1]
		words = append(words, fmt.Sprintf("p99 with slow syncs ÷ without, both traced: p50 %.2f, worst %.2f; the last %.0f and %.0f ms, %.0f untraced", slower.at(0.5), slower.at(1), last.Slow, last.Traced, last.Calm))
	}
	if over := spread(lines, func(l clusterLine) float64 { return l.HandOver }); len(over) > 0 {
		words = append(words, fmt.Sprintf("handed over in %d after p50 %.0f, worst %.0f ms", len(over), over.at(0.5), over.at(1)))
	}
	if stayed := spread(lines, func(l clusterLine) float64 { return -l.HandOver }); len(stayed) > 0 {
		words = append(words, fmt.Sprintf("did not hand over in %d", len(stayed)))
	}
	if versions := lines[len(lines)-1].Versions; versions != "" {
		words = append(words, "version "+versions)
	}
	return strings.Join(words, "; ")
}

// sorted are measurements, the smallest first.
type sorted []float64

// spread are those above zero: what was not measured is zero.
func spread(lines []clusterLine, of func(clusterLine) float64) (s sorted) {
	for _, l := range lines {
		if v := of(l); v > 0 {
			s = append(s, v)
		}
	}
	slices.SortFunc(s, cmp.Compare[float64])
	return s
}

func (s sorted) at(p float64) float64 { return s[int(p*float64(len(s)-1)+0.5)] }

func (s sorted) words(percentiles ...float64) string {
	if len(s) == 0 {
		return ""
	}
	words := make([]string, len(percentiles))
	for i, p := range percentiles {
		words[i] = fmt.Sprintf("%.0f", s.at(p))
	}
	return strings.Join(words, ", ")
}

// between puts a text between two marks of a page.
func between(page, begin, end, text string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", errMarks
	}
	return before + begin + "\n" + text + "\n" + end + after, nil
}
