package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file that is in the tree is the one that the sources make.
func TestUpToDate(t *testing.T) {
	want, err := document("../..")
	if err != nil {
		t.Fatalf("limits cannot be read from the sources:\n%v", err)
	}
	got, err := os.ReadFile(filepath.Join("../..", output))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	had := strings.Split(string(got), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(had) || had[i] != line {
			t.Fatalf("%s is out of date: run `make docs`. Its line %d should be\n%s", output, i+1, line)
		}
	}
	t.Fatalf("%s is out of date: run `make docs`", output)
}

// source is a package with one limit of each kind.
const source = `package p

import "time"

// maxThings bounds the things.
const maxThings = 8 << 10

// The two go together.
const (
	first  = time.Second
	second = 2 * first // for what comes after
)

type Config struct {
	Name   string        ` + "`yaml:\"name\"`" + ` // no limit
	Wait   time.Duration ` + "`yaml:\"wait\"`" + ` // 90s for an answer
	Window int           ` + "`yaml:\"window,omitempty\"`" + ` // at once; default 4,096, per line
	// FileBytes is what a file may have.
	FileBytes int64 ` + "`yaml:\"file_bytes\"`" + ` // 16 MiB
	Burst     int   ` + "`yaml:\"burst\"`" + ` // 0: none
	hidden    int   // no key, no limit
}

func (c Config) withDefaults() Config {
	set(&c.Wait, 90*time.Second)
	set(&c.Window, max(1, min(4096, maxThings)))
	if c.FileBytes == 0 {
		c.FileBytes = 16 << 20
	}
	return c
}
`

func folderOf(t *testing.T, text string) *folder {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := readFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRows(t *testing.T) {
	f := folderOf(t, source)
	rows, faults := f.limits("Config", "p.")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := []row{
		{"p.wait", "90", "s", "for an answer"},
		{"p.window", "4,096", "requests", "at once; per line"},
		{"p.file_bytes", "16", "MiB", "what a file may have"},
		{"p.burst", "0", "requests", "none"},
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows: %v", len(rows), rows)
	}
	for i := range want {
		if rows[i] != want[i] {
			t.Errorf("%v, want %v", rows[i], want[i])
		}
	}
	for _, c := range []struct {
		name, unit string
		want       row
	}{
		{"maxThings", "bytes", row{"p.maxThings", "8", "KiB", "bounds the things"}},
		{"maxThings", "things", row{"p.maxThings", "8,192", "things", "bounds the things"}},
		{"first", "", row{"p.first", "1", "s", "The two go together"}},
		{"second", "", row{"p.second", "2", "s", "for what comes after"}},
	} {
		got, err := f.constant("p", c.name, c.unit)
		if err != nil || got != c.want {
			t.Errorf("%v %v, want %v", got, err, c.want)
		}
	}
}

// What would make the document untrue stops it.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"// 90s for", "// 60s for", `the comment says "60s", the code fills in 90000000000`},
		{"default 4,096", "default 4,000", `the comment says "4,000", the code fills in 4096`},
		{"// 16 MiB", "// 16 KiB", `the comment says "16 KiB"`},
		{"// 0: none", "// 0", "a comment must say the reason"},
		{"// 90s for an answer", "", "a comment must say the reason"},
		{`yaml:\"burst\"`, `yaml:\"bursts\"`, "give its unit"},
		{"90*time.Second", "wait()", "too clever to be read here"},
		{"90*time.Second", "90/time.Second", "too clever to be read here"},
		{"type Config", "type Settings", "no struct Config"},
	} {
		old, changed := strings.ReplaceAll(c.old, `\"`, `"`), strings.ReplaceAll(c.new, `\"`, `"`)
		text := strings.Replace(source, old, changed, 1)
		if text == source {
			t.Errorf("%q is not in the source", c.old)
		}
		_, faults := folderOf(t, text).limits("Config", "p.")
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), c.want) {
			t.Errorf("%q for %q: %v, want %q", c.new, c.old, faults, c.want)
		}
	}
	f := folderOf(t, strings.Replace(source, "// maxThings bounds the things.", "", 1))
	if _, err := f.constant("p", "maxThings", "things"); err == nil {
		t.Error("a constant without a reason was taken")
	}
	if _, err := f.constant("p", "minThings", "things"); err == nil {
		t.Error("a constant that is not there was taken")
	}
	if _, err := readFolder(t.TempDir()); err == nil {
		t.Error("an empty folder was taken")
	}
}
