// Package session decides how long a node may work without a word from the
// others: the node's own view of its lease, and the leader's view of
// everybody's. Without both a node that was cut off could write a request
// whose payment the others have already reversed.
//
// The two must agree without a common clock. A node counts from when it *sent*
// the last keepalive that was granted; the leader counts from when it received
// it, and longer by a margin, so that the leader's end is never before the
// node's. A leader grants only a keepalive that quotes its previous answer:
// one that hears a node which does not hear it lets that session end. A new
// leader gives every session a whole lease from its first moment.
//
// Deciders only: no goroutine, lock, clock or I/O. Moments are of the caller's
// own steady clock, which must go on while the machine sleeps. Driven by store.
package session

import (
	"time"

	"authswitch/payment"
)

// Moment is nanoseconds of a steady clock that only its owner reads.
type Moment int64

// The lengths. A session is lost after Length without a granted keepalive;
// the leader adds Margin for clocks that run at another pace.
const (
	Length = 3 * time.Second
	Margin = 500 * time.Millisecond
	// Every is how often a node sends a keepalive: five may be lost.
	Every = 500 * time.Millisecond
)

// Quote is the number of a leader's answer, which the next keepalive repeats.
type Quote uint64

// Lease is a node's view of its own session. The zero value has none.
type Lease struct {
	length Moment
	until  Moment
	quote  Quote
	known  bool // quote is the present leader's
}

// NewLease is a lease of a length; zero is Length.
func NewLease(length time.Duration) *Lease {
	if length == 0 {
		length = Length
	}
	return &Lease{length: Moment(length)}
}

// Begin starts the lease of a new session, whose first proposal was sent at
// that moment.
func (l *Lease) Begin(sent Moment) { l.until = sent + l.length }

// Lose ends it at once.
func (l *Lease) Lose() { l.until, l.known = 0, false }

// LeaderChanged forgets the answer to quote: it was another's.
func (l *Lease) LeaderChanged() { l.quote, l.known = 0, false }

// Quote is what the next keepalive says; zero says that there is nothing to
// quote.
func (l *Lease) Quote() Quote {
	if !l.known {
		return 0
	}
	return l.quote
}

// Answered takes the leader's answer to a keepalive that was sent at that
// moment.
func (l *Lease) Answered(sent Moment, a Answer) {
	if a.Ended {
		l.Lose()
		return
	}
	l.quote, l.known = a.Quote, true
	if a.Granted {
		l.until = max(l.until, sent+l.length)
	}
}

// Valid says whether a request may be written.
func (l *Lease) Valid(now Moment) bool { return now < l.until }

// Until is when the lease ends.
func (l *Lease) Until() Moment { return l.until }

// Answer is a leader's to one keepalive.
type Answer struct {
	Quote   Quote
	Granted bool // the lease begins anew
	Ended   bool // there is no such session: take another
}

// Table is the leader's view of every session. The zero value is not usable.
type Table struct {
	length   Moment
	next     Quote
	sessions map[payment.Session]*held
}

type held struct {
	until Moment
	quote Quote // of the last answer
}

// NewTable is a new leader's table; length and margin zero are Length and
// Margin. First is the number of its first answer: it must differ between two
// leaders, so that neither takes a quote of the other's for its own.
func NewTable(length, margin time.Duration, first Quote) *Table {
	if length == 0 {
		length = Length
	}
	if margin == 0 {
		margin = Margin
	}
	return &Table{length: Moment(length + margin), next: max(first, 1), sessions: map[payment.Session]*held{}}
}

// Sync tells the table which sessions there are: new ones get a whole lease,
// those that ended are forgotten.
func (t *Table) Sync(now Moment, alive []payment.Session) {
	known := make(map[payment.Session]bool, len(alive))
	for _, s := range alive {
		known[s] = true
		if t.sessions[s] == nil {
			t.sessions[s] = &held{until: now + t.length}
		}
	}
	for s := range t.sessions {
		if !known[s] {
			delete(t.sessions, s)
		}
	}
}

// Keepalive answers a node. Alive says what the journal says of its session.
func (t *Table) Keepalive(now Moment, s payment.Session, quoted Quote, alive bool) Answer {
	if !alive {
		return Answer{Ended: true}
	}
	h := t.sessions[s]
	if h == nil {
		h = &held{until: now + t.length}
		t.sessions[s] = h
	}
	a := Answer{Quote: t.next}
	if h.quote != 0 && quoted == h.quote {
		a.Granted, h.until = true, now+t.length
	}
	h.quote = t.next
	t.next++
	return a
}

// Expired appends the sessions whose lease is over, which the leader ends
// through the journal.
func (t *Table) Expired(now Moment, dst []payment.Session) []payment.Session {
	for s, h := range t.sessions {
		if now >= h.until {
			dst = append(dst, s)
		}
	}
	return dst
}
