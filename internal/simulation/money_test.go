package simulation_test

import (
	"errors"
	"fmt"

	"authswitch/journal"
	"authswitch/payment"
)

// What must hold of captures, refunds and the rest: I11, I12 and I15.

// moving is an operation as the checker has it.
type moving struct {
	op       payment.Operation
	written  bool           // a byte of it left
	closed   map[uint8]bool // attempts whose reversal has ended, or that were declined
	accepted bool           // the acquirer took it, and said so
	declined bool           // an explicit no reached a node
	both     bool           // and, after it, a yes
	approved bool           // and an answer that approves it
	part     int64          // for how much
}

// claimed is a message that the outbox may send, by its link and trace number.
type claimed struct {
	id          payment.ID
	attempt     uint8
	op          payment.ID      // whose message it is; zero: the authorization's reversal
	try         uint8           // of an online operation, which attempt
	message     bool            // the operation's own message, not a reversal
	original    payment.Message // that a reversal names; zero: the authorization
	tries       uint16
	first       bool // it left with the first MTI
	written     bool
	flying      bool                           // its bytes may still reach the acquirer's decision
	transmitted map[payment.Transmitted]uint16 // tries, by DE 7
}

// operation is a line of a payment's history that is about an operation.
func (c *checks) operation(id payment.ID, e *payment.Entry) {
	o := e.Operation
	x := c.ops[o.ID]
	if x == nil {
		x = &moving{closed: map[uint8]bool{}}
		c.ops[o.ID] = x
		c.opOrder = append(c.opOrder, o.ID)
		c.opsOf[id] = append(c.opsOf[id], o.ID)
		c.lineOf(o)
		c.note(o, o.State.Holds() && o.Kind != payment.OpIncrement, -1)
	}
	before := x.op.State
	if before.Over() && o.State != before && !(o.Kind == payment.OpCapture && before == payment.OperationDone && o.State == payment.OperationUndone) {
		c.fail("flip", "%s %s was %s and is %s", o.Kind, o.ID, before, o.State)
	}
	if before != o.State {
		c.cover.operation(o)
	}
	if k, in := c.batched[o.ID]; in && before != o.State && (o.State == payment.OperationWithdrawn || o.File != k.number || o.FileLine != x.op.FileLine) {
		c.fail("U", "%s %s is in batch %+v, and becomes %s in batch %d", o.Kind, o.ID, k, o.State, o.File)
	}
	if before != o.State && o.State.Over() {
		c.ended(x, o)
	}
	c.note(o, before.Holds() && !o.State.Holds() && o.Kind != payment.OpIncrement, 1)
	c.note(o, o.Kind == payment.OpIncrement && before != o.State && o.State == payment.OperationDone, 1)
	x.op = *o
	if o.STAN != 0 && (o.State == payment.OperationOwed || o.State == payment.OperationException) {
		c.claimOperation(o)
	}
}

// lineOf: I15, a batch's line is one refund.
func (c *checks) lineOf(o *payment.Operation) {
	if o.Batch.IsZero() {
		return
	}
	name := fmt.Sprint(o.Batch, o.Line)
	if other, twice := c.batchLines[name]; twice && other != o.ID {
		c.fail("I15", "line %d of a batch is %s and %s", o.Line, other, o.ID)
	}
	c.batchLines[name] = o.ID
}

// ended: what an operation ends by is what the acquirer said of it.
func (c *checks) ended(x *moving, o *payment.Operation) {
	if x.op.State == payment.OperationException {
		return // a person said so, or the acquirer after all
	}
	switch {
	case o.Means == payment.MeansOnline && o.State == payment.OperationDone && (!x.approved || x.part != o.Amount.Value):
		c.fail("I3", "%s %s is done; no such answer came", o.Kind, o.ID)
	case o.Means == payment.MeansOnline && o.State == payment.OperationDeclined && !x.declined:
		c.fail("I10", "%s %s is declined; no such answer came", o.Kind, o.ID)
	case o.Means == payment.MeansOnline && o.State == payment.OperationFailed && !x.closed[o.Attempt] && o.STAN != 0:
		c.fail("I9", "%s %s failed, and its last attempt is not reversed", o.Kind, o.ID)
	case o.Kind == payment.OpVoid && o.State == payment.OperationDone && c.ops[o.Parent].op.Means == payment.MeansSale:
		// The payment itself is reversed.
	case o.Means == payment.MeansFile && o.State == payment.OperationDone && c.batched[o.ID].number == 0:
		c.fail("U", "%s %s is done, and in no file", o.Kind, o.ID)
	case (o.Means == payment.MeansAdvice || o.Means == payment.MeansReversal || o.Means == payment.MeansUpload) && o.State == payment.OperationDone && !x.accepted:
		c.fail("I9", "%s %s is done; %s never accepted it", o.Kind, o.ID, o.Link)
	case o.State == payment.OperationWithdrawn && x.written:
		c.fail("I11", "%s %s is withdrawn, and was written", o.Kind, o.ID)
	}
}

