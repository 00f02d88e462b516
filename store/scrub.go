package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
)

// What the disk gives back is checked against what was written: every entry of
// the log at the start and again when it is applied, every block of a table when
// it is read, every table that a member was sent before it becomes the state, and
// every table of the disk in the background, so that what nobody reads for months
// is not found out when it is needed.

// checkLog reads the whole log once before Raft does: entries follow each other
// from the newest snapshot on, each is what was written, and they go as far as the
// state and the votes say. Raft would take a gap for a reason to panic, and vote
// again in a term whose vote is lost.
func (s *Store) checkLog(from *snapshots) error {
	list, err := from.List()
	if err != nil {
		return err
	}
	var covered uint64
	if len(list) > 0 {
		covered = list[0].Index
	}
	it, err := s.logDB.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLog}, UpperBound: []byte{keyLog + 1}})
	if err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	newest, err := checkEntries(it, covered)
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.checkEnd(newest, covered)
	}
	if err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	return nil
}

// currentTerm is the key of Raft's own term, which is on disk before an entry of it.
const currentTerm = "CurrentTerm"

func (s *Store) checkEnd(newest raft.Log, covered uint64) error {
	term, err := s.log.GetUint64([]byte(currentTerm))
	switch applied := s.replica.machine.Applied(); {
	case err != nil:
		return err
	case newest.Term > term:
		return fmt.Errorf("%w: it has entries of term %d, and votes of term %d", errBadLog, newest.Term, term)
	case applied > max(newest.Index, covered):
		return fmt.Errorf("%w; it ends at %d", s.lessError(applied), max(newest.Index, covered))
	}
	return nil
}

// checkEntries returns the newest entry.
func checkEntries(it *pebble.Iterator, covered uint64) (newest raft.Log, err error) {
	next := covered + 1
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return newest, err
		}
		index := indexOfKey(it.Key())
		if index > covered {
			if index != next {
				return newest, fmt.Errorf("%w: %d", errGap, next)
			}
			next++
		}
		var log raft.Log
		if err := decodeLog(value, &log); err != nil {
			return newest, fmt.Errorf("entry %d: %w", index, err)
		}
		newest.Index, newest.Term = index, log.Term
		if log.Type != raft.LogCommand {
			continue
		}
		if err := journal.CheckEntry(log.Data); err != nil {
			return newest, fmt.Errorf("entry %d: %w", index, err)
		}
	}
	return newest, nil
}

// checkTables reads every block of the tables in a directory. Between them it
// pauses for so long; a table that is removed meanwhile is not missed.
func checkTables(ctx context.Context, files vfs.FS, dir string, pause time.Duration) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		if err := checkTable(ctx, files, files.PathJoin(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("table %s: %w", files.PathJoin(dir, name), err)
		}
		if pause == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	return nil
}

func checkTable(ctx context.Context, files vfs.FS, path string) error {
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{})
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	err = r.ValidateBlockChecksums()
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// The pace of the background check: a table of 16 MiB every 200 ms at most.
const (
	scrubEvery = 24 * time.Hour
	scrubPause = 200 * time.Millisecond
)

// scrub reads all tables soon after the start, and daily.
func (s *Store) scrub(ctx context.Context) {
	defer s.goroutines.Done()
	for {
		for _, sub := range [...]string{stateDir, "log"} {
			if err := checkTables(ctx, s.deps.FS, s.deps.FS.PathJoin(s.cfg.Dir, sub), scrubPause); err != nil {
				s.fail(fmt.Errorf("check what is on the disk: %w", err))
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(scrubEvery):
		}
	}
}
