package bench

// listedMovement is an operation of a payment, as GET /v1/authorizations lists
// it: a capture, refund, increment, partial reversal or void.
type listedMovement struct {
	ID       string       `json:"id"`
	Kind     string       `json:"kind"`
	Means    string       `json:"means"`
	State    string       `json:"state"`
	Link     string       `json:"link"`
	Amount   listedAmount `json:"amount"`
	Messages []struct {
		STAN        string `json:"stan"`
		Transmitted string `json:"transmitted"`
	} `json:"messages"`
}

// movement is one operation in the journal, with what the ledger has of it.
type movement struct {
	id, kind, means, state string
	amount                 int64
	taken                  int64 // in the ledger, and not undone there
	record                 int32
}

// Words of an operation.
const (
	movementCapture   = "capture"
	movementRefund    = "refund"
	movementIncrement = "increment"
	movementRelease   = "release"
	movementDone      = "done"
	movementException = "exception"
	movementNoMessage = "none"
	movementFile      = "file"
	movementOwed      = "owed"
	movementSale      = "sale"
)

// atRest says whether an operation goes no further by itself.
func (m *movement) atRest() bool {
	switch m.state {
	case movementDone, "declined", "failed", "withdrawn", "undone":
		return true
	case movementOwed:
		return m.means == movementFile // until the cut-over
	}
	return false
}

// restless says in words that an operation is under way.
func (r *record) restless() string {
	if r.moving {
		return ", and an operation on it is not at rest"
	}
	return ""
}

// addMovements takes a payment's operations in, or brings them up to date.
func (s *journalSide) addMovements(at int32, a *listedAuthorization) {
	r := &s.records[at]
	r.moving = false
	for i := range a.Movements {
		l := &a.Movements[i]
		n, known := s.movementOf[l.Kind+l.ID]
		if !known {
			n = int32(len(s.movements))
			s.movements = append(s.movements, movement{id: l.ID, kind: s.intern(l.Kind), means: s.intern(l.Means), record: at})
			s.movementOf[l.Kind+l.ID] = n
			r.moved = append(r.moved, n)
		}
		m := &s.movements[n]
		m.state, m.amount, m.means = s.intern(l.State), int64(l.Amount), s.intern(l.Means)
		r.moving = r.moving || !m.atRest()
		r.ordered = r.ordered || m.kind == movementRelease
		for _, t := range l.Messages {
			s.byMovement[wire{s.link(l.Link), number(t.STAN), number(t.Transmitted)}] = n
		}
	}
}

// Decisions of a simulator about operations.
const (
	decidedCaptured = "captured"
	decidedRefunded = "refunded"
)

// movement takes a line that is about an operation: its message, or the
// reversal of one.
func (s *ledgerSide) movement(file string, n int, link uint16, l *ledgerLine) bool {
	if l.undoes() {
		at, known := s.journal.byMovement[wire{link, number(l.Original.STAN), number(l.Original.Transmitted)}]
		if !known {
			return false
		}
		if m := &s.journal.movements[at]; l.Decision == decidedReversed {
			m.taken = max(0, m.taken-l.Amount)
		}
		return true
	}
	took := l.Decision == decidedCaptured || l.Decision == decidedRefunded
	at, known := s.journal.byMovement[wire{link, number(l.STAN), number(l.Transmitted)}]
	switch {
	case !known && !took:
		return false
	case !known:
		s.found.differ("M1", "%s:%d: %d %s with STAN %s at %s, and the journal does not know it", file, n, l.Amount, l.Decision, l.STAN, l.Transmitted)
	case took || l.Decision == decidedApproved:
		s.journal.movements[at].taken += l.Amount
	}
	return true
}

// compareMovements holds one payment's operations against the ledger: what is
// done was taken once and whole, what is not done is not there, and no more
// than was authorized was captured, nor more refunded than captured.
func (s *ledgerSide) compareMovements(r *record) {
	if len(r.moved) == 0 || len(r.attempts) == 0 || !s.covered[r.attempts[r.winner].wire.link] {
		return
	}
	sums := map[string]int64{}
	released, resting := int64(0), true
	for _, n := range r.moved {
		m := &s.journal.movements[n]
		resting = resting && m.atRest()
		if m.kind == movementRelease && m.state == movementDone {
			released += m.amount
		}
		if m.means == movementSale { // the authorization's own message
			if m.state == movementDone {
				sums[m.kind] += m.amount
			}
			continue
		}
		if m.means == movementNoMessage || m.kind != movementCapture && m.kind != movementRefund && m.kind != movementIncrement {
			continue
		}
		sums[m.kind] += m.taken
		switch {
		case m.taken > m.amount:
			s.found.differ("M3", "%s %s is for %d, the ledger has %d, %s", m.kind, m.id, m.amount, m.taken, r.name())
		case !m.atRest(), m.state == movementOwed && m.taken == m.amount: // its file is written, and not journalled yet
		case m.state == movementDone && m.taken != m.amount:
			s.found.differ("M2", "the journal says %s %s of %d is done, the ledger has %d, %s", m.kind, m.id, m.amount, m.taken, r.name())
		case m.state != movementDone && m.taken != 0:
			s.found.differ("M2", "the journal says %s %s is %s, the ledger has %d, %s", m.kind, m.id, m.state, m.taken, r.name())
		}
	}
	t := &r.attempts[r.winner]
	if resting && r.state == stateApproved && t.undone != released {
		s.found.differ("M4", "the journal released %d of %s, the ledger has %d", released, r.name(), t.undone)
	}
	if held := t.amount + sums[movementIncrement]; sums[movementCapture] > held {
		s.found.differ("M5", "%d is captured of %d authorized, %s", sums[movementCapture], held, r.name())
	}
	if r.state != stateRefundOnly && sums[movementRefund] > sums[movementCapture] {
		s.found.differ("M5", "%d is refunded of %d captured, %s", sums[movementRefund], sums[movementCapture], r.name())
	}
}
