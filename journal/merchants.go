package journal

import (
	"fmt"

	"authswitch/payment"
)

// KindMerchant is a new version of a merchant with its contracts.
const KindMerchant Kind = 30

// Limits of merchants.
const (
	maxMerchants = 100_000
	// maxMerchantDocument leaves room in MaxCommand for names.
	maxMerchantDocument = 7 << 10
)

const (
	merchantCommandVersion = 1
	merchantRecordVersion  = 1
)

// CheckMerchant says whether a change can be proposed. What its document says is
// not the journal's to judge.
func CheckMerchant(x *payment.MerchantChange) error {
	switch {
	case x.ID == "" || len(x.ID) > maxText:
		return fmt.Errorf("%w: a merchant without a name", ErrInvalid)
	case x.By == "" || len(x.By) > maxText || len(x.Reason) > maxText:
		return fmt.Errorf("%w: a change needs who made it, and at most %d bytes of why", ErrInvalid, maxText)
	case len(x.Document) == 0 || len(x.Document) > maxMerchantDocument:
		return fmt.Errorf("%w: a document of %d bytes; 1 to %d fit", ErrInvalid, len(x.Document), maxMerchantDocument)
	}
	return nil
}

// AppendMerchant writes a KindMerchant command.
func AppendMerchant(b []byte, x *payment.MerchantChange) []byte {
	b = append(b, merchantCommandVersion)
	b = putText(b, x.ID)
	b = put64(b, x.From)
	b = putText(b, x.By)
	b = putText(b, x.Reason)
	return putLong(b, x.Document)
}

func appendMerchantRecord(b []byte, k *payment.MerchantRecord) []byte {
	b = append(b, merchantRecordVersion)
	b = put64(b, k.Version)
	b = putTime(b, k.At)
	b = putText(b, k.By)
	b = putText(b, k.Reason)
	return putLong(b, k.Document)
}

func readMerchantRecord(c *cursor, k *payment.MerchantRecord) error {
	c.version(merchantRecordVersion)
	k.Version = c.u64()
	k.At = c.time()
	k.By, k.Reason = string(c.text()), string(c.text())
	k.Document = owned(c.long())
	return c.end()
}

// c | m | merchant is the newest version of a merchant, and c | v | merchant |
// version each one that ever was: the audit of the contracts.
func appendMerchantNow[T ~string | ~[]byte](b []byte, id T) []byte {
	return append(append(b, tableConfig, configMerchant), id...)
}

func appendMerchantVersion[T ~string | ~[]byte](b []byte, id T, version uint64) []byte {
	return put64(putText(append(b, tableConfig, configMerchantVersion), id), version)
}

// applyMerchant takes a change that was made from the version that stands. One
// that is exactly what stands, by the same person, was proposed twice.
func (m *Machine) applyMerchant(c *cursor, r *Result) error {
	c.version(merchantCommandVersion)
	x := payment.MerchantChange{ID: payment.MerchantID(c.text()), From: c.u64(), By: string(c.text()), Reason: string(c.text()), Document: owned(c.long())}
	if err := c.end(); err != nil {
		return err
	}
	now := payment.MerchantRecord{ID: x.ID}
	m.keyA = appendMerchantNow(m.keyA[:0], x.ID)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if found {
		v := cursor{b: value}
		if err := readMerchantRecord(&v, &now); err != nil {
			m.view.fail(err)
			return nil
		}
	}
	switch {
	case now.Version == x.From+1 && now.By == x.By && now.Reason == x.Reason && string(now.Document) == string(x.Document):
		r.Merchant = now
		return nil
	case now.Version != x.From:
		r.Merchant, r.Err = now, payment.ErrMerchantVersion
		return nil
	case !found && m.merchants >= maxMerchants:
		r.Err = payment.ErrMerchantLimit
		return nil
	case !found:
		m.merchants++
	}
	k := payment.MerchantRecord{ID: x.ID, Version: x.From + 1, At: m.now, By: x.By, Reason: x.Reason, Document: x.Document}
	body := appendMerchantRecord(nil, &k)
	m.view.writes.set(appendMerchantNow(nil, k.ID), body)
	m.view.writes.set(appendMerchantVersion(nil, k.ID, k.Version), body)
	m.merchantsChanged = true
	r.Merchant = k
	return nil
}

// loadMerchants counts them.
func (m *Machine) loadMerchants() error {
	m.merchants, m.merchantsChanged = 0, true
	from := []byte{tableConfig, configMerchant}
	return m.view.state.Scan(from, after(nil, from), false, func(_, _ []byte) bool {
		m.merchants++
		return true
	})
}

// MerchantsChanged says whether any merchant changed since the last call.
func (m *Machine) MerchantsChanged() bool {
	changed := m.merchantsChanged
	m.merchantsChanged = false
	return changed
}

// ReadMerchants reads every merchant as it stands, by name.
func ReadMerchants(r Reader) ([]payment.MerchantRecord, error) {
	from := []byte{tableConfig, configMerchant}
	return readMerchants(r, from, func(key []byte) payment.MerchantID { return payment.MerchantID(key[2:]) })
}

// ReadMerchant reads one merchant as it stands; payment.ErrNotFound.
func ReadMerchant(r Reader, id payment.MerchantID) (payment.MerchantRecord, error) {
	k := payment.MerchantRecord{ID: id}
	value, found, err := r.Get(nil, appendMerchantNow(nil, id))
	switch {
	case err != nil:
		return k, err
	case !found:
		return k, payment.ErrNotFound
	}
	return k, readMerchantRecord(&cursor{b: value}, &k)
}

// ReadMerchantVersions reads all versions of a merchant, oldest first.
func ReadMerchantVersions(r Reader, id payment.MerchantID) ([]payment.MerchantRecord, error) {
	from := putText([]byte{tableConfig, configMerchantVersion}, id)
	return readMerchants(r, from, func([]byte) payment.MerchantID { return id })
}

func readMerchants(r Reader, from []byte, named func(key []byte) payment.MerchantID) (all []payment.MerchantRecord, err error) {
	var fault error
	err = r.Scan(from, after(nil, from), false, func(key, value []byte) bool {
		k := payment.MerchantRecord{ID: named(key)}
		if fault = readMerchantRecord(&cursor{b: value}, &k); fault != nil {
			return false
		}
		all = append(all, k)
		return true
	})
	if err == nil {
		err = fault
	}
	return all, err
}
