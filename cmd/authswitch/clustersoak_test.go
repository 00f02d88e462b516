package main_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Two rounds of one fault are part of `make test`; `make soak-cluster` runs as
// many as it is told, of several faults each, and adds a line for each fault
// and each round to a log that docs/testing.md is made from.
var (
	clusterRounds = flag.Int("cluster.rounds", 2, "rounds of faults under load on three nodes")
	clusterFor    = flag.Duration("cluster.for", 0, "begin no round after so long; 0: as many as told")
	clusterSeed   = flag.Uint64("cluster.seed", 0, "seed of the faults and their moments; 0 draws one")
	clusterFirst  = flag.Int("cluster.first", 0, "the round to begin with; 0: where the log ends")
	clusterRate   = flag.Int("cluster.rate", 500, "authorizations a second")
	clusterFault  = flag.String("cluster.fault", "kill leader,stop leader", "these faults in turn; empty: drawn by their weights")
	clusterFaults = flag.Int("cluster.faults", 1, "faults of each round, one after the other")
	clusterFresh  = flag.Int("cluster.fresh", 3, "rounds until another cluster takes over: what a verification reads grows with each")
	clusterLog    = flag.String("cluster.log", "", "file that each fault and each round adds a line of JSON to")
	clusterCommit = flag.String("cluster.commit", "unknown", "what the log says of the program under test")
	clusterCuts   = flag.Bool("cluster.powercuts", false, "the data is on an ext4 of its own in a file, whose power can be cut (needs root)")
	clusterOld    = flag.String("cluster.old", "", "an older program, which the nodes begin with and which \"upgrade all\" replaces")
	clusterKeep   = flag.String("cluster.keep", "", "directory for the nodes' log of each round, and what explains a finding")
)

// clusterTrial is one fault of one round.
type clusterTrial struct {
	At     string `json:"at"`
	Commit string `json:"commit"`
	Seed   uint64 `json:"seed"`
	Round  int    `json:"round"`
	Fault  string `json:"fault"`
	Node   string `json:"node"`
	Rate   int    `json:"rate"`

	GapMS     float64 `json:"gap_ms"`                 // the load's longest time without an answer, from the fault until all was ready again
	OutageMS  float64 `json:"outage_ms,omitempty"`    // from the fault to the first answer to what was asked after it
	ReadyMS   float64 `json:"ready_ms"`               // from the fault until every node was ready
	HandOver  float64 `json:"hand_over_ms,omitempty"` // from a slow disk until its leader led no more; -1: it did not
	CalmP99   float64 `json:"calm_p99_ms,omitempty"`  // before the tracer was there
	TracedP99 float64 `json:"traced_p99_ms,omitempty"`
	SlowP99   float64 `json:"slow_p99_ms,omitempty"`
	Versions  string  `json:"versions,omitempty"` // of the cluster's journal, before and after an upgrade
	Found     string  `json:"found"`              // of its round; empty: nothing

	began, ready       time.Time
	calm, traced, slow window
}

// clusterRound is what all its faults came to.
type clusterRound struct {
	At       string  `json:"at"`
	Commit   string  `json:"commit"`
	Seed     uint64  `json:"seed"`
	Round    int     `json:"round"`
	Faults   int     `json:"faults"`
	Rate     int     `json:"rate"`
	Seconds  float64 `json:"seconds"` // of load
	Lies     bool    `json:"lies"`    // the acquirers lied about STAN, amount and terminal
	GapMS    float64 `json:"gap_ms"`
	CalmGap  float64 `json:"calm_gap_ms"` // before the first fault: what the machine takes by itself
	P99      float64 `json:"p99_ms"`
	Sent     int     `json:"sent"`
	Answered int     `json:"answered"`
	Approved int     `json:"approved"`
	Declined int     `json:"declined"`
	Unknown  int     `json:"unknown"`
	Retried  int     `json:"retried"`
	History  int     `json:"history"` // requests whose order porcupine explained
	Verify   float64 `json:"verify_s"`
	Found    string  `json:"found"` // what was wrong; empty: nothing
}

// TestClusterUnderLoad breaks a cluster of three under load, fault after fault,
// and after each round of them holds what the gateways were told, the journal
// and the acquirers' ledgers against each other.
func TestClusterUnderLoad(t *testing.T) {
	seed := *clusterSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	first := *clusterFirst
	if first == 0 {
		first = roundsIn(t, *clusterLog)
	}
	t.Logf("again: go test ./cmd/authswitch -run TestClusterUnderLoad -count=1 -v -timeout 1h -cluster.rate=%d -cluster.fault=%q -cluster.faults=%d -cluster.powercuts=%v -cluster.seed=%d -cluster.first=%d -cluster.rounds=%d",
		*clusterRate, *clusterFault, *clusterFaults, *clusterCuts, seed, first, *clusterRounds)
	began, last := time.Now(), first+*clusterRounds
	cuts := newCuts(t)
	for round, before := first, -1; round < last && round != before && !timeIsOver(began); {
		before = round // a cluster that does not start ends it
		t.Run(fmt.Sprintf("from round %d", round), func(t *testing.T) {
			s := &soak{cuts: cuts, seed: seed, d: startCluster(t)}
			for fresh := 0; fresh < max(*clusterFresh, 1) && round < last && !timeIsOver(began); fresh++ {
				round++
				if s.round(t, round-1); t.Failed() {
					return
				}
			}
		})
	}
}

