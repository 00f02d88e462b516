package journal

import (
	"testing"

	"authswitch/payment"
)

// reach brings payment 1 of a new machine into a state.
func reach(t *testing.T, s payment.State) (*bench, *payment.Intent) {
	b := newBench(t)
	i := b.intent(1, b.session("n1"))
	if s == payment.StateNone {
		return b, i
	}
	if s == payment.StateRefundOnly {
		o := creditOf(i)
		b.do(KindCredit, AppendCredit(nil, o, i))
		return b, i
	}
	if s == payment.StateVerified {
		i.Capture.Mode = payment.CaptureNever
	}
	b.open(i)
	switch s {
	case payment.StateOpen:
	case payment.StateVerified:
		b.settle(outcome(i, payment.EventVerified))
	case payment.StateApproved:
		b.settle(outcome(i, payment.EventApproved))
	case payment.StateDeclined:
		b.settle(outcome(i, payment.EventDeclined))
	case payment.StateNotSent:
		b.settle(outcome(i, payment.EventNeverSent))
	case payment.StateReversing, payment.StateReversed, payment.StateException, payment.StateWrittenOff:
		b.settle(outcome(i, payment.EventUnknown))
		if s == payment.StateReversed {
			b.acknowledge("cb-a", 1, payment.AdviceAcknowledged)
		}
		if s == payment.StateException || s == payment.StateWrittenOff {
			b.acknowledge("cb-a", 1, payment.AdviceExceptional)
		}
		if s == payment.StateWrittenOff {
			happen(b, i, payment.EventWrittenOff)
		}
	default:
		t.Fatalf("no command leads to %s", s)
	}
	if p := b.payment(i.ID); p.State != s {
		t.Fatalf("wanted %s, got %s", s, p.State)
	}
	return b, i
}

// happen makes an event happen by the command that stands for it.
func happen(b *bench, i *payment.Intent, e payment.Event) {
	switch e {
	case payment.EventOpened:
		again := *i
		again.ID = number(2)
		b.open(&again)
	case payment.EventNextAttempt:
		next := *i
		next.Attempt = 2
		b.do(KindNext, AppendNext(nil, outcome(i, payment.EventDeclined), &next))
	case payment.EventApproved, payment.EventDeclined, payment.EventNeverSent, payment.EventUnknown, payment.EventApprovalRefused:
		b.settle(outcome(i, e))
	case payment.EventCancelled:
		b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, ID: i.ID, Reason: payment.ReversalCustomer}))
	case payment.EventVerified:
		b.settle(outcome(i, e))
	case payment.EventCredited:
		o := creditOf(i)
		b.do(KindCredit, AppendCredit(nil, o, i))
	case payment.EventSessionEnded:
		b.session("n1")
	case payment.EventOverdue:
		b.now = i.AnswerBy + 3e9
		b.do(KindSweep, AppendSweep(nil, 2e9))
	case payment.EventLateApproval, payment.EventLateDecline:
		b.do(KindLate, AppendLate(nil, late(i, e == payment.EventLateApproval)))
	case payment.EventReversalAcknowledged:
		b.acknowledge("cb-a", 1, payment.AdviceAcknowledged)
	case payment.EventOriginalNotFound:
		b.advance(i.LifeOver)
		b.acknowledge("cb-a", 1, payment.AdviceNotFound)
	case payment.EventReversalExceptional:
		b.acknowledge("cb-a", 1, payment.AdviceExceptional)
	case payment.EventWrittenOff:
		b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "ticket 7"}))
	}
}

