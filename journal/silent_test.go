package journal

import (
	"testing"

	"authswitch/payment"
)

// TestSilentBeforeItsTime: a node whose clock is ahead does not end another
// node's attempt. Found by the simulation: a capture was given up, and reversed,
// before it had left.
func TestSilentBeforeItsTime(t *testing.T) {
	b, i := approvedBench(t)
	o := op(1, payment.OpCapture, 400, payment.ID{})
	o.Means, o.MTI, o.Reversible = payment.MeansOnline, 0x0200, true
	b.operate(o)
	claimed, ok := b.claimNext(i.Session, 1)
	if !ok || claimed.Due != b.now+5e9 {
		t.Fatalf("%+v", claimed)
	}
	silent := AppendAnswer(nil, &payment.Acknowledgement{Link: claimed.Link, Seq: claimed.Seq, ID: claimed.ID, Verdict: payment.AdviceSilent})
	if r := b.do(KindAcknowledge, silent); r.Err != payment.ErrBusy || b.operation(o.ID).State != payment.OperationOwed {
		t.Errorf("before its time: %v, %s", r.Err, b.operation(o.ID).State)
	}
	b.advance(claimed.Due)
	if r := b.do(KindAcknowledge, silent); r.Err != nil || b.operation(o.ID).State != payment.OperationReversing {
		t.Errorf("after it: %v, %s", r.Err, b.operation(o.ID).State)
	}
}
