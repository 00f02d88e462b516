package iso8583

import (
	"io/fs"
	"strings"
	"testing"

	"authswitch/iso8583/dialects"
)

// dialectNames are the files that can be loaded.
func dialectNames(t testing.TB) []string {
	t.Helper()
	files, err := fs.Glob(dialects.FS, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		if !strings.HasPrefix(f, "base-") {
			names = append(names, strings.TrimSuffix(f, ".yaml"))
		}
	}
	return names
}

func load(t testing.TB, name string) *Dialect {
	t.Helper()
	d, err := Load(dialects.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLoadAll(t *testing.T) {
	for _, name := range dialectNames(t) {
		d := load(t, name)
		for _, f := range d.Lint() {
			t.Errorf("%s: %s", name, f)
		}
	}
}

func fsFile(name string) ([]byte, error) { return fs.ReadFile(dialects.FS, name) }
