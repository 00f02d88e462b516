package journal

import (
	"slices"
	"strings"

	"authswitch/payment"
)

// Due appends up to limit reversals that link owes and that are due.
func (m *Machine) Due(link payment.LinkName, now payment.Instant, limit int, dst []payment.Owed) []payment.Owed {
	if l := m.lanes[string(link)]; l != nil {
		return l.list(now, limit, dst)
	}
	return dst
}

// Owing says how many reversals of authorizations link owes, since when
// anything is owed, and how much of it needs a person.
func (m *Machine) Owing(link payment.LinkName) (count int, oldest payment.Instant, exceptions int) {
	l := m.lanes[string(link)]
	if l == nil {
		return 0, 0, 0
	}
	return len(l.owed) - l.operations, l.oldest(), l.exceptions
}

// OwingOperations says how many messages of operations link owes.
func (m *Machine) OwingOperations(link payment.LinkName) int {
	if l := m.lanes[string(link)]; l != nil {
		return l.operations
	}
	return 0
}

// enlist puts what is owed into its link's lane.
func (m *Machine) enlist(link string, o *owing) {
	m.lane(link).add(o)
	m.owesMore = true
}

// OwesMore says whether anything became owed since the last call.
func (m *Machine) OwesMore() bool {
	more := m.owesMore
	m.owesMore = false
	return more
}

// Owes says whether a link owes anything.
func (m *Machine) Owes(link payment.LinkName) bool {
	l := m.lanes[string(link)]
	return l != nil && len(l.owed) > 0
}

// Lanes are the links that ever owed something since this start, by name.
func (m *Machine) Lanes() []payment.LinkName {
	links := make([]payment.LinkName, 0, len(m.lanes))
	for link := range m.lanes {
		links = append(links, payment.LinkName(link))
	}
	slices.SortFunc(links, func(a, b payment.LinkName) int { return strings.Compare(string(a), string(b)) })
	return links
}
