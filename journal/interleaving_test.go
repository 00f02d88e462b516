package journal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"authswitch/payment"
)

var interleavingSeeds = flag.Int("interleavings", 24, "how many seeds TestInterleavings runs")

// TestInterleavings: captures by advice, request and file, increments, refunds,
// corrections, voids, reversals and write-offs from three nodes in any order,
// with answers missing, nodes that die, and days that end. At every moment the
// amounts hold, what is in doubt counted, by the journal's account and by the
// acquirer's own; in the end, when everything is answered, the two agree.
func TestInterleavings(t *testing.T) {
	for seed := range uint64(*interleavingSeeds) {
		s := newStreet(t, seed)
		for range 250 {
			s.step()
			s.check()
			if t.Failed() {
				t.Logf("seed %d: go test ./journal -run TestInterleavings -interleavings %d", seed, seed+1)
				return
			}
		}
		s.drain()
		s.agree()
		if t.Failed() {
			t.Logf("seed %d, after everything is answered", seed)
			return
		}
	}
}

// taken is a message as the acquirer took it.
type taken struct {
	owner  payment.ID
	op     payment.ID
	kind   payment.OperationKind
	amount int64 // 0: undone
}

// street is three nodes, their journal and one acquirer.
type street struct {
	t        *testing.T
	b        *bench
	r        *rand.Rand
	seed     uint64
	n        int
	sessions [3]payment.Session
	flight   []payment.Owed
	took     map[uint64]*taken // by STAN
	captures []payment.ID
	charges  []payment.ID // corrections that charge
	day      uint64
}

var first = number(1)

func newStreet(t *testing.T, seed uint64) *street {
	b := newBench(t)
	s := &street{t: t, b: b, r: rand.New(rand.NewPCG(seed, 11)), seed: seed, took: map[uint64]*taken{}, day: 1}
	for n := range s.sessions {
		s.sessions[n] = b.session(payment.NodeID(fmt.Sprintf("n%d", n+1)))
	}
	i := b.intent(1, s.sessions[0])
	b.open(i)
	b.settle(outcome(i, payment.EventApproved))
	return s
}

func (s *street) step() {
	switch s.r.IntN(16) {
	case 0, 1, 2, 3, 4:
		s.ask()
	case 5, 6, 7:
		s.send()
	case 8, 9, 10, 11:
		s.hear()
	case 12:
		s.settleCharge()
	case 13:
		n := s.r.IntN(3) // a node dies with what it had in flight, and starts again
		s.sessions[n] = s.b.session(payment.NodeID(fmt.Sprintf("n%d", n+1)))
		s.flight = s.flight[:0]
	case 14:
		s.endDay()
	default:
		s.b.advance(s.b.now + payment.Instant(s.r.Int64N(15e9)))
		if s.r.IntN(3) == 0 {
			s.b.restart()
		}
		due, _ := ReadDue(s.b.disk, s.b.now, 10)
		s.b.do(KindExpire, AppendExpire(nil, due))
	}
}

func (s *street) capture() payment.ID {
	if len(s.captures) == 0 {
		return payment.ID{}
	}
	return s.captures[s.r.IntN(len(s.captures))]
}

// ask is some node's gateway.
func (s *street) ask() {
	s.n++
	o := op(s.n, payment.OpCapture, s.r.Int64N(400), payment.ID{})
	switch s.r.IntN(9) {
	case 0:
		byFile(o)
	case 1:
		o.Means, o.MTI, o.Reversible = payment.MeansOnline, 0x0200, true
	case 2:
	case 3, 4:
		o = op(s.n, payment.OpRefund, s.r.Int64N(300), s.capture())
		o.Reversible = s.r.IntN(3) > 0
	case 5:
		o = op(s.n, payment.OpIncrement, s.r.Int64N(300), payment.ID{})
	case 6:
		o = op(s.n, payment.OpRelease, s.r.Int64N(100), payment.ID{})
	case 7:
		o = op(s.n, payment.OpVoid, 0, s.capture())
		o.MTI, o.Reversible = 0x0100, true
	default:
		s.correct()
		return
	}
	if s.b.operate(o).Verdict == payment.OperateNew && o.Kind == payment.OpCapture {
		s.captures = append(s.captures, o.ID)
	}
}

