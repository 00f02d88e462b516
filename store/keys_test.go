package store

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/journal"
	"authswitch/payment"
)

func pinKey(check byte, block string) *payment.Key {
	return &payment.Key{
		Link: "cb-a", Usage: payment.KeyPIN, Letters: [5]byte([]byte("P0TBE")), Bits: 128, CheckValue: []byte{1, 2, check}, Block: []byte(block), Master: 1,
	}
}

// A ring changes behind the command that changed a key, and is there after a
// restart before anybody asks.
func TestRingFollowsTheJournal(t *testing.T) {
	dir := t.TempDir()
	s := start(t, vfs.Default, testConfig(dir))
	changed := s.KeysChange()
	first, err := s.PutKey(pinKey(1, "D-first"))
	if err != nil || first.State != payment.KeyPending {
		t.Fatalf("%+v %v", first, err)
	}
	select {
	case <-changed:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was told of the change")
	}
	if _, err := s.AdvanceKey(&payment.KeyAdvance{ID: first.ID, To: payment.KeyActive}); err != nil {
		t.Fatal(err)
	}
	second, err := s.PutKey(pinKey(2, "D-second"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AdvanceKey(&payment.KeyAdvance{ID: second.ID, To: payment.KeyActive, Overlap: payment.Instant(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if k, err := s.PutKey(pinKey(1, "D-other")); !errors.Is(err, payment.ErrKeyKnown) || k == nil || k.ID != first.ID {
		t.Errorf("a key that is kept already: %v %v", k, err)
	}
	if _, err := s.PutKey(&payment.Key{}); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("no key: %v", err)
	}
	if _, err := s.RewrapKey(first.ID, []byte("D-first"), []byte("D-first-2"), 2); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		active, previous, ok := s.Ring().Active("cb-a", payment.KeyPIN)
		if !ok || !bytes.Equal(active, []byte("D-second")) || !bytes.Equal(previous, []byte("D-first-2")) || len(s.WorkingKeys()) != 2 {
			t.Errorf("%s: %s %s %v", when, active, previous, ok)
		}
	}
	check("running")
	stop(t, s)
	s = start(t, vfs.Default, testConfig(dir))
	defer stop(t, s)
	check("restarted")
}
