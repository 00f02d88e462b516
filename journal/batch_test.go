package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"authswitch/payment"
)

// batchBench is a machine with so many payments of 1000, each captured whole.
func batchBench(t testing.TB, payments int) (*bench, payment.Session, []payment.ID) {
	b := newBench(t)
	s := b.session("n1")
	captures := make([]payment.ID, payments)
	for n := range captures {
		i := b.intent(n+1, s)
		b.open(i)
		b.settle(outcome(i, payment.EventApproved))
		o := op(n, payment.OpCapture, 0, payment.ID{})
		o.Payment, o.Means, o.MTI = i.ID, payment.MeansNone, 0 // it goes in a file: nothing is owed
		if r := b.operate(o); r.Verdict != payment.OperateNew {
			t.Fatalf("capture %d: %+v", n, r)
		}
		captures[n] = o.ID
	}
	return b, s, captures
}

func batchOf(n, lines int, needs uint8) *payment.Batch {
	return &payment.Batch{
		ID: number(900 + n), Merchant: "parcels", Gateway: "shop", Key: fmt.Appendf(nil, "batch-%d", n), Fingerprint: [32]byte{byte(n), 1}, Name: []byte("refunds.csv"), Needs: needs,
		Lines: uint32(lines), Totals: []payment.Amount{{Value: int64(lines) * 100, Currency: 978}}, Lanes: []payment.BatchLane{{Link: "cb-a"}},
	}
}

func linesOf(captures []payment.ID, amount int64) []payment.BatchLine {
	lines := make([]payment.BatchLine, len(captures))
	for n, id := range captures {
		lines[n] = payment.BatchLine{Number: uint32(n + 1), Capture: id, Amount: payment.Amount{Value: amount, Currency: 978}, Text: []byte("cancelled")}
	}
	return lines
}

func (b *bench) batchDo(kind Kind, body []byte) *payment.BatchAnswer {
	b.t.Helper()
	r := b.do(kind, body)
	if r.Batch == nil {
		b.t.Fatalf("%s: %v", kind, r.Err)
	}
	return r.Batch
}

// load writes a batch down, chunks of so many lines at a time, and seals it.
func (b *bench) load(x *payment.Batch, lines []payment.BatchLine, chunk int) *payment.BatchAnswer {
	b.t.Helper()
	if a := b.batchDo(KindBatchBegin, AppendBatchBegin(nil, x)); a.Refused != payment.BatchTaken {
		return a
	}
	for seq := 0; seq*chunk < len(lines); seq++ {
		part := lines[seq*chunk : min(len(lines), (seq+1)*chunk)]
		for range 2 { // the second changes nothing
			if a := b.batchDo(KindBatchLines, AppendBatchLines(nil, x.ID, uint32(seq), 0, part)); a.Refused != payment.BatchTaken {
				b.t.Fatalf("chunk %d: %+v", seq, a)
			}
		}
	}
	return b.batchDo(KindBatchSeal, AppendBatchSeal(nil, x.ID))
}

func (b *bench) act(id payment.ID, cancel, operator bool, who string) *payment.BatchAnswer {
	b.t.Helper()
	return b.batchDo(KindBatchAct, AppendBatchAct(nil, &payment.BatchAct{ID: id, Merchant: "parcels", Cancel: cancel, Operator: operator, Who: who}))
}

// runNext starts the next lines as the runner does.
func (b *bench) runNext(id payment.ID, count uint16) *payment.BatchAnswer {
	b.t.Helper()
	x := b.read(id)
	l := &x.Lanes[0]
	return b.batchDo(KindBatchRun, AppendBatchRun(nil, &payment.BatchRun{ID: id, Chunk: l.Next, At: l.At, Count: count, Means: payment.MeansOnline, MTI: 0x0100, Reversible: true}))
}

