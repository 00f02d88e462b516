package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// batcher is the group commit: commands queue while earlier batches are in
// flight and leave together in one Raft entry, when the gate lets it pass.
type batcher struct {
	raft    *raft.Raft
	remote  func(batch []*waiter) (*applied, error) // proposes through the leader; nil: there is no other node
	clock   *clock
	gate    *gate
	limits  limits
	measure measures
	pool    sync.Pool // *waiter
	applied *sync.Pool
	allows  func(journal.Kind, []byte) error // what every member can apply
	handing *atomic.Bool                     // nothing is proposed while leadership is handed over

	mu       sync.Mutex
	ready    sync.Cond // on mu: the queue or inflight changed, or closed
	queue    queue
	refused  [payment.Priorities]uint64 // that found no room
	flights  [][]*waiter                // by slot: the batch whose end is not known yet
	since    []int64                    // by slot: when the oldest of them was queued, 0: there is none
	oldest   atomic.Int64               // of since
	inflight int                        // of them
	pacing   bool                       // a slot waits at the gate
	closed   bool
	slots    sync.WaitGroup
	leave    sync.Once
	over     chan struct{} // closed when no slot is left
	expiring sync.WaitGroup

	started time.Time    // the queue's clock starts here
	usual   atomic.Int64 // nanoseconds that a commit takes, of late
}

type limits struct {
	queue    int           // commands; more are refused with payment.ErrBusy
	inflight int           // batches
	deep     int           // with more than so many commands waiting, fewer and larger batches leave
	commit   time.Duration // then the caller is told payment.ErrPending
}

// waiter is one command on its way and the caller that waits for it.
type waiter struct {
	kind     journal.Kind
	priority payment.Priority
	body     []byte
	result   journal.Result
	err      error
	queued   int64     // on the queue's clock
	until    time.Time // then the caller leaves
	// done gets one token from whoever moved state from pending: the result or
	// expire. A timer of its own, and a select over both, were 7 µs of an
	// authorization's 87.
	done  chan struct{} // capacity 1
	state atomic.Int32
}

const (
	pending int32 = iota
	finished
	abandoned
)

func newBatcher(r *raft.Raft, remote func([]*waiter) (*applied, error), c *clock, g *gate, l limits, m measures, applied *sync.Pool) *batcher {
	b := &batcher{raft: r, remote: remote, clock: c, gate: g, limits: l, measure: m, applied: applied, started: time.Now()}
	b.ready.L = &b.mu
	b.over = make(chan struct{})
	b.flights, b.since = make([][]*waiter, l.inflight), make([]int64, l.inflight)
	for slot := range l.inflight {
		b.slots.Go(func() { b.run(slot) })
	}
	b.expiring.Go(b.expire)
	return b
}

// waiter takes one from the pool; its body is empty and roomy. Its priority is
// that of what ends what has begun, unless its command begins something.
func (b *batcher) waiter(kind journal.Kind) *waiter {
	w, _ := b.pool.Get().(*waiter)
	if w == nil {
		w = &waiter{done: make(chan struct{}, 1), body: make([]byte, 0, 1024)}
	}
	w.kind, w.body, w.err = kind, w.body[:0], nil
	w.priority = priorityOf(kind)
	w.state.Store(pending)
	return w
}

// release gives a waiter back; its result must have been copied out.
func (b *batcher) release(w *waiter) { b.pool.Put(w) }

// propose commits a command. On nil, w.result holds what Apply answered. The
// waiter is the caller's again unless the error is payment.ErrPending.
func (b *batcher) propose(w *waiter, limit time.Duration) error {
	if len(w.body) > journal.MaxCommand {
		return fmt.Errorf("%w: %s of %d bytes", journal.ErrInvalid, w.kind, len(w.body))
	}
	if err := b.allows(w.kind, w.body); err != nil {
		return err
	}
	now := time.Now()
	w.until, w.queued = now.Add(limit), b.sinceStart(now)
	if err := b.submit(w); err != nil {
		return err
	}
	<-w.done
	if w.state.Load() == abandoned {
		return payment.ErrPending
	}
	if w.err != nil {
		return w.err
	}
	return w.result.Err
}

// end wakes the caller if nobody did before.
func (w *waiter) end(state int32) {
	if w.state.CompareAndSwap(pending, state) {
		w.done <- struct{}{}
	}
}

