package journal

import "authswitch/payment"

// Captures and refunds that reach an acquirer in a file, or in a batch upload, are
// lines of its link's open batch from the command that accepts them. A cut-over
// closes the batch; nothing enters or leaves it after that, so that its file is the
// same whoever writes it, and each line stands in one file for ever.

const (
	clearingVersion = 1
	uploadVersion   = 2 // of a batch that is uploaded
	cutOverVersion  = 1
	// MaxSettle is how many lines one KindFileSettle command takes.
	MaxSettle = 256
)

// clearingHead is a link's open batch and its last cut-over.
type clearingHead struct {
	open payment.ClearingBatch
	at   payment.Instant // of the last cut-over, in the journal's time; 0: none
}

func appendClearingBatch(b []byte, x *payment.ClearingBatch) []byte {
	version := byte(clearingVersion)
	if x.Means == payment.MeansUpload {
		version = uploadVersion
	}
	b = append(b, version, byte(x.State))
	b = put64(b, x.Number)
	b = put32(b, x.Lines)
	b = put32(b, x.Next)
	b = put32(b, x.Settled)
	b = putTime(b, x.ClosedAt)
	b = putText(b, x.ClosedBy)
	b = putTime(b, x.WrittenAt)
	b = putText(b, x.Node)
	b = append(b, x.SHA256[:]...)
	b = put64(b, x.Bytes)
	if version == clearingVersion {
		return b
	}
	u := &x.Upload
	b = put32(b, u.Over)
	b = put16(put16(put16(b, u.Group), u.Unbalanced), u.Tries)
	b = put32(put32(b, uint32(u.STAN)), uint32(u.Transmitted))
	b = putTime(b, u.Due)
	return append(b, u.Code[:]...)
}

func readClearingBatch(c *cursor, x *payment.ClearingBatch) {
	version := c.u8()
	switch version {
	case clearingVersion:
		x.Means = payment.MeansFile
	case uploadVersion:
		x.Means = payment.MeansUpload
	default:
		c.broken = true
	}
	x.State = payment.ClearingState(c.u8())
	x.Number = c.u64()
	x.Lines, x.Next, x.Settled = c.u32(), c.u32(), c.u32()
	x.ClosedAt = c.time()
	x.ClosedBy = string(c.text())
	x.WrittenAt = c.time()
	x.Node = payment.NodeID(c.text())
	c.copy(x.SHA256[:])
	x.Bytes = c.u64()
	x.Upload = payment.Upload{}
	if version != uploadVersion {
		return
	}
	u := &x.Upload
	u.Over = c.u32()
	u.Group, u.Unbalanced, u.Tries = c.u16(), c.u16(), c.u16()
	u.STAN, u.Transmitted = payment.STAN(c.u32()), payment.Transmitted(c.u32())
	u.Due = c.time()
	c.copy(u.Code[:])
}

func (m *Machine) applyClearing(kind Kind, c *cursor, r *Result) error {
	switch kind {
	case KindCutOver:
		return m.applyCutOver(c, r)
	case KindFiled:
		return m.applyFiled(c, r)
	case KindUpload:
		return m.applyUpload(c, r)
	case KindTotals:
		return m.applyTotals(c, r)
	case KindAgreed:
		return m.applyAgreed(c, r)
	default:
		return m.applyFileSettle(c, r)
	}
}

// clearing reads the head of a link's series; one that never had any starts with
// batch 1.
func (m *Machine) clearing(means payment.OperationMeans, link string) (h clearingHead) {
	m.keyA = appendClearingBatchKey(m.keyA[:0], means, link, 0)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		h.open = payment.ClearingBatch{Means: means, Number: 1, State: payment.ClearingOpen, Next: 1}
		return h
	}
	c := cursor{b: value}
	h.at = c.time()
	readClearingBatch(&c, &h.open)
	m.view.fail(c.end())
	return h
}

func (m *Machine) setClearing(link string, h *clearingHead) {
	m.keyA = appendClearingBatchKey(m.keyA[:0], h.open.Means, link, 0)
	m.value = appendClearingBatch(putTime(m.value[:0], h.at), &h.open)
	m.view.writes.set(m.keyA, m.value)
}

