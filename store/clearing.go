package store

import (
	"authswitch/journal"
	"authswitch/payment"
)

// CutOver ends a link's business day where the batch named is still its open
// one; it says whether this call did.
func (s *Store) CutOver(x *payment.DayEnd) (bool, error) {
	n, err := s.count(journal.KindCutOver, func(b []byte) []byte { return journal.AppendCutOver(b, x) })
	return n > 0, err
}

// Filed journals that a batch's file is on a disk. The first node that says so
// stands.
func (s *Store) Filed(x *payment.Filed) error {
	_, err := s.count(journal.KindFiled, func(b []byte) []byte { return journal.AppendFiled(b, x) })
	return err
}

// SettleFile makes the next lines of a written batch done, and says how many.
func (s *Store) SettleFile(link payment.LinkName, number uint64) (int, error) {
	return s.count(journal.KindFileSettle, func(b []byte) []byte { return journal.AppendFileSettle(b, link, number) })
}

// Upload puts the next lines of a closed batch into the outbox, and says how many.
func (s *Store) Upload(link payment.LinkName, number uint64) (int, error) {
	return s.count(journal.KindUpload, func(b []byte) []byte { return journal.AppendUpload(b, link, number) })
}

// ClaimTotals journals an attempt to send totals, before its first byte; it says
// whether this call did.
func (s *Store) ClaimTotals(x *payment.Totals) (bool, error) {
	n, err := s.count(journal.KindTotals, func(b []byte) []byte { return journal.AppendTotals(b, x) })
	return n > 0, err
}

// AgreeTotals journals what an acquirer said to totals.
func (s *Store) AgreeTotals(x *payment.Totals, a *payment.Agreed) error {
	_, err := s.count(journal.KindAgreed, func(b []byte) []byte { return journal.AppendAgreed(b, x, a) })
	return err
}

// count proposes a command whose answer is a number.
func (s *Store) count(kind journal.Kind, body func([]byte) []byte) (int, error) {
	w := s.batch.waiter(kind)
	w.body = body(w.body)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	n := 0
	if err == nil {
		n = w.result.Count
	}
	s.give(w, err)
	return n, err
}

// OpenClearing reads a link's open clearing batch, and when its last cut-over was.
func (s *Store) OpenClearing(means payment.OperationMeans, link payment.LinkName) (b payment.ClearingBatch, at payment.Instant, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		b, at, err = journal.ReadOpenClearing(r, means, link)
		return err
	})
	return b, at, err
}

// ClearingBatches lists a link's closed clearing batches, newest first.
func (s *Store) ClearingBatches(means payment.OperationMeans, link payment.LinkName, limit int) (b []payment.ClearingBatch, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		b, err = journal.ReadClearingBatches(r, means, link, limit)
		return err
	})
	return b, err
}

// ClearingBatch reads one closed clearing batch.
func (s *Store) ClearingBatch(means payment.OperationMeans, link payment.LinkName, number uint64) (b payment.ClearingBatch, err error) {
	err = s.look(func(r journal.Reader) error {
		b, err = journal.ReadClearingBatch(r, means, link, number)
		return err
	})
	return b, err
}

// PendingClearing lists the batches that are closed and not settled.
func (s *Store) PendingClearing(limit int) (b []payment.ClearingBatch, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		b, err = journal.ReadPendingClearing(r, limit)
		return err
	})
	return b, err
}

// ClearingLines lists a batch's lines in their order, after the one named.
func (s *Store) ClearingLines(means payment.OperationMeans, link payment.LinkName, number uint64, after uint32, limit int) (lines []payment.ClearingLine, err error) {
	err = s.replica.read(func(r journal.Reader) error {
		lines, err = journal.ReadClearingLines(r, means, link, number, after, limit)
		return err
	})
	return lines, err
}
