package journal

import (
	"errors"
	"testing"

	"authswitch/payment"
)

// verifying is a machine with an open verification of an account.
func verifying(t *testing.T) (*bench, *payment.Intent) {
	b := newBench(t)
	i := b.intent(1, b.session("n1"))
	i.Amount.Value, i.Capture.Mode = 0, payment.CaptureNever
	b.open(i)
	return b, i
}

// creditOf is a refund without a payment, on the card of an intent.
func creditOf(i *payment.Intent) *payment.Operation {
	return &payment.Operation{
		ID: i.ID, Kind: payment.OpRefund, Payment: i.ID, Merchant: i.Merchant, Key: i.Key, Fingerprint: [32]byte{1}, Amount: i.Amount,
		Means: payment.MeansOnline, MTI: 0x0100, Reversible: true, Reason: payment.ReversalCustomer,
	}
}

// TestVerification: an account that was asked about holds nothing, however it
// ends: nothing is owed, and nothing can be done with it.
func TestVerification(t *testing.T) {
	for name, end := range map[string]func(b *bench, i *payment.Intent){
		"answered": func(b *bench, i *payment.Intent) { b.settle(outcome(i, payment.EventVerified)) },
		"overdue": func(b *bench, i *payment.Intent) {
			b.now = i.AnswerBy + 3e9
			b.do(KindSweep, AppendSweep(nil, 2e9))
		},
		"session ended": func(b *bench, _ *payment.Intent) { b.session("n1") },
		"cancelled": func(b *bench, i *payment.Intent) {
			b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalTimeout}))
		},
	} {
		b, i := verifying(t)
		if r := b.do(KindSettle, AppendSettle(nil, outcome(i, payment.EventUnknown))); r.Err == nil {
			t.Fatal("a reversal of nothing is taken")
		}
		end(b, i)
		b.do(KindLate, AppendLate(nil, late(i, true)))
		b.restart()
		if p := b.payment(i.ID); p.State != payment.StateVerified || len(b.owed("cb-a")) != 0 {
			t.Errorf("%s: %s, owed %v", name, p.State, b.owed("cb-a"))
		}
		for _, o := range []*payment.Operation{op(1, payment.OpCapture, 1, payment.ID{}), op(2, payment.OpIncrement, 1, payment.ID{}), op(3, payment.OpRelease, 1, payment.ID{})} {
			if r := b.operate(o); r.Refused != payment.RefusedState {
				t.Errorf("%s: a %s is %d", name, o.Kind, r.Refused)
			}
		}
	}
	b, i := approvedBench(t)
	if r := b.do(KindSettle, AppendSettle(nil, outcome(i, payment.EventVerified))); r.Settled.State != payment.StateApproved {
		t.Errorf("an approval became %s", r.Settled.State)
	}
	b = newBench(t)
	i = b.intent(1, b.session("n1"))
	b.open(i)
	if r := b.do(KindSettle, AppendSettle(nil, outcome(i, payment.EventVerified))); r.Err == nil {
		t.Error("what holds money ends as a verification")
	}
}