func (c *checks) claimOperation(o *payment.Operation) {
	k := wireKey{o.Link, o.STAN.String()}
	x := c.claims[k]
	if x == nil {
		x = &claimed{id: o.Payment, op: o.ID, try: o.Attempt, message: o.Kind != payment.OpVoid && o.Kind != payment.OpRelease, transmitted: map[payment.Transmitted]uint16{}}
		if capture := c.ops[o.Parent]; o.Kind == payment.OpVoid && capture != nil {
			x.original = payment.Message{MTI: capture.op.MTI, STAN: capture.op.STAN, Transmitted: c.firstSent(&capture.op)}
		}
		c.claims[k] = x
	}
	if x.op != o.ID || x.try != o.Attempt {
		c.fail("I14", "STAN %s on %s is of %s attempt %d and of %s attempt %d", o.STAN, o.Link, x.op, x.try, o.ID, o.Attempt)
	}
	if x.transmitted[o.Transmitted] == 0 {
		x.tries++
		x.transmitted[o.Transmitted] = x.tries
	}
}

// firstSent is DE 7 of the first transmission of an operation's message.
func (c *checks) firstSent(o *payment.Operation) payment.Transmitted {
	if x := c.claims[wireKey{o.Link, o.STAN.String()}]; x != nil {
		for t, n := range x.transmitted {
			if n == 1 {
				return t
			}
		}
	}
	return o.Transmitted
}

// attemptEnded: the reversal of an operation's attempt has ended.
func (c *checks) attemptEnded(id payment.ID, e *payment.Entry) {
	k := wireKey{e.Owed.Link, e.Owed.STAN.String()}
	x := c.ops[e.Owed.Operation]
	if e.Event == payment.EventReversalAcknowledged && !c.accepted[k] || e.Event == payment.EventOriginalNotFound && !c.missed[k] {
		c.fail("I9", "an attempt at the %s %s of %s ends by %s; %s never said so", x.op.Kind, e.Owed.Operation, id, e.Event, e.Owed.Link)
	}
	if o := c.claims[wireKey{e.Owed.Link, e.Owed.Original.STAN.String()}]; o != nil {
		if e.Event == payment.EventOriginalNotFound && o.flying && !c.w.plan.remembers[c.linkIndex(e.Owed.Link)] {
			c.fail("I9", "%s ends as not found while its original is on its way", e.Owed.Operation)
		}
		x.closed[o.try] = true
	}
}

// balance: I11 and I12 by the journal's own operations, what is in doubt counted.
func (c *checks) balance(id payment.ID) {
	ids := c.opsOf[id]
	if len(ids) == 0 {
		return
	}
	var captured, refunded, released, incremented int64
	ofCapture := map[payment.ID]int64{}
	for _, op := range ids {
		o := &c.ops[op].op
		if !o.State.Holds() {
			continue
		}
		switch o.Kind {
		case payment.OpCapture:
			captured += o.Amount.Value
		case payment.OpRefund:
			refunded += o.Amount.Value
			if !o.Parent.IsZero() {
				ofCapture[o.Parent] += o.Amount.Value
			}
		case payment.OpRelease:
			released += o.Amount.Value
		case payment.OpIncrement:
			if o.State == payment.OperationDone {
				incremented += o.Amount.Value
			}
		}
	}
	authorized := c.decided[id].amount.Value
	if captured > authorized+incremented-released {
		c.fail("I11", "%s: captured %d of %d and %d, less %d", id, captured, authorized, incremented, released)
	}
	for capture, v := range ofCapture {
		if o := &c.ops[capture].op; !o.State.Holds() || v > o.Amount.Value {
			c.fail("I12", "refunded %d of the capture %s of %d, which is %s", v, capture, o.Amount.Value, o.State)
		}
	}
	p, err := journal.ReadPayment(c.disk, id)
	if err != nil {
		c.fail("N", "%s: %v", id, err)
		return
	}
	a := &p.Account
	if p.State == payment.StateRefundOnly && (refunded > p.Intent.Amount.Value || captured+released+incremented != 0) {
		c.fail("I12", "%s, a refund of %d, refunded %d", id, p.Intent.Amount.Value, refunded)
	}
	if (p.State == payment.StateApproved || p.State == payment.StateRefundOnly) && (a.Captured != captured || a.Refunded != refunded || a.Released != released || a.Incremented != incremented) {
		c.fail("I11", "%s: the account is %+v; the operations captured %d, refunded %d, released %d, incremented %d", id, *a, captured, refunded, released, incremented)
	}
	c.books(id)
}

