package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Two rounds are part of `make test`; `make soak-cluster` runs as many as it is
// told, and adds a line for each to a log that docs/testing.md is made from.
var (
	clusterRounds = flag.Int("cluster.rounds", 2, "rounds of faults under load on three nodes")
	clusterSeed   = flag.Uint64("cluster.seed", 0, "seed of the faults and their moments; 0 draws one")
	clusterFirst  = flag.Int("cluster.first", 0, "the round to begin with: to go on after an interruption")
	clusterRate   = flag.Int("cluster.rate", 500, "authorizations a second")
	clusterFault  = flag.String("cluster.fault", "", "only this fault")
	clusterLog    = flag.String("cluster.log", "", "file that each round adds a line of JSON to; without -cluster.first the rounds go on where it ends")
	clusterCommit = flag.String("cluster.commit", "unknown", "what the log says of the program under test")
	clusterCuts   = flag.Bool("cluster.powercuts", false, "the data is on an ext4 of its own in a file, whose power can be cut (needs root)")
)

// trial is one fault of one round.
type clusterTrial struct {
	At       string  `json:"at"`
	Commit   string  `json:"commit"`
	Seed     uint64  `json:"seed"`
	Round    int     `json:"round"`
	Fault    string  `json:"fault"`
	Node     string  `json:"node"`
	Rate     int     `json:"rate"`
	OutageMS float64 `json:"outage_ms,omitempty"` // from the fault to the first answer to what was asked after it
	GapMS    float64 `json:"gap_ms"`              // the load's longest time without an answer
	Recovery float64 `json:"recovery_ms"`         // from then until no more waited than before
	P99      float64 `json:"p99_ms"`
	History  int     `json:"history"` // requests whose order porcupine explained
	Sent     int     `json:"sent"`
	Approved int     `json:"approved"`
	Declined int     `json:"declined"`
	Unknown  int     `json:"unknown"`
	Retried  int     `json:"retried"`
	Found    string  `json:"found"` // what was wrong; empty: nothing
}

// clusterFaults in the order of a first pass; then they are drawn.
var clusterFaults = []string{
	"kill leader", "stop leader", "kill follower", "stop follower", "terminate leader", "kill all", "stop all",
	"cut leader", "cut follower", "cut follower's ears", "cut leader's ears",
	"lose all", "kill acquirers", "stop acquirers", "lie acquirers", "restart all", "slow follower", "slow leader", "power all",
}

// needs says what a fault cannot be done without; empty where it is there.
func (d *instance) needs(fault string, cuts *cuts) string {
	what, _, _ := strings.Cut(fault, " ")
	switch what {
	case "cut", "lose":
		return cuts.absent
	case "slow":
		if _, err := exec.LookPath("strace"); err != nil {
			return "there is no strace"
		}
	case "power":
		if d.disk == nil {
			return "the data is on no disk of its own (-cluster.powercuts)"
		}
	}
	return ""
}

// TestClusterUnderLoad breaks a cluster of three under load, round after round,
// and holds what the gateways were told, the journal and the acquirers' ledgers
// against each other.
func TestClusterUnderLoad(t *testing.T) {
	seed := *clusterSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again: go test ./cmd/authswitch -run TestClusterUnderLoad -count=1 -v -cluster.rounds=%d -cluster.seed=%d", *clusterRounds, seed)
	var disk *loopDisk
	if *clusterCuts {
		disk = newLoopDisk(t)
	}
	d := startDevOn(t, disk, "--nodes", "3", "--sim-codec", "moov")
	syscall.Sync() // the security module's token, which is not what is tested here
	cuts := newCuts(t)
	first := *clusterFirst
	if first == 0 {
		first = roundsIn(t, *clusterLog)
	}
	for round := first; round < first+*clusterRounds; round++ {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		fault := clusterFaults[round%len(clusterFaults)]
		if round >= len(clusterFaults) {
			fault = clusterFaults[random.IntN(len(clusterFaults))]
		}
		if *clusterFault != "" {
			fault = *clusterFault
		}
		if absent := d.needs(fault, cuts); absent != "" {
			t.Logf("round %d: %s not run: %s", round, fault, absent)
			continue
		}
		r := d.clusterRound(t, cuts, fault, round, random)
		r.Seed = seed
		logTrial(t, r)
		if r.Found != "" {
			t.Fatalf("round %d, %s of %s:\n%s", round, r.Fault, r.Node, r.Found)
		}
	}
}

