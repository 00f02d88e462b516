package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// lies are amounts whose acquirer answers twice, with another STAN, amount or
// terminal, or hangs up; most are answered as they should be.
const lies = "1000,1100,1200,1300,1400,1500,1600,1700,1070,1071,1074,1075,1076"

// decision is an answer of the load that decided a payment.
type decision struct {
	at   time.Time
	took float64 // ms since the payment was due
}

// readDecisions are those of an answers file, in the order of their coming.
func readDecisions(t *testing.T, file string) (all []decision) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var l struct {
			Status int
			Final  bool
			At     time.Time
			MS     float64
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if l.Final && l.Status == http.StatusCreated {
			all = append(all, decision{l.At, l.MS})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b decision) int { return a.at.Compare(b.at) })
	return all
}

// measure fills in what the load saw of a fault.
func (r *clusterTrial) measure(all []decision, loadEnds time.Time) {
	r.GapMS = float64(silence(all, window{r.began, r.ready}, loadEnds).Microseconds()) / 1000
	r.CalmP99, r.TracedP99, r.SlowP99 = p99(all, r.calm), p99(all, r.traced), p99(all, r.slow)
}

// silence is the longest time without a decision in a part of the load.
func silence(all []decision, w window, loadEnds time.Time) (longest time.Duration) {
	to := w.to
	if loadEnds.Before(to) {
		to = loadEnds
	}
	last := w.from
	for _, d := range all {
		if d.at.Before(w.from) {
			continue
		}
		if d.at.After(to) {
			break
		}
		longest, last = max(longest, d.at.Sub(last)), d.at
	}
	return max(longest, to.Sub(last))
}

// p99 is of what was decided in a part of the load, in milliseconds.
func p99(all []decision, w window) float64 {
	var took []float64
	for _, d := range all {
		if d.at.After(w.from) && d.at.Before(w.to) {
			took = append(took, d.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// firstAnswer asks the nodes but one, every few milliseconds, and says how long
// after a moment the first final answer came. What is asked before the moment
// does not count.
func (d *instance) firstAnswer(since time.Time, except int) time.Duration {
	const askEvery, giveUp = 10 * time.Millisecond, 15 * time.Second
	var mu sync.Mutex
	first := time.Duration(0)
	client := http.Client{Timeout: 5 * time.Second}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for n := 0; time.Since(since) < giveUp; n++ {
		mu.Lock()
		done := first != 0
		mu.Unlock()
		if done {
			break
		}
		node := (except + 1 + n%2) % 3
		go func() { // who comes later is not waited for
			a, err := d.askAt(&client, node, fmt.Sprintf("outage-%d-%d", since.UnixNano(), n), d.body(visaCard, 1000))
			if err != nil || a.status != http.StatusCreated {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if took := time.Since(since); first == 0 || took < first {
				first = took
			}
		}()
		<-tick.C
	}
	mu.Lock()
	defer mu.Unlock()
	return first
}

// watchKeys has gateways at every node share keys, each with one of two bodies,
// a new key four times a second. What it returns ends that, and says how many
// requests there were and which keys no register explains, with all that was
// asked and answered.
func (d *instance) watchKeys(round int) func() (int, string) {
	const clients, keyEvery, pause = 6, 250 * time.Millisecond, 40 * time.Millisecond
	started := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	over := make(chan struct{})
	var all sync.WaitGroup
	client := http.Client{Timeout: 20 * time.Second}
	settle := func(c, k int) {
		key, variant, amount := fmt.Sprintf("watch-%d-%d-%d", started.UnixNano(), round, k), "a", 1000
		if (c+k)%3 == 0 {
			variant, amount = "b", 1051
		}
		for tries, settled := 0, false; !settled; tries++ {
			o := porcupine.Operation{ClientId: c, Input: asked{key, variant}, Call: int64(time.Since(started))}
			a, err := d.askAt(&client, (c+k+tries)%len(d.info.Nodes), key, d.body(visaCard, amount))
			o.Return = int64(time.Since(started))
			var out heard
			out, settled = hear(a, err)
			if err != nil {
				o.Return = 1 << 62 // it may take effect whenever it likes
			}
			out.said = fmt.Sprintf("%d %s %v", a.status, a.body, err)
			o.Output = out
			mu.Lock()
			history = append(history, o)
			mu.Unlock()
			select {
			case <-over:
				return
			case <-time.After(pause):
			}
		}
	}
	for c := range clients {
		all.Go(func() {
			for k := 0; ; k = max(k+1, int(time.Since(started)/keyEvery)) {
				settle(c, k)
				select {
				case <-over:
					return
				case <-time.After(time.Until(started.Add(time.Duration(k+1) * keyEvery))):
				}
			}
		})
	}
	return sync.OnceValues(func() (int, string) {
		close(over)
		all.Wait()
		return len(history), unexplained(history)
	})
}

// unexplained are the keys whose requests no register explains, told in order.
func unexplained(history []porcupine.Operation) string {
	if porcupine.CheckOperations(keyRegister(true), history) {
		return ""
	}
	byKey := map[string][]porcupine.Operation{}
	for _, o := range history {
		byKey[o.Input.(asked).key] = append(byKey[o.Input.(asked).key], o)
	}
	var b strings.Builder
	for key, operations := range byKey {
		if porcupine.CheckOperations(keyRegister(true), operations) {
			continue
		}
		slices.SortFunc(operations, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		fmt.Fprintf(&b, "%s:\n", key)
		for _, o := range operations {
			fmt.Fprintf(&b, "  gateway %d, body %s, %s to %s: %s\n", o.ClientId, o.Input.(asked).body, time.Duration(o.Call), time.Duration(o.Return), strings.TrimSpace(o.Output.(heard).said))
		}
	}
	return b.String()
}

func (d *instance) everyAPI() string {
	urls := make([]string, 0, len(d.info.Nodes))
	for _, n := range d.info.Nodes {
		urls = append(urls, n.API)
	}
	return strings.Join(urls, ",")
}

// leads asks a node's metrics.
func (d *instance) leads(node int) bool {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(d.info.Nodes[node].Admin + "/metrics")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return err == nil && slices.Contains(strings.Split(string(b), "\n"), "raft_leader 1")
}

// leader asks them all.
func (d *instance) leader(t *testing.T) int {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for n := range d.info.Nodes {
			if d.leads(n) {
				return n
			}
		}
	}
	t.Fatal("no node says within a minute that it leads")
	return 0
}

// clusterStatus is what cluster status prints.
type clusterStatus struct {
	Version int
	Members []struct{ ID, Build string }
}

func (d *instance) clusterStatus(t *testing.T) (s clusterStatus) {
	t.Helper()
	stdout, stderr, code := run(t, "cluster", "status", "--json", "--config", filepath.Join(d.dir, d.info.Nodes[0].ID+".yaml"))
	if code != 0 {
		t.Fatalf("cluster status: %s", stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitNodes waits until every node is ready again.
func (d *instance) awaitNodes(t *testing.T) {
	t.Helper()
	client := http.Client{Timeout: 2 * time.Second}
	deadline := time.Now().Add(60 * time.Second)
	for _, node := range d.info.Nodes {
		for {
			said := "no answer"
			answer, err := client.Get(node.Admin + "/ready")
			if err == nil {
				b, _ := io.ReadAll(answer.Body)
				answer.Body.Close()
				if answer.StatusCode == http.StatusOK {
					break
				}
				said = string(b)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not ready: %s", node.ID, said)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}
