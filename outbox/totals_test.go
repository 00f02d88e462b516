package outbox

import (
	"errors"
	"log/slog"
	"testing"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

// totalsAcquirer takes totals and answers as it is told; nothing is sent that the
// journal has not claimed.
type totalsAcquirer struct {
	t       *testing.T
	dialect *iso8583.Dialect
	claimed []payment.Totals
	agreed  []payment.Agreed
	sent    []string
	code    string
	down    error
	refuse  bool
	free    int
}

func (a *totalsAcquirer) ReserveOwed(s *payment.Slot, o *payment.Owed, _ payment.RRN) error {
	*s = payment.Slot{Link: "a", STAN: o.STAN, Transmitted: 314101500}
	if s.STAN == 0 {
		s.STAN = 55
	}
	a.free++
	return nil
}

func (a *totalsAcquirer) Release(*payment.Slot) { a.free-- }

func (a *totalsAcquirer) Exchange(s *payment.Slot, _ *payment.Intent, frame []byte, answer *iso8583.Message) error {
	a.free--
	if len(a.claimed) == 0 || a.claimed[len(a.claimed)-1].STAN != s.STAN {
		a.t.Error("sent without a claim")
	}
	var m iso8583.Message
	if err := a.dialect.Unpack(&m, frame); err != nil {
		a.t.Fatal(err)
	}
	a.sent = append(a.sent, m.MTI().String())
	if a.down != nil {
		return a.down
	}
	var b iso8583.Builder
	b.Start(0x0530)
	b.Set(39, []byte(a.code))
	reply, err := a.dialect.Pack(nil, &b)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.dialect.Unpack(answer, reply)
}

func (a *totalsAcquirer) ClaimTotals(x *payment.Totals) (bool, error) {
	if a.refuse {
		return false, nil
	}
	a.claimed = append(a.claimed, *x)
	return true, nil
}

func (a *totalsAcquirer) AgreeTotals(_ *payment.Totals, g *payment.Agreed) error {
	a.agreed = append(a.agreed, *g)
	return nil
}

// TestReconciler: totals leave claimed, their repeat under the STAN of the first;
// no answer and one that decides nothing are unanswered, and every place is given
// back.
func TestReconciler(t *testing.T) {
	d, err := iso8583.Load(dialects.FS, "ascii87")
	if err != nil {
		t.Fatal(err)
	}
	a := &totalsAcquirer{t: t, dialect: d, down: payment.ErrUnknownOutcome}
	r := &Reconciler{Deps: Deps{Link: "a", Dialect: d, Sender: a, Log: slog.New(slog.DiscardHandler)}, Totals: a}
	x := payment.Totals{Link: "a", Number: 42, Groups: 1, Currency: 978, Captures: 1, Captured: 10, Terms: payment.Terms{Terminal: "T1", Acceptor: "SHOP"}}
	if g, err := r.Agree(&x); err != nil || g.Answered || len(a.agreed) != 0 {
		t.Errorf("no answer: %+v %v", g, err)
	}
	a.down = nil
	for _, c := range []struct {
		code               string
		answered, balanced bool
	}{{"96", false, false}, {"95", true, false}, {"00", true, true}} {
		a.code = c.code
		if g, err := r.Agree(&x); err != nil || g.Answered != c.answered || g.Balanced != c.balanced || a.agreed[len(a.agreed)-1] != g {
			t.Errorf("%s: %+v %v", c.code, g, err)
		}
	}
	a.refuse = true
	if g, err := r.Agree(&x); err != nil || g.Answered {
		t.Errorf("claimed by somebody else: %+v %v", g, err)
	}
	if len(a.sent) != 4 || a.sent[0] != "0520" || a.sent[1] != "0521" || a.claimed[3].STAN != 55 || a.claimed[3].Tries != 3 || a.free != 0 {
		t.Errorf("%v %+v, %d places", a.sent, a.claimed, a.free)
	}
	x.Terms.Terminal, a.refuse = "LONGER-THAN-EIGHT", false
	if _, err := r.Agree(&x); err == nil || errors.Is(err, payment.ErrUnknownOutcome) || a.free != 0 {
		t.Errorf("what cannot be written: %v, %d places", err, a.free)
	}
}
