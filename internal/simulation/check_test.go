package simulation_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// violation is an invariant that did not hold.
type violation struct {
	invariant string
	at        time.Duration
	what      string
}

func (v violation) String() string { return fmt.Sprintf("%s at %s: %s", v.invariant, v.at, v.what) }

// checks hold the invariants. They have a replica of their own, which takes each
// entry when it is committed: what stands in it is a fact. Each check is made by
// the event that could break it; after makes those that any event could.
type checks struct {
	w       *world
	found   []violation
	disk    *disk
	machine *journal.Machine
	sums    []uint64 // of the state after each entry
	last    payment.Instant

	intents map[wireKey]*intended
	attempt map[attemptKey]*intended
	byRRN   map[payment.RRN]payment.ID
	claims  map[wireKey]*claimed
	written map[wireKey]payment.ID
	keys    map[string][]*intended // written requests by merchant and key
	lines   map[payment.ID]int     // of history, already judged
	decided map[payment.ID]answer

	accepted map[wireKey]bool // reversals that the acquirer accepted
	missed   map[wireKey]bool // and those whose original it did not know

	newest     map[payment.ID]*intended // the last attempt
	ops        map[payment.ID]*moving
	opOrder    []payment.ID
	opsOf      map[payment.ID][]payment.ID // by payment, in their order
	batchLines map[string]payment.ID
	changes    []change

	closed  map[batchKey]*closed // clearing batches and uploads
	batched map[payment.ID]batchKey
	files   map[string][]byte
	totals  map[wireKey]*claimedTotals
	agreed  map[agreement]bool // what the acquirer said
	lied    map[agreement]bool

	paid     map[payment.ID]payment.ID // payment links, by whom
	excepted []payment.ID              // payments whose reversal needed a person
	cover    coverage
}

// wireKey names a message on a link.
type wireKey struct {
	link payment.LinkName
	stan string
}

type attemptKey struct {
	id      payment.ID
	attempt uint8
}

// intended is an attempt that is committed.
type intended struct {
	intent   payment.Intent
	written  bool
	flying   bool // its bytes may still reach the acquirer's decision
	declined bool // an explicit no reached a node
	approved bool // an answer that approves it reached a node
	part     int64
	undone   bool // its reversal is acknowledged
}

func newChecks(w *world) *checks {
	c := &checks{
		w: w, disk: newDisk(), sums: []uint64{0}, intents: map[wireKey]*intended{}, attempt: map[attemptKey]*intended{},
		byRRN: map[payment.RRN]payment.ID{}, claims: map[wireKey]*claimed{}, written: map[wireKey]payment.ID{}, keys: map[string][]*intended{},
		lines: map[payment.ID]int{}, decided: map[payment.ID]answer{}, accepted: map[wireKey]bool{}, missed: map[wireKey]bool{},
		newest: map[payment.ID]*intended{}, ops: map[payment.ID]*moving{}, opsOf: map[payment.ID][]payment.ID{}, batchLines: map[string]payment.ID{},
		closed: map[batchKey]*closed{}, batched: map[payment.ID]batchKey{}, files: map[string][]byte{}, totals: map[wireKey]*claimedTotals{},
		agreed: map[agreement]bool{}, lied: map[agreement]bool{}, paid: map[payment.ID]payment.ID{},
	}
	c.machine = journal.New(c.disk).FewKeys()
	if err := c.machine.Load(); err != nil {
		panic(err)
	}
	return c
}

func (c *checks) fail(invariant, format string, args ...any) {
	v := violation{invariant, c.w.now, fmt.Sprintf(format, args...)}
	c.w.tracef("VIOLATION %s", v)
	c.found = append(c.found, v)
}

// after is called after every event.
func (c *checks) after() {
	if now := c.machine.Now(); now < c.last {
		c.fail("T", "the journal's time goes back from %d to %d", c.last, now)
	} else {
		c.last = now
	}
	if c.disk.rewritten != nil {
		c.fail("I17", "a line of history was changed: %x", c.disk.rewritten)
		c.disk.rewritten = nil
	}
}

