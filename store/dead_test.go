package store

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// TestDeadLeader: where a leader's process dies the others elect another at
// once, and do not wait for its heartbeat: that takes 20 s here.
func TestDeadLeader(t *testing.T) {
	c := startTrio(t)
	old := c.leader()
	for n, s := range c.stores {
		i := intent(10 + n) // whoever follows has a connection to the leader
		if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
			t.Fatalf("%s: open: %+v %v", s.cfg.Node, o, err)
		}
		patient := s.raft.ReloadableConfig()
		patient.HeartbeatTimeout, patient.ElectionTimeout = 20*time.Second, 20*time.Second
		must(t, s.raft.ReloadConfig(patient))
	}
	began := time.Now()
	must(t, c.stores[old].network.Close())
	c.f.isolate(string(trioName(old)))
	eventually(t, "another leads", func() bool {
		for n, s := range c.stores {
			if n != old && s.raft.State() == raft.Leader {
				return true
			}
		}
		return false
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("only after %s", took)
	}
}
