package journal

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

// TestMetamorphicTills runs the same random captures, refunds, increments,
// partial reversals, voids and cancellations on the journal and on a plain model
// of them, with the answers that acquirers give and restarts between, and expects
// the same answers, operations, accounts and outbox.
func TestMetamorphicTills(t *testing.T) {
	first, began, n := uint64(time.Now().UnixNano()), time.Now(), uint64(0)
	if *seedFlag != 0 {
		newCounter(t, *seedFlag).run(200)
		return
	}
	for ; time.Since(began) < *spendFlag/2 && !t.Failed(); n++ {
		newCounter(t, first+n).run(200)
	}
	t.Logf("%d seeds from %d; replay one with: go test ./journal -run TestMetamorphicTills -seed N", n, first)
}

// counter runs both.
type counter struct {
	*bench
	seed  uint64
	r     *rand.Rand
	model *tills
	n     int
	steps []string
}

func newCounter(t *testing.T, seed uint64) *counter {
	c := &counter{bench: newBench(t), seed: seed, r: rand.New(rand.NewPCG(seed, 5)), model: &tills{keys: map[string]*tilled{}}}
	if c.model.voids = seed%2 == 0; c.model.voids {
		c.do(KindVersion, AppendVersion(nil, NewestVersion))
	}
	c.model.session = c.session("n1")
	for n := range 3 {
		i := c.intent(n+1, c.model.session)
		i.ID = payment.ID{1, byte(n)}
		c.open(i)
		c.settle(outcome(i, payment.EventApproved))
		c.model.tills = append(c.model.tills, &till{intent: *i, state: payment.StateApproved, money: payment.Account{Authorized: i.Amount.Value}})
	}
	return c
}

func (c *counter) run(steps int) {
	for range steps {
		c.model.now = c.now
		c.step()
		if c.t.Failed() {
			break
		}
	}
	c.compare()
	if c.t.Failed() {
		c.t.Logf("seed %d, last steps:\n%s", c.seed, strings.Join(c.steps[max(0, len(c.steps)-14):], "\n"))
	}
}

func (c *counter) did(got, want any, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	c.steps = append(c.steps, fmt.Sprintf("%s: %v", line, want))
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("seed %d: %s\n got %v\nwant %v", c.seed, line, got, want)
	}
}

func (c *counter) step() {
	switch n := c.r.IntN(20); {
	case n < 7:
		c.ask()
	case n < 12:
		c.claimSome()
	case n < 16:
		c.answerSome()
	case n == 16:
		c.advance(c.now + payment.Instant(c.r.Int64N(20e9)))
	case n == 17:
		c.restart()
	case n == 18 && c.r.IntN(6) == 0:
		t := c.model.tills[c.r.IntN(len(c.model.tills))]
		r := c.do(KindCancel, AppendCancel(nil, &payment.Cancellation{Merchant: t.intent.Merchant, Key: t.intent.Key, Reason: payment.ReversalTimeout}))
		c.did(!r.Cancelled.Captured, c.model.undo(t), "cancel %s", t.intent.Key)
	case c.r.IntN(4) == 0:
		c.model.session = c.session("n1")
	}
}

// ask proposes an operation, now and then under a key that was used.
func (c *counter) ask() {
	c.n++
	t := c.model.tills[c.r.IntN(len(c.model.tills))]
	kind := []payment.OperationKind{payment.OpCapture, payment.OpCapture, payment.OpRefund, payment.OpRefund, payment.OpIncrement, payment.OpRelease, payment.OpVoid}[c.r.IntN(7)]
	parent := payment.ID{2}
	if len(t.ops) > 0 {
		parent = t.ops[c.r.IntN(len(t.ops))].ID
	}
	o := op(c.n, kind, c.r.Int64N(t.intent.Amount.Value/2+1), parent)
	o.ID = payment.ID{2, byte(c.n >> 8), byte(c.n)}
	if kind != payment.OpRefund && kind != payment.OpVoid {
		o.Payment = t.intent.ID
	}
	if kind == payment.OpCapture {
		o.Last = c.r.IntN(6) == 0
		if c.r.IntN(4) == 0 {
			o.Means, o.MTI, o.Reversible = payment.MeansOnline, 0x0200, true
		}
	}
	if kind == payment.OpRefund && c.r.IntN(3) == 0 {
		o.Reversible = false
		if c.r.IntN(2) == 0 {
			o.Means, o.MTI = payment.MeansAdvice, 0x0220
		}
	}
	if c.r.IntN(10) == 0 {
		o.Key = fmt.Appendf(nil, "op-%d", 1+c.r.IntN(c.n))
	}
	r := c.operate(o)
	verdict, refused, left := c.model.operate(*o)
	c.did([]any{r.Verdict, r.Refused, r.Left}, []any{verdict, refused, left}, "%s of %d, key %s", kind, o.Amount.Value, o.Key)
}

