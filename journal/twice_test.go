package journal

import (
	"encoding/binary"
	"testing"

	"authswitch/payment"
)

// TestSecondAnswerBeforeOutcome: an acquirer declines and then approves, and the
// second answer is journalled before the outcome that the first one made. The
// gateway is told what the outcome says; what the acquirer holds is reversed.
func TestSecondAnswerBeforeOutcome(t *testing.T) {
	cases := []struct {
		outcome  payment.Event
		approves bool // the second answer
		want     payment.State
	}{
		{payment.EventDeclined, true, payment.StateReversing},
		{payment.EventNeverSent, true, payment.StateReversing},
		{payment.EventApproved, true, payment.StateApproved},
		{payment.EventDeclined, false, payment.StateDeclined},
		{payment.EventNeverSent, false, payment.StateNotSent},
		{payment.EventApproved, false, payment.StateApproved},
	}
	for _, c := range cases {
		for _, restart := range []bool{false, true} {
			b, i := reach(t, payment.StateOpen)
			if r := b.do(KindLate, AppendLate(nil, late(i, c.approves))); r.State != payment.StateOpen {
				t.Fatalf("an answer decided: %s", r.State)
			}
			if restart {
				b.restart()
			}
			o := outcome(i, c.outcome)
			got := b.settle(o)
			if got.State != c.want || got.Outcome.Status != o.Status || got.Outcome.Reversal != payment.NoReversal {
				t.Errorf("%s, approves %v: settled as %s with %+v", c.outcome, c.approves, got.State, got.Outcome)
			}
			if p := b.payment(i.ID); p.State != c.want || p.Outcome != got.Outcome {
				t.Errorf("%s, approves %v: the journal has %s and %+v", c.outcome, c.approves, p.State, p.Outcome)
			}
			owed := b.owed("cb-a")
			if (len(owed) == 1) != (c.want == payment.StateReversing) {
				t.Fatalf("%s, approves %v: owed %+v", c.outcome, c.approves, owed)
			}
			for _, o := range owed {
				if o.Reason != payment.ReversalLate || !o.Approved || o.ApprovalCode.String() != "LATE01" || o.Attempt != 1 || o.Due != b.now {
					t.Errorf("owed %+v", o)
				}
			}
		}
	}
}

// TestSecondAnswerBeforeNext is the same where the decline leads to another
// route: the first acquirer's approval is reversed, and the payment goes on.
func TestSecondAnswerBeforeNext(t *testing.T) {
	b, i := reach(t, payment.StateOpen)
	b.do(KindLate, AppendLate(nil, late(i, true)))
	next := *i
	next.Attempt, next.Link = 2, "visa-b"
	b.do(KindNext, AppendNext(nil, outcome(i, payment.EventDeclined), &next))
	b.restart()
	owed := b.owed("cb-a")
	if len(owed) != 1 || owed[0].Attempt != 1 || !owed[0].Approved || owed[0].Reason != payment.ReversalLate {
		t.Fatalf("owed %+v", owed)
	}
	if s := b.settle(outcome(&next, payment.EventDeclined)); s.State != payment.StateDeclined || len(b.owed("visa-b")) != 0 {
		t.Errorf("the second attempt: %s, owed %+v", s.State, b.owed("visa-b"))
	}
	if r := b.acknowledge("cb-a", owed[0].Seq, payment.AdviceAcknowledged); r.State != payment.StateDeclined || len(b.owed("cb-a")) != 0 {
		t.Errorf("acknowledged: %s, owed %+v", r.State, b.owed("cb-a"))
	}
}

// TestProposedAgainAfterItsKeyWasUsed: a payment that gave its key back is
// proposed once more when another one used the key and gave it back too. It
// ended: its lines are not written over.
func TestProposedAgainAfterItsKeyWasUsed(t *testing.T) {
	b := newBench(t)
	first := b.intent(1, b.session("n1"))
	// Its id is of this day, so that only its key says that it was there.
	binary.BigEndian.PutUint64(first.ID[:], uint64(b.now/1e6)<<16|0x7000)
	second := *first
	second.ID[15]++
	for _, i := range []*payment.Intent{first, &second} {
		if o := b.open(i); o.Verdict != payment.OpenNew {
			t.Fatalf("verdict %d", o.Verdict)
		}
		b.settle(outcome(i, payment.EventNeverSent))
	}
	for _, i := range []*payment.Intent{first, &second} {
		if o := b.open(i); o.Verdict != payment.OpenDecided || o.ID != i.ID {
			t.Errorf("proposed again: verdict %d of %s", o.Verdict, o.ID)
		}
		if p := b.payment(i.ID); p.State != payment.StateNotSent {
			t.Errorf("proposed again: %s", p.State)
		}
	}
}