// TestCredit: a refund without a payment travels like any other, once.
func TestCredit(t *testing.T) {
	b := newBench(t)
	i := b.intent(1, b.session("n1"))
	o := creditOf(i)
	if err := CheckCredit(o, i); err != nil {
		t.Fatal(err)
	}
	for n, want := range []payment.OperationVerdict{payment.OperateNew, payment.OperateAgain} {
		if r := b.do(KindCredit, AppendCredit(nil, o, i)).Operated; r.Verdict != want || r.Operation.ID != i.ID {
			t.Fatalf("%d: %+v", n, r)
		}
	}
	money := func(when string, refunded int64) {
		t.Helper()
		if p := b.payment(i.ID); p.Account != (payment.Account{Refunded: refunded, Closed: true}) {
			t.Errorf("%s: %+v", when, p.Account)
		}
	}
	money("on its way", o.Amount.Value)
	if id, err := ReadRefundByKey(b.disk, i.Merchant, o.Key); err != nil || id != i.ID {
		t.Errorf("by its key: %s, %v", id, err)
	}
	if _, err := ReadRefundByKey(b.disk, i.Merchant, []byte("another")); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("by another key: %v", err)
	}
	second := *i
	second.ID = number(2)
	same := creditOf(&second)
	if r := b.do(KindCredit, AppendCredit(nil, same, &second)).Operated; r.Verdict != payment.OperateAgain || r.Operation.ID != i.ID {
		t.Fatalf("the key again: %+v", r)
	}
	same.Fingerprint[0] = 9
	if r := b.do(KindCredit, AppendCredit(nil, same, &second)).Operated; r.Verdict != payment.OperateConflict {
		t.Fatalf("the key for something else: %+v", r)
	}
	if r := b.operate(op(5, payment.OpCapture, 1, payment.ID{})); r.Refused != payment.RefusedState {
		t.Errorf("a capture of it: %+v", r)
	}
	// No answer: its reversal first, then another attempt.
	sent, ok := b.claimNext(i.Session, 1)
	if !ok || sent.Kind != payment.OpRefund || sent.Approved || !sent.Online() {
		t.Fatalf("%+v", sent)
	}
	b.answer(&sent, payment.AdviceUnknown, payment.ActionNone)
	undo, _ := b.claimNext(i.Session, 2)
	if !undo.IsReversal() || undo.Original.STAN != sent.STAN {
		t.Fatalf("%+v", undo)
	}
	b.answer(&undo, payment.AdviceAcknowledged, payment.ActionApprove)
	b.advance(b.now + 60e9)
	b.restart()
	n := uint64(10)
	b.settleAll(i.Session, &n)
	if got := b.operation(i.ID); got.State != payment.OperationDone || got.Attempt != 2 {
		t.Errorf("%s, attempt %d", got.State, got.Attempt)
	}
	if p := b.payment(i.ID); p.State != payment.StateRefundOnly {
		t.Errorf("%s", p.State)
	}
	money("done", o.Amount.Value)
	r := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, ID: i.ID, Reason: payment.ReversalCustomer}))
	if r.Cancelled.State != payment.StateRefundOnly || len(b.owed("cb-a")) != 0 {
		t.Errorf("%+v", r.Cancelled)
	}
}

// mintedID is an id like those of a minter: its last six bits are zero.
func mintedID(n int) payment.ID { return payment.ID{0x06, 0x40, byte(n >> 8), byte(n)} }

// correction is one of payment 1 to a total; its charge would be payment n.
func correction(n int, total int64, card bool) *payment.Operation {
	o := op(n, payment.OpCorrection, total, payment.ID{})
	o.ID, o.Payment, o.Last = payment.CorrectionOf(mintedID(n)), number(1), card
	o.MTI, o.Reversible = 0x0100, true
	return o
}

// charge opens and ends the payment of a correction.
func (b *bench) charge(n int, value int64, e payment.Event) payment.OpenVerdict {
	i := b.intent(n, b.m.last)
	i.ID, i.Key, i.Amount.Value = mintedID(n), nil, value
	i.Capture = payment.Capturing{Mode: payment.CaptureCorrection, Means: payment.MeansAdvice, MTI: 0x0220}
	v := b.open(i).Verdict
	if v == payment.OpenNew {
		b.settle(outcome(i, e))
	}
	return v
}

