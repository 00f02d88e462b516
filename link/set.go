package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Set is all links of a node, by name. It is built once. What the switch and
// the outbox ask of it goes to the link that the slot, or what is owed, names.
type Set struct {
	links map[payment.LinkName]*Link
	names []payment.LinkName
}

// errNoLink means that a slot names a link this node does not have.
var errNoLink = fmt.Errorf("%w: no such link", payment.ErrUnavailable)

// NewSet refuses two links of one name.
func NewSet(links ...*Link) (*Set, error) {
	s := &Set{links: make(map[payment.LinkName]*Link, len(links))}
	for _, l := range links {
		if _, taken := s.links[l.Name()]; taken {
			return nil, fmt.Errorf("two links are named %q", l.Name())
		}
		s.links[l.Name()] = l
		s.names = append(s.names, l.Name())
	}
	slices.Sort(s.names)
	return s, nil
}

// Names are the links' names in order.
func (s *Set) Names() []payment.LinkName { return slices.Clone(s.names) }

// Link is one of them, nil when there is none of that name.
func (s *Set) Link(name payment.LinkName) *Link { return s.links[name] }

// Status is every link's, in the order of names.
func (s *Set) Status() []Status {
	all := make([]Status, 0, len(s.names))
	for _, name := range s.names {
		all = append(all, s.links[name].Status())
	}
	return all
}

// Run runs every link until the context ends and all are gone.
func (s *Set) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, l := range s.links {
		group.Go(func() error { return l.Run(ctx) })
	}
	return group.Wait()
}

// Drain drains every link at once and waits for them.
func (s *Set) Drain(ctx context.Context) error {
	for _, l := range s.links {
		l.Drain()
	}
	var faults []error
	for _, name := range s.names {
		faults = append(faults, s.links[name].Drained(ctx))
	}
	return errors.Join(faults...)
}

// DropNumbers makes every link forget its leased numbers: the session is over.
func (s *Set) DropNumbers() {
	for _, l := range s.links {
		l.DropNumbers()
	}
}

// Cut drops every connection of every link.
func (s *Set) Cut() {
	for _, l := range s.links {
		l.Cut()
	}
}

// Reserve is Link.Reserve on slot.Link.
func (s *Set) Reserve(slot *payment.Slot, id payment.ID, attempt uint8) error {
	l := s.links[slot.Link]
	if l == nil {
		return errNoLink
	}
	return l.Reserve(slot, id, attempt)
}

// ReserveOwed is Link.ReserveOwed on o.Link.
func (s *Set) ReserveOwed(slot *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	l := s.links[o.Link]
	if l == nil {
		return errNoLink
	}
	return l.ReserveOwed(slot, o, rrn)
}

// Exchange is Link.Exchange on slot.Link.
func (s *Set) Exchange(slot *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error {
	l := s.links[slot.Link]
	if l == nil {
		return errSlot
	}
	return l.Exchange(slot, i, frame, answer)
}

// Release is Link.Release on slot.Link.
func (s *Set) Release(slot *payment.Slot) {
	if l := s.links[slot.Link]; l != nil {
		l.Release(slot)
	}
}
