package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"authswitch/journal"
	"authswitch/payment"
)

// fabric is a network in memory whose lines can be cut.
type fabric struct {
	mu    sync.Mutex
	ends  map[string]*fabricEnd
	cuts  map[[2]string]bool // from, to
	conns map[net.Conn][2]string
}

func newFabric() *fabric {
	return &fabric{ends: map[string]*fabricEnd{}, cuts: map[[2]string]bool{}, conns: map[net.Conn][2]string{}}
}

type fabricEnd struct {
	f       *fabric
	address string
	streams map[string]*fabricListener
}

func (f *fabric) connect(address string) func(Book) (Network, error) {
	return func(Book) (Network, error) {
		e := &fabricEnd{f: f, address: address, streams: map[string]*fabricListener{}}
		for _, s := range []string{StreamRaft, StreamCommands} {
			e.streams[s] = &fabricListener{conns: make(chan net.Conn, 16), over: make(chan struct{}), address: address}
		}
		f.mu.Lock()
		f.ends[address] = e
		f.mu.Unlock()
		return e, nil
	}
}

func (e *fabricEnd) Accept(stream string) net.Listener { return e.streams[stream] }

func (e *fabricEnd) Dial(_ context.Context, stream, to string) (net.Conn, error) {
	f := e.f
	f.mu.Lock()
	defer f.mu.Unlock()
	peer := f.ends[to]
	if peer == nil {
		return nil, syscall.ECONNREFUSED
	}
	if f.cuts[[2]string{e.address, to}] || f.cuts[[2]string{to, e.address}] {
		return nil, errors.New("no route")
	}
	here, there := net.Pipe()
	select {
	case peer.streams[stream].conns <- named{there, address(e.address)}:
	default:
		return nil, errors.New("refused")
	}
	f.conns[here] = [2]string{e.address, to}
	return here, nil
}

func (e *fabricEnd) Peer(c net.Conn) string { return c.RemoteAddr().String() }

func (e *fabricEnd) Close() error {
	e.f.mu.Lock()
	defer e.f.mu.Unlock()
	delete(e.f.ends, e.address)
	for c, between := range e.f.conns {
		if between[0] == e.address || between[1] == e.address {
			_ = c.Close()
			delete(e.f.conns, c)
		}
	}
	return nil
}

// named is a connection that knows who opened it.
type named struct {
	net.Conn
	from net.Addr
}

func (n named) RemoteAddr() net.Addr { return n.from }

// isolate cuts a node off, both ways.
func (f *fabric) isolate(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for other := range f.ends {
		if other != address {
			f.cuts[[2]string{address, other}] = true
		}
	}
	for c, between := range f.conns {
		if between[0] == address || between[1] == address {
			_ = c.Close()
			delete(f.conns, c)
		}
	}
}

func (f *fabric) heal() {
	f.mu.Lock()
	clear(f.cuts)
	f.mu.Unlock()
}

type fabricListener struct {
	conns   chan net.Conn
	over    chan struct{}
	once    sync.Once
	address string
}

func (l *fabricListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *fabricListener) Close() error   { l.once.Do(func() { close(l.over) }); return nil }
func (l *fabricListener) Addr() net.Addr { return address(l.address) }

// trio is three stores in this process.
type trio struct {
	t      *testing.T
	f      *fabric
	stores []*Store
	disks  []*vfs.MemFS
	// versions are those of the members' programs.
	versions [3]journal.Version
	// expected takes a member's failure where there must be one.
	expected [3]chan error
	now      func(node int) func() payment.Instant // wall clocks; nil: the true one
	bad      [3]*badDisk                           // each member's way to its disk
}

func startTrio(t *testing.T) *trio { return startTrioAt(t, journal.NewestVersion) }

func startTrioAt(t *testing.T, v journal.Version) *trio {
	t.Helper()
	c := newTrio(t, v)
	c.startAll()
	return c
}

func newTrio(t *testing.T, v journal.Version) *trio {
	c := &trio{t: t, f: newFabric(), stores: make([]*Store, 3), versions: [3]journal.Version{v, v, v}}
	for range c.stores {
		c.disks = append(c.disks, vfs.NewCrashableMem())
	}
	return c
}

