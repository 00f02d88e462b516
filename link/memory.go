package link

import "authswitch/payment"

// ghost is what is remembered of a request whose outcome was decided without
// its answer.
type ghost struct {
	key        key
	id         payment.ID
	attempt    uint8
	seq        uint64
	connection int32
	life       uint32 // of the connection: a later one is another
	next       int32
	held       bool
	second     bool // it had its answer, and this is another
}

// memory is the bounded table of requests that expired or lost their
// connection: a late answer finds its payment here, and a reversal the
// connection its original went out on. The oldest gives way to the newest; an
// answer that comes after that is an unmatched one.
type memory struct {
	ghosts []ghost
	heads  []int32
	byID   map[payment.ID]int32
	cursor int
}

func newMemory(size int) *memory {
	m := &memory{ghosts: make([]ghost, size), heads: make([]int32, chainsFor(size)), byID: make(map[payment.ID]int32, size)}
	for i := range m.heads {
		m.heads[i] = noPlace
	}
	return m
}

func (m *memory) chain(stan payment.STAN) *int32 { return &m.heads[int(stan)&(len(m.heads)-1)] }

// remember keeps a request that is over without an answer.
func (m *memory) remember(p *place, life uint32) {
	i := int32(m.cursor)
	m.cursor = (m.cursor + 1) % len(m.ghosts)
	m.forget(i)
	g := &m.ghosts[i]
	head := m.chain(p.key.stan)
	*g = ghost{key: p.key, id: p.id, attempt: p.attempt, seq: p.seq, connection: p.connection, life: life, next: *head, held: true}
	*head = i
	if !p.key.owed {
		m.byID[p.id] = i
	}
}

func (m *memory) forget(i int32) {
	g := &m.ghosts[i]
	if !g.held {
		return
	}
	at := m.chain(g.key.stan)
	for *at != i {
		at = &m.ghosts[*at].next
	}
	*at = g.next
	if !g.key.owed && m.byID[g.id] == i {
		delete(m.byID, g.id)
	}
	*g = ghost{}
}

// match takes out the request that a late answer belongs to. It is taken out
// so that a second copy of the answer is reported as matching nothing.
func (m *memory) match(e *echoed, r rule) (ghost, bool) {
	for i := *m.chain(e.stan); i != noPlace; i = m.ghosts[i].next {
		if m.ghosts[i].key.differs(e, r) == deNone {
			g := m.ghosts[i]
			m.forget(i)
			return g, true
		}
	}
	return ghost{}, false
}

// holds says whether a request with this trace number is remembered.
func (m *memory) holds(stan payment.STAN) bool {
	for i := *m.chain(stan); i != noPlace; i = m.ghosts[i].next {
		if m.ghosts[i].key.stan == stan {
			return true
		}
	}
	return false
}

// sentOn is the connection, and which life of it, that a payment's last
// unanswered request went out on.
func (m *memory) sentOn(id payment.ID) (connection int32, life uint32, ok bool) {
	i, ok := m.byID[id]
	if !ok {
		return 0, 0, false
	}
	return m.ghosts[i].connection, m.ghosts[i].life, true
}
