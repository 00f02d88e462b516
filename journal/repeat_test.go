package journal

import (
	"testing"
	"time"

	"authswitch/payment"
)

// TestRepeatAtLifeOver: the pace of repeats does not step over the moment from
// which "not found" ends a reversal.
func TestRepeatAtLifeOver(t *testing.T) {
	const second = payment.Instant(1e9)
	cases := []struct {
		name      string
		tries     int             // before this claim
		left      payment.Instant // of the original's life
		approved  bool
		exception bool
		wait      payment.Instant
	}{
		{"the pace ends before it", 2, 5 * second, false, false, 4 * second},
		{"at it", 2, 4 * second, false, false, 4 * second},
		{"steps over it", 6, 7 * second, false, false, 7 * second},
		{"steps just over it", 6, 60*second - 1, false, false, 60*second - 1},
		{"first claim", 0, second / 2, false, false, second / 2},
		{"its life is over now", 6, 0, false, false, 60 * second},
		{"its life was over", 6, -second, false, false, 60 * second},
		{"known approved", 6, 7 * second, true, false, 60 * second},
		{"exception", 6, 7 * second, false, true, 3600 * second},
	}
	for _, c := range cases {
		b, i := reach(t, payment.StateReversing)
		if c.approved {
			b.do(KindLate, AppendLate(nil, late(i, true)))
		}
		if c.exception {
			b.acknowledge("cb-a", 1, payment.AdviceExceptional)
		}
		o := b.m.lanes["cb-a"].owed[1]
		o.Tries, o.Due, o.LifeOver = uint16(c.tries), b.now, b.now+c.left
		b.m.lanes["cb-a"].changed(o, o.Exception)
		r := b.do(KindClaim, AppendClaim(nil, i.Session, 1, "cb-a", 1, 100, 1))
		if r.Err != nil || r.Owed.Due != b.now+c.wait {
			t.Errorf("%s: due after %s, want %s (%v)", c.name, time.Duration(r.Owed.Due-b.now), time.Duration(c.wait), r.Err)
		}
	}
}

// TestRepeatMeetsLifeOver plays it through: silence at first, then "not found"
// each time. The reversal ends with its original's life, not a minute later.
func TestRepeatMeetsLifeOver(t *testing.T) {
	b, i := reach(t, payment.StateReversing)
	for n := uint64(1); len(b.owed("cb-a")) == 1 && n < 50; n++ {
		b.advance(b.owed("cb-a")[0].Due)
		b.do(KindClaim, AppendClaim(nil, i.Session, n, "cb-a", 1, 100, 1))
		b.acknowledge("cb-a", 1, payment.AdviceNotFound)
	}
	if p := b.payment(i.ID); p.State != payment.StateReversed || b.now != i.LifeOver {
		t.Errorf("%s %s after its original's life", p.State, time.Duration(b.now-i.LifeOver))
	}
}
