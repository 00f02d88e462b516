package journal

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay one seed of TestMetamorphic")
	spendFlag = flag.Duration("spend", 3*time.Second, "how long TestMetamorphic looks for a difference")
)

// TestMetamorphic runs the same random commands on the journal and on the
// model, and expects the same answers. Between them entries are flushed in
// batches of any size, the machine is restarted, and a crash takes what was not
// made durable, which is then applied again from the log. In the end another
// machine that applies the log one entry at a time has the same state, byte for
// byte.
func TestMetamorphic(t *testing.T) {
	if *seedFlag != 0 {
		newTrial(t, *seedFlag).run(600)
		return
	}
	first := uint64(time.Now().UnixNano())
	began := time.Now()
	n := uint64(0)
	for ; time.Since(began) < *spendFlag && !t.Failed(); n++ {
		newTrial(t, first+n).run(300)
	}
	t.Logf("%d seeds from %d; replay one with: go test ./journal -run TestMetamorphic -seed N", n, first)
}

type trial struct {
	t    *testing.T
	seed uint64
	rand *rand.Rand

	model   *model
	machine *Machine
	disk    *disk    // flushed, not yet durable
	durable *disk    // what a crash leaves
	loaded  *disk    // what the last start saw, until its keys are adopted
	log     [][]byte // all entries
	answers []string // to each
	flushed int      // entries in disk
	saved   int      // entries in durable

	now      payment.Instant
	minted   int
	sessions []payment.Session
	numbers  uint64
	steps    []string
}

func newTrial(t *testing.T, seed uint64) *trial {
	r := &trial{
		t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), model: newModel(), disk: newDisk(), durable: newDisk(), now: 20_000*day + day/2,
	}
	r.machine = New(r.disk)
	if err := r.machine.Load(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *trial) run(steps int) {
	r.step() // of the first session
	for range steps {
		if r.t.Failed() {
			return
		}
		switch r.rand.IntN(20) {
		case 0:
			r.flush()
		case 1:
			r.flush()
			r.durable, r.saved = r.disk.clone(), r.flushed
		case 2:
			r.flush()
			r.load(r.disk)
		case 3:
			r.crash()
		case 4:
			if r.loaded != nil {
				adopt(r.t, r.machine, r.loaded)
				r.loaded = nil
			}
		default:
			r.step()
		}
	}
	r.flush()
	r.compare()
	r.replay()
	if r.t.Failed() {
		r.t.Logf("seed %d, last steps:\n%s", r.seed, strings.Join(r.steps[max(0, len(r.steps)-12):], "\n"))
	}
}

func (r *trial) flush() {
	if len(r.log) == r.flushed {
		return
	}
	r.flushed = len(r.log)
	if err := r.machine.Flush(uint64(r.flushed), r.disk); err != nil {
		r.t.Fatal(err)
	}
}

func (r *trial) load(d *disk) {
	r.machine = New(d)
	if err := r.machine.Load(); err != nil {
		r.t.Fatalf("seed %d: load: %v", r.seed, err)
	}
	r.loaded = d.clone() // adopted a little later, or never
}

// crash takes the machine and what was not durable, and starts again from the
// log.
func (r *trial) crash() {
	r.disk = r.durable.clone()
	r.load(r.disk)
	if int(r.machine.Applied()) != r.saved {
		r.t.Fatalf("seed %d: applied %d after a crash, want %d", r.seed, r.machine.Applied(), r.saved)
	}
	for n := r.saved; n < len(r.log); n++ {
		results, err := r.machine.Apply(r.log[n], nil)
		if err != nil {
			r.t.Fatalf("seed %d: apply again: %v", r.seed, err)
		}
		if got := describeAll(results); got != r.answers[n] {
			r.t.Errorf("seed %d: after a crash entry %d gave\n%s\nbefore it\n%s", r.seed, n+1, got, r.answers[n])
		}
	}
	r.flushed = r.saved
	r.flush()
}

