package link

import (
	"errors"

	"authswitch/iso8583"
	"authswitch/payment"
)

// placeState is how far the request in a place has come.
type placeState uint8

const (
	placeFree     placeState = iota
	placeReserved            // numbered; nothing was appended
	placeQueued              // appended; no byte was handed to the kernel
	placeWritten             // handed to the kernel: bytes may have left
	placeDone                // completed; its owner has not picked it up yet
)

// place is one position in the window of a link.
type place struct {
	index      int32
	next       int32 // in its chain, or in the free list
	state      placeState
	connection int32 // index of the connection it counts against
	segment    int32 // of the connection's outgoing buffer while queued
	key        key
	id         payment.ID
	attempt    uint8
	seq        uint64          // of what is owed
	session    payment.Session // that must not be over when it is written; 0: none's
	sendBy     moment
	answerBy   moment
	sendByWall payment.Instant
	answerWall payment.Instant // as Reserve gave it, to see what the caller changed
	appended   moment
	answer     *iso8583.Message
	err        error
	done       chan struct{} // one buffered token: completed
}

// table holds every place of a link and finds them by key. It is the pending
// table of iso8583-behaviour.md §3.
type table struct {
	places []place
	heads  []int32 // chains by DE 11
	free   int32
	used   int

	answered answered // the last that are over with their answer
}

const noPlace = int32(-1)

var errKeyTaken = errors.New("key taken")

func newTable(size int) *table {
	t := &table{places: make([]place, size), heads: make([]int32, chainsFor(size)), free: noPlace, answered: newAnswered()}
	for i := range t.heads {
		t.heads[i] = noPlace
	}
	for i := size - 1; i >= 0; i-- {
		t.places[i] = place{index: int32(i), next: t.free, done: make(chan struct{}, 1)}
		t.free = int32(i)
	}
	return t
}

// chainsFor is a power of two at least twice the entries: trace numbers are
// handed out in order, so chains hold one entry nearly always.
func chainsFor(entries int) int {
	n := 2
	for n < 2*entries {
		n *= 2
	}
	return n
}

func (t *table) chain(stan payment.STAN) *int32 { return &t.heads[int(stan)&(len(t.heads)-1)] }

// take reserves a place for a trace number; nil when none is free.
func (t *table) take(stan payment.STAN) *place {
	if t.free == noPlace {
		return nil
	}
	p := &t.places[t.free]
	t.free = p.next
	p.state, p.err, p.answer = placeReserved, nil, nil
	p.key = key{stan: stan}
	head := t.chain(stan)
	p.next, *head = *head, p.index
	t.used++
	return p
}

// leave takes a place out of its chain: from now on nothing matches it.
func (t *table) leave(p *place) {
	at := t.chain(p.key.stan)
	for *at != p.index {
		at = &t.places[*at].next
	}
	*at = p.next
	p.next = noPlace
	t.used--
}

// giveBack makes a place that left its chain free again.
func (t *table) giveBack(p *place) {
	p.state, p.answer = placeFree, nil
	p.key, p.id = key{}, payment.ID{}
	p.next, t.free = t.free, p.index
}

// holds says whether any place has this trace number.
func (t *table) holds(stan payment.STAN) bool {
	for i := *t.chain(stan); i != noPlace; i = t.places[i].next {
		if t.places[i].key.stan == stan {
			return true
		}
	}
	return false
}

// claim gives a reserved place its whole key, and refuses one that is in
// flight already. Of two owed messages the same DE 11 and 37 are the same key,
// whatever their DE 7.
func (t *table) claim(p *place, k key) error {
	for i := *t.chain(k.stan); i != noPlace; i = t.places[i].next {
		o := &t.places[i]
		if o == p || o.state == placeReserved || o.key.stan != k.stan || o.key.class != k.class {
			continue
		}
		if o.key.rrn == k.rrn && (k.owed || o.key.owed) || o.key.transmitted == k.transmitted {
			return errKeyTaken
		}
	}
	p.key = k
	return nil
}

// match is the request that an answer belongs to, nil when there is none. Only
// what was handed to the kernel can have an answer.
func (t *table) match(e *echoed, r rule) *place {
	for i := *t.chain(e.stan); i != noPlace; i = t.places[i].next {
		p := &t.places[i]
		if p.state == placeWritten && p.key.differs(e, r) == deNone {
			return p
		}
	}
	return nil
}

// rejected is the request that a reject message means, nil when there is none
// or more than one.
func (t *table) rejected(e *echoed, r rule) *place {
	var found *place
	for i := *t.chain(e.stan); i != noPlace; i = t.places[i].next {
		p := &t.places[i]
		if p.state != placeWritten || !p.key.rejects(e, r) {
			continue
		}
		if found != nil {
			return nil
		}
		found = p
	}
	return found
}

// owes says whether an owed message with these numbers has a place.
func (t *table) owes(stan payment.STAN, rrn payment.RRN) bool {
	for i := *t.chain(stan); i != noPlace; i = t.places[i].next {
		k := &t.places[i].key
		if k.owed && k.stan == stan && k.rrn == rrn {
			return true
		}
	}
	return false
}

// nearest is the pending key most like an answer that matched nothing, and the
// element that differs. It scans the whole window: it is for one log line.
func (t *table) nearest(e *echoed, r rule) (*key, int) {
	var best *key
	element, score := deNone, 0
	for i := range t.places {
		p := &t.places[i]
		if p.state != placeWritten && p.state != placeQueued {
			continue
		}
		if s := p.key.likeness(e); s > score {
			best, element, score = &p.key, p.key.differs(e, r), s
		}
	}
	return best, element
}

// likeness counts what an answer and a key share; 0 when nothing that would
// interest a person looking for the answer's request.
func (k *key) likeness(e *echoed) int {
	n := 0
	if e.stan == k.stan {
		n += 4
	}
	if e.rrn != nil && string(e.rrn) == string(k.rrn[:]) {
		n += 4
	}
	if n == 0 {
		return 0
	}
	if e.transmitted == k.transmitted {
		n++
	}
	if e.terminal != nil && string(e.terminal) == k.terminal {
		n++
	}
	if e.mti.Class() == int(k.class) {
		n++
	}
	return n
}
