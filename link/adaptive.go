package link

import "time"

// adaptive decides how many authorizations each connection of a link may have
// in flight: no more than the acquirer answers as quickly as it used to. A slow
// acquirer is not helped by more at once, and what has no place there goes to
// the next route while there is time, instead of to a timeout.
//
// It is a gradient limiter (Netflix's concurrency-limits, TCP Vegas before it):
// the window is multiplied by how much slower answers became and grows by a
// step while they are quick. An answer counts as slow only against the link's
// own baseline and its timer: one threshold for all would hold back a distant
// acquirer and not protect a near one. What is owed has a window of its own
// and is never held back.
//
// It has no clock and no lock; it belongs to core.
type adaptive struct {
	floor, ceiling int
	timer          time.Duration // the acquirer's: answer_timeout

	limit    int           // what is allowed now
	baseline time.Duration // the usual mean of an interval, 0 before the first

	began    moment // the interval under way
	answers  int
	timeouts int
	took     time.Duration // all answers together
}

// The pace. An interval that is long enough, and has enough in it to be a mean
// and no accident, ends with the next answer.
const (
	adaptiveInterval = 250 * time.Millisecond
	adaptiveSamples  = 16

	// slowTimes the baseline is slow, but never less than the slowLeast-th part of
	// the timer: below that it is this machine, or chance.
	slowTimes = 3
	slowLeast = 10

	// A timeout is usual, an issuer that is silent; one in lossShare is not.
	lossShare = 8

	// growShare of the ceiling is the step by which the window grows: back to the
	// whole within sixteen intervals.
	growShare = 16
)

func newAdaptive(floor, ceiling int, timer time.Duration) adaptive {
	return adaptive{floor: floor, ceiling: ceiling, limit: ceiling, timer: timer}
}

// answered takes in an answer in time.
func (a *adaptive) answered(now moment, took time.Duration) {
	a.answers++
	a.took += took
	a.decide(now)
}

// timedOut takes in that there was none.
func (a *adaptive) timedOut(now moment) {
	a.timeouts++
	a.decide(now)
}

// decide ends an interval that is over.
func (a *adaptive) decide(now moment) {
	if a.began == 0 {
		a.began = now
	}
	if a.answers+a.timeouts < adaptiveSamples || elapsed(a.began, now) < adaptiveInterval {
		return
	}
	switch slow := a.slow(); {
	case a.timeouts*lossShare > a.answers+a.timeouts:
		a.limit /= 2
	case a.baseline != 0 && a.mean() > slow:
		a.limit = max(a.limit/2, int(int64(a.limit)*int64(slow)/int64(a.mean())))
	default:
		a.limit += max(1, a.ceiling/growShare)
	}
	a.limit = min(max(a.limit, a.floor), a.ceiling)
	a.learn()
	a.began, a.answers, a.timeouts, a.took = now, 0, 0, 0
}

// mean of the answers of the interval.
func (a *adaptive) mean() time.Duration {
	if a.answers == 0 {
		return 0
	}
	return a.took / time.Duration(a.answers)
}

// slow is where slowness begins.
func (a *adaptive) slow() time.Duration { return max(slowTimes*a.baseline, a.timer/slowLeast) }

// learn moves the baseline: quickly to where answers are quicker, slowly to
// where they are slower, and hardly while they count as slow: an acquirer that
// is slower for good has a new baseline after some minutes, one that is ill has
// not.
func (a *adaptive) learn() {
	mean := a.mean()
	switch {
	case mean == 0:
	case a.baseline == 0:
		a.baseline = mean
	case mean < a.baseline:
		a.baseline += (mean - a.baseline) / 4
	case mean <= a.slow():
		a.baseline += (mean - a.baseline) / 16
	default:
		a.baseline += (mean - a.baseline) / 4096
	}
}