// correct asks for a total; where it stands, the payment comes to that.
func (s *street) correct() {
	total := s.r.Int64N(1500)
	o := correction(s.n, total, true)
	r := s.b.operate(o)
	if r.Verdict != payment.OperateNew {
		return
	}
	if r.Operation.Means == payment.MeansPayment {
		s.charges = append(s.charges, o.ID)
	}
	if got := s.net(); got != total {
		s.t.Errorf("corrected to %d, and it comes to %d", total, got)
	}
}

// net is what the payment comes to, read from outside.
func (s *street) net() int64 {
	a := s.b.payment(first).Account
	net := a.Captured - a.Refunded
	for _, id := range s.charges {
		switch o := s.b.operation(id); o.State {
		case payment.OperationOwed:
			net += o.Amount.Value
		case payment.OperationDone:
			of := s.b.payment(payment.ChargeOf(id)).Account
			net += of.Captured - of.Refunded
		}
	}
	return net
}

// settleCharge lets the payment of a correction end, or never begin.
func (s *street) settleCharge() {
	for _, id := range s.charges {
		o := s.b.operation(id)
		if o.State != payment.OperationOwed {
			continue
		}
		n := s.r.IntN(6)
		if n == 0 {
			s.b.do(KindAbandon, AppendAbandon(nil, id))
			return
		}
		i := s.b.intent(1, s.sessions[s.r.IntN(3)])
		i.ID, i.Key, i.Amount.Value = payment.ChargeOf(id), nil, o.Amount.Value
		i.Capture = payment.Capturing{Mode: payment.CaptureCorrection, Means: payment.MeansSale}
		if n > 3 {
			i.Capture.Means, i.Capture.MTI = payment.MeansAdvice, 0x0220
		}
		if s.b.open(i).Verdict == payment.OpenNew {
			s.b.settle(outcome(i, []payment.Event{payment.EventApproved, payment.EventApproved, payment.EventDeclined, payment.EventUnknown}[s.r.IntN(4)]))
		}
		return
	}
}

// send claims one message; the acquirer may or may not get it.
func (s *street) send() {
	s.n++
	o, ok := s.b.claimNext(s.sessions[s.r.IntN(3)], uint64(s.n))
	if !ok {
		return
	}
	if s.r.IntN(4) > 0 {
		s.arrive(&o)
	}
	s.flight = append(s.flight, o)
}

func (s *street) arrive(o *payment.Owed) {
	switch {
	case !o.IsReversal():
		if s.took[uint64(o.STAN)] == nil {
			s.took[uint64(o.STAN)] = &taken{owner: o.ID, op: o.Operation, kind: o.Kind, amount: o.Amount.Value}
		}
	case o.Original.STAN != 0:
		if original := s.took[uint64(o.Original.STAN)]; original != nil {
			original.amount = 0
		}
	}
}

func (s *street) hear() {
	if len(s.flight) == 0 {
		return
	}
	at := s.r.IntN(len(s.flight))
	o := s.flight[at]
	s.flight = append(s.flight[:at], s.flight[at+1:]...)
	arrived := s.took[uint64(o.STAN)] != nil
	switch {
	case o.Online() && arrived && s.r.IntN(3) > 0:
		s.b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
	case o.Online() && !arrived && s.r.IntN(3) == 0:
		s.b.answer(&o, payment.AdviceDecided, payment.ActionDecline)
	case o.Online():
		s.b.answer(&o, payment.AdviceUnknown, payment.ActionNone)
	case s.r.IntN(4) == 0: // silence: it is repeated
	default:
		s.arrive(&o)
		s.b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
	}
}

// endDay closes the batch and brings its file.
func (s *street) endDay() {
	s.b.cutOver(s.day, 0)
	for _, l := range s.lines(s.day) {
		o := s.b.operation(l.Operation)
		if s.took[1<<40|s.day<<20|uint64(l.Line)] != nil {
			s.t.Errorf("line %d of batch %d twice", l.Line, s.day)
		}
		s.took[1<<40|s.day<<20|uint64(l.Line)] = &taken{owner: o.Payment, op: o.ID, kind: o.Kind, amount: o.Amount.Value}
	}
	s.b.settleFile(s.day)
	s.day++
}

