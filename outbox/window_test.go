package outbox

import (
	"testing"

	"authswitch/payment"
)

// A capture or refund has no more places here than on its link, where one too
// many was refused and came again after a pause, and a reversal has them all.
func TestOperationsLeavePlacesToReversals(t *testing.T) {
	const size = 64
	stopped := make(chan struct{})
	close(stopped)
	refund, reversal := payment.Owed{Operation: payment.ID{1}, Means: payment.MeansOnline}, payment.Owed{}
	w := newWindow(size)
	fill := func(o *payment.Owed, places int) {
		t.Helper()
		n := 0
		// A closed stop and a free place are both ready: many tries find the place.
		for range 1000 {
			if w.enter(o, stopped) {
				n++
			}
		}
		if n != places {
			t.Errorf("%d places, want %d", n, places)
		}
	}
	fill(&refund, payment.PriorityMerchant.Share(size))
	fill(&reversal, size-payment.PriorityMerchant.Share(size))
	w.leave(&refund)
	fill(&reversal, 1)
	fill(&refund, 0)
	w.leave(&reversal)
	fill(&refund, 1)
}