// step makes a few commands, gives them to both, and compares.
func (r *trial) step() {
	if r.rand.IntN(12) == 0 {
		r.now += [...]payment.Instant{1e9, 20e9, 200e9, day / 2, day, 4 * day}[r.rand.IntN(6)]
	}
	r.now += payment.Instant(r.rand.IntN(3)) * 1e9
	leader := r.now
	if r.rand.IntN(10) == 0 {
		leader -= 5e9 // a leader whose clock is behind: the journal's time stays
	}
	if leader-r.model.now > 60e9 {
		r.model.step = leader
	}
	r.model.now = max(r.model.now, leader)
	entry := BeginEntry(nil, leader)
	var want []string
	for range 1 + r.rand.IntN(4) {
		kind, body, answer := r.command()
		entry = AddCommand(entry, kind, body)
		want = append(want, kind.String()+" "+answer)
		r.steps = append(r.steps, want[len(want)-1])
	}
	entry = EndEntry(entry)
	results, err := r.machine.Apply(entry, nil)
	if err != nil {
		r.t.Fatalf("seed %d: apply: %v", r.seed, err)
	}
	r.log, r.answers = append(r.log, entry), append(r.answers, describeAll(results))
	for n := range results {
		if got := results[n].Kind.String() + " " + describe(&results[n]); got != want[n] {
			r.t.Errorf("seed %d, step %d:\n got %s\nwant %s", r.seed, len(r.steps), got, want[n])
		}
		if results[n].Kind == KindSession {
			r.sessions = append(r.sessions, results[n].Session)
		}
	}
}

func describeAll(results []Result) string {
	var b strings.Builder
	for n := range results {
		b.WriteString(results[n].Kind.String() + " " + describe(&results[n]) + "\n")
	}
	return b.String()
}

func describe(x *Result) string {
	switch x.Kind {
	case KindSession:
		return fmt.Sprint(x.Session, x.Count)
	case KindOpen:
		return fmt.Sprintf("%d %q", x.Opened.Verdict, x.Opened.ID[:])
	case KindNext, KindSettle:
		return fmt.Sprintf("%+v %v", x.Settled, x.Err)
	case KindCancel:
		return fmt.Sprintf("%+v", x.Cancelled)
	case KindWriteOff:
		return fmt.Sprint(x.Count, x.State, x.Err)
	case KindLate, KindAcknowledge:
		return fmt.Sprint(x.State, x.Err)
	case KindClaim:
		return fmt.Sprintf("%+v %v", x.Owed, x.Err)
	case KindSweep, KindForget, KindKeySweep:
		return fmt.Sprint(x.Count)
	case KindKeyPut, KindKeyAdvance, KindKeyRewrap:
		return describeKey(x.Key, x.Err)
	}
	return "?"
}

// pick is a payment that exists, mostly.
func (r *trial) pick() *modelPayment {
	ids := slices.SortedFunc(maps.Keys(r.model.payments), func(a, b payment.ID) int { return slices.Compare(a[:], b[:]) })
	if len(ids) == 0 {
		return nil
	}
	// The newest are the interesting ones.
	return r.model.payments[ids[max(0, len(ids)-1-r.rand.IntN(8))]]
}

func (r *trial) session() payment.Session {
	if len(r.sessions) == 0 {
		return 1
	}
	if r.rand.IntN(8) == 0 {
		return r.sessions[r.rand.IntN(len(r.sessions))]
	}
	return r.sessions[len(r.sessions)-1]
}

// mint makes ids as payment.Minter does: milliseconds first.
func (r *trial) mint() (id payment.ID) {
	r.minted++
	binary.BigEndian.PutUint64(id[:], uint64(r.now/1e6)<<16|0x7000)
	binary.BigEndian.PutUint64(id[8:], uint64(r.minted))
	return id
}

func (r *trial) intent() *payment.Intent {
	n := r.rand.IntN(12)
	received := r.now
	if r.rand.IntN(4) == 0 {
		received -= 3600e9 // a node whose clock was set back
	}
	return &payment.Intent{
		ID: r.mint(), Attempt: 1, Session: r.session(), Node: "n1", Merchant: []payment.MerchantID{"parcels", "books"}[r.rand.IntN(2)],
		Key: fmt.Appendf(nil, "key-%d", n), Fingerprint: [32]byte{byte(r.rand.IntN(8) / 7)}, Reference: fmt.Appendf(nil, "ORDER-%d", r.rand.IntN(12)),
		Amount: payment.Amount{Value: int64(n), Currency: 978}, Link: []payment.LinkName{"cb-a", "visa-b"}[r.rand.IntN(2)],
		ReceivedAt: received, SendBy: received + 1e9, AnswerBy: received + 10e9, LifeOver: received + 180e9,
	}
}

