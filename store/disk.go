package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/hashicorp/raft"
)

// openDisk opens the two Pebbles: one shared by log and state had worse tails.
func (s *Store) openDisk() error {
	if err := s.preparedDisk(); err != nil {
		return err
	}
	fs, dir := s.deps.FS, s.cfg.Dir
	for _, sub := range [...]string{"", "log", stateDir, "snapshots"} {
		if err := fs.MkdirAll(fs.PathJoin(dir, sub), 0o700); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	// The directory's own name must survive a power cut, too.
	for _, made := range [...]string{dir, fs.PathDir(dir)} {
		if err := syncDir(fs, made); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	for _, sub := range [...]string{"log", stateDir} {
		if err := checkFraming(fs, fs.PathJoin(dir, sub)); err != nil {
			return fmt.Errorf("check what is on the disk: %w", err)
		}
	}
	logDB, err := pebble.Open(fs.PathJoin(dir, "log"), s.logOptions())
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	s.logDB = logDB
	s.log = newRaftLog(logDB, int(s.cfg.LogCacheBytes))
	s.replica = &replica{began: s.began, limit: s.cfg.Version, fs: fs, dir: dir, fail: s.fail, open: func(dir string) (*pebble.DB, error) {
		return pebble.Open(dir, s.stateOptions())
	}}
	state, err := s.replica.open(fs.PathJoin(dir, stateDir))
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	s.replica.state = state
	if err := s.replica.load(); err != nil {
		return err
	}
	s.clock.start(s.replica.machine.Now())
	return nil
}

// logOptions: every commit is synced, entries are read once or never, and are
// deleted in ranges. Compressing sealed cards and hashes only costs time.
func (s *Store) logOptions() *pebble.Options {
	o := &pebble.Options{
		FS: s.deps.FS, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{s, s.deps.Log.With("pebble", "log")}, EventListener: s.listener("log"),
		MemTableSize: uint64(s.cfg.LogMemtableBytes), MemTableStopWritesThreshold: 8,
		L0CompactionThreshold: 8, L0StopWritesThreshold: 64, CacheSize: 8 << 20,
		TargetFileSizes: [7]int64{fileBytes}, BytesPerSync: 1 << 20,
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return o
}

// fileBytes: each file is synced when it is whole, in the way of the log's own
// syncs, so few and large ones.
const fileBytes = 16 << 20

// memtablesKept are the one that is filled and the one before it, which is being
// written or kept to be used again. Pebble takes their bytes out of its cache:
// in one of twice their size there was no room for a single block, and each look
// at an old payment read the filters of all files again, with everybody's commit
// behind it.
const memtablesKept = 2

// stateOptions: no WAL, because the Raft log is one; many memtables before a
// stall, because a stall here stalls Raft. Lines of history come in the order
// of time and are written once; only the tables in the order of hashes overlap,
// and are merged into the levels below seldom and in large pieces. What will be
// rewritten soon is not compressed.
func (s *Store) stateOptions() *pebble.Options {
	o := &pebble.Options{
		FS: s.deps.FS, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{s, s.deps.Log.With("pebble", "state")}, EventListener: s.listener("state"),
		DisableWAL: true, MemTableSize: uint64(s.cfg.MemtableBytes), MemTableStopWritesThreshold: 16,
		L0CompactionThreshold: 16, L0StopWritesThreshold: 1000, CacheSize: s.cfg.BlockCacheBytes + memtablesKept*s.cfg.MemtableBytes, BytesPerSync: 1 << 20,
		LBaseMaxBytes: 256 << 20, TargetFileSizes: [7]int64{fileBytes}, FlushSplitBytes: fileBytes / 4,
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		c := pebble.DBCompressionNone
		last := len(c.Levels) - 1
		c.Levels[last] = pebble.DBCompressionFastest.Levels[last]
		return c
	})
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

var errDamagedSnapshot = errors.New("damaged snapshot")

// recover brings a state that is older than the newest snapshot up to it. That
// happens only when a restore was cut between removing the old state and
// putting the new one in its place.
func (s *Store) recover(from *snapshots) error {
	list, err := from.List()
	if err != nil {
		return err
	}
	if len(list) > 0 && s.replica.machine.Applied() < list[0].Index {
		_, stream, err := from.Open(list[0].ID)
		if err != nil {
			return err
		}
		err = s.replica.Restore(stream)
		if closeErr := stream.Close(); err == nil {
			err = closeErr
		}
		if errors.Is(err, errBadStream) {
			err = fmt.Errorf("%w: %w", errDamagedSnapshot, err) // it was whole when it came
		}
		if err != nil {
			return fmt.Errorf("recover the state from snapshot %s: %w", list[0].ID, err)
		}
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	// Entry 1 is the configuration; Raft's own entries do not move the index.
	var behind uint64
	if len(list) > 0 {
		behind = list[0].Index
	}
	if applied := max(s.replica.machine.Applied(), behind); first > applied+1 {
		return fmt.Errorf("%w: state %d, log from %d", ErrBehind, applied, first)
	}
	return nil
}

func (s *Store) closeDisk() error {
	if s.broken.Load() {
		return nil // a Pebble that called something fatal does not close, and the process ends
	}
	var errs []error
	if s.replica != nil {
		s.replica.stateMu.Lock()
		errs = append(errs, s.replica.close())
		s.replica.stateMu.Unlock()
	}
	if s.logDB != nil {
		errs = append(errs, s.logDB.Close())
		s.logDB = nil
	}
	return errors.Join(errs...)
}

var (
	_ raft.LogStore    = guardedLog{}
	_ raft.StableStore = guardedLog{}
)
