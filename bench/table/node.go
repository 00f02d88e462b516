package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"authswitch/bench"
)

// Limits of a development mode under measurement.
const (
	readyWithin = time.Minute
	stopWithin  = 30 * time.Second
	tries       = 3 // of a run that other work on the machine made invalid
)

// dev is a running `authswitch dev`.
type dev struct {
	API      string    `json:"api"`
	Admin    string    `json:"admin"`
	Key      string    `json:"key"`
	Merchant string    `json:"merchant"`
	DataDir  string    `json:"data_dir"`
	Nodes    []devNode `json:"nodes"`
	HSM      *struct { // nil: there is no security module
		PID int `json:"pid"`
	} `json:"hsm"`

	Links []devLink `json:"links"`

	process   *exec.Cmd
	generator []string // what the load generator's command begins with, if anything
}

type devNode struct {
	PID     int    `json:"pid"`
	API     string `json:"api"`
	DataDir string `json:"data_dir"`
}

type devLink struct {
	Name string `json:"name"`
}

// startDev starts one node with its acquirers and waits for its one line.
func (t *table) startDev(ctx context.Context, args ...string) (*dev, error) {
	// Somebody else's node on this port would answer in place of ours.
	ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(t.portBase))
	if err != nil {
		return nil, fmt.Errorf("%w; choose other ports with -port-base", err)
	}
	if err := ln.Close(); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(t.scratch, "dev.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	// Not CommandContext: an interrupt must stop it cleanly, not kill it.
	args = append([]string{"dev", "--json", "--port-base", strconv.Itoa(t.portBase)}, args...)
	c := exec.Command(t.binary, args...) // #nosec G204 -- the program to measure
	c.Stderr = log
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	d := &dev{process: c}
	ready := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, d)
		}
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-time.After(readyWithin):
		err = errors.New("not ready in a minute")
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("authswitch dev: %w: %.500s", err, said), d.stop())
	}
	return d, nil
}

func (d *dev) stop() error {
	if err := d.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	late := time.AfterFunc(stopWithin, func() { _ = d.process.Process.Kill() })
	defer late.Stop()
	return d.process.Wait()
}

// processes names the node and, among the other children of dev, the
// simulators: `bench run --pids` takes it.
func (d *dev) processes() string {
	var out []string
	for _, n := range d.Nodes {
		out = append(out, fmt.Sprintf("node=%d", n.PID))
	}
	for _, pid := range d.rest() {
		out = append(out, fmt.Sprintf("simulator=%d", pid))
	}
	return strings.Join(out, ",")
}

// rest are the children of dev that are no nodes.
func (d *dev) rest() (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, name := range stats {
		pid, parent := parentOf(name)
		if parent == d.process.Process.Pid && !slices.ContainsFunc(d.Nodes, func(n devNode) bool { return n.PID == pid }) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf reads a process's id and its parent's from its stat file.
func parentOf(name string) (pid, parent int) {
	pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
	parent, _ = strconv.Atoi(statOf(pid)[statParent])
	return pid, parent
}

// cpuOf is the processor time of a process so far.
func cpuOf(pid int) time.Duration {
	const tick = 10 * time.Millisecond // on every Linux that Go runs on
	stat := statOf(pid)
	user, _ := strconv.Atoi(stat[statUser])
	system, _ := strconv.Atoi(stat[statSystem])
	return time.Duration(user+system) * tick
}

// Fields of a process's stat file after its name.
const (
	statParent = 1
	statUser   = 11
	statSystem = 12
	statFields = 13
)

// statOf reads them; they are empty of a process that has ended.
func statOf(pid int) []string {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil {
		// The name stands in parentheses and may hold spaces.
		if fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:])); len(fields) >= statFields {
			return fields
		}
	}
	return make([]string, statFields)
}

// loadDev runs `authswitch bench run` or ramp, in a process of its own as users
// would, and reads the study it writes.
func (t *table) loadDev(ctx context.Context, d *dev, command string, args ...string) (*bench.Study, error) {
	out := filepath.Join(t.scratch, "study.json")
	keyFile := filepath.Join(t.scratch, "key")
	if err := os.WriteFile(keyFile, []byte(d.Key), 0o600); err != nil {
		return nil, err
	}
	// Generator, node and acquirers share the machine and are to use all of it,
	// so the generator is late more often than on one of its own. Its lateness
	// is part of every latency, and stands among the figures.
	args = slices.Concat(d.generator, []string{
		t.binary, "bench", command, "--late-limit", t.late.String(), "--api", d.API, "--key", "@" + keyFile, "--admin", d.Admin, "--pids", d.processes(), "--out", out, "--json",
	}, args)
	c := exec.CommandContext(ctx, args[0], args[1:]...) // #nosec G204 -- the program to measure
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("bench %s: %w", command, err)
	}
	f, err := os.Open(out) // #nosec G304 -- our own
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return bench.ReadStudy(f)
}

