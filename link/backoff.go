package link

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// maxDoublings bounds the shift in backoff; 100 ms doubled 20 times is a day.
const maxDoublings = 20

// backoff is how long to wait before the next dial after so many failures in a
// row, the first being 1: doubling, with jitter over the upper half so that
// connections which broke together do not come back together, not even the
// first time.
func backoff(failures int, shortest, longest time.Duration, random uint64) time.Duration {
	d := longest
	if failures <= maxDoublings && shortest<<failures < longest {
		d = shortest << failures
	}
	d -= time.Duration(random % uint64(d/2+1))
	return max(d, shortest)
}

// DialBudget is the dials that all links of a node together may start. After
// an outage of the network every link has something to dial at once, and the
// acquirers' front ends are often the same machines.
type DialBudget struct{ limiter *rate.Limiter }

// NewDialBudget allows perSecond dials in the long run and burst at once.
func NewDialBudget(perSecond float64, burst int) *DialBudget {
	return &DialBudget{rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// wait returns when a dial may start, or with the context's error.
func (b *DialBudget) wait(ctx context.Context) error {
	if b == nil {
		return nil
	}
	return b.limiter.Wait(ctx)
}