// some is a number of the outbox, mostly one that is there.
func (c *counter) some() uint64 { return c.model.seq + 1 - uint64(c.r.IntN(8)) }

func (c *counter) claimSome() {
	c.n++
	seq, session, stan := c.some(), c.model.session, payment.STAN(c.n)
	if c.r.IntN(12) == 0 {
		session--
	}
	k := payment.Claim{Link: "cb-a", Seq: seq, STAN: stan, Transmitted: payment.Transmitted(c.n)}
	body := AppendClaim(nil, session, uint64(c.n), k.Link, seq, stan, k.Transmitted)
	if _, x, o := c.model.find(seq); x != nil && o.Means == payment.MeansOnline {
		k.Patience, k.Life = tillPatience, 2*tillPatience
		body = AppendClaimOnline(nil, session, uint64(c.n), &k)
	}
	r := c.do(KindClaim, body)
	c.did(r.Err, c.model.claim(seq, uint64(c.n), session, stan), "claim %d", seq)
}

func (c *counter) answerSome() {
	seq := c.some()
	t, x, o := c.model.find(seq)
	if o != nil && o.Tries == 0 {
		return // nothing of it left
	}
	v := []payment.AdviceVerdict{payment.AdviceAcknowledged, payment.AdviceAcknowledged, payment.AdviceExceptional, payment.AdviceRepeat, payment.AdviceNotSent}[c.r.IntN(5)]
	action := payment.ActionDecline
	switch {
	case o == nil:
		v = payment.AdviceAcknowledged // of what was over long ago: nobody knows it
	case x == nil && v != payment.AdviceAcknowledged:
		v = payment.AdviceRepeat
	case o.Means == payment.MeansOnline:
		v = []payment.AdviceVerdict{payment.AdviceDecided, payment.AdviceDecided, payment.AdviceUnknown, payment.AdviceSilent, payment.AdviceNotSent}[c.r.IntN(5)]
		if o.Exception {
			v = payment.AdviceDecided
		}
		if c.r.IntN(3) > 0 {
			action = payment.ActionApprove
		}
	}
	a := payment.Acknowledgement{Link: "cb-a", Seq: seq, Verdict: v, Response: payment.Response{Verdict: payment.Verdict{Action: action}}}
	if t != nil {
		a.ID = t.intent.ID
	}
	r := c.do(KindAcknowledge, AppendAnswer(nil, &a))
	c.did(r.Err, c.model.answer(seq, v, action == payment.ActionApprove), "answer %d: %d %d", seq, v, action)
}

// compare looks at everything that can be read.
func (c *counter) compare() {
	want := map[uint64]*payment.Owed{}
	for _, t := range c.model.tills {
		p := c.payment(t.intent.ID)
		if p.State != t.state || p.Account != t.money {
			c.t.Errorf("seed %d: %s is %s %+v, want %s %+v", c.seed, t.intent.Key, p.State, p.Account, t.state, t.money)
		}
		if t.whole != nil {
			want[t.whole.Seq] = t.whole
		}
		list, err := ReadOperations(c.disk, t.intent.ID)
		if err != nil || len(list) != len(t.ops) {
			c.t.Errorf("seed %d: %d operations, want %d, %v", c.seed, len(list), len(t.ops), err)
			continue
		}
		for n := range list {
			got, x := &list[n], t.ops[n]
			if got.ID != x.ID || got.Kind != x.Kind || got.State != x.State || got.Amount != x.Amount || got.Refunded != x.Refunded || got.Attempt != x.Attempt {
				c.t.Errorf("seed %d: operation %d is %s %s of %d, attempt %d, want %s %s of %d, attempt %d", c.seed, n, got.Kind, got.State, got.Amount.Value, got.Attempt, x.Kind, x.State, x.Amount.Value, x.Attempt)
			}
			if x.owed != nil {
				want[x.owed.Seq] = x.owed
			}
		}
	}
	all := c.m.Due("cb-a", never, 1<<20, nil)
	if len(all) != len(want) {
		c.t.Errorf("seed %d: %d owed, want %d", c.seed, len(all), len(want))
	}
	for _, o := range all {
		if w := want[o.Seq]; w == nil || w.Due != o.Due || w.Tries != o.Tries || w.STAN != o.STAN || w.Exception != o.Exception || w.Means != o.Means || w.Operation != o.Operation {
			c.t.Errorf("seed %d: owed %+v, want %+v", c.seed, o, w)
		}
	}
}
