package journal

import "authswitch/payment"

// A batch upload is a closed batch whose lines leave as messages: each goes into
// the outbox and is repeated until it is acknowledged, as every advice is. Once
// all have their end, what they came to is agreed with the acquirer: one
// reconciliation message for each terminal and currency, claimed before its first
// byte and repeated until it is answered. What the totals are is computed from
// the lines by whoever sends them; the batch is closed, so that everybody
// computes the same.

const totalsVersion = 1

// AppendUpload writes a KindUpload command about up to MaxSettle lines of a batch
// that is closed.
func AppendUpload(b []byte, link payment.LinkName, number uint64) []byte {
	b = append(b, totalsVersion)
	b = putText(b, link)
	return put64(b, number)
}

// applyUpload puts the next lines of a closed batch into the outbox, where each
// waits behind what its payment sends before it. Result.Count is how many.
func (m *Machine) applyUpload(c *cursor, r *Result) error {
	c.version(totalsVersion)
	link := m.names.of(c.text())
	number := c.u64()
	if err := c.end(); err != nil {
		return err
	}
	if m.fence.holds(link) {
		r.Err = payment.ErrUnavailable
		return nil
	}
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansUpload, link, number, &b) {
		r.Err = payment.ErrNotFound
		return nil
	}
	if b.State != payment.ClearingClosed {
		return nil
	}
	first := b.Settled
	var lines []payment.ID
	for ; b.Settled+1 < b.Next && b.Settled-first < MaxSettle; b.Settled++ {
		m.keyA = appendClearingKey(m.keyA[:0], payment.MeansUpload, link, number, b.Settled+1)
		value, found := m.view.get(m.value[:0], m.keyA)
		m.value = value
		if !found {
			continue // withdrawn
		}
		c := cursor{b: value}
		lines = append(lines, c.id())
	}
	m.setClearingBatch(link, &b) // before the lines: one that has its end is counted in it
	for _, id := range lines {
		m.uploadLine(id)
	}
	r.Count = len(lines)
	return nil
}

func (m *Machine) uploadLine(id payment.ID) {
	var op payment.Operation
	if !m.operation(id, &op) {
		m.view.fail(ErrCorrupt)
		return
	}
	if op.State.Over() {
		return // a refund whose capture came to nothing
	}
	l := m.load(op.Payment)
	if l == nil || !inFile(&op) {
		m.view.fail(ErrCorrupt)
		return
	}
	a := &m.scratchAccount
	m.account(l, a)
	op.State = payment.OperationWaiting
	a.waiting = append(a.waiting, op.ID)
	m.writeOperation(l, &op)
	m.advance(l, a)
	m.setAccount(l, a)
}

// uploadOver counts a line of an upload that has its end. The last one makes the
// totals due.
func (m *Machine) uploadOver(op *payment.Operation) {
	link := string(op.Link)
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansUpload, link, op.File, &b) {
		m.view.fail(ErrCorrupt) // only a withdrawn line of an open batch ends before it is closed
		return
	}
	b.Upload.Over++
	if b.Upload.Over == b.Lines {
		b.State, b.Upload.Due = payment.ClearingUploaded, m.now
	}
	m.setClearingBatch(link, &b)
}

// AppendTotals writes a KindTotals command: the claim of a transmission of a
// batch's next totals.
func AppendTotals(b []byte, x *payment.Totals) []byte {
	b = append(b, totalsVersion)
	b = putText(b, x.Link)
	b = put64(b, x.Number)
	b = put16(put16(b, x.Group), x.Tries)
	return put32(put32(b, uint32(x.STAN)), uint32(x.Transmitted))
}

func readTotals(c *cursor, x *payment.Totals) {
	c.version(totalsVersion)
	x.Link = payment.LinkName(c.text())
	x.Number = c.u64()
	x.Group, x.Tries = c.u16(), c.u16()
	x.STAN, x.Transmitted = payment.STAN(c.u32()), payment.Transmitted(c.u32())
}

// applyTotals notes a transmission before its first byte: whoever sends after it
// sends the repeat, under the same STAN. Of two that claim at once, one does:
// Result.Count is 1 for it.
func (m *Machine) applyTotals(c *cursor, r *Result) error {
	var x payment.Totals
	readTotals(c, &x)
	if err := c.end(); err != nil {
		return err
	}
	if m.fence.holds(string(x.Link)) {
		r.Err = payment.ErrUnavailable
		return nil
	}
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansUpload, string(x.Link), x.Number, &b) {
		r.Err = payment.ErrNotFound
		return nil
	}
	u := &b.Upload
	if b.State != payment.ClearingUploaded || u.Group != x.Group || u.Tries != x.Tries || m.now < u.Due || u.Tries > 0 && u.STAN != x.STAN {
		return nil
	}
	u.Tries++
	u.STAN, u.Transmitted = x.STAN, x.Transmitted
	u.Due = m.now + repeatAfter(u.Tries, false)
	m.setClearingBatch(string(x.Link), &b)
	r.Count = 1
	return nil
}

// AppendAgreed writes a KindAgreed command: what an acquirer said to totals.
func AppendAgreed(b []byte, x *payment.Totals, a *payment.Agreed) []byte {
	b = AppendTotals(b, x)
	b = put16(b, x.Groups)
	b = append(b, a.Code[:]...)
	return putBool(putBool(b, a.Answered), a.Balanced)
}

// applyAgreed ends one of a batch's totals, and with the last one the batch. What
// is not answered stays owed and is repeated. Result.Count is 1 where it ended.
func (m *Machine) applyAgreed(c *cursor, r *Result) error {
	var x payment.Totals
	var a payment.Agreed
	readTotals(c, &x)
	x.Groups = c.u16()
	c.copy(a.Code[:])
	a.Answered, a.Balanced = c.flag(), c.flag()
	if err := c.end(); err != nil {
		return err
	}
	link := string(x.Link)
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansUpload, link, x.Number, &b) {
		r.Err = payment.ErrNotFound
		return nil
	}
	u := &b.Upload
	if b.State != payment.ClearingUploaded || u.Group != x.Group {
		return nil // answered before: the answer to an earlier transmission
	}
	u.Code = a.Code
	if a.Answered {
		m.agree(link, &b, &x, a.Balanced)
		r.Count = 1
	}
	m.setClearingBatch(link, &b)
	return nil
}

func (m *Machine) agree(link string, b *payment.ClearingBatch, x *payment.Totals, balanced bool) {
	u := &b.Upload
	u.Group++
	u.Tries, u.STAN, u.Transmitted, u.Due = 0, 0, 0, m.now
	if !balanced {
		u.Unbalanced++
	}
	if u.Group < x.Groups {
		return
	}
	b.State = payment.ClearingSettled
	if u.Unbalanced > 0 {
		b.State = payment.ClearingUnbalanced
	}
	m.keyA = appendClearingPendingKey(m.keyA[:0], payment.MeansUpload, link, b.Number)
	m.view.writes.delete(m.keyA)
}
