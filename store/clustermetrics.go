package store

import (
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// clusterGauges say how this node stands among the others; read when scraped.
type clusterGauges struct {
	s *Store

	changes, contact, behind, snapshot, valid, lost, ended, deviation, agreed, members, fenced *prometheus.Desc
}

func newClusterGauges(s *Store) *clusterGauges {
	return &clusterGauges{
		s:         s,
		changes:   prometheus.NewDesc("raft_leader_changes_total", "Leaders that this node has seen since its start.", nil, nil),
		contact:   prometheus.NewDesc("raft_leader_contact_seconds", "Since this node heard of the leader; 0 on the leader.", nil, nil),
		behind:    prometheus.NewDesc("raft_apply_lag_entries", "Entries that are committed and not yet applied here.", nil, nil),
		snapshot:  prometheus.NewDesc("raft_snapshot_age_seconds", "Since the last snapshot of the state, or since the start.", nil, nil),
		valid:     prometheus.NewDesc("session_valid", "1 while this node may write requests, else 0.", nil, nil),
		lost:      prometheus.NewDesc("sessions_lost_total", "Sessions that this node lost since its start.", nil, nil),
		ended:     prometheus.NewDesc("sessions_ended_total", "Silent members' sessions that this node ended as the leader; what they left open is reversed.", nil, nil),
		agreed:    prometheus.NewDesc("clock_agreed", "1 while a majority's clocks say what this node's does, else 0: then nothing expires by it.", nil, nil),
		deviation: prometheus.NewDesc("clock_deviation_seconds", "How far this node's wall clock is ahead of the members' median.", nil, nil),
		members:   prometheus.NewDesc("raft_members", "Members of the cluster, by whether they vote.", []string{"voter"}, nil),
		fenced:    prometheus.NewDesc("fenced", "1 while lanes of a restored state are held back, else 0.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *clusterGauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{g.changes, g.contact, g.behind, g.snapshot, g.valid, g.lost, g.ended, g.deviation, g.agreed, g.members, g.fenced} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *clusterGauges) Collect(to chan<- prometheus.Metric) {
	s := g.s
	set := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	contact := 0.0
	if last := s.raft.LastContact(); s.raft.State() != raft.Leader && !last.IsZero() {
		contact = time.Since(last).Seconds()
	}
	voters, others := 0, 0
	if future := s.raft.GetConfiguration(); future.Error() == nil {
		for _, server := range future.Configuration().Servers {
			if server.Suffrage == raft.Voter {
				voters++
			} else {
				others++
			}
		}
	}
	fenced, _ := s.Fenced()
	set(g.changes, prometheus.CounterValue, float64(s.leaderChanges.Load()))
	set(g.contact, prometheus.GaugeValue, contact)
	set(g.behind, prometheus.GaugeValue, float64(s.raft.CommitIndex()-min(s.raft.CommitIndex(), s.raft.AppliedIndex())))
	set(g.snapshot, prometheus.GaugeValue, time.Since(s.began).Seconds()-time.Duration(s.replica.saved.Load()).Seconds())
	set(g.valid, prometheus.GaugeValue, flag(s.MayWrite(s.Session())))
	set(g.lost, prometheus.CounterValue, float64(s.own.lost.Load()))
	set(g.ended, prometheus.CounterValue, float64(s.own.ended.Load()))
	set(g.agreed, prometheus.GaugeValue, flag(s.mayExpire()))
	set(g.deviation, prometheus.GaugeValue, time.Duration(s.deviation.Load()).Seconds())
	set(g.members, prometheus.GaugeValue, float64(voters), "true")
	set(g.members, prometheus.GaugeValue, float64(others), "false")
	set(g.fenced, prometheus.GaugeValue, flag(fenced))
}
