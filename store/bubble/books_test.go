package bubble_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"authswitch/payment"
)

// wire names one message on one link: the acquirer's name for it.
type wire struct {
	link              payment.LinkName
	stan, transmitted string
}

// booked is what an acquirer has of one request or advice in the end.
type booked struct {
	mti, rrn, decision string
	amount             int64 // that was taken and not taken back
	forgotten          int64 // that the acquirer denies to have taken
	back               int64 // that was taken back
}

// entry is one line of an acquirer's ledger.
type entry struct {
	RRN         string `json:"rrn"`
	MTI         string `json:"mti"`
	STAN        string `json:"stan"`
	Transmitted string `json:"transmitted"`
	Amount      int64  `json:"amount"`
	Decision    string `json:"decision"`
	Original    *struct {
		STAN        string `json:"stan"`
		Transmitted string `json:"transmitted"`
	} `json:"original"`
}

// compare holds the acquirers' books against the journal, I2 and I3: every
// message that moved money is one of a payment that was told, once, for the amount
// that the journal has.
func (w *world) compare() {
	books := map[wire]*booked{}
	for i := range hosts {
		w.readBook(i, books)
	}
	for _, s := range w.payments {
		if p := w.read(s); p != nil {
			w.comparePayment(p, books)
		}
	}
	for name, b := range books {
		if b.amount != 0 {
			w.failf("I2: %s has %d %s with %s %s at %s, rrn %s, and no payment that was told has that", name.link, b.amount, b.decision, b.mti, name.stan, name.transmitted, b.rrn)
		}
	}
}

// comparePayment takes what it finds of a payment out of the books.
func (w *world) comparePayment(p *payment.Payment, books map[wire]*booked) {
	l := w.members[0].now()
	history, err := l.store.History(p.Intent.ID)
	if err != nil {
		w.failf("I2: %s has no history: %v", p.Intent.ID, err)
		return
	}
	var wires []wire
	held := int64(0)
	messages := map[payment.ID][]wire{}
	operations := map[payment.ID]payment.Operation{}
	for i := range history {
		e := &history[i]
		switch {
		case e.Kind == payment.EntryIntent && e.Intent != nil:
			wires = append(wires, wire{e.Intent.Link, e.Intent.STAN.String(), e.Intent.Transmitted.String()})
		case e.Kind == payment.EntryOperation && e.Operation != nil:
			o := e.Operation
			operations[o.ID] = *o
			if o.STAN != 0 {
				messages[o.ID] = append(messages[o.ID], wire{o.Link, o.STAN.String(), o.Transmitted.String()})
			}
		}
	}
	for _, x := range wires {
		held += take(books, x)
	}
	exception, released, incremented, forgotten, late := p.State == payment.StateException, int64(0), int64(0), int64(0), int64(0)
	for id, o := range operations {
		has, want := int64(0), int64(0)
		if o.State == payment.OperationDone {
			want = o.Amount.Value
		}
		for _, x := range messages[id] {
			if b := books[x]; b != nil && o.Kind == payment.OpIncrement {
				forgotten += b.forgotten
				if want == 0 {
					late += b.back
				}
			}
			has += take(books, x)
		}
		exception = exception || o.State == payment.OperationException
		switch {
		case o.Kind == payment.OpRelease:
			released += want
			continue
		case o.Kind == payment.OpIncrement:
			held += has
			incremented += want
			has = want // a release, or the payment's reversal, may have taken it back: the sum is compared
		case o.Kind == payment.OpCorrection && o.Means == payment.MeansPayment:
			w.compareCharge(&o, books)
			continue
		case o.Kind != payment.OpCapture && o.Kind != payment.OpRefund, o.State == payment.OperationException:
			continue
		}
		if has != want {
			w.tell(p.Intent.ID, history)
			w.failf("M2: %s %s of %s for %d is %s; %s has %d", o.Kind, id, p.Intent.ID, o.Amount.Value, o.State, o.Link, has)
		}
	}
	want := int64(0)
	if p.State == payment.StateApproved {
		want = p.Outcome.Amount.Value + incremented - released
	}
	// A release names what is left in all. An increment that was forgotten may still
	// be in what it lowered; one that was approved after it had been declined was,
	// and is taken back once more by its own reversal.
	if released > 0 {
		forgotten += late
	}
	if (held > want || held+forgotten < want) && !exception {
		w.tell(p.Intent.ID, history)
		w.failf("I2, I3: %s is %s for %d on %s; the acquirers hold %d", p.Intent.ID, p.State, want, p.Intent.Link, held)
	}
}

// compareCharge compares the payment that a correction charged.
func (w *world) compareCharge(o *payment.Operation, books map[wire]*booked) {
	l := w.members[0].now()
	p, err := l.store.Payment(payment.ChargeOf(o.ID))
	switch {
	case err == nil:
		w.comparePayment(&p, books)
	case o.State == payment.OperationDone:
		w.failf("M2: correction %s is done, and its payment is not there: %v", o.ID, err)
	}
}

// take is what one message has, which is compared once.
func take(books map[wire]*booked, name wire) int64 {
	b := books[name]
	if b == nil {
		return 0
	}
	amount := b.amount
	b.amount = 0
	return amount
}

// readBook adds what one acquirer has in the end.
func (w *world) readBook(i int, books map[wire]*booked) {
	f, err := os.Open(w.ledger(i))
	if err != nil {
		w.failf("ledger: %v", err)
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			w.failf("ledger: %v", err)
			continue
		}
		name := wire{linkName(i), e.STAN, e.Transmitted}
		switch {
		case e.Decision == "approved" || e.Decision == "captured" || e.Decision == "refunded":
			if b := books[name]; b != nil && b.amount != 0 {
				w.failf("M3: %s took %s %s at %s twice", name.link, e.MTI, e.STAN, e.Transmitted)
			}
			books[name] = &booked{mti: e.MTI, rrn: e.RRN, decision: e.Decision, amount: e.Amount}
		case e.MTI[1] == '4' && e.Original != nil:
			name.stan, name.transmitted = e.Original.STAN, e.Original.Transmitted
			b := books[name]
			switch {
			case b == nil:
			// One that says "unknown" to what it approved before has forgotten it: it
			// holds nothing. The other order, unknown first, is an orphan.
			case e.Decision == "unknown_original":
				b.amount, b.forgotten = 0, b.forgotten+b.amount
			case e.Decision == "reversed":
				b.amount -= e.Amount
				b.back += e.Amount
			}
		}
	}
}

// tell notes a payment's history, for whoever looks for what went wrong.
func (w *world) tell(id payment.ID, history []payment.Entry) {
	for i := range history {
		e := &history[i]
		text := fmt.Sprintf("%s %s %s", e.Kind, e.Event, e.State)
		if o := e.Operation; o != nil {
			text += fmt.Sprintf(" %s %s %s %d stan %s at %s", o.Kind, o.ID, o.State, o.Amount.Value, o.STAN, o.Transmitted)
		}
		if o := e.Owed; o != nil {
			text += fmt.Sprintf(" owed %s try %d stan %s original %s", o.Kind, o.Tries, o.STAN, o.Original.STAN)
		}
		if e.Response != nil {
			text += fmt.Sprintf(" response %s", e.Response.Code)
		}
		w.notef("%s: %s", id, text)
	}
}
