package reseal

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// metrics are counters, and what is under which key, read when it is asked for.
type metrics struct {
	reader             Reader
	moved, left, ended prometheus.Counter
	behind             *prometheus.Desc
}

func newMetrics(r prometheus.Registerer, reader Reader) (*metrics, error) {
	m := &metrics{
		reader: reader,
		moved:  prometheus.NewCounter(prometheus.CounterOpts{Name: "stored_cards_resealed_total", Help: "Stored cards that this node moved to the newest data key."}),
		left:   prometheus.NewCounter(prometheus.CounterOpts{Name: "stored_cards_reseal_refused_total", Help: "Stored cards that did not open and stayed as they were."}),
		ended:  prometheus.NewCounter(prometheus.CounterOpts{Name: "data_keys_destroyed_total", Help: "Data keys that this node ended because nothing was sealed under them any more."}),
		behind: prometheus.NewDesc("stored_cards_under_earlier_data_keys", "Stored cards that are not sealed under the newest data key yet.", nil, nil),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.moved, m.left, m.ended, m} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("reseal: metrics: %w", err)
		}
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) { to <- m.behind }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	counts, err := m.reader.CardsUnder()
	if err != nil {
		return // a replica that is being restored; the next scrape has it
	}
	active := m.reader.Ring().ActiveKey(payment.VaultKeys, payment.KeyData)
	behind := uint64(0)
	for id, n := range counts {
		if active == nil || id != active.ID {
			behind += n
		}
	}
	to <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(behind))
}
