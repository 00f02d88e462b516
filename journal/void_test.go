package journal

import (
	"testing"

	"authswitch/payment"
)

// paidBench is a machine at a version, with one approved payment of 1000.
func paidBench(t *testing.T, v Version, c payment.Capturing) (*bench, *payment.Intent) {
	b := newBench(t)
	b.do(KindVersion, AppendVersion(nil, v))
	i := b.intent(1, b.session("n1"))
	i.Capture = c
	b.open(i)
	b.settle(outcome(i, payment.EventApproved))
	return b, i
}

// TestVoidOfTheLastCapture: one line per case. A last capture that is undone was not
// the last; what can be captured no more is given back.
func TestVoidOfTheLastCapture(t *testing.T) {
	manual := payment.Capturing{Mode: payment.CaptureManual}
	within := payment.Capturing{Mode: payment.CaptureManual, Within: 1000e9}
	automatic := payment.Capturing{Mode: payment.CaptureAutomatic, Means: payment.MeansAdvice, MTI: 0x0220}
	approved, reversing := payment.StateApproved, payment.StateReversing
	type made struct { // a capture
		amount int64
		last   bool
	}
	const beforeVersion = versionVoids - 1
	for _, c := range []struct {
		name     string
		version  Version
		capture  payment.Capturing
		captures []made
		sent     bool // and acknowledged, before the void
		late     bool // the void is over after the time for captures
		undoes   int  // which, from 1
		state    payment.State
		closed   bool
		left     int64 // to capture
		released int64 // in all
	}{
		{"all of it", versionVoids, manual, []made{{1000, true}}, true, false, 1, approved, false, 1000, 0},
		{"all of it, unsent", versionVoids, manual, []made{{1000, true}}, false, false, 1, approved, false, 1000, 0},
		{"a part: its rest is given back already", versionVoids, manual, []made{{600, true}}, true, false, 1, approved, false, 600, 400},
		{"within its time", versionVoids, within, []made{{1000, true}}, true, false, 1, approved, false, 1000, 0},
		{"after its time", versionVoids, within, []made{{1000, true}}, true, true, 1, reversing, true, 1000, 0},
		{"after its time, beside one that stands", versionVoids, within, []made{{300, false}, {200, true}}, true, true, 2, approved, true, 0, 700},
		{"one before the last", versionVoids, manual, []made{{300, false}, {200, true}}, true, false, 1, approved, true, 0, 800},
		{"one before, unsent", versionVoids, manual, []made{{300, false}, {200, true}}, false, false, 1, approved, true, 0, 800},
		{"one of several, none last", versionVoids, manual, []made{{300, false}, {200, false}}, true, false, 1, approved, false, 800, 0},
		{"automatic", versionVoids, automatic, nil, true, false, 0, reversing, true, 1000, 0},
		{"automatic, unsent", versionVoids, automatic, nil, false, false, 0, reversing, true, 1000, 0},
		{"of an older journal", beforeVersion, manual, []made{{1000, true}}, true, false, 1, approved, true, 1000, 0},
		{"automatic, of an older journal", beforeVersion, automatic, nil, true, false, 0, approved, true, 1000, 0},
	} {
		b, i := paidBench(t, c.version, c.capture)
		n := uint64(0)
		for at, x := range c.captures {
			o := underID(op(at+1, payment.OpCapture, x.amount, payment.ID{}))
			o.Last = x.last
			if r := b.operate(o); r.Verdict != payment.OperateNew {
				t.Fatalf("%s: %+v", c.name, r)
			}
		}
		if c.sent {
			b.settleAll(i.Session, &n)
		}
		undone := i.ID
		if c.undoes > 0 {
			undone = payment.ID{2, byte(c.undoes)}
		}
		if r := b.operate(underID(op(9, payment.OpVoid, 0, undone))); r.Verdict != payment.OperateNew {
			t.Fatalf("%s: %+v", c.name, r)
		}
		if c.late {
			b.advance(b.now + 2000e9)
			due, err := ReadDue(b.disk, b.now, 10)
			if err != nil {
				t.Fatal(err)
			}
			b.do(KindExpire, AppendExpire(nil, due))
		}
		b.restart()
		b.settleAllButTheWhole(i.Session, &n)
		p := b.payment(i.ID)
		if p.State != c.state || p.Account.Closed != c.closed || p.Account.Capturable() != c.left || p.Account.Released != c.released {
			t.Errorf("%s: %s %+v, want %s, closed %v, %d left, %d released", c.name, p.State, p.Account, c.state, c.closed, c.left, c.released)
		}
		again := b.operate(op(10, payment.OpCapture, 1, payment.ID{}))
		if can := c.state == approved && !c.closed; (again.Verdict == payment.OperateNew) != can {
			t.Errorf("%s: another capture: %+v", c.name, again)
		}
	}
}

