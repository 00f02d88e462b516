package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// A disk that stalls, is full, answers with errors or gives back what was not
// written ends the node, once and with one line. A member falls silent at the
// same moment: a leader that cannot write any more would go on heartbeating, and
// nobody would take over.

// errDamagedTable is a table whose blocks are not what was written.
var errDamagedTable = errors.New("damaged table")

// fail tells the process once that it must stop.
func (s *Store) fail(err error) {
	s.failing.Do(func() {
		err = s.judge(err)
		s.cause = err
		s.failed.Store(true)
		close(s.down)
		s.deps.Log.Error("the store must stop", "error", err)
		if !s.alone() {
			go func() { _ = s.hangUp() }() // whoever is here may hold what a connection waits for
		}
		if s.deps.Fail != nil {
			go s.deps.Fail(err)
		}
	})
}

// because is what an error of a store that failed comes from.
func (s *Store) because(err error) error {
	if s.failed.Load() {
		return s.cause
	}
	return err
}

// hangUp closes the transport and the network, once.
func (s *Store) hangUp() error {
	s.hanging.Do(func() {
		if s.leader != nil {
			s.leader.close()
		}
		s.hungUp = s.close()
	})
	return s.hungUp
}

// halt ends a goroutine that cannot go on and must not return: it waits until
// the store is stopped. Before Raft runs there is nobody to tell, and it panics.
func (s *Store) halt(err error) {
	if s.running.Load() == nil {
		panic(err)
	}
	s.broken.Store(true)
	s.fail(err)
	<-s.gone
	runtime.Goexit()
}

// abandonWithin bounds the stop of a store that failed: some of its goroutines
// wait for a disk that does not answer, or for Raft, which waits for it.
const abandonWithin = 2 * time.Second

var errAbandoned = errors.New("the store did not stop: something waits for its disk")

// abandon ends a store that failed, as far as it ends: there is nobody to hand
// over to, and nothing to write to.
func (s *Store) abandon() error {
	over := make(chan error, 1)
	go func() {
		s.batch.close()
		s.stop()
		s.goroutines.Wait()
		over <- errors.Join(s.stopRaft(), s.closeDisk())
	}()
	select {
	case err := <-over:
		return err
	case <-time.After(abandonWithin):
		return errors.Join(errAbandoned, s.hangUp())
	}
}

// pebbleLogger sends Pebble's words to the node's log. What it calls fatal — a
// WAL it cannot write — stops the node: nothing may be acknowledged after it.
type pebbleLogger struct {
	s   *Store
	log *slog.Logger
}

func (l pebbleLogger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

func (l pebbleLogger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf does not return: Pebble relies on it.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args { // %v hides what the disk said
		if cause, ok := a.(error); ok {
			err = fmt.Errorf("pebble: %w", cause)
		}
	}
	l.s.halt(err)
}

// listener hears of what Pebble finds in the background.
func (s *Store) listener(what string) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if !errors.Is(err, pebble.ErrCancelledCompaction) && !errors.Is(err, pebble.ErrClosed) {
				s.fail(fmt.Errorf("the disk of the %s: %w", what, err))
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("%w of the %s: %s: %w", errDamagedTable, what, info.Path, info.Details))
		},
	}
}

// guardedLog is the log as Raft has it: what cannot be written or read ends the
// node. Raft would step down, vote and stand again after the one, and panic after
// the other.
type guardedLog struct {
	*raftLog
	s *Store
}

// GetLog implements raft.LogStore.
func (g guardedLog) GetLog(index uint64, log *raft.Log) error {
	err := g.raftLog.GetLog(index, log)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) && g.s.running.Load() != nil {
		g.s.halt(err)
	}
	return err
}

// StoreLog implements raft.LogStore.
func (g guardedLog) StoreLog(log *raft.Log) error { return g.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (g guardedLog) StoreLogs(logs []*raft.Log) error {
	began := time.Now()
	g.s.paces.begin(began)
	err := g.raftLog.StoreLogs(logs)
	g.s.paces.end()
	if ended := time.Now(); err == nil && len(logs) > 0 {
		g.s.paces.took(g.s.cfg.Node, logs[len(logs)-1].Term, ended.Sub(began), ended)
	}
	return g.wrote(err)
}

// DeleteRange implements raft.LogStore.
func (g guardedLog) DeleteRange(from, to uint64) error {
	return g.wrote(g.raftLog.DeleteRange(from, to))
}

// Set implements raft.StableStore.
func (g guardedLog) Set(key, value []byte) error {
	g.storing.Store(int64(time.Since(g.began)) + 1)
	defer g.storing.Store(0)
	return g.wrote(g.raftLog.Set(key, value))
}

// SetUint64 implements raft.StableStore.
func (g guardedLog) SetUint64(key []byte, v uint64) error {
	return g.wrote(g.raftLog.SetUint64(key, v))
}

func (g guardedLog) wrote(err error) error {
	if err != nil {
		g.s.fail(err)
	}
	return err
}
