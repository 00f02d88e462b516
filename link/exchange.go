package link

import (
	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/payment"
)

// Reserve takes a place in the window and fills in the slot: trace and
// reference number, DE 7, and the deadlines the intent must carry. It returns
// at once. payment.ErrBusy: the window is full. payment.ErrUnavailable: no
// connection is ready, or there are no numbers. A place that is neither used
// nor given back is lost to its owner when send_by passes.
func (l *Link) Reserve(s *payment.Slot, id payment.ID, attempt uint8) error {
	wall := l.deps.Now()
	l.mu.Lock()
	err := l.core.reserve(l.now(), wall, s, id, attempt)
	l.askForNumbers()
	l.hurry()
	l.mu.Unlock()
	return err
}

// ReserveOwed does the same for what the outbox owes, from a share of the
// window that authorizations cannot take. It keeps o.STAN and rrn where they
// are set.
func (l *Link) ReserveOwed(s *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	wall := l.deps.Now()
	l.mu.Lock()
	err := l.core.reserveOwed(l.now(), wall, s, o, rrn)
	l.askForNumbers()
	l.hurry()
	l.mu.Unlock()
	return err
}

// Release gives an unused place back.
func (l *Link) Release(s *payment.Slot) {
	l.mu.Lock()
	if p := l.core.placeOf(s); p != nil {
		l.core.release(p, l.now())
		l.settle()
	}
	l.mu.Unlock()
	s.Place = nil
}

// Exchange sends a frame under the slot's numbers and waits for its answer,
// which it swaps into answer. It uses the slot up. The frame is copied before
// it returns and not kept.
//
// payment.ErrNotSent is proof that no byte left. payment.ErrUnknownOutcome
// means that bytes may have left and no usable answer came; its cause is
// ErrTimeout, ErrLost, ErrRejected (then payment.ErrRejected too) or
// ErrUnparsable. There is no context: the slot's deadlines end the wait.
func (l *Link) Exchange(s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error {
	wall := l.deps.Now()
	l.mu.Lock()
	p := l.core.placeOf(s)
	if p == nil {
		l.mu.Unlock()
		forgotten := s.Place != nil
		s.Place = nil
		if forgotten && wall > s.SendBy {
			return errExpired // its place was taken back when send_by passed
		}
		return errSlot
	}
	now := l.now()
	st, err := l.core.send(p, request{slot: s, intent: i, frame: frame, answer: answer}, now, wall)
	if err != nil {
		l.core.counters.NotSent++
		l.core.release(p, now)
		l.settle()
		l.mu.Unlock()
		s.Place = nil
		return err
	}
	c := l.connections[st.index]
	if !st.writing {
		c.kick()
	}
	l.hurry()
	l.mu.Unlock()

	card.ClearRegisters()
	<-p.done
	err = p.err
	l.mu.Lock()
	l.core.table.giveBack(p)
	l.mu.Unlock()
	s.Place = nil
	return err
}
