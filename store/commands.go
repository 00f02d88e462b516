package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// Every command is one Raft commit and answers what the journal decided.
// payment.ErrPending means that its end is not known: it may still commit.
// payment.ErrBusy and payment.ErrUnavailable mean that nothing was done.

// Open journals the first attempt of a payment, under this node and session,
// which it writes into i. Only payment.OpenNew allows a byte to leave. It is
// not waited for past i.SendBy: the attempt could not leave any more.
func (s *Store) Open(i *payment.Intent) (payment.Opened, error) {
	i.Node, i.Session = s.cfg.Node, s.Session()
	if err := journal.CheckIntent(i); err != nil {
		return payment.Opened{}, err
	}
	if !s.MayWrite(i.Session) {
		return payment.Opened{Verdict: payment.OpenSessionEnded}, nil
	}
	limit := min(s.cfg.CommitTimeout, time.Duration(i.SendBy-s.deps.Now()))
	if limit <= 0 {
		return payment.Opened{}, fmt.Errorf("%w: send-by has passed", payment.ErrUnavailable)
	}
	w := s.batch.waiter(journal.KindOpen)
	w.priority = i.Priority
	w.body = journal.AppendOpen(w.body, i)
	err := s.batch.propose(w, limit)
	opened := w.opened(err)
	s.give(w, err)
	return opened, err
}

// Next ends attempt n with o — nothing was written, or an explicit no — and
// opens attempt n+1, i, in one command. It took if the answer's state is
// StateOpen and its session has not ended.
func (s *Store) Next(o *payment.Outcome, i *payment.Intent) (payment.Settled, error) {
	i.Node = s.cfg.Node
	if i.Session == 0 {
		i.Session = s.Session()
	}
	if o.Session == 0 {
		o.Session = i.Session
	}
	if err := journal.CheckNext(o, i); err != nil {
		return payment.Settled{}, err
	}
	w := s.batch.waiter(journal.KindNext)
	w.body = journal.AppendNext(w.body, o, i)
	return s.settle(w)
}

// Close ends a payment with an answer, or with proof that nothing was sent.
func (s *Store) Close(o *payment.Outcome) (payment.Settled, error) { return s.end(o, false) }

// Reverse ends a payment and owes its reversal in the same command.
func (s *Store) Reverse(o *payment.Outcome) (payment.Settled, error) { return s.end(o, true) }

func (s *Store) end(o *payment.Outcome, reverse bool) (payment.Settled, error) {
	if o.Session == 0 {
		o.Session = s.Session()
	}
	if err := journal.CheckOutcome(o, reverse); err != nil {
		return payment.Settled{}, err
	}
	w := s.batch.waiter(journal.KindSettle)
	w.body = journal.AppendSettle(w.body, o)
	return s.settle(w)
}

func (s *Store) settle(w *waiter) (payment.Settled, error) {
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var settled payment.Settled
	if err == nil {
		settled = w.result.Settled
	}
	s.give(w, err)
	return settled, err
}

// Cancel is a gateway's reversal; what it names and does not find is refused
// if it comes later.
func (s *Store) Cancel(c *payment.Cancellation) (payment.Cancelled, error) {
	if err := journal.CheckCancellation(c); err != nil {
		return payment.Cancelled{}, err
	}
	w := s.batch.waiter(journal.KindCancel)
	w.body = journal.AppendCancel(w.body, c)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var cancelled payment.Cancelled
	if err == nil {
		cancelled = w.result.Cancelled
	}
	s.give(w, err)
	return cancelled, err
}

// Late records an answer that came after its attempt was given up.
func (s *Store) Late(l *payment.Late) error {
	w := s.batch.waiter(journal.KindLate)
	w.body = journal.AppendLate(w.body, l)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	s.give(w, err)
	return err
}

// Claim journals an attempt to send what link owes, before its first byte. The
// first claim fixes the STAN. payment.ErrBusy: not due, somebody else may be at
// it; payment.ErrNotFound: no longer owed.
func (s *Store) Claim(link payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error) {
	w := s.batch.waiter(journal.KindClaim)
	w.body = journal.AppendClaim(w.body, s.Session(), s.claims.Add(1), link, seq, stan, t)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var owed payment.Owed
	if err == nil {
		owed = w.result.Owed
	}
	s.give(w, err)
	return owed, err
}

// Acknowledge journals what the acquirer said to a reversal and returns the
// payment's state after it.
func (s *Store) Acknowledge(link payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) (payment.State, error) {
	w := s.batch.waiter(journal.KindAcknowledge)
	w.body = journal.AppendAcknowledge(w.body, link, seq, r, v)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	state := payment.StateNone
	if err == nil {
		state = w.result.State
	}
	s.give(w, err)
	return state, err
}

// Lease takes a range of numbers for this node's messages on a link. A node
// may have the range it uses and the next one; older ones are given away.
func (s *Store) Lease(ctx context.Context, link payment.LinkName) (payment.Numbers, error) {
	limit := s.cfg.CommitTimeout
	if at, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(at))
	}
	if err := ctx.Err(); err != nil || limit <= 0 {
		return payment.Numbers{}, errors.Join(payment.ErrUnavailable, err)
	}
	w := s.batch.waiter(journal.KindLease)
	w.body = journal.AppendLease(w.body, s.Session(), link)
	err := s.batch.propose(w, limit)
	var numbers payment.Numbers
	if err == nil {
		numbers = w.result.Numbers
	}
	s.give(w, err)
	return numbers, err
}

// give returns a waiter to the pool unless it may still be on its way.
func (s *Store) give(w *waiter, err error) {
	if !errors.Is(err, payment.ErrPending) {
		s.batch.release(w)
	}
}

func (w *waiter) opened(err error) payment.Opened {
	if err != nil {
		return payment.Opened{}
	}
	return w.result.Opened
}