func logTrial(t *testing.T, r clusterTrial) {
	t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", line)
	if *clusterLog == "" {
		return
	}
	f, err := os.OpenFile(*clusterLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
}

// roundsIn is how many rounds a log has.
func roundsIn(t *testing.T, log string) int {
	b, err := os.ReadFile(log)
	if log == "" || os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// clusterRound is one load with one fault in it, then the comparison.
func (d *instance) clusterRound(t *testing.T, cuts *cuts, fault string, round int, random *rand.Rand) clusterTrial {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	r := clusterTrial{At: time.Now().UTC().Format(time.RFC3339), Commit: *clusterCommit, Round: round, Fault: fault, Rate: *clusterRate}
	answers := filepath.Join(t.TempDir(), fmt.Sprintf("cluster-%d.jsonl", round))
	amounts := ""
	if strings.HasPrefix(fault, "lie") {
		amounts = lies
	}
	load := exec.Command(program, "bench", "run", "--api", d.everyAPI(), "--key", d.info.Key, "--rate", fmt.Sprint(*clusterRate), "--amounts", amounts,
		"--duration", "9s", "--poisson", "--mix", "declined=10,unavailable=3,silent=1,late=1", "--answers", answers, "--json")
	var out, progress bytes.Buffer
	load.Stdout, load.Stderr = &out, &progress
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	history := d.watchKeys(round)
	time.Sleep(time.Second + time.Duration(random.Int64N(int64(2*time.Second)))) // the random moment of the fault
	d.breakCluster(t, cuts, &r, random)
	if err := load.Wait(); err != nil {
		t.Fatalf("round %d: load: %v\n%s", round, err, tail(progress.String(), 2000))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("round %d: %v in %q", round, err, out.String())
	}
	d.awaitNodes(t)
	order, explained := history()
	if r.History = order; !explained {
		r.Found = "porcupine: no order of the requests explains the answers to the shared keys\n"
	}
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "60s")
	if code != 0 {
		r.Found += tail(stdout, 3000) + tail(stderr, 1000)
	}
	return r
}

// breakCluster does what the fault says and undoes it.
func (d *instance) breakCluster(t *testing.T, cuts *cuts, r *clusterTrial, random *rand.Rand) {
	t.Helper()
	what, whom, _ := strings.Cut(r.Fault, " ")
	leader := d.leader(t)
	var nodes []int
	switch strings.TrimSuffix(whom, "'s ears") {
	case "leader":
		nodes = []int{leader}
	case "follower":
		nodes = []int{(leader + 1 + random.IntN(2)) % 3}
	default:
		nodes = []int{0, 1, 2}
	}
	r.Node = d.info.Nodes[nodes[0]].ID
	if len(nodes) > 1 {
		r.Node = "all"
	}
	outage := time.Duration(random.Int64N(int64(3*time.Second))) + 2500*time.Millisecond // below and above a session's lease
	began := time.Now()
	if whom == "acquirers" {
		r.Node = whom
		switch what {
		case "kill":
			d.signalAcquirers(t, syscall.SIGKILL)
		case "stop":
			d.signalAcquirers(t, syscall.SIGSTOP)
			time.Sleep(outage)
			d.signalAcquirers(t, syscall.SIGCONT)
		}
		return
	}
	switch what {
	case "kill", "terminate":
		signal := map[string]syscall.Signal{"kill": syscall.SIGKILL, "terminate": syscall.SIGTERM}[what]
		for _, n := range nodes {
			d.signal(t, n, signal)
		}
	case "stop":
		pids := make([]int, 0, len(nodes))
		for _, n := range nodes {
			pids = append(pids, d.signal(t, n, syscall.SIGSTOP))
		}
		defer func() {
			time.Sleep(outage - time.Since(began))
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGCONT) // it may have been killed by what it found when it woke
			}
		}()
	case "cut":
		cuts.cut(t, nodes[0], strings.HasSuffix(whom, "ears"))
		defer func() {
			time.Sleep(outage - time.Since(began))
			cuts.heal(t)
		}()
	}
	d.breakMore(t, cuts, what, nodes, outage)
	if nodes[0] == leader && len(nodes) == 1 && what != "slow" {
		r.OutageMS = float64(d.firstAnswer(began, leader)) / 1e6
	}
}

