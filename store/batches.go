package store

import (
	"fmt"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// batchCommand proposes a command about a refund batch.
func (s *Store) batchCommand(kind journal.Kind, write func(b []byte) []byte) (payment.BatchAnswer, error) {
	w := s.batch.waiter(kind)
	w.body = write(w.body)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var answer payment.BatchAnswer
	if err == nil && w.result.Batch != nil {
		answer = *w.result.Batch
	}
	s.give(w, err)
	return answer, err
}

// BeginBatch journals that a batch is about to be written down. Nobody is shown
// it, and nothing of it moves, before SealBatch.
func (s *Store) BeginBatch(b *payment.Batch) (payment.BatchAnswer, error) {
	if err := journal.CheckBatch(b); err != nil {
		return payment.BatchAnswer{}, err
	}
	return s.batchCommand(journal.KindBatchBegin, func(to []byte) []byte { return journal.AppendBatchBegin(to, b) })
}

// PutBatchLines writes the chunk with the number seq among all of the batch's
// down, as the next of its lane.
func (s *Store) PutBatchLines(id payment.ID, seq uint32, lane uint8, lines []payment.BatchLine) (payment.BatchAnswer, error) {
	return s.batchCommand(journal.KindBatchLines, func(to []byte) []byte { return journal.AppendBatchLines(to, id, seq, lane, lines) })
}

// SealBatch makes a batch that is written down wait for its release.
func (s *Store) SealBatch(id payment.ID) (payment.BatchAnswer, error) {
	return s.batchCommand(journal.KindBatchSeal, func(to []byte) []byte { return journal.AppendBatchSeal(to, id) })
}

// ActOnBatch releases or cancels a batch.
func (s *Store) ActOnBatch(a *payment.BatchAct) (payment.BatchAnswer, error) {
	return s.batchCommand(journal.KindBatchAct, func(to []byte) []byte { return journal.AppendBatchAct(to, a) })
}

// batchYields is how old what waits may be before the next lines of a batch
// are not even queued: nobody waits for them, and each step is work for the
// disk, the link and the acquirer.
const batchYields = 100 * time.Millisecond

// RunBatch starts the next lines of a lane, if they still are the next.
// payment.ErrBusy: this node has better to do.
func (s *Store) RunBatch(x *payment.BatchRun) (payment.BatchAnswer, error) {
	if age := s.QueueAge(payment.PriorityBatch); age > batchYields {
		return payment.BatchAnswer{}, fmt.Errorf("%w: what waits is %s old", payment.ErrBusy, age.Round(time.Millisecond))
	}
	return s.batchCommand(journal.KindBatchRun, func(to []byte) []byte { return journal.AppendBatchRun(to, x) })
}

// SweepBatches deletes batches whose writing down began more than keep ago and
// did not end.
func (s *Store) SweepBatches(keep payment.Instant) error {
	_, err := s.batchCommand(journal.KindBatchSweep, func(to []byte) []byte { return journal.AppendBatchSweep(to, int64(keep)) })
	return err
}

// RunningBatches are the batches that are not at rest, oldest first.
func (s *Store) RunningBatches() (list []payment.Batch) {
	s.replica.withMachine(func(m *journal.Machine) { list = m.Batches() })
	return list
}

// Underway says how many operations link owes that go on by themselves:
// exceptions, which wait for a person, are not among them.
func (s *Store) Underway(link payment.LinkName) (count int) {
	s.replica.withMachine(func(m *journal.Machine) { count = m.Underway(link) })
	return count
}

// Batch reads one batch.
func (s *Store) Batch(id payment.ID) (b payment.Batch, err error) {
	err = s.look(func(r journal.Reader) error {
		b, err = journal.ReadBatch(r, id)
		return err
	})
	return b, err
}

// BatchBy finds a batch by its key, where one is given, else by what it asks for.
func (s *Store) BatchBy(m payment.MerchantID, fingerprint [32]byte, key []byte) (b payment.Batch, err error) {
	err = s.look(func(r journal.Reader) error {
		b, err = journal.ReadBatchBy(r, m, fingerprint, key)
		return err
	})
	return b, err
}

// Operations reads all that was done with an approved payment's money, oldest
// first.
func (s *Store) Operations(id payment.ID) (list []payment.Operation, err error) {
	err = s.look(func(r journal.Reader) error {
		list, err = journal.ReadOperations(r, id)
		return err
	})
	return list, err
}

// Batches lists a merchant's batches, newest first, from the one after the last
// that was seen; from the newest where that is zero.
func (s *Store) Batches(m payment.MerchantID, after payment.ID, limit int) (list []payment.Batch, more bool, err error) {
	err = s.look(func(r journal.Reader) error {
		list, more, err = journal.ReadBatches(r, m, after, limit)
		return err
	})
	return list, more, err
}

// BatchLines reads one chunk of a lane; none where there is no such chunk.
func (s *Store) BatchLines(id payment.ID, lane uint8, chunk uint32) (lines []payment.BatchLine, err error) {
	err = s.look(func(r journal.Reader) error {
		lines, err = journal.ReadBatchLines(r, id, lane, chunk)
		return err
	})
	return lines, err
}

// BatchLine reads what became of a line.
func (s *Store) BatchLine(batch payment.ID, line uint32) (op payment.Operation, why payment.LineRefusal, err error) {
	err = s.look(func(r journal.Reader) error {
		op, why, err = journal.ReadLine(r, batch, line)
		return err
	})
	return op, why, err
}

// Tagged lists a merchant's payments with a tag, oldest first, from the one
// after the last that was seen.
func (s *Store) Tagged(m payment.MerchantID, tag []byte, behind payment.ID, limit int) (ids []payment.ID, more bool, err error) {
	err = s.look(func(r journal.Reader) error {
		ids, more, err = journal.ReadTagged(r, m, tag, behind, limit)
		return err
	})
	return ids, more, err
}

// ChangePerson adds or removes an operator; payment.ErrPersonKnown and
// payment.ErrNotFound when it is so already.
func (s *Store) ChangePerson(x *payment.PersonChange) (payment.Person, error) {
	if err := journal.CheckPersonChange(x); err != nil {
		return payment.Person{}, err
	}
	w := s.batch.waiter(journal.KindPerson)
	w.body = journal.AppendPersonChange(w.body, x)
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	var p payment.Person
	if err == nil {
		if w.result.Person == nil {
			err = fmt.Errorf("%w: no answer about %s", payment.ErrPending, x.Name)
		} else {
			p = *w.result.Person
		}
	}
	s.give(w, err)
	return p, err
}

// Person reads an operator.
func (s *Store) Person(name string) (p payment.Person, err error) {
	err = s.look(func(r journal.Reader) error {
		p, err = journal.ReadPerson(r, name)
		return err
	})
	return p, err
}

// People reads all operators by name.
func (s *Store) People() (people []payment.Person, err error) {
	err = s.look(func(r journal.Reader) error {
		people, err = journal.ReadPeople(r)
		return err
	})
	return people, err
}

// CatchUp makes the reads that follow see all that was decided until now.
func (s *Store) CatchUp() error { return Fresh{s}.now() }