// clearingBatch reads a batch that is closed.
func (m *Machine) clearingBatch(means payment.OperationMeans, link string, number uint64, x *payment.ClearingBatch) bool {
	m.keyA = appendClearingBatchKey(m.keyA[:0], means, link, number)
	return m.record(func(c *cursor) { readClearingBatch(c, x) })
}

func (m *Machine) setClearingBatch(link string, x *payment.ClearingBatch) {
	m.keyA = appendClearingBatchKey(m.keyA[:0], x.Means, link, x.Number)
	m.value = appendClearingBatch(m.value[:0], x)
	m.view.writes.set(m.keyA, m.value)
}

// file makes an operation a line of its link's open batch. Files wait for no
// message of the payment: what is in one is in doubt until the batch is
// written, and counted like everything that is.
func (m *Machine) file(l *life, op *payment.Operation) {
	link := string(op.Link)
	h := m.clearing(op.Means, link)
	op.State, op.File, op.FileLine = payment.OperationOwed, h.open.Number, h.open.Next
	h.open.Next++
	h.open.Lines++
	m.setClearing(link, &h)
	m.keyA = appendClearingKey(m.keyA[:0], op.Means, link, op.File, op.FileLine)
	m.view.writes.set(m.keyA, op.ID[:])
	m.writeOperation(l, op)
}

// unfile takes a line out of a batch that is still open.
func (m *Machine) unfile(op *payment.Operation) bool {
	link := string(op.Link)
	h := m.clearing(op.Means, link)
	if h.open.Number != op.File {
		return false
	}
	h.open.Lines--
	m.setClearing(link, &h)
	m.keyA = appendClearingKey(m.keyA[:0], op.Means, link, op.File, op.FileLine)
	m.view.writes.delete(m.keyA)
	return true
}

// settledBefore says whether a capture was over before its link's last
// cut-over: its acquirer settles it, and only a refund undoes it.
func (m *Machine) settledBefore(capture *payment.Operation) bool {
	if collected(capture) {
		h := m.clearing(capture.Means, string(capture.Link))
		return capture.File < h.open.Number
	}
	h := m.clearing(payment.MeansFile, string(capture.Link))
	return capture.State == payment.OperationDone && capture.DecidedAt < h.at
}

// anySettled says whether a cut-over settled a capture of a payment.
func (m *Machine) anySettled(a *account) bool {
	var op payment.Operation
	for _, id := range a.operations {
		if m.operation(id, &op) && op.Kind == payment.OpCapture && refusalOfUndoing(&op) == payment.NotRefused && m.settledBefore(&op) {
			return true
		}
	}
	return false
}

// AppendCutOver writes a KindCutOver command.
func AppendCutOver(b []byte, x *payment.DayEnd) []byte {
	b = append(b, cutOverVersion)
	b = putText(b, x.Link)
	b = put64(b, x.Number)
	b = putTime(b, x.Apart)
	return putText(b, x.By)
}

// applyCutOver ends a link's business day. Result.Count is 1 where it did.
func (m *Machine) applyCutOver(c *cursor, r *Result) error {
	c.version(cutOverVersion)
	link := m.names.of(c.text())
	number, apart := c.u64(), c.time()
	by := string(c.text())
	if err := c.end(); err != nil {
		return err
	}
	if m.fence.holds(link) {
		r.Err = payment.ErrUnavailable
		return nil
	}
	h := m.clearing(payment.MeansFile, link)
	if h.open.Number != number || h.at > 0 && m.now < h.at+apart {
		return nil
	}
	m.closeBatch(link, &h, by)
	if upload := m.clearing(payment.MeansUpload, link); upload.open.Lines > 0 {
		m.closeBatch(link, &upload, by)
	}
	r.Count = 1
	return nil
}

// closeBatch closes a series' open batch, where it has lines, and opens the next.
func (m *Machine) closeBatch(link string, h *clearingHead, by string) {
	h.at = m.now
	if h.open.Lines > 0 {
		closed := h.open
		closed.State, closed.ClosedAt, closed.ClosedBy = payment.ClearingClosed, m.now, by
		m.setClearingBatch(link, &closed)
		m.keyA = appendClearingPendingKey(m.keyA[:0], closed.Means, link, closed.Number)
		m.view.writes.set(m.keyA, nil)
	}
	h.open = payment.ClearingBatch{Means: h.open.Means, Number: h.open.Number + 1, State: payment.ClearingOpen, Next: 1}
	m.setClearing(link, h)
}

