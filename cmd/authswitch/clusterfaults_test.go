package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterFaultKind is a fault, how often of a hundred it is drawn, and how long
// it takes with its recovery: a round's load is as long as its faults.
type clusterFaultKind struct {
	name   string
	weight int
	takes  time.Duration
}

// clusterKinds: three of five are deaths, one of ten each partitions and power
// cuts. What has no weight is only run when it is named.
var clusterKinds = []clusterFaultKind{
	{"kill leader", 34, 5 * time.Second},
	{"kill follower", 22, 5 * time.Second},
	{"kill all", 8, 7 * time.Second},
	{"cut leader", 4, 8 * time.Second},
	{"cut follower", 3, 8 * time.Second},
	{"cut leader's ears", 2, 8 * time.Second},
	{"cut follower's ears", 2, 8 * time.Second},
	{"power all", 11, 16 * time.Second},
	{"terminate leader", 3, 7 * time.Second},
	{"stop leader", 2, 8 * time.Second},
	{"stop follower", 1, 8 * time.Second},
	{"stop all", 1, 8 * time.Second},
	{"lose all", 1, 8 * time.Second},
	{"delay all", 1, 8 * time.Second},
	{"kill acquirers", 1, 5 * time.Second},
	{"stop acquirers", 1, 8 * time.Second},
	{"restart all", 1, 15 * time.Second},
	{"slow follower", 1, 16 * time.Second},
	{"slow leader", 1, 9 * time.Second},
	{"lie acquirers", 0, 8 * time.Second}, // of the whole load, and of one round in six
	{"upgrade all", 0, 30 * time.Second},
}

// drawFault draws one by the weights.
func drawFault(random *rand.Rand) clusterFaultKind {
	sum := 0
	for _, k := range clusterKinds {
		sum += k.weight
	}
	at := random.IntN(sum)
	for _, k := range clusterKinds {
		if at -= k.weight; at < 0 {
			return k
		}
	}
	panic("the weights have another sum")
}

func faultNamed(t *testing.T, name string) clusterFaultKind {
	t.Helper()
	for _, k := range clusterKinds {
		if k.name == name {
			return k
		}
	}
	t.Fatalf("-cluster.fault: there is no %q", name)
	return clusterFaultKind{}
}

// needs says what a fault cannot be done without; empty where it is there.
func (d *instance) needs(fault string, cuts *cuts) string {
	what, _, _ := strings.Cut(fault, " ")
	switch what {
	case "cut", "lose", "delay":
		return cuts.absent
	case "slow":
		if _, err := exec.LookPath("strace"); err != nil {
			return "there is no strace"
		}
	case "power":
		if d.disk == nil {
			return "the data is on no disk of its own (-cluster.powercuts)"
		}
	case "upgrade":
		if *clusterOld == "" {
			return "there is no older program (-cluster.old)"
		}
	}
	return ""
}

