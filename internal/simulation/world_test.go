package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"authswitch/iso8583"
	"authswitch/journal"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/vault"
)

// kind names an event in the hash and in traces.
type kind uint8

const (
	evTask kind = iota
	evBatch
	evCommit
	evApply
	evDial
	evWrite
	evUp   // bytes reach an acquirer
	evDown // bytes reach a node
	evHost
	evTick
	evPoll
	evFault
	evClient
	evKeep
)

type event struct {
	at   time.Duration
	seq  uint64
	kind kind
	do   func()
}

// world is one seed's run.
type world struct {
	seed   uint64
	r      *rand.Rand
	now    time.Duration // true time since the start
	base   payment.Instant
	seq    uint64
	heap   []event
	hash   uint64
	events int

	plan    profile
	nodes   []*node
	order   *order
	hosts   []*host
	clients []*client
	movers  []*mover
	files   []*file
	tokens  [2][]payment.ID // of cards that were saved, by merchant
	shops   []*shop         // that send a payment link
	check   *checks
	healed  bool
	cut     [maxNodes][maxNodes]bool // cut[a][b]: what a sends does not reach b
	trace   *strings.Builder         // nil: none
	current *task                    // that runs
	vault   *vault.Vault
}

const (
	maxNodes = 5
	maxLinks = 2
)

// profile is what a seed may do to its world.
type profile struct {
	nodes, links      int
	payments          int
	active            time.Duration
	crashes           int
	powerCuts         int
	partitions        int
	linkCuts          int
	clockJumps        int
	hostMischief      int // of 100 requests
	reversalMischief  int // of 100 reversals
	lose, repeat      int // of 100 batches between nodes
	lostAnswers       int // of 100 answers to a gateway
	slowWire          time.Duration
	remembers, honest [maxLinks]bool
	styles            [maxLinks]style
	moves             int // at most, of one approved payment
	adviceMischief    int // of 100 messages of operations
	cutOvers          int
	batch             bool
	captureBy         [2]routing.CaptureBy // by merchant
	credits           int                  // refunds that name no payment
	payLinks          int
	lies              int // of 100 totals that an acquirer calls others than its own
	totalsMischief    int // of 100 messages with totals
	deletes           int // of saved cards
	stolen            int // of 100 requests whose card its issuer wants back
}

func newProfile(r *rand.Rand) profile {
	p := profile{
		nodes: []int{1, 3, 3, 3, 5}[r.IntN(5)], links: maxLinks, payments: 12 + r.IntN(36),
		active: time.Duration(6+r.IntN(14)) * time.Second, slowWire: time.Duration(r.IntN(200)) * time.Millisecond,
	}
	some := func(of, n int) int {
		if r.IntN(of) == 0 {
			return 0
		}
		return r.IntN(n + 1)
	}
	p.crashes, p.powerCuts, p.partitions, p.linkCuts = some(4, 6), some(2, 2), some(3, 4), some(3, 6)
	p.clockJumps, p.hostMischief, p.reversalMischief = some(2, 3), some(5, 40), some(4, 60)
	p.lose, p.repeat, p.lostAnswers = some(3, 10), some(3, 10), some(4, 20)
	for i := range p.remembers {
		p.remembers[i], p.honest[i] = r.IntN(2) == 0, r.IntN(6) == 0
	}
	p.moves, p.adviceMischief, p.cutOvers, p.batch = some(4, 8), some(4, 50), some(2, 2), r.IntN(2) == 0
	for i := range p.styles {
		p.styles[i] = style(r.IntN(int(styles)))
	}
	for i := range p.captureBy {
		p.captureBy[i] = capturesBy[max(r.IntN(4)-1, 0)]
	}
	if collected := p.captureBy != [2]routing.CaptureBy{}; collected {
		p.cutOvers += r.IntN(4) // what is collected meets the faults of the day, too
		if r.IntN(3) == 0 {
			p.styles[r.IntN(maxLinks)] = styleCollected
		}
	}
	p.credits, p.payLinks, p.lies, p.totalsMischief, p.stolen = some(2, 6), some(3, 3), some(2, 40), some(3, 80), some(2, 10)
	p.deletes = some(2, 3)
	return p
}

func (w *world) dialect(link int) *iso8583.Dialect { return shared().dialects[w.plan.styles[link]] }

// newWorld builds a world. What comes of it depends on the seed alone.
func newWorld(seed uint64, trace bool) *world {
	w := &world{seed: seed, r: rand.New(rand.NewPCG(seed, 0x5eed)), hash: 14695981039346656037}
	if trace {
		w.trace = &strings.Builder{}
	}
	w.plan = newProfile(w.r)
	// Some runs cross midnight, some the end of a year.
	starts := []string{"2026-11-23T10:00:00Z", "2026-03-28T23:59:50Z", "2026-12-31T23:59:55Z", "2027-10-31T00:59:57Z"}
	start, err := time.Parse(time.RFC3339, starts[w.r.IntN(len(starts))])
	if err != nil {
		panic(err)
	}
	w.base = payment.Instant(start.UnixNano())
	w.vault = shared().vault(seed)
	w.check = newChecks(w)
	w.order = &order{w: w, leader: -1}
	for i := range w.plan.links {
		w.hosts = append(w.hosts, newHost(w, i))
	}
	for i := range w.plan.nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	return w
}

// after schedules an event; those of one moment happen in the order in which
// they were scheduled.
func (w *world) after(d time.Duration, k kind, do func()) {
	w.seq++
	w.push(event{at: w.now + max(d, 0), seq: w.seq, kind: k, do: do})
}

