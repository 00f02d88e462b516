package journal

import (
	"testing"

	"authswitch/payment"
)

// TestWriteOffOperations: a person says what became of what no machine may
// settle, and the amounts follow.
func TestWriteOffOperations(t *testing.T) {
	for _, c := range []struct {
		name               string
		kind               payment.OperationKind
		how                payment.Resolution
		want               payment.OperationState
		captured, refunded int64
	}{
		{"a refund that was paid", payment.OpRefund, payment.Taken, payment.OperationDone, 600, 200},
		{"a refund that was not", payment.OpRefund, payment.NotTaken, payment.OperationFailed, 600, 0},
		{"a capture that was taken", payment.OpCapture, payment.Taken, payment.OperationDone, 800, 0},
		{"a capture that was not", payment.OpCapture, payment.NotTaken, payment.OperationFailed, 600, 0},
		{"a void that was", payment.OpVoid, payment.Taken, payment.OperationDone, 0, 0},
		{"a void that was not", payment.OpVoid, payment.NotTaken, payment.OperationFailed, 600, 0},
	} {
		b, i := approvedBench(t)
		b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
		n := uint64(0)
		b.settleAll(i.Session, &n)
		o := op(2, c.kind, 200, number(1001))
		o.Reversible = false
		b.operate(o)
		sent, _ := b.claimNext(i.Session, 50)
		if c.kind == payment.OpRefund {
			b.answer(&sent, payment.AdviceUnknown, payment.ActionNone)
		} else {
			b.answer(&sent, payment.AdviceExceptional, payment.ActionDecline)
		}
		if got := b.operation(o.ID).State; got != payment.OperationException {
			t.Fatalf("%s: %s", c.name, got)
		}
		w := payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "their letter"}
		if r := b.do(KindWriteOff, AppendWriteOff(nil, &w)); r.Count != 0 {
			t.Errorf("%s: ended without a word about it", c.name)
		}
		w.Operations = c.how
		b.restart()
		for _, want := range []int{1, 0} {
			if r := b.do(KindWriteOff, AppendWriteOff(nil, &w)); r.Count != want {
				t.Errorf("%s: %d ended, want %d", c.name, r.Count, want)
			}
		}
		p := b.payment(i.ID)
		if got := b.operation(o.ID).State; got != c.want || p.Account.Captured != c.captured || p.Account.Refunded != c.refunded {
			t.Errorf("%s: %s %+v", c.name, got, p.Account)
		}
		if due := b.m.Due("cb-a", b.now+day, 10, nil); len(due) != 0 {
			t.Errorf("%s: still owed: %+v", c.name, due)
		}
		history, err := ReadHistory(b.disk, i.ID)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range history {
			found = found || e.WriteOff != nil && e.WriteOff.Operator == "ana" && e.WriteOff.Operations == c.how
		}
		if !found {
			t.Errorf("%s: the history does not say who", c.name)
		}
		if again := op(3, payment.OpRefund, 600, number(1001)); c.kind == payment.OpRefund && (b.operate(again).Verdict == payment.OperateNew) != (c.how == payment.NotTaken) {
			t.Errorf("%s: and then a refund of all", c.name)
		}
	}
}
