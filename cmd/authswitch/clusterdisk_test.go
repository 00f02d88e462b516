package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// loopDisk is an ext4 in a file.
type loopDisk struct{ file, mount string }

func newLoopDisk(t *testing.T) *loopDisk {
	t.Helper()
	dir := t.TempDir()
	l := &loopDisk{file: filepath.Join(dir, "disk.img"), mount: filepath.Join(dir, "disk")}
	if err := os.Mkdir(l.mount, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", "8G", l.file)
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
	signalAll(d.children(t), syscall.SIGKILL)
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

// slowSync is what each synced write of a slow disk takes longer.
const slowSync = 200 * time.Millisecond

// slowDisk makes a node's synced writes slow for a while. The tracer stops at
// every system call of the node, so that it costs by itself: a follower is first
// traced without a delay, and the one is held against the other. A leader must
// have handed over.
func (d *instance) slowDisk(t *testing.T, node, leader int, r *clusterTrial) {
	t.Helper()
	const calm, traced, slow = 3 * time.Second, 4 * time.Second, 5 * time.Second
	if node != leader {
		r.calm = during(calm, func() { time.Sleep(calm) })
		r.traced = during(traced, func() { defer d.trace(t, node)(); time.Sleep(traced) })
		r.slow = during(slow, func() {
			defer d.trace(t, node, "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", slowSync.Microseconds()))()
			time.Sleep(slow)
		})
		return
	}
	defer d.trace(t, node, "-e", fmt.Sprintf("inject=fsync,fdatasync:delay_enter=%d", slowSync.Microseconds()))()
	r.HandOver = -1
	for began := time.Now(); time.Since(began) < slow; time.Sleep(10 * time.Millisecond) {
		if !d.leads(node) {
			r.HandOver = float64(time.Since(began).Microseconds()) / 1000
			break
		}
	}
}

// trace lets a tracer look at a node's synced writes until it is told to go.
func (d *instance) trace(t *testing.T, node int, more ...string) (letGo func()) {
	t.Helper()
	tracer := exec.Command("strace", append([]string{"-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(d.nodePID(t, node)), "-e", "trace=fsync,fdatasync"}, more...)...)
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = tracer.Process.Signal(syscall.SIGINT)
		_ = tracer.Wait()
	}
}

// window is a part of a round. What was asked before it is still answered in
// its first half second.
type window struct{ from, to time.Time }

func during(least time.Duration, do func()) window {
	w := window{from: time.Now().Add(min(500*time.Millisecond, least))}
	do()
	w.to = time.Now()
	return w
}
