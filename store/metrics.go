package store

import (
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/journal"
	"authswitch/payment"
)

// measures are observed once per batch, never per command.
type measures struct {
	commit  prometheus.Histogram
	batch   prometheus.Histogram
	forward prometheus.Histogram
	write   prometheus.Histogram
	wait    prometheus.Histogram
}

func newMeasures() measures {
	return measures{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raft_commit_seconds", Help: "From proposing a batch to having applied it.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raft_batch_commands", Help: "Commands in one Raft entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		forward: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raft_forward_seconds", Help: "From sending a batch to the leader, where that is another node, to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
		write: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raft_log_write_seconds", Help: "One synced write of the log.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "raft_queue_wait_seconds", Help: "How long the oldest command of a batch had waited for it, those of refund batches not counted.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
	}
}

// gauges are read when they are scraped.
type gauges struct {
	raft    *raft.Raft
	replica *replica
	deps    Deps

	leader, applied, owed, byLink, oldest, exceptions *prometheus.Desc
}

func newGauges(r *raft.Raft, p *replica, deps Deps) *gauges {
	link := []string{"link", "scheme"}
	return &gauges{
		raft: r, replica: p, deps: deps,
		leader:     prometheus.NewDesc("raft_leader", "1 on the leader, else 0.", nil, nil),
		applied:    prometheus.NewDesc("raft_applied_index", "The last entry that this node applied.", nil, nil),
		owed:       prometheus.NewDesc("reversals_owed", "Reversals that no link has acknowledged yet.", nil, nil),
		byLink:     prometheus.NewDesc("reversals_owed_by_link", "Reversals that a link has not acknowledged yet.", link, nil),
		oldest:     prometheus.NewDesc("reversals_oldest_age_seconds", "Age of the oldest reversal that a link owes.", link, nil),
		exceptions: prometheus.NewDesc("reversal_exceptions", "Reversals of a link that a person must look at.", link, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{g.leader, g.applied, g.owed, g.byLink, g.oldest, g.exceptions} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	leader := 0.0
	if g.raft.State() == raft.Leader {
		leader = 1
	}
	gauge(g.leader, leader)
	gauge(g.applied, float64(g.raft.AppliedIndex()))
	type lane struct {
		link              payment.LinkName
		count, exceptions int
		oldest            payment.Instant
	}
	var lanes []lane
	g.replica.withMachine(func(m *journal.Machine) {
		for _, link := range m.Lanes() {
			count, oldest, exceptions := m.Owing(link)
			lanes = append(lanes, lane{link, count, exceptions, oldest})
		}
	})
	total := 0
	for _, l := range lanes {
		total += l.count
		link, scheme := string(l.link), g.deps.Schemes[l.link]
		gauge(g.byLink, float64(l.count), link, scheme)
		gauge(g.exceptions, float64(l.exceptions), link, scheme)
		age := 0.0
		if l.count > 0 {
			age = max(0, float64(g.deps.Now()-l.oldest)/1e9)
		}
		gauge(g.oldest, age, link, scheme)
	}
	gauge(g.owed, float64(total))
}
