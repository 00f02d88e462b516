package journal

import (
	"slices"

	"authswitch/payment"
)

// AppendBatchAct writes a KindBatchAct command.
func AppendBatchAct(b []byte, a *payment.BatchAct) []byte {
	b = append(b, commandVersion)
	b = append(b, a.ID[:]...)
	b = putBool(putBool(b, a.Cancel), a.Operator)
	return putText(putText(b, a.Merchant), a.Who)
}

// applyBatchAct releases or cancels a batch. Who counts is decided here, on
// every node alike: an operator that was removed meanwhile does not.
func (m *Machine) applyBatchAct(c *cursor, r *Result) error {
	c.version(commandVersion)
	a := payment.BatchAct{ID: c.id(), Cancel: c.flag(), Operator: c.flag()}
	a.Merchant, a.Who = payment.MerchantID(c.text()), string(c.text())
	if err := c.end(); err != nil {
		return err
	}
	b := m.batch(a.ID)
	switch {
	case b == nil || b.State == payment.BatchLoading || a.Merchant != "" && a.Merchant != b.Merchant:
		r.told(payment.BatchUnknown, nil)
	case a.Operator && !m.hasPerson(a.Who):
		r.told(payment.BatchNoOperator, b)
	case a.Cancel:
		r.told(m.cancelBatch(b, &a), b)
	default:
		r.told(m.releaseBatch(b, &a), b)
	}
	return nil
}

func (m *Machine) releaseBatch(b *payment.Batch, a *payment.BatchAct) payment.BatchRefusal {
	same := func(r payment.Release) bool { return r.Who == a.Who && r.Operator == a.Operator }
	switch {
	case b.State == payment.BatchReleased && slices.ContainsFunc(b.Releases, same): // asked twice
		return payment.BatchTaken
	case b.State == payment.BatchDone, b.State == payment.BatchCancelled:
		return payment.BatchEnded
	case b.State != payment.BatchHeld:
		return payment.BatchNotHeld
	case b.Needs > 1 && !a.Operator:
		return payment.BatchNeedsOperators
	}
	b.Releases = slices.DeleteFunc(b.Releases, func(r payment.Release) bool { return r.Operator && !m.hasPerson(r.Who) })
	if slices.ContainsFunc(b.Releases, same) {
		return payment.BatchSameOperator
	}
	b.Releases = append(b.Releases, payment.Release{Who: a.Who, Operator: a.Operator, At: m.now})
	if len(b.Releases) >= int(b.Needs) {
		b.State, b.ReleasedAt = payment.BatchReleased, m.now
	}
	m.touch(b)
	return payment.BatchTaken
}

// cancelBatch starts no further line; what is started goes its way.
func (m *Machine) cancelBatch(b *payment.Batch, a *payment.BatchAct) payment.BatchRefusal {
	switch b.State {
	case payment.BatchCancelled: // asked twice
		return payment.BatchTaken
	case payment.BatchHeld, payment.BatchReleased:
		b.State, b.EndedAt, b.CancelledBy = payment.BatchCancelled, m.now, a.Who
		m.touch(b)
		return payment.BatchTaken
	}
	return payment.BatchEnded
}

// AppendBatchRun writes a KindBatchRun command.
func AppendBatchRun(b []byte, x *payment.BatchRun) []byte {
	b = append(b, commandVersion)
	b = append(b, x.ID[:]...)
	b = append(b, x.Lane)
	b = put32(b, x.Chunk)
	b = put16(put16(b, x.At), x.Count)
	b = put16(append(b, byte(x.Means)), x.MTI)
	return putBool(b, x.Reversible)
}

// applyBatchRun makes refunds of lines and moves the lane past them, in one
// command: a line is started once however often it is proposed and whoever leads.
func (m *Machine) applyBatchRun(c *cursor, r *Result) error {
	c.version(commandVersion)
	x := payment.BatchRun{ID: c.id(), Lane: c.u8(), Chunk: c.u32(), At: c.u16(), Count: c.u16(), Means: payment.OperationMeans(c.u8()), MTI: c.u16(), Reversible: c.flag()}
	if err := c.end(); err != nil {
		return err
	}
	b := m.batch(x.ID)
	switch {
	case b == nil || b.State == payment.BatchLoading || int(x.Lane) >= len(b.Lanes):
		r.told(payment.BatchUnknown, nil)
		return nil
	case b.State != payment.BatchReleased:
		r.told(payment.BatchNotHeld, b)
		return nil
	case m.fence.holds(string(b.Lanes[x.Lane].Link)):
		r.Err = payment.ErrUnavailable
		return nil
	case x.Means != payment.MeansAdvice && x.Means != payment.MeansOnline, x.MTI == 0, x.Count == 0, x.Count > payment.MaxBatchRun:
		r.Err = ErrInvalid
		return nil
	}
	if l := &b.Lanes[x.Lane]; !l.Ended() && l.Next == x.Chunk && l.At == x.At {
		m.runLines(b, &x)
	}
	r.told(payment.BatchTaken, b)
	return nil
}