// commit applies a committed entry to the checker's replica and judges every
// payment that it touched.
func (c *checks) commit(e *entry, index int) {
	results, err := c.machine.Apply(e.data, nil)
	if err != nil {
		c.fail("N", "entry %d cannot be applied: %v", index, err)
		return
	}
	e.results = results
	for i := range results {
		c.cover.kinds[results[i].Kind]++
	}
	t := &touching{disk: c.disk, c: c}
	if err := c.machine.Flush(uint64(index), t); err != nil {
		c.fail("N", "entry %d cannot be flushed: %v", index, err)
		return
	}
	c.machine.Decided()
	c.sums = append(c.sums, c.disk.sum)
	c.w.mix(c.disk.sum)
	for _, id := range t.ids {
		c.judge(id)
	}
	for _, id := range t.ids {
		c.balance(id)
	}
	for _, k := range t.batches {
		c.collected(k)
	}
}

// touching notes which payments a flush writes lines of, and which closed
// batches it changes.
type touching struct {
	*disk
	c       *checks
	ids     []payment.ID
	batches []batchKey
}

func (t *touching) Set(key, value []byte) error {
	if key[0] == historyTable {
		if id := payment.ID(key[1:17]); len(t.ids) == 0 || t.ids[len(t.ids)-1] != id {
			t.ids = append(t.ids, id)
		}
	}
	if key[0] == fileBatches || key[0] == uploadBatches {
		if k, is := t.c.batchOf(key); is {
			t.batches = append(t.batches, k)
		}
	}
	return t.disk.Set(key, value)
}

// same: I4, equal states at equal indices.
func (c *checks) same(n *node) {
	if n.disk.sum != c.sums[n.applied] {
		c.fail("I4", "%s has another state at entry %d", n.id, n.applied)
	}
}

// judge looks at the new lines of a payment's history.
func (c *checks) judge(id payment.ID) {
	h, err := journal.ReadHistory(since{c.disk, c.lines[id]}, id)
	if err != nil {
		c.fail("I17", "history of %s: %v", id, err)
		return
	}
	for _, e := range h {
		c.line(id, &e)
	}
	c.lines[id] += len(h)
}

// since is a disk on which a history begins at its first line that is not judged
// yet. Those before cannot have changed: I17.
type since struct {
	*disk
	line int
}

func (s since) Scan(from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	from = binary.BigEndian.AppendUint32(from[:len(from)-4], uint32(s.line))
	return s.disk.Scan(from, to, backwards, visit)
}

func (c *checks) line(id payment.ID, e *payment.Entry) {
	if c.w.trace != nil {
		rrn := payment.RRN{}
		if e.Intent != nil {
			rrn = e.Intent.RRN
		} else if a := c.attempt[attemptKey{id, 1}]; a != nil {
			rrn = a.intent.RRN
		}
		what := ""
		if o := e.Operation; o != nil {
			what = fmt.Sprintf("%s %s of %d by %s %s", o.Kind, o.ID, o.Amount.Value, o.Means, o.State)
		}
		c.w.tracef("        journal %d: rrn %s %s %s -> %s %s", (c.machine.Now()-c.w.base)/1e6, rrn, e.Kind, e.Event, e.State, what)
	}
	if c.cover.payments[e.State]++; e.State == payment.StateException {
		c.excepted = append(c.excepted, id)
	}
	switch e.Kind {
	case payment.EntryIntent:
		c.intend(e.Intent)
	case payment.EntryOutcome:
		c.outcome(e)
	case payment.EntryReversalSent:
		c.claim(e.Owed)
	case payment.EntryReversalEnded:
		if e.Owed.Operation.IsZero() {
			c.reversed(id, e)
		} else {
			c.attemptEnded(id, e)
		}
	case payment.EntryOperation:
		c.operation(id, e)
	}
}

func (c *checks) intend(i *payment.Intent) {
	a := &intended{intent: *i}
	c.attempt[attemptKey{i.ID, i.Attempt}] = a
	c.newest[i.ID] = a
	c.intents[wireKey{i.Link, i.STAN.String()}] = a
	if other, taken := c.byRRN[i.RRN]; taken && other != i.ID {
		c.fail("I14", "RRN %s is %s's and %s's", i.RRN, other, i.ID)
	}
	c.byRRN[i.RRN] = i.ID
}

