package journal

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"authswitch/payment"
)

// approvedBench is a machine with one approved payment of 1000.
func approvedBench(t testing.TB) (*bench, *payment.Intent) {
	b := newBench(t)
	i := b.intent(1, b.session("n1"))
	b.open(i)
	b.settle(outcome(i, payment.EventApproved))
	return b, i
}

// op is an operation on payment 1, as a gateway asks for it.
func op(n int, k payment.OperationKind, amount int64, parent payment.ID) *payment.Operation {
	o := &payment.Operation{
		ID: number(1000 + n), Kind: k, Payment: number(1), Merchant: "parcels", Gateway: "shop", Amount: payment.Amount{Value: amount},
		Reason: payment.ReversalCustomer,
	}
	o.Key, o.Fingerprint = fmt.Appendf(nil, "op-%d", n), [32]byte{byte(n)}
	switch k {
	case payment.OpCapture:
		o.Means, o.MTI = payment.MeansAdvice, 0x0220
	case payment.OpRefund:
		o.Payment, o.Parent = payment.ID{}, parent
		o.Means, o.MTI, o.Reversible = payment.MeansOnline, 0x0100, true
	case payment.OpIncrement:
		o.Means, o.MTI, o.Reversible = payment.MeansOnline, 0x0100, true
	case payment.OpRelease:
		o.Means = payment.MeansReversal
	case payment.OpVoid:
		o.Payment, o.Parent, o.Means = payment.ID{}, parent, payment.MeansReversal
	}
	return o
}

func (b *bench) operate(o *payment.Operation) payment.Operated {
	return b.do(KindOperate, AppendOperate(nil, o)).Operated
}

