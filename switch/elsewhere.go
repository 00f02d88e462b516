package switching

import (
	"errors"

	"authswitch/payment"
)

// A request whose link is up at another node and not here is handed there whole,
// before anything of it is durable: nothing below is asked while the link of a
// request's route is up on this node.

// isElsewhere says whether a request should be handed to another node.
func isElsewhere(err error) bool {
	_, ok := errors.AsType[*payment.Elsewhere](err)
	return ok
}

// notHere turns a link that could not be had into the word that another node has
// it. A request that was handed here for this very link is refused with it: the
// node that handed it on knows of others, and this one hands nothing on. After a
// first attempt the payment is this node's for good.
func (s *Switch) notHere(a *payment.Authorization, link payment.LinkName, attempts uint8, err error) error {
	switch {
	case attempts > 0 || a.Here || !errors.Is(err, payment.ErrUnavailable):
		return err
	case a.Handed != "":
		if link != a.Handed {
			return err
		}
	case s.Elsewhere == nil || !s.Elsewhere(link):
		return err
	}
	return &payment.Elsewhere{Link: link}
}

// onlyElsewhere says whether a link is down here and up at another node. It takes
// a place and gives it back: for what is rare.
func (s *Switch) onlyElsewhere(link payment.LinkName) bool {
	if s.Elsewhere == nil || !s.Elsewhere(link) {
		return false
	}
	slot := payment.Slot{Link: link}
	if err := s.Exchanger.Reserve(&slot, payment.ID{}, 1); err != nil {
		return errors.Is(err, payment.ErrUnavailable)
	}
	s.Exchanger.Release(&slot)
	return false
}

// otherLane is why an operation on a payment of a link that this node was not
// given cannot be taken here.
func (s *Switch) otherLane(k payment.OperationKind, link payment.LinkName) error {
	if s.Elsewhere != nil && s.Elsewhere(link) {
		return &payment.Elsewhere{Link: link}
	}
	return refusalOfMeans(k)
}
