package store

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// TestWrongClock sets the leader's clock an hour or a day off, either way, while
// it leads, or before it starts and then leads. The deadline for a capture, the
// end of a key and the last day of an idempotency key are all to come: none
// comes early by the true time, leadership goes to a node whose clock is right,
// and each comes when it is due.
func TestWrongClock(t *testing.T) {
	const day = 24 * time.Hour
	for name, off := range map[string]time.Duration{
		"an hour ahead": time.Hour, "an hour behind": -time.Hour, "a day ahead": day, "a day behind": -day,
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("while it leads", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := startWrongClocks(t)
					w.breakLeader(off)
					w.hold()
				})
			})
			t.Run("before it starts", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := startWrongClocks(t)
					w.restartLeader(off)
					w.hold()
				})
			})
		})
	}
}

// wrongClocks is three nodes with wall clocks of their own, and what falls due.
type wrongClocks struct {
	*trio
	off     [3]atomic.Int64 // of each node's wall clock
	wrong   int             // the node whose clock is
	payment *payment.Intent
	key     payment.KeyID
	due     time.Time // of the capture's deadline and the key's end
}

// dueIn is less than the least that a clock here is wrong by.
const dueIn = 45 * time.Second

// right is the true time: half a minute before a day ends. A key of this day is
// kept until the end of the next one, so that a clock that is a day ahead would
// have it gone before dueIn is over.
func (w *wrongClocks) right() payment.Instant { return wallClock() + ofDay }

const ofDay = payment.Instant(24*time.Hour - 30*time.Second)

// intent is the n-th of right now.
func (w *wrongClocks) intent(n int) *payment.Intent {
	i := intent(n)
	for _, at := range []*payment.Instant{&i.ReceivedAt, &i.SendBy, &i.AnswerBy, &i.LifeOver} {
		*at += ofDay
	}
	return i
}

func startWrongClocks(t *testing.T) *wrongClocks {
	t.Helper()
	w := &wrongClocks{}
	w.trio = newTrio(t, journal.NewestVersion)
	w.now = func(n int) func() payment.Instant {
		return func() payment.Instant { return w.right() + payment.Instant(w.off[n].Load()) }
	}
	w.startAll()
	s := w.stores[w.leader()]
	w.payment = w.intent(1)
	w.payment.Capture.Within = payment.Instant(dueIn)
	_, err := s.Open(w.payment)
	must(t, err)
	_, err = s.Close(approval(w.payment))
	must(t, err)
	k := pinKey(1, "D-first")
	k.NotAfter = w.right() + payment.Instant(dueIn)
	kept, err := s.PutKey(k)
	must(t, err)
	_, err = s.AdvanceKey(&payment.KeyAdvance{ID: kept.ID, To: payment.KeyActive})
	must(t, err)
	w.key, w.due = kept.ID, time.Now().Add(dueIn)
	return w
}

// pass lets time pass, and every node do what its schedule does each second.
func (w *wrongClocks) pass(d time.Duration) {
	w.t.Helper()
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(time.Second) {
		for _, s := range w.stores {
			if !s.Leads() {
				continue
			}
			due, err := s.DueCaptures(8)
			must(w.t, err)
			if len(due) > 0 {
				_, _ = s.ExpireCaptures(due) // it may lose the leadership on the way
			}
		}
	}
}

// breakLeader sets the clock of whoever leads.
func (w *wrongClocks) breakLeader(off time.Duration) {
	w.wrong = w.leader()
	w.off[w.wrong].Store(int64(off))
	w.handsOver()
}

// restartLeader starts a node with a wrong clock and makes it the leader.
func (w *wrongClocks) restartLeader(off time.Duration) {
	w.t.Helper()
	w.wrong = w.leader()
	must(w.t, w.stores[w.wrong].Stop(context.Background()))
	w.off[w.wrong].Store(int64(off))
	w.start(w.wrong)
	// At once: before a keepalive has told it what the others' clocks say.
	must(w.t, w.stores[w.leader()].Transfer(trioName(w.wrong)))
	w.handsOver()
}

// handsOver waits for a leader whose clock is right.
func (w *wrongClocks) handsOver() {
	w.t.Helper()
	for began := time.Now(); ; w.pass(time.Second) {
		if w.leader() != w.wrong {
			return
		}
		if time.Since(began) > 5*time.Second {
			w.t.Fatal("a node whose clock is wrong still leads")
		}
	}
}

// hold walks to where each thing falls due.
func (w *wrongClocks) hold() {
	t := w.t
	t.Helper()
	state := func() (payment.State, bool, bool) {
		s := w.stores[w.leader()]
		p, err := s.Payment(w.payment.ID)
		must(t, err)
		again := w.intent(1)
		again.ID = paymentID(2)
		o, err := s.Open(again)
		must(t, err)
		retired := false
		for _, k := range s.WorkingKeys() {
			retired = retired || k.ID == w.key && k.State == payment.KeyRetired
		}
		return p.State, o.Verdict == payment.OpenDecided, retired
	}
	for time.Until(w.due) > 5*time.Second {
		if w.leader() == w.wrong {
			t.Fatal("a node whose clock is wrong leads again")
		}
		if s, answered, retired := state(); s != payment.StateApproved || !answered || retired {
			t.Fatalf("%s before anything is due: payment %s, its key is kept: %v, the working key retired: %v", time.Until(w.due), s, answered, retired)
		}
		w.pass(5 * time.Second)
	}
	w.pass(time.Until(w.due) + upkeep)
	if s, answered, retired := state(); s == payment.StateApproved || !answered || !retired {
		t.Errorf("after it was due: payment %s, its key is kept: %v, the working key retired: %v", s, answered, retired)
	}
}

// upkeep is more than passes between two rounds of it, and than a key is given
// after a step of the clock: the first entry is one.
const upkeep = 100 * time.Second