func (b *bench) operation(id payment.ID) payment.Operation {
	b.t.Helper()
	o, err := ReadOperation(b.disk, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return o
}

// claimNext claims what is due first on the link, as its worker does.
func (b *bench) claimNext(session payment.Session, n uint64) (payment.Owed, bool) {
	due := b.m.Due("cb-a", b.now, 1, nil)
	if len(due) == 0 {
		return payment.Owed{}, false
	}
	if due[0].Online() && due[0].Tries > 0 { // whoever claimed it is gone
		b.answer(&due[0], payment.AdviceUnknown, payment.ActionNone)
		return payment.Owed{}, false
	}
	k := payment.Claim{Link: "cb-a", Seq: due[0].Seq, STAN: payment.STAN(n), Transmitted: payment.Transmitted(n)}
	var r Result
	if due[0].Online() {
		k.Patience, k.Life = 5e9, 9e9
		r = b.do(KindClaim, AppendClaimOnline(nil, session, n, &k))
	} else {
		r = b.do(KindClaim, AppendClaim(nil, session, n, "cb-a", due[0].Seq, k.STAN, k.Transmitted))
	}
	if r.Err != nil {
		b.t.Fatalf("claim: %v", r.Err)
	}
	return r.Owed, true
}

func (b *bench) answer(o *payment.Owed, v payment.AdviceVerdict, a payment.Action) {
	b.do(KindAcknowledge, AppendAnswer(nil, &payment.Acknowledgement{
		Link: o.Link, Seq: o.Seq, ID: o.ID, Verdict: v, Response: payment.Response{Verdict: payment.Verdict{Action: a}},
	}))
}

// settleAll answers all that is owed with yes.
func (b *bench) settleAll(session payment.Session, n *uint64) {
	for {
		*n++
		o, ok := b.claimNext(session, *n)
		if !ok {
			return
		}
		if o.Online() {
			b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
		} else {
			b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
		}
	}
}

// TestAmountRules: one line per case, on a payment approved for 1000.
func TestAmountRules(t *testing.T) {
	capture, refund, increment, release, void := payment.OpCapture, payment.OpRefund, payment.OpIncrement, payment.OpRelease, payment.OpVoid
	type step struct {
		kind   payment.OperationKind
		amount int64
		of     int // the operation that a refund or void is about, from 1
		why    payment.OperationRefusal
	}
	ok := payment.NotRefused
	cases := []struct {
		name  string
		steps []step
	}{
		{"all of it", []step{{capture, 0, 0, ok}, {capture, 0, 0, payment.RefusedNothingLeft}, {capture, 1, 0, payment.RefusedNothingLeft}}},
		{"several", []step{{capture, 500, 0, ok}, {capture, 501, 0, payment.RefusedAmount}, {capture, 500, 0, ok}, {capture, 1, 0, payment.RefusedNothingLeft}}},
		{"refunds", []step{{capture, 600, 0, ok}, {refund, 601, 1, payment.RefusedAmount}, {refund, 400, 1, ok}, {refund, 201, 1, payment.RefusedAmount}, {refund, 0, 1, ok}, {refund, 1, 1, payment.RefusedNothingLeft}}},
		{"refund of another's capture", []step{{capture, 600, 0, ok}, {capture, 100, 0, ok}, {refund, 101, 2, payment.RefusedAmount}}},
		{"refund of nothing", []step{{refund, 1, 9, payment.RefusedUnknown}}},
		{"increment in doubt", []step{{increment, 500, 0, ok}, {capture, 1001, 0, payment.RefusedAmount}, {capture, 1000, 0, ok}}},
		{"increment without amount", []step{{increment, 0, 0, payment.RefusedAmount}}},
		{"release", []step{{release, 51, 0, ok}, {capture, 950, 0, payment.RefusedAmount}, {capture, 949, 0, ok}, {release, 1, 0, payment.RefusedNothingLeft}}},
		{"release of all", []step{{release, 0, 0, payment.RefusedWhole}}},
		{"void", []step{{capture, 600, 0, ok}, {void, 0, 1, ok}, {void, 0, 1, payment.RefusedUndone}, {refund, 1, 1, payment.RefusedUndone}, {capture, 1000, 0, ok}}},
		{"void of what is refunded", []step{{capture, 600, 0, ok}, {refund, 1, 1, ok}, {void, 0, 1, payment.RefusedHasRefunds}}},
	}
	for _, c := range cases {
		b, _ := approvedBench(t)
		for n, s := range c.steps {
			o := op(n+1, s.kind, s.amount, number(1000+s.of))
			r := b.operate(o)
			if r.Refused != s.why {
				t.Errorf("%s, step %d: %d %d, want %d", c.name, n+1, r.Verdict, r.Refused, s.why)
			}
			if again := b.operate(o); s.why == ok && (again.Verdict != payment.OperateAgain || again.Operation.ID != o.ID) {
				t.Errorf("%s, step %d: proposed again: %+v", c.name, n+1, again)
			}
			other := *o
			other.ID, other.Fingerprint = number(5000+n), [32]byte{0xFF}
			if again := b.operate(&other); s.why == ok && again.Verdict != payment.OperateConflict {
				t.Errorf("%s, step %d: its key for something else: %+v", c.name, n+1, again)
			}
		}
	}
}

// TestOperationOrder: the next message of a payment leaves only when the one
// before is over.
func TestOperationOrder(t *testing.T) {
	b, i := approvedBench(t)
	b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
	b.operate(op(2, payment.OpRefund, 100, number(1001)))
	b.operate(op(3, payment.OpCapture, 100, payment.ID{}))
	for n, want := range []payment.ID{number(1001), number(1002), number(1003)} {
		due := b.m.Due("cb-a", b.now, 10, nil)
		if len(due) != 1 || due[0].Operation != want {
			t.Fatalf("message %d: %+v", n+1, due)
		}
		o, _ := b.claimNext(i.Session, uint64(n+1))
		if len(b.m.Due("cb-a", b.now, 10, nil)) != 0 {
			t.Fatalf("message %d: something else is due while it is in flight", n+1)
		}
		b.restart()
		b.answer(&o, map[bool]payment.AdviceVerdict{true: payment.AdviceDecided, false: payment.AdviceAcknowledged}[o.Online()], payment.ActionApprove)
		if got := b.operation(want).State; got != payment.OperationDone {
			t.Fatalf("message %d: %s", n+1, got)
		}
	}
}

// TestRefundWithoutAnswer: its reversal first, then another attempt under
// another number; where it cannot be reversed, a person.
func TestRefundWithoutAnswer(t *testing.T) {
	for _, reversible := range []bool{true, false} {
		b, i := approvedBench(t)
		b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
		n := uint64(0)
		b.settleAll(i.Session, &n)
		r := op(2, payment.OpRefund, 600, number(1001))
		r.Reversible = reversible
		b.operate(r)
		for attempt := 1; attempt <= maxAttempts; attempt++ {
			n++
			o, ok := b.claimNext(i.Session, n)
			if !ok || !o.Online() || o.STAN != payment.STAN(n) {
				t.Fatalf("attempt %d: %+v %v", attempt, o, ok)
			}
			b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
			if !reversible {
				break
			}
			if got := b.operation(r.ID); got.State != payment.OperationReversing || got.Attempt != uint8(attempt) {
				t.Fatalf("attempt %d: %s", attempt, got.State)
			}
			if again := b.operate(op(3, payment.OpRefund, 1, number(1001))); again.Refused != payment.RefusedNothingLeft {
				t.Fatalf("attempt %d: in doubt, and refused as %d", attempt, again.Refused)
			}
			n++
			undo, ok := b.claimNext(i.Session, n)
			if !ok || !undo.IsReversal() || undo.Original != (payment.Message{MTI: 0x0100, STAN: o.STAN, Transmitted: o.Transmitted}) {
				t.Fatalf("attempt %d: its reversal is %+v", attempt, undo)
			}
			b.answer(&undo, payment.AdviceAcknowledged, payment.ActionApprove)
			b.advance(b.now + 60e9)
		}
		want := map[bool]payment.OperationState{true: payment.OperationFailed, false: payment.OperationException}[reversible]
		if got := b.operation(r.ID); got.State != want {
			t.Fatalf("reversible %v: %s", reversible, got.State)
		}
		b.advance(b.now + 3600e9)
		if due := b.m.Due("cb-a", b.now, 10, nil); len(due) != 0 {
			t.Fatalf("reversible %v: due %+v", reversible, due)
		}
		left := b.operate(op(4, payment.OpRefund, 0, number(1001)))
		if (left.Verdict == payment.OperateNew) != reversible {
			t.Fatalf("reversible %v: another refund: %+v", reversible, left)
		}
	}
}

// TestLateRefundApproval: an approval that comes after its attempt was given up
// is undone, however far its reversal is.
func TestLateRefundApproval(t *testing.T) {
	for _, ended := range []bool{false, true} {
		b, i := approvedBench(t)
		b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
		n := uint64(0)
		b.settleAll(i.Session, &n)
		b.operate(op(2, payment.OpRefund, 600, number(1001)))
		o, _ := b.claimNext(i.Session, n+1)
		b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
		undo, _ := b.claimNext(i.Session, n+2)
		if ended { // "not found", believed: its life is over
			b.advance(b.now + 20e9)
			b.answer(&undo, payment.AdviceNotFound, payment.ActionDecline)
			if got := b.operation(number(1002)); got.State != payment.OperationOwed || got.Attempt != 2 {
				t.Fatalf("%s, attempt %d", got.State, got.Attempt)
			}
		}
		b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove) // the late answer
		found := false
		for _, x := range b.m.Due("cb-a", b.now+3600e9, 10, nil) {
			found = found || x.IsReversal() && x.Approved && x.Original.STAN == o.STAN
		}
		if !found {
			t.Fatalf("ended %v: nobody undoes the late approval: %+v", ended, b.m.Due("cb-a", b.now+3600e9, 10, nil))
		}
	}
}