func (b *bench) read(id payment.ID) payment.Batch {
	b.t.Helper()
	x, err := ReadBatch(b.disk, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

func (b *bench) person(name, hash string) error {
	return b.do(KindPerson, AppendPersonChange(nil, &payment.PersonChange{Name: name, Hash: []byte(hash), By: "root", Reason: "ticket"})).Err
}

// TestBatchEachLineOnce: whatever is proposed again, and whenever the node is
// killed, each line is one refund.
func TestBatchEachLineOnce(t *testing.T) {
	b, session, captures := batchBench(t, 50)
	x := batchOf(1, 50, 1)
	if a := b.load(x, linesOf(captures, 100), 16); a.Refused != payment.BatchTaken || a.Batch.State != payment.BatchHeld {
		t.Fatalf("%+v", a)
	}
	if a := b.runNext(x.ID, 8); a.Refused != payment.BatchNotHeld {
		t.Errorf("a line of what is not released: %+v", a.Refused)
	}
	if a := b.act(x.ID, false, false, "shop"); a.Batch.State != payment.BatchReleased {
		t.Fatalf("%+v", a)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var n uint64
	for step := 0; b.read(x.ID).State != payment.BatchDone; step++ {
		if step > 1000 {
			t.Fatalf("no end: %+v", b.read(x.ID))
		}
		before := b.read(x.ID)
		l := before.Lanes[0]
		run := AppendBatchRun(nil, &payment.BatchRun{ID: x.ID, Chunk: l.Next, At: l.At, Count: uint16(1 + random.IntN(8)), Means: payment.MeansOnline, MTI: 0x0100, Reversible: true})
		b.do(KindBatchRun, run)
		if random.IntN(2) == 0 {
			b.restart()
		}
		after := b.batchDo(KindBatchRun, run).Batch // proposed twice
		if after.Started > before.Started+8 {
			t.Fatalf("started twice: %d after %d", after.Started, before.Started)
		}
		if random.IntN(3) == 0 {
			b.settleAll(session, &n)
		}
	}
	b.settleAll(session, &n)
	done := b.read(x.ID)
	if done.Started != 50 || done.Done != 50 || done.Refused != 0 || done.EndedAt == 0 {
		t.Errorf("%+v", done)
	}
	for i, id := range captures {
		if c := b.operation(id); c.Refunded != 100 {
			t.Errorf("capture %d: %d refunded", i, c.Refunded)
		}
		o, _, err := ReadLine(b.disk, x.ID, uint32(i+1))
		if err != nil || o.State != payment.OperationDone || o.Batch != x.ID || string(o.Text) != "cancelled" {
			t.Errorf("line %d: %v %+v", i+1, err, o)
		}
	}
	if len(b.m.Batches()) != 0 {
		t.Error("a batch at rest stays in memory")
	}
}

// TestBatchCounts: a batch counts its lines as what they come to.
func TestBatchCounts(t *testing.T) {
	b, session, captures := batchBench(t, 6)
	x := batchOf(1, 7, 1)
	lines := linesOf(captures, 1000)
	lines = append(lines, payment.BatchLine{Number: 7, Capture: captures[0], Amount: payment.Amount{Value: 1, Currency: 978}})
	lines[1].Amount.Currency = 840
	b.load(x, lines, 3)
	b.act(x.ID, false, false, "shop")
	for range 3 {
		b.runNext(x.ID, 3)
	}
	if s := b.read(x.ID); s.Started != 7 || s.Refused != 2 || s.InDoubt() != 5 {
		t.Fatalf("%+v", s)
	}
	_, why, err := ReadLine(b.disk, x.ID, 2)
	if err != nil || why.Why != payment.RefusedCurrency {
		t.Errorf("line 2: %v %+v", err, why)
	}
	if _, why, _ = ReadLine(b.disk, x.ID, 7); why.Why != payment.RefusedNothingLeft {
		t.Errorf("line 7: %+v", why)
	}
	answers := []payment.Action{payment.ActionApprove, payment.ActionDecline, payment.ActionApprove, payment.ActionDecline}
	for n, a := range answers {
		o, _ := b.claimNext(session, uint64(n+1))
		b.answer(&o, payment.AdviceDecided, a)
	}
	o, _ := b.claimNext(session, 9) // without an answer, reversed: "exceptional"
	b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
	o, _ = b.claimNext(session, 10)
	b.answer(&o, payment.AdviceExceptional, payment.ActionNone)
	s := b.read(x.ID)
	if s.Done != 2 || s.Declined != 2 || s.Exceptions != 1 || s.State != payment.BatchReleased {
		t.Errorf("%+v", s)
	}
	b.restart()
	b.now += exceptionRepeat
	o, _ = b.claimNext(session, 11) // the reversal is acknowledged: another attempt
	b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
	b.now += 5e9
	o, _ = b.claimNext(session, 12)
	b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
	if s := b.read(x.ID); s.Done != 3 || s.Exceptions != 0 || s.State != payment.BatchDone {
		t.Errorf("%+v", s)
	}
}

// TestBatchRelease: one line per case; what each word brings a batch to that
// needs two operators.
func TestBatchRelease(t *testing.T) {
	b, _, captures := batchBench(t, 4)
	for _, name := range []string{"ana", "bo", "cy"} {
		if err := b.person(name, "hash-"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.person("ana", "another"); err != payment.ErrPersonKnown {
		t.Errorf("a second ana: %v", err)
	}
	x := batchOf(1, 4, 2)
	b.load(x, linesOf(captures, 100), 4)
	for _, c := range []struct {
		who      string
		operator bool
		why      payment.BatchRefusal
		state    payment.BatchState
	}{
		{"shop", false, payment.BatchNeedsOperators, payment.BatchHeld},
		{"nobody", true, payment.BatchNoOperator, payment.BatchHeld},
		{"ana", true, payment.BatchTaken, payment.BatchHeld},
		{"ana", true, payment.BatchSameOperator, payment.BatchHeld},
	} {
		if a := b.act(x.ID, false, c.operator, c.who); a.Refused != c.why || a.Batch.State != c.state {
			t.Errorf("%s: %d %s", c.who, a.Refused, a.Batch.State)
		}
	}
	if err := b.person("ana", ""); err != nil { // her word goes with her
		t.Fatal(err)
	}
	if a := b.act(x.ID, false, true, "bo"); a.Batch.State != payment.BatchHeld || len(a.Batch.Releases) != 1 {
		t.Errorf("after ana left: %+v", a.Batch)
	}
	if a := b.act(x.ID, false, true, "cy"); a.Batch.State != payment.BatchReleased {
		t.Errorf("%+v", a)
	}
	if a := b.act(x.ID, false, true, "cy"); a.Refused != payment.BatchTaken {
		t.Errorf("asked twice: %+v", a.Refused)
	}
	p, err := ReadPerson(b.disk, "ana")
	if err != nil || !p.Removed || len(p.Hash) != 0 || len(p.Events) != 2 {
		t.Errorf("%v %+v", err, p)
	}
	other := b.do(KindBatchAct, AppendBatchAct(nil, &payment.BatchAct{ID: x.ID, Merchant: "another", Cancel: true, Who: "shop"}))
	if other.Batch.Refused != payment.BatchUnknown {
		t.Errorf("another merchant's: %+v", other.Batch)
	}
}

// TestBatchTwice: the same content, or key, is one batch, whichever way it comes.
func TestBatchTwice(t *testing.T) {
	b, _, captures := batchBench(t, 4)
	lines := linesOf(captures, 100)
	first := batchOf(1, 4, 1)
	b.load(first, lines, 4)
	again := batchOf(2, 4, 1)
	again.Fingerprint = first.Fingerprint
	if a := b.load(again, lines, 4); a.Refused != payment.BatchDuplicate || a.Batch.ID != first.ID {
		t.Errorf("the same file: %+v", a)
	}
	again = batchOf(3, 4, 1)
	again.Key = first.Key
	if a := b.load(again, lines, 4); a.Refused != payment.BatchKeyConflict {
		t.Errorf("the same key for another file: %+v", a)
	}
	again.Fingerprint = first.Fingerprint
	if a := b.load(again, lines, 4); a.Refused != payment.BatchDuplicate || a.Batch.ID != first.ID {
		t.Errorf("the same request: %+v", a)
	}
	// Two at once: the one that is whole first is the batch.
	one, two := batchOf(4, 4, 1), batchOf(5, 4, 1)
	two.Fingerprint = one.Fingerprint
	for _, x := range []*payment.Batch{one, two} {
		b.batchDo(KindBatchBegin, AppendBatchBegin(nil, x))
		b.batchDo(KindBatchLines, AppendBatchLines(nil, x.ID, 0, 0, lines))
	}
	if a := b.batchDo(KindBatchSeal, AppendBatchSeal(nil, two.ID)); a.Refused != payment.BatchTaken {
		t.Errorf("%+v", a)
	}
	if a := b.batchDo(KindBatchSeal, AppendBatchSeal(nil, one.ID)); a.Refused != payment.BatchDuplicate || a.Batch.ID != two.ID {
		t.Errorf("%+v", a)
	}
	// Cancelled before a line of it was started, the file may come again.
	b.act(first.ID, true, false, "shop")
	again = batchOf(6, 4, 1)
	again.Fingerprint, again.Key = first.Fingerprint, first.Key
	if a := b.load(again, lines, 4); a.Refused != payment.BatchTaken || a.Batch.State != payment.BatchHeld {
		t.Errorf("after it was cancelled: %+v", a)
	}
	list, more, err := ReadBatches(b.disk, "parcels", payment.ID{}, 2)
	if err != nil || !more || len(list) != 2 || list[0].ID != again.ID {
		t.Errorf("%v %v %+v", err, more, list)
	}
}

// TestBatchCut: a batch of which lines are missing is never held, and is swept.
func TestBatchCut(t *testing.T) {
	b, _, captures := batchBench(t, 4)
	x := batchOf(1, 4, 1)
	lines := linesOf(captures, 100)
	b.batchDo(KindBatchBegin, AppendBatchBegin(nil, x))
	if a := b.batchDo(KindBatchLines, AppendBatchLines(nil, x.ID, 1, 0, lines[2:])); a.Refused != payment.BatchIncomplete {
		t.Errorf("the second before the first: %+v", a)
	}
	b.batchDo(KindBatchLines, AppendBatchLines(nil, x.ID, 0, 0, lines[:2]))
	if a := b.batchDo(KindBatchSeal, AppendBatchSeal(nil, x.ID)); a.Refused != payment.BatchIncomplete {
		t.Errorf("%+v", a)
	}
	if a := b.act(x.ID, false, false, "shop"); a.Refused != payment.BatchUnknown {
		t.Errorf("%+v", a)
	}
	b.restart()
	b.now += 3600e9
	b.do(KindBatchSweep, AppendBatchSweep(nil, 1800e9))
	if len(b.m.Batches()) != 0 {
		t.Error("it is still there")
	}
	for key := range b.disk.kv {
		if key[0] == tableBatches || key[0] == tableBatchLines {
			t.Errorf("left behind: %x", key)
		}
	}
	if a := b.load(x, lines, 4); a.Refused != payment.BatchTaken {
		t.Errorf("again: %+v", a)
	}
}

// TestBatchCancelled: what is started goes its way, and nothing else leaves.
func TestBatchCancelled(t *testing.T) {
	b, session, captures := batchBench(t, 4)
	x := batchOf(1, 4, 1)
	b.load(x, linesOf(captures, 100), 4)
	b.act(x.ID, false, false, "shop")
	b.runNext(x.ID, 2)
	b.act(x.ID, true, false, "shop")
	if a := b.runNext(x.ID, 2); a.Refused != payment.BatchNotHeld || a.Batch.Started != 2 {
		t.Errorf("%+v", a)
	}
	var n uint64
	b.settleAll(session, &n)
	if s := b.read(x.ID); s.State != payment.BatchCancelled || s.Done != 2 || s.Started != 2 {
		t.Errorf("%+v", s)
	}
}

func TestBatchEncodings(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	x := batchOf(1, 3, 2)
	x.State, x.Loaded, x.Written, x.Started, x.Refused, x.Done, x.Declined, x.Failed, x.Exceptions = payment.BatchReleased, 1, 2, 3, 4, 5, 6, 7, 8
	x.CreatedAt, x.ReleasedAt, x.EndedAt, x.CancelledBy, x.Tag = 1, 2, 3, "ana", []byte("show")
	x.Releases = []payment.Release{{Who: "ana", Operator: true, At: 5}, {Who: "shop", At: 6}}
	x.Lanes = []payment.BatchLane{{Link: "cb-a", Chunks: 3, Next: 2, At: 1}, {Link: "visa-a"}}
	var x2 payment.Batch
	c := cursor{b: appendBatch(nil, x)}
	if readBatch(&c, &x2); c.end() != nil || !reflect.DeepEqual(*x, x2) {
		t.Errorf("%+v\n%+v", *x, x2)
	}
	o := filled[payment.Operation](5)
	var o2 payment.Operation
	c = cursor{b: appendOperation(nil, o)}
	o.Response.Chip = ""
	if readOperation(&c, &o2); c.end() != nil || !reflect.DeepEqual(*o, o2) {
		t.Errorf("%+v\n%+v", *o, o2)
	}
	encoded := appendBatch(nil, x)
	for range 1000 { // damaged bytes never panic
		damaged := bytes.Clone(encoded)
		damaged[r.IntN(len(damaged))] ^= byte(1 + r.IntN(255))
		c := cursor{b: damaged[:r.IntN(len(damaged)+1)]}
		readBatch(&c, new(payment.Batch))
		c = cursor{b: damaged[:r.IntN(len(damaged)+1)]}
		readLines(&c)
	}
	seen := map[payment.ID]bool{}
	for line := range uint32(100_000) {
		id := payment.LineOperation(x.ID, line+1, 0)
		if seen[id] || id[15]&0x3F != 0x04 {
			t.Fatalf("line %d: %x", line+1, id)
		}
		seen[id] = true
	}
}

// TestTags: payments are found by each of their tags, and by no other.
func TestTags(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	for n := 1; n <= 5; n++ {
		i := b.intent(n, s)
		i.Tags = []byte("show-1\nhall-b")
		if n > 3 {
			i.Tags = []byte("show-2")
		}
		b.open(i)
	}
	for _, c := range []struct {
		tag    string
		behind payment.ID
		limit  int
		want   int
		more   bool
	}{
		{"show-1", payment.ID{}, 10, 3, false},
		{"hall-b", payment.ID{}, 2, 2, true},
		{"hall-b", number(2), 2, 1, false},
		{"show-2", payment.ID{}, 2, 2, false},
		{"show", payment.ID{}, 10, 0, false},
		{"show-1\nhall-b", payment.ID{}, 10, 0, false},
	} {
		ids, more, err := ReadTagged(b.disk, "parcels", []byte(c.tag), c.behind, c.limit)
		if err != nil || len(ids) != c.want || more != c.more {
			t.Errorf("%q: %v %v %v", c.tag, ids, more, err)
		}
	}
	if ids, _, _ := ReadTagged(b.disk, "another", []byte("show-1"), payment.ID{}, 10); len(ids) != 0 {
		t.Errorf("another merchant's: %v", ids)
	}
	if p := b.payment(number(4)); string(p.Intent.Tags) != "show-2" {
		t.Errorf("%q", p.Intent.Tags)
	}
}

// TestAnswerTwice: the answer that made a refund done, proposed again because its
// leader died before it could say so, undoes nothing.
func TestAnswerTwice(t *testing.T) {
	b, session, captures := batchBench(t, 1)
	refund := op(50, payment.OpRefund, 1000, captures[0])
	b.operate(refund)
	o, _ := b.claimNext(session, 7)
	for range 2 {
		b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
	}
	if left := b.owed("cb-a"); len(left) != 0 {
		t.Errorf("owed after the same answer twice: %+v", left)
	}
	if done := b.operation(refund.ID); done.State != payment.OperationDone {
		t.Errorf("%s", done.State)
	}
}
