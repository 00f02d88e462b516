package store

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// witness stands between Raft and its transport and remembers how far each
// other member's disk has the log, by what that member said or sent itself: an
// entry that it acknowledged, or that it sent as the leader, which writes first.
// A member that comes back with less has a disk that lied, or somebody put an
// old one back. Raft would fill its log again and not notice; but between its
// start and that moment its vote could elect a leader without what it lost, and
// the leader goes on counting what it acknowledged before. It also keeps
// snapshots from Raft that are older than what this member has.
type witness struct {
	raft.Transport
	preVote raft.WithPreVote
	close   func() error
	rpcs    chan raft.RPC
	over    chan struct{}
	once    sync.Once
	found   func(node payment.NodeID, had, has uint64)
	took    func(node payment.NodeID, term uint64, trip time.Duration, now time.Time) // entries, to that member's disk
	applied func() uint64                                                             // by this member

	mu   sync.Mutex
	had  map[payment.NodeID]evidence
	less map[payment.NodeID]evidence // of those who have less
}

// evidence is the newest entry that a member had, and the leader's term in which
// this node learned it.
type evidence struct {
	index, term uint64 // of the entry
	learned     uint64
}

// fullTransport is what Raft's network transport is.
type fullTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

func newWitness(t fullTransport, found func(payment.NodeID, uint64, uint64), took func(payment.NodeID, uint64, time.Duration, time.Time), applied func() uint64) *witness {
	w := &witness{
		Transport: t, preVote: t, close: t.Close, rpcs: make(chan raft.RPC), over: make(chan struct{}), found: found, took: took, applied: applied,
		had: map[payment.NodeID]evidence{}, less: map[payment.NodeID]evidence{},
	}
	go w.listen()
	return w
}

// listen looks at what leaders send on its way to Raft.
func (w *witness) listen() {
	from := w.Transport.Consumer()
	for {
		select {
		case rpc := <-from:
			if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && len(a.Entries) > 0 {
				last := a.Entries[len(a.Entries)-1]
				w.learn(payment.NodeID(a.ID), evidence{last.Index, last.Term, a.Term})
			}
			if i, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && i.LastLogIndex <= w.applied() {
				go hasAlready(rpc, i)
				continue
			}
			select {
			case w.rpcs <- rpc:
			case <-w.over:
				return
			}
		case <-w.over:
			return
		}
	}
}

// hasAlready answers a snapshot that ends no later than what this member has applied:
// it has what is in it. Raft would put the older state in place and look for the
// entries behind it, which need not be in the log any more, and it panics. Such a
// snapshot comes from the sender of a member that was removed, which makes a last
// effort for it when the member has joined again.
func hasAlready(rpc raft.RPC, i *raft.InstallSnapshotRequest) {
	_, _ = io.Copy(io.Discard, rpc.Reader) // the answer is read behind it
	rpc.Respond(&raft.InstallSnapshotResponse{Term: i.Term, Success: true}, nil)
}

// Consumer implements raft.Transport.
func (w *witness) Consumer() <-chan raft.RPC { return w.rpcs }

// Close implements raft.WithClose.
func (w *witness) Close() error {
	w.once.Do(func() { close(w.over) })
	return w.close()
}

// closed is the error of everything that leaves after Close: Raft's transport
// goes on dialing, and a leader that has to stop would go on heartbeating.
func (w *witness) closed() error {
	select {
	case <-w.over:
		return raft.ErrTransportShutdown
	default:
		return nil
	}
}

// RequestVote implements raft.Transport.
func (w *witness) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := w.closed(); err != nil {
		return err
	}
	return w.Transport.RequestVote(id, target, args, resp)
}

// TimeoutNow implements raft.Transport.
func (w *witness) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := w.closed(); err != nil {
		return err
	}
	return w.Transport.TimeoutNow(id, target, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (w *witness) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := w.closed(); err != nil {
		return err
	}
	return w.Transport.InstallSnapshot(id, target, args, resp, data)
}

// RequestPreVote implements raft.WithPreVote.
func (w *witness) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := w.closed(); err != nil {
		return err
	}
	return w.preVote.RequestPreVote(id, target, args, resp)
}

// AppendEntries implements raft.Transport.
func (w *witness) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := w.closed(); err != nil {
		return err
	}
	node := payment.NodeID(id)
	had := w.of(node) // before it was asked: a member that joins anew has two senders for a moment
	began := time.Now()
	if err := w.Transport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if ended := time.Now(); resp.Success && len(args.Entries) > 0 {
		w.took(node, args.Term, ended.Sub(began), ended)
	}
	switch n := len(args.Entries); {
	case resp.Success && n > 0:
		w.learn(node, evidence{args.Entries[n-1].Index, args.Entries[n-1].Term, args.Term})
	case resp.Success && args.PrevLogEntry > 0:
		w.learn(node, evidence{args.PrevLogEntry, args.PrevLogTerm, args.Term})
	case !resp.Success && resp.Term == args.Term:
		w.suspect(node, had, resp.LastLog, args.Term)
	}
	return nil
}

// learn notes what a member had. Within a term a member's log only grows; what
// an earlier leader's term taught may have been replaced since.
func (w *witness) learn(node payment.NodeID, e evidence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.had[node]; e.learned > old.learned || e.learned == old.learned && e.index > old.index {
		w.had[node] = e
	}
}

// suspect is told how far a follower's log goes, which lacks what this leader
// asked it for, and what was known of it when it was asked.
func (w *witness) suspect(node payment.NodeID, e evidence, has, term uint64) {
	w.mu.Lock()
	_, known := w.had[node]
	lost := known && e.learned == term && has < e.index && w.less[node] != e
	if lost {
		w.less[node] = e
	}
	w.mu.Unlock()
	if lost {
		w.found(node, e.index, has)
	}
}

// of is the evidence about a member.
func (w *witness) of(node payment.NodeID) evidence {
	if w == nil {
		return evidence{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.had[node]
}

// caught is how far a member must have the log that was seen with less in the
// term in which this node leads; 0 otherwise.
func (w *witness) caught(node payment.NodeID, term uint64) uint64 {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.less[node]; e.learned == term {
		return e.index
	}
	return 0
}

// forget lets a member come back with an empty log.
func (w *witness) forget(node payment.NodeID) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.had, node)
	delete(w.less, node)
}