// TestApprovedAfterDecline: a refund that the acquirer declined and then approved
// has paid. It is undone; where the link cannot, a person is told and no machine
// sends anything.
func TestApprovedAfterDecline(t *testing.T) {
	for _, reversible := range []bool{true, false} {
		b, i := approvedBench(t)
		b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
		n := uint64(0)
		b.settleAll(i.Session, &n)
		refund := op(2, payment.OpRefund, 600, number(1001))
		refund.Reversible = reversible
		b.operate(refund)
		o, _ := b.claimNext(i.Session, n+1)
		b.answer(&o, payment.AdviceDecided, payment.ActionDecline)
		b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
		if got := b.operation(number(1002)); got.State != payment.OperationDeclined {
			t.Errorf("reversible %v: a decided refund is %s", reversible, got.State)
		}
		due := b.m.Due("cb-a", b.now+3600e9, 10, nil)
		_, _, exceptions := b.m.Owing("cb-a")
		if undone := len(due) == 1 && due[0].IsReversal() && due[0].Approved && due[0].Original.STAN == o.STAN; undone != reversible || exceptions > 0 != !reversible {
			t.Errorf("reversible %v: due %+v, %d exceptions", reversible, due, exceptions)
		}
	}
}

// TestSecondAnswerFirst: the second answer of a refund is journalled before the
// one that it contradicts. Neither decides; the refund is undone, and tried again.
func TestSecondAnswerFirst(t *testing.T) {
	b, i := approvedBench(t)
	b.operate(op(1, payment.OpCapture, 600, payment.ID{}))
	n := uint64(0)
	b.settleAll(i.Session, &n)
	b.operate(op(2, payment.OpRefund, 600, number(1001)))
	o, _ := b.claimNext(i.Session, n+1)
	b.answer(&o, payment.AdviceUnknown, payment.ActionApprove)
	b.answer(&o, payment.AdviceDecided, payment.ActionDecline)
	if got := b.operation(number(1002)); got.State != payment.OperationReversing {
		t.Errorf("contradicting answers: %s", got.State)
	}
	if due := b.m.Due("cb-a", b.now, 10, nil); len(due) != 1 || !due[0].IsReversal() || !due[0].Approved {
		t.Errorf("due: %+v", due)
	}
	n += 2
	b.settleAll(i.Session, &n)
	b.advance(b.now + 10e9)
	b.settleAll(i.Session, &n)
	if got := b.operation(number(1002)); got.State != payment.OperationDone || got.Attempt != 2 {
		t.Errorf("in the end: %s, attempt %d", got.State, got.Attempt)
	}
}