func (m *Machine) runLines(b *payment.Batch, x *payment.BatchRun) {
	m.keyA = appendChunkKey(m.keyA[:0], b.ID, x.Lane, x.Chunk)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	c := cursor{b: value}
	lines := readLines(&c)
	if !found || c.end() != nil || int(x.At) >= len(lines) {
		m.view.fail(ErrCorrupt)
		return
	}
	m.touch(b)
	lines = lines[x.At:]
	last := len(lines) <= int(x.Count)
	for i := range lines[:min(len(lines), int(x.Count))] {
		m.runLine(b, &lines[i], x)
	}
	l := &b.Lanes[x.Lane]
	l.At += x.Count
	if last {
		l.Next, l.At = l.Next+1, 0
	}
	m.endBatch(b)
}

// runLine makes a line a refund, under the same rules as any other.
func (m *Machine) runLine(b *payment.Batch, line *payment.BatchLine, x *payment.BatchRun) {
	op := payment.Operation{
		ID: m.lineOperation(b.ID, line.Number), Kind: payment.OpRefund, Parent: line.Capture, Merchant: b.Merchant, Gateway: b.Gateway, Amount: line.Amount, Text: line.Text,
		Reason: payment.ReversalCustomer, Means: x.Means, MTI: x.MTI, Reversible: x.Reversible, Batch: b.ID, Line: line.Number,
	}
	b.Started++
	var answer Result
	m.operate(&op, &answer)
	done := &answer.Operated
	if answer.Err != nil { // a capture that a restored state does not know
		done.Verdict, done.Refused = payment.OperateRefused, payment.RefusedUnknown
	}
	if done.Verdict == payment.OperateRefused {
		b.Refused++
		m.keyA = appendLineRefusalKey(m.keyA[:0], b.ID, line.Number)
		m.value = appendLineRefusal(m.value[:0], payment.LineRefusal{Why: done.Refused, Left: done.Left})
		m.view.writes.set(m.keyA, m.value)
	}
}

// lineOperation is the id of a line's refund: the first of its ids that is not
// another operation's.
func (m *Machine) lineOperation(batch payment.ID, line uint32) payment.ID {
	for salt := uint32(0); ; salt++ {
		id := payment.LineOperation(batch, line, salt)
		var op payment.Operation
		if !m.operation(id, &op) || op.Batch == batch && op.Line == line {
			return id
		}
	}
}

// tally counts a refund in its batch as what it now is.
func (m *Machine) tally(o *payment.Operation) {
	if o.Batch.IsZero() {
		return
	}
	as := tallied(o.State)
	if as == o.Tallied {
		return
	}
	b := m.batch(o.Batch)
	if b == nil {
		m.view.fail(ErrCorrupt)
		return
	}
	if n := countOf(b, o.Tallied); n != nil {
		*n--
	}
	if n := countOf(b, as); n != nil {
		*n++
	}
	o.Tallied = as
	m.touch(b)
	m.endBatch(b)
}

// tallied is a state as batches count it.
func tallied(s payment.OperationState) payment.OperationState {
	switch s {
	case payment.OperationDone, payment.OperationDeclined, payment.OperationFailed, payment.OperationException:
		return s
	}
	return payment.OperationNone
}

func countOf(b *payment.Batch, s payment.OperationState) *uint32 {
	switch s {
	case payment.OperationDone:
		return &b.Done
	case payment.OperationDeclined:
		return &b.Declined
	case payment.OperationFailed:
		return &b.Failed
	case payment.OperationException:
		return &b.Exceptions
	}
	return nil
}

// endBatch ends a batch whose every line has its end.
func (m *Machine) endBatch(b *payment.Batch) {
	if b.State == payment.BatchReleased && b.Over() == b.Lines {
		b.State, b.EndedAt = payment.BatchDone, m.now
	}
}

// AppendBatchSweep writes a KindBatchSweep command: batches whose writing down
// began more than keep ago, by the entry's time, and did not end are deleted.
func AppendBatchSweep(b []byte, keep int64) []byte {
	return put64(append(b, commandVersion), uint64(keep))
}

func (m *Machine) applyBatchSweep(c *cursor, r *Result) error {
	c.version(commandVersion)
	keep := payment.Instant(c.u64())
	if err := c.end(); err != nil {
		return err
	}
	for _, x := range m.Batches() {
		if x.State != payment.BatchLoading || m.now-x.CreatedAt <= keep {
			continue
		}
		delete(m.batches.byID, x.ID)
		delete(m.batches.changed, x.ID)
		m.view.writes.delete(append([]byte{tableBatches}, x.ID[:]...))
		prefix := append([]byte{tableBatchLines}, x.ID[:]...)
		m.view.writes.deleteRange(prefix, after(nil, prefix))
		r.Count++
	}
	return nil
}

// Underway says how many operations link owes that go on by themselves:
// exceptions wait for a person.
func (m *Machine) Underway(link payment.LinkName) int {
	l := m.lanes[string(link)]
	if l == nil {
		return 0
	}
	return max(0, l.operations-l.exceptions)
}
