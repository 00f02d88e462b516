package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"testing"

	"authswitch/payment"
)

// envelope is one that package vault could have written under a data key.
func envelope(key payment.KeyID, n int) []byte {
	return fmt.Appendf(binary.BigEndian.AppendUint32([]byte{2}, uint32(key)), "ciphertext %d", n)
}

func dataKey(n int) *payment.Key {
	k := workingKey(n)
	k.Link, k.Usage, k.Letters = payment.VaultKeys, payment.KeyData, [5]byte([]byte("D0ABN"))
	return k
}

// card saves a card that was sealed under a data key.
func (b *bench) card(n int, s payment.Session, key payment.KeyID) payment.ID {
	b.t.Helper()
	i := b.intent(n, s)
	i.Sealed, i.BlindIndex, i.Save = envelope(key, n), [32]byte{byte(n)}, number(1000+n)
	b.open(i)
	b.settle(outcome(i, payment.EventApproved))
	k, err := ReadCard(b.disk, i.Save)
	if err != nil || payment.SealedUnder(k.Sealed) != key {
		b.t.Fatalf("card %d: %+v %v", n, k, err)
	}
	return i.Save
}

func (b *bench) counts() map[payment.KeyID]uint64 {
	b.t.Helper()
	counts, err := ReadCardKeys(b.disk)
	if err != nil {
		b.t.Fatal(err)
	}
	return counts
}

func (b *bench) expectCounts(when string, want map[payment.KeyID]uint64) {
	b.t.Helper()
	if got := b.counts(); !maps.Equal(got, want) {
		b.t.Errorf("%s: under the keys are %v, want %v", when, got, want)
	}
}

func (b *bench) reseal(list ...payment.CardReseal) int {
	b.t.Helper()
	if err := CheckCardReseals(list); err != nil {
		b.t.Fatal(err)
	}
	return b.do(KindCardReseal, AppendCardReseals(nil, list)).Count
}

