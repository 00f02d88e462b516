package simulation_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/batch"
	"authswitch/clearing"
	"authswitch/journal"
	"authswitch/outbox"
	"authswitch/payment"
	"authswitch/routing"
	switching "authswitch/switch"
)

// node is one member: a disk, the journal's machine over it, its links, and the
// switch. It lives until it crashes and starts again on what its disk kept.
type node struct {
	w       *world
	index   int
	id      payment.NodeID
	up      bool
	serving bool
	life    uint32
	booted  time.Duration
	skew    payment.Instant
	kept    *disk // what a crash leaves
	disk    *disk
	m       *journal.Machine
	applied int
	clock   journal.Clock
	session payment.Session
	renewal bool
	claims  uint64
	queue   []*command
	flights int
	tasks   []*task
	awaits  map[payment.ID][]func()
	wires   []*wire
	sw      *switching.Switch
	minter  *payment.Minter
	runner  *batch.Runner
	running bool // the runner is in a round
	filer   *clearing.Runner
	filing  bool // it is in a round
	scratch []journal.Result
	// unflushed counts entries applied and not flushed.
	unflushed int
}

func newNode(w *world, i int) *node {
	n := &node{w: w, index: i, id: payment.NodeID([]string{"n1", "n2", "n3", "n4", "n5"}[i]), disk: newDisk()}
	n.kept = n.disk.clone()
	n.skew = payment.Instant(w.r.Int64N(400e6)) - 200e6
	return n
}

func (n *node) wall() payment.Instant { return n.w.base + payment.Instant(n.w.now) + n.skew }

// steady starts at one second, as a link's clock does.
func (n *node) steady() time.Duration { return time.Second + n.w.now - n.booted }

// boot starts a life on what the disk kept.
func (n *node) boot() {
	w := n.w
	n.up, n.serving, n.life, n.booted = true, false, n.life+1, w.now
	n.disk = n.kept.clone()
	n.m = journal.New(n.disk).FewKeys()
	if err := n.m.Load(); err != nil {
		w.check.fail("N", "%s cannot load its state: %v", n.id, err)
		return
	}
	n.applied, n.unflushed = int(n.m.Applied()), 0
	n.clock.Start(n.m.Now(), n.steady())
	n.queue, n.flights, n.session, n.renewal, n.claims, n.running, n.filing = nil, 0, 0, false, 0, false, false
	n.awaits = map[payment.ID][]func(){}
	n.build()
	w.tracef("%s starts, state at %d of %d", n.id, n.applied, len(w.order.log))
	w.order.elect(w.between(10*time.Millisecond, 300*time.Millisecond))
	life := n.life
	w.spawn(n, func(t *task) { n.begin(t) })
	var keep func()
	keep = func() {
		if n.up && n.life == life {
			n.keep()
			rest := w.between(80*time.Millisecond, 120*time.Millisecond)
			if w.now > w.plan.active+20*time.Second {
				rest *= 4 // only repeats are waited for
			}
			w.after(rest, evKeep, keep)
		}
	}
	w.after(w.between(0, 100*time.Millisecond), evKeep, keep)
}

// begin applies what was committed, takes a session and opens the links.
func (n *node) begin(t *task) {
	w := n.w
	for w.order.leader < 0 || n.applied < len(w.order.log) {
		w.sleep(t, 30*time.Millisecond)
	}
	n.renew(t)
	n.serving = true
	for _, x := range n.wires {
		x.enable()
	}
}

// renew takes a session, for as long as it takes.
func (n *node) renew(t *task) {
	for {
		r, err := n.propose(t, journal.KindSession, journal.AppendSession(nil, n.id), commitTimeout)
		if err == nil {
			n.session = r.Session
			n.w.tracef("%s has session %d", n.id, r.Session)
			return
		}
		n.w.sleep(t, 50*time.Millisecond)
	}
}

// over is called when the journal says that this node's session has ended: its
// numbers are not its own any more.
func (n *node) over(session payment.Session) {
	if n.renewal || session != n.session || !n.serving {
		return
	}
	n.renewal = true
	for _, x := range n.wires {
		x.d.DropNumbers()
	}
	n.w.spawn(n, func(t *task) {
		n.renew(t)
		n.renewal = false
		for _, x := range n.wires {
			x.pump()
		}
	})
}

