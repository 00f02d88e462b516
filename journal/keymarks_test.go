package journal

import (
	"errors"
	"testing"

	"authswitch/payment"
)

// A mark is on every node and after a restart, and ends with the key's state.
func TestKeyMarks(t *testing.T) {
	b := newBench(t)
	mark := func(id payment.KeyID, m payment.KeyMarks) error {
		return b.do(KindKeyMark, AppendKeyMark(nil, id, m)).Err
	}
	var ids [3]payment.KeyID
	for n := range ids {
		var err error
		if ids[n], err = b.putKey(workingKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.advanceKey(ids[0], payment.KeyActive, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mark(ids[0], payment.KeyStopped), mark(ids[1], payment.KeyDoubtful), mark(ids[1], payment.KeyDoubtful)); err != nil {
		t.Fatal(err)
	}
	if err := mark(99, payment.KeyDoubtful); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("no such key: %v", err)
	}
	for range 2 {
		r := b.ring()
		if d := r.Doubtful("cb-a", payment.KeyPIN); d == nil || d.ID != ids[1] {
			t.Errorf("doubtful %+v", d) // though a newer one is pending
		}
		if p := r.Pending("cb-a", payment.KeyPIN); p == nil || p.ID != ids[2] {
			t.Errorf("pending %+v", p)
		}
		if a := r.ActiveKey("cb-a", payment.KeyPIN); a.Marks != payment.KeyStopped {
			t.Errorf("active %+v", a)
		}
		b.restart()
	}
	for _, step := range []struct {
		id payment.KeyID
		to payment.KeyState
	}{{ids[1], payment.KeyRetired}, {ids[2], payment.KeyActive}} {
		if err := b.advanceKey(step.id, step.to, day); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range b.m.WorkingKeys() {
		if k.Marks != 0 {
			t.Errorf("%s, %s, is still marked %d", k.ID, k.State, k.Marks)
		}
	}
	if err := mark(ids[0], payment.KeyStopped); err != nil || b.m.WorkingKeys()[0].Marks != 0 {
		t.Errorf("a replaced key was marked: %v", err)
	}
}
