package journal

import "authswitch/payment"

// readMoney reads the account of a payment that was approved, or is a refund.
func readMoney(r Reader, id payment.ID, o *payment.Outcome) (payment.Account, error) {
	value, found, err := r.Get(nil, appendAccountKey(nil, id))
	if err != nil {
		return payment.Account{}, err
	}
	if !found {
		return payment.Account{Authorized: o.Amount.Value}, nil
	}
	var a account
	c := cursor{b: value}
	readAccount(&c, &a)
	return a.Account, c.end()
}

// ReadOperation reads an operation as it stands.
func ReadOperation(r Reader, id payment.ID) (payment.Operation, error) {
	value, found, err := r.Get(nil, appendOperationKey(nil, id))
	if err != nil {
		return payment.Operation{}, err
	}
	if !found {
		return payment.Operation{}, payment.ErrNotFound
	}
	c := cursor{b: value}
	owner, line := readPointer(&c)
	if err := c.end(); err != nil {
		return payment.Operation{}, err
	}
	var e payment.Entry
	if err := readEntryAt(r, owner, line, &e); err != nil || e.Operation == nil {
		return payment.Operation{}, errOr(err)
	}
	return *e.Operation, nil
}

// ReadRefundByKey finds the refund that holds an idempotency key, which it does for
// as long as it is kept itself.
func ReadRefundByKey(r Reader, merchant payment.MerchantID, key []byte) (payment.ID, error) {
	value, found, err := r.Get(nil, appendRefundKeyKey(nil, []byte(merchant), hashOf(domainKey, []byte(merchant), key)))
	if err != nil {
		return payment.ID{}, err
	}
	if !found {
		return payment.ID{}, payment.ErrNotFound
	}
	var k keyRecord
	if err := k.read(value); err != nil {
		return payment.ID{}, err
	}
	return k.id, nil
}

// ReadDue lists payments whose time for captures is over by now, the longest
// over first.
func ReadDue(r Reader, now payment.Instant, limit int) (due []payment.DueCapture, err error) {
	err = r.Scan([]byte{tableDue}, putTime([]byte{tableDue}, now+1), false, func(key, _ []byte) bool {
		c := cursor{b: key[1:]}
		due = append(due, payment.DueCapture{Due: c.time(), ID: c.id()})
		return len(due) < limit
	})
	return due, err
}