func (b *batcher) submit(w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return payment.ErrUnavailable
	case b.queue.n >= w.priority.Share(b.limits.queue):
		b.refused[w.priority]++
		return payment.ErrBusy
	}
	b.queue.add(w)
	b.ready.Signal()
	return nil
}

// expireEvery is how late a caller may be told that its time is over.
const expireEvery = 100 * time.Millisecond

// expire lets callers go whose commands take too long, waiting or in flight.
// What is in either list under mu has not been answered, so its caller waits
// and the waiter is not somebody else's already.
func (b *batcher) expire() {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.over:
			return
		case <-tick.C:
		}
		now := time.Now()
		b.mu.Lock()
		for p := range b.queue.waiting {
			expireAll(b.queue.waiting[p], now)
		}
		for _, batch := range b.flights {
			expireAll(batch, now)
		}
		b.mu.Unlock()
	}
}

func expireAll(waiters []*waiter, now time.Time) {
	for _, w := range waiters {
		if !now.Before(w.until) {
			w.end(abandoned)
		}
	}
}

func (b *batcher) run(slot int) {
	var batch []*waiter
	var along []*proposal
	for {
		if batch, along = b.take(slot, batch[:0]); len(batch) == 0 {
			return
		}
		b.commit(slot, batch, along)
		clear(batch)
	}
}

// landed is called when a batch's end is known, before anybody is told.
func (b *batcher) landed(slot int) {
	b.mu.Lock()
	b.flights[slot] = nil
	b.flying(slot, 0)
	b.inflight--
	b.ready.Signal()
	b.mu.Unlock()
}

// take waits for commands and takes as many as an entry holds. A deep queue
// allows only two batches in flight: larger entries are cheaper than earlier
// ones. What is to leave along with them is other members'. No command is
// returned when the batcher is closed and drained.
func (b *batcher) take(slot int, batch []*waiter) ([]*waiter, []*proposal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for b.queue.n == 0 || b.pacing || b.inflight >= 2 && b.queue.n > b.limits.deep {
			if b.closed && b.queue.n == 0 {
				return nil, nil
			}
			b.ready.Wait()
		}
		if wait := b.gate.arrive(); wait > 0 {
			b.pacing = true
			b.mu.Unlock()
			time.Sleep(wait)
			b.mu.Lock()
			b.pacing = false
			b.ready.Signal() // whoever was woken meanwhile went back to sleep
		}
		waited := b.waited(payment.PriorityMerchant, time.Now())
		batch = b.fill(batch)
		along := b.gate.leave(len(batch))
		if len(batch) > 0 {
			b.inflight++
			b.flights[slot] = batch
			b.measure.wait.Observe(waited.Seconds())
			b.flying(slot, b.sinceStart(time.Now().Add(-waited)))
			if b.queue.n > 0 {
				b.ready.Signal()
			}
			return batch, along
		}
		b.mu.Unlock()
		proposeAll(along)
		b.mu.Lock()
	}
}

func (b *batcher) fill(batch []*waiter) []*waiter {
	bodies := 0
	b.queue.take(func(w *waiter) bool {
		if journal.EntrySize(len(batch)+1, bodies+len(w.body)) > journal.MaxEntry {
			return false
		}
		// An intent whose caller left will never be sent: better not open it.
		if w.kind == journal.KindOpen && w.state.Load() == abandoned {
			return true
		}
		bodies += len(w.body)
		batch = append(batch, w)
		return true
	})
	return batch
}

// age is how much longer than usual the oldest command has waited for its end,
// of those that come before one of this priority: in the queue, or in a batch
// on its way. A disk that stands still keeps the queue young for as long as
// there is a slot, and a caller waits all the same. What two commits take is
// usual, one that was under way and its own: on a slow disk that is long, and
// nobody is helped by turning away what it would take with its next write. It
// takes no lock.
func (b *batcher) age(p payment.Priority) time.Duration {
	now := time.Now()
	waited := b.waited(p, now)
	if flying := b.oldest.Load(); flying != 0 {
		waited = max(waited, time.Duration(b.sinceStart(now)-flying))
	}
	return max(0, waited-min(2*time.Duration(b.usual.Load()), mostUsual))
}

// mostUsual is what nobody gets used to.
const mostUsual = time.Second

// learn takes in what a commit took. Two slots may do so at once; what one of
// them takes in is then lost, which a mean survives.
func (b *batcher) learn(took time.Duration) {
	usual := b.usual.Load()
	b.usual.Store(usual + (int64(took)-usual)/8)
}

