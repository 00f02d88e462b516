package link

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are a link's, all with its name and its scheme as labels. Only histograms cost
// something on the hot path; the rest is read from the core when asked for.
type metrics struct {
	roundTrip      prometheus.Histogram
	framesPerWrite prometheus.Histogram
	echoRTT        prometheus.Histogram
}

func (m moment) seconds() float64 { return time.Duration(m).Seconds() }

func newMetrics(registerer prometheus.Registerer, l *Link) (*metrics, error) {
	m := &metrics{
		roundTrip: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "link_round_trip_seconds", Help: "From a request's place in the outgoing buffer to its matched answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		framesPerWrite: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "link_frames_per_write", Help: "Frames that left in one write.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		echoRTT: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "link_echo_rtt_seconds", Help: "Round trip of network echoes.",
			Buckets: prometheus.ExponentialBuckets(.0001, 4, 9),
		}),
	}
	if registerer == nil {
		return m, nil
	}
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"link": string(l.cfg.Name), "scheme": l.cfg.Scheme}, registerer)
	for _, c := range append(l.readings(), m.roundTrip, m.framesPerWrite, m.echoRTT) {
		if err := labelled.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

// readings are the collectors that look at the core when they are scraped.
func (l *Link) readings() []prometheus.Collector {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, l.reading(read))
	}
	counter := func(name, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, l.reading(func() float64 { return float64(read()) }))
	}
	c := &l.core.counters
	return []prometheus.Collector{
		gauge("link_state", "0 down, 1 connected, 2 draining, 3 suspect, 4 ready; the best of its connections.", func() float64 { return float64(l.core.state()) }),
		gauge("link_held", "An operator's hold: 0 none, 1 drained, 2 signed off.", func() float64 { return float64(l.core.hold) }),
		gauge("link_in_flight", "Requests and reversals that have a place in the window.", func() float64 { return float64(l.core.table.used) }),
		gauge("link_window", "Requests that may have a place now, over all connections: less than configured while the acquirer answers slowly.", func() float64 { return float64(l.core.adaptive.limit * l.cfg.Connections) }),
		gauge("link_window_configured", "Requests that may have a place at most, over all connections.", func() float64 { return float64(l.cfg.Window * l.cfg.Connections) }),
		gauge("link_answer_baseline_seconds", "The usual time of an answer, against which slowness is measured.", func() float64 { return l.core.adaptive.baseline.Seconds() }),
		counter("link_window_refusals_total", "Reservations refused because the window was full.", func() uint64 { return c.Refusals }),
		counter("link_late_answers_total", "Answers that came after their outcome was decided.", func() uint64 { return c.Late }),
		counter("link_unmatched_answers_total", "Answers that match nothing.", func() uint64 { return c.Unmatched }),
		counter("link_reconnects_total", "Connections after each first one.", func() uint64 { return c.Reconnects }),
		counter("link_timeouts_total", "Requests without an answer in time.", func() uint64 { return c.Timeouts }),
		counter("link_lost_in_flight_total", "Requests whose connection broke after they were written.", func() uint64 { return c.Lost }),
		counter("link_not_sent_total", "Requests of which no byte left.", func() uint64 { return c.NotSent }),
		counter("link_unparsable_frames_total", "Frames that are no message of the dialect.", func() uint64 { return c.Unparsable }),
		counter("link_bad_macs_total", "Frames whose MAC does not hold, or that have none: dropped, and nothing decided by them.", func() uint64 { return c.BadMACs }),
		counter("link_unverified_frames_total", "Frames whose MAC nobody could check in time: dropped.", func() uint64 { return c.Unverified }),
		gauge("link_distrusted", "1 while bad MACs keep new work away.", func() float64 {
			if l.core.suspicious() {
				return 1
			}
			return 0
		}),
		counter("link_dropped_reports_total", "Late and unmatched answers that found the report queue full.", func() uint64 { return c.Dropped }),
	}
}

// reading reads under the lock.
func (l *Link) reading(read func() float64) func() float64 {
	return func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return read()
	}
}
