package bubble_test

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"strings"
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
	}
	w.ledgers()
}

// quiet says that nothing is owed any more but what needs a person, on any node.
func (w *world) quiet(limit time.Duration) bool {
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
				owed += count - exceptions
			}
		}
		open := 0
		for _, s := range w.payments {
			if p := w.read(s); p == nil || p.State == payment.StateOpen || p.State == payment.StateReversing {
				open++
			}
		}
		if owed == 0 && open == 0 {
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
	if err := l.core.Authorize(s.request(), &out); err != nil {
		w.failf("I1: %s was told %s, and %s says %v", s.key, s.told.Outcome.Status, m.id, err)
		return
	}
	if out.Outcome != s.told.Outcome || out.Intent.ID != id || out.Intent.RRN != s.told.Intent.RRN {
		w.failf("I1: %s was told %+v, and %s says %+v", s.key, s.told.Outcome, m.id, out.Outcome)
	}
}

// held is what an acquirer holds of one request, by its ledger.
type held struct {
	RRN         string `json:"rrn"`
	MTI         string `json:"mti"`
	STAN        string `json:"stan"`
	Transmitted string `json:"transmitted"`
	Amount      int64  `json:"amount"`
	Decision    string `json:"decision"`
	Original    *struct {
		STAN        string `json:"stan"`
		Transmitted string `json:"transmitted"`
	} `json:"original"`
}

// ledgers compares the acquirers' books with the journal, I2 and I3.
func (w *world) ledgers() {
	approved := map[string]int64{} // link, RRN → amount held
	for i := range hosts {
		w.readLedger(i, approved)
	}
	for _, s := range w.payments {
		p := w.read(s)
		if p == nil {
			continue
		}
		for i := range hosts {
			name := string(linkName(i)) + "/" + p.Intent.RRN.String()
			amount, holds := approved[name]
			delete(approved, name)
			if wants := p.State == payment.StateApproved && p.Intent.Link == linkName(i); wants != holds && p.State != payment.StateException {
				w.failf("I2, I3: %s is %s on %s; %s holds %d (%v)", p.Intent.ID, p.State, p.Intent.Link, linkName(i), amount, holds)
			} else if wants && holds && amount != p.Outcome.Amount.Value {
				w.failf("I3: %s is approved for %d; %s holds %d", p.Intent.ID, p.Outcome.Amount.Value, linkName(i), amount)
			}
		}
	}
	for name, amount := range approved {
		w.failf("I2: %s holds %d, and no payment that was told has that number", name, amount)
	}
}

// readLedger adds what one acquirer holds in the end.
func (w *world) readLedger(i int, approved map[string]int64) {
	f, err := os.Open(w.ledger(i))
	if err != nil {
		w.failf("ledger: %v", err)
		return
	}
	defer f.Close()
	names := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var h held
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			w.failf("ledger: %v", err)
			continue
		}
		name := string(linkName(i)) + "/" + h.RRN
		switch {
		case strings.HasPrefix(h.MTI, "01") && h.Decision == "approved":
			approved[name] = h.Amount
			names[h.STAN+h.Transmitted] = name
		// One that says "unknown" to what it approved before has forgotten it: it
		// holds nothing. The other order, unknown first, is an orphan.
		case strings.HasPrefix(h.MTI, "04") && (h.Decision == "reversed" || h.Decision == "unknown_original") && h.Original != nil:
			delete(approved, names[h.Original.STAN+h.Original.Transmitted])
		}
	}
}
