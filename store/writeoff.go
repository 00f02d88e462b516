package store

import (
	"authswitch/journal"
	"authswitch/payment"
)

// WriteOff ends the exceptions that a payment owes, by an operator's audited
// decision. It says how many there were and how the payment stands after it;
// none is no error and writes nothing. payment.ErrNotFound: no such payment.
func (s *Store) WriteOff(w *payment.WriteOff) (ended int, state payment.State, err error) {
	if err := journal.CheckWriteOff(w); err != nil {
		return 0, payment.StateNone, err
	}
	waiting := s.batch.waiter(journal.KindWriteOff)
	waiting.body = journal.AppendWriteOff(waiting.body, w)
	err = s.batch.propose(waiting, s.cfg.CommitTimeout)
	if err == nil {
		ended, state = waiting.result.Count, waiting.result.State
	}
	s.give(waiting, err)
	return ended, state, err
}
