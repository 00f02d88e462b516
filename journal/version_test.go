package journal

import (
	"bytes"
	"errors"
	"testing"

	"authswitch/payment"
)

// TestVersion: it only grows, survives a restart, and an older program refuses
// what is past its own: in the log, and in the state.
func TestVersion(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	before := b.disk.dump()
	if b.m.Version() != FirstVersion {
		t.Fatalf("a new journal is at version %d", b.m.Version())
	}
	if meta, _, _ := b.disk.Get(nil, []byte{tableMeta}); meta[0] != metaVersion {
		t.Errorf("a state at the first version has a meta record of version %d", meta[0])
	}
	for _, step := range []struct {
		to    Version
		moved int
	}{{FirstVersion, 0}, {NewestVersion, 1}, {NewestVersion, 0}, {FirstVersion, 0}} {
		if r := b.do(KindVersion, AppendVersion(nil, step.to)); r.Count != step.moved {
			t.Errorf("to %d: %+v", step.to, r)
		}
	}
	if b.disk.dump() == before {
		t.Error("the version is not in the state")
	}
	b.restart()
	if b.m.Version() != NewestVersion || !b.m.alive(s) {
		t.Errorf("after a restart: version %d", b.m.Version())
	}
	old := New(b.disk)
	old.Limit(FirstVersion)
	if err := old.Load(); !errors.Is(err, ErrNewer) {
		t.Errorf("an older program reads the state: %v", err)
	}
	old = New(newDisk())
	old.Limit(FirstVersion)
	entry := EndEntry(AddCommand(BeginEntry(nil, 1), KindVersion, AppendVersion(nil, NewestVersion)))
	if _, err := old.Apply(entry, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("an older program applies it: %v", err)
	}
	for _, kind := range []Kind{0, 106, 255} {
		entry := EndEntry(AddCommand(BeginEntry(nil, 1), kind, nil))
		if _, err := New(newDisk()).Apply(entry, nil); !errors.Is(err, ErrNewer) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
	future := newDisk()
	value := put16([]byte{metaVersionFirst + 1}, uint16(NewestVersion+1))
	if err := future.Set([]byte{tableMeta}, append(value, bytes.Repeat([]byte{7}, 99)...)); err != nil {
		t.Fatal(err)
	}
	if err := New(future).Load(); !errors.Is(err, ErrNewer) {
		t.Errorf("a state of a later program: %v", err)
	}
}

// TestMarks: they only grow, survive a restart, and go with their node.
func TestMarks(t *testing.T) {
	b := newBench(t)
	b.do(KindVersion, AppendVersion(nil, NewestVersion))
	for _, step := range []struct {
		marks []Mark
		moved int
	}{
		{[]Mark{{"n1", 10}, {"n2", 7}}, 2},
		{[]Mark{{"n1", 9}, {"n2", 8}}, 1},
		{[]Mark{{"n1", 10}}, 0},
		{nil, 0},
	} {
		if r := b.do(KindMarks, AppendMarks(nil, step.marks)); r.Count != step.moved {
			t.Errorf("%v: %+v", step.marks, r)
		}
	}
	b.restart()
	if b.m.MarkOf("n1") != 10 || b.m.MarkOf("n2") != 8 || b.m.MarkOf("n3") != 0 || len(b.m.Marks()) != 2 {
		t.Errorf("%v", b.m.Marks())
	}
	b.do(KindForgetNode, AppendForgetNode(nil, "n1")) // it never had a session
	b.restart()
	if b.m.MarkOf("n1") != 0 || b.m.MarkOf("n2") != 8 {
		t.Errorf("after n1 was forgotten: %v", b.m.Marks())
	}
}

// TestFencedOperations: what may have been done after the backup is neither done
// again nor given up before its lane is released.
func TestFencedOperations(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	i := b.intent(1, s)
	i.Capture.Within = day
	captureBy := b.now + day
	b.open(i)
	b.settle(outcome(i, payment.EventApproved))
	early := op(1, payment.OpCapture, 300, payment.ID{})
	if r := b.operate(early); r.Verdict != payment.OperateNew {
		t.Fatalf("%+v", r)
	}
	if err := Fence(b.disk, b.disk); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.session("n2")
	do := func(o *payment.Operation) Result { return b.do(KindOperate, AppendOperate(nil, o)) }
	again := *early
	again.ID = number(1900)
	if r := do(&again); r.Err != nil || r.Operated.Verdict != payment.OperateAgain || r.Operated.Operation.ID != early.ID {
		t.Errorf("an old key: %+v", r)
	}
	later := []*payment.Operation{op(2, payment.OpCapture, 300, payment.ID{}), op(3, payment.OpRefund, 100, early.ID), op(4, payment.OpRefund, 100, number(1999))}
	for _, o := range later {
		if r := do(o); !errors.Is(r.Err, payment.ErrUnavailable) {
			t.Errorf("%s while fenced: %+v", o.Kind, r)
		}
	}
	b.do(KindRelease, AppendRelease(nil, "cb-a"))
	if r := do(later[0]); r.Operated.Verdict != payment.OperateNew {
		t.Errorf("a capture on a released lane: %+v", r)
	}
	b.now += 2 * day
	due := []payment.DueCapture{{Due: captureBy, ID: i.ID}}
	if r := b.do(KindExpire, AppendExpire(nil, due)); !errors.Is(r.Err, payment.ErrUnavailable) {
		t.Errorf("its time for captures ends while a lane is fenced: %+v", r)
	}
	if r := do(later[2]); !errors.Is(r.Err, payment.ErrUnavailable) {
		t.Errorf("a refund of what nobody knows: %+v", r)
	}
	b.do(KindRelease, AppendRelease(nil, EveryLane))
	if r := do(later[2]); r.Operated.Refused != payment.RefusedUnknown {
		t.Errorf("the same after all lanes' release: %+v", r)
	}
	if r := b.do(KindExpire, AppendExpire(nil, due)); r.Err != nil || r.Count != 1 {
		t.Errorf("its time for captures ends: %+v", r)
	}
}
