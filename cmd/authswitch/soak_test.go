package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// One round is part of `make test`; `make soak` runs fifty.
var (
	soakRounds = flag.Int("soak.rounds", 1, "rounds of kill -9 under load")
	soakSeed   = flag.Uint64("soak.seed", 0, "seed of the moments of the kills; 0 draws one")
	soakRate   = flag.Int("soak.rate", 1000, "authorizations a second")
)

// TestKillUnderLoad kills the node at random moments under load, lets it come
// back, and holds what the gateways were told, the journal and the acquirers'
// ledgers against each other. The simulators pack and unpack with moov's codec;
// every other one forgets reversals of what it never saw (dev's scenarios).
func TestKillUnderLoad(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again: go test ./cmd/authswitch -run TestKillUnderLoad -count=1 -v -soak.rounds=%d -soak.seed=%d", *soakRounds, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	d := startDev(t, "--sim-codec", "moov")
	for round := range *soakRounds {
		started := time.Now()
		report := killRound(t, d, round, random)
		t.Logf("round %d: %s, %.1f s", round+1, report, time.Since(started).Seconds())
		if t.Failed() {
			return
		}
	}
	checkVerifierNotices(t, d, *soakRounds-1)
}

// killRound is one load with one kill in it, then the comparison.
func killRound(t *testing.T, d *instance, round int, random *rand.Rand) string {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	answers := filepath.Join(d.dir, fmt.Sprintf("answers-%d.jsonl", round))
	load := exec.Command(program, "bench", "run", "--api", d.info.API, "--key", d.info.Key, "--rate", fmt.Sprint(*soakRate),
		"--duration", "6s", "--poisson", "--mix", "declined=10,unavailable=3,silent=1,late=1", "--answers", answers, "--json")
	var out, progress bytes.Buffer
	load.Stdout, load.Stderr = &out, &progress
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second + time.Duration(random.Int64N(int64(4*time.Second)))) // the random moment of the kill
	pid := d.pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("round %d: kill %d: %v", round+1, pid, err)
	}
	if err := load.Wait(); err != nil {
		t.Fatalf("round %d: load: %v\n%s", round+1, err, tail(progress.String(), 2000))
	}
	if again := d.pid(); again == pid {
		t.Errorf("round %d: the node was not started again", round+1)
	}
	var result struct{ Sent, Answered, Approved, Declined, Unknown, Retried int }
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("round %d: %v in %q", round+1, err, out.String())
	}
	if result.Answered != result.Sent || result.Approved == 0 {
		t.Errorf("round %d: %d of %d got a final answer, %d approved", round+1, result.Answered, result.Sent, result.Approved)
	}
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "60s")
	if code != 0 {
		t.Errorf("round %d: verify says\n%s%s", round+1, tail(stdout, 3000), tail(stderr, 1000))
	}
	return fmt.Sprintf("%d sent, %d approved, %d declined, %d unknown, %d retried", result.Sent, result.Approved, result.Declined, result.Unknown, result.Retried)
}

// checkVerifierNotices checks the checker: an approval removed from a copy of
// a ledger and a flipped answer are each named.
func checkVerifierNotices(t *testing.T, d *instance, round int) {
	t.Helper()
	answers := filepath.Join(d.dir, fmt.Sprintf("answers-%d.jsonl", round))
	verify := func(ledger, answers string) (string, int) {
		args := []string{"bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "5s"}
		for _, l := range d.info.Links {
			path := l.Ledger
			if l.Name == "visa-a" {
				path = ledger
			}
			args = append(args, "--ledger", path)
		}
		stdout, stderr, code := run(t, args...)
		return stdout + stderr, code
	}

	shortened, removed := withoutLine(t, d.ledger("visa-a"), `"decision":"approved"`)
	said, code := verify(shortened, answers)
	name := "STAN " + textAfter(removed, `"stan":"`) + " at " + textAfter(removed, `"transmitted":"`)
	if code != 1 || !strings.Contains(said, name) {
		t.Errorf("a removed approval (%s): exit %d\n%s", name, code, tail(said, 2000))
	}

	flipped, line := flippedLine(t, answers)
	said, code = verify(d.ledger("visa-a"), flipped)
	if key := textAfter(line, `"key":"`); code != 1 || !strings.Contains(said, key) {
		t.Errorf("a flipped answer (key %s): exit %d\n%s", key, code, tail(said, 2000))
	}
}

// withoutLine copies a file without the first line that contains a text.
func withoutLine(t *testing.T, path, text string) (shortened, removed string) {
	t.Helper()
	lines := readLines(t, path)
	for i, line := range lines {
		if strings.Contains(line, text) {
			rest := strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "")
			return writeCopy(t, rest), line
		}
	}
	t.Fatalf("%s has no line with %s", path, text)
	return "", ""
}

// flippedLine copies the answers with one final approval turned into a decline.
func flippedLine(t *testing.T, path string) (flipped, original string) {
	t.Helper()
	lines := readLines(t, path)
	for i, line := range lines {
		if strings.Contains(line, `"approved"`) && strings.Contains(line, `"final":true`) {
			lines[i] = strings.ReplaceAll(line, `"approved"`, `"declined"`)
			return writeCopy(t, strings.Join(lines, "")), line
		}
	}
	t.Fatal("no approved answer to flip")
	return "", ""
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(string(b), "\n")
}

func writeCopy(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.jsonl")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// textAfter is what stands between a mark and the next quote.
func textAfter(line, mark string) string {
	_, rest, _ := strings.Cut(line, mark)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
