package journal

import (
	"testing"

	"authswitch/payment"
)

// byUpload makes an operation one that goes into a batch upload.
func byUpload(o *payment.Operation) *payment.Operation {
	o.Means, o.MTI, o.Reversible = payment.MeansUpload, 0x0320, false
	return o
}

func (b *bench) upload(number uint64) int {
	return b.do(KindUpload, AppendUpload(nil, "cb-a", number)).Count
}

func (b *bench) uploaded(number uint64) payment.ClearingBatch {
	b.t.Helper()
	batch, err := ReadClearingBatch(b.disk, payment.MeansUpload, "cb-a", number)
	if err != nil {
		b.t.Fatal(err)
	}
	return batch
}

// totals claims a transmission of a batch's totals.
func (b *bench) totals(x payment.Totals) int {
	return b.do(KindTotals, AppendTotals(nil, &x)).Count
}

func (b *bench) agreed(x payment.Totals, a payment.Agreed) int {
	return b.do(KindAgreed, AppendAgreed(nil, &x, &a)).Count
}

// TestBatchUpload: the lines of a batch leave when its day has ended, each once;
// what is withdrawn before does not; the totals follow when every line has its
// end, claimed before each transmission, and end the batch.
func TestBatchUpload(t *testing.T) {
	b, i := approvedBench(t)
	first, second, third := byUpload(op(1, payment.OpCapture, 300, payment.ID{})), byUpload(op(2, payment.OpCapture, 200, payment.ID{})), byUpload(op(3, payment.OpCapture, 100, payment.ID{}))
	b.operate(first)
	b.operate(second)
	b.operate(third)
	if r := b.operate(op(4, payment.OpVoid, 0, second.ID)); r.Verdict != payment.OperateNew || r.Operation.Means != payment.MeansNone {
		t.Fatalf("void before the cut-over: %+v", r)
	}
	n := uint64(0)
	if b.settleAll(i.Session, &n); b.operation(first.ID).State != payment.OperationOwed || b.operation(first.ID).STAN != 0 {
		t.Fatal("a line left before its day was over")
	}
	if b.upload(1) != 0 || b.cutOver(1, 0) != 1 {
		t.Fatal("an open batch is uploaded, or not closed")
	}
	b.restart()
	if b.upload(1) != 2 || b.upload(1) != 0 {
		t.Fatal("each line is handed over once")
	}
	if r := b.operate(op(5, payment.OpVoid, 0, first.ID)); r.Verdict != payment.OperateNew || r.Operation.Kind != payment.OpRefund {
		t.Errorf("void after the cut-over: %+v", r)
	}
	if b.totals(payment.Totals{Link: "cb-a", Number: 1, STAN: 7}) != 0 {
		t.Error("totals before every line has its end")
	}
	b.restart()
	b.settleAll(i.Session, &n)
	for id, want := range map[payment.ID]payment.OperationState{first.ID: payment.OperationDone, second.ID: payment.OperationWithdrawn, third.ID: payment.OperationDone} {
		if got := b.operation(id).State; got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if got := b.uploaded(1); got.State != payment.ClearingUploaded || got.Upload.Over != 2 || got.Lines != 2 {
		t.Fatalf("%+v", got)
	}

	x := payment.Totals{Link: "cb-a", Number: 1, Groups: 2, STAN: 900, Transmitted: 101000000}
	if b.totals(x) != 1 || b.totals(x) != 0 {
		t.Fatal("one of two claims stands")
	}
	b.restart()
	x.Tries = 1
	if b.totals(x) != 0 {
		t.Error("a repeat before its time")
	}
	b.now += firstRepeat
	other := x
	other.STAN = 901
	if b.totals(other) != 0 || b.totals(x) != 1 {
		t.Error("a repeat keeps its STAN")
	}
	if b.agreed(x, payment.Agreed{Code: payment.MakeResponseCode([]byte("96"))}) != 0 || b.uploaded(1).Upload.Group != 0 {
		t.Error("what decides nothing ends nothing")
	}
	if b.agreed(x, payment.Agreed{Answered: true, Balanced: true}) != 1 || b.agreed(x, payment.Agreed{Answered: true}) != 0 {
		t.Error("one answer stands")
	}
	if pending, err := ReadPendingClearing(b.disk, 10); err != nil || len(pending) != 1 || pending[0].Upload.Group != 1 || pending[0].Upload.Tries != 0 {
		t.Fatalf("after the first totals: %+v %v", pending, err)
	}
	x.Group, x.Tries, x.STAN = 1, 0, 902
	if b.totals(x) != 1 || b.agreed(x, payment.Agreed{Answered: true}) != 1 {
		t.Fatal("the second totals")
	}
	if got := b.uploaded(1); got.State != payment.ClearingUnbalanced || got.Upload.Unbalanced != 1 {
		t.Errorf("out of balance: %+v", got)
	}
	if pending, _ := ReadPendingClearing(b.disk, 10); len(pending) != 0 {
		t.Errorf("still pending: %+v", pending)
	}
}

// TestUploadKeepsOrder: a line waits behind what its payment sent before, a
// refund behind its capture, and a link's file has its own series.
func TestUploadKeepsOrder(t *testing.T) {
	b, i := approvedBench(t)
	capture := byUpload(op(1, payment.OpCapture, 300, payment.ID{}))
	b.operate(capture)
	b.operate(byFile(op(2, payment.OpCapture, 50, payment.ID{})))
	b.operate(op(3, payment.OpRefund, 100, capture.ID))
	b.operate(op(4, payment.OpIncrement, 10, payment.ID{})) // on its way, unanswered
	b.cutOver(1, 0)
	b.upload(1)
	if got := b.operation(capture.ID).State; got != payment.OperationWaiting {
		t.Fatalf("behind the increment: %s", got)
	}
	if got := b.operation(number(1003)).State; got != payment.OperationWaiting {
		t.Fatalf("the refund: %s", got)
	}
	n := uint64(0)
	b.settleAll(i.Session, &n)
	if a, r := b.operation(capture.ID), b.operation(number(1003)); a.State != payment.OperationDone || r.State != payment.OperationDone || r.DecidedAt < a.DecidedAt {
		t.Errorf("capture %s, refund %s", a.State, r.State)
	}
	if file := b.lines(1); len(file) != 1 || file[0].Operation != number(1002) {
		t.Errorf("the file: %+v", file)
	}
	if got := b.uploaded(1); got.Lines != 1 || got.State != payment.ClearingUploaded {
		t.Errorf("%+v", got)
	}
}

// TestUploadInPieces: a batch of more lines than one command takes.
func TestUploadInPieces(t *testing.T) {
	b, _ := approvedBench(t)
	for n := range MaxSettle + 3 {
		b.operate(byUpload(op(n, payment.OpCapture, 1, payment.ID{})))
	}
	b.cutOver(1, 0)
	if first, second, third := b.upload(1), b.upload(1), b.upload(1); first != MaxSettle || second != 3 || third != 0 {
		t.Errorf("%d, %d, %d", first, second, third)
	}
}

// TestUploadNeedsItsVersion: a member of an older program would send such a
// capture at once: none is proposed before all are newer.
func TestUploadNeedsItsVersion(t *testing.T) {
	_, i := approvedBench(t)
	later := *i
	later.Capture = payment.Capturing{Means: payment.MeansUpload, MTI: 0x0320}
	for name, c := range map[string]struct {
		kind Kind
		body []byte
		want Version
	}{
		"a capture":           {KindOperate, AppendOperate(nil, op(1, payment.OpCapture, 1, payment.ID{})), FirstVersion},
		"one by upload":       {KindOperate, AppendOperate(nil, byUpload(op(1, payment.OpCapture, 1, payment.ID{}))), versionUploads},
		"a payment":           {KindOpen, AppendOpen(nil, i), FirstVersion},
		"one under upload":    {KindOpen, AppendOpen(nil, &later), versionUploads},
		"its next attempt":    {KindNext, AppendNext(nil, outcome(i, payment.EventApproved), &later), versionUploads},
		"lines handed over":   {KindUpload, AppendUpload(nil, "cb-a", 1), versionUploads},
		"totals":              {KindTotals, AppendTotals(nil, &payment.Totals{Link: "cb-a"}), versionUploads},
		"and what is said":    {KindAgreed, AppendAgreed(nil, &payment.Totals{Link: "cb-a"}, &payment.Agreed{}), versionUploads},
		"the end of a day":    {KindCutOver, AppendCutOver(nil, &payment.DayEnd{Link: "cb-a"}), FirstVersion},
		"what a member marks": {KindMarks, nil, versionMarks},
	} {
		if got := Needs(c.kind, c.body); got != c.want {
			t.Errorf("%s needs version %d, not %d", name, got, c.want)
		}
	}
}

// TestUploadOfARefundWithoutItsCapture: where no message refunds, a refund is a
// line, too. One of a capture that the acquirer did not take, by a person's word,
// never leaves: out of the batch that is open, and not out of one that is closed.
func TestUploadOfARefundWithoutItsCapture(t *testing.T) {
	for _, closed := range []bool{false, true} {
		b, i := approvedBench(t)
		capture := byUpload(op(1, payment.OpCapture, 300, payment.ID{}))
		b.operate(capture)
		b.cutOver(1, 0)
		b.upload(1)
		n := uint64(1)
		o, ok := b.claimNext(i.Session, n)
		if !ok {
			t.Fatal("the capture is not owed")
		}
		b.answer(&o, payment.AdviceExceptional, payment.ActionDecline)
		refund := byUpload(op(2, payment.OpRefund, 100, capture.ID))
		if r := b.operate(refund); r.Verdict != payment.OperateNew {
			t.Fatalf("%+v", r)
		}
		if closed {
			b.cutOver(2, 0)
		}
		b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: number(1), Operator: "ana", Reason: "their books", Operations: payment.NotTaken}))
		if got := b.operation(capture.ID).State; got != payment.OperationFailed {
			t.Fatalf("the capture is %s", got)
		}
		b.restart()
		b.cutOver(2, 0)
		b.upload(2)
		if due := b.m.Due("cb-a", b.now+day, 10, nil); len(due) > 0 {
			t.Errorf("closed %v: %+v leaves", closed, due)
		}
		if got := b.operation(refund.ID).State; !got.Over() || got.Holds() {
			t.Errorf("closed %v: the refund is %s", closed, got)
		}
		p, err := ReadPayment(b.disk, number(1))
		if err != nil || p.Account.Captured != 0 || p.Account.Refunded != 0 {
			t.Errorf("closed %v: %+v, %v", closed, p.Account, err)
		}
		if !closed {
			continue
		}
		if got := b.uploaded(2); got.State != payment.ClearingUploaded || got.Upload.Over != 1 {
			t.Errorf("%+v", got)
		}
	}
}
