package archtest

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestSources(t *testing.T) {
	root := os.DirFS("../..")
	broken, err := Check(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// Every row of the rules names folders that exist: a rule for what is gone
// guards nothing. What a row allows is also used, so that the picture is of
// this program.
func TestRulesAreOfThisProgram(t *testing.T) {
	root := os.DirFS("../..")
	used := importsOf(t, root)
	for _, r := range rules() {
		if used[r.folder] == nil {
			t.Errorf("%s has a rule and no Go file", r.folder)
		}
	}
	for _, l := range libraries() {
		for _, row := range l.folders {
			found := false
			for folder, imports := range used {
				found = found || covers(row, folder) && slices.ContainsFunc(imports, func(i string) bool { return strings.HasPrefix(i, l.path) })
			}
			if !found {
				t.Errorf("%s may import %s and does not: take it out of the row", row, l.path)
			}
		}
	}
	for _, folder := range append(deciders(), injected()...) {
		if used[folder] == nil {
			t.Errorf("%s is to be pure and has no Go file", folder)
		}
	}
}

// importsOf are the imports of every folder, by a plain reading of lines.
func importsOf(t *testing.T, root fs.FS) map[string][]string {
	t.Helper()
	used := map[string][]string{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && skipped(name) {
			return fs.SkipDir
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		folder := path.Dir(name)
		if used[folder] == nil {
			used[folder] = []string{}
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Split(line, `"`); len(fields) == 3 && strings.Contains(fields[1], "/") {
				used[folder] = append(used[folder], fields[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// One line per case: a file, its text, and what must be said of it ("" for
// nothing).
func TestChecker(t *testing.T) {
	long := strings.Repeat("\n", maxFileLines)
	for _, c := range []struct{ name, text, says string }{
		{"card/x.go", "package card\n", ""},
		{"payment/x.go", "package payment\nimport \"authswitch/card\"\n", ""},
		{"card/x.go", "package card\nimport \"authswitch/payment\"\n", "card/x.go:2: card must not import payment; it may import nothing of ours"},
		{"store/x.go", "package store\nimport \"authswitch/card\"\n", "store must not import card; it may import journal, payment"},
		{"api/x.go", "package api\nimport \"authswitch/store\"\n", "api must not import store"},
		{"sim/oracle/x.go", "package oracle\nimport \"authswitch/iso8583\"\n", "sim/oracle must not import iso8583"},
		{"link/x.go", "package link\nimport \"authswitch/cmd/authswitch\"\n", "link must not import cmd/authswitch"},
		{"store/x_test.go", "package store\nimport \"authswitch/card\"\n", ""},
		{"store/bubble/x.go", "package bubble\nimport \"authswitch/switch\"\n", ""},
		{"bench/peers/x.go", "package peers\nimport \"github.com/moov-io/iso8583-connection\"\n", ""},
		{"store/testdata/x.go", "this is not Go", ""},
		{".git/x.go", "this is not Go", ""},
		{"newcomer/x.go", "package newcomer\n", `folder "newcomer" has no rule`},
		{"x.go", "package main\n", `folder "." has no rule`},

		{"iso8583/x.go", "package iso8583\nimport moov \"github.com/moov-io/iso8583\"\n", ""},
		{"iso8583/x.go", "package iso8583\nimport \"github.com/moov-io/iso8583\"\n", "is imported as moov"},
		{"iso8583/x.go", "package iso8583\nimport \"github.com/moov-io/iso8583/encoding\"\n", ""},
		{"link/x.go", "package link\nimport moov \"github.com/moov-io/iso8583\"\n", "link must not import github.com/moov-io/iso8583"},
		{"journal/x.go", "package journal\nimport \"github.com/cockroachdb/pebble/v2/vfs\"\n", "only store may"},
		{"switch/x.go", "package switching\nimport \"github.com/hashicorp/raft\"\n", "only store may"},
		{"cmd/authswitch/x.go", "package main\nimport \"github.com/valyala/fasthttp\"\n", "cmd/authswitch must not import github.com/valyala/fasthttp"},
		{"cmd/authswitch/simcmd/x.go", "package simcmd\nimport \"github.com/spf13/cobra\"\n", ""},
		{"link/x.go", "package link\nimport \"github.com/spf13/cobra\"\n", "link must not import github.com/spf13/cobra"},
		{"link/x.go", "package link\nimport \"example.com/new\"\n", "example.com/new is a library without a row"},
		{"link/x.go", "package link\nimport \"golang.org/x/syncopate\"\n", "a library without a row"},
		{"link/x.go", "package link\nimport \"C\"\n", "cgo"},
		{"link/x.go", "package link\nimport _ \"net/http/pprof\"\n", "for its effects"},
		{"link/x.go", "package link\nimport . \"fmt\"\n", "with a dot"},
		{"routing/x.go", "package routing\nimport _ \"embed\"\n", ""},
		{"link/x.go", "package link\nfunc init() {}\n", "func init"},
		{"link/x.go", "package link\ntype t struct{}\nfunc (t) init() {}\n", ""},

		{"journal/x.go", "package journal\nimport \"time\"\nvar d = time.Second\n", ""},
		{"journal/x.go", "package journal\nimport \"time\"\nfunc f() { _ = time.Now() }\n", "journal/x.go:3: time.Now"},
		{"journal/x.go", "package journal\nimport \"time\"\nvar now = time.Now\n", "time.Now"},
		{"journal/x.go", "package journal\nimport clock \"time\"\nvar now = clock.Now\n", "time.Now"},
		{"routing/x.go", "package routing\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep"},
		{"routing/x.go", "package routing\nfunc f() { go f() }\n", "go statement"},
		{"vault/x.go", "package vault\nimport \"crypto/rand\"\nvar _ = rand.Reader\n", `import of "crypto/rand"`},
		{"switch/x.go", "package switching\nimport \"time\"\nvar now = time.Now\n", "comes from its injected Now"},
		{"switch/x.go", "package switching\nimport \"time\"\nvar t = time.NewTimer\n", ""},
		{"store/x.go", "package store\nimport \"time\"\nvar now = time.Now\n", ""},

		{"link/x.go", "package link\n" + long[1:], ""},
		{"link/x.go", "package link\n" + long, "the file has 501 lines; 500 are allowed"},
		{"link/x_test.go", "package link\n" + long, ""},
		{"link/x.go", "// Code generated by a tool. DO NOT EDIT.\npackage link\n" + long, ""},
	} {
		broken, err := Check(fstest.MapFS{c.name: {Data: []byte(c.text)}})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := strings.Join(broken, "; "); c.says == "" && got != "" || !strings.Contains(got, c.says) || len(broken) > 1 {
			t.Errorf("%s %q:\n%s\nwant %s", c.name, c.text[:min(len(c.text), 80)], got, c.says)
		}
	}
	if _, err := Check(fstest.MapFS{"card/x.go": {Data: []byte("this is not Go")}}); err == nil {
		t.Error("a file that does not parse passes")
	}
}