// outcome: I1 in the journal, I10, and the proof behind "not sent".
func (c *checks) outcome(e *payment.Entry) {
	o := e.Outcome
	a := c.attempt[attemptKey{o.ID, o.Attempt}]
	if a == nil {
		c.fail("I7", "an outcome of %s attempt %d without its intent", o.ID, o.Attempt)
		return
	}
	switch o.Event {
	case payment.EventNeverSent:
		if a.written {
			c.fail("I5", "%s attempt %d was written and is closed as never sent", o.ID, o.Attempt)
		}
	case payment.EventApproved:
		if !a.approved || o.Status == payment.StatusApproved && a.part != o.Amount.Value || o.Amount.Value > a.intent.Amount.Value {
			c.fail("I3", "%s attempt %d is approved for %d; the acquirer said %v for %d", o.ID, o.Attempt, o.Amount.Value, a.approved, a.part)
		}
	case payment.EventDeclined:
		if !a.declined {
			c.fail("I10", "%s attempt %d is declined; no such answer came", o.ID, o.Attempt)
		}
	case payment.EventVerified:
		if o.Status == payment.StatusApproved && !a.approved || o.Status == payment.StatusDeclined && !a.declined {
			c.fail("I10", "%s is verified as %s; no such answer came", o.ID, o.Status)
		}
	case payment.EventOverdue:
		if lived := c.w.now - c.receivedAt(&a.intent); lived < answerTimeout {
			c.fail("T", "%s is overdue after %s", o.ID, lived)
		}
	}
	if e.Event == payment.EventNextAttempt {
		return
	}
	c.paidAndBlocked(a, o)
	if _, twice := c.decided[o.ID]; twice {
		c.fail("I1", "%s has two outcomes", o.ID)
	}
	c.decided[o.ID] = answer{status: o.Status, code: o.Response.Code, amount: o.Amount, rrn: a.intent.RRN, id: o.ID}
}

// receivedAt is true time: the id was minted by a clock that may have been
// wrong, so the node's skew now stands for the skew then; a jump between makes
// it useless, and then it is not judged.
func (c *checks) receivedAt(i *payment.Intent) time.Duration {
	if c.w.plan.clockJumps > 0 {
		return -answerTimeout
	}
	return time.Duration(i.ReceivedAt - c.w.base)
}

func (c *checks) claim(o *payment.Owed) {
	k := wireKey{o.Link, o.STAN.String()}
	x := c.claims[k]
	if x == nil {
		x = &claimed{id: o.ID, attempt: o.Attempt, op: o.Operation, original: o.Original, transmitted: map[payment.Transmitted]uint16{}}
		c.claims[k] = x
	}
	if x.id != o.ID || x.attempt != o.Attempt {
		c.fail("I14", "STAN %s on %s reverses %s and %s", o.STAN, o.Link, x.id, o.ID)
	}
	x.tries = max(x.tries, o.Tries)
	x.transmitted[o.Transmitted] = max(x.transmitted[o.Transmitted], o.Tries)
}

// reversed: I9, a reversal ends only by what the acquirer said to it.
func (c *checks) reversed(id payment.ID, e *payment.Entry) {
	k := wireKey{e.Owed.Link, e.Owed.STAN.String()}
	if a := c.attempt[attemptKey{id, e.Owed.Attempt}]; a != nil {
		a.undone = true
	}
	switch {
	case e.Event == payment.EventReversalAcknowledged:
		if !c.accepted[k] {
			c.fail("I9", "%s is reversed; %s never accepted STAN %s", id, e.Owed.Link, e.Owed.STAN)
		}
	case e.Event == payment.EventOriginalNotFound:
		a := c.attempt[attemptKey{id, e.Owed.Attempt}]
		if !c.missed[k] {
			c.fail("I9", "%s ends as not found; %s never said so", id, e.Owed.Link)
		}
		if a.flying && !c.w.plan.remembers[c.linkIndex(e.Owed.Link)] {
			c.fail("I9", "%s, rrn %s, ends as not found while its original is on its way", id, a.intent.RRN)
		}
	default:
		c.fail("I9", "%s: a reversal ends by %s", id, e.Event)
	}
}

