package zone_test

import (
	"errors"
	"testing"

	"authswitch/iso8583"
	"authswitch/payment"
)

// What one node learned of a key holds for all: a stop, and a doubt, come through
// the journal, and end with another active key.
func TestOtherNodesStopAndDoubt(t *testing.T) {
	r := newRig(t, iso8583.Security{}).keys()
	r.zoned()
	pin := func() error {
		a := request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil)
		return r.TranslatePIN(a, 0)
	}
	another := func(to payment.KeyState) payment.KeyID {
		t.Helper()
		k, err := r.journal.PutKey(&payment.Key{Link: "cb-b", Usage: payment.KeyPIN, Letters: [5]byte([]byte("P0TBN")), Block: r.journal.ring.Load().ActiveKey("cb-b", payment.KeyPIN).Block})
		if err == nil && to == payment.KeyActive {
			_, err = r.journal.AdvanceKey(&payment.KeyAdvance{ID: k.ID, To: to})
		}
		if err != nil {
			t.Fatal(err)
		}
		return k.ID
	}
	mark := func(id payment.KeyID, m payment.KeyMarks) {
		t.Helper()
		if _, err := r.journal.MarkKey(id, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	mark(r.journal.ring.Load().ActiveKey("cb-b", payment.KeyPIN).ID, payment.KeyStopped)
	if err := pin(); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("stopped by another node: %v", err)
	}
	another(payment.KeyActive)
	if err := pin(); err != nil {
		t.Errorf("after an exchange: %v", err)
	}
	doubtful := another(payment.KeyPending)
	mark(doubtful, payment.KeyDoubtful)
	another(payment.KeyPending) // on its way, and hides nothing
	if err := pin(); !errors.Is(err, payment.ErrSecurity) {
		t.Errorf("another node is in doubt: %v", err)
	}
	if wanted := r.Wanted(false); len(wanted) != 1 || wanted[0] != payment.KeyPIN {
		t.Errorf("wanted: %v", wanted)
	}
	next := another(payment.KeyPending)
	if err := r.Settle(r.journal.ring.Load().Key(next), payment.KeyTaken); err != nil {
		t.Fatal(err)
	}
	if err := pin(); err != nil {
		t.Errorf("settled by another exchange: %v", err)
	}
	if k := r.journal.ring.Load().Doubtful("cb-b", payment.KeyPIN); k != nil {
		t.Errorf("%s is pending for ever", k.ID)
	}
}
