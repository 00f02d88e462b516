package store

import (
	"time"

	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// Operate journals a capture, refund, increment, partial reversal or void, or
// says why it cannot be. Asked again with the same id or key it answers with
// what stands.
func (s *Store) Operate(o *payment.Operation) (payment.Operated, error) {
	if err := journal.CheckOperation(o); err != nil {
		return payment.Operated{}, err
	}
	w := s.batch.waiter(journal.KindOperate)
	w.priority = o.Priority()
	w.body = journal.AppendOperate(w.body, o)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var operated payment.Operated
	if err == nil {
		operated = w.result.Operated
	}
	s.give(w, err)
	return operated, err
}

// ClaimOnline journals the one attempt to send a request that is owed, before
// its first byte.
func (s *Store) ClaimOnline(c *payment.Claim) (payment.Owed, error) {
	w := s.batch.waiter(journal.KindClaim)
	w.body = journal.AppendClaimOnline(w.body, s.Session(), s.claims.Add(1), c)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var owed payment.Owed
	if err == nil {
		owed = w.result.Owed
	}
	s.give(w, err)
	return owed, err
}

// Answer journals what became of an operation's message. One that came too late
// to find it in the outbox is looked for in its payment's history.
func (s *Store) Answer(a *payment.Acknowledgement) error {
	w := s.batch.waiter(journal.KindAcknowledge)
	w.body = journal.AppendAnswer(w.body, a)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	s.give(w, err)
	return err
}

// Operation reads one operation as it stands.
func (s *Store) Operation(id payment.ID) (o payment.Operation, err error) {
	err = s.look(func(r journal.Reader) error {
		o, err = journal.ReadOperation(r, id)
		return err
	})
	return o, err
}

// AwaitOperation waits until nothing more happens to an operation by itself;
// payment.ErrPending when it is not so far by until.
func (s *Store) AwaitOperation(id payment.ID, until payment.Instant) (payment.Operation, error) {
	decided := s.replica.waiting.add(id)
	o, err := s.Operation(id)
	if err != nil || o.State.Over() {
		s.replica.waiting.remove(id, decided)
		return o, err
	}
	timer := time.NewTimer(time.Duration(until - s.deps.Now()))
	defer timer.Stop()
	select {
	case <-decided:
		return s.Operation(id)
	case <-timer.C:
		s.replica.waiting.remove(id, decided)
		return o, payment.ErrPending
	}
}

// OwingOperations says how many messages of operations link owes.
func (s *Store) OwingOperations(link payment.LinkName) (count int) {
	s.replica.withMachine(func(m *journal.Machine) { count = m.OwingOperations(link) })
	return count
}

// StoredCard reads a stored card.
func (s *Store) StoredCard(token payment.ID) (k payment.StoredCard, err error) {
	err = s.look(func(r journal.Reader) error {
		k, err = journal.ReadCard(r, token)
		return err
	})
	return k, err
}

// ChangeCard changes or deletes a stored card; payment.ErrNotFound when there
// is none of the merchant's.
func (s *Store) ChangeCard(x *payment.CardChange) (payment.StoredCard, error) {
	w := s.batch.waiter(journal.KindCard)
	w.body = journal.AppendCardChange(w.body, x)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var k payment.StoredCard
	if err == nil {
		k = w.result.Card
	}
	s.give(w, err)
	return k, err
}

// Leads says whether this node leads its cluster now: it does what one must do
// for all. Two may believe it for a moment, so whatever that is, the journal
// decides.
func (s *Store) Leads() bool { return s.raft.State() == raft.Leader }

// Now is the journal's clock: this node's, corrected by what the others' say.
func (s *Store) Now() payment.Instant { return s.clock.now() }

// mayExpire says whether this node's clock is good enough to end anything by:
// a majority's clocks say the same. Alone there is nobody to ask.
func (s *Store) mayExpire() bool {
	return s.alone() || s.clock.agreed.Load() && time.Duration(s.deviation.Load()).Abs() <= session.Wrong
}

// DueCaptures lists payments whose time for captures is over; none while this
// node's clock is in doubt.
func (s *Store) DueCaptures(limit int) (due []payment.DueCapture, err error) {
	if !s.mayExpire() {
		return nil, nil
	}
	now := s.clock.now()
	if s.fenced() {
		return nil, nil // until the last lane of a restored cluster is released
	}
	err = s.replica.read(func(r journal.Reader) error {
		due, err = journal.ReadDue(r, now, limit)
		return err
	})
	return due, err
}

// ExpireCaptures ends it: what nobody captured is reversed.
func (s *Store) ExpireCaptures(due []payment.DueCapture) (int, error) {
	w := s.batch.waiter(journal.KindExpire)
	w.body = journal.AppendExpire(w.body, due)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	count := 0
	if err == nil {
		count = w.result.Count
	}
	s.give(w, err)
	return count, err
}

// Operation reads one operation as of now.
func (f Fresh) Operation(id payment.ID) (payment.Operation, error) {
	if err := f.now(); err != nil {
		return payment.Operation{}, err
	}
	return f.Store.Operation(id)
}

// RefundByKey finds the refund that holds an idempotency key.
func (s *Store) RefundByKey(m payment.MerchantID, key []byte) (id payment.ID, err error) {
	err = s.look(func(r journal.Reader) error {
		id, err = journal.ReadRefundByKey(r, m, key)
		return err
	})
	return id, err
}

// Credit journals a refund without a payment, with the intent that has its card.
func (s *Store) Credit(o *payment.Operation, i *payment.Intent) (payment.Operated, error) {
	i.Node, i.Session = s.cfg.Node, s.Session()
	if err := journal.CheckCredit(o, i); err != nil {
		return payment.Operated{}, err
	}
	w := s.batch.waiter(journal.KindCredit)
	w.body = journal.AppendCredit(w.body, o, i)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var operated payment.Operated
	if err == nil {
		operated, err = w.result.Operated, w.result.Err
	}
	s.give(w, err)
	return operated, err
}

// Abandon fails a correction whose payment was not opened.
func (s *Store) Abandon(correction payment.ID) error {
	_, err := s.count(journal.KindAbandon, func(b []byte) []byte { return journal.AppendAbandon(b, correction) })
	return err
}