func (c *checks) linkIndex(name payment.LinkName) int {
	for i := range c.w.hosts {
		if linkName(i) == name {
			return i
		}
	}
	return -1
}

// leaves is a frame at the moment when the kernel gets it: I5, I7, I9, I14.
func (c *checks) leaves(x *wire, frame []byte) {
	m, err := parse(frame)
	if err != nil {
		c.fail("wire", "%s writes what cannot be read: %v", x.n.id, err)
		return
	}
	c.w.tracef("%s > %s %s stan %s rrn %s", x.n.id, linkName(x.link), m.mti, m.fields[11], m.fields[37])
	k := wireKey{linkName(x.link), m.fields[11]}
	switch m.mti {
	case "0800":
	case "0520", "0521":
		c.totalsLeave(k, m)
	case "0320", "0321":
		c.operationLeaves(k, m)
	case "0100", "0200", "0220", "0221":
		if x := c.claims[k]; x != nil || c.intents[k] == nil && m.mti[1] == '2' {
			c.operationLeaves(k, m)
		} else {
			c.requestLeaves(k, m)
		}
	case "0420", "0421":
		c.reversalLeaves(k, m)
	default:
		c.fail("wire", "%s writes a %s", x.n.id, m.mti)
	}
}

func (c *checks) requestLeaves(k wireKey, m *message) {
	a := c.intents[k]
	switch {
	case a == nil || a.intent.RRN.String() != m.fields[37] || a.intent.Transmitted.String() != m.fields[7]:
		c.fail("I7", "a %s with STAN %s leaves on %s without its intent", m.mti, k.stan, k.link)
		return
	case fmt.Sprintf("%012d", a.intent.Amount.Value) != m.fields[4]:
		c.fail("I7", "STAN %s on %s leaves with amount %s, not %d", k.stan, k.link, m.fields[4], a.intent.Amount.Value)
	case a.written:
		c.fail("I5", "%s attempt %d is written twice", a.intent.ID, a.intent.Attempt)
	}
	c.numbered(k, a.intent.ID)
	a.written, a.flying = true, true
	key := string(a.intent.Merchant) + "/" + string(a.intent.Key)
	for _, earlier := range c.keys[key] {
		if !earlier.declined && !earlier.undone {
			c.fail("I5", "%s attempt %d leaves while %s attempt %d lives", a.intent.ID, a.intent.Attempt, earlier.intent.ID, earlier.intent.Attempt)
		}
	}
	if len(a.intent.Key) > 0 {
		c.keys[key] = append(c.keys[key], a)
	}
}

// numbered: I14, a trace number is one payment's.
func (c *checks) numbered(k wireKey, id payment.ID) {
	if other, used := c.written[k]; used && other != id {
		c.fail("I14", "STAN %s on %s is %s's and %s's", k.stan, k.link, other, id)
	}
	c.written[k] = id
}

func (c *checks) reversalLeaves(k wireKey, m *message) {
	x := c.claims[k]
	if x == nil {
		c.fail("I7", "a %s with STAN %s leaves on %s without a claim", m.mti, k.stan, k.link)
		return
	}
	a := c.attempt[attemptKey{x.id, x.attempt}]
	if a == nil {
		a = c.newest[x.id]
	}
	i := &a.intent
	c.numbered(k, x.id)
	named := payment.Message{MTI: i.MTI, STAN: i.STAN, Transmitted: i.Transmitted}
	if x.original.STAN != 0 {
		named = x.original
	}
	original := fmt.Sprintf("%04X%s%s%011s", named.MTI, named.STAN, named.Transmitted, i.Terms.Acquirer)
	if y := c.ops[x.op]; y != nil && y.op.Means == payment.MeansReversal {
		y.written = true
	}
	at, _ := fmt.Sscan(m.fields[7], new(uint32))
	tries := uint16(0)
	for t, n := range x.transmitted {
		if t.String() == m.fields[7] {
			tries = n
		}
	}
	switch {
	case at == 0 || tries == 0:
		c.fail("I7", "STAN %s on %s leaves at %s, which nobody claimed", k.stan, k.link, m.fields[7])
	case m.fields[37] != i.RRN.String() || len(m.fields[90]) < 31 || m.fields[90][:31] != original:
		c.fail("I9", "the reversal of %s says rrn %s and original %s, not %s", i.ID, m.fields[37], m.fields[90], original)
	case m.mti == "0420" && x.first:
		c.fail("I9", "the reversal of %s is sent again as its first time", i.ID)
	case i.Link != k.link:
		c.fail("I9", "the reversal of %s goes to %s, not %s", i.ID, k.link, i.Link)
	}
	x.first = x.first || m.mti == "0420"
}