// TestAutomaticCapture is in the approval's own entry.
func TestAutomaticCapture(t *testing.T) {
	b := newBench(t)
	i := b.intent(1, b.session("n1"))
	i.Capture = payment.Capturing{Mode: payment.CaptureAutomatic, Means: payment.MeansAdvice, MTI: 0x0220}
	b.open(i)
	o := outcome(i, payment.EventApproved)
	o.Status, o.Amount.Value = payment.StatusPartiallyApproved, 500
	b.settle(o)
	c := b.operation(i.ID)
	if c.Kind != payment.OpCapture || c.Amount.Value != 500 || c.State != payment.OperationOwed || !c.Automatic {
		t.Fatalf("%+v", c)
	}
	if p := b.payment(i.ID); p.Account.Captured != 500 || p.Account.Capturable() != 0 || !p.Account.Closed {
		t.Fatalf("%+v", p.Account)
	}
	// A reversal of what its gateway never heard of takes everything back.
	r := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalTimeout}))
	if r.Cancelled.State != payment.StateReversing || b.operation(i.ID).State != payment.OperationWithdrawn {
		t.Fatalf("%+v, %s", r.Cancelled, b.operation(i.ID).State)
	}
	if due := b.m.Due("cb-a", b.now, 10, nil); len(due) != 1 || !due[0].Operation.IsZero() {
		t.Fatalf("owed: %+v", due)
	}
}

// TestCapturesOver: when the time for captures ends, what nobody captured is
// reversed, once.
func TestCapturesOver(t *testing.T) {
	for _, captured := range []int64{0, 600, 1000} {
		b := newBench(t)
		i := b.intent(1, b.session("n1"))
		i.Capture.Within = 1000e9
		b.open(i)
		b.settle(outcome(i, payment.EventApproved))
		n := uint64(0)
		if captured > 0 {
			b.operate(op(1, payment.OpCapture, captured, payment.ID{}))
			b.settleAll(i.Session, &n)
		}
		b.advance(b.now + 2000e9)
		if r := b.operate(op(2, payment.OpCapture, 1, payment.ID{})); r.Refused != payment.RefusedClosed {
			t.Errorf("%d captured: a capture after the end: %d", captured, r.Refused)
		}
		due, err := ReadDue(b.disk, b.now, 10)
		if err != nil || len(due) != 1 || due[0].ID != i.ID {
			t.Fatalf("%d captured: due %+v, %v", captured, due, err)
		}
		for range 2 {
			b.do(KindExpire, AppendExpire(nil, due))
		}
		p := b.payment(i.ID)
		owed := b.m.Due("cb-a", b.now, 10, nil)
		switch captured {
		case 0:
			if p.State != payment.StateReversing || len(owed) != 1 || !owed[0].Operation.IsZero() {
				t.Errorf("nothing captured: %s, %+v", p.State, owed)
			}
		case 600:
			if p.State != payment.StateApproved || len(owed) != 1 || owed[0].Kind != payment.OpRelease || owed[0].Remains != 600 || owed[0].Amount.Value != 1000 {
				t.Errorf("600 captured: %s, %+v", p.State, owed)
			}
		default:
			if p.State != payment.StateApproved || len(owed) != 0 {
				t.Errorf("all captured: %s, %+v", p.State, owed)
			}
		}
		if due, _ := ReadDue(b.disk, b.now, 10); len(due) != 0 {
			t.Errorf("%d captured: still due %+v", captured, due)
		}
	}
}