// node measures the whole of one node: the rate it holds, what each
// authorization costs, and how long it takes when there is little to do.
func (t *table) node(ctx context.Context) (err error) {
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if sync, err := fdatasync(d.DataDir); err == nil {
		t.figures["disk.fdatasync_us"] = sync
	}
	rate, err := t.climb(ctx, d, 2000)
	if err != nil {
		return err
	}
	full, err := t.hold(ctx, d, rate)
	if err != nil {
		return err
	}
	t.figures["one_node.authorizations_per_s"] = full.Throughput()
	t.figures["one_node.p50_ms"], t.figures["one_node.p99_ms"], t.figures["one_node.p999_ms"] = full.P50, full.P99, full.P999
	t.figures["one_node.cpu_us_per_authorization"] = full.CPU
	t.figures["one_node.late_ms"] = full.Late
	t.figures["one_node.valid"] = truth(full.Valid)
	for name, spent := range full.CPUSplit {
		t.figures["one_node.cpu_us_"+name] = spent
	}
	for name, mean := range full.Stages {
		t.figures["one_node.stage_us_"+name] = mean
	}
	quiet, err := t.loadDev(ctx, d, "run", "--rate", "500", "--duration", t.load.String())
	if err != nil {
		return err
	}
	t.figures["one_node.p50_ms_at_500"], t.figures["one_node.p99_ms_at_500"] = quiet.Shown().P50, quiet.Shown().P99
	t.figures["one_node.cpu_us_per_authorization_at_500"] = quiet.Shown().CPU
	if err := t.verify(ctx, d); err != nil {
		return err
	}
	t.figures["one_node.verified"] = 1
	return nil
}

// climb finds the rate that short steps hold: half again as much each time until
// one does not, then by tenths from the last that did.
func (t *table) climb(ctx context.Context, d *dev, from float64) (rate float64, err error) {
	const coarse, fine = 1.5, 1.1
	study, err := t.loadDev(ctx, d, "ramp", "--from", fmt.Sprint(from), "--factor", fmt.Sprint(coarse), "--to", "100000", "--duration", (t.step / 2).String())
	if err != nil {
		return 0, err
	}
	rate = study.Shown().Rate
	between, err := t.loadDev(ctx, d, "ramp", "--from", fmt.Sprint(fine*rate), "--factor", fmt.Sprint(fine), "--to", fmt.Sprint(coarse*rate), "--duration", t.step.String())
	if err != nil {
		return 0, err
	}
	if between.Best >= 0 {
		rate = between.Shown().Rate
		study.Best = len(study.Steps) + between.Best
	}
	study.Steps = append(study.Steps, between.Steps...)
	if t.html != "" {
		err = writeReport(t.html, study)
	}
	return rate, err
}

// hold runs at a rate for the full length; a rate that the ramp's short step
// held but the long run does not is lowered.
func (t *table) hold(ctx context.Context, d *dev, rate float64) (*bench.Report, error) {
	for try := 1; ; try++ {
		study, err := t.loadDev(ctx, d, "run", "--rate", strconv.FormatFloat(rate, 'f', 0, 64), "--duration", t.load.String())
		if err != nil {
			return nil, err
		}
		r := study.Shown()
		if r.Valid && r.P99 <= 100 || try == tries {
			return r, nil
		}
		rate *= 0.9
	}
}

// verify lets the three sides of all that traffic be compared.
func (t *table) verify(ctx context.Context, d *dev) error {
	c := exec.CommandContext(ctx, t.binary, "bench", "verify", "--api", d.API, "--key", "@"+filepath.Join(t.scratch, "key"), "--settle", "60s") // #nosec G204
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("bench verify: %w: %.500s", err, out)
	}
	return nil
}

func writeReport(name string, study *bench.Study) error {
	f, err := os.Create(name) // #nosec G304 -- a flag
	if err != nil {
		return err
	}
	return errors.Join(bench.WriteReport(f, study, "authswitch: one node"), f.Close())
}

// fdatasync is the median time of appending 4 KiB and waiting for the disk.
func fdatasync(directory string) (microseconds float64, err error) {
	f, err := os.CreateTemp(directory, "fdatasync-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	var took []time.Duration
	for range 200 {
		from := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(from))
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1000, nil
}

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}