// firstAnswer asks the nodes but one, every few milliseconds, and says how long
// after a moment the first final answer came. What is asked before the moment
// does not count.
func (d *instance) firstAnswer(since time.Time, except int) time.Duration {
	const askEvery, giveUp = 5 * time.Millisecond, 15 * time.Second
	var mu sync.Mutex
	first := time.Duration(0)
	var asking sync.WaitGroup
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
		asking.Go(func() {
			if !d.authorizeAt(&client, node, fmt.Sprintf("outage-%d-%d", since.UnixNano(), n)) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if took := time.Since(since); first == 0 || took < first {
				first = took
			}
		})
		<-tick.C
	}
	asking.Wait()
	return first
}

// authorizeAt says whether a node approved.
func (d *instance) authorizeAt(client *http.Client, node int, key string) bool {
	body := fmt.Sprintf(`{"merchant":%q,"reference":"outage","amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}}`, d.info.Merchant)
	request, err := http.NewRequest(http.MethodPost, d.info.Nodes[node].API+"/v1/authorizations", strings.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Authorization", "Bearer "+d.info.Key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", key)
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusCreated
}

func (d *instance) everyAPI() string {
	urls := make([]string, 0, len(d.info.Nodes))
	for _, n := range d.info.Nodes {
		urls = append(urls, n.API)
	}
	return strings.Join(urls, ",")
}

// signal sends one to a node and returns its process id.
func (d *instance) signal(t *testing.T, node int, s syscall.Signal) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.info.Nodes[node].DataDir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Errorf("signal %d to %s: %v", s, d.info.Nodes[node].ID, err)
	}
	return pid
}

// leader asks the nodes' metrics.
func (d *instance) leader(t *testing.T) int {
	t.Helper()
	client := http.Client{Timeout: 2 * time.Second}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for n, node := range d.info.Nodes {
			answer, err := client.Get(node.Admin + "/metrics")
			if err != nil {
				continue
			}
			b, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err == nil && slices.Contains(strings.Split(string(b), "\n"), "raft_leader 1") {
				return n
			}
		}
	}
	t.Fatal("no node says that it leads")
	return 0
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

// cuts cut the lines between the nodes, which have addresses of their own on
// loopback, 127.0.0.1 to 127.0.0.3, and dial each other from them. Nothing else
// on a machine speaks between those.
type cuts struct {
	table  string
	absent string // why there are none
}

func newCuts(t *testing.T) *cuts {
	t.Helper()
	c := &cuts{table: fmt.Sprintf("authswitch_%d", os.Getpid())}
	switch _, err := exec.LookPath("nft"); {
	case os.Geteuid() != 0:
		c.absent = "packet filters need root"
	case err != nil:
		c.absent = "there is no nft"
	}
	if c.absent != "" {
		return c
	}
	if out, err := exec.Command("nft", "add table inet "+c.table+"; add chain inet "+c.table+" in { type filter hook input priority 0; }").CombinedOutput(); err != nil {
		c.absent = strings.TrimSpace(string(out))
		return c
	}
	t.Cleanup(func() { _ = exec.Command("nft", "delete table inet "+c.table).Run() })
	return c
}

// cut drops what a node hears from the other nodes, and unless only its ears
// are cut, what they hear from it. The load goes on: it stays on 127.0.0.1.
func (c *cuts) cut(t *testing.T, node int, ears bool) {
	t.Helper()
	own := fmt.Sprintf("127.0.0.%d", node+1)
	for other := range 3 {
		if other == node {
			continue
		}
		there := fmt.Sprintf("127.0.0.%d", other+1)
		c.rule(t, there, own)
		if !ears {
			c.rule(t, own, there)
		}
	}
}

func (c *cuts) rule(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("nft", "add", "rule", "inet", c.table, "in", "ip", "saddr", from, "ip", "daddr", to, "drop").CombinedOutput(); err != nil {
		t.Fatalf("nft: %s", out)
	}
}

func (c *cuts) heal(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("nft", "flush", "table", "inet", c.table).CombinedOutput(); err != nil {
		t.Fatalf("nft: %s", out)
	}
}
