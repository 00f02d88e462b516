package journal

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"authswitch/payment"
)

// workingKey is a key of one link and use whose check value and block are of n.
func workingKey(n int) *payment.Key {
	return &payment.Key{
		Link: "cb-a", Usage: payment.KeyPIN, Letters: [5]byte([]byte("P0TBE")), Bits: 128, CheckValue: []byte{1, byte(n >> 8), byte(n)},
		Block: fmt.Appendf(nil, "D0112P0TBE00E0000-%d", n), Master: 1, Officers: [2]string{"anna", "bruno"},
	}
}

func describeKey(k *payment.Key, err error) string {
	if k == nil {
		return fmt.Sprint("none ", err)
	}
	return fmt.Sprintf("%+v %v", *k, err)
}

// The model: a list, and the rules again as plainly as they can be said.

func (m *model) putKey(k payment.Key) (*payment.Key, error) {
	version := uint32(1)
	for i := range m.working {
		w := &m.working[i]
		if w.State != payment.KeyDestroyed && w.Letters[2] == k.Letters[2] && bytes.Equal(w.CheckValue, k.CheckValue) {
			if bytes.Equal(w.Block, k.Block) && w.Link == k.Link && w.Usage == k.Usage {
				return w, nil
			}
			return w, payment.ErrKeyKnown
		}
		if w.Link == k.Link && w.Usage == k.Usage {
			version++
		}
	}
	if k.NotAfter != 0 && (k.NotAfter <= m.now || k.NotAfter <= k.NotBefore) {
		return nil, payment.ErrKeyDates
	}
	k.ID, k.Version, k.State, k.Created, k.Changed = payment.KeyID(len(m.working)+1), version, payment.KeyPending, m.now, m.now
	m.working = append(m.working, k)
	return &m.working[len(m.working)-1], nil
}

func (m *model) advanceKey(a payment.KeyAdvance) (*payment.Key, error) {
	if a.ID == 0 || int(a.ID) > len(m.working) {
		return nil, payment.ErrNotFound
	}
	k := &m.working[a.ID-1]
	move := fmt.Sprint(k.State, ">", a.To)
	switch {
	case k.State == a.To:
		return k, nil
	case move == "pending>active":
		if m.now < k.NotBefore || k.NotAfter != 0 && m.now >= k.NotAfter {
			return k, payment.ErrKeyDates
		}
		for i := range m.working {
			w := &m.working[i]
			if w.Link == k.Link && w.Usage == k.Usage && w.State == payment.KeyActive {
				w.State, w.Changed = payment.KeyDecryptOnly, m.now
				if a.Overlap > 0 {
					w.RetireAt = m.now + a.Overlap
				}
			}
		}
	case move == "pending>retired", move == "decrypt-only>retired", move == "active>retired" && a.RetireActive:
	case move == "retired>destroyed":
		k.Block = nil
	default:
		return k, payment.ErrKeyState
	}
	k.State, k.Changed = a.To, m.now
	return k, nil
}

func (m *model) rewrapKey(id payment.KeyID, was, block []byte, master uint32) (*payment.Key, error) {
	if id == 0 || int(id) > len(m.working) {
		return nil, payment.ErrNotFound
	}
	k := &m.working[id-1]
	switch {
	case bytes.Equal(k.Block, block):
	case !bytes.Equal(k.Block, was):
		return k, payment.ErrKeyChanged
	default:
		k.Block, k.Master = block, master
	}
	return k, nil
}

func (m *model) sweepKeys() (count int) {
	if m.now-m.step < 120e9 {
		return 0
	}
	for i := range m.working {
		k := &m.working[i]
		over := (k.State == payment.KeyPending || k.State == payment.KeyActive) && k.NotAfter != 0 && k.NotAfter <= m.now ||
			k.State == payment.KeyDecryptOnly && k.RetireAt != 0 && k.RetireAt <= m.now
		if over {
			k.State, k.Changed = payment.KeyRetired, m.now
			count++
		}
	}
	return count
}