// AppendFiled writes a KindFiled command.
func AppendFiled(b []byte, x *payment.Filed) []byte {
	b = append(b, cutOverVersion)
	b = putText(b, x.Link)
	b = put64(b, x.Number)
	b = putText(b, x.Node)
	b = append(b, x.SHA256[:]...)
	return put64(b, x.Bytes)
}

// applyFiled notes who wrote a batch's file. The first one stands.
func (m *Machine) applyFiled(c *cursor, r *Result) error {
	c.version(cutOverVersion)
	var x payment.Filed
	x.Link = payment.LinkName(m.names.of(c.text()))
	x.Number = c.u64()
	x.Node = payment.NodeID(c.text())
	c.copy(x.SHA256[:])
	x.Bytes = c.u64()
	if err := c.end(); err != nil {
		return err
	}
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansFile, string(x.Link), x.Number, &b) {
		r.Err = payment.ErrNotFound
		return nil
	}
	if b.State != payment.ClearingClosed {
		return nil
	}
	b.State, b.WrittenAt, b.Node, b.SHA256, b.Bytes = payment.ClearingWritten, m.now, x.Node, x.SHA256, x.Bytes
	m.setClearingBatch(string(x.Link), &b)
	r.Count = 1
	return nil
}

// AppendFileSettle writes a KindFileSettle command about up to MaxSettle lines
// of a batch that is written.
func AppendFileSettle(b []byte, link payment.LinkName, number uint64) []byte {
	b = append(b, cutOverVersion)
	b = putText(b, link)
	return put64(b, number)
}

// applyFileSettle makes the next lines of a written batch done, and lets leave
// what waited for them. Result.Count is how many.
func (m *Machine) applyFileSettle(c *cursor, r *Result) error {
	c.version(cutOverVersion)
	link := m.names.of(c.text())
	number := c.u64()
	if err := c.end(); err != nil {
		return err
	}
	var b payment.ClearingBatch
	if !m.clearingBatch(payment.MeansFile, link, number, &b) {
		r.Err = payment.ErrNotFound
		return nil
	}
	if b.State != payment.ClearingWritten {
		return nil
	}
	for ; b.Settled+1 < b.Next && r.Count < MaxSettle; b.Settled++ {
		m.keyA = appendClearingKey(m.keyA[:0], payment.MeansFile, link, number, b.Settled+1)
		value, found := m.view.get(m.value[:0], m.keyA)
		m.value = value
		if !found {
			continue // withdrawn
		}
		c := cursor{b: value}
		m.fileDone(c.id())
		r.Count++
	}
	if b.Settled+1 == b.Next {
		b.State = payment.ClearingSettled
		m.keyA = appendClearingPendingKey(m.keyA[:0], payment.MeansFile, link, number)
		m.view.writes.delete(m.keyA)
	}
	m.setClearingBatch(link, &b)
	return nil
}

func (m *Machine) fileDone(id payment.ID) {
	var op payment.Operation
	if !m.operation(id, &op) {
		m.view.fail(ErrCorrupt)
		return
	}
	l := m.load(op.Payment)
	if l == nil || op.State != payment.OperationOwed || op.Means != payment.MeansFile {
		m.view.fail(ErrCorrupt)
		return
	}
	a := &m.scratchAccount
	m.account(l, a)
	op.State = payment.OperationDone
	m.writeOperation(l, &op)
	m.advance(l, a)
	m.setAccount(l, a)
}

// collected says whether an operation is a line of a batch.
func collected(op *payment.Operation) bool {
	return op.Means == payment.MeansFile || op.Means == payment.MeansUpload
}

// inFile says whether an operation is a line of a batch of which nothing has
// left: its file is not written, or its message is not in the outbox.
func inFile(op *payment.Operation) bool {
	return collected(op) && op.State == payment.OperationOwed && op.Seq == 0
}

// waitsForFile says whether an operation's message must wait for a batch: a
// refund leaves after its capture.
func (m *Machine) waitsForFile(op *payment.Operation) bool {
	var capture payment.Operation
	return op.Kind == payment.OpRefund && !op.Parent.IsZero() && m.operation(op.Parent, &capture) &&
		(inFile(&capture) || capture.Means == payment.MeansUpload && capture.State == payment.OperationWaiting)
}

