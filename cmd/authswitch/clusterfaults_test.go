package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/anishathalye/porcupine"
)

// lies are amounts whose acquirer answers twice, with another STAN, amount or
// terminal, or hangs up; most are answered as they should be.
const lies = "1000,1100,1200,1300,1400,1500,1600,1700,1070,1071,1074,1075,1076"

// breakMore does the faults that are not a signal to a node or a cut line.
func (d *instance) breakMore(t *testing.T, cuts *cuts, what string, nodes []int, outage time.Duration) {
	t.Helper()
	switch what {
	case "lose":
		cuts.lose(t, 20)
		time.Sleep(outage)
		cuts.heal(t)
	case "restart": // one after the other, as an upgrade does
		for n := range d.info.Nodes {
			d.signal(t, n, syscall.SIGTERM)
			time.Sleep(300 * time.Millisecond)
			d.awaitNodes(t)
		}
	case "slow":
		d.slowDisk(t, nodes[0], outage)
	case "power":
		d.cutPower(t)
	}
}

// signalAcquirers sends one to every simulator.
func (d *instance) signalAcquirers(t *testing.T, s syscall.Signal) {
	t.Helper()
	for _, pid := range d.children(t) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), "sim\x00run") {
			_ = syscall.Kill(pid, s)
		}
	}
}

// children are the processes that dev started.
func (d *instance) children(t *testing.T) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", d.cmd.Process.Pid, d.cmd.Process.Pid))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.cmd.Process.Pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		b = append(append(b, ' '), more...)
	}
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// slowSync is what each synced write of a slow disk takes longer.
const slowSync = 200 * time.Millisecond

// slowDisk makes a node's synced writes slow for a while. The tracer slows its
// other system calls a little, too.
func (d *instance) slowDisk(t *testing.T, node int, how time.Duration) {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(d.info.Nodes[node].DataDir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	tracer := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", strings.TrimSpace(string(pid)),
		"-e", "trace=fsync,fdatasync", "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", slowSync.Microseconds()))
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(how)
	_ = tracer.Process.Signal(syscall.SIGINT) // it lets go of the node
	_ = tracer.Wait()
}

// lose drops so many of a hundred packets between the nodes.
func (c *cuts) lose(t *testing.T, percent int) {
	t.Helper()
	for from := range 3 {
		for to := range 3 {
			if from == to {
				continue
			}
			if out, err := exec.Command("nft", "add", "rule", "inet", c.table, "in", "ip", "saddr", fmt.Sprintf("127.0.0.%d", from+1), "ip", "daddr", fmt.Sprintf("127.0.0.%d", to+1),
				"tcp", "dport", "!=", "1", "numgen", "random", "mod", "100", "<", strconv.Itoa(percent), "drop").CombinedOutput(); err != nil {
				t.Fatalf("nft: %s", out)
			}
		}
	}
}

// loopDisk is an ext4 in a file.
type loopDisk struct{ file, mount string }

func newLoopDisk(t *testing.T) *loopDisk {
	t.Helper()
	dir := t.TempDir()
	l := &loopDisk{file: filepath.Join(dir, "disk.img"), mount: filepath.Join(dir, "disk")}
	if err := os.Mkdir(l.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", "4G", l.file)
	command(t, "mkfs.ext4", "-q", l.file)
	command(t, "mount", "-o", "loop", l.file, l.mount)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", l.mount).Run() })
	return l
}

func command(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v %s", words, err, out)
	}
}

// ext4Shutdown stops a file system where it is: nothing that was not synced is
// there afterwards.
const (
	ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush   = 2
)

// cutPower takes the disk from every process of this cluster, acquirers and
// module too, kills them, mounts the disk again and starts anew.
func (d *instance) cutPower(t *testing.T) {
	t.Helper()
	root, err := os.Open(d.disk.mount)
	if err != nil {
		t.Fatal(err)
	}
	flags := uint32(noLogFlush)
	if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, root.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); failed != 0 {
		t.Fatalf("cut the power: %v", failed)
	}
	root.Close()
	_ = d.cmd.Process.Signal(syscall.SIGSTOP) // it would start them again
	for _, pid := range d.children(t) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("umount", d.disk.mount).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("umount: %s", out)
		}
	}
	command(t, "mount", "-o", "loop", d.disk.file, d.disk.mount)
	again := exec.Command(d.cmd.Path, d.cmd.Args[1:]...)
	d.cmd = again
	d.run()
}

// watchKeys has gateways at every node share a few keys, with two bodies, while
// the fault happens. What it returns ends that, and says how many requests there
// were and whether one register per key explains them.
func (d *instance) watchKeys(round int) func() (int, bool) {
	const clients, keys = 6, 40
	started := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	over := make(chan struct{})
	var all sync.WaitGroup
	client := http.Client{Timeout: 20 * time.Second}
	for c := range clients {
		all.Go(func() {
			for k := range keys {
				key, variant, amount := fmt.Sprintf("watch-%d-%d-%d", started.UnixNano(), round, k), "a", 1000
				if (c+k)%3 == 0 {
					variant, amount = "b", 1051
				}
				for tries, settled := 0, false; !settled; tries++ {
					select {
					case <-over:
						return
					default:
					}
					o := porcupine.Operation{ClientId: c, Input: asked{key, variant}, Call: int64(time.Since(started))}
					a, err := d.askAt(&client, (c+k+tries)%len(d.info.Nodes), key, d.body(visaCard, amount))
					o.Return = int64(time.Since(started))
					var out heard
					out, settled = hear(a, err)
					if err != nil {
						o.Return = 1 << 62 // it may take effect whenever it likes
					}
					o.Output = out
					mu.Lock()
					history = append(history, o)
					mu.Unlock()
					time.Sleep(40 * time.Millisecond)
				}
				time.Sleep(110 * time.Millisecond)
			}
		})
	}
	return func() (int, bool) {
		close(over)
		all.Wait()
		return len(history), porcupine.CheckOperations(keyRegister(), history)
	}
}