// TestLifeCycle takes every state through every event and expects what the
// table says; an event without a meaning changes nothing.
func TestLifeCycle(t *testing.T) {
	for s := range payment.State(payment.States) {
		for e := range payment.Event(payment.Events) {
			t.Run(s.String()+"/"+e.String(), func(t *testing.T) {
				b, i := reach(t, s)
				if s == payment.StateOpen && e == payment.EventVerified {
					b, i = verifying(t)
				}
				happen(b, i, e)
				want, ok := payment.Step(s, e)
				if !ok {
					want = s
				}
				switch {
				case e == payment.EventOpened:
					checkReopened(t, b, i, s, ok)
					return
				case s == payment.StateNone && e != payment.EventCredited:
					if _, err := ReadPayment(b.disk, i.ID); err == nil {
						t.Fatal("a payment came from nothing")
					}
					return
				}
				p := b.payment(i.ID)
				if p.State != want {
					t.Fatalf("state %s, want %s", p.State, want)
				}
				owes := want == payment.StateReversing || want == payment.StateException || want == payment.StateRefundOnly
				if got := len(b.owed("cb-a")) == 1; got != owes {
					t.Fatalf("in %s: owed is %v", want, b.owed("cb-a"))
				}
				if open := want == payment.StateOpen || want == payment.StateRefundOnly; open != (p.Outcome.Status == payment.StatusNone) {
					t.Fatalf("in %s: outcome %s", want, p.Outcome.Status)
				}
				before := b.disk.dump()
				b.restart()
				if len(b.owed("cb-a")) == 1 != owes || b.disk.dump() != before {
					t.Fatal("a restart changed something")
				}
			})
		}
	}
}

// checkReopened looks at another intent with the same key.
func checkReopened(t *testing.T, b *bench, i *payment.Intent, s payment.State, free bool) {
	_, err := ReadPayment(b.disk, number(2))
	if opened := err == nil; opened != free {
		t.Fatalf("another intent with the key of one that is %s: opened %v", s, opened)
	}
	if s != payment.StateNone {
		if p := b.payment(i.ID); p.State != s {
			t.Fatalf("the first payment went from %s to %s", s, p.State)
		}
	}
}

// TestOutcomeStands tries to change an outcome by every command.
func TestOutcomeStands(t *testing.T) {
	for _, s := range []payment.State{payment.StateApproved, payment.StateDeclined, payment.StateNotSent, payment.StateReversing, payment.StateReversed, payment.StateException, payment.StateWrittenOff} {
		for e := payment.EventNextAttempt; e <= payment.EventWrittenOff; e++ {
			b, i := reach(t, s)
			before := b.payment(i.ID).Outcome
			happen(b, i, e)
			if after := b.payment(i.ID).Outcome; after != before {
				t.Errorf("%s after %s: the outcome went from %+v to %+v", e, s, before, after)
			}
			if got := b.settle(outcome(i, payment.EventApproved)); got.Outcome != before {
				t.Errorf("%s after %s: a close was answered with %+v", e, s, got.Outcome)
			}
		}
	}
}

func TestOpenVerdicts(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	first := b.intent(1, s)
	check := func(name string, i *payment.Intent, want payment.OpenVerdict, id payment.ID) {
		t.Helper()
		if got := b.open(i); got.Verdict != want || got.ID != id {
			t.Errorf("%s: verdict %d of %q, want %d of %q", name, got.Verdict, got.ID[:], want, id[:])
		}
	}
	with := func(change func(*payment.Intent)) *payment.Intent {
		i := *first
		i.ID = number(2)
		change(&i)
		return &i
	}
	same := with(func(*payment.Intent) {})
	other := with(func(i *payment.Intent) { i.Fingerprint[5] = 9 })
	check("first", first, payment.OpenNew, first.ID)
	check("proposed twice", first, payment.OpenAgain, first.ID)
	check("repeat while open", same, payment.OpenRunning, first.ID)
	check("other body while open", other, payment.OpenConflict, first.ID)
	b.restart()
	check("repeat while open, after a restart", same, payment.OpenRunning, first.ID)
	b.settle(outcome(first, payment.EventDeclined))
	check("repeat", same, payment.OpenDecided, first.ID)
	check("other body", other, payment.OpenConflict, first.ID)
	check("proposed again after it ended", first, payment.OpenDecided, first.ID)
	b.now += day
	check("repeat a day later", same, payment.OpenDecided, first.ID)
	check("another merchant's key", with(func(i *payment.Intent) { i.Merchant, i.ID = "books", number(3) }), payment.OpenNew, number(3))

	nothing := with(func(i *payment.Intent) { i.ID, i.Key = number(4), nil })
	check("no key", nothing, payment.OpenNew, number(4))
	b.settle(outcome(nothing, payment.EventApproved))
	check("no key, proposed again after it ended", nothing, payment.OpenDecided, number(4))

	b.session("n1")
	check("session over", with(func(i *payment.Intent) { i.ID, i.Key = number(5), []byte("five") }), payment.OpenSessionEnded, payment.ID{})
	check("session over, but the key is decided", same, payment.OpenDecided, first.ID)
}

