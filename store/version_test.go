package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// eventually waits for what the cluster does by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 30 s: %s", what)
		}
	}
}

// restart stops a member and starts it with a program of a version.
func (c *trio) restart(n int, v journal.Version) {
	c.t.Helper()
	must(c.t, c.stores[n].Stop(context.Background()))
	c.stores[n] = nil
	c.versions[n] = v
	c.start(n)
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// TestRollingUpgrade takes a cluster from one version to the next, member after
// member, while payments run. An old program works beside new ones, whoever
// leads; nothing that it could not apply is written before the last one is new;
// after that it cannot come back.
func TestRollingUpgrade(t *testing.T) {
	c := startTrioAt(t, journal.FirstVersion)
	c.leader()
	number := 0
	pay := func() {
		t.Helper()
		for n, s := range c.stores {
			number++
			i := intent(number)
			if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
				t.Fatalf("open at %s: %+v %v", trioName(n), o, err)
			}
			if r, err := s.Close(approval(i)); err != nil || r.Outcome.Status != payment.StatusApproved {
				t.Fatalf("close at %s: %+v %v", trioName(n), r, err)
			}
		}
	}
	pay()
	w := c.stores[0].batch.waiter(journal.KindMarks)
	w.body = journal.AppendMarks(w.body, []journal.Mark{{Node: "n1", Index: 1}})
	for upgraded := range 3 {
		for n, s := range c.stores {
			if s.version() != journal.FirstVersion {
				t.Fatalf("%s is at version %d while %d of 3 are new", trioName(n), s.version(), upgraded)
			}
			// Whoever proposes, the batcher does not take it, nor does a leader
			// of this program.
			if err := s.batch.propose(w, time.Second); !errors.Is(err, payment.ErrUnavailable) {
				t.Fatalf("%s proposes what not everybody can apply: %v", trioName(n), err)
			}
			if _, err := entryOf(appendProposal(nil, []*waiter{w}), 1, s.allows); !errors.Is(err, payment.ErrUnavailable) {
				t.Fatalf("%s orders it: %v", trioName(n), err)
			}
		}
		c.restart(upgraded, journal.NewestVersion)
		pay()
		must(t, c.stores[c.leader()].Transfer(trioName(upgraded))) // the new one leads old ones
		pay()
		if upgraded < 2 {
			time.Sleep(700 * time.Millisecond) // more than the leader needs to raise it, if it were to
		}
	}
	for _, s := range c.stores {
		eventually(t, "the version is raised", func() bool { return s.version() == journal.NewestVersion })
	}
	pay()
	status, err := c.stores[c.leader()].Status()
	must(t, err)
	for _, m := range status.Members {
		if status.Version != journal.NewestVersion || m.Version != journal.NewestVersion || m.Build != "test" {
			t.Errorf("%+v", m)
		}
	}
	back := (c.leader() + 1) % 3
	must(t, c.stores[back].Stop(context.Background()))
	c.stores[back] = nil
	c.versions[back] = journal.FirstVersion
	_, err = Start(t.Context(), c.config(back), c.deps(back))
	if !errors.Is(err, journal.ErrNewer) || !strings.Contains(err.Error(), fmt.Sprintf("the journal is at version %d, this program goes to 1", journal.NewestVersion)) {
		t.Fatalf("an older program starts: %v", err)
	}
	c.versions[back] = journal.NewestVersion
	c.start(back)
	pay()
	for number > 0 { // nothing of it was lost on the way
		if p, err := (Fresh{c.stores[number%3]}).Payment(paymentID(number)); err != nil || p.State != payment.StateApproved {
			t.Errorf("payment %d: %s %v", number, p.State, err)
		}
		number--
	}
}

// TestOldProgramStops: one that meets the entry that raises the version stops
// and says why; it does not take its disk for damaged. Of three it is the leader:
// it is silent before the others learn that the entry is committed.
func TestOldProgramStops(t *testing.T) {
	c := startTrioAt(t, journal.FirstVersion)
	for n := range c.expected {
		c.expected[n] = make(chan error, 1)
	}
	leader := c.leader()
	c.stores[leader].proposeVersion(journal.NewestVersion)
	select {
	case err := <-c.expected[leader]:
		if !errors.Is(err, journal.ErrNewer) {
			t.Errorf("%s: %v", trioName(leader), err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s goes on", trioName(leader))
	}
	if note, err := readRebuild(c.disks[leader], "node"); err != nil || note.Stage != "" {
		t.Errorf("%s: %+v %v", trioName(leader), note, err)
	}
}
