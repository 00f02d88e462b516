package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRebuildAndRestore: a node of three stops, and a table of its state is
// altered meanwhile. It refuses to start, with a line that says what to do; one
// command has the others fill it, under traffic, and nothing is lost. Another gets
// a new disk, and the command while its supervisor starts it over and over. A backup
// of it all begins the cluster anew: fenced, and not ready until its lanes are
// released.
func TestRebuildAndRestore(t *testing.T) {
	t.Parallel()
	d := startDev(t, "--nodes", "3")
	const victim = 2
	file := filepath.Join(d.dir, "n3.yaml")
	everywhere := d.at(0)
	everywhere.info.API = d.info.Nodes[0].API + "," + d.info.Nodes[1].API + "," + d.info.Nodes[2].API
	answers := filepath.Join(d.dir, "answers.jsonl")
	wait := everywhere.load(t, "--rate", "50", "--duration", "9s", "--answers", answers)

	d.alterTable(t, victim)
	eventually(t, 20*time.Second, "it refuses to start", func() bool {
		return strings.Contains(d.logs.String(), "this node's disk is not to be believed")
	})
	if line := lineWith(d.logs.String(), "this node's disk is not to be believed"); !strings.Contains(line, "checksum mismatch") || !strings.Contains(line, "authswitch cluster rebuild --config") {
		t.Errorf("it does not say in one line why, and what to do: %s", line)
	}
	if out, errs, code := run(t, "cluster", "rebuild", "--config", file); code != 0 || !strings.Contains(out, "n3") {
		t.Fatalf("rebuild: %d %s%s", code, out, errs)
	}
	d.awaitNodes(t)
	if out, errs, code := run(t, "cluster", "members", "--config", file); code != 0 || strings.Contains(out, "no vote") || strings.Count(out, "127.0.0.") != 3 {
		t.Errorf("members: %d %s%s", code, out, errs)
	}
	first := d.at(victim).authorize("at the rebuilt", visaCard, 1000)
	if first.field("status") != "approved" {
		t.Errorf("the rebuilt node: %d %s", first.status, first.body)
	}
	if r := wait(); r.Approved == 0 || r.Unknown != 0 {
		t.Errorf("%+v", r)
	}
	if out, errs, code := run(t, "bench", "verify", "--api", d.at(victim).info.API, "--key", d.info.Key, "--answers", answers, "--settle", "40s"); code != 0 {
		t.Errorf("verify: %d %s%s", code, tail(out, 3000), errs)
	}
	d.newDisk(t, 1)
	d.restored(t, first)
}

