package journal

import (
	"errors"
	"strings"
	"testing"

	"authswitch/payment"
)

// TestWriteOff ends an exception by hand: nothing is owed any more, the history
// says who and why, and a second time does nothing.
func TestWriteOff(t *testing.T) {
	b, i := reach(t, payment.StateException)
	w := payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "acquirer's letter of 3 May"}
	r := b.do(KindWriteOff, AppendWriteOff(nil, &w))
	if r.Err != nil || r.Count != 1 || r.State != payment.StateWrittenOff {
		t.Fatalf("%+v", r)
	}
	if count, _, exceptions := b.m.Owing("cb-a"); count != 0 || exceptions != 0 {
		t.Fatalf("%d owed, %d exceptions", count, exceptions)
	}
	h, err := ReadHistory(b.disk, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	last := h[len(h)-1]
	if last.Kind != payment.EntryWrittenOff || last.WriteOff.Operator != w.Operator || last.WriteOff.Reason != w.Reason || last.Owed.Seq != 1 {
		t.Fatalf("%+v", last)
	}
	if r := b.do(KindWriteOff, AppendWriteOff(nil, &w)); r.Count != 0 || r.State != payment.StateWrittenOff {
		t.Fatalf("again: %+v", r)
	}
	b.restart()
	if count, _, _ := b.m.Owing("cb-a"); count != 0 {
		t.Fatalf("%d owed after a restart", count)
	}
}

// TestWriteOffTakesExceptionsOnly: what a machine still settles is not given up.
func TestWriteOffTakesExceptionsOnly(t *testing.T) {
	b, i := reach(t, payment.StateReversing)
	r := b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "tired"}))
	if r.Err != nil || r.Count != 0 || r.State != payment.StateReversing || len(b.owed("cb-a")) != 1 {
		t.Fatalf("%+v, owed %v", r, b.owed("cb-a"))
	}
	if r := b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: number(9), Operator: "ana", Reason: "?"})); !errors.Is(r.Err, payment.ErrNotFound) {
		t.Fatalf("an unknown payment: %+v", r)
	}
}

func TestCheckWriteOff(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, w := range []payment.WriteOff{{Reason: "r"}, {Operator: "o"}, {Operator: long, Reason: "r"}, {Operator: "o", Reason: long}} {
		if err := CheckWriteOff(&w); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}
