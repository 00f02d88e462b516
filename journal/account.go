package journal

import (
	"authswitch/payment"
)

// account is what has become of an approved payment's money, and the order in
// which its messages leave: the next one only when the one before is over. A
// payment without operations has none; it costs an authorization nothing.
type account struct {
	payment.Account
	current    payment.ID   // whose message is in the outbox, or in doubt; zero: none
	waiting    []payment.ID // behind it, in order
	operations []payment.ID // all there ever were
	// cancel is why the whole authorization is reversed once nothing of it is
	// in doubt any more.
	cancel payment.ReversalReason
}

// MaxOperations is how many operations one payment may have.
const MaxOperations = 500

const accountVersion = 1

func appendAccount(b []byte, a *account) []byte {
	b = append(b, accountVersion)
	for _, v := range [...]int64{a.Authorized, a.Incremented, a.Released, a.Captured, a.Refunded} {
		b = put64(b, uint64(v))
	}
	b = putBool(b, a.Closed)
	b = append(b, byte(a.cancel))
	b = append(b, a.current[:]...)
	b = putIDs(b, a.waiting)
	return putIDs(b, a.operations)
}

func readAccount(c *cursor, a *account) {
	c.version(accountVersion)
	for _, v := range [...]*int64{&a.Authorized, &a.Incremented, &a.Released, &a.Captured, &a.Refunded} {
		*v = int64(c.u64())
	}
	a.Closed = c.flag()
	a.cancel = payment.ReversalReason(c.u8())
	a.current = c.id()
	a.waiting = readIDs(c, a.waiting[:0])
	a.operations = readIDs(c, a.operations[:0])
}

func putIDs(b []byte, ids []payment.ID) []byte {
	b = put16(b, uint16(len(ids)))
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

func readIDs(c *cursor, ids []payment.ID) []payment.ID {
	for range c.u16() {
		if c.broken {
			break
		}
		ids = append(ids, c.id())
	}
	return ids
}

// account reads a payment's; one that has none yet starts with what was
// approved.
func (m *Machine) account(l *life, a *account) {
	m.keyA = appendAccountKey(m.keyA[:0], l.id)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if found {
		c := cursor{b: value}
		readAccount(&c, a)
		m.view.fail(c.end())
		return
	}
	*a = account{waiting: a.waiting[:0], operations: a.operations[:0]}
	var o payment.Outcome
	m.outcome(l, &o)
	if o.Status.Approved() {
		a.Authorized = o.Amount.Value
	}
}

func (m *Machine) setAccount(l *life, a *account) {
	m.keyA = appendAccountKey(m.keyA[:0], l.id)
	m.value = appendAccount(m.value[:0], a)
	m.view.writes.set(m.keyA, m.value)
}

// hasAccount says whether a payment has any operations.
func (m *Machine) hasAccount(id payment.ID) bool {
	m.keyA = appendAccountKey(m.keyA[:0], id)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	return found
}
