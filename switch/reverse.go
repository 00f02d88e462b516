package switching

import (
	"errors"
	"time"

	"authswitch/payment"
)

// Reverse cancels a payment for its gateway. What it returns is durable; the
// message to the acquirer is owed and leaves from the outbox, under no
// caller's deadline.
func (s *Switch) Reverse(c *payment.Cancellation) (payment.Cancelled, error) {
	cancelled, err := s.Canceller.Cancel(c)
	if err != nil {
		return payment.Cancelled{}, refusalPending(c.ID)
	}
	return cancelled, nil
}

// Late journals an answer that came after its outcome was decided. It never
// changes what the gateway was told; an approval arms the reversal again. It
// is called by a link, off the path of any request, and may take its time.
//
// An approval after a decline is known to nobody else, so a journal that
// cannot take it is asked again for a while.
func (s *Switch) Late(l payment.Late) {
	if err := Insist(func() error { return s.Canceller.Late(&l) }); err != nil {
		s.Log.Error("late answer not journalled: its approval, if it is one, must be looked for at the acquirer",
			"id", l.ID.String(), "link", l.Link, "response_code", l.Response.Code.String(), "error", err)
		return
	}
	s.Log.Info("late answer", "id", l.ID.String(), "link", l.Link, "response_code", l.Response.Code.String())
}

// Insist gives the journal what nobody else knows, again and again for a while,
// unless there is no payment or attempt that it is about: no later try finds it.
func Insist(tell func() error) (err error) {
	for range lateTries {
		if err = tell(); err == nil || errors.Is(err, payment.ErrNotFound) {
			return err
		}
		time.Sleep(latePause)
	}
	return err
}

// How long a late answer waits for the journal: 10 s, within which a store
// either elects a leader or stops its node.
const (
	lateTries = 20
	latePause = 500 * time.Millisecond
)
