package journal

import (
	"testing"

	"authswitch/payment"
)

// TestCancelCaptured: a payment whose gateway never got an answer is reversed
// when its captures are undone, and that reversal ends. Found by the simulation:
// the state that it was reversed with was in no line of its history, so that no
// acknowledgement ended its reversal.
func TestCancelCaptured(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b, i := approvedBench(t)
		n := uint64(0)
		for k := range 2 {
			b.operate(op(1+k, payment.OpCapture, 400, payment.ID{}))
		}
		b.settleAll(i.Session, &n)
		r := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalTimeout}))
		if r.Cancelled.State != payment.StateReversing || r.Cancelled.Captured {
			t.Fatalf("%+v", r.Cancelled)
		}
		if restart {
			b.restart()
		}
		for range 3 { // two voids, one after the other, then the reversal of the whole
			n++
			o, ok := b.claimNext(i.Session, n)
			if !ok {
				t.Fatal("nothing is owed")
			}
			b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
		}
		if p := b.payment(i.ID); p.State != payment.StateReversed || p.Account.Captured != 0 || len(b.owed("cb-a")) != 0 {
			t.Errorf("restarted %v: %s, %+v, owed %+v", restart, p.State, p.Account, b.owed("cb-a"))
		}
	}
}

// TestCancelRefunded: a payment that something was refunded of is known to its
// gateway, and stays. Found by the simulation: the authorization was reversed
// from under the capture, which cannot be undone any more.
func TestCancelRefunded(t *testing.T) {
	b, i := approvedBench(t)
	n := uint64(0)
	capture := op(1, payment.OpCapture, 400, payment.ID{})
	b.operate(capture)
	b.settleAll(i.Session, &n)
	b.operate(op(2, payment.OpRefund, 100, capture.ID))
	b.settleAll(i.Session, &n)
	r := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalTimeout}))
	if p := b.payment(i.ID); !r.Cancelled.Captured || r.Cancelled.State != payment.StateApproved || p.State != payment.StateApproved || len(b.owed("cb-a")) != 0 {
		t.Errorf("%+v, %s, owed %+v", r.Cancelled, p.State, b.owed("cb-a"))
	}
}

// TestCancelLeavesTheCharge: a reference names what its gateway sent, not the
// charge of a correction, which has the same one and is newer. Found by the
// simulation: the charge went away, and the payment stayed.
func TestCancelLeavesTheCharge(t *testing.T) {
	b, i := approvedBench(t)
	n := uint64(0)
	b.operate(op(1, payment.OpCapture, 400, payment.ID{}))
	b.settleAll(i.Session, &n)
	o := correction(2, 700, true)
	b.operate(o)
	charge := b.intent(3, i.Session)
	charge.ID, charge.Key, charge.Reference, charge.Amount.Value = payment.ChargeOf(o.ID), nil, i.Reference, 300
	charge.Capture = payment.Capturing{Mode: payment.CaptureCorrection, Means: payment.MeansAdvice, MTI: 0x0220}
	b.open(charge)
	b.settle(outcome(charge, payment.EventApproved))
	b.settleAll(i.Session, &n)
	r := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Reference: i.Reference, Reason: payment.ReversalTimeout}))
	if r.Cancelled.ID != i.ID || !r.Cancelled.Captured || b.payment(i.ID).State != payment.StateApproved || b.payment(charge.ID).State != payment.StateApproved {
		t.Errorf("%+v: %s, and its charge %s", r.Cancelled, b.payment(i.ID).State, b.payment(charge.ID).State)
	}
}

// TestCancelStopsAtACapture: where a person finds that a capture could not be
// undone, its authorization stays too. Found by the simulation.
func TestCancelStopsAtACapture(t *testing.T) {
	for how, want := range map[payment.Resolution]payment.State{payment.NotTaken: payment.StateApproved, payment.Taken: payment.StateReversed} {
		b, i := approvedBench(t)
		n := uint64(0)
		b.operate(op(1, payment.OpCapture, 400, payment.ID{}))
		b.settleAll(i.Session, &n)
		b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalTimeout}))
		n++
		o, _ := b.claimNext(i.Session, n)
		b.answer(&o, payment.AdviceExceptional, payment.ActionDecline)
		b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "their books", Operations: how}))
		b.settleAll(i.Session, &n)
		if p := b.payment(i.ID); p.State != want || len(b.owed("cb-a")) != 0 {
			t.Errorf("%v: %s, %+v, owed %+v", how, p.State, p.Account, b.owed("cb-a"))
		}
	}
}
