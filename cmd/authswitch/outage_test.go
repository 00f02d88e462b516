package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What the security module's absence may cost. The requirement is a second from
// its return; these tests share two processors with everything else that runs, so
// what they hold the switch to is five, and they say what they saw.
const (
	backWithin = 5 * time.Second
	// A request that meets a module that does not answer waits for it as long as a
	// zone lets it, a second; the module is then known to be away, and the next ones
	// are refused at once.
	// What every terminal had on its way when the module went waits for an answer
	// that nobody can check, up to the acquirer's 3 s: only then is it refused.
	outageLasts   = 5 * time.Second
	refusedWithin = 3 * time.Second
	refusedMedian = 250 * time.Millisecond
)

// TestModuleOutageUnderLoad pauses, kills and restarts the security module while
// card-not-present payments run at 300/s beside payments with a PIN. The first do
// not notice: they are what the acquirers decided, to the last one, and asked the
// module for nothing. The others are refused fast with 96, nothing of them is
// sent, and they work again when the module is back.
func TestModuleOutageUnderLoad(t *testing.T) {
	hold := holdableModule(t)
	d := startDev(t)
	d.asksNothing(t)
	before := d.ledgerDecisions(t, "cb-a", "visa-a", "mastercard-a", "amex-a")
	answers := filepath.Join(d.dir, "answers.jsonl")
	wait := d.load(t, "--rate", "300", "--duration", "24s", "--poisson", "--mix", "declined=10", "--answers", answers)
	began := time.Now()
	c := d.startCounter(t)
	c.works(t, "before", time.Now(), time.Now())

	pid := modulePID(t, d)
	c.outage(t, "paused", outageLasts, func() { signal(t, pid, syscall.SIGSTOP) }, func() time.Time {
		signal(t, pid, syscall.SIGCONT)
		return time.Now()
	})
	c.outage(t, "killed", outageLasts, func() {
		hold(true)
		signal(t, pid, syscall.SIGKILL)
	}, func() time.Time {
		hold(false)
		return d.moduleListens(t, pid)
	})
	pid = modulePID(t, d)
	c.outage(t, "restarted", 0, func() { signal(t, pid, syscall.SIGTERM) }, func() time.Time { return d.moduleListens(t, pid) })
	if took := time.Since(began); took > 24*time.Second {
		t.Logf("the outages took %s: the load ended before them", took)
	}

	result := wait()
	told := c.end(t)
	t.Logf("card not present: %+v; at the counter: %v", result, told)
	if result.Sent < 5000 || result.Approved+result.Declined != result.Sent || result.Unknown != 0 || result.Retried != 0 || len(result.Errors) != 0 {
		t.Errorf("card-not-present traffic noticed: %+v", result)
	}
	after := d.ledgerDecisions(t, "cb-a", "visa-a", "mastercard-a", "amex-a")
	for decision, n := range map[string]int{"approved": result.Approved, "declined": result.Declined, "reversed": 0} {
		if got := after[decision] - before[decision]; got != n {
			t.Errorf("the acquirers %s %d, the gateways were told of %d", decision, got, n)
		}
	}
	// What was refused never left; what left is answered, or was reversed.
	counter := d.ledgerDecisions(t, "cb-b")
	if counter["approved"] < told["approved"] || counter["approved"] > told["approved"]+told["acquirer_timeout"] || counter["declined"] != 0 {
		t.Errorf("the acquirer of the counter decided %v", counter)
	}
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "60s")
	if code != 0 {
		t.Errorf("verify says\n%s%s", tail(stdout, 3000), tail(stderr, 1000))
	}
}

