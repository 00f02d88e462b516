package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverlay: this Go's runtime is the one that the overlay was made for, and
// another one is refused by name.
func TestOverlay(t *testing.T) {
	file, err := overlay(goroot(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rand.go", "proc.go", "replay.go"} {
		if !strings.Contains(string(text), filepath.Join("runtime", name)) {
			t.Errorf("the overlay replaces no %s", name)
		}
	}

	other := t.TempDir()
	for _, e := range edits() {
		b, err := os.ReadFile(filepath.Join(goroot(t), "src", "runtime", e.file))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(other, "src", "runtime", e.file)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(b), "func retake(now int64)", "func retakeOther(now int64)")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := overlay(other, t.TempDir()); !errors.Is(err, errOtherSource) || !strings.Contains(err.Error(), "proc.go") {
		t.Errorf("another runtime: %v", err)
	}
}

func goroot(t *testing.T) string {
	t.Helper()
	b, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
