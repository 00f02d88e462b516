package journal

import (
	"math"
	"time"

	"authswitch/payment"
)

// maxAttempts is how often a refund without an answer is tried, each time after
// the attempt before it is reversed.
const maxAttempts = 5

// never is a due time that does not come: a machine must not repeat it.
const never = payment.Instant(math.MaxInt64)

// claimedOperation notes the transmission of an operation's own message.
func (m *Machine) claimedOperation(l *life, o *owing) bool {
	var op payment.Operation
	if o.Operation.IsZero() || !m.operation(o.Operation, &op) || op.Seq != o.Seq || op.Means != o.Means {
		return false
	}
	op.STAN, op.Transmitted = o.STAN, o.Transmitted
	m.writeOperation(l, &op)
	return true
}

// answered decides what an answer to an operation's message means, or what it
// means that there is none.
func (m *Machine) answered(l *life, o *owing, answer *payment.Acknowledgement) {
	var op payment.Operation
	if !m.operation(o.Operation, &op) {
		m.view.fail(ErrCorrupt)
		return
	}
	a := &m.scratchAccount
	m.account(l, a)
	if o.Online() && (answer.Verdict == payment.AdviceAcknowledged || answer.Verdict == payment.AdviceExceptional) {
		answer.Verdict = payment.AdviceDecided // it came late, and nobody had given up in the journal yet
	}
	switch {
	case answer.Verdict == payment.AdviceRepeat:
		m.setOwed(o)
		return
	case answer.Verdict == payment.AdviceNotSent:
		m.unclaim(o)
		return
	case op.Seq != o.Seq: // of an earlier attempt, which an approval came for too late
		m.answeredStray(l, o, answer)
		return
	case o.Means == payment.MeansOnline:
		m.answeredOnline(l, a, &op, o, answer)
	case o.Means == payment.MeansReversal && op.Means == payment.MeansOnline:
		m.answeredAttempt(l, a, &op, o, answer)
	default:
		m.answeredAdvice(l, a, &op, o, answer)
	}
	m.setAccount(l, a)
}

// unclaim makes an entry as if it had not been claimed: no byte of it left. One
// that is repeated anyway has its pace.
func (m *Machine) unclaim(o *owing) {
	if o.Tries == 1 {
		o.Tries, o.STAN, o.Transmitted = 0, 0, 0
	}
	exception := o.Exception
	o.Due = min(o.Due, m.now+firstRepeat)
	m.lane(string(o.Link)).changed(o, exception)
	m.setOwed(o)
}

// answeredAdvice: an advice, a void or a partial reversal, repeated until it is
// acknowledged. Anything else needs a person.
func (m *Machine) answeredAdvice(l *life, a *account, op *payment.Operation, o *owing, answer *payment.Acknowledgement) {
	op.Response = answer.Response
	if answer.Verdict != payment.AdviceAcknowledged {
		m.exceptOperation(l, op, o, m.now+exceptionRepeat)
		return
	}
	m.drop(l, o)
	if op.Kind == payment.OpVoid {
		var capture payment.Operation
		if !m.operation(op.Parent, &capture) {
			m.view.fail(ErrCorrupt)
			return
		}
		a.Captured -= capture.Amount.Value
		capture.State = payment.OperationUndone
		m.writeOperation(l, &capture)
		m.captureUndone(l, a, &capture, op)
	}
	m.finish(l, a, op, payment.OperationDone)
}

// exceptOperation leaves an operation to a person; its amount stays held.
func (m *Machine) exceptOperation(l *life, op *payment.Operation, o *owing, due payment.Instant) {
	was := o.Exception
	o.Exception, o.Due = true, due
	m.lane(string(o.Link)).changed(o, was)
	m.setOwed(o)
	op.State = payment.OperationException
	m.writeOperation(l, op)
}

// finish ends an operation and goes on to the next of its payment.
func (m *Machine) finish(l *life, a *account, op *payment.Operation, to payment.OperationState) {
	op.State, op.Seq = to, 0
	if !to.Holds() {
		m.giveBack(l, a, op)
	}
	m.writeOperation(l, op)
	switch {
	case to != payment.OperationDone:
	case op.Kind == payment.OpIncrement:
		a.Incremented += op.Amount.Value
	case op.Kind == payment.OpCapture && op.Means == payment.MeansOnline && op.Last:
		m.closeAccount(l, a, op) // waits behind it
	}
	a.current = payment.ID{}
	if op.Kind == payment.OpCapture && !to.Holds() {
		m.captureFailed(l, a, op)
	}
	m.advance(l, a)
}

