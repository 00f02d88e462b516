package store

import (
	"errors"
	"sync"

	"authswitch/journal"
	"authswitch/payment"
)

// notice tells those who follow something that it changed.
type notice struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil: nobody waits
}

func (n *notice) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

func (n *notice) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// ChangeMerchant keeps a new version of a merchant. payment.ErrMerchantVersion:
// it was changed meanwhile, and stands as returned.
func (s *Store) ChangeMerchant(x *payment.MerchantChange) (payment.MerchantRecord, error) {
	if err := journal.CheckMerchant(x); err != nil {
		return payment.MerchantRecord{}, err
	}
	w := s.batch.waiter(journal.KindMerchant)
	w.result = journal.Result{} // a refusal before the journal leaves it as it is
	w.body = journal.AppendMerchant(w.body, x)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var k payment.MerchantRecord
	if !errors.Is(err, payment.ErrPending) {
		k = w.result.Merchant
	}
	s.give(w, err)
	return k, err
}

// MerchantsChange returns a channel that is closed when a merchant next changes
// on this replica. Ask for it before Merchants: else a change between the two is
// missed.
func (s *Store) MerchantsChange() <-chan struct{} { return s.replica.merchants.wait() }

// Merchants reads every merchant as it stands on this replica, with what this
// node changed.
func (s *Store) Merchants() (all []payment.MerchantRecord, err error) {
	err = s.look(func(r journal.Reader) error {
		all, err = journal.ReadMerchants(r)
		return err
	})
	return all, err
}

// Merchant reads one as of now; payment.ErrNotFound.
func (s *Store) Merchant(id payment.MerchantID) (k payment.MerchantRecord, err error) {
	if err := (Fresh{s}).now(); err != nil {
		return k, err
	}
	err = s.replica.read(func(r journal.Reader) error {
		k, err = journal.ReadMerchant(r, id)
		return err
	})
	return k, err
}

// MerchantVersions reads all versions of a merchant as of now, oldest first.
func (s *Store) MerchantVersions(id payment.MerchantID) (all []payment.MerchantRecord, err error) {
	if err := (Fresh{s}).now(); err != nil {
		return nil, err
	}
	err = s.replica.read(func(r journal.Reader) error {
		all, err = journal.ReadMerchantVersions(r, id)
		return err
	})
	return all, err
}
