package bench

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Second is what happened in one second of a run.
type Second struct {
	At       int     `json:"at"`
	Offered  int64   `json:"offered"`
	Answered int64   `json:"answered"`
	Errors   int64   `json:"errors"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
}

// Histograms count microseconds from 1 µs to 10 minutes with three digits.
const (
	histogramLowest  = 1
	histogramHighest = int64(10 * time.Minute / time.Microsecond)
	histogramDigits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(histogramLowest, histogramHighest, histogramDigits)
}

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// Out of range is cut to the range: a lost value would flatter the tail.
	_ = h.RecordValue(min(max(d.Microseconds(), histogramLowest), histogramHighest))
}

// tally counts what happens in a run. One lock is enough: it is taken twice a
// payment for some ten nanoseconds, and a shard per core would show no gain at
// the rates one machine can offer.
type tally struct {
	mu       sync.Mutex
	latency  *hdrhistogram.Histogram
	admitted *hdrhistogram.Histogram // from the attempt that was answered, not from the intended moment
	window   *hdrhistogram.Histogram // this second's latencies
	late     *hdrhistogram.Histogram
	errors   map[string]int64
	outcomes map[string]int64 // by the answer's outcome: the response mix
	second   Second
	series   []Second

	offered, sent, answered, retried  int64
	approved, declined, unknown, shed int64
	refused, good                     int64
	openJobs                          int64
	silence                           silence
}

func newTally(load time.Duration) *tally {
	return &tally{
		silence: silence{until: load},
		latency: newHistogram(), admitted: newHistogram(), window: newHistogram(), late: newHistogram(),
		errors: map[string]int64{}, outcomes: map[string]int64{},
	}
}

// offer counts a payment whose time has come, due that long after the start.
func (t *tally) offer(due time.Duration) {
	t.mu.Lock()
	t.silence.offered(due, t.openJobs)
	t.offered++
	t.openJobs++
	t.second.Offered++
	t.mu.Unlock()
}

// leave counts an attempt that is about to be written. lateness is the
// generator's own: how long after its due time the payment got a connection.
func (t *tally) leave(first bool, lateness time.Duration) {
	t.mu.Lock()
	if first {
		t.sent++
		observe(t.late, lateness)
	} else {
		t.retried++
	}
	t.mu.Unlock()
}

// fail counts an attempt without a final answer.
func (t *tally) fail(kind string) {
	t.mu.Lock()
	t.errors[kind]++
	t.second.Errors++
	t.mu.Unlock()
}

// finish counts a final answer that came that long after the start. own is how
// long its attempt alone took; in time are those that came while load was
// offered.
func (t *tally) finish(a *answer, now, latency, own time.Duration, inTime bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openJobs--
	t.silence.answered(now, t.openJobs)
	t.answered++
	t.second.Answered++
	t.outcomes[a.outcome]++
	observe(t.latency, latency)
	observe(t.window, latency)
	observe(t.admitted, own)
	if inTime && (a.outcome == outcomeApproved || a.outcome == outcomePartially || a.outcome == outcomeDeclined) {
		t.good++
	}
	switch a.outcome {
	case outcomeApproved, outcomePartially:
		t.approved++
	case outcomeDeclined:
		t.declined++
	default:
		t.unknown++
		t.errors[a.outcome]++
		t.second.Errors++
	}
}

// refuse counts a payment that was turned away and does not come back.
func (t *tally) refuse() {
	t.mu.Lock()
	t.openJobs--
	t.refused++
	t.errors[outcomeOverloaded]++
	t.second.Errors++
	t.mu.Unlock()
}

// giveUp counts a payment that never got a final answer; now is when it was
// given up.
func (t *tally) giveUp(kind string, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.openJobs--
	if kind != kindShed {
		t.silence.ended(now)
	}
	t.errors[kind]++
	if kind == kindShed {
		t.shed++
		return
	}
	t.unknown++
	t.outcomes[kind]++
}

func (t *tally) open() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.openJobs
}

// endSecond closes a second of the series and begins the next.
func (t *tally) endSecond(at int) (closed Second, open int64, errors map[string]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.second
	s.At = at
	s.P50, s.P99, s.Max = percentile(t.window, 50), percentile(t.window, 99), float64(t.window.Max())/1000
	t.series = append(t.series, s)
	t.second = Second{}
	t.window.Reset()
	return s, t.openJobs, maps.Clone(t.errors)
}

// percentile in milliseconds; 0 of nothing.
func percentile(h *hdrhistogram.Histogram, p float64) float64 {
	if h.TotalCount() == 0 {
		return 0
	}
	return float64(h.ValueAtPercentile(p)) / 1000
}