// giveBack ends what an operation that did not happen held.
func (m *Machine) giveBack(l *life, a *account, op *payment.Operation) {
	switch op.Kind {
	case payment.OpCapture:
		a.Captured -= op.Amount.Value
		return
	case payment.OpRelease:
		a.Released -= op.Amount.Value
		return
	case payment.OpRefund:
		if op.Parent.IsZero() {
			a.Refunded -= op.Amount.Value
			return
		}
	default:
		return
	}
	var capture payment.Operation
	if !m.operation(op.Parent, &capture) {
		m.view.fail(ErrCorrupt)
		return
	}
	a.Refunded -= op.Amount.Value
	capture.Refunded -= op.Amount.Value
	m.writeOperation(l, &capture)
}

// answeredOnline: a request was answered, or can no longer be.
func (m *Machine) answeredOnline(l *life, a *account, op *payment.Operation, o *owing, answer *payment.Acknowledgement) {
	r := &answer.Response
	op.Response = *r
	if answer.Verdict == payment.AdviceDecided {
		switch {
		case r.Verdict.Action == payment.ActionDecline:
			m.drop(l, o)
			m.finish(l, a, op, payment.OperationDeclined)
			return
		case r.Verdict.Action == payment.ActionApprove && (r.Amount.Currency == 0 || r.Amount == op.Amount):
			m.drop(l, o)
			m.finish(l, a, op, payment.OperationDone)
			return
		}
	}
	// Unknown, or approved for another amount: undone before anything else.
	if !op.Reversible {
		m.exceptOperation(l, op, o, never)
		return
	}
	m.drop(l, o)
	reversal := m.reversalOf(l, op, o, approves(r), r.ApprovalCode)
	m.send(reversal, m.now)
	op.State, op.Seq = payment.OperationReversing, reversal.Seq
	m.writeOperation(l, op)
	m.writeOwed(l, payment.EntryReversalOwed, payment.EventUnknown, reversal, nil)
}

// reversalOf is the reversal of one attempt of an online operation.
func (m *Machine) reversalOf(l *life, op *payment.Operation, o *owing, approved bool, code payment.ApprovalCode) *owing {
	reason := payment.ReversalTimeout
	if approved {
		reason = payment.ReversalMalfunction
	}
	return &owing{Owed: payment.Owed{
		Link: o.Link, ID: l.id, Attempt: l.attempt, Reason: reason, Approved: approved, ApprovalCode: code, LifeOver: m.over(o.LifeOver, o.Since),
		Operation: op.ID, Kind: op.Kind, Means: payment.MeansReversal, Amount: op.Amount,
		Original: payment.Message{MTI: op.MTI, STAN: op.STAN, Transmitted: op.Transmitted},
	}}
}

// answeredAttempt: the reversal of an attempt is answered. Only when it is
// acknowledged, or its original can no longer arrive, is the attempt closed,
// and only then is there another.
func (m *Machine) answeredAttempt(l *life, a *account, op *payment.Operation, o *owing, answer *payment.Acknowledgement) {
	event := payment.EventReversalAcknowledged
	switch answer.Verdict {
	case payment.AdviceAcknowledged:
	case payment.AdviceNotFound:
		if o.Approved {
			m.exceptOperation(l, op, o, m.now+exceptionRepeat)
			return
		}
		if m.now < m.believedFrom(o) {
			m.setOwed(o)
			return
		}
		event = payment.EventOriginalNotFound
	default:
		m.exceptOperation(l, op, o, m.now+exceptionRepeat)
		return
	}
	m.drop(l, o)
	m.writeOwed(l, payment.EntryReversalEnded, event, o, &answer.Response)
	if op.Kind != payment.OpRefund || op.Attempt >= maxAttempts {
		m.finish(l, a, op, payment.OperationFailed)
		return
	}
	m.dispatch(l, a, op, m.now+payment.Instant(time.Second)<<(op.Attempt-1))
}

