package outbox

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// metrics are a worker's handles, resolved once.
type metrics struct {
	first, repeat prometheus.Counter
	results       map[payment.AdviceVerdict]prometheus.Counter // read-only
	unanswered    prometheus.Counter                           // handed over, no usable answer
	notSent       prometheus.Counter                           // no byte left
	failed        prometheus.Counter                           // ours: not claimed, not encoded, not journalled
	waiting       prometheus.Counter                           // the security module is away
}

// newMetrics registers a worker's counters. The labels that tell links apart
// are the registerer's: cmd wraps it for each link.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	transmissions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reversal_transmissions_total", Help: "Reversals handed to the link: the first of each, and repeats.",
	}, []string{"transmission"})
	results := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reversal_results_total", Help: "What became of each attempt to send a reversal.",
	}, []string{"result"})
	if r != nil {
		for _, c := range []prometheus.Collector{transmissions, results} {
			if err := r.Register(c); err != nil {
				return nil, fmt.Errorf("outbox: metrics: %w", err)
			}
		}
	}
	return &metrics{
		first:  transmissions.WithLabelValues("first"),
		repeat: transmissions.WithLabelValues("repeat"),
		results: map[payment.AdviceVerdict]prometheus.Counter{
			payment.AdviceAcknowledged: results.WithLabelValues("acknowledged"),
			payment.AdviceNotFound:     results.WithLabelValues("not_found"),
			payment.AdviceExceptional:  results.WithLabelValues("exception"),
			payment.AdviceRepeat:       results.WithLabelValues("repeat_asked"),
		},
		unanswered: results.WithLabelValues("unanswered"),
		notSent:    results.WithLabelValues("not_sent"),
		failed:     results.WithLabelValues("failed"),
		waiting:    results.WithLabelValues("waits_for_hsm"),
	}, nil
}

// transmitted counts one that is about to be handed to the link.
func (m *metrics) transmitted(tries uint16) {
	if tries > 1 {
		m.repeat.Inc()
		return
	}
	m.first.Inc()
}
