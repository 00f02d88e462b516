package link

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/payment"
)

// TestAdaptive: what an interval of answers does to the window.
func TestAdaptive(t *testing.T) {
	const ms, timer = time.Millisecond, 10 * time.Second
	type interval struct {
		times    int
		answers  int
		took     time.Duration // each
		timeouts int
	}
	quick, slow := interval{8, 100, 200 * ms, 0}, interval{1, 100, 2000 * ms, 0}
	for _, c := range []struct {
		name  string
		comes []interval
		want  int
	}{
		{"never more than configured", []interval{{50, 1000, 5 * ms, 0}}, 256},
		{"below a tenth of the timer nothing is slow", []interval{{8, 100, 2 * ms, 0}, {20, 100, 990 * ms, 0}}, 256},
		{"twice as slow: half", []interval{quick, slow}, 128},
		{"a third slower than slow: three quarters", []interval{quick, {1, 100, 1333 * ms, 0}}, 192},
		{"at most half at once", []interval{quick, {1, 100, 9000 * ms, 0}}, 128},
		{"never below the floor", []interval{quick, {20, 100, 9000 * ms, 0}}, 32},
		{"and back by steps", []interval{quick, {20, 100, 9000 * ms, 0}, {2, 100, 200 * ms, 0}}, 64},
		{"and back to the whole", []interval{quick, {20, 100, 9000 * ms, 0}, {14, 100, 200 * ms, 0}}, 256},
		{"a distant acquirer is not slow", []interval{{30, 100, 1500 * ms, 0}}, 256},
		{"but three times that is", []interval{{30, 100, 1500 * ms, 0}, {1, 100, 9000 * ms, 0}}, 128},
		{"one issuer that is silent", []interval{quick, {20, 99, 200 * ms, 1}}, 256},
		{"no answers at all", []interval{quick, {1, 0, 0, 64}}, 128},
		{"nor for long", []interval{quick, {9, 0, 0, 64}}, 32},
		{"too few to tell", []interval{quick, {1, 2, 9000 * ms, 4}}, 256},
		{"slow for good is usual in the end", []interval{quick, {2000, 100, 2000 * ms, 0}}, 256},
		{"ill for a minute is not", []interval{quick, {240, 100, 9000 * ms, 0}}, 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAdaptive(32, 256, timer)
			now := moment(time.Second)
			for _, i := range c.comes {
				for range i.times {
					// The last of an interval ends it, a little after its time.
					total := i.answers + i.timeouts
					for n := range total {
						at := now
						if n == total-1 {
							at = now + moment(adaptiveInterval)
						}
						if n < i.answers {
							a.answered(at, i.took)
						} else {
							a.timedOut(at)
						}
					}
					now += moment(adaptiveInterval)
				}
			}
			if a.limit != c.want {
				t.Errorf("window %d, want %d (baseline %s)", a.limit, c.want, a.baseline)
			}
		})
	}
}

// TestSlowAcquirer: the window shrinks while answers are slow and grows back
// when they are not; what is owed keeps its own, and the last places are for
// those who wait.
func TestSlowAcquirer(t *testing.T) {
	bubble(t, Config{Window: 16, WindowFloor: 4, ReversalWindow: 8}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		id := byte(0)
		// round has n requests answered together after a while.
		round := func(n int, after time.Duration) {
			t.Helper()
			var waits []<-chan result
			for range n {
				id++
				waits = append(waits, r.pending(id))
				m := h.next()
				time.AfterFunc(after, func() { h.answer(m, "00") })
			}
			for _, w := range waits {
				outcome(t, <-w)
			}
			synctest.Wait()
		}
		rounds := func(times, n int, after time.Duration, want int) {
			t.Helper()
			for range times {
				round(n, after)
			}
			if s := r.link.Status(); s.Window != 16 || s.WindowNow != want {
				t.Errorf("window %d of %d, want %d of 16", s.WindowNow, s.Window, want)
			}
		}
		free := func(p payment.Priority) (n int) {
			var taken [16]payment.Slot
			for ; n < len(taken); n++ {
				taken[n].Priority = p
				if err := r.link.Reserve(&taken[n], payment.ID{0xF0}, 1); err != nil {
					if !errors.Is(err, payment.ErrBusy) {
						t.Error(err)
					}
					break
				}
			}
			for i := range n {
				r.link.Release(&taken[i])
			}
			return n
		}
		rounds(4, 16, 100*time.Millisecond, 16)
		if customer, merchant, batch := free(payment.PriorityCustomer), free(payment.PriorityMerchant), free(payment.PriorityBatch); customer != 14 || merchant != 12 || batch != 10 {
			t.Errorf("%d places for customers, %d for merchants, %d for batches", customer, merchant, batch)
		}
		rounds(2, 16, 4*time.Second, 8)
		rounds(6, 4, 4*time.Second, 4)
		if n := free(payment.PriorityCustomer); n != 4 {
			t.Errorf("%d places in the smallest window", n)
		}
		var owed [8]payment.Slot
		for i := range owed {
			if err := r.link.ReserveOwed(&owed[i], &payment.Owed{Seq: uint64(i), ID: payment.ID{0xE0, byte(i)}}, payment.RRN{}); err != nil {
				t.Errorf("reversal %d: %v", i, err)
			}
		}
		for i := range owed {
			r.link.Release(&owed[i])
		}
		rounds(64, 4, 70*time.Millisecond, 16)
	})
}
