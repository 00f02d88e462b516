package journal

import (
	"slices"
	"strings"
	"time"

	"authswitch/payment"
)

// Every node that has a link may send what it owes, and the claim decides who
// does. So that they do not all claim the same, each entry is one node's first:
// the others' turn comes a little later, and only where that one did not.

// turnAfter is how long a node waits for the one before it to claim.
const turnAfter = payment.Instant(500 * time.Millisecond)

// Nodes is how many nodes have a session.
func (m *Machine) Nodes() int {
	n := 0
	for _, s := range m.nodes {
		if s != 0 {
			n++
		}
	}
	return n
}

// Mine keeps those of due entries that it is a node's turn to claim, in place.
// The turns change nothing but who asks first: nodes that see different
// sessions for a moment only claim the same entry twice.
func (m *Machine) Mine(node payment.NodeID, now payment.Instant, due []payment.Owed) []payment.Owed {
	var alive []string
	for n, s := range m.nodes {
		if s != 0 {
			alive = append(alive, n)
		}
	}
	slices.SortFunc(alive, strings.Compare)
	own := slices.Index(alive, string(node))
	return slices.DeleteFunc(due, func(o payment.Owed) bool {
		if own < 0 {
			return true // no session: its claims would be refused
		}
		turn := (own + len(alive) - int(o.Seq%uint64(len(alive)))) % len(alive)
		return now < o.Due+payment.Instant(turn)*turnAfter
	})
}
