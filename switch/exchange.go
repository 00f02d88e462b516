package switching

import (
	"errors"

	"authswitch/payment"
)

// exchange sends the open attempt and turns whatever happens on the wire into
// an outcome. It decides nothing durably.
func (s *Switch) exchange(a *payment.Authorization, w *work, l *lane, i *payment.Intent) {
	w.outcome = payment.Outcome{
		ID: i.ID, Attempt: i.Attempt, Session: i.Session, Amount: a.Amount, Encoder: payment.EncoderVersion,
	}
	o := &w.outcome
	err := s.Exchanger.Exchange(&w.slot, i, w.frame, &w.answer)
	clear(w.frame) // the clear card number is on the wire; it stays nowhere else
	switch {
	case err == nil:
		s.judge(a, w, l, i)
	case errors.Is(err, payment.ErrNotSent):
		o.Event, o.Status, o.Cause = payment.EventNeverSent, payment.StatusNotSent, payment.CauseNoRoute
		if errors.Is(err, payment.ErrExpired) {
			o.Cause = payment.CauseTooLate
		}
	case errors.Is(err, payment.ErrTimeout):
		unknown(o, payment.CauseTimeout, payment.ReversalTimeout)
	default:
		unknown(o, causeOf(err), payment.ReversalMalfunction)
	}
}

// causeOf names why there is no usable answer.
func causeOf(err error) payment.Cause {
	switch {
	case errors.Is(err, payment.ErrRejected):
		return payment.CauseRejected
	case errors.Is(err, payment.ErrUnparsable):
		return payment.CauseUnparsable
	}
	return payment.CauseLinkLost
}

// unknown marks an outcome as not known: reversed, whatever the acquirer did.
func unknown(o *payment.Outcome, c payment.Cause, r payment.ReversalReason) {
	o.Event, o.Status, o.Cause, o.Reversal = payment.EventUnknown, payment.StatusUnknown, c, r
}

// judge reads the matched answer.
func (s *Switch) judge(a *payment.Authorization, w *work, l *lane, i *payment.Intent) {
	o := &w.outcome
	if err := l.Dialect.DecodeAuthorization(&w.answer, &o.Response); err != nil {
		unknown(o, payment.CauseUnparsable, payment.ReversalMalfunction)
		return
	}
	r := &o.Response
	if a.PIN.Present() {
		l.Zone.PINAnswered(r)
	}
	switch r.Verdict.Action {
	case payment.ActionApprove:
		if r.Amount.Currency != 0 && r.Amount != a.Amount {
			// An answer with another amount approves something that nobody asked
			// for (invariant I10).
			unknown(o, payment.CauseMismatch, payment.ReversalMalfunction)
			return
		}
		if r.Verdict.Flags.Has(payment.NeedsIdentity) && a.Channel != payment.CardPresent {
			refuseApproval(o, payment.ReasonIdentityRequired, payment.ReversalMalfunction)
			return
		}
		o.Event, o.Status = payment.EventApproved, payment.StatusApproved
	case payment.ActionApprovePartially:
		s.judgePartial(a, o, i)
	case payment.ActionDecline:
		o.Event, o.Status = payment.EventDeclined, payment.StatusDeclined
	default: // 68, or a code the dialect does not know: as a timeout
		if r.Verdict.Reason == payment.ReasonTooLate {
			unknown(o, payment.CauseTooLate, payment.ReversalLate)
			return
		}
		unknown(o, payment.CauseUnparsable, payment.ReversalMalfunction)
	}
}

// refuseApproval declines what the acquirer approved in a way that the merchant
// cannot take; what it holds is reversed whole.
func refuseApproval(o *payment.Outcome, why payment.Reason, reversal payment.ReversalReason) {
	o.Event, o.Status, o.Reversal = payment.EventApprovalRefused, payment.StatusDeclined, reversal
	o.Response.Verdict.Reason = why
}

// judgePartial takes a part where the merchant can; else the whole approval is
// reversed and the gateway is told declined.
func (s *Switch) judgePartial(a *payment.Authorization, o *payment.Outcome, i *payment.Intent) {
	part := o.Response.Amount
	if part.Currency != a.Amount.Currency || part.Value <= 0 || part.Value > a.Amount.Value {
		unknown(o, payment.CauseMismatch, payment.ReversalMalfunction)
		return
	}
	if !i.Partial {
		refuseApproval(o, payment.ReasonPartialRefused, payment.ReversalPartial)
		return
	}
	o.Event, o.Status, o.Amount = payment.EventApproved, payment.StatusPartiallyApproved, part
}
