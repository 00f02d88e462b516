package query

import "authswitch/payment"

// Item is one payment with what was put on the wire for it.
type Item struct {
	Payment   payment.Payment
	CreatedAt payment.Instant
	Attempts  []Attempt
	Reversals []Reversal // of the authorization
	// Operations are the payment's captures, refunds and so on, oldest first.
	Operations []Operation
}

// Operation is one operation with every message that travelled for it.
type Operation struct {
	payment.Operation
	Messages []payment.Message
}

// Attempt is one 0100 with the numbers it travelled under.
type Attempt struct {
	Number      uint8
	Link        payment.LinkName
	STAN        payment.STAN
	RRN         payment.RRN
	Transmitted payment.Transmitted
	MTI         uint16
	Result      string // open, or the name of what it came to
}

// Reversal is one reversal that is or was owed.
type Reversal struct {
	Link        payment.LinkName
	Seq         uint64
	STAN        payment.STAN        // 0 before the first transmission
	Transmitted payment.Transmitted // of the last transmission
	Tries       uint16
	State       string // owed, sent, acknowledged, not_found, exception, written_off
}

// newItem folds a history into attempts and reversals.
func newItem(p payment.Payment, history []payment.Entry) Item {
	item := Item{Payment: p, CreatedAt: p.Intent.ReceivedAt}
	for i := range history {
		e := &history[i]
		switch e.Kind {
		case payment.EntryIntent:
			item.attempt(e)
		case payment.EntryOutcome:
			item.outcome(e)
		case payment.EntryReversalOwed, payment.EntryReversalSent, payment.EntryReversalEnded, payment.EntryWrittenOff:
			item.reversal(e)
		case payment.EntryOperation:
			item.operation(e)
		}
	}
	return item
}

func (item *Item) attempt(e *payment.Entry) {
	if e.Intent == nil {
		return
	}
	in := e.Intent
	item.Attempts = append(item.Attempts, Attempt{
		Number: in.Attempt, Link: in.Link, STAN: in.STAN, RRN: in.RRN, Transmitted: in.Transmitted, MTI: in.MTI, Result: "open",
	})
}

// outcome gives an attempt its result. The status says it best; a closed
// attempt that another followed has only its cause.
func (item *Item) outcome(e *payment.Entry) {
	if e.Outcome == nil {
		return
	}
	for i := range item.Attempts {
		a := &item.Attempts[i]
		switch {
		case a.Number != e.Outcome.Attempt:
		case e.Outcome.Status != payment.StatusNone:
			a.Result = e.Outcome.Status.String()
		default:
			a.Result = e.Event.String()
		}
	}
}

// operation keeps an operation's newest line, and each transmission there was.
func (item *Item) operation(e *payment.Entry) {
	if e.Operation == nil {
		return
	}
	var o *Operation
	for i := range item.Operations {
		if item.Operations[i].ID == e.Operation.ID && item.Operations[i].Kind == e.Operation.Kind {
			o = &item.Operations[i]
		}
	}
	if o == nil {
		item.Operations = append(item.Operations, Operation{})
		o = &item.Operations[len(item.Operations)-1]
	}
	o.Operation = *e.Operation
	m := payment.Message{MTI: o.MTI, STAN: o.STAN, Transmitted: o.Transmitted}
	if m.STAN != 0 && (len(o.Messages) == 0 || o.Messages[len(o.Messages)-1] != m) {
		o.Messages = append(o.Messages, m)
	}
}

func (item *Item) reversal(e *payment.Entry) {
	if e.Owed == nil || !e.Owed.Operation.IsZero() {
		return
	}
	o := e.Owed
	var r *Reversal
	for i := range item.Reversals {
		if item.Reversals[i].Link == o.Link && item.Reversals[i].Seq == o.Seq {
			r = &item.Reversals[i]
		}
	}
	if r == nil {
		item.Reversals = append(item.Reversals, Reversal{Link: o.Link, Seq: o.Seq})
		r = &item.Reversals[len(item.Reversals)-1]
	}
	if o.STAN != 0 {
		r.STAN = o.STAN
	}
	if o.Transmitted != 0 {
		r.Transmitted = o.Transmitted
	}
	r.Tries = max(r.Tries, o.Tries)
	r.State = reversalState(e)
}

func reversalState(e *payment.Entry) string {
	switch e.Kind {
	case payment.EntryReversalOwed:
		if e.Owed.Exception || e.Event == payment.EventReversalExceptional {
			return "exception"
		}
		return "owed"
	case payment.EntryReversalSent:
		return "sent"
	case payment.EntryWrittenOff:
		return "written_off"
	}
	switch e.Event {
	case payment.EventOriginalNotFound:
		return "not_found"
	case payment.EventReversalExceptional:
		return "exception"
	}
	return "acknowledged"
}
