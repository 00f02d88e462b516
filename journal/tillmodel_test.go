package journal

import (
	"slices"
	"time"

	"authswitch/payment"
)

// tills is what the journal does with approved payments' money, again and as
// plain as it can be: pointers and slices, no encoding, nothing cached. One link,
// captures and refunds that travel, no files and no corrections.
type tills struct {
	now     payment.Instant
	session payment.Session
	seq     uint64
	tills   []*till
	keys    map[string]*tilled
	voids   bool // as versionVoids has them
}

// till is one payment.
type till struct {
	intent payment.Intent
	state  payment.State
	money  payment.Account
	ops    []*tilled
	line   []*tilled // the first has its message in the outbox
	cancel payment.ReversalReason
	whole  *payment.Owed // the reversal of the whole
}

// tilled is one operation.
type tilled struct {
	payment.Operation
	till    *till
	capture *tilled
	owed    *payment.Owed
}

func (m *tills) operation(id payment.ID) *tilled {
	for _, t := range m.tills {
		for _, o := range t.ops {
			if o.ID == id {
				return o
			}
		}
	}
	return nil
}

func (m *tills) operate(o payment.Operation) (payment.OperationVerdict, payment.OperationRefusal, int64) {
	switch known := m.keys[string(o.Key)]; {
	case known == nil:
	case known.Fingerprint == o.Fingerprint:
		return payment.OperateAgain, 0, 0
	default:
		return payment.OperateConflict, 0, 0
	}
	x := &tilled{Operation: o}
	if o.Kind == payment.OpRefund || o.Kind == payment.OpVoid {
		if x.capture = m.operation(o.Parent); x.capture == nil || x.capture.Kind != payment.OpCapture {
			return payment.OperateRefused, payment.RefusedUnknown, 0
		}
		x.till = x.capture.till
	} else {
		for _, t := range m.tills {
			if t.intent.ID == o.Payment {
				x.till = t
			}
		}
	}
	if why, left := x.refused(); why != payment.NotRefused {
		return payment.OperateRefused, why, left
	}
	m.keys[string(o.Key)] = x
	m.take(x)
	return payment.OperateNew, 0, 0
}

func (x *tilled) refused() (payment.OperationRefusal, int64) {
	t, left := x.till, int64(0)
	if t.state != payment.StateApproved || t.cancel != payment.NoReversal {
		return payment.RefusedState, 0
	}
	switch x.Kind {
	case payment.OpVoid:
		x.Amount = x.capture.Amount
		return refusalOfUndoing(&x.capture.Operation), 0
	case payment.OpCapture:
		left = t.money.Capturable()
	case payment.OpIncrement:
		left = payment.MaxAmount - t.money.Authorized - t.money.Incremented
	case payment.OpRelease:
		left = t.money.Capturable()
	case payment.OpRefund:
		if x.capture.Undone() {
			return payment.RefusedUndone, 0
		}
		left = x.capture.Amount.Value - x.capture.Refunded
	}
	if t.money.Closed && (x.Kind == payment.OpCapture || x.Kind == payment.OpIncrement) {
		return payment.RefusedClosed, 0
	}
	if x.Amount.Value == 0 && x.Kind != payment.OpIncrement {
		x.Amount.Value = left
	}
	x.Amount.Currency = t.intent.Amount.Currency
	switch v := x.Amount.Value; {
	case left <= 0:
		return payment.RefusedNothingLeft, 0
	case v <= 0 || v > left:
		return payment.RefusedAmount, left
	case x.Kind == payment.OpRelease && t.money.Captured == 0 && v == left:
		return payment.RefusedWhole, left
	}
	return payment.NotRefused, 0
}

// hold adds an operation's amount to what is counted, or takes it off.
func (x *tilled) hold(sign int64) {
	v := sign * x.Amount.Value
	switch x.Kind {
	case payment.OpCapture:
		x.till.money.Captured += v
	case payment.OpRelease:
		x.till.money.Released += v
	case payment.OpRefund:
		x.till.money.Refunded += v
		x.capture.Refunded += v
	}
}

func (m *tills) take(x *tilled) {
	t := x.till
	t.ops = append(t.ops, x)
	x.hold(1)
	if x.Kind == payment.OpVoid {
		if m.withdraw(x.capture) {
			x.State = payment.OperationDone
			m.undone(x.capture, x)
			m.next(t)
			return
		}
		x.capture.Parent = x.ID
	}
	m.queue(x)
	if x.Kind == payment.OpCapture && x.Last {
		if t.money.Closed = true; x.Means != payment.MeansOnline {
			m.giveRest(x)
		}
	}
}

