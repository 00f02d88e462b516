package store

import (
	"authswitch/journal"
	"authswitch/payment"
)

// KeepLink makes a payment link, or cancels one where it says so.
func (s *Store) KeepLink(k *payment.PayLink) (payment.PayLinkAnswer, error) {
	if err := journal.CheckPaymentLink(k); err != nil {
		return payment.PayLinkAnswer{}, err
	}
	w := s.batch.waiter(journal.KindPaymentLink)
	w.body = journal.AppendPaymentLink(w.body, k)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var answer payment.PayLinkAnswer
	if err == nil {
		answer = w.result.Link
	}
	s.give(w, err)
	return answer, err
}

// PaymentLink reads a payment link; payment.ErrNotFound.
func (s *Store) PaymentLink(id payment.ID) (k payment.PayLink, err error) {
	err = s.look(func(r journal.Reader) error {
		k, err = journal.ReadPaymentLink(r, id)
		return err
	})
	return k, err
}

// PaymentLink reads one as of now.
func (f Fresh) PaymentLink(id payment.ID) (payment.PayLink, error) {
	if err := f.now(); err != nil {
		return payment.PayLink{}, err
	}
	return f.Store.PaymentLink(id)
}