// keyCommand makes one random key command and the model's answer.
func (r *trial) keyCommand() (Kind, []byte, string) {
	id := payment.KeyID(r.rand.IntN(len(r.model.working) + 2))
	switch r.rand.IntN(8) {
	case 0, 1:
		k := workingKey(r.rand.IntN(40))
		k.Link = []payment.LinkName{"cb-a", "visa-b"}[r.rand.IntN(2)]
		k.Usage = []payment.KeyUsage{payment.KeyPIN, payment.KeyMAC}[r.rand.IntN(2)]
		if r.rand.IntN(3) == 0 {
			k.NotAfter = r.now + payment.Instant(r.rand.IntN(6)-1)*(day/4)
		}
		if r.rand.IntN(4) == 0 {
			k.NotBefore = r.now + payment.Instant(r.rand.IntN(3)-1)*(day/8)
		}
		want, err := r.model.putKey(*k)
		return KindKeyPut, AppendKeyPut(nil, k), describeKey(want, err)
	case 2:
		was, block := workingKey(r.rand.IntN(40)).Block, fmt.Appendf(nil, "rewrapped-%d", r.rand.IntN(1000))
		if int(id) <= len(r.model.working) && id > 0 && r.rand.IntN(4) > 0 {
			was = r.model.working[id-1].Block
		}
		want, err := r.model.rewrapKey(id, was, block, 2)
		return KindKeyRewrap, AppendKeyRewrap(nil, id, was, block, 2), describeKey(want, err)
	case 3:
		return KindKeySweep, AppendKeySweep(nil), fmt.Sprint(r.model.sweepKeys())
	}
	a := payment.KeyAdvance{ID: id, To: payment.KeyState(r.rand.IntN(7)), Overlap: payment.Instant(r.rand.IntN(3)) * (day / 4), RetireActive: r.rand.IntN(2) == 0}
	if r.rand.IntN(2) == 0 {
		a.To = payment.KeyActive
	}
	want, err := r.model.advanceKey(a)
	return KindKeyAdvance, AppendKeyAdvance(nil, &a), describeKey(want, err)
}

// compareKeys looks at every key, and at the ring that they make.
func (r *trial) compareKeys() {
	keys := r.machine.WorkingKeys()
	if len(keys) != len(r.model.working) {
		r.t.Errorf("seed %d: %d keys, want %d", r.seed, len(keys), len(r.model.working))
		return
	}
	active := map[string]int{}
	ring := payment.NewKeyRing(1, keys)
	for i, k := range keys {
		if got, want := describeKey(k, nil), describeKey(&r.model.working[i], nil); got != want {
			r.t.Errorf("seed %d: key\n%s\nwant\n%s", r.seed, got, want)
		}
		if k.State == payment.KeyActive {
			active[fmt.Sprint(k.Link, k.Usage)]++
			if block, _, ok := ring.Active(k.Link, k.Usage); !ok || !bytes.Equal(block, k.Block) {
				r.t.Errorf("seed %d: the ring has another active key than %s", r.seed, k.ID)
			}
		}
		if (ring.Key(k.ID) != nil) != k.Usable() {
			r.t.Errorf("seed %d: %s, %s, is in the ring or is not", r.seed, k.ID, k.State)
		}
	}
	for place, n := range active {
		if n > 1 {
			r.t.Errorf("seed %d: %s has %d active keys", r.seed, place, n)
		}
	}
}

func (b *bench) putKey(k *payment.Key) (payment.KeyID, error) {
	r := b.do(KindKeyPut, AppendKeyPut(nil, k))
	if r.Key == nil {
		return 0, r.Err
	}
	return r.Key.ID, r.Err
}

func (b *bench) advanceKey(id payment.KeyID, to payment.KeyState, overlap payment.Instant) error {
	return b.do(KindKeyAdvance, AppendKeyAdvance(nil, &payment.KeyAdvance{ID: id, To: to, Overlap: overlap})).Err
}

func (b *bench) ring() *payment.KeyRing { return payment.NewKeyRing(b.index, b.m.WorkingKeys()) }