// answeredStray: the reversal of an attempt that was thought closed. It moves
// nothing but itself.
func (m *Machine) answeredStray(l *life, o *owing, answer *payment.Acknowledgement) {
	if answer.Verdict == payment.AdviceAcknowledged {
		m.drop(l, o)
		m.writeOwed(l, payment.EntryReversalEnded, payment.EventReversalAcknowledged, o, &answer.Response)
		return
	}
	was := o.Exception
	o.Exception, o.Due = true, m.now+exceptionRepeat
	m.lane(string(o.Link)).changed(o, was)
	m.setOwed(o)
	m.writeOwed(l, payment.EntryReversalOwed, payment.EventReversalExceptional, o, &answer.Response)
}

// lateOperation takes the answer to an attempt that was given up. An approval
// must be undone: its reversal learns of it, or is owed again, to a person where
// the link cannot reverse it.
func (m *Machine) lateOperation(answer *payment.Acknowledgement) bool {
	if answer.ID.IsZero() {
		return false
	}
	l := m.load(answer.ID)
	if l == nil {
		return false
	}
	attempt, ok := m.attemptOf(l, answer)
	if !ok {
		return false
	}
	if !approves(&answer.Response) {
		return true
	}
	var op payment.Operation
	if !m.operation(attempt.ID, &op) {
		m.view.fail(ErrCorrupt)
		return true
	}
	if op.State == payment.OperationDone && op.Attempt == attempt.Attempt {
		return true // the answer that made it done, proposed twice: its leader died before it could say so
	}
	if op.State == payment.OperationReversing && op.Attempt == attempt.Attempt {
		if o := m.lane(string(op.Link)).owed[op.Seq]; o != nil {
			was := o.Exception
			o.Approved, o.ApprovalCode, o.Exception, o.Due = true, answer.Response.ApprovalCode, false, m.now
			m.lane(string(op.Link)).changed(o, was)
			m.setOwed(o)
			m.writeOwed(l, payment.EntryReversalOwed, payment.EventLateApproval, o, &answer.Response)
			return true
		}
	}
	o := m.reversalOf(l, attempt, &owing{Owed: payment.Owed{Link: op.Link}}, true, answer.Response.ApprovalCode)
	o.Reason = payment.ReversalLate
	due := m.now
	if !attempt.Reversible {
		o.Exception, due = true, never
	}
	m.send(o, due)
	m.writeOwed(l, payment.EntryReversalOwed, payment.EventLateApproval, o, &answer.Response)
	return true
}

// attemptOf finds the attempt that had a number in the outbox.
func (m *Machine) attemptOf(l *life, answer *payment.Acknowledgement) (*payment.Operation, bool) {
	return m.operationLine(l, func(op *payment.Operation) bool {
		return op.Seq == answer.Seq && op.Link == answer.Link && op.Means == payment.MeansOnline && op.STAN != 0 && op.State == payment.OperationOwed
	})
}

// firstSent is DE 7 of the first transmission of an operation's message: as which
// its acquirer was told of it, and so what DE 90 names beside the type without the
// repeat bit. The operation has the last one's.
func (m *Machine) firstSent(l *life, op *payment.Operation) payment.Transmitted {
	if !m.at(versionVoids) {
		return op.Transmitted
	}
	first, found := m.operationLine(l, func(x *payment.Operation) bool { return x.ID == op.ID && x.STAN == op.STAN && x.Transmitted != 0 })
	if !found {
		return op.Transmitted // no byte of it left
	}
	return first.Transmitted
}

// operationLine finds the first line of a payment's history with an operation as
// it is asked for. Late answers and voids are few.
func (m *Machine) operationLine(l *life, yes func(*payment.Operation) bool) (*payment.Operation, bool) {
	for line := range l.lines {
		m.keyA = appendLineKey(m.keyA[:0], l.id, line)
		value, found := m.view.get(m.value[:0], m.keyA)
		m.value = value
		if !found {
			return nil, false
		}
		c := cursor{b: value}
		var discard life
		if readLine(&c, &discard).kind != payment.EntryOperation {
			continue
		}
		op := new(payment.Operation)
		if readOperation(&c, op); yes(op) {
			return op, true
		}
	}
	return nil, false
}
