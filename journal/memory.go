package journal

import (
	"encoding/binary"
	"math"

	"authswitch/payment"
)

// What the machine keeps in memory only makes it faster: each part is rebuilt
// from the keys at start (Load) and no answer depends on it.

// RecentKeys is how many idempotency keys are kept exactly, in some 18 MiB: those of
// the last half a minute at 5,000 authorizations a second, of two minutes at 1,000.
// What is asked again later costs a read.
const RecentKeys = 250_000

// recent is the payments of the newest keys, in two halves: when the younger is
// full the older one is forgotten. It answers the common repeat — the gateway
// asks again within seconds — without a read.
type recent struct {
	limit        int // of a half
	young, older map[keyHash]payment.ID
}

func newRecent(limit int) recent {
	return recent{limit: max(limit/2, 1), young: make(map[keyHash]payment.ID)}
}

func (r *recent) add(h keyHash, id payment.ID) {
	if len(r.young) >= r.limit {
		r.older, r.young = r.young, make(map[keyHash]payment.ID)
	}
	r.young[h] = id
}

func (r *recent) find(h keyHash) (payment.ID, bool) {
	if id, ok := r.young[h]; ok {
		return id, true
	}
	id, ok := r.older[h]
	return id, ok
}

func (r *recent) clear() {
	clear(r.young)
	r.older = nil
}

// seen says which keys were never used, so that the look-up of a new key — all
// but a few are new — reads nothing. It is a list of Bloom filters, each for
// one day and at most so many keys: few filters are few probes. (One an hour,
// as first meant, is 72 probes for a quiet node.) A filter is dropped with its
// day; beyond the limit it says "perhaps" to everything, which costs reads.
type seen struct {
	filters []*bloom
	room    int  // keys of one filter; 0: bloomKeys
	blind   bool // past the limit, for good
	partial bool // only what came since the start, until the rest is adopted
}

const (
	bloomKeys   = 1 << 20 // of one filter
	bloomBits   = 16      // of a key: one false alarm in about 1,000 with 7 probes in one cache line
	bloomProbes = 7
	bloomLimit  = 64 // filters: 128 MiB
)

type bloom struct {
	day   uint32
	keys  int
	lines [][8]uint64
}

func (s *seen) add(day uint32, h keyHash) {
	if s.blind {
		return
	}
	n, room := len(s.filters), s.room
	if room == 0 {
		room = bloomKeys
	}
	if n == 0 || s.filters[n-1].keys >= room || s.filters[n-1].day != day {
		if n >= bloomLimit {
			s.blind, s.filters = true, nil
			return
		}
		s.filters = append(s.filters, &bloom{day: day, lines: make([][8]uint64, room*bloomBits/512)})
		n++
	}
	f := s.filters[n-1]
	f.keys++
	line, bits := f.place(h)
	for range bloomProbes {
		line[bits>>6&7] |= 1 << (bits & 63)
		bits >>= 9
	}
}

// perhaps says whether a key may have been used.
func (s *seen) perhaps(h keyHash) bool {
	if s.blind || s.partial {
		return true
	}
	for _, f := range s.filters {
		if f.has(h) {
			return true
		}
	}
	return false
}

func (s *seen) forget(day uint32) {
	kept := s.filters[:0]
	for _, f := range s.filters {
		if f.day > day {
			kept = append(kept, f)
		}
	}
	clear(s.filters[len(kept):])
	s.filters = kept
}

// place picks one cache line by the first half of the hash, which is as good as
// random, and 63 bits for the probes by the second.
func (f *bloom) place(h keyHash) (line *[8]uint64, bits uint64) {
	first := binary.LittleEndian.Uint64(h[:8])
	return &f.lines[first%uint64(len(f.lines))], binary.LittleEndian.Uint64(h[8:])
}

func (f *bloom) has(h keyHash) bool {
	line, bits := f.place(h)
	for range bloomProbes {
		if line[bits>>6&7]&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

// lane is what one link owes.
type lane struct {
	owed       map[uint64]*owing
	due        heap[dueAt]
	order      []uint64 // as they became owed; the dead are dropped from the front
	exceptions int
	operations int // of owed: no reversal of an authorization
}

type owing struct {
	payment.Owed
	by claim
}

// dueAt is stale when the reversal it names is gone or due at another time.
type dueAt struct {
	due payment.Instant
	seq uint64
}

func newLane() *lane {
	return &lane{owed: make(map[uint64]*owing), due: heap[dueAt]{less: func(a, b *dueAt) bool {
		return a.due < b.due || a.due == b.due && a.seq < b.seq
	}}}
}

func (l *lane) add(o *owing) {
	l.owed[o.Seq] = o
	l.order = append(l.order, o.Seq)
	l.due.push(dueAt{o.Due, o.Seq})
	if !o.Operation.IsZero() {
		l.operations++
	}
	if o.Exception {
		l.exceptions++
	}
}

// changed is called after o's due time or exception was set.
func (l *lane) changed(o *owing, wasException bool) {
	l.due.push(dueAt{o.Due, o.Seq})
	if o.Exception && !wasException {
		l.exceptions++
	}
	if !o.Exception && wasException {
		l.exceptions--
	}
	l.compact()
}

func (l *lane) remove(o *owing) {
	delete(l.owed, o.Seq)
	if !o.Operation.IsZero() {
		l.operations--
	}
	if o.Exception {
		l.exceptions--
	}
	for len(l.order) > 0 && l.owed[l.order[0]] == nil {
		l.order = l.order[1:]
	}
	l.compact()
}

// compact drops what is stale when it outweighs what is not: an exception that
// stays for days at the front must not keep all that came after it.
func (l *lane) compact() {
	if len(l.order) <= 2*len(l.owed)+64 && len(l.due.items) <= 4*len(l.owed)+64 {
		return
	}
	kept := l.order[:0]
	l.due.items = l.due.items[:0]
	for _, seq := range l.order {
		if o := l.owed[seq]; o != nil {
			kept = append(kept, seq)
			l.due.push(dueAt{o.Due, seq})
		}
	}
	l.order = kept
}

// list appends what is due by now, the longest due first.
func (l *lane) list(now payment.Instant, limit int, dst []payment.Owed) []payment.Owed {
	from := len(dst)
	for len(dst)-from < limit {
		top := l.due.top()
		if top == nil || top.due > now {
			break
		}
		d := l.due.pop()
		if o := l.owed[d.seq]; o != nil && o.Due == d.due && (len(dst) == from || dst[len(dst)-1].Seq != d.seq) {
			dst = append(dst, o.Owed)
		}
	}
	for i := from; i < len(dst); i++ {
		l.due.push(dueAt{dst[i].Due, dst[i].Seq})
	}
	return dst
}

func (l *lane) oldest() payment.Instant {
	for _, seq := range l.order {
		if o := l.owed[seq]; o != nil {
			return o.Since
		}
	}
	return 0
}

// nextTries counts a claim and stays at its maximum.
func nextTries(tries uint16) uint16 {
	if tries == math.MaxUint16 {
		return tries
	}
	return tries + 1
}
