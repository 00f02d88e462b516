package journal

import (
	"errors"
	"strings"
	"testing"

	"authswitch/payment"
)

func (b *bench) change(x *payment.MerchantChange) Result {
	return b.do(KindMerchant, AppendMerchant(nil, x))
}

// A change takes on the version it was made from and on no other; every version
// stays, and a restart forgets none.
func TestMerchantVersions(t *testing.T) {
	b := newBench(t)
	b.m.MerchantsChanged()
	first := &payment.MerchantChange{ID: "parcels", By: "anna", Reason: "signed", Document: []byte(`{"a":1}`)}
	if r := b.change(first); r.Err != nil || r.Merchant.Version != 1 || r.Merchant.At != b.now {
		t.Fatalf("%+v", r)
	}
	if !b.m.MerchantsChanged() || b.m.MerchantsChanged() {
		t.Error("a change is told once")
	}
	if r := b.change(first); r.Err != nil || r.Merchant.Version != 1 || b.m.MerchantsChanged() {
		t.Errorf("proposed twice: %+v", r)
	}
	other := *first
	other.By, other.Document = "bert", []byte(`{"a":2}`)
	if r := b.change(&other); !errors.Is(r.Err, payment.ErrMerchantVersion) || r.Merchant.By != "anna" {
		t.Errorf("made from nothing, where there is something: %+v", r)
	}
	other.From = 1
	if r := b.change(&other); r.Err != nil || r.Merchant.Version != 2 {
		t.Errorf("%+v", r)
	}
	other.From = 7
	if r := b.change(&other); !errors.Is(r.Err, payment.ErrMerchantVersion) {
		t.Errorf("made from a version that never was: %+v", r)
	}
	if r := b.change(&payment.MerchantChange{ID: "parcels2", By: "anna", Document: []byte("{}")}); r.Err != nil {
		t.Errorf("%+v", r)
	}
	b.restart()
	if b.m.merchants != 2 || !b.m.MerchantsChanged() {
		t.Errorf("%d after a restart", b.m.merchants)
	}
	now, err := ReadMerchants(b.disk)
	if err != nil || len(now) != 2 || now[0].ID != "parcels" || now[0].Version != 2 || string(now[0].Document) != `{"a":2}` || now[1].ID != "parcels2" {
		t.Errorf("%+v %v", now, err)
	}
	all, err := ReadMerchantVersions(b.disk, "parcels")
	if err != nil || len(all) != 2 || all[0].By != "anna" || all[0].Reason != "signed" || all[1].By != "bert" {
		t.Errorf("%+v %v", all, err)
	}
	if _, err := ReadMerchant(b.disk, "nobody"); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestCheckMerchant(t *testing.T) {
	good := payment.MerchantChange{ID: "m", By: "anna", Document: []byte("{}")}
	if err := CheckMerchant(&good); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(x *payment.MerchantChange){
		func(x *payment.MerchantChange) { x.ID = "" },
		func(x *payment.MerchantChange) { x.By = "" },
		func(x *payment.MerchantChange) { x.Reason = strings.Repeat("x", maxText+1) },
		func(x *payment.MerchantChange) { x.Document = nil },
		func(x *payment.MerchantChange) { x.Document = make([]byte, maxMerchantDocument+1) },
	} {
		x := good
		spoil(&x)
		if err := CheckMerchant(&x); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	largest := payment.MerchantChange{ID: payment.MerchantID(strings.Repeat("m", 255)), By: strings.Repeat("b", 255), Reason: strings.Repeat("r", 255), Document: make([]byte, maxMerchantDocument)}
	if n := len(AppendMerchant(nil, &largest)); n > MaxCommand {
		t.Errorf("the largest change has %d bytes", n)
	}
}

// One card number has one token among the merchants of a group, bound to the
// merchant that saved it last; a merchant outside has its own.
func TestCardScope(t *testing.T) {
	b := newBench(t)
	session := b.session("n1")
	save := func(n int, m payment.MerchantID, scope string) payment.StoredCard {
		t.Helper()
		i := b.intent(n, session)
		i.Merchant, i.CardScope, i.Save, i.BlindIndex = m, scope, number(500+n), [32]byte{9}
		b.open(i)
		token := b.settle(outcome(i, payment.EventApproved)).Outcome.Token
		k, err := ReadCard(b.disk, token)
		if err != nil || k.Merchant != m || k.Scope != scope || k.SealedFor != i.ID {
			t.Fatalf("%d: %+v %v", n, k, err)
		}
		return k
	}
	web, counter, alone := save(1, "web", "@post"), save(2, "counter", "@post"), save(3, "web", "")
	if web.Token != counter.Token || alone.Token == web.Token {
		t.Errorf("tokens %x %x %x", web.Token, counter.Token, alone.Token)
	}
	change := payment.CardChange{Token: web.Token, Merchant: "web", Scope: "@other", Delete: true}
	if r := b.do(KindCard, AppendCardChange(nil, &change)); !errors.Is(r.Err, payment.ErrNotFound) {
		t.Errorf("deleted by another group: %+v", r)
	}
	change.Scope = "@post"
	if r := b.do(KindCard, AppendCardChange(nil, &change)); r.Err != nil || r.Card.Status != payment.CardDeleted {
		t.Errorf("%+v", r)
	}
	if again := save(4, "web", "@post"); again.Token == web.Token {
		t.Error("a deleted token came back")
	}
}

func TestUsableBy(t *testing.T) {
	for _, c := range []struct {
		k     payment.StoredCard
		m     payment.MerchantID
		scope string
		want  bool
	}{
		{payment.StoredCard{Merchant: "a"}, "a", "", true},
		{payment.StoredCard{Merchant: "a"}, "a", "@g", true},
		{payment.StoredCard{Merchant: "a"}, "b", "@g", false},
		{payment.StoredCard{Merchant: "a", Scope: "@g"}, "b", "@g", true},
		{payment.StoredCard{Merchant: "a", Scope: "@g"}, "a", "", false}, // it left the group
		{payment.StoredCard{Merchant: "a", Scope: "@g"}, "b", "@h", false},
		{payment.StoredCard{Merchant: "a", Status: payment.CardDeleted}, "a", "", false},
	} {
		if got := c.k.UsableBy(c.m, c.scope); got != c.want {
			t.Errorf("%+v by %s %q: %t", c.k, c.m, c.scope, got)
		}
	}
}

// Extras have one encoding: whatever else is refused, not guessed.
func TestIntentExtras(t *testing.T) {
	plain := payment.Intent{}
	if hasExtras(&plain) {
		t.Error("nothing is extra")
	}
	id := number(7)
	for name, bytes := range map[string]string{
		"none": "\x00", "empty value": "\x01\x03\x00", "short id": "\x01\x01\x02ab", "no such tag": "\x01\x7f\x01a",
		"twice": "\x02\x03\x01a\x03\x01b", "not in order": "\x02\x03\x01a\x01\x10" + string(id[:]), "cut": "\x02\x03\x01a", "on file, otherwise": "\x01\x04\x01\x02",
	} {
		var h intentHead
		c := cursor{b: []byte(bytes)}
		h.readExtras(&c)
		if !c.broken {
			t.Errorf("%s is taken", name)
		}
	}
}