func timeIsOver(began time.Time) bool { return *clusterFor > 0 && time.Since(began) > *clusterFor }

// startCluster starts three nodes, of an older program where one is given.
func startCluster(t *testing.T) *instance {
	t.Helper()
	var disk *loopDisk
	if *clusterCuts {
		disk = newLoopDisk(t)
	}
	program := ""
	if *clusterOld != "" {
		program = filepath.Join(t.TempDir(), "authswitch")
		command(t, "cp", *clusterOld, program)
	}
	d := startProgramOn(t, program, disk, "--nodes", "3", "--sim-codec", "moov")
	syscall.Sync() // the security module's token, which is not what is tested here
	return d
}

// soak is one cluster and the rounds on it.
type soak struct {
	d    *instance
	cuts *cuts
	seed uint64
	calm window // of the round, before its first fault
}

// round is one load with faults in it, then the comparison.
func (s *soak) round(t *testing.T, round int) {
	t.Helper()
	random := rand.New(rand.NewPCG(s.seed, uint64(round)))
	plan := s.plan(t, round, random)
	r := &clusterRound{At: time.Now().UTC().Format(time.RFC3339), Commit: *clusterCommit, Seed: s.seed, Round: round, Rate: *clusterRate, Found: "the harness ended in the middle"}
	r.Lies = *clusterFault == "" && random.IntN(6) == 0
	length := leadIn
	for _, f := range plan {
		length += f.takes
		r.Lies = r.Lies || f.name == "lie acquirers"
	}
	r.Seconds = length.Seconds()
	var trials []*clusterTrial
	defer func() { s.log(t, r, trials); s.keepLog(t, r) }()
	load := s.startLoad(t, r, length)
	history := s.d.watchKeys(round)
	defer history()
	s.calm = during(leadIn, func() { time.Sleep(leadIn) })
	for _, f := range plan {
		time.Sleep(time.Duration(random.Int64N(int64(time.Second)))) // the random moment of the fault
		if time.Since(load.began) > length-time.Second {
			t.Logf("round %d: %s and what follows not run: the faults before it took too long", round, f.name)
			break
		}
		trial := &clusterTrial{At: time.Now().UTC().Format(time.RFC3339), Commit: *clusterCommit, Seed: s.seed, Round: round, Fault: f.name, Rate: *clusterRate}
		trials = append(trials, trial)
		r.Faults++
		s.d.breakCluster(t, s.cuts, trial, random)
		s.d.awaitNodes(t)
		trial.ready = time.Now()
		trial.ReadyMS = float64(trial.ready.Sub(trial.began).Microseconds()) / 1000
	}
	r.Found = s.compare(t, r, load, trials, history)
	if r.Found != "" {
		s.keep(t, r, load)
	}
}

// leadIn is load before the first fault.
const leadIn = 2 * time.Second

// plan are a round's faults. What a machine lacks is said, and another drawn.
func (s *soak) plan(t *testing.T, round int, random *rand.Rand) (plan []clusterFaultKind) {
	t.Helper()
	turn := strings.Split(*clusterFault, ",")
	for n := 0; len(plan) < *clusterFaults; n++ {
		f := drawFault(random)
		if *clusterFault != "" {
			f = faultNamed(t, strings.TrimSpace(turn[(round**clusterFaults+n)%len(turn)]))
		}
		if absent := s.d.needs(f.name, s.cuts); absent != "" {
			t.Logf("round %d: %s not run: %s", round, f.name, absent)
			if *clusterFault != "" && n >= len(turn) {
				break
			}
			continue
		}
		plan = append(plan, f)
	}
	// Latency is judged while no payments wait that another fault held up.
	slices.SortStableFunc(plan, func(a, b clusterFaultKind) int {
		return cmp.Compare(strings.Index(b.name, "slow follower"), strings.Index(a.name, "slow follower"))
	})
	return plan
}

// clusterLoad is a load that runs.
type clusterLoad struct {
	began         time.Time
	length        time.Duration
	answers       string
	out, progress bytes.Buffer
	wait          func() error
}

