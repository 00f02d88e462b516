package journal

import (
	"errors"
	"testing"

	"authswitch/payment"
)

func (b *bench) keepLink(k *payment.PayLink) payment.PayLinkAnswer {
	return b.do(KindPaymentLink, AppendPaymentLink(nil, k)).Link
}

func (b *bench) link(id payment.ID) payment.PayLink {
	b.t.Helper()
	k, err := ReadPaymentLink(b.disk, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

func testLink(b *bench, n int, uses uint16) *payment.PayLink {
	return &payment.PayLink{
		ID: number(700 + n), Merchant: "parcels", Gateway: "shop", Key: []byte{'l', byte(n)}, Fingerprint: [32]byte{byte(n)}, Reference: []byte("INVOICE"),
		Amount: payment.Amount{Value: 1000, Currency: 978}, ExpiresAt: b.now + day, Uses: uses,
	}
}

// A link is paid by one payment at a time and as often as it says; what is not
// approved leaves it as it was, and a restart changes nothing.
func TestPaymentLinkPaidOnce(t *testing.T) {
	b := newBench(t)
	session := b.session("n1")
	x := testLink(b, 1, 1)
	if a := b.keepLink(x); a.Verdict != payment.OperateNew {
		t.Fatalf("%+v", a)
	}
	pay := func(n int) *payment.Intent {
		i := b.intent(n, session)
		i.PaymentLink = x.ID
		return i
	}
	for n, e := range []payment.Event{payment.EventDeclined, payment.EventNeverSent, payment.EventUnknown, payment.EventApprovalRefused} {
		i := pay(10 + n)
		if o := b.open(i); o.Verdict != payment.OpenNew {
			t.Fatalf("%s: %+v", e, o)
		}
		b.restart()
		if k := b.link(x.ID); k.Busy != i.ID || k.Status(b.now) != "paying" {
			t.Errorf("%s: %+v", e, k)
		}
		if o := b.open(pay(20 + n)); o.Verdict != payment.OpenLinkBusy {
			t.Errorf("%s: a second one: %+v", e, o)
		}
		b.settle(outcome(i, e))
		if k := b.link(x.ID); !k.Payable(b.now) || k.Used != 0 {
			t.Errorf("after %s: %+v", e, k)
		}
	}
	last := pay(30)
	b.open(last)
	b.settle(outcome(last, payment.EventApproved))
	if k := b.link(x.ID); k.Status(b.now) != "paid" || k.Last != last.ID {
		t.Errorf("%+v", k)
	}
	if o := b.open(pay(31)); o.Verdict != payment.OpenLinkOver {
		t.Errorf("paid twice: %+v", o)
	}
	if o := b.open(last); o.Verdict != payment.OpenDecided {
		t.Errorf("its key is answered all the same: %+v", o)
	}
}

func TestPaymentLinkRefusals(t *testing.T) {
	b := newBench(t)
	session := b.session("n1")
	twice := testLink(b, 1, 2)
	b.keepLink(twice)
	n := 100
	open := func(change func(i *payment.Intent)) payment.OpenVerdict {
		n++
		i := b.intent(n, session)
		i.PaymentLink = twice.ID
		change(i)
		v := b.open(i).Verdict
		if v == payment.OpenNew {
			b.settle(outcome(i, payment.EventApproved))
		}
		return v
	}
	for what, c := range map[string]struct {
		change func(i *payment.Intent)
		want   payment.OpenVerdict
	}{
		"another amount":   {func(i *payment.Intent) { i.Amount.Value = 999 }, payment.OpenLinkUnknown},
		"another merchant": {func(i *payment.Intent) { i.Merchant = "books" }, payment.OpenLinkUnknown},
		"no such link":     {func(i *payment.Intent) { i.PaymentLink = number(1) }, payment.OpenLinkUnknown},
	} {
		if got := open(c.change); got != c.want {
			t.Errorf("%s: %d", what, got)
		}
	}
	nothing := func(*payment.Intent) {}
	if v := open(nothing); v != payment.OpenNew || b.link(twice.ID).Used != 1 {
		t.Errorf("first of two: %d %+v", v, b.link(twice.ID))
	}
	gone := *twice
	gone.Cancelled, gone.Merchant = true, "books"
	if a := b.keepLink(&gone); a.Verdict != payment.OperateRefused {
		t.Errorf("cancelled by another merchant: %+v", a)
	}
	gone.Merchant = "parcels"
	if a := b.keepLink(&gone); a.Verdict != payment.OperateNew || a.Link.Status(b.now) != "cancelled" {
		t.Errorf("%+v", a)
	}
	if v := open(nothing); v != payment.OpenLinkOver {
		t.Errorf("after it was cancelled: %d", v)
	}
	late := testLink(b, 2, 1)
	b.keepLink(late)
	b.advance(b.now + day)
	v, k := open(func(i *payment.Intent) { i.PaymentLink = late.ID }), b.link(late.ID)
	if v != payment.OpenLinkOver || k.Status(b.now) != "expired" {
		t.Errorf("after its time: %d", v)
	}
}

func TestPaymentLinkKeys(t *testing.T) {
	b := newBench(t)
	x := testLink(b, 1, 1)
	b.keepLink(x)
	again := *x
	again.ID = number(799)
	if a := b.keepLink(&again); a.Verdict != payment.OperateAgain || a.Link.ID != x.ID {
		t.Errorf("the same key: %+v", a)
	}
	again.Fingerprint = [32]byte{77}
	if a := b.keepLink(&again); a.Verdict != payment.OperateConflict {
		t.Errorf("the same key for something else: %+v", a)
	}
	i := b.intent(1, b.session("n1"))
	i.Key = x.Key
	if o := b.open(i); o.Verdict != payment.OpenConflict {
		t.Errorf("a payment with a link's key: %+v", o)
	}
	if _, err := ReadPaymentLink(b.disk, number(5)); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("%v", err)
	}
	bad := *x
	bad.Uses = 0
	if err := CheckPaymentLink(&bad); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}
