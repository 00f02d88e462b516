package journal

import (
	"fmt"
	"slices"

	"authswitch/payment"
)

// A refund batch stands in these tables:
//
//	B | id                    the batch as it stands
//	L | id | lane | chunk     its lines, some at a time
//	q | id | line             why a line was refused when its turn came
//	u | merchant | hash       batches by what they ask for, and by their key
//	y | merchant | id         a merchant's batches in order; no value
const (
	tableBatches      = 'B'
	tableBatchLines   = 'L'
	tableLineRefusals = 'q'
	tableBatchKeys    = 'u'
	tableBatchOrder   = 'y'
)

// The kinds of what is done to refund batches and operators; see Kind.
const (
	KindBatchBegin Kind = 20 // a batch that is to be written down
	KindBatchLines Kind = 21 // lines of one
	KindBatchSeal  Kind = 22 // it is whole: now it waits for its release
	KindBatchAct   Kind = 23 // it is released, or cancelled
	KindBatchRun   Kind = 24 // the next lines of one lane become refunds
	KindBatchSweep Kind = 25 // those that were never whole go
	KindPerson     Kind = 26 // an operator is added or removed
)

// batchKinds are their names.
func batchKinds() map[Kind]string {
	return map[Kind]string{
		KindBatchBegin: "batch-begin", KindBatchLines: "batch-lines", KindBatchSeal: "batch-seal", KindBatchAct: "batch-act", KindBatchRun: "batch-run",
		KindBatchSweep: "batch-sweep", KindPerson: "person",
	}
}

// batches are those that are not at rest, in memory, because each line moves
// their counts; what changed is written once a flush.
type batches struct {
	byID    map[payment.ID]*payment.Batch
	changed map[payment.ID]bool
}

func newBatches() batches {
	return batches{byID: map[payment.ID]*payment.Batch{}, changed: map[payment.ID]bool{}}
}

// atRest says whether nothing more happens to a batch by itself.
func atRest(b *payment.Batch) bool { return b.EndedAt != 0 && b.InDoubt() == 0 }

// batch finds a batch; nil when there is none.
func (m *Machine) batch(id payment.ID) *payment.Batch {
	if b := m.batches.byID[id]; b != nil {
		return b
	}
	m.keyA = append(append(m.keyA[:0], tableBatches), id[:]...)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return nil
	}
	b := new(payment.Batch)
	c := cursor{b: value}
	readBatch(&c, b)
	m.view.fail(c.end())
	return b
}

// touch makes a change of a batch stand.
func (m *Machine) touch(b *payment.Batch) {
	m.batches.byID[b.ID] = b
	m.batches.changed[b.ID] = true
}

// flushBatches writes those that changed, and forgets those at rest.
func (m *Machine) flushBatches() {
	for id := range m.batches.changed {
		b := m.batches.byID[id]
		m.view.writes.set(append([]byte{tableBatches}, id[:]...), appendBatch(nil, b))
		if atRest(b) {
			delete(m.batches.byID, id)
		}
	}
	clear(m.batches.changed)
}

func (m *Machine) loadBatches() error {
	m.batches = newBatches()
	return m.table(tableBatches, func(_, value []byte) error {
		b := new(payment.Batch)
		c := cursor{b: value}
		readBatch(&c, b)
		if !atRest(b) {
			m.batches.byID[b.ID] = b
		}
		return c.end()
	})
}

