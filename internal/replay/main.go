// Replay runs seeds of the bubble several times and compares what happened in
// them, bit for bit. Stock Go cannot: it draws the order of maps, of select and
// of goroutines from the kernel's randomness and from the time that passes. So the
// test is built with a small overlay of package runtime, made here from the
// installed Go's own sources, and each run is a process of its own with one
// processor, no collection of garbage and a bare environment.
//
// It is run by make bubble-replay and imported by nobody.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	errNoTrace = errors.New("the run printed no trace")
	errDiffers = errors.New("two runs of one seed differ")
	errSeeds   = errors.New("seeds are written from:count")
)

func main() {
	var r runner
	flag.StringVar(&r.seeds, "seeds", "1:10", "the seeds, from:count")
	flag.IntVar(&r.times, "times", 3, "how often each is run")
	flag.DurationVar(&r.active, "active", 5*time.Minute, "simulated time with traffic and faults")
	flag.StringVar(&r.log, "log", "", "append what was run to this file, and go on after what it says was run")
	flag.StringVar(&r.commit, "commit", "unknown", "the commit that is tested, for the log")
	flag.StringVar(&r.keep, "keep", "", "keep the test binary and each run's events in this folder")
	flag.Parse()
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type runner struct {
	seeds, log, commit, keep string
	times                    int
	active                   time.Duration
	dir                      string
}

func (r *runner) run() error {
	from, count, err := r.which()
	if err != nil {
		return err
	}
	r.dir = r.keep
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "replay"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer os.RemoveAll(r.dir)
	}
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return fmt.Errorf("find the folder: %w", err)
	}
	if err := r.build(); err != nil {
		return err
	}
	for seed := from; seed < from+count; seed++ {
		if err := r.replay(seed); err != nil {
			return err
		}
	}
	return nil
}

// which seeds, after those that the log has.
func (r *runner) which() (from, count uint64, err error) {
	a, b, _ := strings.Cut(r.seeds, ":")
	from, err1 := strconv.ParseUint(a, 10, 64)
	count, err2 := strconv.ParseUint(b, 10, 64)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%q: %w", r.seeds, errSeeds)
	}
	before, err := os.ReadFile(r.log)
	if err != nil && r.log != "" && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("read the log: %w", err)
	}
	for line := range strings.Lines(string(before)) {
		var date, commit string
		var first, last uint64
		if n, _ := fmt.Sscanf(line, "%s %s replay seeds %d to %d", &date, &commit, &first, &last); n == 4 && last >= from && last < from+count {
			count -= last + 1 - from
			from = last + 1
		}
	}
	return from, count, nil
}

// build makes the test binary.
func (r *runner) build() error {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find Go: %w", err)
	}
	file, err := overlay(strings.TrimSpace(string(goroot)), r.dir)
	if err != nil {
		return err
	}
	c := exec.Command("go", "test", "-c", "-overlay", file, "-o", r.binary(), "./store/bubble")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=norandomizedheapbase64")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("build the test: %w", err)
	}
	return nil
}

func (r *runner) binary() string { return filepath.Join(r.dir, "bubble.test") }

// replay runs one seed as often as is asked and compares.
func (r *runner) replay(seed uint64) error {
	began := time.Now()
	var first string
	for n := range r.times {
		trace, err := r.once(seed, n)
		if err != nil {
			return err
		}
		if n == 0 {
			first = trace
		} else if trace != first {
			return fmt.Errorf("seed %d: %s, then %s: %w", seed, first, trace, errDiffers)
		}
	}
	took := time.Since(began)
	fmt.Printf("seed %d: %d times %s, %.1f s\n", seed, r.times, first, took.Seconds())
	return r.note(seed, took)
}

var traced = regexp.MustCompile(`trace ([0-9a-f]{32} of [0-9]+ events)`)

// once is one process. Its environment is its whole difference from another's.
func (r *runner) once(seed uint64, n int) (string, error) {
	c := exec.Command(r.binary(), "-test.run", "^TestBubble$", "-test.v", "-test.timeout", "0",
		"-active", r.active.String(), "-gateways", "2", "-seeds", strconv.FormatUint(seed, 10))
	if r.keep != "" {
		c.Args = append(c.Args, "-events", filepath.Join(r.dir, fmt.Sprintf("%d-%d.events", seed, n)))
	}
	c.Dir = r.dir
	c.Env = []string{
		"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1,memprofilerate=0", "TZ=UTC", "TMPDIR=" + r.dir,
		"REPLAY_SEED=" + strconv.FormatUint(seed, 10),
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	found := traced.FindSubmatch(out.Bytes())
	if found == nil {
		return "", fmt.Errorf("seed %d: %w: %w\n%s", seed, errNoTrace, err, out.String())
	}
	if err != nil {
		return "", fmt.Errorf("seed %d breaks an invariant: %w\n%s", seed, err, out.String())
	}
	return string(found[1]), nil
}

// note writes one line: date, commit, seed, how often, seconds.
func (r *runner) note(seed uint64, took time.Duration) error {
	if r.log == "" {
		return nil
	}
	f, err := os.OpenFile(r.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // a page of the tree
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s %s replay seeds %d to %d alike 1 runs %d simulated %.0f seconds %.1f\n",
		time.Now().UTC().Format("2006-01-02"), r.commit, seed, seed, r.times, r.active.Seconds()*float64(r.times), took.Seconds())
	return errors.Join(err, f.Close())
}
