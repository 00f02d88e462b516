package journal

import (
	"errors"
	"testing"

	"authswitch/payment"
)

// TestFencedState: a restored state answers what it answered before, opens and
// sends nothing new until its lane is released, and numbers nothing twice.
func TestFencedState(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	before := b.do(KindLease, AppendLease(nil, s, "cb-a")).Numbers
	old, lost := b.intent(1, s), b.intent(2, s)
	b.open(old)
	b.settle(outcome(old, payment.EventApproved))
	b.open(lost)
	b.settle(outcome(lost, payment.EventUnknown))
	if err := Fence(b.disk, b.disk); err != nil {
		t.Fatal(err)
	}
	b.restart()
	s = b.session("n1")
	if o := b.open(b.intent(3, s)); o.Verdict != payment.OpenSessionEnded {
		t.Errorf("a new payment: %+v", o)
	}
	again := b.intent(1, s)
	again.ID = number(100)
	if o := b.open(again); o.Verdict != payment.OpenDecided || o.ID != old.ID {
		t.Errorf("an old key: %+v", o)
	}
	owed := b.owed("cb-a")
	if len(owed) != 1 {
		t.Fatalf("owed: %+v", owed)
	}
	claim := func() error {
		return b.do(KindClaim, AppendClaim(nil, s, 1, "cb-a", owed[0].Seq, 7, 0)).Err
	}
	if err := claim(); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("a claim: %v", err)
	}
	if c := b.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: "parcels", RequestKey: []byte("c"), Key: []byte("key-9")})); !errors.Is(c.Err, payment.ErrUnavailable) {
		t.Errorf("a cancellation: %+v", c)
	}
	b.do(KindRelease, AppendRelease(nil, "visa-b"))
	if err := claim(); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("a claim after another lane's release: %v", err)
	}
	b.do(KindRelease, AppendRelease(nil, "cb-a"))
	b.restart()
	if on, released := b.m.Fenced(); !on || len(released) != 2 {
		t.Errorf("fenced %v, released %v", on, released)
	}
	if err := claim(); err != nil {
		t.Errorf("a claim after its lane's release: %v", err)
	}
	if o := b.open(b.intent(3, s)); o.Verdict != payment.OpenNew {
		t.Errorf("a payment after its lane's release: %+v", o)
	}
	after := b.do(KindLease, AppendLease(nil, s, "cb-a")).Numbers
	if after.FirstSTAN < before.LastSTAN+400*LeaseSize || after.FirstRRN < before.LastRRN+jumpRRN {
		t.Errorf("numbers %+v after %+v", after, before)
	}
	b.do(KindRelease, AppendRelease(nil, EveryLane))
	b.restart()
	if on, _ := b.m.Fenced(); on {
		t.Error("fenced after all lanes' release")
	}
	summary, err := Summarize(b.disk)
	if err != nil || summary.Payments != 3 || summary.Owed != 1 || summary.Open != 1 {
		t.Errorf("%+v %v", summary, err)
	}
}

func TestForgottenNode(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	b.open(b.intent(1, s))
	if r := b.do(KindForgetNode, AppendForgetNode(nil, "n1")); r.Count != 1 || b.m.alive(s) || len(b.m.Sessions(nil)) != 0 {
		t.Errorf("%+v %v", r, b.m.Sessions(nil))
	}
	b.restart()
	if len(b.m.Sessions(nil)) != 0 {
		t.Error("remembered after a restart")
	}
}