// underID gives an operation an id as nodes make them, which end in zeros: what
// follows from it has an id beside it.
func underID(o *payment.Operation) *payment.Operation {
	o.ID = payment.ID{2, o.Fingerprint[0]}
	return o
}

// settleAllButTheWhole answers with yes what is owed for operations.
func (b *bench) settleAllButTheWhole(session payment.Session, n *uint64) {
	for {
		due := b.m.Due("cb-a", b.now, 1, nil)
		if len(due) == 0 || due[0].Operation.IsZero() {
			return
		}
		*n++
		o, ok := b.claimNext(session, *n)
		if !ok {
			return
		}
		b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
	}
}

// TestVoidByAPerson: an exception of a void that a person resolves as taken goes on
// as an acknowledged one.
func TestVoidByAPerson(t *testing.T) {
	b, i := paidBench(t, versionVoids, payment.Capturing{Mode: payment.CaptureManual})
	last := underID(op(1, payment.OpCapture, 1000, payment.ID{}))
	last.Last = true
	b.operate(last)
	n := uint64(0)
	b.settleAll(i.Session, &n)
	b.operate(op(2, payment.OpVoid, 0, last.ID))
	o, _ := b.claimNext(i.Session, n+1)
	b.answer(&o, payment.AdviceExceptional, payment.ActionDecline)
	b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "by telephone", Operations: payment.Taken}))
	if a := b.payment(i.ID).Account; a.Closed || a.Capturable() != 1000 {
		t.Errorf("%+v", a)
	}
}

// TestVoidNamesTheFirst: DE 90 of a void is of the capture as it was first sent,
// whatever DE 7 its repeats had; in an older journal, of its last transmission.
func TestVoidNamesTheFirst(t *testing.T) {
	for v, want := range map[Version]payment.Transmitted{versionVoids: 2, versionVoids - 1: 4} {
		b, i := paidBench(t, v, payment.Capturing{Mode: payment.CaptureManual})
		b.operate(op(1, payment.OpCapture, 1000, payment.ID{}))
		early, _ := b.claimNext(i.Session, 1)
		b.answer(&early, payment.AdviceNotSent, payment.ActionNone) // it never left, and its number is another's
		b.advance(b.now + 2e9)
		for n := uint64(2); n <= 4; n++ {
			o, ok := b.claimNext(i.Session, n)
			if !ok || o.STAN != 2 {
				t.Fatalf("%+v", o)
			}
			b.answer(&o, payment.AdviceRepeat, payment.ActionNone)
			b.advance(b.now + 60e9)
		}
		last, _ := b.claimNext(i.Session, 4)
		b.answer(&last, payment.AdviceAcknowledged, payment.ActionApprove)
		b.operate(op(2, payment.OpVoid, 0, number(1001)))
		b.restart()
		void, ok := b.claimNext(i.Session, 9)
		if !ok || void.Original != (payment.Message{MTI: 0x0220, STAN: 2, Transmitted: want}) {
			t.Errorf("version %d: %+v", v, void.Original)
		}
	}
}

// TestLastCaptureNotTaken: what a last capture left is given back at once, and what
// it held when a person finds, after the time for captures, that nobody took it:
// two releases, each with an id of its own.
func TestLastCaptureNotTaken(t *testing.T) {
	b, i := paidBench(t, versionVoids, payment.Capturing{Mode: payment.CaptureManual, Within: 1000e9})
	b.operate(underID(op(1, payment.OpCapture, 100, payment.ID{})))
	n := uint64(0)
	b.settleAll(i.Session, &n)
	last := underID(op(2, payment.OpCapture, 300, payment.ID{}))
	last.Last = true
	b.operate(last)
	o, _ := b.claimNext(i.Session, n+1)
	b.answer(&o, payment.AdviceExceptional, payment.ActionDecline)
	b.advance(b.now + 2000e9)
	b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "by telephone", Operations: payment.NotTaken}))
	list, err := ReadOperations(b.disk, i.ID)
	ids := map[payment.ID]bool{}
	for k := range list {
		ids[list[k].ID] = true
	}
	if a := b.payment(i.ID).Account; err != nil || len(ids) != 4 || a.Released != 900 || a.Capturable() != 0 {
		t.Errorf("%d operations, %+v, %v", len(ids), a, err)
	}
}