func (a *event) before(b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (w *world) push(e event) {
	w.heap = append(w.heap, e)
	i := len(w.heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !w.heap[i].before(&w.heap[parent]) {
			break
		}
		w.heap[i], w.heap[parent] = w.heap[parent], w.heap[i]
		i = parent
	}
}

func (w *world) pop() event {
	e := w.heap[0]
	n := len(w.heap) - 1
	w.heap[0] = w.heap[n]
	w.heap[n] = event{}
	w.heap = w.heap[:n]
	for i := 0; ; {
		child := 2*i + 1
		if child >= n {
			return e
		}
		if child+1 < n && w.heap[child+1].before(&w.heap[child]) {
			child++
		}
		if !w.heap[child].before(&w.heap[i]) {
			return e
		}
		w.heap[i], w.heap[child] = w.heap[child], w.heap[i]
		i = child
	}
}

// step runs one event and every checker after it.
func (w *world) step() {
	e := w.pop()
	w.now = e.at
	w.events++
	w.mix(uint64(e.at))
	w.mix(uint64(e.kind))
	e.do()
	w.check.after()
}

// mix folds a number into the run's hash.
func (w *world) mix(v uint64) {
	for range 8 {
		w.hash = (w.hash ^ v&0xFF) * 1099511628211
		v >>= 8
	}
}

func (w *world) tracef(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%10.6f  ", w.now.Seconds())
		fmt.Fprintf(w.trace, format+"\n", args...)
	}
}

// chance is true in n of 100.
func (w *world) chance(n int) bool { return w.r.IntN(100) < n }

// between draws a duration.
func (w *world) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.r.Int64N(int64(high-low)))
}

// hop is how long a message takes between two nodes.
func (w *world) hop() time.Duration {
	if w.chance(3) && !w.healed {
		return w.between(time.Millisecond, 400*time.Millisecond)
	}
	return w.between(50*time.Microsecond, 3*time.Millisecond)
}

// The length of a run: after the last fault, within recovery of true time,
// nothing may be pending or owed but what needs a person.
const (
	recovery   = 4 * time.Minute
	mostEvents = 400_000
)

// live runs the whole seed and reports what broke.
func (w *world) live() []violation {
	for _, n := range w.nodes {
		n.boot()
	}
	w.order.elect(w.between(0, 300*time.Millisecond))
	w.schedule()
	w.after(w.plan.active, evFault, w.heal)
	deadline := w.plan.active + recovery
	next := w.plan.active + time.Second
	for len(w.heap) > 0 && len(w.check.found) == 0 {
		w.step()
		if w.events > mostEvents {
			w.check.fail("T", "the run does not end: %d events by %s", w.events, w.now)
			break
		}
		if w.now < next || !w.healed {
			continue
		}
		next = w.now + time.Second
		if w.quiet() && !w.person() && !w.collects() && w.pendingFile() == "" {
			break
		}
		if w.now > deadline {
			w.check.fail("I6", "%s after healing: %s", w.now-w.plan.active, w.pending())
		}
	}
	if len(w.check.found) == 0 {
		w.check.final()
	}
	for _, n := range w.nodes {
		n.kill()
	}
	return w.check.found
}

// quiet says that every gateway has its answer and nothing is open or owed.
func (w *world) quiet() bool {
	for _, c := range w.clients {
		if !c.over {
			return false
		}
	}
	if w.check.machine.Overdue(1<<62, 0) {
		return false
	}
	for i := range w.hosts {
		if count, _, exceptions := w.check.machine.Owing(linkName(i)); count+w.check.machine.OwingOperations(linkName(i)) > exceptions {
			return false
		}
	}
	if due, err := journal.ReadDue(w.check.disk, w.check.machine.Now()+payment.Instant(time.Minute), 1); err != nil || len(due) > 0 {
		return false
	}
	for _, m := range w.movers {
		for _, x := range m.moves {
			if !x.over {
				return false
			}
		}
	}
	for _, p := range w.shops {
		if !p.over {
			return false
		}
	}
	for _, n := range w.nodes {
		if n.applied != len(w.order.log) {
			return false
		}
	}
	return true
}

func (w *world) pending() string {
	var b strings.Builder
	for _, c := range w.clients {
		if !c.over {
			fmt.Fprintf(&b, "client %d without an answer (%s); ", c.number, c.last)
		}
	}
	for i := range w.hosts {
		count, _, exceptions := w.check.machine.Owing(linkName(i))
		fmt.Fprintf(&b, "%s owes %d and %d of operations, %d exceptions; ", linkName(i), count, w.check.machine.OwingOperations(linkName(i)), exceptions)
	}
	for _, m := range w.movers {
		for _, x := range m.moves {
			if !x.over {
				fmt.Fprintf(&b, "client %d's %s without an answer (%s); ", m.c.number, x.kind, x.why)
			}
		}
	}
	due, err := journal.ReadDue(w.check.disk, w.check.machine.Now()+payment.Instant(time.Minute), 10)
	fmt.Fprintf(&b, "due: %d, %v; %s; %s; ", len(due), err, w.pendingFile(), w.pendingClearing())
	fmt.Fprintf(&b, "open: %v; journal's time %d s before the wall clocks", w.check.machine.Overdue(1<<62, 0),
		(w.base+payment.Instant(w.now)-w.check.machine.Now())/1e9)
	for _, n := range w.nodes {
		fmt.Fprintf(&b, "; %s at %d of %d, serving %v", n.id, n.applied, len(w.order.log), n.serving)
	}
	return b.String()
}

func linkName(i int) payment.LinkName { return payment.LinkName([]string{"acq-a", "acq-b"}[i]) }
