package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	realPage    = "../../docs/performance.md"
	realReadme  = "../../README.md"
	realResults = "../results.json"
)

// Every figure that the table can write, and every one that stands in the
// committed results, is explained: in backticks, in the first column.
func TestEveryFigureIsExplained(t *testing.T) {
	page, err := os.ReadFile(realPage)
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		for _, name := range regexp.MustCompile("`([a-z_]+\\.[a-z0-9_]+)`").FindAllStringSubmatch(cells[1], -1) {
			explained[name[1]] = true
		}
	}
	for _, name := range figureNames(t) {
		if !explained[name] {
			t.Errorf("%s is not explained in docs/performance.md", name)
		}
		delete(explained, name)
	}
	// What is put together from two parts in the sources.
	for _, name := range []string{
		"codec.pack_ns", "codec.unpack_ns", "codec.pack_ratio_moov", "codec.unpack_ratio_moov",
		"codec.bcd_pack_ns", "codec.bcd_unpack_ns", "codec.bcd_pack_ratio_moov", "codec.bcd_unpack_ratio_moov",
		"one_node.cpu_us_node", "one_node.cpu_us_generator", "one_node.cpu_us_simulator",
		"one_node.cpu_us_door", "one_node.cpu_us_switch", "one_node.cpu_us_codec", "one_node.cpu_us_link", "one_node.cpu_us_journal", "one_node.cpu_us_runtime",
		"records.plain_cpu_us", "records.captured_cpu_us", "records.stored_card_cpu_us", "records.tagged_cpu_us",
		"three_nodes.cpu_us_node", "three_nodes.cpu_us_generator", "three_nodes.cpu_us_simulator",
		"one_node.stage_us_encode", "one_node.stage_us_open", "one_node.stage_us_exchange", "one_node.stage_us_close",
	} {
		delete(explained, name)
	}
	if len(explained) > 0 {
		t.Errorf("explained, but nothing writes it: %v", slices.Sorted(maps.Keys(explained)))
	}
}

// figureNames are those in the sources, in the rows and in the results.
func figureNames(t *testing.T) []string {
	names := map[string]bool{}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`figures\["([a-z_]+\.[a-z0-9_]*[a-z0-9])"\]`)
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range literal.FindAllStringSubmatch(string(source), -1) {
			names[found[1]] = true
		}
	}
	if len(names) < 20 {
		t.Fatalf("only %d figures in the sources", len(names))
	}
	for _, r := range rows() {
		names[r.figure] = true
		if r.beside != "" {
			names[r.beside] = true
		}
	}
	for _, s := range steps() {
		names[s.figure] = true
	}
	content, err := os.ReadFile(realResults)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a tree that was never measured has none
		t.Fatal(err)
	}
	if err == nil {
		var results map[string]float64
		if err := json.Unmarshal(content, &results); err != nil {
			t.Fatalf("results.json is not flat, name → number: %v", err)
		}
		for name := range results {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// The committed documents show the committed results, to the byte.
func TestDocumentsShowTheResults(t *testing.T) {
	results, err := os.ReadFile(realResults)
	if errors.Is(err, fs.ErrNotExist) {
		results = []byte("{}") // the markers must be there all the same
	} else if err != nil {
		t.Fatal(err)
	}
	m := copies(t, string(results), read(t, realPage), read(t, realReadme))
	if err := m.document(""); err != nil {
		t.Fatal(err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	for real, copied := range map[string]string{realPage: m.page, realReadme: m.readme} {
		if read(t, real) != read(t, copied) {
			t.Errorf("%s is not what results.json says: go run ./bench/table -doc", filepath.Base(real))
		}
	}
}

const emptyPage = "# P\n<!-- measured -->\nold\n<!-- /measured -->\nkept\n<!-- budget -->\n<!-- /budget -->\n"

func TestDocument(t *testing.T) {
	m := copies(t, `{"codec.pack_ns":700,"codec.pack_ratio_moov":17.2,"link.roundtrips_per_s":97500,"one_node.valid":0,"one_node.p99_ms":120,"one_node.late_ms":31.5,
		"one_node.cpu_us_door":25,"one_node.cpu_us_link":5,"node.mac_pin_cpu_us":140,"node.mac_pin_ratio":1.25}`, emptyPage, "# R\n<!-- speed -->\n<!-- /speed -->\ntail\n")
	if err := m.document("a big machine"); err != nil {
		t.Fatal(err)
	}
	page, readme := read(t, m.page), read(t, m.readme)
	for _, want := range []string{
		"Measured on a big machine, all", "| ≤ 1500 | 700 | met | 17.2 × better than moov-io/iso8583 |", "| ≥ 130000 | 97500 | **short of the target** by 25 % |",
		"Short of the target: link: round trips, 256 in flight, one connection, /s (97500, ≥ 130000); one node: p99", "| 120 | **short of the target**: 2.4 times of it |", "Not measured: codec: unpack it, ns;",
		"not valid: the generator itself was late by 31.5 ms", "\nkept\n", "| 20 | 25 | over its budget |", "| 6 | 5 |  |", "a PIN, all processes, µs |  | 140 |  | 1.25 × that of one without |", "| 30 | not measured | |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "old") || !strings.HasSuffix(readme, "\n<!-- /speed -->\ntail\n") || strings.Contains(readme, "in BCD, ns |") {
		t.Errorf("page:\n%s\nreadme:\n%s", page, readme)
	}
	if err := m.document(""); err != nil { // rewritten elsewhere: the same machine, the same bytes
		t.Fatal(err)
	}
	if read(t, m.page) != page || read(t, m.readme) != readme {
		t.Errorf("rewriting changed it:\n%s", read(t, m.page))
	}
}

func TestDocumentWithoutItsPlaces(t *testing.T) {
	if err := copies(t, "{}", "# no places\n", "").document("m"); !errors.Is(err, errMarkers) {
		t.Errorf("a page without markers: %v", err)
	}
	if err := copies(t, "{}", emptyPage, "# none\n").document("m"); !errors.Is(err, errMarkers) {
		t.Errorf("a README without markers: %v", err)
	}
}

// The budget's parts add up to the targets that they are parts of.
func TestBudgetAddsUp(t *testing.T) {
	targets, all, node := map[string]float64{}, 0.0, 0.0
	for _, r := range rows() {
		targets[r.figure] = r.target
	}
	for i, s := range steps() {
		all += s.budget
		if i < 6 {
			node += s.budget
		}
	}
	if node != targets["one_node.cpu_us_node"] || all != targets["one_node.cpu_us_per_authorization"] {
		t.Errorf("node %v, all %v", node, all)
	}
}

// copies is a table whose files are the test's own.
func copies(t *testing.T, results, page, readme string) *table {
	folder := t.TempDir()
	m := &table{settings: settings{out: filepath.Join(folder, "results.json"), page: filepath.Join(folder, "page.md"), readme: filepath.Join(folder, "readme.md")}}
	for name, content := range map[string]string{m.out: results, m.page: page, m.readme: readme} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func read(t *testing.T, name string) string {
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
