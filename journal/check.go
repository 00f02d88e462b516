package journal

import (
	"errors"
	"fmt"

	"authswitch/payment"
)

// Errors of the journal.
var (
	// ErrCorrupt means that bytes do not decode: a damaged entry or record, or
	// one written by a newer version. The node that meets it in the log or in
	// its state stops; it never skips.
	ErrCorrupt = errors.New("corrupt or unknown journal data")
	// ErrInvalid means that a command was refused before it was proposed.
	ErrInvalid = errors.New("not a valid command")
	// errInvalidCredit is a refund without a payment that does not fit its intent.
	errInvalidCredit = fmt.Errorf("%w: a refund without a payment that is not about its own intent", ErrInvalid)
	// ErrStopped means that a long read was told to stop.
	ErrStopped = errors.New("stopped")
)

// Limits of what a command may carry.
const (
	maxText   = 255  // names, keys, references: one length byte
	maxSealed = 2048 // the vault's envelope
	maxOwed   = 16   // reversals one payment may owe at once; attempts are fewer
	// MaxCommand is more than the largest command's body.
	MaxCommand = 8 << 10
)

// CheckIntent says whether an intent can be proposed.
func CheckIntent(i *payment.Intent) error {
	switch {
	case i.ID.IsZero():
		return fmt.Errorf("%w: intent without id", ErrInvalid)
	case i.Attempt == 0:
		return fmt.Errorf("%w: intent without attempt", ErrInvalid)
	case i.Merchant == "" || i.Link == "":
		return fmt.Errorf("%w: intent without merchant or link", ErrInvalid)
	case i.SendBy == 0 || i.AnswerBy < i.SendBy:
		return fmt.Errorf("%w: intent without deadlines", ErrInvalid)
	case len(i.Sealed) > maxSealed:
		return fmt.Errorf("%w: sealed card of %d bytes", ErrInvalid, len(i.Sealed))
	}
	t := &i.Terms
	for _, n := range [...]int{
		len(i.Node), len(i.Gateway), len(i.Merchant), len(i.Key), len(i.Reference), len(i.Link), len(i.Dialect), len(i.BIN),
		len(i.NetworkTransactionID), len(i.Holder), len(i.CardScope), len(i.Tags), len(t.Terminal), len(t.Acceptor), len(t.AcceptorName), len(t.MCC), len(t.Acquirer), len(t.Forwarder), len(t.Country),
	} {
		if n > maxText {
			return fmt.Errorf("%w: intent with a field of %d bytes", ErrInvalid, n)
		}
	}
	return nil
}

// CheckOutcome says whether an outcome can end a payment: Close's must not owe
// a reversal, Reverse's must.
func CheckOutcome(o *payment.Outcome, reverse bool) error {
	next, ok := payment.Step(payment.StateOpen, o.Event)
	if !ok || next == payment.StateOpen || (next == payment.StateReversing) != reverse || (o.Reversal != payment.NoReversal) != reverse {
		return fmt.Errorf("%w: outcome with event %s and reversal %q", ErrInvalid, o.Event, o.Reversal)
	}
	if o.Status == payment.StatusNone || o.ID.IsZero() || o.Attempt == 0 {
		return fmt.Errorf("%w: outcome without id, attempt or status", ErrInvalid)
	}
	if next == payment.StateVerified {
		return nil
	}
	if o.Status.Approved() != (next == payment.StateApproved) || (o.Status == payment.StatusNotSent) != (next == payment.StateNotSent) {
		return fmt.Errorf("%w: outcome %s with event %s", ErrInvalid, o.Status, o.Event)
	}
	return nil
}

// CheckNext says whether o may end attempt n and i may be attempt n+1: after
// proof that nothing was written, or an explicit no; never after an ambiguous
// attempt.
func CheckNext(o *payment.Outcome, i *payment.Intent) error {
	if o.Event != payment.EventNeverSent && o.Event != payment.EventDeclined || o.Reversal != payment.NoReversal {
		return fmt.Errorf("%w: another attempt after event %s", ErrInvalid, o.Event)
	}
	if o.ID != i.ID || i.Attempt != o.Attempt+1 || o.Attempt == 0 {
		return fmt.Errorf("%w: attempt %d after attempt %d", ErrInvalid, i.Attempt, o.Attempt)
	}
	return CheckIntent(i)
}

// CheckCancellation says whether a cancellation names something.
func CheckCancellation(c *payment.Cancellation) error {
	switch {
	case c.Merchant == "":
		return fmt.Errorf("%w: cancellation without merchant", ErrInvalid)
	case c.ID.IsZero() && len(c.Key) == 0 && len(c.Reference) == 0:
		return fmt.Errorf("%w: cancellation of nothing", ErrInvalid)
	case c.Reason == payment.NoReversal:
		return fmt.Errorf("%w: cancellation without reason", ErrInvalid)
	}
	for _, n := range [...]int{len(c.Merchant), len(c.Gateway), len(c.RequestKey), len(c.Key), len(c.Reference)} {
		if n > maxText {
			return fmt.Errorf("%w: cancellation with a field of %d bytes", ErrInvalid, n)
		}
	}
	return nil
}

// CheckOperation says whether an operation can be proposed.
func CheckOperation(o *payment.Operation) error {
	captured := o.Kind == payment.OpRefund || o.Kind == payment.OpVoid
	switch {
	case o.ID.IsZero() || o.Merchant == "":
		return fmt.Errorf("%w: operation without id or merchant", ErrInvalid)
	case o.Kind == payment.NoOperation || o.Kind > payment.OpCorrection:
		return fmt.Errorf("%w: operation without kind", ErrInvalid)
	case captured && o.Parent.IsZero(), !captured && o.Payment.IsZero():
		return fmt.Errorf("%w: %s of nothing", ErrInvalid, o.Kind)
	case o.Amount.Value < 0 || o.Amount.Value > payment.MaxAmount:
		return fmt.Errorf("%w: amount %d", ErrInvalid, o.Amount.Value)
	case (o.Means > payment.MeansFile && o.Means != payment.MeansUpload || o.Means == payment.MeansNone) && o.Kind != payment.OpCorrection:
		return fmt.Errorf("%w: %s by %s", ErrInvalid, o.Kind, o.Means)
	case (o.Means == payment.MeansAdvice || o.Means == payment.MeansOnline || o.Means == payment.MeansUpload) && o.MTI == 0:
		return fmt.Errorf("%w: %s without a message", ErrInvalid, o.Kind)
	}
	for _, n := range [...]int{len(o.Merchant), len(o.Gateway), len(o.Key), len(o.Text)} {
		if n > maxText {
			return fmt.Errorf("%w: operation with a field of %d bytes", ErrInvalid, n)
		}
	}
	return nil
}
