package store

import (
	"errors"
	"sync/atomic"

	"authswitch/journal"
	"authswitch/payment"
)

// keyRing hands out the working keys: made anew behind Apply when a command
// changed one, read without a lock.
type keyRing struct {
	current atomic.Pointer[payment.KeyRing]

	changed notice
}

// publish makes the ring of what the machine has. It is called with the
// replica's lock held, once the state is written.
func (k *keyRing) publish(m *journal.Machine) {
	if !m.KeysChanged() {
		return
	}
	k.current.Store(payment.NewKeyRing(m.Applied(), m.WorkingKeys()))
	k.changed.tell()
}

// Ring is the working keys that can be used now. It may be kept for as long as
// one message takes.
func (s *Store) Ring() *payment.KeyRing { return s.replica.ring.current.Load() }

// KeysChange returns a channel that is closed when Ring next changes. Ask for it
// before Ring: else a change between the two is missed.
func (s *Store) KeysChange() <-chan struct{} { return s.replica.ring.changed.wait() }

// WorkingKeys is every key there is or was, by number. The records must not be
// changed.
func (s *Store) WorkingKeys() (keys []*payment.Key) {
	s.replica.withMachine(func(m *journal.Machine) { keys = m.WorkingKeys() })
	return keys
}

// PutKey keeps a key, pending. Where the same key is kept already the answer is
// that one and payment.ErrKeyKnown, unless it is the very same block on the same
// link for the same use: then the command was proposed twice.
func (s *Store) PutKey(k *payment.Key) (*payment.Key, error) {
	if err := journal.CheckKey(k); err != nil {
		return nil, err
	}
	w := s.batch.waiter(journal.KindKeyPut)
	w.body = journal.AppendKeyPut(w.body, k)
	return s.keyCommand(w)
}

// AdvanceKey moves a key to its next state: payment.ErrKeyState and
// payment.ErrKeyDates say why not. A key that is in that state already is no
// error.
func (s *Store) AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error) {
	w := s.batch.waiter(journal.KindKeyAdvance)
	w.body = journal.AppendKeyAdvance(w.body, a)
	return s.keyCommand(w)
}

// RewrapKey replaces a key's block by the same key under another local master
// key; payment.ErrKeyChanged when its block is not the one that was rewrapped.
func (s *Store) RewrapKey(id payment.KeyID, was, block []byte, master uint32) (*payment.Key, error) {
	w := s.batch.waiter(journal.KindKeyRewrap)
	w.body = journal.AppendKeyRewrap(w.body, id, was, block, master)
	return s.keyCommand(w)
}

// MarkKey tells every node something of a key, until its state changes.
func (s *Store) MarkKey(id payment.KeyID, marks payment.KeyMarks) (*payment.Key, error) {
	w := s.batch.waiter(journal.KindKeyMark)
	w.body = journal.AppendKeyMark(w.body, id, marks)
	return s.keyCommand(w)
}

func (s *Store) keyCommand(w *waiter) (*payment.Key, error) {
	w.result = journal.Result{} // a refusal before the journal leaves it as it is
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var k *payment.Key
	if !errors.Is(err, payment.ErrPending) {
		k = w.result.Key
	}
	s.give(w, err)
	return k, err
}

// CardsUnder says how many stored cards are sealed under which data key. A card
// that was last changed before this was counted is missing until it changes.
func (s *Store) CardsUnder() (counts map[payment.KeyID]uint64, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		counts, err = journal.ReadCardKeys(r)
		return err
	})
	return counts, err
}

// CardsBehind reads up to limit stored cards behind a token, as of this replica.
func (s *Store) CardsBehind(token payment.ID, limit int) (cards []payment.StoredCard, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		cards, err = journal.ReadCards(r, nil, token, limit)
		return err
	})
	return cards, err
}

// ResealCards gives stored cards another envelope and says how many got it: not
// those that were changed or deleted since theirs was opened.
func (s *Store) ResealCards(list []payment.CardReseal) (int, error) {
	if err := journal.CheckCardReseals(list); err != nil {
		return 0, err
	}
	return s.count(journal.KindCardReseal, func(b []byte) []byte { return journal.AppendCardReseals(b, list) })
}
