package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// Reads see everything that a command of this node was answered before they
// began. What is not found here is looked for again once this replica has
// caught up with the leader: only then does it not exist.

// Payment reads one payment.
func (s *Store) Payment(id payment.ID) (p payment.Payment, err error) {
	err = s.look(func(r journal.Reader) error {
		p, err = journal.ReadPayment(r, id)
		return err
	})
	return p, err
}

// Original reads one payment with the intent of one of its attempts; 0 is the
// last.
func (s *Store) Original(id payment.ID, attempt uint8) (p payment.Payment, err error) {
	err = s.look(func(r journal.Reader) error {
		p, err = journal.ReadOriginal(r, id, attempt)
		return err
	})
	return p, err
}

// History reads what happened to a payment, oldest first.
func (s *Store) History(id payment.ID) (h []payment.Entry, err error) {
	err = s.look(func(r journal.Reader) error {
		h, err = journal.ReadHistory(r, id)
		return err
	})
	return h, err
}

// ByKey finds the payment that holds an idempotency key.
func (s *Store) ByKey(m payment.MerchantID, key []byte) (id payment.ID, err error) {
	err = s.look(func(r journal.Reader) error {
		id, err = journal.ReadByKey(r, m, key)
		return err
	})
	return id, err
}

// ByReference lists the payments with a merchant's reference, newest first.
func (s *Store) ByReference(m payment.MerchantID, reference []byte) (ids []payment.ID, err error) {
	err = s.look(func(r journal.Reader) error {
		ids, err = journal.ReadByReference(r, m, reference)
		return err
	})
	return ids, err
}

// List lists a merchant's payments, newest first, from the one after the last
// that was seen; from the newest where that is zero.
func (s *Store) List(m payment.MerchantID, after payment.ID, limit int) (ids []payment.ID, more bool, err error) {
	err = s.look(func(r journal.Reader) error {
		ids, more, err = journal.ReadList(r, m, after, limit)
		return err
	})
	return ids, more, err
}

// Due appends up to limit reversals that link owes and that are due, the
// longest due first. Due times are of the journal's clock, which a wall clock
// that was set back is behind of.
func (s *Store) Due(link payment.LinkName, now payment.Instant, limit int, dst []payment.Owed) []payment.Owed {
	if own := s.clock.now(); own > now || s.clock.guarded {
		now = own
	}
	if s.replica.applied.Load() < s.replica.seen.Load() {
		// What this node claimed last is due until that is applied here, too.
		ctx, cancel := context.WithTimeout(context.Background(), dueWithin)
		defer cancel()
		if s.replica.await(ctx, s.replica.seen.Load()) != nil {
			return dst
		}
	}
	from := len(dst)
	s.replica.withMachine(func(m *journal.Machine) {
		nodes := m.Nodes()
		dst = m.Due(link, now, limit*max(nodes, 1), dst)
		if nodes > 1 {
			dst = append(dst[:from], m.Mine(s.cfg.Node, now, dst[from:])...)
		}
	})
	return dst[:min(len(dst), from+limit)]
}

// Idle is nil while link owes anything; else the channel is closed when it may
// owe something again.
func (s *Store) Idle(link payment.LinkName) (changed <-chan struct{}) {
	changed = s.replica.owing.wait() // before the look: what comes after it closes it
	s.replica.withMachine(func(m *journal.Machine) {
		if m.Owes(link) {
			changed = nil
		}
	})
	return changed
}

// Owing says how much link owes, since when, and how much of it needs a person.
func (s *Store) Owing(link payment.LinkName) (count int, oldest payment.Instant, exceptions int) {
	s.replica.withMachine(func(m *journal.Machine) { count, oldest, exceptions = m.Owing(link) })
	return count, oldest, exceptions
}

// Await waits until a payment is decided; payment.ErrPending when it is not by
// until.
func (s *Store) Await(id payment.ID, until payment.Instant) error {
	decided := s.replica.waiting.add(id)
	p, err := s.Payment(id)
	if err != nil || p.State != payment.StateOpen {
		s.replica.waiting.remove(id, decided)
		return err
	}
	timer := time.NewTimer(time.Duration(until - s.deps.Now()))
	defer timer.Stop()
	select {
	case <-decided:
		return nil
	case <-timer.C:
		s.replica.waiting.remove(id, decided)
		return payment.ErrPending
	}
}

// dueWithin bounds one look at what is due; the next one comes soon.
const dueWithin = 200 * time.Millisecond

// readWithin bounds a read's wait for this replica to catch up.
const readWithin = 2 * time.Second

// look reads this replica.
func (s *Store) look(f func(journal.Reader) error) error {
	if s.replica.applied.Load() < s.replica.seen.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), readWithin)
		defer cancel()
		if err := s.replica.await(ctx, s.replica.seen.Load()); err != nil {
			return err
		}
	}
	err := s.replica.read(f)
	if !errors.Is(err, payment.ErrNotFound) {
		return err
	}
	if s.fenced() {
		return fmt.Errorf("%w: this journal comes from a backup, and what was made after it is not known", payment.ErrUnavailable)
	}
	if s.alone() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	return s.replica.read(f)
}

// fenced says whether a lane of a restored state is not released yet.
func (s *Store) fenced() (on bool) {
	s.replica.withMachine(func(m *journal.Machine) { on, _ = m.Fenced() })
	return on
}

// Fresh is the store for those who show how a payment stands: they are not
// answered from a replica that lags.
type Fresh struct{ *Store }

// Payment reads one payment as of now.
func (f Fresh) Payment(id payment.ID) (payment.Payment, error) {
	if err := f.now(); err != nil {
		return payment.Payment{}, err
	}
	return f.Store.Payment(id)
}

// History reads what happened to a payment until now, oldest first.
func (f Fresh) History(id payment.ID) ([]payment.Entry, error) {
	if err := f.now(); err != nil {
		return nil, err
	}
	return f.Store.History(id)
}

func (f Fresh) now() error {
	ctx, cancel := context.WithTimeout(context.Background(), readWithin)
	defer cancel()
	return f.catchUp(ctx)
}
