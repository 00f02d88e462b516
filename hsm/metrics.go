package hsm

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm/wire"
)

// result is how an operation ended: a status of the module, or one of ours.
type result uint8

const (
	resultUnavailable result = wire.Statuses + iota // no endpoint took it
	results
)

// resultDeadline is the module's: who noticed does not matter.
const resultDeadline = result(wire.StatusDeadline)

func resultOf(s wire.Status) result { return min(result(s), resultUnavailable-1) }

func (r result) String() string {
	if r == resultUnavailable {
		return "unavailable"
	}
	return wire.Status(r).String()
}

const ops = int(wire.OpCeremony) + 1

// metrics are counted with atomic adds and read when they are scraped.
type metrics struct {
	client  *Client
	counts  [ops][results]atomic.Uint64
	seconds [ops]prometheus.Histogram // the hot ones; others share one

	operations, up, inFlight, lost *prometheus.Desc
}

func newMetrics(registerer prometheus.Registerer, c *Client) (*metrics, error) {
	m := &metrics{
		client:     c,
		operations: prometheus.NewDesc("hsm_operations_total", "Operations asked of the security module, by how they ended.", []string{"op", "result"}, nil),
		up:         prometheus.NewDesc("hsm_endpoint_up", "1 while the endpoint answers.", []string{"endpoint", "connection"}, nil),
		inFlight:   prometheus.NewDesc("hsm_in_flight", "Operations that wait for their answer.", []string{"endpoint", "connection"}, nil),
		lost:       prometheus.NewDesc("hsm_endpoint_lost_total", "Times that the endpoint's connection was lost or went silent.", []string{"endpoint", "connection"}, nil),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hsm_operation_seconds", Help: "From asking to the answer, whatever it is.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	}, []string{"op"})
	for op := range m.seconds {
		switch wire.Op(op) {
		case wire.OpTranslatePIN, wire.OpGenerateMAC, wire.OpVerifyMAC, wire.OpDecryptCards:
			m.seconds[op] = seconds.WithLabelValues(wire.Op(op).String()).(prometheus.Histogram)
		default:
			m.seconds[op] = seconds.WithLabelValues("other").(prometheus.Histogram)
		}
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m, seconds} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("hsm metrics: %w", err)
		}
	}
	return m, nil
}

func index(op wire.Op) int { return min(int(op), ops-1) }

func (m *metrics) count(op wire.Op, r result) { m.counts[index(op)][r].Add(1) }

// done counts an operation that took some nanoseconds.
func (m *metrics) done(op wire.Op, r result, took int64) {
	m.count(op, r)
	m.seconds[index(op)].Observe(float64(took) / 1e9)
}

// Operations is how many operations were asked since the start: what a payment
// that needs none leaves as it was.
func (c *Client) Operations() uint64 {
	var n uint64
	for op := range c.metrics.counts {
		for r := range c.metrics.counts[op] {
			n += c.metrics.counts[op][r].Load()
		}
	}
	return n
}

// Describe names the metrics.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.operations
	ch <- m.up
	ch <- m.inFlight
	ch <- m.lost
}

// Collect reads the counters. What never happened is left out, but for the
// successes of what payments ask: their zero says something.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for op := range m.counts {
		for r := range m.counts[op] {
			n := m.counts[op][r].Load()
			hot := op == int(wire.OpTranslatePIN) || op == int(wire.OpGenerateMAC) || op == int(wire.OpVerifyMAC) || op == int(wire.OpDecryptCards)
			if n == 0 && !(hot && r == 0) {
				continue
			}
			ch <- prometheus.MustNewConstMetric(m.operations, prometheus.CounterValue, float64(n), wire.Op(op).String(), result(r).String())
		}
	}
	for i, e := range m.client.ends {
		s, connection, up := e.state(), fmt.Sprint(i), 0.0
		if s.Up {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(m.up, prometheus.GaugeValue, up, s.Name, connection)
		ch <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, float64(s.InFlight), s.Name, connection)
		ch <- prometheus.MustNewConstMetric(m.lost, prometheus.CounterValue, float64(s.Lost), s.Name, connection)
	}
}
