package simulation_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	seedsFlag  = flag.String("seeds", "", "run these seeds: from:count, or one seed")
	traceFlag  = flag.Bool("trace", false, "print what happened in a seed that fails, or in the only one")
	logFlag    = flag.String("seedlog", "", "append what was run to this file, and go on after what it says was run")
	commitFlag = flag.String("commit", "unknown", "the commit that is tested, for the log")
)

// shortRun is how long the seeds of `make test` run, the same each time as far as they get.
const shortRun = 10 * time.Second

// TestSeeds runs seeds until the first that breaks an invariant.
func TestSeeds(t *testing.T) {
	from, count := uint64(1), uint64(1)<<62
	until := time.Now().Add(shortRun)
	if testing.Short() {
		until = time.Now().Add(shortRun / 5)
	}
	if *seedsFlag != "" {
		until = time.Now().Add(100 * time.Hour)
		from, count = parseSeeds(t, *seedsFlag)
	}
	l := openLog(t)
	defer l.close()
	if l.next > from && l.next < from+count {
		count -= l.next - from
		from = l.next
	}
	t.Logf("seeds from %d: go test ./internal/simulation -run TestSeeds -seeds %d:%d", from, from, min(count, 1000))
	began := time.Now()
	seeds, events := uint64(0), 0
	for seed := from; seed < from+count && time.Now().Before(until); seed++ {
		w := newWorld(seed, *traceFlag && count == 1)
		broken := w.live()
		seeds++
		events += w.events
		l.note(seed, w, broken)
		if count == 1 {
			t.Logf("seed %d: %d events, %s simulated, hash %016x, plan %+v", seed, w.events, w.now, w.hash, w.plan)
			if w.trace != nil {
				t.Log("\n" + w.trace.String())
			}
		}
		if len(broken) > 0 {
			report(t, seed, w, broken)
			break
		}
	}
	took := time.Since(began)
	t.Logf("%d seeds, %d events in %s: %.0f events/s, %.1f seeds/s", seeds, events, took.Round(time.Millisecond),
		float64(events)/took.Seconds(), float64(seeds)/took.Seconds())
}

func parseSeeds(t *testing.T, s string) (from, count uint64) {
	a, b, both := strings.Cut(s, ":")
	from, err := strconv.ParseUint(a, 10, 64)
	count = 1
	if err == nil && both {
		count, err = strconv.ParseUint(b, 10, 64)
	}
	if err != nil {
		t.Fatalf("-seeds %q: %v", s, err)
	}
	return from, count
}

// report names what broke and how to see it again.
func report(t *testing.T, seed uint64, w *world, broken []violation) {
	t.Errorf("seed %d breaks an invariant; run it again with\n\tgo test ./internal/simulation -run TestSeeds -count=1 -v -args -trace -seeds %d", seed, seed)
	for _, v := range broken {
		t.Errorf("seed %d: %s", seed, v)
	}
	t.Logf("plan %+v", w.plan)
}

// TestSameSeedSameRun: a seed gives the same events and the same states.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(6) {
		var hashes [3]string
		for i := range hashes {
			w := newWorld(seed, false)
			w.live()
			hashes[i] = fmt.Sprintf("%016x after %d events", w.hash, w.events)
		}
		if hashes[0] != hashes[1] || hashes[1] != hashes[2] {
			t.Errorf("seed %d: %v", seed, hashes)
		}
	}
}

// seedLog is the file that says what was run. Its last line counts: a run that
// was stopped goes on behind it.
type seedLog struct {
	file   *os.File
	next   uint64
	from   uint64
	seeds  uint64
	events int
	broken int
	began  time.Time
}

const logEvery = 200

func openLog(t *testing.T) *seedLog {
	l := &seedLog{}
	if *logFlag == "" {
		return l
	}
	before, err := os.ReadFile(*logFlag)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(before)) {
		var date, commit string
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%s %s simulation seeds %d to %d", &date, &commit, &from, &to); n == 4 {
			l.next = max(l.next, to+1)
		}
	}
	if l.file, err = os.OpenFile(*logFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *seedLog) note(seed uint64, w *world, broken []violation) {
	if l.file == nil {
		return
	}
	if l.seeds == 0 {
		l.from, l.began = seed, time.Now()
	}
	l.seeds++
	l.events += w.events
	for _, v := range broken {
		l.broken++
		fmt.Fprintf(l.file, "# seed %d: %s\n", seed, v)
	}
	if l.seeds == logEvery || len(broken) > 0 {
		l.flush(seed)
	}
}

// flush writes one line: date, commit, seeds from and to, events, seconds,
// violations.
func (l *seedLog) flush(last uint64) {
	if l.file == nil || l.seeds == 0 {
		return
	}
	fmt.Fprintf(l.file, "%s %s simulation seeds %d to %d events %d seconds %.1f violations %d\n",
		time.Now().UTC().Format("2006-01-02"), *commitFlag, l.from, last, l.events, time.Since(l.began).Seconds(), l.broken)
	l.seeds, l.events, l.broken = 0, 0, 0
}

func (l *seedLog) close() {
	if l.file != nil {
		l.flush(l.from + max(l.seeds, 1) - 1)
		_ = l.file.Close()
	}
}
