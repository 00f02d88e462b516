package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// replica is the journal on this node: Raft's state machine. Lock order: mu,
// then db's.
type replica struct {
	fs   vfs.FS
	dir  string
	open func(dir string) (*pebble.DB, error)
	fail func(error)

	limit   journal.Version // of what this program may apply
	version atomic.Uint32   // of the state

	mu      sync.Mutex // around machine
	machine *journal.Machine
	failed  error

	// state is swapped only by Restore; reads hold the lock for their length.
	stateMu sync.RWMutex
	state   *pebble.DB

	// unsaved is how many bytes of entries came since the last snapshot.
	unsaved atomic.Int64
	saved   atomic.Int64 // when the last snapshot was, in nanoseconds since began
	began   time.Time
	// writing is when the write of the state that runs now began, since began; 0
	// when none runs. It stalls when what is in memory cannot go to the disk.
	writing atomic.Int64
	reading sync.WaitGroup // of keys, beside the machine
	closing atomic.Bool

	ring      keyRing
	merchants notice
	owing     notice
	progress
	waiting  awaiting
	pool     sync.Pool // *applied
	response []any
}

// applied is what one entry's commands answered.
type applied struct {
	results []journal.Result
	err     error
}

// load makes the state's machine. What it may keep in memory of old keys is
// read beside it: a million of them take a second.
func (r *replica) load() error {
	m := journal.New(stateReader{r.state})
	m.Limit(r.limit)
	if err := m.Load(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	r.machine = m
	r.version.Store(uint32(m.Version()))
	r.ring.publish(m)
	if m.MerchantsChanged() {
		r.merchants.tell()
	}
	if m.OwesMore() {
		r.owing.tell()
	}
	r.reached(m.Applied())
	view := r.state.NewSnapshot()
	r.reading.Go(func() {
		keys, err := journal.ReadKeys(snapshotReader{view}, func() bool { return !r.closing.Load() })
		if closeErr := view.Close(); err == nil {
			err = closeErr
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case errors.Is(err, journal.ErrStopped):
		case err != nil:
			r.stop(fmt.Errorf("read the keys: %w", err))
		default:
			m.AdoptKeys(keys)
		}
	})
	return nil
}

// close waits for what still reads the state, and closes it.
func (r *replica) close() error {
	r.closing.Store(true)
	r.reading.Wait()
	r.closing.Store(false)
	if r.state == nil {
		return nil
	}
	err := r.state.Close()
	r.state = nil
	return err
}

// Apply implements raft.FSM; Raft calls ApplyBatch instead.
func (r *replica) Apply(log *raft.Log) any { return r.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch implements raft.BatchingFSM: all that was committed together is
// one batch of the state, without a sync: what a crash takes is in the log.
func (r *replica) ApplyBatch(logs []*raft.Log) []any {
	r.mu.Lock()
	defer r.mu.Unlock()
	responses := r.response[:0]
	last := uint64(0)
	for _, log := range logs {
		r.unsaved.Add(int64(len(log.Data)))
		var a *applied
		// Entries up to the applied index were applied before a restart: the
		// state may be ahead of the snapshot that Raft counts from.
		if log.Type == raft.LogCommand && log.Index > r.machine.Applied() {
			a = r.apply(log)
			last = log.Index
		}
		responses = append(responses, a)
	}
	r.response = responses
	if last != 0 && r.failed == nil {
		r.flush(last, responses)
	}
	return responses
}

func (r *replica) apply(log *raft.Log) *applied {
	a, _ := r.pool.Get().(*applied)
	if a == nil {
		a = &applied{}
	}
	a.err = r.failed
	a.results = a.results[:0]
	if a.err != nil {
		return a
	}
	a.results, a.err = r.machine.Apply(log.Data, a.results)
	if a.err != nil {
		// Nothing of this or any later entry is written: the node stops where
		// it stopped understanding.
		r.stop(fmt.Errorf("entry %d: %w", log.Index, a.err))
	}
	return a
}

func (r *replica) stop(err error) {
	if r.failed == nil {
		r.failed = err
		r.fail(err)
	}
}

func (r *replica) flush(index uint64, responses []any) {
	b := r.state.NewBatch()
	err := r.machine.Flush(index, stateBatch{b})
	if err == nil {
		r.writing.Store(int64(time.Since(r.began)) + 1)
		err = b.Commit(pebble.NoSync)
		r.writing.Store(0)
	}
	if closeErr := b.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		err = fmt.Errorf("state: write up to entry %d: %w", index, err)
		r.stop(err)
		for _, x := range responses {
			if a, ok := x.(*applied); ok && a != nil {
				a.err = err
			}
		}
		return
	}
	r.ring.publish(r.machine)
	if r.machine.MerchantsChanged() {
		r.merchants.tell()
	}
	r.version.Store(uint32(r.machine.Version()))
	if r.machine.OwesMore() {
		r.owing.tell()
	}
	r.waiting.decided(r.machine.Decided())
	r.reached(index)
}

// stalled is how long the write of the state that runs now has been at it.
func (r *replica) stalled() time.Duration {
	since := r.writing.Load()
	if since == 0 {
		return 0
	}
	return time.Since(r.began) - time.Duration(since)
}

// stateBatch and stateReader are the journal's view of Pebble.
type stateBatch struct{ b *pebble.Batch }

func (b stateBatch) Set(key, value []byte) error       { return b.b.Set(key, value, nil) }
func (b stateBatch) Delete(key []byte) error           { return b.b.Delete(key, nil) }
func (b stateBatch) DeleteRange(from, to []byte) error { return b.b.DeleteRange(from, to, nil) }

type stateReader struct{ db *pebble.DB }

func (s stateReader) Get(dst, key []byte) ([]byte, bool, error) { return get(s.db, dst, key) }

func (s stateReader) Scan(from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	return scan(s.db, from, to, backwards, visit)
}

// snapshotReader is the state as it was.
type snapshotReader struct{ view *pebble.Snapshot }

func (s snapshotReader) Get(dst, key []byte) ([]byte, bool, error) { return get(s.view, dst, key) }

func (s snapshotReader) Scan(from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	return scan(s.view, from, to, backwards, visit)
}

func get(r pebble.Reader, dst, key []byte) ([]byte, bool, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, err
	}
	dst = append(dst, value...)
	return dst, true, closer.Close()
}

