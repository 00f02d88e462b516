// Package mutants breaks the core on purpose, one line at a time, and shows that
// the simulation, the bubble or a package's tests notice: a proof that cannot
// fail proves nothing.
//
// Each mutant is a line of a source file and what stands there instead, laid over
// the tree by go build -overlay; the tree itself is not touched. A mutant whose
// line is no longer there fails, so that the table follows the sources.
//
//	go test ./internal/mutants -all -v        every mutant (make mutants)
//	go test ./internal/mutants -only NAME -v
package mutants

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	allFlag    = flag.Bool("all", false, "run every mutant")
	onlyFlag   = flag.String("only", "", "run these mutants, by name, with commas between")
	logFlag    = flag.String("mutantlog", "", "append one line a mutant to this file")
	commitFlag = flag.String("commit", "unknown", "the commit that is tested, for the log")
)

// inTest are the mutants that `make test` runs.
var inTest = []string{"answered before it is durable", "a repeat never comes"}

// seeds is within how many a mutant must be noticed.
const seeds = 200

// simulation, bubble and packages are the commands that notice.
func simulation() []string {
	return []string{"./internal/simulation", "-run", "^TestSeeds$", "-seeds", fmt.Sprintf("1:%d", seeds)}
}

// interleavings are the amount rules under random operations.
func interleavings() []string {
	return []string{"./journal", "-run", "^TestInterleavings$", "-interleavings", "60"}
}

func bubble(count int) []string {
	return []string{"./store/bubble", "-run", "^TestBubble$", "-seeds", fmt.Sprintf("1:%d", min(count, seeds))}
}

func TestMutants(t *testing.T) {
	chosen := map[string]bool{}
	for _, name := range inTest {
		chosen[name] = true
	}
	if *onlyFlag != "" {
		clear(chosen)
		for name := range strings.SplitSeq(*onlyFlag, ",") {
			chosen[name] = true
		}
	}
	noticed, ran := 0, 0
	for _, m := range mutants() {
		overlay, err := m.overlay(t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if testing.Short() || !*allFlag && !chosen[m.name] {
			continue
		}
		ran++
		if m.run(t, overlay) {
			noticed++
		}
	}
	t.Logf("%d of %d mutants noticed", noticed, ran)
}

// mutant is one deliberate break.
type mutant struct {
	name     string
	file     string
	old, new string
	by       []string // go test's arguments
}

// overlay writes the broken file and the map that lays it over the tree.
func (m *mutant) overlay(dir string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("%s has %d places to break, not one: give the mutant its new line", m.file, n)
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// ended finds what noticed, and after how many seeds.
var (
	ended  = regexp.MustCompile(`(?m)seed (\d+): ([A-Z0-9a-z, ]+?)(?: at [^:]*)?: (.*)$`)
	failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: .*)$`)
)

func (m *mutant) run(t *testing.T, overlay string) bool {
	began := time.Now()
	args := append([]string{"test", "-vet=off", "-count=1", "-timeout", "30m", "-overlay", overlay}, m.by...)
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	took := time.Since(began).Seconds()
	text := string(out)
	how := ""
	switch found := ended.FindStringSubmatch(text); {
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		t.Errorf("%s does not build:\n%s", m.name, text)
	case err == nil:
		t.Errorf("%s: nobody noticed, in %.0f s: go %s", m.name, took, strings.Join(args, " "))
	case found != nil:
		how = fmt.Sprintf("%s seed %s: %s", strings.TrimPrefix(m.by[0], "./"), found[1], found[2])
	case failed.MatchString(text):
		how = strings.TrimPrefix(m.by[0], "./") + ": " + strings.TrimSpace(failed.FindString(text))
	default:
		t.Errorf("%s: %v\n%s", m.name, err, text)
	}
	if how != "" {
		t.Logf("%-45s noticed by %s (%.0f s)", m.name, how, took)
	}
	m.note(how, took)
	return how != ""
}

func (m *mutant) note(how string, took float64) {
	if *logFlag == "" {
		return
	}
	f, err := os.OpenFile(*logFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if how == "" {
		how = "nobody"
	}
	fmt.Fprintf(f, "%s %s mutant %q noticed by %q seconds %.0f\n", time.Now().UTC().Format("2006-01-02"), *commitFlag, m.name, how, took)
}
