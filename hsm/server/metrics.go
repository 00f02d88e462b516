package server

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/wire"
)

// metrics are counted with atomic adds and read when they are scraped.
type metrics struct {
	counts     [256][wire.Statuses]atomic.Uint64
	operations *prometheus.Desc
	order      [dukpt.TooOld + 1]prometheus.Counter
	serials    prometheus.Counter
	turnedAway prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, s *Server) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewDesc("hsmd_operations_total", "Operations answered, by how they ended.", []string{"op", "status"}, nil),
		serials: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hsmd_dukpt_refused_total", Help: "Key serial numbers that are none, or whose counter is used up.",
		}),
		turnedAway: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hsmd_connections_refused_total", Help: "Connections of peers that may not, and those too many.",
		}),
	}
	order := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hsmd_dukpt_counters_total", Help: "Counters of key serial numbers, by what their order says.",
	}, []string{"verdict"})
	for v, name := range map[dukpt.Verdict]string{dukpt.Forward: "forward", dukpt.Late: "late", dukpt.Repeated: "repeated", dukpt.TooOld: "too_old"} {
		m.order[v] = order.WithLabelValues(name)
	}
	if registerer == nil {
		return m, nil
	}
	connections := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hsmd_connections", Help: "Open connections."}, func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.connections))
	})
	working := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hsmd_workers", Help: "Operations that wait for token or audit log."}, func() float64 {
		return float64(len(s.slow))
	})
	for _, c := range []prometheus.Collector{m, order, m.serials, m.turnedAway, connections, working} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("hsmd metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(op wire.Op, s wire.Status) { m.counts[op][s].Add(1) }

// Describe names the metric.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.operations }

// Collect reads the counters; what never happened is left out.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	seen := map[[2]string]float64{}
	for op := range m.counts {
		for status := range m.counts[op] {
			if n := m.counts[op][status].Load(); n > 0 {
				seen[[2]string{wire.Op(op).String(), wire.Status(status).String()}] += float64(n)
			}
		}
	}
	for labels, n := range seen {
		ch <- prometheus.MustNewConstMetric(m.operations, prometheus.CounterValue, n, labels[0], labels[1])
	}
}
