package store

import (
	"testing"

	"github.com/hashicorp/raft"
)

// TestOlderSnapshot: the sender of a member that was removed makes a last effort
// for it, with a snapshot, seconds later; the member has joined again by then and
// has more. Raft would have gone back to the older state, and panicked for the
// entries behind it.
func TestOlderSnapshot(t *testing.T) {
	c := startTrio(t)
	leader := c.leader()
	follower := (leader + 1) % 3
	c.approve(leader, 0, 20)
	must(t, c.stores[leader].raft.Snapshot().Error())
	old, err := newSnapshots(c.disks[leader], "node/snapshots")
	must(t, err)
	list, err := old.List()
	must(t, err)
	c.approve(leader, 20, 20)
	eventually(t, "the follower has it", func() bool { return c.stores[follower].replica.appliedIndex() > list[0].Index })
	before := c.stores[follower].replica.appliedIndex()

	meta, stream, err := old.Open(list[0].ID)
	must(t, err)
	defer stream.Close()
	term := c.stores[leader].raft.CurrentTerm()
	answer := raft.InstallSnapshotResponse{}
	name := trioName(follower)
	must(t, c.stores[leader].witness.InstallSnapshot(raft.ServerID(name), raft.ServerAddress(name), &raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(trioName(leader)), Addr: []byte(trioName(leader))}, SnapshotVersion: meta.Version, Term: term, Leader: []byte(trioName(leader)),
		LastLogIndex: meta.Index, LastLogTerm: meta.Term, Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex, Size: meta.Size,
	}, &answer, stream))
	if !answer.Success || answer.Term != term {
		t.Errorf("a member that has what is in the snapshot: %+v", answer)
	}
	if got := c.stores[follower].replica.appliedIndex(); got < before {
		t.Errorf("it went back from %d to %d", before, got)
	}
	taken, err := newSnapshots(c.disks[follower], "node/snapshots")
	must(t, err)
	if list, err := taken.List(); err != nil || len(list) != 0 {
		t.Errorf("it took the snapshot: %v %v", list, err)
	}
	c.approve(leader, 40, 5)
	index := c.stores[leader].replica.appliedIndex()
	eventually(t, "the follower has it", func() bool { return c.stores[follower].replica.appliedIndex() >= index })
}

// TestUncommittedEvidence: the newest that a leader sent is hardly ever committed
// where it was received. That it sent it says that it had all before, and where its
// disk lied it is refused for that: otherwise it votes for a leader without what it
// lost, and that is lost when the third member's disk is.
func TestUncommittedEvidence(t *testing.T) {
	c := startTrio(t)
	leader := c.leader()
	follower := (leader + 1) % 3
	c.approve(leader, 0, 20)
	s := c.stores[follower]
	eventually(t, "the follower has it", func() bool { return s.raft.CommitIndex() >= c.stores[leader].raft.CommitIndex() })
	committed := s.raft.CommitIndex()

	var last raft.Log
	must(t, s.log.GetLog(s.raft.LastIndex(), &last))
	name, term := trioName(follower), c.stores[leader].raft.CurrentTerm()
	send := func(entry raft.Log) {
		t.Helper()
		answer := raft.AppendEntriesResponse{}
		must(t, c.stores[leader].witness.AppendEntries(raft.ServerID(name), raft.ServerAddress(name), &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(trioName(leader)), Addr: []byte(trioName(leader))}, Term: term,
			PrevLogEntry: last.Index, PrevLogTerm: last.Term, Entries: []*raft.Log{&entry}, LeaderCommitIndex: committed,
		}, &answer))
		if !answer.Success {
			t.Fatalf("%+v", answer)
		}
	}
	send(raft.Log{Index: last.Index + 1, Term: term, Type: raft.LogNoop})
	if got := s.acknowledged(trioName(leader)); got < committed {
		t.Errorf("the leader sent entry %d, %d is committed, and it is known to have had %d", last.Index+1, committed, got)
	}
	// What another leader put in its place proves nothing.
	s.witness.mu.Lock()
	s.witness.had[trioName(leader)] = evidence{last.Index + 1, term - 1, term - 1}
	s.witness.mu.Unlock()
	if got := s.acknowledged(trioName(leader)); got != 0 {
		t.Errorf("an entry that this log does not have: known to have had %d", got)
	}
}