// newDisk takes everything from a node's data directory and has it rebuilt; its
// next start, a later one, must find what it was given.
func (d *instance) newDisk(t *testing.T, node int) {
	t.Helper()
	file := filepath.Join(d.dir, d.info.Nodes[node].ID+".yaml")
	supervisor := d.cmd.Process.Pid
	signal(t, supervisor, syscall.SIGSTOP)
	pid := d.signal(t, node, syscall.SIGKILL)
	eventually(t, 20*time.Second, "it is dead", func() bool { return ended(pid) })
	if err := os.RemoveAll(d.info.Nodes[node].DataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.info.Nodes[node].DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	signal(t, supervisor, syscall.SIGCONT)
	eventually(t, 20*time.Second, "it says that its disk is empty", func() bool { return strings.Contains(d.logs.String(), "this node's disk is empty") })
	if out, errs, code := run(t, "cluster", "remove", "n9", "--config", file); code != 1 || !strings.Contains(errs, "not found: member n9") {
		t.Errorf("remove a node that nobody knows: %d %s%s", code, out, errs)
	}
	if out, errs, code := run(t, "cluster", "rebuild", "--config", file); code != 0 {
		t.Fatalf("rebuild on a new disk: %d %s%s", code, out, errs)
	}
	d.awaitNodes(t)
	pid = d.signal(t, node, syscall.SIGTERM)
	eventually(t, 20*time.Second, "it has stopped", func() bool { return ended(pid) })
	d.awaitNodes(t)
	pid = d.signal(t, node, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	if out, errs, code := run(t, "cluster", "members", "--config", file); code != 0 {
		t.Errorf("members, asked first of a node that hangs: %d %s%s", code, out, errs)
	}
}

// alterTable stops a node, and flips a bit of the largest table of its state
// before its supervisor starts it again.
func (d *instance) alterTable(t *testing.T, node int) {
	t.Helper()
	supervisor := d.cmd.Process.Pid
	signal(t, supervisor, syscall.SIGSTOP)
	defer signal(t, supervisor, syscall.SIGCONT)
	pid := d.signal(t, node, syscall.SIGTERM)
	eventually(t, 20*time.Second, "it has stopped", func() bool { return ended(pid) })
	tables, err := filepath.Glob(filepath.Join(d.info.Nodes[node].DataDir, "state", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	var largest string
	var whole []byte
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(whole) {
			largest, whole = table, b
		}
	}
	whole[len(whole)/2] ^= 0x40
	if err := os.WriteFile(largest, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ended says whether a process has ended; its parent may not have looked yet.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

func lineWith(text, words string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, words) {
			return line
		}
	}
	return ""
}

// restored saves a backup, stops everything, and begins the cluster with the
// backup.
func (d *instance) restored(t *testing.T, before answer) {
	t.Helper()
	backup, file := filepath.Join(d.dir, "backup.as"), filepath.Join(d.dir, "n1.yaml")
	if out, errs, code := run(t, "cluster", "snapshot", "save", backup, "--config", file); code != 0 {
		t.Fatalf("save: %d %s%s", code, out, errs)
	}
	_ = d.stop()
	for _, node := range d.info.Nodes {
		for _, journal := range []string{"log", "state", "snapshots"} {
			if err := os.RemoveAll(filepath.Join(node.DataDir, journal)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, errs, code := run(t, "cluster", "snapshot", "restore", backup, "--config", file); code != 0 || !strings.Contains(out, "every lane") {
		t.Fatalf("restore: %d %s%s", code, out, errs)
	}
	again := exec.Command(d.cmd.Path, d.cmd.Args[1:]...) // it is ready when every lane is released
	again.Stderr = d.logs
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	d.cmd = again
	eventually(t, 30*time.Second, "it says that it is fenced", func() bool { return strings.Contains(d.says(0), "link visa-a is fenced") })
	ready, err := http.Get(d.info.Admin + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	ready.Body.Close()
	if ready.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a fenced node is ready: %d", ready.StatusCode)
	}
	if a := d.authorize("at the rebuilt", visaCard, 1000); a.body != before.body {
		t.Errorf("an old key: %d %s", a.status, a.body)
	}
	if a := d.authorize("while fenced", visaCard, 1000); a.status != http.StatusServiceUnavailable {
		t.Errorf("a new payment on a fenced lane: %d %s", a.status, a.body)
	}
	if out, errs, code := run(t, "cluster", "release", "visa-b", "--config", file); code != 2 || !strings.Contains(errs, "no link visa-b") {
		t.Errorf("release what is no link: %d %s%s", code, out, errs)
	}
	if out, errs, code := run(t, "cluster", "release", "visa-a", "--config", file); code != 0 {
		t.Fatalf("release: %d %s%s", code, out, errs)
	}
	eventually(t, 10*time.Second, "the others are fenced still", func() bool {
		said := d.says(0)
		return strings.Contains(said, "link amex-a is fenced") && !strings.Contains(said, "link visa-a is fenced")
	})
	if out, errs, code := run(t, "cluster", "release", "*", "--config", file); code != 0 {
		t.Fatalf("release: %d %s%s", code, out, errs)
	}
	d.awaitNodes(t)
	if a := d.authorize("while fenced", visaCard, 1000); a.field("status") != "approved" {
		t.Errorf("a new payment after the release: %d %s", a.status, a.body)
	}
}