func TestNotSentFreesItsKey(t *testing.T) {
	b, i := reach(t, payment.StateNotSent)
	again := *i
	again.ID, again.Fingerprint = number(2), [32]byte{99}
	if got := b.open(&again); got.Verdict != payment.OpenNew {
		t.Fatalf("verdict %d", got.Verdict)
	}
	if id, err := ReadByKey(b.disk, i.Merchant, i.Key); err != nil || id != again.ID {
		t.Fatalf("the key is %q's: %v", id[:], err)
	}
}

func TestCancelBeforeOriginal(t *testing.T) {
	for _, by := range []payment.Cancellation{
		{Merchant: "parcels", Key: []byte("key-1"), Reason: payment.ReversalCustomer},
		{Merchant: "parcels", Reference: []byte("ORDER-1"), Reason: payment.ReversalCustomer},
	} {
		b := newBench(t)
		s := b.session("n1")
		if c := b.do(KindCancel, AppendCancel(nil, &by)).Cancelled; c.Found {
			t.Fatal("found what never was")
		}
		b.restart()
		b.now += day
		if got := b.open(b.intent(1, s)); got.Verdict != payment.OpenBarred {
			t.Errorf("cancelled by %q %q: the original came and got verdict %d", by.Key, by.Reference, got.Verdict)
		}
		if got := b.open(b.intent(2, s)); got.Verdict != payment.OpenNew {
			t.Errorf("another payment got verdict %d", got.Verdict)
		}
		by.Merchant = "books"
		if got := b.open(b.intent(3, s)); got.Verdict != payment.OpenNew {
			t.Errorf("another merchant's bar: verdict %d", got.Verdict)
		}
	}
	// Nothing of it was sent, so the key is free; the cancelled request must not use it.
	b, i := reach(t, payment.StateNotSent)
	b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Key: i.Key, Reason: payment.ReversalCustomer}))
	again := *i
	again.ID = number(2)
	if got := b.open(&again); got.Verdict != payment.OpenBarred {
		t.Errorf("after cancelling what was not sent: verdict %d", got.Verdict)
	}
}

// TestCancelKeepsTheHolder: a cancellation by reference may find what was not
// sent, newest by its id where the clock that minted it was ahead. The key's next
// holder has been told an answer, and keeps it.
func TestCancelKeepsTheHolder(t *testing.T) {
	b, i := reach(t, payment.StateNotSent)
	again := *i
	again.ID = number(0) // minted by another node, whose clock is behind
	if got := b.open(&again); got.Verdict != payment.OpenNew {
		t.Fatalf("the key that was given back: verdict %d", got.Verdict)
	}
	b.settle(outcome(&again, payment.EventDeclined))
	c := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: i.Merchant, Reference: i.Reference, Reason: payment.ReversalCustomer})).Cancelled
	if c.ID != i.ID || c.Before != payment.StateNotSent || c.State != payment.StateNotSent {
		t.Errorf("the answer is another payment's: %+v", c)
	}
	third := *i
	third.ID = number(3)
	if got := b.open(&third); got.Verdict != payment.OpenDecided || got.ID != again.ID {
		t.Errorf("the holder's key after the cancellation: verdict %d, %s", got.Verdict, got.ID)
	}
}

