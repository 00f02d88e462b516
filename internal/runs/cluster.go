package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

const (
	clusterLog   = "docs/runs/cluster.jsonl"
	clusterBegin = "<!-- cluster: written by make runs -->\n"
	clusterEnd   = "<!-- /cluster -->\n"
)

// clusterRound is a line of the log of make soak-cluster.
type clusterRound struct {
	At, Commit, Fault, Found string
	Rate, Sent, History      int
	Gap                      float64 `json:"gap_ms"`
	Outage                   float64 `json:"outage_ms"`
}

// clusterTable is what that log has, by fault.
func clusterTable() (string, error) {
	text, err := os.ReadFile(clusterLog)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the log: %w", err)
	}
	byFault := map[string][]clusterRound{}
	var faults []string
	for line := range strings.Lines(string(text)) {
		var r clusterRound
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return "", fmt.Errorf("%s: %w", clusterLog, err)
		}
		if byFault[r.Fault] == nil {
			faults = append(faults, r.Fault)
		}
		byFault[r.Fault] = append(byFault[r.Fault], r)
	}
	slices.Sort(faults)
	var b strings.Builder
	b.WriteString("| fault | rounds | commits | payments at a rate of | longest time without an answer, ms: p50, p99, worst | to the first answer after a leader's fault, ms, worst | found |\n|---|---|---|---|---|---|---|\n")
	for _, fault := range faults {
		var gaps []float64
		var commits []string
		sent, rate, found, outage := 0, 0, 0, 0.0
		for _, r := range byFault[fault] {
			gaps, sent, rate = append(gaps, r.Gap), sent+r.Sent, max(rate, r.Rate)
			if !slices.Contains(commits, r.Commit) {
				commits = append(commits, r.Commit)
			}
			outage = max(outage, r.Outage)
			if r.Found != "" {
				found++
			}
		}
		slices.Sort(gaps)
		at := func(p float64) float64 { return gaps[int(p*float64(len(gaps)-1)+0.5)] }
		fmt.Fprintf(&b, "| %s | %d | %s | %d at %d/s | %.0f, %.0f, %.0f | %.0f | %d |\n", fault, len(gaps), strings.Join(commits, ", "), sent, rate, at(0.5), at(0.99), at(1), outage, found)
	}
	return b.String(), nil
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
