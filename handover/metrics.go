package handover

import "github.com/prometheus/client_golang/prometheus"

// metrics has a handle for every label, so that counting is an addition.
type metrics struct {
	answered, refused, unknown, served prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	handed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "handed_over_total", Help: "Requests that were to be handed to another node, by what came of it: answered, refused by all (then tried here), unknown.",
	}, []string{"result"})
	served := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "handed_here_total", Help: "Requests that other nodes handed here and that were answered.",
	})
	if r != nil {
		for _, c := range []prometheus.Collector{handed, served} {
			if err := r.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return &metrics{
		answered: handed.WithLabelValues("answered"), refused: handed.WithLabelValues("refused"), unknown: handed.WithLabelValues("unknown"), served: served,
	}, nil
}