// The life of a key, step by step.
func TestWorkingKeyLife(t *testing.T) {
	b := newBench(t)
	first, err := b.putKey(workingKey(1))
	if err != nil || first != 1 {
		t.Fatal(first, err)
	}
	if _, _, ok := b.ring().Active("cb-a", payment.KeyPIN); ok || b.ring().Pending("cb-a", payment.KeyPIN) == nil {
		t.Error("a pending key is active, or not pending")
	}
	if err := b.advanceKey(first, payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	second, err := b.putKey(workingKey(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.advanceKey(second, payment.KeyActive, day); err != nil {
		t.Fatal(err)
	}
	b.restart()
	active, previous, ok := b.ring().Active("cb-a", payment.KeyPIN)
	if !ok || !bytes.Equal(active, workingKey(2).Block) || !bytes.Equal(previous, workingKey(1).Block) {
		t.Errorf("in the overlap: %s, %s, %v", active, previous, ok)
	}
	if _, _, ok := b.ring().Active("cb-b", payment.KeyPIN); ok {
		t.Error("another link has the key")
	}
	if _, _, ok := b.ring().Active("cb-a", payment.KeyMAC); ok {
		t.Error("another use has the key")
	}
	for _, c := range []struct {
		id   payment.KeyID
		to   payment.KeyState
		want error
	}{
		{first, payment.KeyActive, payment.ErrKeyState},       // does not come back
		{first, payment.KeyDestroyed, payment.ErrKeyState},    // is retired first
		{second, payment.KeyRetired, payment.ErrKeyState},     // traffic would stop; only by force
		{second, payment.KeyPending, payment.ErrKeyState},     // nothing goes back
		{second, payment.KeyDecryptOnly, payment.ErrKeyState}, // only when replaced
		{99, payment.KeyActive, payment.ErrNotFound},
		{second, payment.KeyActive, nil}, // it is
	} {
		if err := b.advanceKey(c.id, c.to, 0); !errors.Is(err, c.want) {
			t.Errorf("%s to %s: %v, want %v", c.id, c.to, err, c.want)
		}
	}
	b.advance(b.now + day)
	b.do(KindKeySweep, AppendKeySweep(nil))
	if _, previous, ok := b.ring().Active("cb-a", payment.KeyPIN); !ok || previous != nil {
		t.Errorf("after the overlap the earlier key still is used")
	}
	if err := b.advanceKey(first, payment.KeyDestroyed, 0); err != nil {
		t.Fatal(err)
	}
	for key, value := range b.disk.kv {
		if bytes.Contains([]byte(value), workingKey(1).Block) {
			t.Errorf("the block of a destroyed key is under %q", key)
		}
	}
	if r := b.do(KindKeyAdvance, AppendKeyAdvance(nil, &payment.KeyAdvance{ID: second, To: payment.KeyRetired, RetireActive: true})); r.Err != nil {
		t.Errorf("by force: %v", r.Err)
	}
	if _, _, ok := b.ring().Active("cb-a", payment.KeyPIN); ok {
		t.Error("a retired key is used")
	}
}

// A key has one place and one use.
func TestWorkingKeyIsUnique(t *testing.T) {
	b := newBench(t)
	id, err := b.putKey(workingKey(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(*payment.Key)
		want   error
	}{
		{"the same command again", func(*payment.Key) {}, nil},
		{"another link", func(k *payment.Key) { k.Link = "cb-b" }, payment.ErrKeyKnown},
		{"another use", func(k *payment.Key) { k.Usage = payment.KeyMAC }, payment.ErrKeyKnown},
		{"another block of the same key", func(k *payment.Key) { k.Block = []byte("D0112P0TBE00E0000-other") }, payment.ErrKeyKnown},
		{"another block on another link", func(k *payment.Key) { k.Link, k.Block = "cb-b", []byte("D0112P0TBE00E0000-other") }, payment.ErrKeyKnown},
	} {
		k := workingKey(1)
		c.change(k)
		if got, err := b.putKey(k); !errors.Is(err, c.want) || got != id {
			t.Errorf("%s: %s %v, want %v", c.what, got, err, c.want)
		}
	}
	if n := len(b.m.WorkingKeys()); n != 1 {
		t.Errorf("%d keys", n)
	}
	aes := workingKey(1) // the same check value of another algorithm is another key
	aes.Letters, aes.Block = [5]byte([]byte("P0ABE")), []byte("D0144P0ABE")
	if got, err := b.putKey(aes); err != nil || got == id {
		t.Errorf("another algorithm: %s %v", got, err)
	}
}

// Dates are compared with the journal's time.
func TestWorkingKeyDates(t *testing.T) {
	b := newBench(t)
	b.session("n1")
	for _, c := range []struct {
		before, after payment.Instant
		put, activate error
	}{
		{0, 0, nil, nil},
		{b.now - 1, 0, nil, nil},
		{b.now + 1, 0, nil, payment.ErrKeyDates},
		{0, b.now + 1, nil, nil},
		{0, b.now, payment.ErrKeyDates, nil},
		{0, b.now - 1, payment.ErrKeyDates, nil},
		{b.now + 5, b.now + 5, payment.ErrKeyDates, nil},
	} {
		k := workingKey(int(c.before) + 7*int(c.after) + 11)
		k.CheckValue = fmt.Appendf(nil, "%04d", len(b.entries))
		k.NotBefore, k.NotAfter = c.before, c.after
		id, err := b.putKey(k)
		if !errors.Is(err, c.put) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.put == nil {
			if err := b.advanceKey(id, payment.KeyActive, 0); !errors.Is(err, c.activate) {
				t.Errorf("%+v: active: %v", c, err)
			}
		}
	}
}

// An expired key is used no more, but not because a clock jumped.
func TestWorkingKeyExpires(t *testing.T) {
	b := newBench(t)
	k := workingKey(1)
	k.NotAfter = b.now + day
	id, _ := b.putKey(k)
	if err := b.advanceKey(id, payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	b.now += 2 * day // one step
	if r := b.do(KindKeySweep, AppendKeySweep(nil)); r.Count != 0 || !b.m.KeysOver(b.now) {
		t.Errorf("right after a step of the clock %d keys expired", r.Count)
	}
	b.advance(b.now + keyGrace)
	if r := b.do(KindKeySweep, AppendKeySweep(nil)); r.Count != 1 || b.m.KeysOver(b.now) {
		t.Errorf("%d keys expired", r.Count)
	}
	if _, _, ok := b.ring().Active("cb-a", payment.KeyPIN); ok {
		t.Error("an expired key is used")
	}
}

// A data key that expires seals no more, but what it sealed must still open.
func TestDataKeyExpires(t *testing.T) {
	b := newBench(t)
	k := workingKey(1)
	k.Link, k.Usage, k.NotAfter = payment.VaultKeys, payment.KeyData, b.now+day
	id, _ := b.putKey(k)
	if err := b.advanceKey(id, payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	b.advance(b.now + day + keyGrace)
	if r := b.do(KindKeySweep, AppendKeySweep(nil)); r.Count != 1 || r.Key.State != payment.KeyDecryptOnly || b.ring().Key(id) == nil {
		t.Errorf("%+v", r.Key)
	}
	if _, _, ok := b.ring().Active(payment.VaultKeys, payment.KeyData); ok {
		t.Error("an expired data key seals")
	}
}

// A rewrap replaces the block it was made of, and nothing else.
func TestWorkingKeyRewrap(t *testing.T) {
	b := newBench(t)
	id, _ := b.putKey(workingKey(1))
	was, is := workingKey(1).Block, []byte("D0112P0TBE00E0000-under-lmk-2")
	for _, c := range []struct {
		what      string
		id        payment.KeyID
		was, then []byte
		want      error
	}{
		{"no such key", 7, was, is, payment.ErrNotFound},
		{"another block", id, []byte("other"), is, payment.ErrKeyChanged},
		{"the block", id, was, is, nil},
		{"proposed twice", id, was, is, nil},
		{"too late", id, was, []byte("lmk-3"), payment.ErrKeyChanged},
	} {
		if r := b.do(KindKeyRewrap, AppendKeyRewrap(nil, c.id, c.was, c.then, 2)); !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, r.Err, c.want)
		}
	}
	b.restart()
	if k := b.m.WorkingKeys()[0]; !bytes.Equal(k.Block, is) || k.Master != 2 || k.State != payment.KeyPending {
		t.Errorf("%+v", k)
	}
}

// There is one blind-index key: the second one of two nodes that both made the
// first stays where it is.
func TestOneBlindIndexKey(t *testing.T) {
	b := newBench(t)
	put := func(n int) payment.KeyID {
		k := workingKey(n)
		k.Link, k.Usage = payment.VaultKeys, payment.KeyBlindIndex
		id, err := b.putKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first, second := put(1), put(2)
	if err := b.advanceKey(second, payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.advanceKey(first, payment.KeyActive, 0); !errors.Is(err, payment.ErrKeyState) {
		t.Errorf("another one: %v", err)
	}
}

// What a ring hands out does not change under its holder.
func TestRingIsImmutable(t *testing.T) {
	b := newBench(t)
	id, _ := b.putKey(workingKey(1))
	before := b.ring()
	if err := b.advanceKey(id, payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := before.Active("cb-a", payment.KeyPIN); ok {
		t.Error("an old ring has a new key")
	}
	ring := b.ring()
	if n := testing.AllocsPerRun(100, func() { ring.Active("cb-a", payment.KeyPIN) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *payment.KeyRing
	if _, _, ok := none.Active("cb-a", payment.KeyPIN); ok || none.Key(1) != nil || none.Pending("", 0) != nil || none.Index() != 0 {
		t.Error("no ring has a key")
	}
}