// breakCluster does what the fault says and undoes it.
func (d *instance) breakCluster(t *testing.T, cuts *cuts, r *clusterTrial, random *rand.Rand) {
	t.Helper()
	what, whom, _ := strings.Cut(r.Fault, " ")
	leader := d.leader(t)
	nodes := []int{0, 1, 2}
	r.Node = whom
	switch strings.TrimSuffix(whom, "'s ears") {
	case "leader":
		nodes = []int{leader}
	case "follower":
		nodes = []int{(leader + 1 + random.IntN(2)) % 3}
	}
	if len(nodes) == 1 {
		r.Node = d.info.Nodes[nodes[0]].ID
	}
	outage := time.Duration(random.Int64N(int64(3*time.Second))) + 2500*time.Millisecond // below and above a session's lease
	r.began = time.Now()
	hold := func() { time.Sleep(outage - time.Since(r.began)) }
	switch what {
	case "lie": // its load does
		hold()
	case "kill", "stop", "terminate":
		pids := d.processes(t, whom, nodes)
		signalAll(pids, map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP, "terminate": syscall.SIGTERM}[what])
		if what == "stop" {
			defer func() { hold(); signalAll(pids, syscall.SIGCONT) }() // one may have been killed by what it found when it woke
		}
		if what != "stop" && whom != "acquirers" {
			defer d.awaitOthers(t, nodes, pids)
		}
	case "cut":
		cuts.cut(t, nodes[0], strings.HasSuffix(whom, "ears"))
		defer func() { hold(); cuts.heal(t) }()
	case "lose":
		cuts.lose(t, 20)
		hold()
		cuts.heal(t)
	case "delay":
		undo := cuts.delay(t, d.peers(t))
		hold()
		undo()
	case "restart", "upgrade": // one after the other, the leader last
		d.inTurn(t, what == "upgrade", leader, r)
	case "slow":
		d.slowDisk(t, nodes[0], leader, r)
	case "power":
		d.cutPower(t)
	}
	if nodes[0] == leader && len(nodes) == 1 && (what == "kill" || what == "stop" || what == "cut") {
		r.OutageMS = float64(d.firstAnswer(r.began, leader).Microseconds()) / 1000
	}
}

// processes are those of nodes, or of every acquirer.
func (d *instance) processes(t *testing.T, whom string, nodes []int) (pids []int) {
	t.Helper()
	if whom != "acquirers" {
		for _, n := range nodes {
			pids = append(pids, d.nodePID(t, n))
		}
		return pids
	}
	for _, pid := range d.children(t) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), "sim\x00run") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}

// awaitOthers waits until dead nodes are other processes: one that is told to
// stop answers "ready" until it has begun to.
func (d *instance) awaitOthers(t *testing.T, nodes, before []int) {
	t.Helper()
	eventually(t, time.Minute, "other processes", func() bool {
		for i, n := range nodes {
			if d.nodePID(t, n) == before[i] {
				return false
			}
		}
		return true
	})
}

// inTurn restarts the nodes one after the other, as an upgrade does, the leader
// last; an upgrade puts this program in the place of the old one before.
func (d *instance) inTurn(t *testing.T, upgrade bool, leader int, r *clusterTrial) {
	t.Helper()
	before := d.clusterStatus(t).Version
	if upgrade {
		program, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		command(t, "cp", program, d.cmd.Path+".new")
		command(t, "mv", d.cmd.Path+".new", d.cmd.Path)
	}
	for _, n := range []int{(leader + 1) % 3, (leader + 2) % 3, leader} {
		pids := d.processes(t, "node", []int{n})
		signalAll(pids, syscall.SIGTERM)
		d.awaitOthers(t, []int{n}, pids)
		d.awaitNodes(t)
	}
	if !upgrade {
		return
	}
	var after clusterStatus
	builds := map[string]bool{}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && (after.Version <= before || len(builds) != 1); time.Sleep(100 * time.Millisecond) {
		after = d.clusterStatus(t)
		clear(builds)
		for _, m := range after.Members {
			builds[m.Build] = true
		}
	}
	r.Versions = fmt.Sprintf("%d to %d", before, after.Version)
	if after.Version <= before || len(builds) != 1 {
		r.Found = fmt.Sprintf("after the upgrade the cluster is at version %d, from %d; its builds are %v\n", after.Version, before, builds)
	}
}

// signal sends one to a node and returns its process id.
func (d *instance) signal(t *testing.T, node int, s syscall.Signal) int {
	t.Helper()
	pid := d.nodePID(t, node)
	if err := syscall.Kill(pid, s); err != nil {
		t.Errorf("signal %d to %s: %v", s, d.info.Nodes[node].ID, err)
	}
	return pid
}

// nodePID is a node's process.
func (d *instance) nodePID(t *testing.T, node int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.info.Nodes[node].DataDir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// children are the processes that dev started.
func (d *instance) children(t *testing.T) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.cmd.Process.Pid, d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.cmd.Process.Pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		b = append(append(b, ' '), more...)
	}
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
