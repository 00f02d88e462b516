package journal

import (
	"testing"

	"authswitch/payment"
)

// TestClockForward sets the clock an hour forward: what was open or owed gets
// its time again.
func TestClockForward(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b, lost := reach(t, payment.StateReversing)
		open := b.intent(2, lost.Session)
		b.open(open)
		b.now += 3600e9
		if r := b.do(KindSweep, AppendSweep(nil, 2e9)); r.Count != 0 {
			t.Errorf("%d payments were swept by a step of the clock", r.Count)
		}
		if restart {
			b.restart()
		}
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversing {
			t.Errorf("a step of the clock made not-found final: %s", r.State)
		}
		b.advance(b.now + 12e9)
		if r := b.do(KindSweep, AppendSweep(nil, 2e9)); r.Count != 0 {
			t.Error("swept before its time")
		}
		b.advance(b.now + 1e9)
		if r := b.do(KindSweep, AppendSweep(nil, 2e9)); r.Count != 1 {
			t.Error("not swept after its time")
		}
		b.advance(b.now + 167e9)
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversed {
			t.Errorf("not-found never becomes final: %s", r.State)
		}
	}
}

// TestClockForwardWhileOpen sets the clock forward between an intent and what it
// comes to owe: the original's life begins again, too. Found by the simulation.
func TestClockForwardWhileOpen(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		i := b.intent(1, b.session("n1"))
		b.open(i)
		b.now += 3600e9
		step := b.now
		b.settle(outcome(i, payment.EventUnknown))
		if restart {
			b.restart()
		}
		b.advance(step + 179e9)
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversing {
			t.Errorf("not-found was final after less than the original's life: %s", r.State)
		}
		b.advance(step + 180e9)
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversed {
			t.Errorf("not-found never becomes final: %s", r.State)
		}
	}
}

// TestClockFarAhead opens a payment on a node whose clock is a day ahead of the
// journal's time: what it owes does not wait for that day. Found by the
// simulation.
func TestClockFarAhead(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	now := b.now
	b.now += day
	i := b.intent(1, s)
	b.now = now
	b.open(i)
	b.settle(outcome(i, payment.EventUnknown))
	b.advance(now + 241e9)
	if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversed {
		t.Errorf("not-found is not final after the original's life and a minute: %s", r.State)
	}
}

// TestClockBehind opens a payment on a node whose clock is an hour behind the
// journal's time: its deadlines are not over at once.
func TestClockBehind(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		s := b.session("n1")
		journal := b.now
		b.now -= 3600e9
		i := b.intent(1, s)
		b.now = journal
		b.open(i)
		if restart {
			b.restart()
		}
		if r := b.do(KindSweep, AppendSweep(nil, 0)); r.Count != 0 {
			t.Error("swept at once")
		}
		b.settle(outcome(i, payment.EventUnknown))
		b.advance(journal + 179e9)
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversing {
			t.Errorf("not-found was final after less than the original's life: %s", r.State)
		}
		b.advance(journal + 180e9)
		if r := b.acknowledge("cb-a", 1, payment.AdviceNotFound); r.State != payment.StateReversed {
			t.Errorf("not-found never becomes final: %s", r.State)
		}
	}
}

// TestLeases: no two sessions that may write have the same numbers.
func TestLeases(t *testing.T) {
	b := newBench(t)
	sessions := []payment.Session{b.session("n1"), b.session("n2"), b.session("n3")}
	held := map[payment.Session][]payment.Numbers{}
	rrn := uint64(0)
	for n := range 5_000 {
		s := sessions[n%7%3]
		r := b.do(KindLease, AppendLease(nil, s, "cb-a"))
		if r.Err != nil || r.Numbers.FirstSTAN < 1 || r.Numbers.LastSTAN > payment.MaxSTAN || r.Numbers.FirstRRN != rrn+1 {
			t.Fatalf("lease %d: %+v %v", n, r.Numbers, r.Err)
		}
		rrn = r.Numbers.LastRRN
		for owner, list := range held {
			for _, x := range list {
				if r.Numbers.FirstSTAN <= x.LastSTAN && x.FirstSTAN <= r.Numbers.LastSTAN {
					t.Fatalf("lease %d: session %d got %+v, session %d holds %+v", n, s, r.Numbers, owner, x)
				}
			}
		}
		list := append(held[s], r.Numbers)
		held[s] = list[max(0, len(list)-heldRanges):]
		if n == 2_500 {
			b.restart()
		}
	}
	over := sessions[0]
	b.session("n1")
	if r := b.do(KindLease, AppendLease(nil, over, "cb-a")); r.Err != payment.ErrUnavailable {
		t.Fatalf("lease of an ended session: %v", r.Err)
	}
	for _, h := range b.m.numbers["cb-a"].held {
		if h.session == over {
			t.Fatal("an ended session holds numbers")
		}
	}
}

func TestGenerations(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	for n := range 6 {
		b.open(b.intent(n+1, s))
		b.now += day
	}
	again := b.intent(1, s)
	again.ID = number(50)
	if got := b.open(again); got.Verdict != payment.OpenNew {
		t.Fatalf("a key of six days ago: verdict %d", got.Verdict)
	}
	r := b.do(KindForget, AppendForget(nil, int64(day)))
	if r.Count != 4 || len(b.m.days) != keptGenerations {
		t.Fatalf("forgot %d, kept %v", r.Count, b.m.days)
	}
	for k := range b.disk.kv {
		if k[0] == tableKeys {
			if c := (cursor{b: []byte(k[1:])}); c.u32() < b.m.days[0] {
				t.Fatal("a forgotten key is still there")
			}
		}
	}
}

// TestClockForwardDuringRefund: the clock steps while a refund is under way, or
// before it is claimed. "Not found" of it is believed when its whole life has
// passed since, not at once, and not after the step's own hour. Found by the
// simulation: the refund was tried again, and the first arrived too.
func TestClockForwardDuringRefund(t *testing.T) {
	for _, claimed := range []bool{false, true} {
		b, i := approvedBench(t)
		n := uint64(0)
		capture := op(1, payment.OpCapture, 600, payment.ID{})
		b.operate(capture)
		b.settleAll(i.Session, &n)
		refund := op(2, payment.OpRefund, 600, capture.ID)
		b.operate(refund)
		var o payment.Owed
		if claimed {
			o, _ = b.claimNext(i.Session, n+1)
		}
		b.now += 3600e9
		step := b.now
		b.do(KindSweep, AppendSweep(nil, int64(day)))
		if !claimed {
			o, _ = b.claimNext(i.Session, n+1)
		}
		b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
		reversal, _ := b.claimNext(i.Session, n+2)
		b.advance(step + 9e9 - 1) // nine seconds is how long the bench's requests live
		b.answer(&reversal, payment.AdviceNotFound, payment.ActionDecline)
		if got := b.operation(refund.ID); got.State != payment.OperationReversing {
			t.Errorf("claimed %v: not found was believed within the refund's life: %s", claimed, got.State)
		}
		b.advance(step + 9e9)
		b.answer(&reversal, payment.AdviceNotFound, payment.ActionDecline)
		if got := b.operation(refund.ID); got.State != payment.OperationOwed || got.Attempt != 2 {
			t.Errorf("claimed %v: not found is not believed after it: %s, attempt %d", claimed, got.State, got.Attempt)
		}
	}
}
