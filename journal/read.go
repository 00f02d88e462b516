package journal

import "authswitch/payment"

// Reads of the flushed state. They use no machine and may run beside one.

// HistoryLimit is how many lines of one payment are read: the newest are cut,
// and are hourly repeats of one exception by then.
const HistoryLimit = 10_000

// ReadPayment reads one payment: the intent of its last attempt, its state, and
// its outcome where there is one.
func ReadPayment(r Reader, id payment.ID) (payment.Payment, error) {
	var p payment.Payment
	from := appendLineKey(nil, id, 0)
	to := after(nil, from[:17])
	var l life
	var fault error
	found := false
	err := r.Scan(from, to, true, func(_, value []byte) bool {
		found = true
		c := cursor{b: value}
		readLine(&c, &l)
		if c.broken {
			fault = ErrCorrupt
		}
		return false
	})
	switch {
	case err != nil:
		return p, err
	case fault != nil:
		return p, fault
	case !found:
		return p, payment.ErrNotFound
	}
	p.State = l.state
	var e payment.Entry
	if err := readEntryAt(r, id, l.intentAt, &e); err != nil || e.Intent == nil {
		return p, errOr(err)
	}
	p.Intent = *e.Intent
	if l.state == payment.StateRefundOnly {
		p.Account, err = readMoney(r, id, &p.Outcome)
		return p, err
	}
	if l.outcomeAt == 0 {
		return p, nil
	}
	if err := readEntryAt(r, id, l.outcomeAt, &e); err != nil || e.Outcome == nil {
		return p, errOr(err)
	}
	p.Outcome = *e.Outcome
	if !p.Outcome.Status.Approved() {
		return p, nil
	}
	p.Account, err = readMoney(r, id, &p.Outcome)
	return p, err
}

func errOr(err error) error {
	if err != nil {
		return err
	}
	return ErrCorrupt
}

func readEntryAt(r Reader, id payment.ID, line uint32, e *payment.Entry) error {
	value, found, err := r.Get(nil, appendLineKey(nil, id, line))
	if err != nil {
		return err
	}
	if !found {
		return ErrCorrupt
	}
	*e, err = decodeEntry(value)
	return err
}

// decodeEntry reads a line of history.
func decodeEntry(value []byte) (payment.Entry, error) {
	c := cursor{b: value}
	var l life
	h := readLine(&c, &l)
	e := payment.Entry{At: h.at, State: l.state, Event: h.event, Kind: h.kind}
	switch h.kind {
	case payment.EntryIntent:
		e.Intent = new(payment.Intent)
		readIntent(&c, e.Intent)
	case payment.EntryOutcome:
		e.Outcome = new(payment.Outcome)
		readOutcome(&c, e.Outcome)
	case payment.EntryLateAnswer:
		var late payment.Late
		readLate(&c, &late)
		e.Response = &late.Response
	case payment.EntryReversalOwed, payment.EntryReversalSent, payment.EntryReversalEnded:
		e.Owed = new(payment.Owed)
		readOwed(&c, e.Owed)
		if c.flag() {
			e.Response = new(payment.Response)
			readResponse(&c, e.Response)
		}
	case payment.EntryWrittenOff:
		e.Owed, e.WriteOff = new(payment.Owed), new(payment.WriteOff)
		readOwed(&c, e.Owed)
		readWriteOff(&c, e.WriteOff)
	case payment.EntryOperation:
		e.Operation = new(payment.Operation)
		readOperation(&c, e.Operation)
	default:
		return e, ErrCorrupt
	}
	return e, c.end()
}

// ReadOriginal reads one payment with the intent of one of its attempts, which
// need not be the last: an attempt that was closed as refused can still be
// answered with an approval, and the reversal of that names its own trace
// number, type and terms. Attempt 0 is the last.
func ReadOriginal(r Reader, id payment.ID, attempt uint8) (payment.Payment, error) {
	p, err := ReadPayment(r, id)
	if err != nil || attempt == 0 || attempt == p.Intent.Attempt {
		return p, err
	}
	history, err := ReadHistory(r, id)
	if err != nil {
		return p, err
	}
	for i := range history {
		if intent := history[i].Intent; intent != nil && intent.Attempt == attempt {
			p.Intent = *intent
			return p, nil
		}
	}
	return p, ErrCorrupt
}

// ReadHistory reads what happened to a payment, oldest first.
func ReadHistory(r Reader, id payment.ID) ([]payment.Entry, error) {
	from := appendLineKey(nil, id, 0)
	to := after(nil, from[:17])
	var entries []payment.Entry
	var fault error
	err := r.Scan(from, to, false, func(_, value []byte) bool {
		var e payment.Entry
		if e, fault = decodeEntry(value); fault != nil {
			return false
		}
		entries = append(entries, e)
		return len(entries) < HistoryLimit
	})
	switch {
	case err != nil:
		return nil, err
	case fault != nil:
		return nil, fault
	case len(entries) == 0:
		return nil, payment.ErrNotFound
	}
	return entries, nil
}

// ReadByKey finds the payment that holds an idempotency key, in the newest
// generations.
func ReadByKey(r Reader, merchant payment.MerchantID, key []byte) (payment.ID, error) {
	h := hashOf(domainKey, []byte(merchant), key)
	to := []byte{tableKeys + 1}
	for range keptGenerations {
		day, found := uint32(0), false
		err := r.Scan([]byte{tableKeys}, to, true, func(k, _ []byte) bool {
			c := cursor{b: k[1:]}
			day, found = c.u32(), true
			return false
		})
		if err != nil {
			return payment.ID{}, err
		}
		if !found {
			break
		}
		value, found, err := r.Get(nil, appendKeyKey(nil, day, []byte(merchant), h))
		if err != nil {
			return payment.ID{}, err
		}
		if found {
			var k keyRecord
			if err := k.read(value); err != nil {
				return payment.ID{}, err
			}
			if k.kind != keyPayment {
				return payment.ID{}, payment.ErrNotFound
			}
			return k.id, nil
		}
		to = put32([]byte{tableKeys}, day)
	}
	return payment.ID{}, payment.ErrNotFound
}

// ReadByReference lists the payments with a merchant's reference, newest first.
func ReadByReference(r Reader, merchant payment.MerchantID, reference []byte) ([]payment.ID, error) {
	from := appendReferencePrefix(nil, merchant, reference)
	var ids []payment.ID
	err := r.Scan(from, after(nil, from), true, func(key, _ []byte) bool {
		ids = append(ids, payment.ID(key[len(from):]))
		return len(ids) < maxReferred
	})
	return ids, err
}

// ReadList lists a merchant's payments, newest first: those before the one
// named, or from the newest where none is. More says that there are others.
func ReadList(r Reader, merchant payment.MerchantID, before payment.ID, limit int) (ids []payment.ID, more bool, err error) {
	from := appendMerchantKey(nil, merchant, payment.ID{})
	prefix := from[:len(from)-len(before)]
	to := after(nil, prefix)
	if !before.IsZero() {
		to = appendMerchantKey(nil, merchant, before)
	}
	err = r.Scan(from, to, true, func(key, _ []byte) bool {
		if len(ids) == limit {
			more = true
			return false
		}
		ids = append(ids, payment.ID(key[len(prefix):]))
		return true
	})
	return ids, more, err
}