// TestAmountRulesHold: random operations, answers that are missing, late or
// wrong, restarts. Whatever happens, no more is captured than was authorized
// and no more refunded than captured, what is in doubt counted; and what the
// acquirer took, by an account of its own, never passes them either.
func TestAmountRulesHold(t *testing.T) {
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 7))
		b, i := approvedBench(t)
		w := &world{b: b, i: i, r: r, took: map[string]int64{}, kinds: map[string]payment.OperationKind{}}
		for range 150 {
			w.step()
			w.check(seed)
			if t.Failed() {
				return
			}
		}
	}
}

// world is an acquirer that takes what it is sent, whatever the switch hears.
type world struct {
	b      *bench
	i      *payment.Intent
	r      *rand.Rand
	n      int
	stan   uint64
	ids    []payment.ID
	flight []payment.Owed
	took   map[string]int64 // by message
	kinds  map[string]payment.OperationKind
}

func (w *world) step() {
	switch w.r.IntN(8) {
	case 0, 1, 2:
		w.ask()
	case 3, 4:
		w.send()
	case 5, 6:
		w.hear()
	default:
		w.b.advance(w.b.now + payment.Instant(w.r.Int64N(20e9)))
		if w.r.IntN(4) == 0 {
			w.b.restart()
		}
	}
}

func (w *world) ask() {
	w.n++
	kinds := []payment.OperationKind{payment.OpCapture, payment.OpCapture, payment.OpRefund, payment.OpRefund, payment.OpIncrement, payment.OpRelease, payment.OpVoid}
	k := kinds[w.r.IntN(len(kinds))]
	var parent payment.ID
	if len(w.ids) > 0 {
		parent = w.ids[w.r.IntN(len(w.ids))]
	}
	o := op(w.n, k, w.r.Int64N(500), parent)
	if w.b.operate(o).Verdict == payment.OperateNew && k == payment.OpCapture {
		w.ids = append(w.ids, o.ID)
	}
}

// send claims one message; the acquirer may or may not get it.
func (w *world) send() {
	w.stan++
	o, ok := w.b.claimNext(w.i.Session, w.stan)
	if !ok {
		return
	}
	if w.r.IntN(4) > 0 {
		w.arrive(&o)
	}
	w.flight = append(w.flight, o)
}

// arrive is what the acquirer makes of a message: by the wire alone, as it does.
func (w *world) arrive(o *payment.Owed) {
	own := fmt.Sprintf("%d", o.STAN)
	if !o.IsReversal() {
		if _, again := w.took[own]; !again {
			w.took[own], w.kinds[own] = o.Amount.Value, o.Kind
		}
		return
	}
	if o.Original.STAN != 0 {
		original := fmt.Sprintf("%d", o.Original.STAN)
		if _, known := w.took[original]; known {
			w.took[original] = 0
		}
	}
}

// hear lets one message in flight end: an answer, silence, or proof that it
// never left. What is said of a request is what the acquirer did.
func (w *world) hear() {
	if len(w.flight) == 0 {
		return
	}
	at := w.r.IntN(len(w.flight))
	o := w.flight[at]
	w.flight = append(w.flight[:at], w.flight[at+1:]...)
	_, arrived := w.took[fmt.Sprintf("%d", o.STAN)]
	switch {
	case o.Online() && arrived && w.r.IntN(3) > 0:
		w.b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
	case o.Online() && !arrived && w.r.IntN(3) == 0:
		w.b.answer(&o, payment.AdviceDecided, payment.ActionDecline)
	case o.Online():
		w.b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
	case w.r.IntN(4) == 0: // silence: it is repeated
	default:
		w.arrive(&o)
		w.b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
	}
}

func (w *world) check(seed uint64) {
	p := w.b.payment(w.i.ID)
	a := &p.Account
	if a.Capturable() < 0 || a.Refunded > a.Captured || a.Captured < 0 || a.Refunded < 0 {
		w.b.t.Fatalf("seed %d: %+v", seed, a)
	}
	sums := map[payment.OperationKind]int64{}
	for own, amount := range w.took {
		sums[w.kinds[own]] += amount
	}
	if held := a.Authorized + sums[payment.OpIncrement] - a.Released; sums[payment.OpCapture] > held {
		w.b.t.Fatalf("seed %d: the acquirer captured %d of %d", seed, sums[payment.OpCapture], held)
	}
	if sums[payment.OpRefund] > a.Captured {
		w.b.t.Fatalf("seed %d: the acquirer refunded %d of %d captured", seed, sums[payment.OpRefund], a.Captured)
	}
	for _, id := range w.ids {
		if c := w.b.operation(id); c.Refunded > c.Amount.Value || c.Refunded < 0 {
			w.b.t.Fatalf("seed %d: capture %+v", seed, c)
		}
	}
}