// landed: an original's bytes reached the acquirer's decision, or never will.
func (c *checks) landed(host int, frame []byte) {
	m, err := parse(frame)
	if err != nil || m.mti != "0100" && m.mti != "0200" {
		return
	}
	k := wireKey{linkName(host), m.fields[11]}
	if a := c.intents[k]; a != nil {
		a.flying = false
	}
	if x := c.claims[k]; x != nil {
		x.flying = false
	}
}

// delivered is an answer that reaches a node: what it says is known there.
func (c *checks) delivered(x *wire, frame []byte) {
	m, err := parse(frame)
	if err != nil || m.mti != "0110" && m.mti != "0210" {
		return
	}
	c.operationAnswered(wireKey{linkName(x.link), m.fields[11]}, m)
	c.w.tracef("%s < %s %s stan %s %s", x.n.id, linkName(x.link), m.mti, m.fields[11], m.fields[39])
	a := c.intents[wireKey{linkName(x.link), m.fields[11]}]
	if a == nil || a.intent.RRN.String() != m.fields[37] || a.intent.Terms.Terminal != m.fields[41] {
		return
	}
	var value int64
	_, _ = fmt.Sscanf(m.fields[4], "%d", &value)
	switch m.fields[39] {
	case "00", "10":
		a.approved, a.part = true, value
	case "51", "91", "05", "41":
		a.declined = true
	}
}

// acknowledges is what an acquirer says to a reversal.
func (c *checks) acknowledges(host int, m *message, code string) {
	k := wireKey{linkName(host), m.fields[11]}
	switch code {
	case "00", "94":
		c.accepted[k] = true
		if x := c.claims[k]; x != nil && c.ops[x.op] != nil && c.ops[x.op].op.Means != payment.MeansOnline {
			c.ops[x.op].accepted = true
		}
	case "25":
		c.missed[k] = true
	}
}

// told: I8 and I3, what a gateway is told stands in the journal of a majority.
func (c *checks) told(cl *client, p *payment.Payment, err error) {
	var r *payment.Refusal
	if err != nil {
		if errors.As(err, &r) && r.Kind == payment.RefusedBarred && !cl.cancels {
			c.fail("I8", "client %d is barred by nobody", cl.number)
		}
		return
	}
	known, err := journal.ReadPayment(c.disk, p.Intent.ID)
	switch {
	case err != nil:
		c.fail("I8", "client %d is told %s of %s, which is not committed: %v", cl.number, p.Outcome.Status, p.Intent.ID, err)
	case known.Outcome != p.Outcome:
		c.fail("I8", "client %d is told %+v; committed is %+v", cl.number, p.Outcome, known.Outcome)
	}
}

// once: I1, all final answers of a key are equal.
func (c *checks) once(cl *client, x answer) {
	if x != cl.final {
		c.fail("I1", "client %d was told %+v and is told %+v", cl.number, cl.final, x)
	}
}

func (c *checks) cancelled(cl *client, r payment.Cancelled) {
	cl.cancelled = !r.Captured // what a cut-over settled stays
	if !r.Found && !r.Conflict {
		cl.barred = true
	}
}

func (c *checks) byKey(m payment.MerchantID, key []byte) (payment.Payment, error) {
	id, err := journal.ReadByKey(c.disk, m, key)
	if err != nil {
		return payment.Payment{}, err
	}
	return journal.ReadPayment(c.disk, id)
}