// kill ends a life: nothing that was not flushed and kept is there after it.
func (n *node) kill() {
	n.up, n.serving = false, false
	n.life++
	for _, t := range n.tasks {
		if !t.over {
			t.stop()
			t.over = true
		}
	}
	n.tasks = nil
	for _, x := range n.wires {
		x.die()
	}
}

func (n *node) crash() {
	if !n.up {
		return
	}
	w := n.w
	w.tracef("%s crashes", n.id)
	n.kill()
	if w.order.leader == n.index {
		w.order.leader = -1 // started again, it is elected again
		w.order.elect(w.between(150*time.Millisecond, 500*time.Millisecond))
	}
}

// keep is the upkeep of a node: it follows the log, and sweeps where it leads.
func (n *node) keep() {
	w, o := n.w, n.w.order
	if len(n.tasks) > 64 {
		kept := n.tasks[:0]
		for _, t := range n.tasks {
			if !t.over {
				kept = append(kept, t)
			}
		}
		clear(n.tasks[len(kept):])
		n.tasks = kept
	}
	if o.leader < 0 || !w.nodes[o.leader].up || w.cut[o.leader][n.index] || o.wrong(o.leader) {
		o.elect(w.between(150*time.Millisecond, 400*time.Millisecond))
	}
	if o.leader >= 0 && w.nodes[o.leader].up && !w.cut[o.leader][n.index] {
		n.catchUp(len(o.log))
	}
	if o.leader == n.index && n.m.Version() < journal.NewestVersion {
		n.spare(journal.KindVersion, journal.AppendVersion(nil, journal.NewestVersion))
	}
	if o.leader == n.index && w.r.IntN(4) == 0 {
		if n.m.Overdue(n.clock.Stamp(n.wall(), n.steady()), overdueMargin) {
			n.spare(journal.KindSweep, journal.AppendSweep(nil, overdueMargin))
		}
	}
	if n.serving && w.r.IntN(8) == 0 && (o.leader == n.index || w.r.IntN(2) == 0) {
		n.duties() // two may believe that they lead
	}
	if n.serving {
		for _, x := range n.wires {
			x.feed()
		}
	}
}

const overdueMargin = int64(2 * time.Second)

// spare proposes a command that nobody waits for.
func (n *node) spare(k journal.Kind, body []byte) {
	n.enqueue(&command{kind: k, body: body, wake: func() {}})
}

// catchUp applies the log up to an index; a node that is far behind is sent a
// snapshot, as one whose log begins too late is.
func (n *node) catchUp(index int) {
	w, o := n.w, n.w.order
	if index-n.applied > snapshotBehind && o.leader >= 0 && o.leader != n.index && w.nodes[o.leader].applied > n.applied {
		n.restore(w.nodes[o.leader])
	}
	from := n.applied
	for n.applied < index {
		e := o.log[n.applied]
		results, err := n.m.Apply(e.data, n.scratch[:0])
		n.scratch = results
		if err != nil {
			w.check.fail("N", "%s cannot apply entry %d: %v", n.id, n.applied+1, err)
			return
		}
		n.applied++
		n.unflushed++
		if n.applied == index || w.r.IntN(3) == 0 {
			n.flushState()
		}
	}
	if n.applied > from {
		n.decided()
		if o.leader != n.index {
			n.clock.Start(n.m.Now(), n.steady()) // what is due is due by the journal's time
		}
	}
}

const snapshotBehind = 60

func (n *node) flushState() {
	if err := n.m.Flush(uint64(n.applied), n.disk); err != nil {
		n.w.check.fail("N", "%s cannot flush: %v", n.id, err)
		return
	}
	n.unflushed = 0
	n.w.check.same(n)
	if n.w.r.IntN(12) == 0 {
		n.kept = n.disk.clone() // a memtable went to a file
	}
}

// restore takes another node's state.
func (n *node) restore(from *node) {
	n.w.tracef("%s gets a snapshot of %s at %d", n.id, from.id, from.applied)
	n.disk = from.disk.clone()
	n.kept = n.disk.clone()
	n.m = journal.New(n.disk).FewKeys()
	if err := n.m.Load(); err != nil {
		n.w.check.fail("N", "%s cannot load a snapshot: %v", n.id, err)
		return
	}
	n.applied, n.unflushed = int(n.m.Applied()), 0
	n.w.check.same(n)
	for id := range n.awaits { // whoever waits looks again
		n.wakeAwaiting(id)
	}
}