// books: no acquirer ever has captured or refunded more of a payment than the
// journal counts, or than it holds itself.
func (c *checks) books(id payment.ID) {
	i := c.attempt[attemptKey{id, 1}]
	if i == nil {
		return
	}
	var captured, refunded int64
	for _, op := range c.opsOf[id] {
		o := &c.ops[op].op
		switch {
		case o.Kind == payment.OpCapture && o.State.Holds():
			captured += o.Amount.Value
		case o.Kind == payment.OpRefund && o.State.Holds():
			refunded += o.Amount.Value
		}
	}
	for _, h := range c.w.hosts {
		a := h.accounts[i.intent.RRN.String()]
		if a == nil || a.strange() {
			continue
		}
		if a.base != nil && a.base.kind == holdSale { // its capture stands with its approval
			captured = max(captured, a.sum(holdCapture))
		}
		switch {
		case a.sum(holdCapture) > captured || a.sum(holdRefund) > refunded:
			c.fail("I11", "%s has of %s, rrn %s: %s; the journal counts %d captured, %d refunded", linkName(h.index), id, i.intent.RRN, a, captured, refunded)
		case a.sum(holdCapture) > a.held():
			c.fail("I11", "%s captured more of rrn %s than it holds: %s", linkName(h.index), i.intent.RRN, a)
		case a.sum(holdRefund) > a.sum(holdCapture) && !c.credited(id):
			c.fail("I12", "%s refunded more of rrn %s than was captured: %s", linkName(h.index), i.intent.RRN, a)
		}
	}
}

// moved is called when an acquirer's books changed: an operation is in them once.
func (h *host) moved(d *hold) {
	c := h.w.check
	var rrn payment.RRN
	copy(rrn[:], d.rrn)
	id, known := c.byRRN[rrn]
	if !known {
		return
	}
	c.books(id)
	x := c.claims[wireKey{linkName(h.index), d.stan}]
	if x == nil || x.op.IsZero() || !d.live() {
		return
	}
	for _, other := range c.takenFor(h, x.op) {
		if other != d && other.live() && !other.whispered && !d.whispered {
			c.fail("I12", "%s has the %s %s twice, by STAN %s and %s", linkName(h.index), c.ops[x.op].op.Kind, x.op, other.stan, d.stan)
		}
	}
}

// takenFor is what an acquirer has in its books for an operation, whatever became
// of it.
func (c *checks) takenFor(h *host, op payment.ID) (list []*hold) {
	x := c.ops[op]
	if x == nil {
		return nil
	}
	i := c.attempt[attemptKey{x.op.Payment, 1}]
	if i == nil {
		return nil
	}
	a := h.accounts[i.intent.RRN.String()]
	if a == nil {
		return nil
	}
	for _, d := range a.moves {
		if k := c.claims[wireKey{linkName(h.index), d.stan}]; d.op == op || k != nil && k.op == op {
			list = append(list, d)
		}
	}
	return list
}

// credited says whether a payment is a refund that names none.
func (c *checks) credited(id payment.ID) bool {
	x := c.ops[id]
	return x != nil && x.op.Kind == payment.OpRefund && x.op.Parent.IsZero()
}

