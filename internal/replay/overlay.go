package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

var errOtherSource = errors.New("this Go's runtime is another one than the overlay was made for (go1.26)")

// edit is one change of a source file of package runtime: a text that is there
// exactly so many times, and what stands there instead.
type edit struct {
	file, old, with string
	times           int
}

// edits are the whole difference to stock Go. What the program under test draws
// and when it is scheduled must hang on nothing but what it did before:
//
//   - one process seed, so that hash keys and map seeds are the same;
//   - inside a bubble one stream of random numbers for map order, select, equal
//     timers, math/rand and interface caches, not one for each thread, since which
//     thread runs a goroutine is the kernel's choice;
//   - nothing happens because time passed: sysmon preempts nobody and takes no
//     processor from a system call;
//   - a mutex starves by the bubble's clock.
func edits() []edit {
	return []edit{
		{"rand.go", "\tglobalRand.state.Init(*seed)\n", "\tfor i := range seed {\n\t\tseed[i] = byte(i)\n\t}\n\tglobalRand.state.Init(*seed)\n", 1},
		{"rand.go", "func rand() uint64 {\n", "func rand() uint64 {\n\tif b := replayBubble(); b != nil {\n\t\treturn b.draw()\n\t}\n", 1},
		{"rand.go", "\tmp.cheaprand = rand()\n", "\tmp.cheaprand = bootstrapRand()\n", 1},
		{"select.go", "cheaprandn(uint32(norder + 1))", "replayRandn(uint32(norder + 1))", 1},
		{"time.go", "\t\t\tt.rand = cheaprand()\n", "\t\t\tt.rand = uint32(getg().bubble.draw())\n", 1},
		{"iface.go", "cheaprand()", "replayRand()", 4},
		{"sema.go", "func internal_sync_nanotime() int64 {\n", "func internal_sync_nanotime() int64 {\n\tif b := replayBubble(); b != nil {\n\t\treturn b.now\n\t}\n", 1},
		{"proc.go", "func retake(now int64) uint32 {\n", "func retake(now int64) uint32 {\n\treturn 0\n}\n\nfunc retakeNever(now int64) uint32 {\n", 1},
		{"synctest.go", "type synctestBubble struct {\n", "type synctestBubble struct {\n\treplay uint64 // the stream of random numbers\n", 1},
		{"synctest.go", "\tbubble.now = synctestBaseTime\n", "\tbubble.now = synctestBaseTime\n\tbubble.seed()\n", 1},
	}
}

// added is a file that package runtime gains.
//
//go:embed runtime_replay.go.txt
var added string

// overlay writes the changed files into dir and returns the file that go build
// -overlay reads.
func overlay(goroot, dir string) (string, error) {
	texts := map[string]string{}
	for _, e := range edits() {
		if _, read := texts[e.file]; !read {
			b, err := os.ReadFile(filepath.Join(goroot, "src", "runtime", e.file))
			if err != nil {
				return "", fmt.Errorf("read the runtime: %w", err)
			}
			texts[e.file] = string(b)
		}
		if n := strings.Count(texts[e.file], e.old); n != e.times {
			return "", fmt.Errorf("%w: %s has %q %d times, not %d", errOtherSource, e.file, e.old, n, e.times)
		}
		texts[e.file] = strings.ReplaceAll(texts[e.file], e.old, e.with)
	}
	texts["replay.go"] = added
	replace := map[string]string{}
	for name, text := range texts {
		changed := filepath.Join(dir, name)
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write the overlay: %w", err)
		}
		replace[filepath.Join(goroot, "src", "runtime", name)] = changed
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	return file, nil
}