// undone goes on after a void.
func (m *tills) undone(c, void *tilled) {
	t := c.till
	if !m.voids || t.cancel != payment.NoReversal {
		return
	}
	t.money.Closed = t.money.Closed && !c.Last
	for _, x := range t.ops {
		if x.Kind == payment.OpCapture && x.Last && x.Means == payment.MeansOnline && !x.State.Over() {
			return
		}
	}
	if t.money.Closed {
		m.giveRest(void)
	}
}

func (m *tills) giveRest(last *tilled) {
	rest := last.till.money.Capturable()
	if rest == 0 {
		return
	}
	x := &tilled{till: last.till, Operation: payment.Operation{ID: last.ID, Kind: payment.OpRelease, Means: payment.MeansReversal, Amount: payment.Amount{Value: rest, Currency: 978}}}
	x.ID[len(x.ID)-1] |= 1
	last.till.ops = append(last.till.ops, x)
	x.hold(1)
	m.queue(x)
}

// withdraw takes a capture back that has not been claimed.
func (m *tills) withdraw(c *tilled) bool {
	if c.State != payment.OperationWaiting && (c.State != payment.OperationOwed || c.owed == nil || c.owed.Tries > 0) {
		return false
	}
	c.till.line = slices.DeleteFunc(c.till.line, func(x *tilled) bool { return x == c })
	c.hold(-1)
	c.State, c.owed = payment.OperationWithdrawn, nil
	return true
}

func (m *tills) queue(x *tilled) {
	x.State = payment.OperationWaiting
	x.till.line = append(x.till.line, x)
	m.next(x.till)
}

// next lets the first in line leave, or the reversal of the whole behind it.
func (m *tills) next(t *till) {
	if len(t.line) > 0 {
		if x := t.line[0]; x.State == payment.OperationWaiting {
			m.dispatch(x, m.now)
		}
		return
	}
	if t.cancel != payment.NoReversal {
		t.cancel = payment.NoReversal
		if t.money.Captured == 0 {
			t.state = payment.StateReversing
			t.whole = m.owe(t, nil, m.now)
		}
	}
}

func (m *tills) owe(t *till, x *tilled, due payment.Instant) *payment.Owed {
	m.seq++
	o := &payment.Owed{Link: t.intent.Link, Seq: m.seq, ID: t.intent.ID, Since: m.now, Due: due, Approved: true}
	if x != nil {
		o.Operation, o.Kind, o.Means, o.Amount = x.ID, x.Kind, x.Means, x.Amount
	}
	return o
}

func (m *tills) dispatch(x *tilled, due payment.Instant) {
	if x.Kind == payment.OpVoid && x.capture.State.Over() && x.capture.State != payment.OperationDone {
		m.end(x, payment.OperationWithdrawn)
		return
	}
	x.State = payment.OperationOwed
	if x.Means == payment.MeansOnline {
		x.Attempt++
	}
	x.owed = m.owe(x.till, x, due)
}

func (m *tills) end(x *tilled, to payment.OperationState) {
	t := x.till
	x.State, x.owed = to, nil
	t.line = slices.DeleteFunc(t.line, func(y *tilled) bool { return y == x })
	if !to.Holds() {
		x.hold(-1)
	}
	switch {
	case to == payment.OperationDone && x.Kind == payment.OpIncrement:
		t.money.Incremented += x.Amount.Value
	case to == payment.OperationDone && x.Kind == payment.OpVoid:
		x.capture.hold(-1)
		x.capture.State = payment.OperationUndone
		m.undone(x.capture, x)
	case to == payment.OperationDone && x.Kind == payment.OpCapture && x.Means == payment.MeansOnline && x.Last:
		m.giveRest(x)
	case !to.Holds() && x.Kind == payment.OpCapture:
		for _, y := range slices.Clone(t.line) {
			if y.capture == x {
				t.line = slices.DeleteFunc(t.line, func(z *tilled) bool { return z == y })
				y.State = payment.OperationFailed
				y.hold(-1)
			}
		}
		if x.Last {
			t.money.Closed = false
		}
	}
	m.next(t)
}