// holdableModule lets dev run hsmd behind a script that does not start it while
// it is held.
func holdableModule(t *testing.T) (hold func(bool)) {
	t.Helper()
	real := hsmd(t)
	dir := t.TempDir()
	wrapper, held := filepath.Join(dir, "hsmd"), filepath.Join(dir, "held")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = serve ]; then while [ -e %s ]; do sleep 0.02; done; fi\nexec %s \"$@\"\n", held, real)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HSMD_BIN", wrapper)
	return func(on bool) {
		err := os.Remove(held)
		if on {
			err = os.WriteFile(held, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// asksNothing sends payments on links without MACs and looks at the counters of
// the node: they ask the security module for nothing at all.
func (d *instance) asksNothing(t *testing.T) {
	t.Helper()
	before := d.operations("hsm_operations_total", "")
	if r := d.load(t, "--rate", "200", "--duration", "2s")(); r.Approved != r.Sent || r.Sent < 300 {
		t.Errorf("%+v", r)
	}
	if after := d.operations("hsm_operations_total", ""); after != before || before == 0 {
		t.Errorf("card-not-present payments asked the security module: %v operations before, %v after", before, after)
	}
	if n := d.operations("zone_operations_total", ""); n != 0 {
		t.Errorf("%v operations for messages", n)
	}
}

// moduleListens waits until another process than the one before takes
// connections, and says since when.
func (d *instance) moduleListens(t *testing.T, before int) time.Time {
	t.Helper()
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) { // polling another process
		if time.Since(began) > 20*time.Second {
			t.Fatal("the security module does not listen again")
		}
		c, err := net.Dial("unix", filepath.Join(d.dir, "hsm", "run.sock"))
		if err != nil {
			continue
		}
		at := time.Now()
		c.Close()
		if modulePID(t, d) != before {
			t.Logf("it listened %s after it was let go", at.Sub(began))
			return at
		}
	}
}

// ledgerDecisions counts what simulators decided.
func (d *instance) ledgerDecisions(t *testing.T, links ...string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, link := range links {
		for line := range strings.Lines(d.readLedger(link)) {
			out[textAfter(line, `"decision":"`)]++
		}
	}
	return out
}

// counter is payments with a PIN, one after the other at each of a few
// terminals, and what each was told.
type counter struct {
	d    *instance
	body string
	stop func()
	all  sync.WaitGroup

	mu   sync.Mutex
	told []told
}

type told struct {
	began, ended  time.Time
	status        int
	outcome, code string
}

func (d *instance) startCounter(t *testing.T) *counter {
	t.Helper()
	stop := make(chan struct{})
	c := &counter{d: d, body: d.atCounter(d.pinBlock(cbCard, "1234"), 1000), stop: sync.OnceFunc(func() { close(stop) })}
	t.Cleanup(func() {
		c.stop()
		c.all.Wait()
	})
	for terminal := range 4 {
		c.all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond): // the next customer
				}
				began := time.Now()
				a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", "till-"+strconv.Itoa(terminal)+"-"+strconv.Itoa(n), c.body)
				if err != nil {
					t.Error(err)
					return
				}
				outcome := a.field("status")
				if a.status != http.StatusCreated {
					outcome = a.field("code")
				}
				c.mu.Lock()
				c.told = append(c.told, told{began, time.Now(), a.status, outcome, a.field("response_code")})
				c.mu.Unlock()
			}
		})
	}
	return c
}

// between are the answers to what was asked in a time.
func (c *counter) between(from, to time.Time) []told {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []told
	for _, a := range c.told {
		if !a.began.Before(from) && a.began.Before(to) {
			out = append(out, a)
		}
	}
	return out
}

// works waits until a payment that was asked after some moment is approved.
func (c *counter) works(t *testing.T, what string, letGo, listens time.Time) {
	t.Helper()
	var first told
	eventually(t, 20*time.Second, what+": payments with a PIN work", func() bool {
		for _, a := range c.between(letGo, time.Now()) {
			if a.outcome == "approved" {
				first = a
				return true
			}
		}
		return false
	})
	t.Logf("%s: a payment with a PIN was approved %s after the module was back (%s after it was let go)", what, first.ended.Sub(listens), first.ended.Sub(letGo))
	if first.ended.Sub(listens) > backWithin {
		t.Errorf("%s: back only after %s", what, first.ended.Sub(listens))
	}
}

// outage takes the module away for a time and brings it back. back says when it
// could be reached again.
func (c *counter) outage(t *testing.T, what string, lasts time.Duration, away func(), back func() time.Time) {
	t.Helper()
	away()
	gone := time.Now()
	time.Sleep(lasts)
	letGo := time.Now()
	listens := back()
	c.works(t, what, letGo, listens)
	if lasts == 0 {
		return
	}
	var took []time.Duration
	for _, a := range c.between(gone, letGo) {
		if a.ended.After(letGo) {
			continue // it met the module again
		}
		if a.status != http.StatusServiceUnavailable || a.outcome != "security_unavailable" || a.code != "96" && a.code != "91" {
			t.Errorf("%s: told %d %s %s", what, a.status, a.outcome, a.code)
		}
		took = append(took, a.ended.Sub(a.began))
	}
	if len(took) < 20 {
		t.Fatalf("%s: only %d were refused in %s", what, len(took), lasts)
	}
	slices.Sort(took)
	median, longest := took[len(took)/2], took[len(took)-1]
	t.Logf("%s for %s: %d refused, median %s, longest %s", what, lasts, len(took), median, longest)
	if longest > refusedWithin || median > refusedMedian {
		t.Errorf("%s: refused slowly: median %s, longest %s", what, median, longest)
	}
}

// end stops the terminals and counts what they were told.
func (c *counter) end(t *testing.T) map[string]int {
	t.Helper()
	c.stop()
	c.all.Wait()
	out := map[string]int{}
	for _, a := range c.told {
		out[a.outcome]++
		if a.outcome != "approved" && a.outcome != "security_unavailable" && a.outcome != "acquirer_timeout" {
			t.Errorf("told %d %s %s", a.status, a.outcome, a.code)
		}
	}
	return out
}
