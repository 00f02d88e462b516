package bubble_test

import (
	"os"
	"reflect"
	"time"

	"authswitch/payment"
)

// settle waits until nothing is open or owed, for at most T of fake time, and
// compares everything: I1, I2, I3, I4, I6.
func (w *world) settle() {
	if !w.quiet(4 * time.Minute) {
		for _, m := range w.members {
			for i := range hosts {
				if l := m.now(); l != nil {
					count, oldest, exceptions := l.store.Owing(linkName(i))
					w.failf("I6: %s: %s owes %d since %s, %d exceptions", m.id, linkName(i), count, time.Duration(wallClock()-oldest), exceptions)
				}
			}
		}
	}
	for _, s := range w.payments {
		w.again(s)
		w.register(s)
	}
	w.compare()
}

// quiet says that nothing is owed any more but what needs a person, on any node.
func (w *world) quiet(limit time.Duration) bool {
	open := w.payments // still, as far as was seen
	for until := time.Now().Add(limit); time.Now().Before(until); time.Sleep(time.Second) {
		owed := 0
		for _, m := range w.members {
			l := m.now()
			if l == nil {
				owed++
				continue
			}
			for i := range hosts {
				count, _, exceptions := l.store.Owing(linkName(i))
				owed += count + l.store.OwingOperations(linkName(i)) - exceptions
			}
		}
		var still []*sale
		for _, s := range open {
			if p := w.read(s); p == nil || p.State == payment.StateOpen || p.State == payment.StateReversing {
				still = append(still, s)
			}
		}
		if open = still; owed == 0 && len(open) == 0 {
			return true
		}
	}
	return false
}

func (w *world) read(s *sale) *payment.Payment {
	l := w.members[0].now()
	if l == nil || s.told == nil {
		return nil
	}
	p, err := l.store.Payment(s.told.Intent.ID)
	if err != nil {
		return nil
	}
	return &p
}

// again asks every node for what was told, I1, and compares what each has of the
// payment, I4.
func (w *world) again(s *sale) {
	if s.told == nil {
		return
	}
	id := s.told.Intent.ID
	var first []payment.Entry
	for i, m := range w.members {
		l := m.now()
		if l == nil {
			continue
		}
		h, err := l.store.History(id)
		switch {
		case err != nil:
			w.failf("I4: %s has no history of %s: %v", m.id, id, err)
		case i == 0:
			first = h
		case first != nil && !reflect.DeepEqual(first, h):
			w.failf("I4: %s has another history of %s", m.id, id)
		}
	}
	m := w.members[s.number%nodes]
	l := m.now()
	if l == nil {
		return
	}
	var out payment.Payment
	if err := l.core.Authorize(s.request(wallClock()), &out); err != nil {
		w.failf("I1: %s was told %s, and %s says %v", s.key, s.told.Outcome.Status, m.id, err)
		return
	}
	if out.Outcome != s.told.Outcome || out.Intent.ID != id || out.Intent.RRN != s.told.Intent.RRN {
		w.failf("I1: %s was told %+v, and %s says %+v", s.key, s.told.Outcome, m.id, out.Outcome)
	}
}

// traceLedger adds an acquirer's whole book to the trace.
func (w *world) traceLedger(i int) {
	b, err := os.ReadFile(w.ledger(i))
	if err != nil {
		w.failf("ledger: %v", err)
	}
	w.trace.add('b', string(linkName(i)), "", b)
}
