package simulation_test

import (
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// order is what Raft gives the journal: one order of entries, committed by a
// majority; a leader that may be gone or cut off; a tail of entries that may or
// may not survive it. Raft itself runs in the bubble (store/bubble).
type order struct {
	w      *world
	log    []*entry // committed
	tail   []*entry // at the leader, not committed
	leader int      // -1 none
	term   int
	voting bool // an election is under way
}

type entry struct {
	data    []byte
	batch   *proposal // who waits for its results; nil nobody
	term    int
	results []journal.Result
}

// proposal is the commands that one node proposes together, until it knows what
// became of them.
type proposal struct {
	n        *node
	life     uint32
	commands []*command
	began    time.Duration
	tries    int
	unknown  bool // an earlier proposal may have committed
	landed   bool
}

// command is one command on its way and the task that waits for it.
type command struct {
	kind   journal.Kind
	body   []byte
	result journal.Result
	err    error
	wake   func()
	done   bool
	until  time.Duration
}

// majority says whether a node reaches, and is reached by, more than half.
func (o *order) majority(leader int) bool {
	w, n := o.w, 0
	for i, node := range w.nodes {
		if node.up && (i == leader || !w.cut[leader][i] && !w.cut[i][leader]) {
			n++
		}
	}
	return 2*n > len(w.nodes)
}

// wrong says that a node's clock is more than two seconds from the median: it
// gives up leadership.
func (o *order) wrong(i int) bool {
	w := o.w
	if len(w.nodes) < 3 {
		return false
	}
	less, more := 0, 0
	for _, n := range w.nodes {
		switch d := n.skew - w.nodes[i].skew; {
		case d > 2e9:
			more++
		case d < -2e9:
			less++
		}
	}
	return 2*max(less, more) > len(w.nodes)
}

// elect gives the order a new leader after a while, if it has none that can
// lead. What the old leader had not committed is kept or lost, from some entry
// on.
func (o *order) elect(d time.Duration) {
	if o.voting {
		return
	}
	o.voting = true
	o.w.after(d, evKeep, func() {
		o.voting = false
		w := o.w
		if o.leader >= 0 && w.nodes[o.leader].up && o.majority(o.leader) && !o.wrong(o.leader) {
			return
		}
		var able []int
		for i, n := range w.nodes {
			if n.up && o.majority(i) && !o.wrong(i) {
				able = append(able, i)
			}
		}
		if len(able) == 0 {
			o.leader = -1
			o.elect(w.between(150*time.Millisecond, 400*time.Millisecond))
			return
		}
		o.term++
		o.leader = able[w.r.IntN(len(able))]
		kept := w.r.IntN(len(o.tail) + 1)
		tail := o.tail[:kept]
		o.tail = nil
		w.tracef("%s leads term %d, %d of the tail survive", w.nodes[o.leader].id, o.term, kept)
		for _, e := range tail {
			e.batch = nil // its proposer asked another leader
			o.commit(e)
		}
		n := w.nodes[o.leader]
		n.catchUp(len(o.log))
		n.clock.Start(n.m.Now(), n.steady())
		n.clock.Stamp(n.wall(), n.steady())
		o.kick()
	})
}

// kick lets nodes that wait for a leader try again at once.
func (o *order) kick() {
	for _, n := range o.w.nodes {
		n.flush()
	}
}

// arrive is a batch at whom its node took for the leader.
func (o *order) arrive(b *proposal, leader, term int) {
	w := o.w
	if o.leader != leader || o.term != term || !w.nodes[leader].up {
		return
	}
	n := w.nodes[leader]
	e := &entry{term: o.term, batch: b}
	e.data = journal.BeginEntry(nil, n.clock.Stamp(n.wall(), n.steady()))
	for _, c := range b.commands {
		e.data = journal.AddCommand(e.data, c.kind, c.body)
	}
	e.data = journal.EndEntry(e.data)
	o.tail = append(o.tail, e)
	w.after(w.hop()+w.between(100*time.Microsecond, 2*time.Millisecond), evCommit, func() { o.replicated(e) })
}

// replicated commits everything up to an entry if its leader still has a
// majority.
func (o *order) replicated(e *entry) {
	w := o.w
	if e.term != o.term || o.leader < 0 || !w.nodes[o.leader].up {
		return
	}
	if !o.majority(o.leader) {
		w.after(40*time.Millisecond, evCommit, func() { o.replicated(e) })
		return
	}
	for i, t := range o.tail {
		if t != e {
			continue
		}
		ready := o.tail[:i+1]
		o.tail = o.tail[i+1:]
		for _, t := range ready {
			o.commit(t)
		}
		return
	}
}

// commit makes an entry the next one. From here on it is a fact: the checker's
// own replica takes it at once, the leader too, the others when they hear of it.
func (o *order) commit(e *entry) {
	w := o.w
	o.log = append(o.log, e)
	w.check.commit(e, len(o.log))
	if len(w.check.found) > 0 {
		return
	}
	leader := w.nodes[o.leader]
	leader.catchUp(len(o.log))
	if b := e.batch; b != nil {
		results := e.results
		if o.leader == b.n.index {
			w.after(0, evBatch, func() { b.land(results) })
		} else if !w.cut[o.leader][b.n.index] && !w.chance(w.lossy(w.plan.lose)) {
			w.after(w.hop(), evBatch, func() { b.land(results) })
		}
	}
	for i, n := range w.nodes {
		if i != o.leader && n.up && !w.cut[o.leader][i] {
			index := len(o.log)
			w.after(w.hop(), evApply, func() {
				if n.up {
					n.catchUp(index)
				}
			})
		}
	}
}

func (w *world) lossy(n int) int {
	if w.healed {
		return 0
	}
	return n
}

// send proposes a batch until it is known what became of it or its callers are
// gone.
func (b *proposal) send() {
	w, n := b.n.w, b.n
	if b.landed || n.life != b.life || !n.up {
		return
	}
	if w.now-b.began > commitTimeout {
		err := payment.ErrUnavailable
		if b.unknown {
			err = payment.ErrPending
		}
		b.end(func(c *command) { c.err = err })
		return
	}
	o := w.order
	if o.leader < 0 {
		w.after(20*time.Millisecond, evBatch, b.send)
		return
	}
	leader, term := o.leader, o.term
	b.tries++
	b.unknown = b.unknown || b.tries > 1
	if leader == n.index {
		o.arrive(b, leader, term)
	} else {
		copies := 1
		if w.chance(w.lossy(w.plan.repeat)) {
			copies = 2
		}
		for range copies {
			if !w.cut[n.index][leader] && !w.chance(w.lossy(w.plan.lose)) {
				w.after(w.hop(), evBatch, func() { o.arrive(b, leader, term) })
			}
		}
	}
	w.after(w.between(250*time.Millisecond, 600*time.Millisecond), evBatch, b.send)
}

func (b *proposal) land(results []journal.Result) {
	if b.landed || b.n.life != b.life || !b.n.up {
		return
	}
	i := 0
	b.end(func(c *command) {
		c.result = results[i]
		if b.unknown && c.result.Opened.Verdict == payment.OpenAgain {
			c.result.Opened.Verdict = payment.OpenNew
		}
		c.err = c.result.Err
		i++
	})
}

func (b *proposal) end(each func(*command)) {
	b.landed = true
	b.n.flights--
	for _, c := range b.commands {
		each(c)
		c.finish()
	}
	b.n.flush()
}

func (c *command) finish() {
	if !c.done {
		c.done = true
		c.wake()
	}
}

const commitTimeout = 5 * time.Second