func (c *trio) startAll() {
	t := c.t
	t.Helper()
	var group sync.WaitGroup
	for n := range c.stores {
		group.Go(func() { c.start(n) })
	}
	group.Wait()
	t.Cleanup(func() {
		for n := range c.stores {
			if c.stores[n] != nil {
				_ = c.stores[n].Stop(context.Background())
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

func trioName(n int) payment.NodeID { return payment.NodeID(fmt.Sprintf("n%d", n+1)) }

func (c *trio) config(n int) Config {
	cfg := testConfig("node")
	cfg.Version = c.versions[n]
	cfg.Node, cfg.Address, cfg.HeartbeatTimeout, cfg.StartTimeout = trioName(n), string(trioName(n)), 300*time.Millisecond, 60*time.Second
	for m := range c.stores {
		cfg.Members = append(cfg.Members, Member{trioName(m), string(trioName(m))})
	}
	return cfg
}

func (c *trio) deps(n int) Deps {
	now := wallClock
	if c.now != nil {
		now = c.now(n)
	}
	c.bad[n] = newBadDisk(c.disks[n])
	early := c.expected[n] // of a member that is not to start: it may be told when the next life has begun
	return Deps{
		Now: now, FS: c.bad[n], Connect: c.f.connect(string(trioName(n))), Build: "test",
		Fail: func(err error) {
			expected := early
			if early == nil {
				expected = c.expected[n]
			}
			if expected == nil {
				c.t.Errorf("%s failed: %v", trioName(n), err)
				return
			}
			select {
			case expected <- err:
			default: // one is enough, and the test may be over
			}
		},
	}
}

func (c *trio) start(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Start(ctx, c.config(n), c.deps(n))
	if err != nil {
		c.t.Errorf("start %s: %v", trioName(n), err)
		return
	}
	c.stores[n] = s
}

// leader waits for one that the others see, too.
func (c *trio) leader() int {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for n, s := range c.stores {
			if s != nil && s.raft.State() == raft.Leader && s.own.ready.Load() == s.raft.CurrentTerm() {
				return n
			}
		}
	}
	c.t.Fatal("no leader")
	return 0
}

// TestEveryNodeServes: what one node was answered, every other one reads, and
// the same payment is one payment wherever it is proposed.
func TestEveryNodeServes(t *testing.T) {
	c := startTrio(t)
	c.leader()
	for n, s := range c.stores {
		i := intent(10 + n)
		if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
			t.Fatalf("%s: open: %+v %v", s.cfg.Node, o, err)
		}
		// Its own node reads it at once.
		if p, err := s.Payment(i.ID); err != nil || p.State != payment.StateOpen || p.Intent.Node != s.cfg.Node {
			t.Fatalf("%s reads %+v %v", s.cfg.Node, p, err)
		}
		for _, other := range c.stores {
			again := intent(10 + n)
			again.ID = paymentID(100 + n)
			if other != s {
				if o, err := other.Open(again); err != nil || o.Verdict != payment.OpenRunning || o.ID != i.ID {
					t.Fatalf("%s: the same key: %+v %v", other.cfg.Node, o, err)
				}
			}
			// Not found here is never said before this replica caught up.
			if _, err := other.Payment(i.ID); err != nil {
				t.Fatalf("%s does not find it: %v", other.cfg.Node, err)
			}
		}
		r, err := s.Close(approval(i))
		if err != nil || r.Outcome.Status != payment.StatusApproved {
			t.Fatalf("close: %+v %v", r, err)
		}
		for _, other := range c.stores {
			p, err := Fresh{other}.Payment(i.ID)
			if err != nil || p.Outcome.Status != payment.StatusApproved {
				t.Fatalf("%s reads %+v %v", other.cfg.Node, p, err)
			}
		}
		numbers, err := s.Lease(t.Context(), "cb-a")
		if err != nil || numbers.LastSTAN == 0 {
			t.Fatalf("lease: %+v %v", numbers, err)
		}
	}
}

// TestLeaderStops: the others go on, and whoever comes back finds its session
// ended and takes another.
func TestLeaderStops(t *testing.T) {
	c := startTrio(t)
	old := c.leader()
	other := c.stores[(old+1)%3]
	must(t, c.stores[old].Stop(context.Background()))
	c.stores[old] = nil
	for n := range 20 {
		i := intent(n)
		if o, err := other.Open(i); err != nil || o.Verdict != payment.OpenNew {
			t.Fatalf("open %d: %+v %v", n, o, err)
		}
	}
	c.start(old)
	if p, err := c.stores[old].Payment(paymentID(19)); err != nil || p.State != payment.StateOpen {
		t.Fatalf("%+v %v", p, err)
	}
}

// TestCutOffNodeLosesItsSession: a node that is cut off may not write when its
// lease is over, and only then do the others reverse what it left open.
func TestCutOffNodeLosesItsSession(t *testing.T) {
	c := startTrio(t)
	leader := c.leader()
	lost := c.stores[(leader+1)%3]
	i := intent(1)
	i.AnswerBy += payment.Instant(time.Minute)
	if o, err := lost.Open(i); err != nil || o.Verdict != payment.OpenNew {
		t.Fatalf("%+v %v", o, err)
	}
	session := i.Session
	c.f.isolate(lost.cfg.Address)
	cut := time.Now()
	other := c.stores[(leader+2)%3]
	for {
		mayWrite := lost.MayWrite(session)
		p, err := other.Payment(i.ID)
		if err != nil {
			t.Fatal(err)
		}
		if p.State == payment.StateReversing {
			if mayWrite {
				t.Fatal("reversed while its node may write it")
			}
			if p.Outcome.Cause != payment.CauseSessionEnded {
				t.Errorf("cause %s", p.Outcome.Cause)
			}
			break
		}
		if time.Since(cut) > 20*time.Second {
			t.Fatal("a silent node's payment is still open")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if o, err := lost.Open(intent(2)); err != nil || o.Verdict != payment.OpenSessionEnded {
		t.Errorf("an open of a node that is cut off: %+v %v", o, err)
	}
	c.f.heal()
	for deadline := time.Now().Add(20 * time.Second); !lost.MayWrite(lost.Session()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no new session after healing")
		}
	}
	if lost.MayWrite(session) {
		t.Error("the old session may write again")
	}
	// The answer that came meanwhile changes nothing.
	if r, err := lost.Close(approval(i)); err != nil || r.Outcome.Status != payment.StatusUnknown || !r.SessionEnded {
		t.Errorf("a late close: %+v %v", r, err)
	}
	if o, err := lost.Open(intent(3)); err != nil || o.Verdict != payment.OpenNew {
		t.Errorf("an open in the new session: %+v %v", o, err)
	}
}

// TestMembers: a node joins, is given a vote once it has caught up, and leaves;
// one that lost its disk does not come back unasked, and is replaced.
func TestMembers(t *testing.T) {
	c := startTrio(t)
	at := c.leader()
	for n := range 50 {
		if _, err := c.stores[at].Open(intent(n)); err != nil {
			t.Fatal(err)
		}
	}
	lost := (at + 1) % 3
	must(t, c.stores[lost].Stop(context.Background()))
	c.disks[lost] = vfs.NewMem()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Start(ctx, c.config(lost), c.deps(lost)); !errors.Is(err, ErrWiped) {
		t.Fatalf("a node without its disk: %v", err)
	}
	c.stores[lost] = nil
	at = c.leader()
	leader, name := c.stores[at], trioName(lost)
	must(t, leader.Remove(ctx, name))
	if _, member := leader.member(name); member {
		t.Error("removed and a member")
	}
	joined := make(chan error, 1)
	go func() { joined <- leader.Join(ctx, name, string(name), true) }()
	c.start(lost)
	must(t, <-joined)
	if m, _ := leader.member(name); !m.Voter {
		t.Errorf("%+v", m)
	}
	if p, err := c.stores[lost].Payment(paymentID(49)); err != nil || p.Intent.ID != paymentID(49) {
		t.Errorf("%+v %v", p, err)
	}
	must(t, leader.Transfer(name))
	for deadline := time.Now().Add(20 * time.Second); c.stores[lost].raft.State() != raft.Leader; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("leadership is not handed over")
		}
	}
}

// TestBackup: a backup of a cluster begins another one, fenced, which answers
// what was answered before; a damaged one begins none.
func TestBackup(t *testing.T) {
	c := startTrio(t)
	s := c.stores[(c.leader()+1)%3]
	approved, open := intent(1), intent(2)
	for _, i := range []*payment.Intent{approved, open} {
		if _, err := s.Open(i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Close(approval(approved)); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	head, err := s.Backup(t.Context(), &file)
	if err != nil || head.Applied == 0 || len(head.Members) != 3 {
		t.Fatalf("%+v %v", head, err)
	}
	for name, damaged := range map[string][]byte{
		"cut": file.Bytes()[:file.Len()-20], "flipped": append(append([]byte(nil), file.Bytes()[:file.Len()/2]...), append([]byte{file.Bytes()[file.Len()/2] ^ 1}, file.Bytes()[file.Len()/2+1:]...)...),
	} {
		if _, _, err := Inspect(vfs.NewMem(), bytes.NewReader(damaged), "scratch"); !errors.Is(err, ErrBadBackup) {
			t.Errorf("a %s backup: %v", name, err)
		}
	}
	fs, cfg := vfs.NewMem(), testConfig("other")
	_, summary, err := Restore(cfg, fs, bytes.NewReader(file.Bytes()))
	if err != nil || summary.Payments != 2 || summary.Open != 1 || !summary.Fenced {
		t.Fatalf("%+v %v", summary, err)
	}
	if _, _, err := Restore(cfg, fs, bytes.NewReader(file.Bytes())); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restored over a state: %v", err)
	}
	other := start(t, fs, cfg)
	defer stop(t, other)
	again := intent(1)
	again.ID = paymentID(900)
	if o, err := other.Open(again); err != nil || o.Verdict != payment.OpenDecided || o.ID != approved.ID {
		t.Errorf("an old key: %+v %v", o, err)
	}
	if o, err := other.Open(intent(3)); err != nil || o.Verdict != payment.OpenSessionEnded {
		t.Errorf("a new payment before the release: %+v %v", o, err)
	}
	must(t, other.Release(journal.EveryLane))
	if o, err := other.Open(intent(3)); err != nil || o.Verdict != payment.OpenNew {
		t.Errorf("a new payment after the release: %+v %v", o, err)
	}
}
