package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLogEndsEarly: a log that ends before what the state has, or that has lost the
// term of its entries, and with it whom this node voted for, is refused.
func TestLogEndsEarly(t *testing.T) {
	for name, lose := range map[string]func(*pebble.DB) error{
		"entries": func(db *pebble.DB) error { return db.DeleteRange(logKey(5), logKey(1000), pebble.Sync) },
		"votes": func(db *pebble.DB) error {
			return db.DeleteRange([]byte{keyStable}, []byte{keyStable + 1}, pebble.Sync)
		},
	} {
		fs, cfg := vfs.NewCrashableMem(), testConfig("node")
		s := start(t, fs, cfg)
		for n := range 12 {
			_, err := s.Open(intent(n))
			must(t, err)
		}
		must(t, s.replica.state.Flush())
		disk := copyOf(fs)
		stop(t, s)
		db, err := pebble.Open("node/log", &pebble.Options{FS: disk, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
		must(t, err)
		must(t, errors.Join(lose(db), db.Close()))
		if _, err := recordsOf(disk, cfg); err == nil || !damaged(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// quiet is a Pebble that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// TestFlippedRecords flips a bit of each byte of the WAL and of the lists of
// tables, one at a time: what opens then has every entry that was acknowledged but
// the last ones, which cannot be told from what a power cut leaves, and the
// others know. Pebble alone opens without everything behind the byte.
func TestFlippedRecords(t *testing.T) {
	fs, cfg := vfs.NewCrashableMem(), testConfig("node")
	s := start(t, fs, cfg)
	for n := range 12 {
		_, err := s.Open(intent(n))
		must(t, err)
		if n%4 == 0 {
			must(t, s.replica.state.Flush())
		}
		if n == 1 || n == 5 {
			must(t, s.logDB.Flush())
		}
	}
	disk := copyOf(fs)
	stop(t, s)
	whole, err := recordsOf(copyOf(disk), cfg)
	must(t, err)
	for _, kind := range []struct {
		name, dir, pattern string
		every              int
	}{
		{"WAL of the log", "node/log", "*.log", 19},
		{"list of the log's tables", "node/log", "MANIFEST-*", 3},
		{"list of the state's tables", "node/state", "MANIFEST-*", 5},
	} {
		found, total := 0, 0
		for _, path := range matching(t, disk, kind.dir, kind.pattern) {
			b, err := readFile(disk, path)
			must(t, err)
			for at := 0; at < len(b); at += kind.every {
				total++
				clone := copyOf(disk)
				data, err := clone.UnsafeGetFileDataBuffer(path)
				must(t, err)
				data[at] ^= 1 << (at % 8)
				has, err := recordsOf(clone, cfg)
				switch {
				case err == nil && !strings.HasPrefix(whole, has):
					t.Errorf("%s, byte %d of %d: other records", kind.name, at, len(b))
				case err == nil && strings.Count(whole[len(has):], "\n") > 3:
					t.Errorf("%s, byte %d of %d: %d entries are missing", kind.name, at, len(b), strings.Count(whole[len(has):], "\n"))
				case err != nil && !damaged(err):
					t.Errorf("%s, byte %d of %d: not known to be damaged: %v", kind.name, at, len(b), err)
				case err != nil:
					found++
				}
			}
		}
		t.Logf("%s: %d of %d found", kind.name, found, total)
		if found < total/4 {
			t.Errorf("%s: %d of %d found", kind.name, found, total)
		}
	}
}

// recordsOf opens a disk as a start does, and is the log's entries, one a line.
func recordsOf(fs *vfs.MemFS, cfg Config) (string, error) {
	s := &Store{cfg: cfg.withDefaults(), deps: Deps{Now: wallClock, FS: fs}.withDefaults(), down: make(chan struct{}), gone: make(chan struct{})}
	s.clock = &clock{wall: s.deps.Now}
	lines, err := s.openedRecords()
	return lines, errors.Join(err, s.closeDisk())
}

func (s *Store) openedRecords() (string, error) {
	if err := s.openDisk(); err != nil {
		return "", err
	}
	from, err := newSnapshots(s.deps.FS, s.deps.FS.PathJoin(s.cfg.Dir, "snapshots"))
	if err == nil {
		err = s.recover(from)
	}
	if err == nil {
		err = s.checkLog(from)
	}
	if err != nil {
		return "", err
	}
	it, err := s.logDB.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLog}, UpperBound: []byte{keyLog + 1}})
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(&lines, "%x %x\n", it.Key(), it.Value())
	}
	return lines.String(), it.Close()
}

// matching are the files of a directory with such names.
func matching(t *testing.T, fs vfs.FS, dir, pattern string) (paths []string) {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	for _, name := range names {
		if fits, err := filepath.Match(pattern, name); err == nil && fits {
			paths = append(paths, fs.PathJoin(dir, name))
		}
	}
	if len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, names)
	}
	return paths
}
