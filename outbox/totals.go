package outbox

import (
	"fmt"

	"authswitch/iso8583"
	"authswitch/payment"
)

// TotalsJournal is where it stands how far an upload's totals have come.
type TotalsJournal interface {
	ClaimTotals(x *payment.Totals) (bool, error)
	AgreeTotals(x *payment.Totals, a *payment.Agreed) error
}

// Reconciler sends the totals of a link's batch uploads: claimed before the first
// byte, and what is answered journalled. It is used by one caller at a time, and
// never repeats by itself: who asks again, after the claim's pause, sends the
// repeat.
type Reconciler struct {
	Deps
	Totals TotalsJournal
}

// Agree sends totals once. Not answered: they are to be sent again.
func (r *Reconciler) Agree(x *payment.Totals) (payment.Agreed, error) {
	var none payment.Agreed
	mti := r.Dialect.ReconciliationMTI()
	slot := payment.Slot{Link: r.Link}
	owed := payment.Owed{Link: r.Link, Operation: payment.ID{1}, Means: payment.MeansUpload, MTI: uint16(mti), STAN: x.STAN, Tries: x.Tries + 1}
	if err := r.Sender.ReserveOwed(&slot, &owed, payment.RRN{}); err != nil {
		return none, fmt.Errorf("send totals: %w", err)
	}
	x.STAN, x.Transmitted = slot.STAN, slot.Transmitted
	claimed, err := r.Totals.ClaimTotals(x)
	if err != nil || !claimed {
		r.Sender.Release(&slot)
		if err != nil {
			return none, fmt.Errorf("claim totals: %w", err)
		}
		return none, nil // somebody else has, or they are not due
	}
	x.Tries++
	frame, err := r.Dialect.EncodeTotals(nil, x)
	if err == nil && r.Zone != nil {
		err = r.Zone.Protect(mti, frame, slot.SendBy)
	}
	if err != nil {
		r.Sender.Release(&slot)
		return none, fmt.Errorf("write totals: %w", err)
	}
	var answer iso8583.Message
	i := payment.Intent{Terms: x.Terms}
	if err := r.Sender.Exchange(&slot, &i, frame, &answer); err != nil {
		r.Log.Warn("totals are unanswered; they are sent again", "link", r.Link, "batch", x.Number, "tries", x.Tries, "error", err)
		return none, nil // the claim's pause brings the repeat
	}
	agreed := r.Dialect.DecodeTotals(&answer)
	if err := r.Totals.AgreeTotals(x, &agreed); err != nil {
		return none, fmt.Errorf("journal what was said to totals; they are sent again: %w", err)
	}
	if !agreed.Answered {
		r.Log.Warn("totals are refused; they are sent again", "link", r.Link, "batch", x.Number, "tries", x.Tries, "response_code", agreed.Code.String())
	}
	return agreed, nil
}