// ReadOpenClearing reads the open batch of a link's series, and when its last
// cut-over was.
func ReadOpenClearing(r Reader, means payment.OperationMeans, link payment.LinkName) (payment.ClearingBatch, payment.Instant, error) {
	value, found, err := r.Get(nil, appendClearingBatchKey(nil, means, link, 0))
	if err != nil {
		return payment.ClearingBatch{}, 0, err
	}
	if !found {
		return payment.ClearingBatch{Link: link, Means: means, Number: 1, State: payment.ClearingOpen, Next: 1}, 0, nil
	}
	var b payment.ClearingBatch
	c := cursor{b: value}
	at := c.time()
	readClearingBatch(&c, &b)
	b.Link = link
	return b, at, c.end()
}

// ReadClearingBatch reads a batch that is closed.
func ReadClearingBatch(r Reader, means payment.OperationMeans, link payment.LinkName, number uint64) (payment.ClearingBatch, error) {
	value, found, err := r.Get(nil, appendClearingBatchKey(nil, means, link, number))
	if err != nil {
		return payment.ClearingBatch{}, err
	}
	if !found || number == 0 {
		return payment.ClearingBatch{}, payment.ErrNotFound
	}
	var b payment.ClearingBatch
	c := cursor{b: value}
	readClearingBatch(&c, &b)
	b.Link = link
	return b, c.end()
}

// ReadClearingBatches lists the closed batches of a link's series, newest first.
func ReadClearingBatches(r Reader, means payment.OperationMeans, link payment.LinkName, limit int) (batches []payment.ClearingBatch, err error) {
	var fault error
	from := appendClearingBatchKey(nil, means, link, 1)
	err = r.Scan(from, after(nil, from[:len(from)-8]), true, func(_, value []byte) bool {
		var b payment.ClearingBatch
		c := cursor{b: value}
		readClearingBatch(&c, &b)
		b.Link = link
		batches, fault = append(batches, b), c.end()
		return fault == nil && len(batches) < limit
	})
	if err == nil {
		err = fault
	}
	return batches, err
}

// ReadPendingClearing lists the batches that are closed and not settled, of all
// links.
func ReadPendingClearing(r Reader, limit int) (batches []payment.ClearingBatch, err error) {
	for _, means := range [...]payment.OperationMeans{payment.MeansFile, payment.MeansUpload} {
		if batches, err = readPending(r, means, limit, batches); err != nil {
			return batches, err
		}
	}
	return batches, nil
}

func readPending(r Reader, means payment.OperationMeans, limit int, batches []payment.ClearingBatch) ([]payment.ClearingBatch, error) {
	var fault error
	type name struct {
		link   payment.LinkName
		number uint64
	}
	var names []name
	table := tableOf(means, tableClearingPending, tableUploadPending)
	err := r.Scan([]byte{table}, []byte{table + 1}, false, func(key, _ []byte) bool {
		c := cursor{b: key[1:]}
		names = append(names, name{payment.LinkName(c.text()), c.u64()})
		fault = c.end()
		return fault == nil && len(names) < limit
	})
	if err == nil {
		err = fault
	}
	for i := 0; i < len(names) && err == nil; i++ {
		var b payment.ClearingBatch
		b, err = ReadClearingBatch(r, means, names[i].link, names[i].number)
		batches = append(batches, b)
	}
	return batches, err
}

// ReadClearingLines lists a batch's lines in their order, after the one named.
func ReadClearingLines(r Reader, means payment.OperationMeans, link payment.LinkName, number uint64, after uint32, limit int) (lines []payment.ClearingLine, err error) {
	var fault error
	from := appendClearingKey(nil, means, link, number, after+1)
	prefix := from[:len(from)-4]
	err = r.Scan(from, appendClearingKey(nil, means, link, number+1, 0), false, func(key, value []byte) bool {
		k, v := cursor{b: key[len(prefix):]}, cursor{b: value}
		lines = append(lines, payment.ClearingLine{Line: k.u32(), Operation: v.id()})
		if fault = k.end(); fault == nil {
			fault = v.end()
		}
		return fault == nil && len(lines) < limit
	})
	if err == nil {
		err = fault
	}
	return lines, err
}
