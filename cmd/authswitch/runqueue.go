package main

import (
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// runQueue knows how long what could run in this process waits for a processor.
// Where the processors are what there is too little of, this is the queue that a
// request stands in: the journal's stays short, because what is bound for it
// has not run yet. A door that does not see it lets everybody in, and what it has
// refuses, late, at the links' windows costs as much as an answer.
//
// It reads the runtime's own measure ("/sched/latencies:seconds", one in eight
// waits) when somebody asks, every readEvery at most: an idle node pays nothing, a
// request two atomic loads and the time.
type runQueue struct {
	began  time.Time
	due    atomic.Int64 // when the runtime is to be asked again, after began
	wait   atomic.Int64
	mu     sync.Mutex // of what follows; who does not get it goes by the last wait
	sample []metrics.Sample
	before []uint64
}

const (
	readEvery = 20 * time.Millisecond
	// fewWaits are not taken for a measure.
	fewWaits = 8
)

func newRunQueue() *runQueue {
	q := &runQueue{began: time.Now(), sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	q.due.Store(int64(readEvery))
	q.measure()
	q.wait.Store(0) // of the start, that nobody waits behind
	return q
}

// Wait is what nine of ten waited less than, lately; 0 while nearly nothing runs.
func (q *runQueue) Wait() time.Duration {
	if now := int64(time.Since(q.began)); now >= q.due.Load() && q.mu.TryLock() {
		if now >= q.due.Load() { // nobody else has asked meanwhile
			q.due.Store(now + int64(readEvery))
			q.measure()
		}
		q.mu.Unlock()
	}
	return time.Duration(q.wait.Load())
}

func (q *runQueue) measure() {
	metrics.Read(q.sample)
	if q.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return // a runtime without it
	}
	h := q.sample[0].Value.Float64Histogram()
	if q.before == nil {
		q.before = make([]uint64, len(h.Counts))
	}
	all := uint64(0)
	for i, n := range h.Counts {
		all += n - q.before[i]
	}
	wait, tenth := time.Duration(0), all/10
	for i, over := len(h.Counts)-1, uint64(0); all >= fewWaits && i >= 0; i-- {
		if over += h.Counts[i] - q.before[i]; over > tenth {
			wait = time.Duration(max(h.Buckets[i], 0) * float64(time.Second))
			break
		}
	}
	copy(q.before, h.Counts)
	q.wait.Store(int64(wait))
}
