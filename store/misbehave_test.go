package store

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"authswitch/payment"
)

// badDisk is a file system that can be made to misbehave.
type badDisk struct {
	vfs.FS
	fault atomic.Pointer[func(errorfs.Op) error]
}

func newBadDisk(under vfs.FS) *badDisk {
	d := &badDisk{}
	d.FS = errorfs.Wrap(under, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f := d.fault.Load(); f != nil {
			return (*f)(op)
		}
		return nil
	}))
	return d
}

func (d *badDisk) set(f func(errorfs.Op) error) { d.fault.Store(&f) }

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// TestMisbehavingDisk breaks the disk of one member, leading or following, in
// every way that shows at once: it stops by itself and says why, the others go
// on, and when its disk is well again it comes back by a start, without a
// rebuild: what it has is right.
func TestMisbehavingDisk(t *testing.T) {
	for _, c := range []struct {
		name  string
		leads bool
		fault func(stuck chan struct{}) func(errorfs.Op) error
		says  string
	}{
		{"stalled", true, stalled, "a write of the log takes"},
		{"stalled", false, stalled, "a write of the log takes"},
		{"full", true, full, "no space left on device"},
		{"full", false, full, "no space left on device"},
		{"failing", true, failing, "input/output error"},
		{"failing", false, failing, "input/output error"},
	} {
		t.Run(c.name+map[bool]string{true: " leader", false: " follower"}[c.leads], func(t *testing.T) {
			breakDisk(t, c.leads, c.fault, c.says)
		})
	}
}

func stalled(stuck chan struct{}) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if isSync(op) && strings.HasPrefix(op.Path, "node/log") {
			<-stuck
		}
		return nil
	}
}

func full(chan struct{}) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate {
			return syscall.ENOSPC
		}
		return nil
	}
}

func failing(chan struct{}) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if isSync(op) || op.Kind == errorfs.OpFileWrite {
			return syscall.EIO
		}
		return nil
	}
}

func breakDisk(t *testing.T, leads bool, fault func(chan struct{}) func(errorfs.Op) error, says string) {
	c := startTrio(t)
	leader := c.leader()
	victim := leader
	if !leads {
		victim = (leader + 1) % 3
	}
	c.approve(leader, 1, 5)
	stuck := make(chan struct{})
	c.expected[victim] = make(chan error, 1)
	c.bad[victim].set(fault(stuck))
	began := time.Now()
	other := (victim + 2) % 3
	for n := 100; ; n++ { // the others answer, once the victim is silent
		i := intent(n)
		o, err := c.stores[other].Open(i)
		if err == nil && o.Verdict == payment.OpenNew {
			if _, err = c.stores[other].Close(approval(i)); err == nil && len(c.expected[victim]) > 0 {
				break
			}
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the others do not go on: %+v %v; the member said %d", o, err, len(c.expected[victim]))
		}
	}
	if err := <-c.expected[victim]; !strings.Contains(err.Error(), says) {
		t.Errorf("it said %v, want %q", err, says)
	}
	c.bad[victim].set(func(errorfs.Op) error { return nil })
	close(stuck)
	over := make(chan error, 1)
	go func() { over <- c.stores[victim].Stop(context.Background()) }()
	select {
	case <-over: // it may have found that it cannot flush
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
	c.stores[victim] = nil
	c.expected[victim] = nil
	c.disks[victim] = c.disks[victim].CrashClone(vfs.CrashCloneCfg{}) // what it had synced
	c.start(victim)
	if t.Failed() {
		t.FailNow()
	}
	c.approve(victim, 10_000, 5)
}

// TestCorruption flips a bit in each kind of file that a member has: it is found
// at the start, nothing of it is served, the member does not start again, and the
// line says what to do. After the rebuild it has everything.
func TestCorruption(t *testing.T) {
	c := startTrio(t)
	for _, kind := range []struct {
		name, dir, suffix string
	}{
		{"table of the log", "node/log", ".sst"},
		{"table of the state", "node/state", ".sst"},
		{"WAL of the log", "node/log", ".log"},
		{"list of the log's tables", "node/log", "MANIFEST"},
		{"list of the state's tables", "node/state", "MANIFEST"},
	} {
		leader := c.leader()
		victim := (leader + 1) % 3
		c.approve(leader, 1000*len(kind.name), 40)
		s := c.stores[victim]
		eventually(t, "it has caught up", func() bool { return s.raft.AppliedIndex() >= c.stores[leader].raft.CommitIndex() })
		if kind.suffix != ".log" {
			must(t, s.logDB.Flush())
		}
		c.stopped(victim)
		flip(t, c.disks[victim], kind.dir, kind.suffix)
		failed := make(chan error, 1)
		c.expected[victim] = failed
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		s, err := Start(ctx, c.config(victim), c.deps(victim))
		cancel()
		if err == nil { // found behind the start
			select {
			case err = <-failed:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: it runs", kind.name)
			}
			_ = s.Stop(context.Background())
		}
		c.expected[victim] = nil
		c.disks[victim] = copyOf(c.disks[victim]) // a process that ended holds no lock
		if line, _, _ := strings.Cut(err.Error(), "\n"); !strings.Contains(line, "authswitch cluster rebuild") {
			t.Errorf("%s: not one line with what to do: %q", kind.name, err)
		}
		if _, err := Start(t.Context(), c.config(victim), c.deps(victim)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: it starts again: %v", kind.name, err)
		}
		c.rebuild(victim)
		eventually(t, "it has caught up", func() bool {
			return c.stores[victim].raft.AppliedIndex() >= c.stores[c.leader()].raft.CommitIndex()
		})
		if dump(t, c.stores[victim]) != dump(t, c.stores[(victim+1)%3]) {
			t.Errorf("%s: the rebuilt state is another", kind.name)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// flip changes a bit of the largest such file: in the middle of a table, in the
// first of a file's records.
func flip(t *testing.T, fs vfs.FS, dir, kind string) {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	var path string
	var size int64
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		must(t, err)
		if (filepath.Ext(name) == kind || strings.HasPrefix(name, kind)) && info.Size() > size {
			path, size = fs.PathJoin(dir, name), info.Size()
		}
	}
	if path == "" {
		t.Fatalf("no %s in %s: %v", kind, dir, names)
	}
	f, err := fs.Open(path)
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	at := len(b) / 2
	if kind != ".sst" {
		at = 30
	}
	b[at] ^= 0x40
	must(t, writeFile(fs, path, b))
}
