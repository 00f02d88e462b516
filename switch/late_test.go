package switching_test

import (
	"testing"
	"testing/synctest"

	"authswitch/payment"
)

// A late answer is journalled once, waits for a journal that is away for a
// moment, and is given up where no try can find its payment or the journal
// stays away.
func TestLate(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails int
		err   error
		calls int
	}{
		{"at once", 0, nil, 1},
		{"no leader for a moment", 3, payment.ErrUnavailable, 4},
		{"no such payment", 100, payment.ErrNotFound, 1},
		{"away for good", 100, payment.ErrUnavailable, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.journal.lateFails, r.journal.err["late"] = c.fails, c.err
				r.Late(payment.Late{Link: "a", Attempt: 1})
				if len(r.journal.calls) != c.calls {
					t.Errorf("%d tries, want %d", len(r.journal.calls), c.calls)
				}
			})
		})
	}
}