func scan(r pebble.Reader, from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	start, next := it.First, it.Next
	if backwards {
		start, next = it.Last, it.Prev
	}
	for ok := start(); ok; ok = next() {
		value, err := it.ValueAndErr()
		if err != nil {
			_ = it.Close()
			return err
		}
		if !visit(it.Key(), value) {
			break
		}
	}
	return it.Close()
}

// read runs a read of the state.
func (r *replica) read(f func(journal.Reader) error) error {
	r.stateMu.RLock()
	defer r.stateMu.RUnlock()
	if r.state == nil {
		return fmt.Errorf("read: %w", payment.ErrUnavailable)
	}
	return f(stateReader{r.state})
}

// withMachine runs a look at what the machine keeps in memory.
func (r *replica) withMachine(f func(*journal.Machine)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.machine)
}

// appliedIndex is the last entry that is in the state.
func (r *replica) appliedIndex() (index uint64) {
	r.withMachine(func(m *journal.Machine) { index = m.Applied() })
	return index
}

// awaiting are the callers that wait for a payment to be decided.
type awaiting struct {
	mu      sync.Mutex
	callers map[payment.ID][]chan struct{}
}

func (a *awaiting) add(id payment.ID) chan struct{} {
	c := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.callers == nil {
		a.callers = make(map[payment.ID][]chan struct{})
	}
	a.callers[id] = append(a.callers[id], c)
	return c
}

func (a *awaiting) remove(id payment.ID, c chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.callers[id]
	for i := range list {
		if list[i] == c {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(a.callers, id)
		return
	}
	a.callers[id] = list
}

func (a *awaiting) decided(ids []payment.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.callers) == 0 {
		return
	}
	for _, id := range ids {
		for _, c := range a.callers[id] {
			close(c)
		}
		delete(a.callers, id)
	}
}

var _ raft.BatchingFSM = (*replica)(nil)
