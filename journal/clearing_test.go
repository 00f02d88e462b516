package journal

import (
	"testing"

	"authswitch/payment"
)

// byFile makes an operation one that goes into a file.
func byFile(o *payment.Operation) *payment.Operation {
	o.Means, o.MTI, o.Reversible = payment.MeansFile, 0, false
	return o
}

func (b *bench) cutOver(number uint64, apart payment.Instant) int {
	return b.do(KindCutOver, AppendCutOver(nil, &payment.DayEnd{Link: "cb-a", Number: number, By: "test", Apart: apart})).Count
}

func (b *bench) lines(number uint64) []payment.ClearingLine {
	b.t.Helper()
	lines, err := ReadClearingLines(b.disk, payment.MeansFile, "cb-a", number, 0, 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	return lines
}

func (b *bench) settleFile(number uint64) {
	b.t.Helper()
	b.do(KindFiled, AppendFiled(nil, &payment.Filed{Link: "cb-a", Number: number, Node: "n1", Bytes: 7}))
	for b.do(KindFileSettle, AppendFileSettle(nil, "cb-a", number)).Count > 0 {
		b.restart()
	}
}

// TestClearingBatch: what is in a batch when its day ends is in its file, once;
// what is withdrawn before is not, and what comes after is in the next.
func TestClearingBatch(t *testing.T) {
	b, _ := approvedBench(t)
	first, second, third := byFile(op(1, payment.OpCapture, 300, payment.ID{})), byFile(op(2, payment.OpCapture, 200, payment.ID{})), byFile(op(3, payment.OpCapture, 100, payment.ID{}))
	b.operate(first)
	b.operate(second)
	if again := b.operate(first); again.Verdict != payment.OperateAgain || again.Operation.File != 1 || again.Operation.FileLine != 1 {
		t.Fatalf("proposed again: %+v", again)
	}
	if r := b.operate(op(4, payment.OpVoid, 0, second.ID)); r.Verdict != payment.OperateNew || r.Operation.Means != payment.MeansNone {
		t.Fatalf("void before the cut-over: %+v", r)
	}
	b.restart()
	if b.cutOver(1, 0) != 1 || b.cutOver(1, 0) != 0 {
		t.Fatal("a batch is closed once")
	}
	b.operate(third)
	if got := b.lines(1); len(got) != 1 || got[0] != (payment.ClearingLine{Line: 1, Operation: first.ID}) {
		t.Fatalf("batch 1: %+v", got)
	}
	if got := b.lines(2); len(got) != 1 || got[0].Operation != third.ID {
		t.Fatalf("batch 2: %+v", got)
	}
	if b.do(KindFileSettle, AppendFileSettle(nil, "cb-a", 1)).Count != 0 {
		t.Fatal("settled before its file is written")
	}
	if pending, err := ReadPendingClearing(b.disk, 10); err != nil || len(pending) != 1 || pending[0].State != payment.ClearingClosed || pending[0].Lines != 1 {
		t.Fatalf("pending: %+v %v", pending, err)
	}
	b.settleFile(1)
	for id, want := range map[payment.ID]payment.OperationState{first.ID: payment.OperationDone, second.ID: payment.OperationWithdrawn, third.ID: payment.OperationOwed} {
		if got := b.operation(id).State; got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if pending, _ := ReadPendingClearing(b.disk, 10); len(pending) != 0 {
		t.Errorf("still pending: %+v", pending)
	}
	closed, err := ReadClearingBatch(b.disk, payment.MeansFile, "cb-a", 1)
	if err != nil || closed.State != payment.ClearingSettled || closed.Node != "n1" || closed.Bytes != 7 {
		t.Errorf("%+v %v", closed, err)
	}
	if got := b.payment(number(1)).Account; got.Captured != 400 || got.Capturable() != 600 {
		t.Errorf("%+v", got)
	}
}

// TestClearingSettlesInPieces: a batch of more lines than one command takes.
func TestClearingSettlesInPieces(t *testing.T) {
	b, _ := approvedBench(t)
	for n := range MaxSettle + 3 {
		b.operate(byFile(op(n, payment.OpCapture, 1, payment.ID{})))
	}
	b.cutOver(1, 0)
	b.settleFile(1)
	for n := range MaxSettle + 3 {
		if got := b.operation(number(1000 + n)).State; got != payment.OperationDone {
			t.Fatalf("line %d: %s", n+1, got)
		}
	}
}

// TestRefundWaitsForFile: a refund online leaves when its capture is in a file
// on disk; others of the payment do not wait for it. One in a file need not.
func TestRefundWaitsForFile(t *testing.T) {
	b, i := approvedBench(t)
	capture := byFile(op(1, payment.OpCapture, 300, payment.ID{}))
	b.operate(capture)
	b.operate(op(2, payment.OpRefund, 100, capture.ID))
	b.operate(byFile(op(3, payment.OpRefund, 50, capture.ID)))
	b.operate(op(4, payment.OpIncrement, 10, payment.ID{}))
	n := uint64(0)
	b.settleAll(i.Session, &n)
	if got := b.operation(number(1002)).State; got != payment.OperationWaiting {
		t.Fatalf("the refund is %s while its capture is in no file", got)
	}
	if got := b.operation(number(1004)).State; got != payment.OperationDone {
		t.Fatalf("the increment is %s", got)
	}
	b.cutOver(1, 0)
	b.settleFile(1)
	b.settleAll(i.Session, &n)
	for _, k := range []int{1002, 1003} {
		if got := b.operation(number(k)).State; got != payment.OperationDone {
			t.Errorf("refund %d: %s", k, got)
		}
	}
}

// TestVoidAfterCutOver: a refund, decided in the journal; a reversal before it.
func TestVoidAfterCutOver(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    bool
		cutOver bool
		mti     uint16 // of a refund on the link
		want    payment.OperationKind
		means   payment.OperationMeans
		refused payment.OperationRefusal
	}{
		{"advice, before", false, false, 0x0200, payment.OpVoid, payment.MeansReversal, payment.NotRefused},
		{"advice, after, online refunds", false, true, 0x0200, payment.OpRefund, payment.MeansOnline, payment.NotRefused},
		{"advice, after, advised refunds", false, true, 0x0220, payment.OpRefund, payment.MeansAdvice, payment.NotRefused},
		{"advice, after, no refunds", false, true, 0, 0, 0, payment.RefusedSettled},
		{"file, before", true, false, 0, payment.OpVoid, payment.MeansNone, payment.NotRefused},
		{"file, after", true, true, 0, payment.OpRefund, payment.MeansFile, payment.NotRefused},
	} {
		b, i := approvedBench(t)
		capture := op(1, payment.OpCapture, 300, payment.ID{})
		if c.file {
			byFile(capture)
		}
		b.operate(capture)
		n := uint64(0)
		b.settleAll(i.Session, &n)
		if c.cutOver {
			b.advance(b.now + 1e9)
			b.cutOver(1, 0)
		}
		void := op(2, payment.OpVoid, 0, capture.ID)
		void.MTI, void.Reversible = c.mti, true
		r := b.operate(void)
		if r.Refused != c.refused {
			t.Errorf("%s: refused as %d", c.name, r.Refused)
		}
		if c.refused != payment.NotRefused {
			continue
		}
		o := b.operation(void.ID)
		if o.Kind != c.want || o.Means != c.means {
			t.Errorf("%s: a %s by %s", c.name, o.Kind, o.Means)
		}
		if again := b.operate(void); again.Verdict != payment.OperateAgain || again.Operation.Kind != c.want {
			t.Errorf("%s: proposed again: %+v", c.name, again)
		}
		b.settleAll(i.Session, &n)
		p := b.payment(number(1)).Account
		if c.want == payment.OpRefund && (p.Captured != 300 || p.Refunded != 300) || c.want == payment.OpVoid && p.Captured != 0 {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

// TestCutOverAnnouncedTwice: every connection of an acquirer says it.
func TestCutOverAnnouncedTwice(t *testing.T) {
	b, _ := approvedBench(t)
	if b.cutOver(1, 600e9) != 1 || b.cutOver(2, 600e9) != 0 {
		t.Fatal("two announcements of one cut-over")
	}
	b.advance(b.now + 601e9)
	if b.cutOver(2, 600e9) != 1 {
		t.Fatal("the next one")
	}
}
