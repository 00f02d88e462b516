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