// operationLeaves is an operation's own message at the moment when the kernel
// gets it.
func (c *checks) operationLeaves(k wireKey, m *message) {
	x := c.claims[k]
	if x == nil || x.op.IsZero() || !x.message {
		c.fail("I7", "a %s with STAN %s leaves on %s without a claim", m.mti, k.stan, k.link)
		return
	}
	y := c.ops[x.op]
	o, i := &y.op, c.attempt[attemptKey{x.id, 1}]
	c.numbered(k, x.id)
	tries := uint16(0)
	for t, n := range x.transmitted {
		if t.String() == m.fields[7] {
			tries = n
		}
	}
	online := o.Means == payment.MeansOnline
	if m.mti[1] == '3' || o.Means == payment.MeansUpload {
		c.lineLeaves(o, m)
	}
	switch {
	case tries == 0:
		c.fail("I7", "STAN %s on %s leaves at %s, which nobody claimed", k.stan, k.link, m.fields[7])
	case m.fields[37] != i.intent.RRN.String() || amountOf(m.fields[4]) != o.Amount.Value:
		c.fail("I7", "the %s %s leaves with rrn %s and amount %s", o.Kind, o.ID, m.fields[37], m.fields[4])
	case online && x.written, m.mti[3] == '0' && x.first:
		c.fail("I5", "the %s %s attempt %d is written twice", o.Kind, o.ID, x.try)
	case o.State.Over() && online:
		c.fail("I5", "the %s %s leaves, and is %s", o.Kind, o.ID, o.State)
	}
	for attempt := uint8(1); online && attempt < x.try; attempt++ {
		if !y.closed[attempt] {
			c.fail("I5", "the %s %s attempt %d leaves while attempt %d lives", o.Kind, o.ID, x.try, attempt)
		}
	}
	for _, other := range c.opsOf[x.id] {
		// A repeat that was claimed before a late answer ended its advice leaves all
		// the same: its acquirer has it, and what comes next may be on its way.
		if z := c.ops[other]; other != x.op && z.written && !z.op.State.Over() && !o.State.Over() {
			c.fail("order", "the %s %s leaves while the %s %s is %s", o.Kind, o.ID, z.op.Kind, z.op.ID, z.op.State)
		}
	}
	x.first = x.first || m.mti[3] == '0'
	x.written, y.written = true, true
	x.flying = x.flying || online
}

// operationAnswered is an answer to an operation's message that reaches a node.
func (c *checks) operationAnswered(k wireKey, m *message) {
	x := c.claims[k]
	if x == nil || x.op.IsZero() || !x.message {
		return
	}
	i := c.attempt[attemptKey{x.id, 1}]
	if i.intent.RRN.String() != m.fields[37] || i.intent.Terms.Terminal != m.fields[41] {
		return
	}
	y := c.ops[x.op]
	switch m.fields[39] {
	case "00":
		y.both = y.both || y.declined
		y.approved, y.part = true, amountOf(m.fields[4])
	case "51", "91", "05", "41":
		y.declined = true
	}
}

// toldMove: what a gateway is told of an operation is committed.
func (c *checks) toldMove(x *move, o *payment.Operation, err error) {
	if err != nil {
		return
	}
	known := c.ops[o.ID]
	switch {
	case known == nil:
		c.fail("I8", "client %d is told of the %s %s, which is not committed", x.m.c.number, x.kind, o.ID)
	case o.State.Over() && known.op.State != o.State && known.op.State != payment.OperationUndone:
		c.fail("I8", "client %d is told that the %s is %s; committed is %s", x.m.c.number, x.kind, o.State, known.op.State)
	case x.amount > 0 && x.kind != payment.OpVoid && x.kind != payment.OpCorrection && known.op.Amount.Value != x.amount:
		c.fail("I13", "client %d asked for %d and is told of %d", x.m.c.number, x.amount, known.op.Amount.Value)
	}
}

// onceMove: I1, a key is one operation. A refusal is not kept.
func (c *checks) onceMove(x *move, o *payment.Operation, err error) {
	var r *payment.Refusal
	switch {
	case err == nil && x.code == "" && x.done.ID != o.ID:
		c.fail("I1", "client %d's %s was %s and is %s", x.m.c.number, x.kind, x.done.ID, o.ID)
	case errors.As(err, &r) && x.code == "" && r.Kind == payment.RefusedInvalid && r.Code != "not_supported_by_link":
		c.fail("I1", "client %d's %s was taken and is refused: %s", x.m.c.number, x.kind, r.Code)
	}
}