// command makes one random command and the model's answer to it.
func (r *trial) command() (Kind, []byte, string) {
	p := r.pick()
	at := r.rand.IntN(100)
	if r.rand.IntN(12) == 0 {
		return r.keyCommand()
	}
	if len(r.model.nodes) == 0 || at < 3 {
		node := []payment.NodeID{"n1", "n2"}[r.rand.IntN(2)]
		s, count := r.model.session(node)
		return KindSession, AppendSession(nil, node), fmt.Sprint(s, count)
	}
	switch {
	case p == nil || at < 35:
		i := r.intent()
		if p != nil && r.rand.IntN(5) == 0 {
			*i = p.intents[0] // proposed again
		}
		o := r.model.open(i)
		return KindOpen, AppendOpen(nil, i), fmt.Sprintf("%d %q", o.Verdict, o.ID[:])
	case at < 55:
		return r.settle(p)
	case at < 60:
		return r.next(p)
	case at < 68:
		return r.cancel(p)
	case at < 75:
		return r.late(p)
	case at < 96:
		return r.outbox()
	case at < 99:
		margin := int64(2e9)
		count := r.model.expire(payment.EventOverdue, payment.CauseOverdue, func(p *modelPayment) bool {
			i, shift, by := p.intent(), p.shift(len(p.at)-1), r.model.now-payment.Instant(margin)
			return by > i.AnswerBy+shift && by-r.model.step > i.AnswerBy-i.ReceivedAt
		})
		return KindSweep, AppendSweep(nil, margin), fmt.Sprint(count)
	}
	keep := int64(day)
	count := 0
	for len(r.model.days) > 3 && int64(r.model.now)-(int64(r.model.days[0])+1)*int64(day) > keep {
		delete(r.model.keys, r.model.days[0])
		r.model.days = r.model.days[1:]
		count++
	}
	return KindForget, AppendForget(nil, keep), fmt.Sprint(count)
}

func (r *trial) settle(p *modelPayment) (Kind, []byte, string) {
	event := []payment.Event{payment.EventApproved, payment.EventDeclined, payment.EventNeverSent, payment.EventUnknown, payment.EventApprovalRefused}[r.rand.IntN(5)]
	o := outcome(p.intent(), event)
	if r.rand.IntN(10) == 0 {
		o.Attempt++
	}
	if r.rand.IntN(10) == 0 {
		o.ID = number(999_999)
	}
	if r.rand.IntN(6) == 0 {
		o.Session = r.session()
	}
	s, err := r.model.settle(*o)
	return KindSettle, AppendSettle(nil, o), fmt.Sprintf("%+v %v", s, err)
}

func (r *trial) next(p *modelPayment) (Kind, []byte, string) {
	i := *p.intent()
	o := outcome(&i, []payment.Event{payment.EventDeclined, payment.EventNeverSent}[r.rand.IntN(2)])
	i.Attempt++
	switch r.rand.IntN(8) {
	case 0: // the same again
		o.Attempt, i.Attempt = o.Attempt-1, i.Attempt-1
	case 1: // one too far
		o.Attempt, i.Attempt = o.Attempt+1, i.Attempt+1
	}
	i.Link = []payment.LinkName{"cb-a", "visa-b"}[r.rand.IntN(2)]
	i.AnswerBy, i.LifeOver = max(i.ReceivedAt, r.now)+10e9, max(i.ReceivedAt, r.now)+180e9
	s, err := r.model.next(*o, i)
	return KindNext, AppendNext(nil, o, &i), fmt.Sprintf("%+v %v", s, err)
}

func (r *trial) cancel(p *modelPayment) (Kind, []byte, string) {
	i := p.intents[0]
	c := payment.Cancellation{Merchant: i.Merchant, Reason: payment.ReversalCustomer}
	switch r.rand.IntN(4) {
	case 0:
		c.ID = i.ID
	case 1:
		c.Key = i.Key
	case 2:
		c.Reference = i.Reference
	case 3:
		c.Key = fmt.Appendf(nil, "key-%d", r.rand.IntN(12))
	}
	if r.rand.IntN(2) == 0 {
		c.RequestKey = fmt.Appendf(nil, "undo-%d", r.rand.IntN(6))
	}
	return KindCancel, AppendCancel(nil, &c), fmt.Sprintf("%+v", r.model.cancel(c))
}

func (r *trial) late(p *modelPayment) (Kind, []byte, string) {
	l := late(&p.intents[r.rand.IntN(len(p.intents))], r.rand.IntN(2) == 0)
	if r.rand.IntN(10) == 0 {
		l.Attempt += 3
	}
	s, err := r.model.late(*l)
	return KindLate, AppendLate(nil, l), fmt.Sprint(s, err)
}

