package journal

import (
	"bytes"
	"fmt"
	"time"

	"authswitch/payment"
)

// Machine is the state machine. Apply takes committed entries in order, Flush
// hands over what they wrote. It is not safe for concurrent use: store holds a
// lock around it.
type Machine struct {
	view  view
	names names

	now     payment.Instant // of the newest entry
	step    payment.Instant // when it last went forward further than it should
	applied uint64          // index of the last flush
	last    payment.Session // the newest session ever begun
	nodes   map[string]payment.Session
	fence   fence
	version Version // of the state
	newest  Version // that this program can apply
	marks   map[payment.NodeID]uint64
	begun   map[string]begun // by which process, for those in nodes that said so
	numbers map[string]*numbers
	shares  map[string]*shares
	days    []uint32 // generations of idempotency keys, oldest first

	open             map[payment.ID]*life
	ids              heap[payment.ID] // of the open ones, the decided dropped lazily
	keys             recent
	seen             seen
	lanes            map[string]*lane
	working          keyTable
	batches          batches
	merchants        int // that the journal has
	merchantsChanged bool
	owesMore         bool
	decided          []payment.ID // since the last flush: who waits for them is told

	// Scratch, so that Apply allocates nothing.
	decidedLife    life
	retired, spare []*life
	keyA, keyB     []byte
	value, body    []byte
	sweepIDs       []payment.ID
	late           payment.Late
	answer         payment.Acknowledgement
	scratchOutcome payment.Outcome

	scratchOperation payment.Operation
	scratchAccount   account
}

// New is a machine over a state. Load must come before anything else.
func New(state Reader) *Machine {
	return &Machine{
		view: view{state: state, writes: newWrites()}, names: names{},
		nodes: map[string]payment.Session{}, begun: map[string]begun{}, numbers: map[string]*numbers{}, shares: map[string]*shares{}, lanes: map[string]*lane{},
		version: FirstVersion, newest: NewestVersion, marks: map[payment.NodeID]uint64{},
		open: map[payment.ID]*life{}, ids: heap[payment.ID]{less: func(a, b *payment.ID) bool { return bytes.Compare(a[:], b[:]) < 0 }},
		keys: newRecent(RecentKeys), batches: newBatches(),
	}
}

// Applied is the index up to which the state is flushed: entries up to it must
// not be applied again.
func (m *Machine) Applied() uint64 { return m.applied }

// Now is the newest entry's time.
func (m *Machine) Now() payment.Instant { return m.now }

// Decided returns the payments decided since the last call.
func (m *Machine) Decided() []payment.ID {
	d := m.decided
	m.decided = m.decided[:0]
	return d
}

// Apply applies one committed entry and appends one result per command. An
// error means that this node cannot go on: a damaged entry, a command it does
// not know, a state it cannot read. Nothing of the entry may then be flushed.
func (m *Machine) Apply(entry []byte, results []Result) ([]Result, error) {
	leader, count, c, err := readEntry(entry)
	if err != nil {
		return results, err
	}
	m.tick(leader)
	for range count {
		kind, body := nextCommand(&c)
		if c.broken {
			return results, ErrCorrupt
		}
		results = append(results, Result{Kind: kind})
		r := &results[len(results)-1]
		if err := m.command(kind, body, r); err != nil {
			return results, fmt.Errorf("%s command: %w", kind, err)
		}
		if m.view.err != nil {
			return results, fmt.Errorf("%s command: %w", kind, m.view.err)
		}
	}
	return results, c.end()
}

// longestStep is more than passes between two entries while anything is open or
// owed. What steps further may be a clock that was set.
const longestStep = payment.Instant(60 * time.Second)

// tick moves the journal's time, which never goes back whatever the leaders'
// clocks do. A step forward is noted: what was open or owed before it gets its
// time again, because nobody knows how much of it has passed.
func (m *Machine) tick(leader payment.Instant) {
	if leader > m.now+longestStep {
		m.step = leader
	}
	m.now = max(m.now, leader)
}

// overdue says whether an open payment's answer can no longer come.
func (m *Machine) overdue(l *life, now, margin payment.Instant) bool {
	return now > l.deadline+margin && now > m.step+l.span+margin
}