// Cards move to another key one by one, are counted under each, and keep
// everything else; a key goes only when none is left.
func TestCardReseal(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	old, err := b.putKey(dataKey(1))
	if err == nil {
		err = b.advanceKey(old, payment.KeyActive, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	one, two, three := b.card(1, s, old), b.card(2, s, old), b.card(3, s, old)
	b.expectCounts("saved", map[payment.KeyID]uint64{old: 3})
	next, err := b.putKey(dataKey(2))
	if err == nil {
		err = b.advanceKey(next, payment.KeyActive, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.now += 400 * day
	if err := b.advanceKey(old, payment.KeyRetired, 0); !errors.Is(err, payment.ErrKeyUsed) {
		t.Errorf("a key that three cards need: %v", err)
	}
	before, err := ReadCard(b.disk, one)
	if err != nil {
		t.Fatal(err)
	}
	// The first moves; what was sealed otherwise meanwhile stays.
	if n := b.reseal(payment.CardReseal{Token: one, Was: envelope(old, 1), Sealed: envelope(next, 1)},
		payment.CardReseal{Token: two, Was: envelope(old, 99), Sealed: envelope(next, 2)}); n != 1 {
		t.Errorf("%d moved", n)
	}
	after, err := ReadCard(b.disk, one)
	if err != nil || string(after.Sealed) != string(envelope(next, 1)) || after.SealedFor != one {
		t.Errorf("%+v %v", after, err)
	}
	after.Sealed, after.SealedFor = before.Sealed, before.SealedFor
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("more has changed than the envelope:\n%+v\n%+v", before, after)
	}
	b.expectCounts("one moved", map[payment.KeyID]uint64{old: 2, next: 1})
	// Asked twice, it is done once; after a restart the counts are the same.
	if n := b.reseal(payment.CardReseal{Token: one, Was: envelope(old, 1), Sealed: envelope(next, 1)}); n != 0 {
		t.Errorf("%d moved again", n)
	}
	b.restart()
	b.expectCounts("after a restart", map[payment.KeyID]uint64{old: 2, next: 1})
	// One is deleted, the last one moves: now nothing needs the key.
	b.do(KindCard, AppendCardChange(nil, &payment.CardChange{Token: two, Merchant: "parcels", Delete: true}))
	if n := b.reseal(payment.CardReseal{Token: two, Was: envelope(old, 2), Sealed: envelope(next, 2)}); n != 0 {
		t.Error("a deleted card was sealed anew")
	}
	if err := b.advanceKey(old, payment.KeyRetired, 0); !errors.Is(err, payment.ErrKeyUsed) {
		t.Errorf("a key that one card needs: %v", err)
	}
	if n := b.reseal(payment.CardReseal{Token: three, Was: envelope(old, 3), Sealed: envelope(next, 3)}); n != 1 {
		t.Error("the last one did not move")
	}
	b.expectCounts("all moved", map[payment.KeyID]uint64{next: 2})
	for _, to := range []payment.KeyState{payment.KeyRetired, payment.KeyDestroyed} {
		if err := b.advanceKey(old, to, 0); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	cards, err := ReadCards(b.disk, nil, payment.ID{}, 2)
	if err != nil || len(cards) != 2 || cards[0].Token != one {
		t.Fatalf("%+v %v", cards, err)
	}
	if cards, err = ReadCards(b.disk, cards[:0], cards[1].Token, 10); err != nil || len(cards) != 1 || cards[0].Token != three {
		t.Errorf("%+v %v", cards, err)
	}
}

// A data key is needed by what is open or owed since its time, though no card is
// under it; and an operator may force it all the same.
func TestDataKeyIsNeededByWhatIsOwed(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	var keys [2]payment.KeyID
	for n := range keys {
		var err error
		if keys[n], err = b.putKey(dataKey(n)); err == nil {
			err = b.advanceKey(keys[n], payment.KeyActive, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	i := b.intent(1, s)
	binary.BigEndian.PutUint64(i.ID[:], uint64(b.now)/1_000_000<<16)
	i.Sealed = envelope(keys[0], 1)
	b.open(i)
	if err := b.advanceKey(keys[0], payment.KeyRetired, 0); !errors.Is(err, payment.ErrKeyUsed) {
		t.Errorf("an open payment: %v", err)
	}
	b.settle(outcome(i, payment.EventUnknown))
	if err := b.advanceKey(keys[0], payment.KeyRetired, 0); !errors.Is(err, payment.ErrKeyUsed) {
		t.Errorf("an owed reversal: %v", err)
	}
	owed := b.owed("cb-a")
	if len(owed) != 1 {
		t.Fatalf("%d owed", len(owed))
	}
	b.do(KindClaim, AppendClaim(nil, s, 1, "cb-a", owed[0].Seq, 2, 3))
	b.acknowledge("cb-a", owed[0].Seq, payment.AdviceAcknowledged)
	if err := b.advanceKey(keys[0], payment.KeyRetired, 0); err != nil {
		t.Errorf("nothing open, nothing owed: %v", err)
	}
}

// A card whose record is of the version before is counted when it changes.
func TestCardsOfTheVersionBefore(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	one := b.card(1, s, 7)
	// As the binary before wrote it.
	key := appendCardKey(nil, one)
	value, _, err := b.disk.Get(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	value[0] -= cardCounted
	b.disk.kv[string(key)] = string(value)
	delete(b.disk.kv, string(appendCardKeyKey(nil, 7)))
	b.restart()
	if k, err := ReadCard(b.disk, one); err != nil || k.Token != one {
		t.Fatalf("%+v %v", k, err)
	}
	b.card(2, s, 7)
	b.expectCounts("beside it", map[payment.KeyID]uint64{7: 1})
	if n := b.reseal(payment.CardReseal{Token: one, Was: envelope(7, 1), Sealed: envelope(8, 1)}); n != 1 {
		t.Error("not moved")
	}
	b.expectCounts("moved", map[payment.KeyID]uint64{7: 1, 8: 1})
}