func (s *soak) startLoad(t *testing.T, r *clusterRound, length time.Duration) *clusterLoad {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := &clusterLoad{began: time.Now(), length: length, answers: filepath.Join(t.TempDir(), fmt.Sprintf("cluster-%d.jsonl", r.Round))}
	amounts := ""
	if r.Lies {
		amounts = lies
	}
	load := exec.Command(program, "bench", "run", "--api", s.d.everyAPI(), "--key", s.d.info.Key, "--rate", fmt.Sprint(r.Rate), "--amounts", amounts,
		"--duration", length.String(), "--drain", "3m", "--poisson", "--mix", "declined=10,unavailable=3,silent=1,late=1", "--answers", l.answers, "--json")
	load.Stdout, load.Stderr = &l.out, &l.progress
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	l.wait = sync.OnceValue(load.Wait)
	t.Cleanup(func() { _ = load.Process.Kill(); _ = l.wait() })
	return l
}

// compare waits for the load's end and says what was wrong.
func (s *soak) compare(t *testing.T, r *clusterRound, load *clusterLoad, trials []*clusterTrial, history func() (int, string)) (found string) {
	t.Helper()
	if err := load.wait(); err != nil {
		t.Fatalf("round %d: load: %v\n%s", r.Round, err, tail(load.progress.String(), 2000))
	}
	if err := json.Unmarshal(load.out.Bytes(), r); err != nil {
		t.Fatalf("round %d: %v in %q", r.Round, err, load.out.String())
	}
	s.d.awaitNodes(t)
	if r.History, found = history(); found != "" {
		found = "porcupine: no order of the requests explains the answers to\n" + found
	}
	if r.Answered != r.Sent {
		found += fmt.Sprintf("%d of %d sent had a final answer\n", r.Answered, r.Sent)
	}
	answers := readDecisions(t, load.answers)
	r.CalmGap = float64(silence(answers, s.calm, load.began.Add(load.length)).Microseconds()) / 1000
	for _, trial := range trials {
		trial.measure(answers, load.began.Add(load.length))
		found += trial.Found
	}
	began := time.Now()
	stdout, stderr, code := run(t, "bench", "verify", "--api", s.d.everyAPI(), "--key", s.d.info.Key, "--answers", load.answers, "--settle", "90s")
	if r.Verify = time.Since(began).Seconds(); code != 0 || !strings.Contains(stdout, "; 0 open") {
		found += tail(stdout, 3000) + tail(stderr, 1000)
	}
	return found
}

// log adds a line for each fault and one for the round, also of a round that
// ended the harness.
func (s *soak) log(t *testing.T, r *clusterRound, trials []*clusterTrial) {
	t.Helper()
	var lines []byte
	add := func(v any) {
		line, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
			return
		}
		t.Logf("%s", line)
		lines = append(append(lines, line...), '\n')
	}
	for _, trial := range trials {
		if trial.began.IsZero() {
			continue // the harness ended before it
		}
		if trial.Found == "" && r.Found != "" {
			trial.Found = "its round: " + tail(r.Found, 200)
		}
		add(trial)
	}
	add(r)
	if r.Found != "" {
		t.Errorf("round %d:\n%s", r.Round, r.Found)
	}
	if *clusterLog == "" {
		return
	}
	f, err := os.OpenFile(*clusterLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Error(err)
	}
}

// roundsIn is the round after the last one of a log.
func roundsIn(t *testing.T, log string) (next int) {
	t.Helper()
	b, err := os.ReadFile(log)
	if log == "" || os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var r struct{ Round int }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", log, err)
		}
		next = max(next, r.Round+1)
	}
	return next
}

// payments are named in what a verification says.
var payments = regexp.MustCompile(`auth_[0-9a-f]+`)

// evidence is where what is known of a round goes; empty: nowhere.
func evidence(t *testing.T, r *clusterRound) (dir string) {
	t.Helper()
	if *clusterKeep == "" {
		return ""
	}
	dir = filepath.Join(*clusterKeep, fmt.Sprintf("%d-%d", r.Seed, r.Round))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Error(err)
		return ""
	}
	return dir
}

// keepLog copies what the processes said so far.
func (s *soak) keepLog(t *testing.T, r *clusterRound) {
	t.Helper()
	if dir := evidence(t, r); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "nodes.log"), []byte(s.d.logs.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// keep copies all that explains a finding: the cluster goes with its test.
func (s *soak) keep(t *testing.T, r *clusterRound, load *clusterLoad) {
	t.Helper()
	dir := evidence(t, r)
	if dir == "" {
		return
	}
	var shown bytes.Buffer
	for n, id := range payments.FindAllString(r.Found, 5) {
		a, err := s.d.tryAsk(http.MethodGet, "/v1/authorizations/"+id, "", "")
		fmt.Fprintf(&shown, "%d %s %v\n%s\n", n, id, err, a.body)
	}
	for name, b := range map[string][]byte{"found": []byte(r.Found), "payments": shown.Bytes(), "load": load.progress.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Error(err)
		}
	}
	for _, l := range s.d.info.Links {
		command(t, "cp", l.Ledger, dir)
	}
	command(t, "cp", load.answers, dir)
	t.Logf("what explains it: %s", dir)
}