func (r *trial) outbox() (Kind, []byte, string) {
	names := slices.Sorted(maps.Keys(r.model.owed))
	link, seq := payment.LinkName("cb-a"), uint64(1)
	if len(names) > 0 {
		o := r.model.owed[names[r.rand.IntN(len(names))]]
		link, seq = o.Link, o.Seq
	}
	if r.rand.IntN(2) == 0 {
		r.numbers += uint64(r.rand.IntN(5)+3) / 4 // now and then the same claim again
		by := claim{session: r.session(), number: r.numbers}
		stan, sent := payment.STAN(r.rand.IntN(900)+1), payment.Transmitted(r.rand.IntN(1000))
		o, err := r.model.claim(by, link, seq, stan, sent)
		return KindClaim, AppendClaim(nil, by.session, by.number, link, seq, stan, sent), fmt.Sprintf("%+v %v", o, err)
	}
	if r.rand.IntN(6) == 0 {
		w := payment.WriteOff{ID: number(999_999), Operator: "ana", Reason: "ticket 7"}
		if o := r.model.owed[owedName(link, seq)]; o != nil {
			w.ID = o.ID
		}
		count, state, err := r.model.writeOff(w.ID)
		return KindWriteOff, AppendWriteOff(nil, &w), fmt.Sprint(count, state, err)
	}
	v := payment.AdviceVerdict(r.rand.IntN(4))
	answer := payment.Response{Code: payment.MakeResponseCode([]byte{'0', '0' + byte(v)})}
	s, err := r.model.acknowledge(link, seq, answer.Code, v)
	return KindAcknowledge, AppendAcknowledge(nil, link, seq, &answer, v), fmt.Sprint(s, err)
}

// compare looks at everything that can be read.
func (r *trial) compare() {
	for id, p := range r.model.payments {
		got, err := ReadPayment(r.disk, id)
		if err != nil {
			r.t.Errorf("seed %d: read %q: %v", r.seed, id[:], err)
			continue
		}
		if got.State != p.state || got.Outcome != p.outcome || got.Intent.Attempt != uint8(len(p.intents)) || got.Intent.Link != p.intent().Link {
			r.t.Errorf("seed %d: %q is %s %+v, want %s %+v", r.seed, id[:], got.State, got.Outcome, p.state, p.outcome)
		}
		if h, err := ReadHistory(r.disk, id); err != nil || len(h) != p.lines || h[len(h)-1].State != p.state {
			r.t.Errorf("seed %d: %q has %d lines, want %d (%v)", r.seed, id[:], len(h), p.lines, err)
		}
	}
	r.compareKeys()
	for _, link := range []payment.LinkName{"cb-a", "visa-b"} {
		due := r.machine.Due(link, r.model.now, 1<<20, nil)
		all := r.machine.Due(link, 1<<62, 1<<20, nil)
		wantDue, wantAll, wantExceptions, wantOldest := 0, 0, 0, payment.Instant(0)
		for _, o := range r.model.owed {
			if o.Link == link {
				wantAll++
				if o.Exception {
					wantExceptions++
				}
				if wantOldest == 0 || o.Since < wantOldest {
					wantOldest = o.Since
				}
				if o.Due <= r.model.now {
					wantDue++
				}
			}
		}
		if len(due) != wantDue || len(all) != wantAll {
			r.t.Errorf("seed %d: %s: %d due of %d, want %d of %d", r.seed, link, len(due), len(all), wantDue, wantAll)
		}
		for _, o := range all {
			if want := r.model.owed[owedName(link, o.Seq)]; want == nil || *want != o {
				r.t.Errorf("seed %d: owed %+v, want %+v", r.seed, o, want)
			}
		}
		if count, oldest, exceptions := r.machine.Owing(link); count != wantAll || oldest != wantOldest || exceptions != wantExceptions {
			r.t.Errorf("seed %d: %s owes %d since %d with %d exceptions, want %d, %d, %d", r.seed, link, count, oldest, exceptions, wantAll, wantOldest, wantExceptions)
		}
	}
	for _, merchant := range []payment.MerchantID{"parcels", "books"} {
		ids, more, err := ReadList(r.disk, merchant, payment.ID{}, 1<<20)
		want := 0
		for _, p := range r.model.payments {
			if p.intents[0].Merchant == merchant {
				want++
			}
		}
		if err != nil || more || len(ids) != want {
			r.t.Errorf("seed %d: %s has %d payments, want %d (%v)", r.seed, merchant, len(ids), want, err)
		}
	}
}

// replay applies the whole log to an empty state, one entry at a time.
func (r *trial) replay() {
	d := newDisk()
	m := New(d)
	if err := m.Load(); err != nil {
		r.t.Fatal(err)
	}
	for n, entry := range r.log {
		_, err := m.Apply(entry, nil)
		if err = errors.Join(err, m.Flush(uint64(n+1), d)); err != nil {
			r.t.Fatal(err)
		}
	}
	if d.dump() != r.disk.dump() {
		r.t.Errorf("seed %d: the same log gave another state", r.seed)
	}
}
