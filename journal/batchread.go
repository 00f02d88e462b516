package journal

import (
	"errors"

	"authswitch/payment"
)

// ReadBatch reads a batch as it stands; one that is not whole is not there.
func ReadBatch(r Reader, id payment.ID) (payment.Batch, error) {
	var b payment.Batch
	value, found, err := r.Get(nil, append([]byte{tableBatches}, id[:]...))
	switch {
	case err != nil:
		return b, err
	case !found:
		return b, payment.ErrNotFound
	}
	c := cursor{b: value}
	readBatch(&c, &b)
	if err := c.end(); err != nil {
		return b, err
	}
	if b.State == payment.BatchLoading {
		return payment.Batch{}, payment.ErrNotFound
	}
	return b, nil
}

// ReadBatchBy finds a batch by its key, where one is given, else by what it asks
// for.
func ReadBatchBy(r Reader, merchant payment.MerchantID, fingerprint [32]byte, batchKey []byte) (payment.Batch, error) {
	h := keyHash(fingerprint[:16])
	if len(batchKey) > 0 {
		h = hashOf(domainKey, []byte(merchant), batchKey)
	}
	value, found, err := r.Get(nil, append(putText([]byte{tableBatchKeys}, merchant), h[:]...))
	switch {
	case err != nil:
		return payment.Batch{}, err
	case !found:
		return payment.Batch{}, payment.ErrNotFound
	case len(value) != len(payment.ID{}):
		return payment.Batch{}, ErrCorrupt
	}
	b, err := ReadBatch(r, payment.ID(value))
	if err == nil && b.State == payment.BatchCancelled && b.Started == 0 {
		return payment.Batch{}, payment.ErrNotFound // it gave both back
	}
	return b, err
}

// ReadOperations reads all that was done with an approved payment's money,
// oldest first.
func ReadOperations(r Reader, id payment.ID) ([]payment.Operation, error) {
	value, found, err := r.Get(nil, appendAccountKey(nil, id))
	if err != nil || !found {
		return nil, err
	}
	var a account
	c := cursor{b: value}
	readAccount(&c, &a)
	if err := c.end(); err != nil {
		return nil, err
	}
	list := make([]payment.Operation, 0, len(a.operations))
	for _, id := range a.operations {
		o, err := ReadOperation(r, id)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// ReadBatches lists a merchant's batches, newest first: those before the one
// named, or from the newest where none is. More says that there are others.
func ReadBatches(r Reader, merchant payment.MerchantID, before payment.ID, limit int) (list []payment.Batch, more bool, err error) {
	prefix := putText([]byte{tableBatchOrder}, merchant)
	to := after(nil, prefix)
	if !before.IsZero() {
		to = append(append([]byte(nil), prefix...), before[:]...)
	}
	var ids []payment.ID
	err = r.Scan(prefix, to, true, func(key, _ []byte) bool {
		if len(ids) == limit {
			more = true
			return false
		}
		ids = append(ids, payment.ID(key[len(prefix):]))
		return true
	})
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		b, err := ReadBatch(r, id)
		if err != nil {
			return nil, false, err
		}
		list = append(list, b)
	}
	return list, more, nil
}

// ReadBatchLines reads one chunk of a lane; none where there is no such chunk.
func ReadBatchLines(r Reader, id payment.ID, lane uint8, chunk uint32) ([]payment.BatchLine, error) {
	value, found, err := r.Get(nil, appendChunkKey(nil, id, lane, chunk))
	if err != nil || !found {
		return nil, err
	}
	c := cursor{b: value}
	lines := readLines(&c)
	return lines, c.end()
}

// ReadLine reads what became of a line: its refund, or why there is none. Zero
// values of both mean that its turn has not come.
func ReadLine(r Reader, batch payment.ID, line uint32) (op payment.Operation, why payment.LineRefusal, err error) {
	for salt := uint32(0); ; salt++ {
		op, err = ReadOperation(r, payment.LineOperation(batch, line, salt))
		if errors.Is(err, payment.ErrNotFound) {
			break
		}
		if err != nil || op.Batch == batch && op.Line == line {
			return op, why, err
		}
	}
	value, found, err := r.Get(nil, appendLineRefusalKey(nil, batch, line))
	if err != nil || !found {
		return payment.Operation{}, why, err
	}
	c := cursor{b: value}
	why = readLineRefusal(&c)
	return payment.Operation{}, why, c.end()
}
