package journal

import (
	"bytes"
	"slices"
	"strings"

	"authswitch/payment"
)

// alive says whether a session is its node's newest. Nodes are few.
func (m *Machine) alive(s payment.Session) bool {
	if s == 0 {
		return false
	}
	for _, newest := range m.nodes {
		if newest == s {
			return true
		}
	}
	return false
}

func (m *Machine) endSession(s payment.Session) int {
	if s == 0 {
		return 0 // ended already
	}
	count := m.expireAll(payment.EventSessionEnded, payment.CauseSessionEnded, func(l *life) bool { return l.session == s })
	links := make([]string, 0, len(m.numbers))
	for link := range m.numbers {
		links = append(links, link)
	}
	slices.SortFunc(links, strings.Compare)
	for _, link := range links {
		n := m.numbers[link]
		if n.drop(s) {
			m.setNumbers(link, n)
		}
	}
	m.endShares(s)
	return count
}

// expireAll turns the open payments that match into reversals, in the order of
// their ids.
func (m *Machine) expireAll(event payment.Event, cause payment.Cause, match func(*life) bool) int {
	m.sweepIDs = m.sweepIDs[:0]
	for id, l := range m.open {
		if match(l) {
			m.sweepIDs = append(m.sweepIDs, id)
		}
	}
	slices.SortFunc(m.sweepIDs, func(a, b payment.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range m.sweepIDs {
		m.expire(m.open[id], event, cause)
	}
	return len(m.sweepIDs)
}

// applySweep reverses what is open past its time, whatever its session says.
func (m *Machine) applySweep(c *cursor, r *Result) error {
	c.version(commandVersion)
	margin := payment.Instant(c.u64())
	if err := c.end(); err != nil {
		return err
	}
	r.Count = m.expireAll(payment.EventOverdue, payment.CauseOverdue, func(l *life) bool { return m.overdue(l, m.now, margin) })
	return nil
}

// LeaseSize is how many numbers a lease hands out; leases are the first digits
// of the 999 whole ranges that six digits have.
const (
	LeaseSize   = 1000
	leaseRanges = 999
	// heldRanges are the newest of a session that no other lease may get: the
	// one in use, the next one, and one whose last messages may be on their way.
	heldRanges = 3
)

const numbersVersion = 1

// everyLink is whose counter of reference numbers all links share: a payment
// that goes on to another link keeps its RRN, which must be new there too.
const everyLink = ""

// numbers are one link's; the RRN counter is everyLink's.
type numbers struct {
	next uint16 // range
	rrn  uint64
	owed uint64 // the newest sequence of the outbox
	held []heldRange
}

type heldRange struct {
	session payment.Session
	index   uint16
}

func (n *numbers) append(b []byte) []byte {
	b = append(b, numbersVersion)
	b = put16(b, n.next)
	b = put64(b, n.rrn)
	b = put64(b, n.owed)
	b = put16(b, uint16(len(n.held)))
	for _, h := range n.held {
		b = put16(put64(b, uint64(h.session)), h.index)
	}
	return b
}

func (n *numbers) read(b []byte) error {
	c := cursor{b: b}
	c.version(numbersVersion)
	n.next, n.rrn, n.owed = c.u16(), c.u64(), c.u64()
	for range c.u16() {
		n.held = append(n.held, heldRange{session: payment.Session(c.u64()), index: c.u16()})
		if c.broken {
			break
		}
	}
	return c.end()
}

// drop gives back what a session held.
func (n *numbers) drop(s payment.Session) bool {
	before := len(n.held)
	n.held = slices.DeleteFunc(n.held, func(h heldRange) bool { return h.session == s })
	return len(n.held) != before
}

// lease takes the next range that nobody holds, and as many reference numbers.
func (n *numbers) lease(s payment.Session, shared *numbers) (payment.Numbers, bool) {
	for range leaseRanges {
		index := n.next
		n.next = (n.next + 1) % leaseRanges
		if slices.ContainsFunc(n.held, func(h heldRange) bool { return h.index == index }) {
			continue
		}
		n.hold(heldRange{session: s, index: index})
		first := payment.STAN(index)*LeaseSize + 1
		rrn := shared.rrn + 1
		shared.rrn += LeaseSize
		return payment.Numbers{FirstSTAN: first, LastSTAN: first + LeaseSize - 1, FirstRRN: rrn, LastRRN: shared.rrn}, true
	}
	return payment.Numbers{}, false
}

func (n *numbers) hold(h heldRange) {
	mine := 0
	for _, x := range n.held {
		if x.session == h.session {
			mine++
		}
	}
	if mine >= heldRanges {
		oldest := slices.IndexFunc(n.held, func(x heldRange) bool { return x.session == h.session })
		n.held = slices.Delete(n.held, oldest, oldest+1)
	}
	n.held = append(n.held, h)
}

func (m *Machine) numbersOf(link string) *numbers {
	n := m.numbers[link]
	if n == nil {
		n = &numbers{}
		m.numbers[link] = n
	}
	return n
}

func (m *Machine) setNumbers(link string, n *numbers) {
	m.keyA = appendNumbersKey(m.keyA[:0], link)
	m.value = n.append(m.value[:0])
	m.view.writes.set(m.keyA, m.value)
}

// applyLease hands a session a range of numbers.
func (m *Machine) applyLease(c *cursor, r *Result) error {
	c.version(commandVersion)
	session := payment.Session(c.u64())
	link := m.names.of(c.text())
	if err := c.end(); err != nil {
		return err
	}
	if !m.alive(session) {
		r.Err = payment.ErrUnavailable
		return nil
	}
	n, shared := m.numbersOf(link), m.numbersOf(everyLink)
	leased, ok := n.lease(session, shared)
	if !ok {
		r.Err = payment.ErrBusy
		return nil
	}
	m.setNumbers(link, n)
	m.setNumbers(everyLink, shared)
	r.Numbers = leased
	return nil
}
