package store

import (
	"testing"
	"testing/synctest"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// TestQueueOrder: by priority, in order of arrival within one, and no further
// than the entry has room.
func TestQueueOrder(t *testing.T) {
	const reversal, customer, merchant, batch = payment.PriorityReversal, payment.PriorityCustomer, payment.PriorityMerchant, payment.PriorityBatch
	for _, c := range []struct {
		name  string
		comes []payment.Priority
		takes []int // how many each batch has room for
		want  string
	}{
		{"of one priority", []payment.Priority{customer, customer, customer}, []int{9}, "abc"},
		{"the last comes first", []payment.Priority{batch, merchant, customer, reversal}, []int{9}, "dcba"},
		{"a full entry", []payment.Priority{batch, reversal, customer, reversal}, []int{2, 1, 1}, "bd|c|a"},
		{"within one", []payment.Priority{merchant, merchant, merchant, customer}, []int{2, 9}, "da|bc"},
		{"no priority stands still", []payment.Priority{batch, customer, customer, customer, customer, customer, customer}, []int{5, 9}, "bcdea|fg"},
		{"no room at all", []payment.Priority{customer}, []int{0, 1}, "|a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q queue
			for i, p := range c.comes {
				q.add(&waiter{priority: p, body: []byte{'a' + byte(i)}, queued: int64(i + 1)})
			}
			got := ""
			for i, room := range c.takes {
				if i > 0 {
					got += "|"
				}
				q.take(func(w *waiter) bool {
					if room == 0 {
						return false
					}
					room--
					got += string(w.body)
					return true
				})
			}
			if got != c.want {
				t.Errorf("left %s, want %s", got, c.want)
			}
			if q.n != 0 || q.oldestFor(batch) != 0 {
				t.Errorf("%d wait, the oldest since %d, after all left", q.n, q.oldestFor(batch))
			}
		})
	}
}

// TestQueueAge: a priority waits for those before it and its own, not for those
// that it overtakes.
func TestQueueAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{started: time.Now(), limits: limits{queue: 16}, since: make([]int64, 2)}
		b.ready.L = &b.mu
		submit := func(k journal.Kind) {
			w := b.waiter(k)
			w.queued = b.sinceStart(time.Now())
			if err := b.submit(w); err != nil {
				t.Fatalf("submitting %s: %v", k, err)
			}
		}
		submit(journal.KindBatchRun)
		time.Sleep(30 * time.Millisecond)
		submit(journal.KindOpen)
		time.Sleep(10 * time.Millisecond)
		submit(journal.KindSettle)
		time.Sleep(time.Millisecond)
		for p, ms := range []int{1, 11, 11, 41} {
			want := time.Duration(ms) * time.Millisecond
			if got := b.age(payment.Priority(p)); got != want {
				t.Errorf("%s waits behind %s, want %s", payment.Priority(p), got, want)
			}
		}
		b.fill(nil)
		if got := b.age(payment.PriorityBatch); got != 0 {
			t.Errorf("an empty queue is %s old", got)
		}
		// Whoever is in a batch on its way waits too, whatever the queue is like.
		for slot, ms := range []int{5, 8} {
			want := time.Duration(ms) * time.Millisecond
			b.flying(slot, b.sinceStart(time.Now()))
			time.Sleep((5 - 2*time.Duration(slot)) * time.Millisecond)
			if got := b.age(payment.PriorityReversal); got != want {
				t.Errorf("with %d batches on their way: %s, want %s", slot+1, got, want)
			}
		}
		b.flying(0, 0)
		if got := b.age(payment.PriorityReversal); got != 3*time.Millisecond {
			t.Errorf("after the older has landed: %s", got)
		}
		// What two commits usually take is no age, up to where nobody gets used to it.
		for range 100 {
			b.learn(time.Millisecond)
		}
		if got := b.age(payment.PriorityReversal).Round(100 * time.Microsecond); got != time.Millisecond {
			t.Errorf("3ms where commits take one: %s", got)
		}
		for range 100 {
			b.learn(time.Minute)
		}
		time.Sleep(2 * time.Second)
		if got := b.age(payment.PriorityReversal); got != time.Second+3*time.Millisecond {
			t.Errorf("two seconds where commits take a minute: %s", got)
		}
		b.flying(1, 0)
	})
}

// TestQueueShares: what begins nothing new finds room in a queue that is full
// of beginnings, and a batch is the first to be turned away.
func TestQueueShares(t *testing.T) {
	b := &batcher{started: time.Now(), limits: limits{queue: 16}}
	b.ready.L = &b.mu
	fill := func(k journal.Kind) (n int) {
		for b.submit(b.waiter(k)) == nil {
			n++
		}
		return n
	}
	for _, c := range []struct {
		kind journal.Kind
		want int
	}{{journal.KindBatchRun, 10}, {journal.KindOperate, 2}, {journal.KindOpen, 2}, {journal.KindSettle, 2}, {journal.KindBatchRun, 0}} {
		if n := fill(c.kind); n != c.want {
			t.Errorf("%d of %s found room, want %d", n, c.kind, c.want)
		}
	}
}
