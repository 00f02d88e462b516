package store

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/journal"
	"authswitch/payment"
)

// queue holds the commands that wait for a batch, by priority, each in order
// of arrival. A lower priority leaves only where those before it left room, but
// for the first few of it: what the outcome of a payment waits for must not stand behind what would
// begin another, or a full queue ends nothing any more. All under the
// batcher's lock but oldestFor.
type queue struct {
	waiting [payment.Priorities][]*waiter
	n       int // of all
	// oldest is when the first of each was queued, 0 when there is none: for
	// those who ask without the lock how long one waits here.
	oldest [payment.Priorities]atomic.Int64
}

func (q *queue) add(w *waiter) {
	line := &q.waiting[w.priority]
	*line = append(*line, w)
	q.n++
	if len(*line) == 1 {
		q.oldest[w.priority].Store(w.queued)
	}
}

// least of each priority leave with every batch, if they wait: who was let in
// is answered, however much of the others there is.
const least = 4

// take hands out commands in their order until yes says no to one, which stays.
func (q *queue) take(yes func(*waiter) bool) {
	for _, most := range [...]int{least, q.n} {
		for p := range q.waiting {
			if !q.takeOf(p, most, yes) {
				return
			}
		}
	}
}

// takeOf hands out the first of one priority, and reports that nobody said no.
func (q *queue) takeOf(p, most int, yes func(*waiter) bool) bool {
	line := q.waiting[p]
	most = min(most, len(line))
	n := 0
	for n < most && yes(line[n]) {
		n++
	}
	if n == 0 {
		return most == 0
	}
	left := copy(line, line[n:])
	clear(line[left:])
	q.waiting[p] = line[:left]
	q.n -= n
	if left > 0 {
		q.oldest[p].Store(line[0].queued)
	} else {
		q.oldest[p].Store(0)
	}
	return n == most
}

// oldestFor is when the oldest was queued of those that leave before one of a
// priority, or with it; 0 when there is none.
func (q *queue) oldestFor(p payment.Priority) int64 {
	oldest := int64(0)
	for i := range min(p, payment.Priorities-1) + 1 {
		if at := q.oldest[i].Load(); at != 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	return oldest
}

// priorityOf is a command's by its kind. What ends, reverses or keeps alive
// goes first, and so does what carries what is owed: its place in a link's
// window is taken already. Open has its payment's own.
func priorityOf(k journal.Kind) payment.Priority {
	switch k {
	case journal.KindBatchBegin, journal.KindBatchLines, journal.KindBatchSeal, journal.KindBatchRun, journal.KindCardReseal:
		return payment.PriorityBatch
	case journal.KindOpen:
		return payment.PriorityCustomer
	case journal.KindOperate, journal.KindCredit:
		return payment.PriorityMerchant
	}
	return payment.PriorityReversal
}

// QueueAge is how much longer than usual the oldest command has waited for its
// end, of those that come before one of this priority: what the door refuses by. While the
// cluster has no leader nothing is too much for it, only early: then it is 0,
// and what waits is bounded by its own time.
func (s *Store) QueueAge(p payment.Priority) time.Duration {
	age := s.batch.age(p)
	if age < s.cfg.HeartbeatTimeout {
		return age // as in nearly every request: an election takes longer
	}
	if _, leader := s.raft.LeaderWithID(); leader == "" {
		return 0
	}
	return age
}

// readings are the collectors that look at the queue when they are scraped.
func (b *batcher) readings() (all []prometheus.Collector) {
	for p := range payment.Priorities {
		label := prometheus.Labels{"priority": p.String()}
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raft_queue_age_seconds", Help: "How much longer than two commits take the oldest command has waited for its end, of those that one of this priority waits for.", ConstLabels: label,
		}, func() float64 { return b.age(p).Seconds() }), prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "raft_queue_refusals_total", Help: "Commands that found the queue full for their priority.", ConstLabels: label,
		}, func() float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return float64(b.refused[p])
		}))
	}
	return all
}
