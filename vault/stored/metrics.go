package stored

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are handles, resolved once.
type metrics struct {
	held, file, module             prometheus.Counter // how a card was opened
	altered, failed, limited, full prometheus.Counter // why one was not
}

func newMetrics(r prometheus.Registerer, c *Cards) (*metrics, error) {
	opened := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stored_cards_opened_total", Help: "Stored cards opened: held in this node's memory, by the security module, or under the key file.",
	}, []string{"from"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stored_cards_refused_total", Help: "Stored cards not opened: altered or of an unknown key, the security module away, its limit for the purpose used up, or the queue full.",
	}, []string{"reason"})
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stored_cards_held", Help: "Card numbers in memory for reversals that are not acknowledged yet.",
	}, func() float64 { return float64(c.held.size()) })
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "stored_cards_waiting", Help: "Stored cards that wait for the security module.",
	}, func() float64 { return float64(len(c.queue)) })
	if r != nil {
		for _, m := range []prometheus.Collector{opened, refused, held, waiting} {
			if err := r.Register(m); err != nil {
				return nil, fmt.Errorf("stored cards: metrics: %w", err)
			}
		}
	}
	return &metrics{
		held: opened.WithLabelValues("memory"), file: opened.WithLabelValues("key_file"), module: opened.WithLabelValues("hsm"),
		altered: refused.WithLabelValues("altered"), failed: refused.WithLabelValues("hsm_away"), limited: refused.WithLabelValues("limited"), full: refused.WithLabelValues("queue_full"),
	}, nil
}