func (n *node) decided() {
	for _, id := range n.m.Decided() {
		n.wakeAwaiting(id)
	}
}

func (n *node) wakeAwaiting(id payment.ID) {
	for _, wake := range n.awaits[id] {
		wake()
	}
	delete(n.awaits, id)
}

// propose commits a command and waits for what the journal answered.
func (n *node) propose(t *task, k journal.Kind, body []byte, limit time.Duration) (journal.Result, error) {
	c := &command{kind: k, body: body, until: n.w.now + limit}
	c.wake = n.w.waker(t)
	n.enqueue(c)
	n.w.after(limit, evTask, func() {
		if !c.done {
			c.err = payment.ErrPending
			c.finish()
		}
	})
	t.park()
	if ended(&c.result, c.err) {
		n.over(n.session)
	}
	return c.result, c.err
}

// ended says whether an answer shows that the session is over.
func ended(r *journal.Result, err error) bool {
	switch r.Kind {
	case journal.KindOpen:
		return err == nil && r.Opened.Verdict == payment.OpenSessionEnded
	case journal.KindNext, journal.KindSettle:
		return err == nil && r.Settled.SessionEnded
	case journal.KindClaim, journal.KindLease:
		return errors.Is(err, payment.ErrUnavailable)
	}
	return false
}

func (n *node) enqueue(c *command) {
	n.queue = append(n.queue, c)
	n.w.after(0, evBatch, n.flush)
}

// flush sends what is queued, two batches at a time.
func (n *node) flush() {
	if !n.up || n.flights >= 2 || len(n.queue) == 0 {
		return
	}
	b := &proposal{n: n, life: n.life, began: n.w.now}
	for _, c := range n.queue {
		if c.done && c.kind == journal.KindOpen {
			continue // its caller left: better not open it
		}
		b.commands = append(b.commands, c)
	}
	n.queue = nil
	if len(b.commands) > 0 {
		n.flights++
		b.send()
	}
}

// build puts the node together as cmd does.
func (n *node) build() {
	w := n.w
	n.wires = nil
	var lanes []switching.Lane
	for i := range w.plan.links {
		n.wires = append(n.wires, newWire(n, i))
		lanes = append(lanes, switching.Lane{Name: linkName(i), Dialect: w.dialect(i), RefundsFinal: w.plan.styles[i] == styleFinal})
	}
	minter, err := payment.NewMinter(n.wall, &reader{w})
	if err != nil {
		panic(err)
	}
	n.minter = minter
	if n.sw != nil { // it has no memory of its own
		return
	}
	var table atomic.Pointer[routing.Table]
	table.Store(shared().tables[w.plan.captureBy])
	n.sw, err = switching.New(switching.Deps{
		Journal: deps{n}, Canceller: deps{n}, Records: deps{n}, Operations: deps{n}, Moves: deps{n}, Cards: deps{n}, Links: deps{n}, Opener: cards{w.vault}, Exchanger: deps{n}, Sealer: cards{w.vault}, Table: &table, Lanes: lanes,
		Node: n.id, Session: func() payment.Session { return n.session }, Now: n.wall, Mint: func() payment.ID { return n.minter.Mint() },
		Log: slog.New(slog.DiscardHandler), Registerer: unregistered{},
	})
	if err != nil {
		panic(err)
	}
	// The rate is the real clock's business: here lines follow at once.
	means := func(l payment.LinkName) (payment.OperationMeans, uint16, bool, bool) {
		return n.sw.Means(l, payment.OpRefund)
	}
	n.runner = batch.NewRunner(batch.Config{Rate: 1 << 40, LinkWindow: 4, Step: 2}, deps{n}, means, slog.New(slog.DiscardHandler))
	n.filer = n.newFiler()
}

// unregistered keeps metrics to themselves.
type unregistered struct{}

func (unregistered) Register(prometheus.Collector) error  { return nil }
func (unregistered) MustRegister(...prometheus.Collector) {}
func (unregistered) Unregister(prometheus.Collector) bool { return true }

// carrier is one line's carrier; each of a lane's senders has its own.
func (n *node) carrier(x *wire) *outbox.Carrier {
	c, err := outbox.NewCarrier(outbox.Deps{
		Link: linkName(x.link), Dialect: n.w.dialect(x.link), Journal: deps{n}, Operations: deps{n}, Sender: deps{n}, Vault: cards{n.w.vault}, Now: n.wall,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return c
}