// find is what has a number in the outbox.
func (m *tills) find(seq uint64) (*till, *tilled, *payment.Owed) {
	for _, t := range m.tills {
		if t.whole != nil && t.whole.Seq == seq {
			return t, nil, t.whole
		}
		for _, x := range t.ops {
			if x.owed != nil && x.owed.Seq == seq {
				return t, x, x.owed
			}
		}
	}
	return nil, nil, nil
}

const tillPatience = payment.Instant(5 * time.Second)

func (m *tills) claim(seq, number uint64, session payment.Session, stan payment.STAN) error {
	_, x, o := m.find(seq)
	online := x != nil && o.Means == payment.MeansOnline
	switch {
	case o == nil:
		return payment.ErrNotFound
	case session != m.session:
		return payment.ErrUnavailable
	case o.Due > m.now:
		return payment.ErrBusy
	case online && o.Tries > 0:
		return ErrInvalid
	}
	if o.STAN == 0 {
		o.STAN = stan
	}
	o.Tries++
	switch {
	case online:
		o.Due, o.LifeOver = m.now+tillPatience, m.now+2*tillPatience
	case o.Exception:
		o.Due = m.now + exceptionRepeat
	default:
		o.Due = m.now + repeatAfter(o.Tries, false)
		if x != nil && o.Means == payment.MeansReversal && x.Means == payment.MeansOnline && !o.Approved && m.now < o.LifeOver && o.LifeOver < o.Due {
			o.Due = o.LifeOver
		}
	}
	if x != nil && o.Means == x.Means {
		x.STAN = o.STAN
	}
	return nil
}

// answer is what the acquirer said to a claimed message, or did not.
func (m *tills) answer(seq uint64, v payment.AdviceVerdict, approves bool) error {
	t, x, o := m.find(seq)
	switch {
	case o == nil:
		return payment.ErrNotFound
	case v == payment.AdviceSilent && m.now < o.Due:
		return payment.ErrBusy
	case v == payment.AdviceRepeat:
	case v == payment.AdviceNotSent:
		if o.Tries == 1 {
			o.Tries, o.STAN = 0, 0
		}
		o.Due = min(o.Due, m.now+1e9)
	case x == nil:
		t.state, t.whole = payment.StateReversed, nil // only an acknowledgement is tried
	case o.Means == payment.MeansOnline:
		m.answerOnline(x, v, approves)
	case v != payment.AdviceAcknowledged:
		x.State, o.Exception, o.Due = payment.OperationException, true, m.now+exceptionRepeat
	case x.Means != payment.MeansOnline:
		m.end(x, payment.OperationDone)
	case x.Kind == payment.OpRefund && x.Attempt < maxAttempts: // its attempt is reversed
		m.dispatch(x, m.now+payment.Instant(time.Second)<<(x.Attempt-1))
	default:
		m.end(x, payment.OperationFailed)
	}
	return nil
}

func (m *tills) answerOnline(x *tilled, v payment.AdviceVerdict, approves bool) {
	switch {
	case v == payment.AdviceDecided && approves:
		m.end(x, payment.OperationDone)
	case v == payment.AdviceDecided:
		m.end(x, payment.OperationDeclined)
	case !x.Reversible:
		x.State, x.owed.Exception, x.owed.Due = payment.OperationException, true, never
	default:
		life := x.owed.LifeOver
		x.owed = m.owe(x.till, x, m.now)
		x.owed.Means, x.owed.Approved, x.owed.LifeOver = payment.MeansReversal, approves, life
		x.State = payment.OperationReversing
	}
}

// undo is a cancellation by the gateway's key. It says whether that did
// something.
func (m *tills) undo(t *till) bool {
	switch {
	case t.state != payment.StateApproved:
		return true
	case t.money.Captured > 0 && t.money.Refunded > 0:
		return false
	}
	for _, c := range slices.Clone(t.ops) {
		if t.money.Captured == 0 {
			break
		}
		if c.Kind != payment.OpCapture || refusalOfUndoing(&c.Operation) != payment.NotRefused || m.withdraw(c) {
			continue
		}
		void := &tilled{till: t, capture: c, Operation: payment.Operation{ID: c.ID, Kind: payment.OpVoid, Means: payment.MeansReversal, Amount: c.Amount}}
		void.ID[len(void.ID)-1] |= 2
		c.Parent = void.ID
		t.ops = append(t.ops, void)
		m.queue(void)
	}
	t.cancel = payment.ReversalTimeout
	m.next(t)
	return true
}