// TestCorrections: the parcel of 1000 weighs more, then less, then nothing.
func TestCorrections(t *testing.T) {
	b, i := approvedBench(t)
	if r := b.operate(correction(20, 1400, true)); r.Refused != payment.RefusedNotCaptured {
		t.Fatalf("before the capture: %+v", r)
	}
	b.operate(op(1, payment.OpCapture, 1000, payment.ID{}))
	n := uint64(0)
	b.settleAll(i.Session, &n)
	for _, c := range []struct {
		total int64
		card  bool
		why   payment.OperationRefusal
	}{{1000, true, payment.RefusedNoDifference}, {1400, false, payment.RefusedNoCard}} {
		if r := b.operate(correction(21, c.total, c.card)); r.Refused != c.why {
			t.Errorf("to %d: %d", c.total, r.Refused)
		}
	}
	// Nobody charges before a correction stands.
	if v := b.charge(22, 400, payment.EventApproved); v != payment.OpenBarred {
		t.Fatalf("a charge without its correction: %d", v)
	}
	up := correction(23, 1400, true)
	if r := b.operate(up); r.Verdict != payment.OperateNew || r.Operation.Amount.Value != 400 || r.Operation.Means != payment.MeansPayment {
		t.Fatalf("%+v", r)
	}
	if r := b.operate(correction(24, 1400, true)); r.Refused != payment.RefusedNoDifference {
		t.Fatalf("the same total while the first is on its way: %+v", r)
	}
	b.restart()
	if v := b.charge(23, 400, payment.EventApproved); v != payment.OpenNew || b.operation(up.ID).State != payment.OperationDone {
		t.Fatalf("%d, %s", v, b.operation(up.ID).State)
	}
	b.settleAll(i.Session, &n)
	// Down to 250: 400 from the charge, 750 from the first capture, in two refunds.
	down := correction(25, 250, false)
	if r := b.operate(down); r.Verdict != payment.OperateNew || r.Operation.Amount.Value != 1150 || r.Operation.Attempt != 2 {
		t.Fatalf("%+v", r)
	}
	b.restart()
	b.settleAll(i.Session, &n)
	if own, charged := b.payment(number(1)).Account, b.payment(mintedID(23)).Account; own.Refunded+charged.Refunded != 1150 || charged.Refunded != 400 {
		t.Fatalf("%+v %+v", own, charged)
	}
	if r := b.operate(correction(26, 250, false)); r.Refused != payment.RefusedNoDifference {
		t.Fatalf("to what it comes to: %+v", r)
	}
	if r := b.operate(correction(27, 0, false)); r.Verdict != payment.OperateNew || r.Operation.Amount.Value != 250 {
		t.Fatalf("to nothing: %+v", r)
	}
}

// TestCorrectionNotCharged: a correction whose payment is declined, not sent or
// never opened holds nothing any more.
func TestCorrectionNotCharged(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(b *bench)
		want payment.OperationState
	}{
		"declined":   {func(b *bench) { b.charge(20, 400, payment.EventDeclined) }, payment.OperationDeclined},
		"unknown":    {func(b *bench) { b.charge(20, 400, payment.EventUnknown) }, payment.OperationFailed},
		"never sent": {func(b *bench) { b.charge(20, 400, payment.EventNeverSent) }, payment.OperationFailed},
		"abandoned":  {func(b *bench) { b.do(KindAbandon, AppendAbandon(nil, payment.CorrectionOf(mintedID(20)))) }, payment.OperationFailed},
		"forgotten": {func(b *bench) {
			b.advance(b.now + correctionLife + 1)
			due, _ := ReadDue(b.disk, b.now, 10)
			b.do(KindExpire, AppendExpire(nil, due))
		}, payment.OperationFailed},
	} {
		b, i := approvedBench(t)
		b.operate(op(1, payment.OpCapture, 1000, payment.ID{}))
		n := uint64(0)
		b.settleAll(i.Session, &n)
		up := correction(20, 1400, true)
		b.operate(up)
		c.end(b)
		b.restart()
		if got := b.operation(up.ID).State; got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		if v := b.charge(20, 400, payment.EventApproved); v == payment.OpenNew {
			t.Errorf("%s: and charged after it was over", name)
		}
		if due, _ := ReadDue(b.disk, b.now+day, 10); len(due) != 0 {
			t.Errorf("%s: still due: %+v", name, due)
		}
		if r := b.operate(correction(21, 1400, true)); r.Verdict != payment.OperateNew || r.Operation.Amount.Value != 400 {
			t.Errorf("%s: another: %+v", name, r)
		}
	}
}

