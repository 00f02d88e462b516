package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestDamagedDisk: a disk that lied about its syncs may have lost any of its
// files, or a piece of one. The node says so and does not start; it panicked where
// an entry was missing in the middle of the log, and where a block of the state
// was not what was written.
func TestDamagedDisk(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *vfs.MemFS){
		"an entry is missing": func(t *testing.T, fs *vfs.MemFS) {
			db, err := pebble.Open("node/log", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest})
			must(t, err)
			must(t, db.Delete(logKey(9), pebble.Sync))
			must(t, db.Close())
		},
		"a block is another": func(t *testing.T, fs *vfs.MemFS) {
			for _, file := range tables(t, fs) {
				b, err := fs.UnsafeGetFileDataBuffer(file)
				must(t, err)
				for i := range len(b) / 2 {
					b[i] ^= 0xFF
				}
			}
		},
		"a file is shorter": func(t *testing.T, fs *vfs.MemFS) {
			for _, file := range tables(t, fs) {
				b, err := fs.UnsafeGetFileDataBuffer(file)
				must(t, err)
				f, err := fs.Create(file, vfs.WriteCategoryUnspecified)
				must(t, err)
				_, err = f.Write(append([]byte(nil), b[:len(b)-100]...))
				must(t, errors.Join(err, f.Close()))
			}
		},
		"a file is missing": func(t *testing.T, fs *vfs.MemFS) {
			for _, file := range tables(t, fs) {
				must(t, fs.Remove(file))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			cfg := testConfig("node")
			s := start(t, fs, cfg)
			for n := range 20 {
				_, err := s.Open(intent(n))
				must(t, err)
			}
			must(t, s.replica.state.Flush())
			clone := fs.CrashClone(vfs.CrashCloneCfg{})
			stop(t, s)
			fs = clone
			harm(t, fs)
			cfg.StartTimeout = 2 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			s, err := Start(ctx, cfg, Deps{Now: wallClock, FS: fs, Fail: func(error) {}})
			if err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			if !damaged(err) {
				t.Errorf("not known to be damaged: %v", err)
			}
		})
	}
}

// tables are the files of the state.
func tables(t *testing.T, fs *vfs.MemFS) (files []string) {
	t.Helper()
	dir := fs.PathJoin("node", stateDir)
	names, err := fs.List(dir)
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			files = append(files, fs.PathJoin(dir, name))
		}
	}
	if len(files) == 0 {
		must(t, errors.New("the state has no tables"))
	}
	return files
}

// withSnapshot is the disk of a lone node that has taken a snapshot.
func withSnapshot(t *testing.T) (*vfs.MemFS, Config) {
	t.Helper()
	fs, cfg := vfs.NewCrashableMem(), testConfig("node")
	s := start(t, fs, cfg)
	for n := range 5 {
		_, err := s.Open(intent(n))
		must(t, err)
	}
	must(t, s.raft.Snapshot().Error())
	clone := copyOf(fs)
	stop(t, s)
	return clone, cfg
}

// TestDamagedDescription: a snapshot whose description a lying disk cut short, or
// altered, is damage, too: the node says so and does not start.
func TestDamagedDescription(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"cut short":      func(b []byte) []byte { return b[:len(b)/2] },
		"empty":          func([]byte) []byte { return nil },
		"of another one": func(b []byte) []byte { return bytes.Replace(b, []byte(`"Index":`), []byte(`"Index":1`), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			clone, cfg := withSnapshot(t)
			dir := clone.PathJoin("node", "snapshots")
			names, err := clone.List(dir)
			must(t, err)
			if len(names) == 0 {
				t.Fatal("no snapshot")
			}
			for _, id := range names {
				path := clone.PathJoin(dir, id, metaFile)
				b, err := readFile(clone, path)
				must(t, err)
				must(t, writeFile(clone, path, harm(b)))
			}
			s, err := Start(t.Context(), cfg, Deps{Now: wallClock, FS: clone, Fail: func(error) {}})
			if err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			if !damaged(err) {
				t.Errorf("not known to be damaged: %v", err)
			}
		})
	}
}

// TestDamagedSnapshot: a node whose restore was cut, and whose disk lied about the
// snapshot that it would begin again from, is told what to do, and only started
// again when it is rebuilt.
func TestDamagedSnapshot(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
		"altered":   func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
	} {
		t.Run(name, func(t *testing.T) {
			clone, cfg := withSnapshot(t)
			snapshots, err := newSnapshots(clone, "node/snapshots")
			must(t, err)
			list, err := snapshots.List()
			must(t, err)
			dir := clone.PathJoin("node", "snapshots", list[0].ID)
			_, stream, err := snapshots.Open(list[0].ID)
			must(t, err)
			b, err := io.ReadAll(stream)
			must(t, err)
			must(t, stream.Close())
			must(t, clone.RemoveAll(clone.PathJoin(dir, stateDir)))
			must(t, writeFile(clone, clone.PathJoin(dir, streamFile), harm(b))) // as it came from another
			must(t, clone.RemoveAll("node/"+stateDir))
			s, err := Start(t.Context(), cfg, Deps{Now: wallClock, FS: clone, Fail: func(error) {}})
			if err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			if !damaged(err) || !strings.Contains(err.Error(), "restore a backup") {
				t.Errorf("not known to be damaged: %v", err)
			}
		})
	}
}
