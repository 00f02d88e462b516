package journal

import (
	"slices"
	"strings"

	"authswitch/payment"
)

// begun says which process began a node's session, and with which of its
// attempts: a command that was proposed twice begins one session, and one that
// strayed and arrives late begins none.
type begun struct {
	process [16]byte
	attempt uint32
}

const beginVersion = 2

func readBegun(c *cursor) begun {
	var b begun
	c.copy(b.process[:])
	b.attempt = c.u32()
	return b
}

// AppendBegin writes a KindSession command of a process, named by random bytes,
// that counts its sessions from 1.
func AppendBegin(b []byte, node payment.NodeID, process [16]byte, attempt uint32) []byte {
	b = putText(append(b, beginVersion), node)
	b = append(b, process[:]...)
	return put32(b, attempt)
}

// AppendEndSession writes a KindEndSession command.
func AppendEndSession(b []byte, s payment.Session) []byte {
	return put64(append(b, commandVersion), uint64(s))
}

// applySession begins a session: the node's earlier one ends, and what it left
// open becomes owed reversals in this command.
func (m *Machine) applySession(c *cursor, r *Result) error {
	version := c.u8()
	if version != commandVersion && version != beginVersion {
		return ErrCorrupt
	}
	node := c.text()
	var by begun
	if version == beginVersion {
		by = readBegun(c)
	}
	if err := c.end(); err != nil {
		return err
	}
	earlier, known := m.nodes[string(node)]
	if last, ok := m.begun[string(node)]; ok && version == beginVersion && last.process == by.process && by.attempt <= last.attempt {
		if by.attempt < last.attempt || earlier == 0 {
			r.Err = payment.ErrUnavailable // overtaken by a later one, or ended since
			return nil
		}
		r.Session = earlier
		return nil
	}
	if known {
		r.Count = m.endSession(earlier)
	}
	m.last++
	m.nodes[string(node)] = m.last
	m.setSession(string(node), by, version == beginVersion)
	r.Session = m.last
	return nil
}

func (m *Machine) setSession(node string, by begun, known bool) {
	value := put64(nil, uint64(m.nodes[node]))
	delete(m.begun, node)
	if known {
		m.begun[node] = by
		value = put32(append(value, by.process[:]...), by.attempt)
	}
	m.view.writes.set(appendSessionKey(nil, node), value)
}

// applyEndSession ends a session whose node is not heard of any more. One that
// ended meanwhile has nothing left to end.
func (m *Machine) applyEndSession(c *cursor, r *Result) error {
	c.version(commandVersion)
	s := payment.Session(c.u64())
	if err := c.end(); err != nil {
		return err
	}
	for node, newest := range m.nodes {
		if newest != s || s == 0 {
			continue
		}
		r.Count = m.endSession(s)
		m.nodes[node] = 0
		by, known := m.begun[node]
		m.setSession(node, by, known)
		break // a session has one node
	}
	return nil
}

// NodeSession is a node and its newest session, zero when that has ended.
type NodeSession struct {
	Node    payment.NodeID
	Session payment.Session
}

// Sessions appends every node that ever began a session, by name.
func (m *Machine) Sessions(dst []NodeSession) []NodeSession {
	for node, s := range m.nodes {
		dst = append(dst, NodeSession{payment.NodeID(node), s})
	}
	slices.SortFunc(dst, func(a, b NodeSession) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return dst
}

// Alive says whether a session has not ended.
func (m *Machine) Alive(s payment.Session) bool { return m.alive(s) }