// TestSale: what was captured by its own authorization is undone by reversing
// that, before the cut-over; and never captured again.
func TestSale(t *testing.T) {
	for _, settled := range []bool{false, true} {
		b := newBench(t)
		i := b.intent(1, b.session("n1"))
		i.MTI, i.Capture = 0x0200, payment.Capturing{Mode: payment.CaptureAutomatic, Means: payment.MeansSale}
		b.open(i)
		b.settle(outcome(i, payment.EventApproved))
		if c := b.operation(i.ID); c.State != payment.OperationDone || c.Means != payment.MeansSale || len(b.owed("cb-a")) != 0 {
			t.Fatalf("%+v, owed %v", c, b.owed("cb-a"))
		}
		if r := b.operate(op(1, payment.OpCapture, 1, payment.ID{})); r.Verdict != payment.OperateRefused {
			t.Fatalf("captured again: %+v", r)
		}
		if settled {
			b.advance(b.now + 1e9)
			b.cutOver(1, 0)
		}
		void := op(2, payment.OpVoid, 0, i.ID)
		void.MTI = 0x0220
		r := b.operate(void)
		b.restart()
		due := b.m.Due("cb-a", b.now, 10, nil)
		if len(due) != 1 {
			t.Fatalf("settled %v: %+v owed after %+v", settled, due, r)
		}
		p := b.payment(i.ID)
		if settled && (r.Operation.Kind != payment.OpRefund || p.State != payment.StateApproved) ||
			!settled && (!due[0].Operation.IsZero() || p.State != payment.StateReversing || p.Account.Captured != 0) {
			t.Errorf("settled %v: %+v %s %+v", settled, r.Operation, p.State, p.Account)
		}
	}
}

// TestCompletion: a capture by a request may be declined, or have no answer; its
// amount is then free again, and what the last one leaves is given back only
// when it is taken.
func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		name     string
		verdict  payment.AdviceVerdict
		action   payment.Action
		want     payment.OperationState
		captured int64
		released int64
	}{
		{"taken", payment.AdviceDecided, payment.ActionApprove, payment.OperationDone, 600, 400},
		{"declined", payment.AdviceDecided, payment.ActionDecline, payment.OperationDeclined, 0, 0},
		{"no answer", payment.AdviceUnknown, payment.ActionNone, payment.OperationFailed, 0, 0},
	} {
		for _, over := range []bool{false, true} { // the time for captures, before the answer
			b := newBench(t)
			i := b.intent(1, b.session("n1"))
			i.Capture.Within = 1000e9
			b.open(i)
			b.settle(outcome(i, payment.EventApproved))
			last := op(1, payment.OpCapture, 600, payment.ID{})
			last.Last, last.Means, last.MTI, last.Reversible = true, payment.MeansOnline, 0x0200, true
			b.operate(last)
			if r := b.operate(op(2, payment.OpCapture, 1, payment.ID{})); r.Refused != payment.RefusedClosed {
				t.Errorf("%s: a capture behind the last: %+v", c.name, r)
			}
			sent, _ := b.claimNext(i.Session, 1)
			if over {
				b.advance(b.now + 2000e9)
				due, _ := ReadDue(b.disk, b.now, 10)
				b.do(KindExpire, AppendExpire(nil, due))
			}
			b.answer(&sent, c.verdict, c.action)
			if c.verdict == payment.AdviceUnknown {
				undo, _ := b.claimNext(i.Session, 2)
				b.answer(&undo, payment.AdviceAcknowledged, payment.ActionApprove)
			}
			b.restart()
			n := uint64(10)
			b.settleAll(i.Session, &n)
			p := b.payment(i.ID)
			if got := b.operation(last.ID).State; got != c.want || p.Account.Captured != c.captured || p.Account.Released != c.released {
				t.Errorf("%s, over %v: %s %+v", c.name, over, got, p.Account)
			}
			if c.captured > 0 {
				continue
			}
			if over && p.State != payment.StateReversed && p.State != payment.StateReversing {
				t.Errorf("%s: nobody can capture it any more, and it is %s", c.name, p.State)
			}
			if r := b.operate(op(3, payment.OpCapture, 1000, payment.ID{})); (r.Verdict == payment.OperateNew) == over {
				t.Errorf("%s, over %v: another capture: %+v", c.name, over, r)
			}
		}
	}
}