// waited is the part of age that is in the queue.
func (b *batcher) waited(p payment.Priority, now time.Time) time.Duration {
	oldest := b.queue.oldestFor(p)
	if oldest == 0 {
		return 0
	}
	return max(0, time.Duration(b.sinceStart(now)-oldest))
}

// flying notes since when the oldest of a slot's batch has waited. Under mu.
func (b *batcher) flying(slot int, since int64) {
	b.since[slot] = since
	oldest := int64(0)
	for _, at := range b.since {
		if at != 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	b.oldest.Store(oldest)
}

// sinceStart is the queue's clock, never 0.
func (b *batcher) sinceStart(t time.Time) int64 { return int64(t.Sub(b.started)) + 1 }

// enqueueLimit is how long Raft may take to accept an entry. Passing it means
// that nothing was appended.
const enqueueLimit = time.Second

// commit proposes a batch until it is known what became of it, or its callers
// have gone. Others leave along with it, once.
func (b *batcher) commit(slot int, batch []*waiter, along []*proposal) {
	began := time.Now()
	unknown := false
	for {
		response, err := b.attempt(batch, along)
		along = nil
		if err == nil {
			b.measure.commit.Observe(time.Since(began).Seconds())
			b.measure.batch.Observe(float64(len(batch)))
			b.learn(time.Since(began))
			b.landed(slot)
			b.answer(batch, response, unknown)
			return
		}
		unknown = unknown || !notAppended(err)
		if errors.Is(err, raft.ErrRaftShutdown) || time.Since(began) > b.limits.commit {
			b.landed(slot)
			b.refuse(batch, err, unknown)
			return
		}
		time.Sleep(retryPause)
	}
}

// retryPause is between two proposals of a batch that found no leader.
const retryPause = 20 * time.Millisecond

func (b *batcher) attempt(batch []*waiter, along []*proposal) (*applied, error) {
	if b.remote != nil && b.raft.State() != raft.Leader {
		proposeAll(along) // they learn that this node leads no more
		return b.remote(batch)
	}
	future := b.propel(batch)
	proposeAll(along)
	if future == nil {
		return nil, errNoLeader
	}
	if err := future.Error(); err != nil {
		return nil, err
	}
	response, ok := future.Response().(*applied)
	if !ok || response == nil {
		return nil, raft.ErrLeadershipLost
	}
	return response, nil
}

// propel gives a batch to Raft, as the leader may; nil: it may not.
func (b *batcher) propel(batch []*waiter) raft.ApplyFuture {
	if b.handing.Load() || batch[0].kind != journal.KindSession && b.clock.undecided() {
		return nil
	}
	bodies := 0
	for _, w := range batch {
		bodies += len(w.body)
	}
	// The entry is Raft's from here on: its log cache and followers read it.
	entry := journal.BeginEntry(make([]byte, 0, journal.EntrySize(len(batch), bodies)), b.clock.now())
	for _, w := range batch {
		entry = journal.AddCommand(entry, w.kind, w.body)
	}
	return b.raft.Apply(journal.EndEntry(entry), enqueueLimit)
}

// answer gives every caller its result. Again says that the batch was proposed
// before with an unknown end: an Open that this very call made is then its
// caller's first answer, and may be sent.
func (b *batcher) answer(batch []*waiter, a *applied, again bool) {
	for i, w := range batch {
		if a.err != nil || i >= len(a.results) {
			w.err = fmt.Errorf("%w: this node stopped applying", payment.ErrPending)
		} else {
			w.result = a.results[i]
			if again && w.result.Opened.Verdict == payment.OpenAgain {
				w.result.Opened.Verdict = payment.OpenNew
			}
		}
		w.finish()
	}
	b.applied.Put(a)
}

func (b *batcher) refuse(batch []*waiter, err error, unknown bool) {
	kind := payment.ErrUnavailable
	if unknown {
		kind = payment.ErrPending
	}
	err = fmt.Errorf("%w: %w", kind, err)
	for _, w := range batch {
		w.err = err
		w.finish()
	}
}

func (w *waiter) finish() { w.end(finished) }

// close refuses what is new and waits until what is queued is answered.
func (b *batcher) close() {
	b.mu.Lock()
	b.closed = true
	b.ready.Broadcast()
	b.mu.Unlock()
	b.slots.Wait()
	b.leave.Do(func() { close(b.over) })
	b.expiring.Wait()
}