func (m *Machine) command(kind Kind, body []byte, r *Result) error {
	c := cursor{b: body}
	switch kind {
	case KindSession:
		return m.applySession(&c, r)
	case KindOpen:
		return m.applyOpen(body, r)
	case KindNext:
		return m.applyNext(body, r)
	case KindSettle:
		return m.applySettle(&c, r)
	case KindCancel:
		return m.applyCancel(&c, r)
	case KindLate:
		return m.applyLate(&c, r)
	case KindClaim:
		return m.applyClaim(&c, r)
	case KindAcknowledge:
		return m.applyAcknowledge(&c, r)
	case KindLease:
		return m.applyLease(&c, r)
	case KindSweep:
		return m.applySweep(&c, r)
	case KindForget:
		return m.applyForget(&c, r)
	case KindOperate:
		return m.applyOperate(&c, r)
	case KindExpire:
		return m.applyExpire(&c, r)
	case KindCard:
		return m.applyCard(&c, r)
	case KindCardReseal:
		return m.applyCardReseal(&c, r)
	case KindWriteOff:
		return m.applyWriteOff(&c, r)
	case KindCutOver, KindFiled, KindFileSettle, KindUpload, KindTotals, KindAgreed:
		return m.applyClearing(kind, &c, r)
	case KindMerchant:
		return m.applyMerchant(&c, r)
	case KindPaymentLink:
		return m.applyPaymentLink(&c, r)
	case KindAbandon:
		return m.applyAbandon(&c, r)
	case KindCredit:
		return m.applyCredit(body, r)
	case KindKeyPut, KindKeyAdvance, KindKeyRewrap, KindKeySweep, KindKeyMark:
		return m.applyKey(kind, &c, r)
	case KindBatchBegin, KindBatchLines, KindBatchSeal, KindBatchAct, KindBatchRun, KindBatchSweep, KindPerson:
		return m.applyBatch(kind, &c, r)
	case KindEndSession:
		return m.applyEndSession(&c, r)
	case KindForgetNode:
		return m.applyForgetNode(&c, r)
	case KindRelease:
		return m.applyRelease(&c, r)
	case KindVersion:
		return m.applyVersion(&c, r)
	case KindMarks:
		return m.applyMarks(&c, r)
	case KindShare:
		return m.applyShare(&c, r)
	}
	return fmt.Errorf("%w: a command of kind %d", ErrNewer, kind)
}

// The meta record. From version 2 of the record on, the journal's version is
// what comes first, so that every later program's is refused by its name.
const (
	metaVersion      = 1
	metaVersionFirst = 2
)

// Flush writes everything since the last flush, and index with it: a state and
// its applied index are never apart.
func (m *Machine) Flush(index uint64, b Batch) error {
	m.applied = index
	oldest := m.oldestOpen()
	v := append(m.value[:0], metaVersion)
	if m.at(versionMarks) {
		v = put16(append(v[:0], metaVersionFirst), uint16(m.version))
	}
	v = put64(v, index)
	v = putTime(v, m.now)
	v = putTime(v, m.step)
	v = append(v, oldest[:]...)
	v = put64(v, uint64(m.last))
	m.value = v
	m.view.writes.set([]byte{tableMeta}, v)
	m.flushBatches()
	m.spare = append(m.spare, m.retired...)
	m.retired = m.retired[:0]
	return m.view.writes.flush(b)
}

// oldestOpen is the least id of an open payment: where a start looks for open
// intents from, instead of a key of their own that each payment would write and
// delete. All ones when nothing is open.
func (m *Machine) oldestOpen() payment.ID {
	for {
		top := m.ids.top()
		if top == nil {
			return payment.ID(bytes.Repeat([]byte{0xFF}, 16))
		}
		if _, ok := m.open[*top]; ok {
			return *top
		}
		m.ids.pop()
	}
}

// newLife takes a life from the spare ones.
func (m *Machine) newLife(id payment.ID) *life {
	if n := len(m.spare); n > 0 {
		l := m.spare[n-1]
		m.spare = m.spare[:n-1]
		*l = life{id: id, owed: l.owed[:0]}
		return l
	}
	return &life{id: id}
}

func (m *Machine) track(l *life) {
	m.open[l.id] = l
	m.ids.push(l.id)
}

func (m *Machine) lane(link string) *lane {
	l := m.lanes[link]
	if l == nil {
		l = newLane()
		m.lanes[link] = l
	}
	return l
}

// Load rebuilds what is in memory from the state.
func (m *Machine) Load() error {
	oldest, err := m.loadMeta()
	if err != nil {
		return err
	}
	for _, load := range [...]func() error{
		m.loadSessions, m.loadNumbers, m.loadShares, m.loadOwed, func() error { return m.loadOpen(oldest) }, m.loadDays, m.loadKeys, m.loadBatches, m.loadFence, m.loadMarks, m.loadMerchants,
	} {
		if err := load(); err != nil {
			return err
		}
		if m.view.err != nil {
			return m.view.err
		}
	}
	return nil
}

func (m *Machine) loadMeta() (oldest payment.ID, err error) {
	value, found, err := m.view.state.Get(nil, []byte{tableMeta})
	if err != nil || !found {
		return oldest, err
	}
	c := cursor{b: value}
	switch record := c.u8(); {
	case record >= metaVersionFirst:
		m.version = Version(c.u16())
		if err := m.understands(m.version); err != nil {
			return oldest, err
		}
		c.broken = c.broken || record > metaVersionFirst
	case record != metaVersion:
		c.broken = true
	}
	m.applied = c.u64()
	m.now = c.time()
	m.step = c.time()
	oldest = c.id()
	m.last = payment.Session(c.u64())
	return oldest, c.end()
}