func TestCancelTwice(t *testing.T) {
	b, i := reach(t, payment.StateApproved)
	c := payment.Cancellation{Merchant: i.Merchant, RequestKey: []byte("undo"), Reference: i.Reference, Reason: payment.ReversalCustomer}
	first := b.do(KindCancel, AppendCancel(nil, &c)).Cancelled
	if !first.Found || first.ID != i.ID || first.Before != payment.StateApproved || first.State != payment.StateReversing {
		t.Fatalf("%+v", first)
	}
	b.acknowledge("cb-a", 1, payment.AdviceAcknowledged)
	if again := b.do(KindCancel, AppendCancel(nil, &c)).Cancelled; again != first {
		t.Errorf("the same request was answered %+v, then %+v", first, again)
	}
	c.Reason = payment.ReversalSuspectedFraud
	if other := b.do(KindCancel, AppendCancel(nil, &c)).Cancelled; !other.Conflict {
		t.Errorf("another request under the same key: %+v", other)
	}
	pay := b.intent(2, i.Session)
	pay.Key = c.RequestKey
	if got := b.open(pay); got.Verdict != payment.OpenConflict {
		t.Errorf("a payment under a cancellation's key: verdict %d", got.Verdict)
	}
}

// TestNotFound is the rule that a simulation found: a reversal can overtake its
// own original.
func TestNotFound(t *testing.T) {
	cases := []struct {
		name     string
		approved bool
		over     bool
		want     payment.State
	}{
		{"unknown, original may still arrive", false, false, payment.StateReversing},
		{"unknown, original's life is over", false, true, payment.StateReversed},
		{"approved, original may still arrive", true, false, payment.StateException},
		{"approved, original's life is over", true, true, payment.StateException},
	}
	for _, c := range cases {
		b, i := reach(t, payment.StateReversing)
		if c.approved {
			b.do(KindLate, AppendLate(nil, late(i, true)))
		}
		b.advance(i.LifeOver - 1)
		if c.over {
			b.advance(i.LifeOver)
		}
		if got := b.acknowledge("cb-a", 1, payment.AdviceNotFound); got.State != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.State, c.want)
		}
		if owed := b.owed("cb-a"); (len(owed) == 0) != (c.want == payment.StateReversed) {
			t.Errorf("%s: owed %+v", c.name, owed)
		}
	}
}

// TestLateBeforeReverse is the race of an answer with its own timer: the
// approval is journalled first and must travel with the reversal.
func TestLateBeforeReverse(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b, i := reach(t, payment.StateOpen)
		b.do(KindLate, AppendLate(nil, late(i, true)))
		if restart {
			b.restart()
		}
		b.settle(outcome(i, payment.EventUnknown))
		owed := b.owed("cb-a")
		if len(owed) != 1 || !owed[0].Approved || owed[0].ApprovalCode.String() != "LATE01" {
			t.Errorf("restart %v: owed %+v", restart, owed)
		}
	}
}

func TestLateApprovalRearms(t *testing.T) {
	b, i := reach(t, payment.StateException)
	b.do(KindLate, AppendLate(nil, late(i, true)))
	owed := b.owed("cb-a")
	if len(owed) != 1 || owed[0].Exception || owed[0].Due != b.now || !owed[0].Approved {
		t.Fatalf("exception: %+v", owed)
	}
	b, i = reach(t, payment.StateReversed)
	b.do(KindLate, AppendLate(nil, late(i, true)))
	owed = b.owed("cb-a")
	if len(owed) != 1 || owed[0].Seq != 2 || owed[0].Reason != payment.ReversalLate || b.payment(i.ID).State != payment.StateReversing {
		t.Fatalf("reversed: %+v", owed)
	}
}

