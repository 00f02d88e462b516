package keyring

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// metrics are the keyring's counters, and the inventory, which is read from the
// ring when it is asked for.
type metrics struct {
	keyring       *Keyring
	rotations     *prometheus.CounterVec
	releaseFailed prometheus.Counter
	inventory     *prometheus.Desc
	expires       *prometheus.Desc
	age           *prometheus.Desc
	behind        *prometheus.Desc
}

func newMetrics(r prometheus.Registerer, k *Keyring) (*metrics, error) {
	m := &metrics{
		keyring: k,
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "working_keys_activated_total", Help: "Keys that this node made the active ones, by usage.",
		}, []string{"usage"}),
		releaseFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vault_key_releases_failed_total", Help: "Times that the security module did not give a key to this node's vault.",
		}),
		inventory: prometheus.NewDesc("working_keys", "Keys in the journal.", []string{"owner", "usage", "state"}, nil),
		expires: prometheus.NewDesc("working_key_expires_seconds",
			"Time until a key in use expires; below zero when it is over. Only keys with an end.", []string{"owner", "usage", "key"}, nil),
		age:    prometheus.NewDesc("working_key_age_seconds", "Time since the active key became active.", []string{"owner", "usage"}, nil),
		behind: prometheus.NewDesc("working_keys_under_earlier_lmk", "Keys whose block is not under the newest local master key yet.", nil, nil),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rotations, m.releaseFailed, m} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("keyring: metrics: %w", err)
		}
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.inventory, m.expires, m.age, m.behind} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	type place struct {
		owner payment.LinkName
		usage payment.KeyUsage
		state payment.KeyState
	}
	m.keyring.loadMu.Lock()
	newest := uint32(m.keyring.master)
	m.keyring.loadMu.Unlock()
	now := m.keyring.deps.Now()
	count := map[place]int{}
	behind := 0
	for _, k := range m.keyring.deps.Reader.WorkingKeys() {
		count[place{k.Link, k.Usage, k.State}]++
		if len(k.Block) > 0 && newest != 0 && k.Master != newest {
			behind++
		}
		if k.NotAfter != 0 && (k.State == payment.KeyActive || k.State == payment.KeyPending) {
			to <- prometheus.MustNewConstMetric(m.expires, prometheus.GaugeValue, time.Duration(k.NotAfter-now).Seconds(), string(k.Link), k.Usage.String(), k.ID.String())
		}
		if k.State == payment.KeyActive {
			to <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, time.Duration(now-k.Changed).Seconds(), string(k.Link), k.Usage.String())
		}
	}
	for p, n := range count {
		to <- prometheus.MustNewConstMetric(m.inventory, prometheus.GaugeValue, float64(n), string(p.owner), p.usage.String(), p.state.String())
	}
	to <- prometheus.MustNewConstMetric(m.behind, prometheus.GaugeValue, float64(behind))
}
