package journal

import (
	"fmt"
	"maps"
	"slices"

	"authswitch/payment"
)

// A mark is how far a member said that its disk has the log: whoever comes back
// with less has lost what it acknowledged, and its vote could elect a leader
// without it. Only what is committed counts: the rest of a log may be replaced.
//
//	K | node    index 8

const tableMarks = 'K'

// Mark is one member's.
type Mark struct {
	Node  payment.NodeID
	Index uint64
}

// AppendMarks writes a KindMarks command. Marks only grow.
func AppendMarks(b []byte, marks []Mark) []byte {
	b = append(b, commandVersion, byte(len(marks)))
	for _, k := range marks {
		b = put64(putText(b, k.Node), k.Index)
	}
	return b
}

func (m *Machine) applyMarks(c *cursor, r *Result) error {
	c.version(commandVersion)
	marks := make([]Mark, 0, 8)
	for range c.u8() {
		marks = append(marks, Mark{payment.NodeID(c.text()), c.u64()})
	}
	if err := c.end(); err != nil {
		return err
	}
	for _, k := range marks {
		if k.Index <= m.marks[k.Node] {
			continue
		}
		m.marks[k.Node] = k.Index
		m.keyA = appendMarkKey(m.keyA[:0], k.Node)
		m.value = put64(m.value[:0], k.Index)
		m.view.writes.set(m.keyA, m.value)
		r.Count++
	}
	return nil
}

func appendMarkKey(b []byte, node payment.NodeID) []byte { return putText(append(b, tableMarks), node) }

// forgetMark lets a node come back with an empty log.
func (m *Machine) forgetMark(node payment.NodeID) {
	if _, known := m.marks[node]; known {
		delete(m.marks, node)
		m.view.writes.delete(appendMarkKey(nil, node))
	}
}

func (m *Machine) loadMarks() error {
	return m.table(tableMarks, func(key, value []byte) error {
		c, v := cursor{b: key[1:]}, cursor{b: value}
		m.marks[payment.NodeID(c.text())] = v.u64()
		if err := c.end(); err != nil {
			return fmt.Errorf("a mark's key: %w", err)
		}
		return v.end()
	})
}

// MarkOf is how far a member said that its disk has the log; 0: it never did.
func (m *Machine) MarkOf(node payment.NodeID) uint64 { return m.marks[node] }

// Marks are all, by name.
func (m *Machine) Marks() []Mark {
	marks := make([]Mark, 0, len(m.marks))
	for _, node := range slices.Sorted(maps.Keys(m.marks)) {
		marks = append(marks, Mark{node, m.marks[node]})
	}
	return marks
}