// TestLateApprovalOfEarlierAttempt: the first acquirer said no, the second
// approved, then the first says yes. Only the first is reversed.
func TestLateApprovalOfEarlierAttempt(t *testing.T) {
	b, i := reach(t, payment.StateOpen)
	next := *i
	next.Attempt, next.Link, next.STAN, next.MTI = 2, "visa-b", i.STAN+1, 0x0200
	if s := b.do(KindNext, AppendNext(nil, outcome(i, payment.EventDeclined), &next)).Settled; s.State != payment.StateOpen || s.SessionEnded {
		t.Fatalf("next: %+v", s)
	}
	b.settle(outcome(&next, payment.EventApproved))
	b.do(KindLate, AppendLate(nil, late(i, true)))
	if p := b.payment(i.ID); p.State != payment.StateApproved || p.Outcome.Status != payment.StatusApproved || p.Intent.Link != "visa-b" {
		t.Fatalf("payment: %s %+v", p.State, p.Outcome)
	}
	owed := b.owed("cb-a")
	if len(owed) != 1 || owed[0].Attempt != 1 || !owed[0].Approved || len(b.owed("visa-b")) != 0 {
		t.Fatalf("owed: %+v", owed)
	}
	if p, err := ReadOriginal(b.disk, i.ID, owed[0].Attempt); err != nil || p.Intent.Link != "cb-a" || p.Intent.STAN != i.STAN || p.Intent.MTI != i.MTI {
		t.Fatalf("the reversal would name attempt %d on %s with trace number %s: %v", p.Intent.Attempt, p.Intent.Link, p.Intent.STAN, err)
	}
	if r := b.acknowledge("cb-a", owed[0].Seq, payment.AdviceAcknowledged); r.State != payment.StateApproved || len(b.owed("cb-a")) != 0 {
		t.Fatalf("acknowledged: %+v, owed %+v", r, b.owed("cb-a"))
	}
}

func TestClaims(t *testing.T) {
	b, i := reach(t, payment.StateReversing)
	tried := func(number uint64) Result {
		return b.do(KindClaim, AppendClaim(nil, i.Session, number, "cb-a", 1, payment.STAN(100+number), payment.Transmitted(number)))
	}
	waits := []payment.Instant{1, 2, 4, 8, 16, 32, 60, 57, 60} // 57: its original's life is over then
	for n, wait := range waits {
		r := tried(uint64(n + 1))
		if r.Err != nil || r.Owed.STAN != 101 || r.Owed.Tries != uint16(n+1) || r.Owed.Due != b.now+wait*1e9 {
			t.Fatalf("claim %d: %+v %v", n+1, r.Owed, r.Err)
		}
		if again := tried(uint64(n + 1)); again.Err != nil || again.Owed != r.Owed {
			t.Fatalf("claim %d proposed twice: %+v %v", n+1, again.Owed, again.Err)
		}
		if early := tried(99); early.Err != payment.ErrBusy {
			t.Fatalf("early claim: %v", early.Err)
		}
		b.now = r.Owed.Due
	}
	b.acknowledge("cb-a", 1, payment.AdviceExceptional)
	b.now = b.owed("cb-a")[0].Due
	if r := tried(50); r.Err != nil || r.Owed.Due != b.now+3600e9 {
		t.Fatalf("exception: %+v %v", r.Owed, r.Err)
	}
	sent := 0
	history, err := ReadHistory(b.disk, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range history {
		if e.Kind == payment.EntryReversalSent {
			sent++
			if e.Owed == nil || e.Owed.Tries != uint16(sent) {
				t.Errorf("line of claim %d: %+v", sent, e.Owed)
			}
		}
	}
	if sent != len(waits)+1 {
		t.Errorf("%d transmissions in the history, want %d", sent, len(waits)+1)
	}
	b.session("n1")
	b.now += day
	if r := tried(51); r.Err != payment.ErrUnavailable {
		t.Errorf("claim of an ended session: %v", r.Err)
	}
}
