package stored

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/payment"
)

// What a card is opened for reaches the module as it is, and cards of different
// purposes are never in one question: each has its limit and its audit entry.
func TestPurposes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		b.module.slow = time.Millisecond // so that what waits becomes batches
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		captures := b.For(hsm.Capture)
		var all sync.WaitGroup
		for n := range 40 {
			i := b.sealed(t, n, 17+payment.KeyID(n/2%2))
			all.Go(func() {
				var c card.Card
				var err error
				if n%2 == 0 {
					err = b.Open(&c, i)
				} else {
					err = captures.Open(&c, i)
				}
				if err != nil || !c.PAN.Present() {
					t.Errorf("card %d: %v", n, err)
				}
			})
		}
		all.Wait()
		cards := map[hsm.Purpose]int{}
		for n, p := range b.module.why {
			cards[p] += b.module.asked[n]
		}
		if cards[hsm.Outbox] != 20 || cards[hsm.Capture] != 20 || len(cards) != 2 {
			t.Errorf("opened by purpose: %v", cards)
		}
		// A limit that is used up is not for ever: whoever asked comes again.
		b.module.err = fmt.Errorf("%w: 10 a second are the limit", hsm.ErrLimited)
		var c card.Card
		if err := captures.Open(&c, b.sealed(t, 99, 17)); !errors.Is(err, payment.ErrUnavailable) || c.PAN.Present() {
			t.Errorf("beyond the limit: %v", err)
		}
		if last := b.module.why[len(b.module.why)-1]; last != hsm.Capture || slices.Contains(b.module.why, hsm.Reveal) {
			t.Errorf("purposes %v", b.module.why)
		}
		cancel()
		running.Wait()
	})
}
