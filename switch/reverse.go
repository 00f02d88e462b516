package switching

import "authswitch/payment"

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
func (s *Switch) Late(l payment.Late) {
	if err := s.Canceller.Late(&l); err != nil {
		// The reversal is owed all the same, only without this answer's DE 38.
		s.Log.Warn("late answer not journalled", "id", l.ID.String(), "link", l.Link, "error", err)
		return
	}
	s.Log.Info("late answer", "id", l.ID.String(), "link", l.Link, "response_code", l.Response.Code.String())
}
