package bubble_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

var (
	seedsFlag  = flag.String("seeds", "", "run these seeds: from:count, or one seed")
	activeFlag = flag.Duration("active", 6*time.Second, "simulated time with traffic and faults")
	logFlag    = flag.String("seedlog", "", "append what was run to this file, and go on after what it says was run")
	commitFlag = flag.String("commit", "unknown", "the commit that is tested, for the log")
	paceFlag   = flag.Int("gateways", 6, "how many gateways sell, and how many move what was sold")
	eventsFlag = flag.String("events", "", "write every event of the last seed to this file")
	traceFlag  = flag.Bool("trace", false, "print what happened, whatever came of it")
)

// longest bounds the seeds of `make test`, which are the same each time: whoever
// changes something else is not to be held up by what was there before. New ones are
// `make bubble`'s.
const longest = 45 * time.Second

// TestBubble runs seeds, each in a bubble of its own, until the first that breaks
// an invariant.
func TestBubble(t *testing.T) {
	from, count := uint64(1), uint64(20)
	if testing.Short() {
		count = 2
	}
	if *seedsFlag != "" {
		from, count = parseSeeds(t, *seedsFlag)
	}
	l := openLog(t)
	if l.next > from && l.next < from+count {
		count -= l.next - from
		from = l.next
	}
	t.Logf("seeds from %d: go test ./store/bubble -run TestBubble -v -seeds %d:%d", from, from, count)
	until := time.Now().Add(longest)
	for seed := from; seed < from+count; seed++ {
		if *seedsFlag == "" && time.Now().After(until) {
			t.Logf("%d of %d seeds in %s: this machine is slow, or busy", seed-from, count, longest)
			return
		}
		began := time.Now()
		w := live(t, seed)
		l.note(seed, w, time.Since(began))
		sum, events := w.trace.sum()
		t.Logf("seed %d: trace %s of %d events", seed, sum, events)
		if len(w.found) > 0 {
			t.Errorf("seed %d breaks an invariant; run it again with\n\tgo test ./store/bubble -run TestBubble -count=1 -v -trace -active %s -seeds %d", seed, *activeFlag, seed)
			for _, v := range w.found {
				t.Errorf("seed %d: %s", seed, v)
			}
		}
		if len(w.found) > 0 || *traceFlag {
			t.Logf("%v\n%s\n%s", w.counts, w.notes.String(), w.logs.String())
		}
		if len(w.found) > 0 {
			return
		}
	}
}

// live is one seed's run.
func live(t *testing.T, seed uint64) *world {
	dir := t.TempDir()
	cryptotest.SetGlobalRandom(t, seed)
	var w *world
	synctest.Test(t, func(*testing.T) {
		w = newWorld(seed, dir)
		w.boot(w.members...)
		w.upgraded()
		gateways, back := w.sell(*activeFlag, *paceFlag), w.work(*activeFlag, *paceFlag)
		w.watch(*activeFlag)
		w.disturb(*activeFlag)
		w.net.heal()
		for _, m := range w.members {
			m.syncs.Store(0)
			m.clock.Store(0)
			if m.now() == nil {
				w.boot(m)
			}
		}
		w.notef("healed")
		gateways.Wait()
		back.Wait()
		w.settle()
		w.stop()
		for i := range hosts {
			w.traceLedger(i)
		}
	})
	return w
}

// stop ends the members, then the acquirers.
func (w *world) stop() {
	for _, m := range w.members {
		if l := m.now(); l != nil {
			l.dead.Store(true)
			w.ending.Go(l.end)
		}
	}
	w.ending.Wait()
	w.stopSim()
	w.sims.Wait()
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

// seedLog is the file that says what was run, one line a seed.
type seedLog struct {
	file *os.File
	next uint64
}

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
		if n, _ := fmt.Sscanf(line, "%s %s bubble seeds %d to %d", &date, &commit, &from, &to); n == 4 {
			l.next = max(l.next, to+1)
		}
	}
	if l.file, err = os.OpenFile(*logFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.file.Close() })
	return l
}

// note writes one line: date, commit, seeds from and to, what was done, seconds,
// violations.
func (l *seedLog) note(seed uint64, w *world, took time.Duration) {
	if l.file == nil {
		return
	}
	for _, v := range w.found[:min(len(w.found), 3)] { // the first say what the others come from
		fmt.Fprintf(l.file, "# seed %d: %s\n", seed, v)
	}
	fmt.Fprintf(l.file, "%s %s bubble seeds %d to %d payments %d movements %d crashes %d power-cuts %d cuts %d slow-disks %d lying-disks %d lost-disks %d clock-steps %d simulated %.0f seconds %.1f violations %d\n",
		time.Now().UTC().Format("2006-01-02"), *commitFlag, seed, seed, len(w.payments), w.moves(), w.counts["crashes"], w.counts["power cuts"],
		w.counts["partitions"]+w.counts["one-way cuts"]+w.counts["acquirer cuts"], w.counts["slow disks"], w.counts["lying disks"], w.counts["lost disks"], w.counts["clock steps"], activeFlag.Seconds(), took.Seconds(), len(w.found))
}
