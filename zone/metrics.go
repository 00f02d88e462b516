package zone

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
)

// metrics are a zone's handles, resolved once. The labels that tell links apart
// are the registerer's.
type metrics struct {
	translated, generated, verified results
	pinStopped, pinStops            prometheus.Counter
	exchanges                       *prometheus.CounterVec
}

// results count one operation by how it ended.
type results struct{ ok, refused, away, failed prometheus.Counter }

func (r *results) count(err error) {
	switch {
	case err == nil:
		r.ok.Inc()
	case errors.Is(err, hsm.ErrRefused):
		r.refused.Inc()
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrBusy), errors.Is(err, hsm.ErrDeadline):
		r.away.Inc()
	default:
		r.failed.Inc()
	}
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "zone_operations_total", Help: "Operations of the security module for a link's messages, by how they ended: ok, refused, unavailable, failed.",
	}, []string{"operation", "result"})
	m := &metrics{
		pinStopped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zone_pin_refused_total", Help: "Requests with a PIN that were refused because PIN traffic is stopped.",
		}),
		pinStops: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zone_pin_stops_total", Help: "How often PIN traffic was stopped: five of the last twenty PIN answers within a minute meant a wrong key.",
		}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zone_key_exchanges_total", Help: "Keys exchanged with the peer, by how it ended: active, refused, unknown.",
		}, []string{"usage", "result"}),
	}
	of := func(operation string) results {
		return results{
			ok: operations.WithLabelValues(operation, "ok"), refused: operations.WithLabelValues(operation, "refused"),
			away: operations.WithLabelValues(operation, "unavailable"), failed: operations.WithLabelValues(operation, "failed"),
		}
	}
	m.translated, m.generated, m.verified = of("translate_pin"), of("generate_mac"), of("verify_mac")
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{operations, m.pinStopped, m.pinStops, m.exchanges} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("zone: metrics: %w", err)
		}
	}
	return m, nil
}