// Batches are those that are not at rest, oldest first, as they stand.
func (m *Machine) Batches() []payment.Batch {
	list := make([]payment.Batch, 0, len(m.batches.byID))
	for _, b := range m.batches.byID {
		list = append(list, cloneBatch(b))
	}
	slices.SortFunc(list, func(a, b payment.Batch) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// cloneBatch is a copy whose parts nobody else changes.
func cloneBatch(b *payment.Batch) payment.Batch {
	c := *b
	c.Releases, c.Totals, c.Lanes = slices.Clone(b.Releases), slices.Clone(b.Totals), slices.Clone(b.Lanes)
	return c
}

func (m *Machine) applyBatch(kind Kind, c *cursor, r *Result) error {
	switch kind {
	case KindBatchBegin:
		return m.applyBatchBegin(c, r)
	case KindBatchLines:
		return m.applyBatchLines(c, r)
	case KindBatchSeal:
		return m.applyBatchSeal(c, r)
	case KindBatchAct:
		return m.applyBatchAct(c, r)
	case KindBatchRun:
		return m.applyBatchRun(c, r)
	case KindBatchSweep:
		return m.applyBatchSweep(c, r)
	case KindPerson:
		return m.applyPerson(c, r)
	}
	return ErrCorrupt
}

// told answers a command about a batch.
func (r *Result) told(why payment.BatchRefusal, b *payment.Batch) {
	r.Batch = &payment.BatchAnswer{Refused: why}
	if b != nil {
		r.Batch.Batch = cloneBatch(b)
	}
}

// CheckBatch says whether a batch can be proposed.
func CheckBatch(b *payment.Batch) error {
	switch {
	case b.ID.IsZero() || b.Merchant == "" || b.Needs == 0 || b.Needs > payment.MaxReleases:
		return fmt.Errorf("%w: batch without id, merchant or releases", ErrInvalid)
	case b.Lines == 0 || b.Lines > payment.MaxBatchLines:
		return fmt.Errorf("%w: batch of %d lines", ErrInvalid, b.Lines)
	case len(b.Lanes) == 0 || len(b.Lanes) > payment.MaxBatchLanes || len(b.Totals) == 0 || len(b.Totals) > payment.MaxBatchCurrencies:
		return fmt.Errorf("%w: batch to %d links in %d currencies", ErrInvalid, len(b.Lanes), len(b.Totals))
	}
	for _, n := range [...]int{len(b.Merchant), len(b.Gateway), len(b.Key), len(b.Name), len(b.Tag)} {
		if n > maxText {
			return fmt.Errorf("%w: batch with a field of %d bytes", ErrInvalid, n)
		}
	}
	return nil
}

// AppendBatchBegin writes a KindBatchBegin command: what is known of a batch
// before its lines. State and counts are the journal's to give.
func AppendBatchBegin(b []byte, x *payment.Batch) []byte { return appendBatch(b, x) }

func (m *Machine) applyBatchBegin(c *cursor, r *Result) error {
	b := new(payment.Batch)
	readBatch(c, b)
	if err := c.end(); err != nil {
		return err
	}
	if known := m.batch(b.ID); known != nil { // proposed twice
		r.told(payment.BatchTaken, known)
		return nil
	}
	if why, known := m.batchKnown(b); why != payment.BatchTaken {
		r.told(why, known)
		return nil
	}
	lanes := b.Lanes
	for i := range lanes {
		lanes[i] = payment.BatchLane{Link: lanes[i].Link}
	}
	*b = payment.Batch{
		ID: b.ID, Merchant: b.Merchant, Gateway: b.Gateway, Key: b.Key, Fingerprint: b.Fingerprint, Name: b.Name, Tag: b.Tag,
		State: payment.BatchLoading, Needs: b.Needs, Lines: b.Lines, Totals: b.Totals, Lanes: lanes, CreatedAt: m.now,
	}
	m.touch(b)
	r.told(payment.BatchTaken, b)
	return nil
}

// batchKnown says whether a batch was taken before, by its key or by what it
// asks for. One that was cancelled before a line of it was started gives both
// back.
func (m *Machine) batchKnown(b *payment.Batch) (payment.BatchRefusal, *payment.Batch) {
	if len(b.Key) > 0 {
		if known := m.batchBy(b, hashOf(domainKey, []byte(b.Merchant), b.Key)); known != nil {
			if known.Fingerprint == b.Fingerprint {
				return payment.BatchDuplicate, known
			}
			return payment.BatchKeyConflict, known
		}
	}
	if known := m.batchBy(b, keyHash(b.Fingerprint[:16])); known != nil {
		return payment.BatchDuplicate, known
	}
	return payment.BatchTaken, nil
}

func (m *Machine) batchBy(b *payment.Batch, h keyHash) *payment.Batch {
	m.keyA = append(putText(append(m.keyA[:0], tableBatchKeys), b.Merchant), h[:]...)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return nil
	}
	if len(value) != len(payment.ID{}) {
		m.view.fail(ErrCorrupt)
		return nil
	}
	known := m.batch(payment.ID(value))
	if known == nil || known.State == payment.BatchCancelled && known.Started == 0 {
		return nil
	}
	return known
}

// AppendBatchLines writes a KindBatchLines command: the chunk with a number
// among all of the batch's, from 0, of one lane.
func AppendBatchLines(b []byte, id payment.ID, seq uint32, lane uint8, lines []payment.BatchLine) []byte {
	b = append(b, commandVersion)
	b = append(b, id[:]...)
	b = append(put32(b, seq), lane)
	return appendLines(b, lines)
}

const linesVersion = 1

func appendLines(b []byte, lines []payment.BatchLine) []byte {
	b = put16(append(b, linesVersion), uint16(len(lines)))
	for i := range lines {
		l := &lines[i]
		b = put32(b, l.Number)
		b = append(b, l.Capture[:]...)
		b = putAmount(b, l.Amount)
		b = putText(b, l.Order)
		b = putText(b, l.Text)
	}
	return b
}

func readLines(c *cursor) []payment.BatchLine {
	c.version(linesVersion)
	n := int(c.u16())
	if c.broken || n > len(c.b) {
		c.broken = true
		return nil
	}
	lines := make([]payment.BatchLine, n)
	for i := range lines {
		l := &lines[i]
		l.Number, l.Capture, l.Amount = c.u32(), c.id(), c.amount()
		l.Order, l.Text = owned(c.text()), owned(c.text())
	}
	return lines
}

func appendChunkKey(b []byte, id payment.ID, lane uint8, chunk uint32) []byte {
	b = append(append(b, tableBatchLines), id[:]...)
	return put32(append(b, lane), chunk)
}

// applyBatchLines writes lines down, in the order of their chunks: one that was
// written before is not written again, and one too early is not written at all.
func (m *Machine) applyBatchLines(c *cursor, r *Result) error {
	c.version(commandVersion)
	id, seq, lane := c.id(), c.u32(), c.u8()
	chunk := c.b
	lines := readLines(c)
	if err := c.end(); err != nil {
		return err
	}
	b := m.batch(id)
	switch {
	case b == nil || b.State != payment.BatchLoading:
		r.told(payment.BatchUnknown, nil)
		return nil
	case seq < b.Loaded: // proposed twice
		r.told(payment.BatchTaken, b)
		return nil
	case seq > b.Loaded || int(lane) >= len(b.Lanes) || len(lines) == 0:
		r.told(payment.BatchIncomplete, b)
		return nil
	}
	l := &b.Lanes[lane]
	m.keyA = appendChunkKey(m.keyA[:0], id, lane, l.Chunks)
	m.view.writes.set(m.keyA, chunk)
	l.Chunks++
	b.Loaded++
	b.Written += uint32(len(lines))
	m.touch(b)
	r.told(payment.BatchTaken, b)
	return nil
}

// AppendBatchSeal writes a KindBatchSeal command.
func AppendBatchSeal(b []byte, id payment.ID) []byte {
	return append(append(b, commandVersion), id[:]...)
}

// applyBatchSeal makes a batch that is whole wait for its release. Of two with
// the same content that were written down at once, the second is refused here.
func (m *Machine) applyBatchSeal(c *cursor, r *Result) error {
	c.version(commandVersion)
	id := c.id()
	if err := c.end(); err != nil {
		return err
	}
	b := m.batch(id)
	switch {
	case b == nil:
		r.told(payment.BatchUnknown, nil)
		return nil
	case b.State != payment.BatchLoading: // proposed twice
		r.told(payment.BatchTaken, b)
		return nil
	case b.Written != b.Lines:
		r.told(payment.BatchIncomplete, b)
		return nil
	}
	if why, known := m.batchKnown(b); why != payment.BatchTaken {
		r.told(why, known)
		return nil
	}
	b.State, b.CreatedAt = payment.BatchHeld, m.now
	m.touch(b)
	hashes := []keyHash{keyHash(b.Fingerprint[:16])}
	if len(b.Key) > 0 {
		hashes = append(hashes, hashOf(domainKey, []byte(b.Merchant), b.Key))
	}
	for _, h := range hashes {
		m.keyA = append(putText(append(m.keyA[:0], tableBatchKeys), b.Merchant), h[:]...)
		m.view.writes.set(m.keyA, b.ID[:])
	}
	m.keyA = append(putText(append(m.keyA[:0], tableBatchOrder), b.Merchant), b.ID[:]...)
	m.view.writes.set(m.keyA, nil)
	r.told(payment.BatchTaken, b)
	return nil
}