// table visits a whole table.
func (m *Machine) table(table byte, visit func(key, value []byte) error) error {
	var fault error
	err := m.view.state.Scan([]byte{table}, []byte{table + 1}, false, func(key, value []byte) bool {
		fault = visit(key, value)
		return fault == nil
	})
	if err != nil {
		return err
	}
	return fault
}

func (m *Machine) loadSessions() error {
	return m.table(tableSessions, func(key, value []byte) error {
		c := cursor{b: key[1:]}
		node := string(c.text())
		v := cursor{b: value}
		m.nodes[node] = payment.Session(v.u64())
		if len(v.b) > 0 {
			m.begun[node] = readBegun(&v)
		}
		return v.end()
	})
}

func (m *Machine) loadNumbers() error {
	return m.table(tableNumbers, func(key, value []byte) error {
		c := cursor{b: key[1:]}
		link := m.names.of(c.text())
		n := &numbers{}
		m.numbers[link] = n
		return n.read(value)
	})
}

func (m *Machine) loadOwed() error {
	return m.table(tableOwed, func(_, value []byte) error {
		o := &owing{}
		c := cursor{b: value}
		o.by = readOwed(&c, &o.Owed)
		o.Link = payment.LinkName(m.names.of([]byte(o.Link)))
		m.enlist(string(o.Link), o)
		return c.end()
	})
}

// loadOpen reads the lines from the oldest open payment on; a payment whose
// newest line says open is open.
func (m *Machine) loadOpen(oldest payment.ID) error {
	from := appendLineKey(nil, oldest, 0)
	var l *life
	var fault error
	keep := func() {
		if l != nil && l.state == payment.StateOpen {
			m.track(l)
		}
	}
	err := m.view.state.Scan(from, []byte{tableLines + 1}, false, func(key, value []byte) bool {
		id := payment.ID(key[1:17])
		if l == nil || l.id != id {
			keep()
			l = &life{id: id}
		}
		c := cursor{b: value}
		h := readLine(&c, l)
		l.lines = lineOf(key) + 1
		if h.kind == payment.EntryIntent {
			var i intentHead
			known, approval := l.known, l.approval
			i.read(&c)
			l.take(&i, h.at, m.names)
			l.known, l.approval = known, approval
		}
		if c.broken {
			fault = ErrCorrupt
		}
		return fault == nil
	})
	keep()
	if err != nil {
		return err
	}
	return fault
}

// loadDays finds the generations by seeking from one to the next. The filter
// of their keys is read beside the running machine (ReadKeys): until it is
// adopted, every new key costs a read.
func (m *Machine) loadDays() error {
	m.seen = seen{room: m.seen.room, partial: true}
	for from := uint32(0); ; {
		day, found := uint32(0), false
		err := m.view.state.Scan(put32([]byte{tableKeys}, from), []byte{tableKeys + 1}, false, func(key, _ []byte) bool {
			c := cursor{b: key[1:]}
			day, found = c.u32(), true
			return false
		})
		if err != nil || !found {
			return err
		}
		m.generation(day)
		if from = day + 1; from == 0 {
			return nil
		}
	}
}

// generation notes that a day has keys. Days come in order. What is kept of
// recent keys is dropped with the change: look-ups no longer read the oldest
// generation, and memory must not know more than they would find.
func (m *Machine) generation(day uint32) {
	if n := len(m.days); n == 0 || m.days[n-1] < day {
		m.days = append(m.days, day)
		m.keys.clear()
	}
}

// Overdue says whether a sweep at that moment would find something.
func (m *Machine) Overdue(now payment.Instant, margin int64) bool {
	for _, l := range m.open {
		if m.overdue(l, now, payment.Instant(margin)) {
			return true
		}
	}
	return false
}

// Stale says whether a Forget at that moment would find something.
func (m *Machine) Stale(now payment.Instant, keep int64) bool {
	return len(m.days) > keptGenerations && m.stale(m.days[0], now, keep)
}

// stale says whether the newest entry that a generation can have is past keeping.
func (m *Machine) stale(day uint32, now payment.Instant, keep int64) bool {
	return int64(now)-(int64(day)+1)*nanosecondsPerDay > keep
}

// keptGenerations are read by every look-up and never deleted: today's and the
// two before that have any keys.
const keptGenerations = 3

func (m *Machine) applyForget(c *cursor, r *Result) error {
	c.version(commandVersion)
	keep := int64(c.u64())
	if err := c.end(); err != nil {
		return err
	}
	for len(m.days) > keptGenerations && m.stale(m.days[0], m.now, keep) {
		day := m.days[0]
		m.days = m.days[1:]
		m.seen.forget(day)
		m.view.writes.deleteRange(put32([]byte{tableKeys}, day), put32([]byte{tableKeys}, day+1))
		r.Count++
	}
	return nil
}