func (s *street) lines(day uint64) []payment.ClearingLine {
	lines, err := ReadClearingLines(s.b.disk, payment.MeansFile, "cb-a", day, 0, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	return lines
}

// sums are what the acquirer has of one payment, by kind.
func (s *street) sums(owner payment.ID) map[payment.OperationKind]int64 {
	sums := map[payment.OperationKind]int64{}
	for _, x := range s.took {
		if x.owner == owner {
			sums[x.kind] += x.amount
		}
	}
	return sums
}

func (s *street) check() {
	a := s.b.payment(first).Account
	if a.Captured < 0 || a.Released < 0 || a.Refunded < 0 || a.Capturable() < 0 || a.Refunded > a.Captured {
		s.t.Errorf("the journal: %+v", a)
	}
	has := s.sums(first)
	if has[payment.OpCapture] > 1000+has[payment.OpIncrement] {
		s.t.Errorf("the acquirer captured %d of 1000 and %d", has[payment.OpCapture], has[payment.OpIncrement])
	}
	if has[payment.OpRefund] > has[payment.OpCapture] {
		s.t.Errorf("the acquirer refunded %d of %d", has[payment.OpRefund], has[payment.OpCapture])
	}
	if has[payment.OpRefund] > a.Refunded || has[payment.OpCapture] > a.Captured {
		s.t.Errorf("the acquirer has %v, the journal counts %+v", has, a)
	}
}

// drain answers everything; a person says of what no machine may settle whether
// the acquirer has it.
func (s *street) drain() {
	for range 600 {
		s.settleCharge()
		s.b.advance(s.b.now + 70e9)
		for len(s.flight) > 0 {
			s.hear()
		}
		s.n++
		if o, ok := s.b.claimNext(s.sessions[0], uint64(s.n)); ok {
			s.arrive(&o)
			if o.Online() {
				s.b.answer(&o, payment.AdviceDecided, payment.ActionApprove)
			} else {
				s.b.answer(&o, payment.AdviceAcknowledged, payment.ActionApprove)
			}
			continue
		}
		s.endDay()
		if !s.resolve() && len(s.b.m.Due("cb-a", s.b.now+day, 1, nil)) == 0 {
			return
		}
	}
	s.t.Errorf("still owed: %+v", s.b.m.Due("cb-a", s.b.now+day, 10, nil))
}

// resolve is the person: one payment's exception.
func (s *street) resolve() bool {
	owners := []payment.ID{first}
	for _, id := range s.charges {
		owners = append(owners, payment.ChargeOf(id))
	}
	for _, owner := range owners {
		history, err := ReadHistory(s.b.disk, owner)
		if err != nil {
			continue
		}
		for _, e := range history {
			if e.Operation == nil {
				continue
			}
			if o := s.b.operation(e.Operation.ID); o.State == payment.OperationException {
				how := payment.NotTaken
				for _, x := range s.took {
					if x.op == o.ID && x.amount > 0 {
						how = payment.Taken
					}
				}
				s.b.do(KindWriteOff, AppendWriteOff(nil, &payment.WriteOff{ID: owner, Operator: "ana", Reason: "their books", Operations: how}))
				return true
			}
		}
	}
	return false
}

// agree: every operation that is done is with the acquirer, once and whole, and
// nothing else is.
func (s *street) agree() {
	has := map[payment.ID]int64{}
	for _, x := range s.took {
		has[x.op] += x.amount
	}
	history, err := ReadHistory(s.b.disk, first)
	if err != nil {
		s.t.Fatal(err)
	}
	var captured, refunded int64
	seen := map[payment.ID]bool{}
	for _, e := range history {
		if e.Operation == nil || seen[e.Operation.ID] {
			continue
		}
		seen[e.Operation.ID] = true
		o := s.b.operation(e.Operation.ID)
		want := int64(0)
		if o.State == payment.OperationDone && (o.Kind == payment.OpCapture || o.Kind == payment.OpRefund || o.Kind == payment.OpIncrement) {
			want = o.Amount.Value
		}
		switch {
		case !o.State.Over():
			s.t.Errorf("%s %s is %s", o.Kind, o.ID, o.State)
		case o.Kind == payment.OpCapture:
			captured += want
		case o.Kind == payment.OpRefund:
			refunded += want
		}
		if has[o.ID] != want {
			s.t.Errorf("%s of %d is %s by %s, the acquirer has %d", o.Kind, o.Amount.Value, o.State, o.Means, has[o.ID])
		}
	}
	if a := s.b.payment(first).Account; a.Captured != captured || a.Refunded != refunded {
		s.t.Errorf("the account %+v, the operations %d and %d", a, captured, refunded)
	}
}
