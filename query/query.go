// Package query is every read of payments: by id, by idempotency key, by
// reference, lists and history. API, console and command line share it, so
// that they show the same thing.
//
// It changes nothing and keeps nothing: no cache, no clock. Who may see a
// payment is the caller's to check. Called by: api.
package query

import (
	"errors"
	"fmt"

	"authswitch/payment"
)

// Records reads one payment. A replica answers with what it has applied.
type Records interface {
	Payment(id payment.ID) (payment.Payment, error)
	History(id payment.ID) ([]payment.Entry, error)
	Operation(id payment.ID) (payment.Operation, error)
	StoredCard(token payment.ID) (payment.StoredCard, error)
}

// Index finds payments of a merchant. List gives those before an id (from the
// newest where it is zero), newest first, and whether there are more.
type Index interface {
	ByKey(m payment.MerchantID, key []byte) (payment.ID, error)
	ByReference(m payment.MerchantID, reference []byte) ([]payment.ID, error)
	List(m payment.MerchantID, before payment.ID, limit int) ([]payment.ID, bool, error)
}

// MaxPage is the most payments of one page.
const MaxPage = 1000

// Reader reads. The zero value is not usable.
type Reader struct {
	records Records
	index   Index
}

// New reads from one store.
func New(records Records, index Index) *Reader { return &Reader{records, index} }

// Page is a part of a list. Next is where the following part begins, zero
// without one.
type Page struct {
	Items []Item
	More  bool
	Next  payment.ID
}

// Payment is one payment as it stands. Its error wraps payment.ErrNotFound
// when there is none.
func (r *Reader) Payment(id payment.ID) (payment.Payment, error) {
	p, err := r.records.Payment(id)
	if err != nil {
		return payment.Payment{}, fmt.Errorf("reading %s: %w", id, err)
	}
	return p, nil
}

// Item is one payment with its attempts and reversals.
func (r *Reader) Item(id payment.ID) (Item, error) {
	p, err := r.Payment(id)
	if err != nil {
		return Item{}, err
	}
	history, err := r.History(id)
	if err != nil {
		return Item{}, err
	}
	return newItem(p, history), nil
}

// Operation is a capture, refund, increment, partial reversal or void as it
// stands.
func (r *Reader) Operation(id payment.ID) (payment.Operation, error) {
	o, err := r.records.Operation(id)
	if err != nil {
		return payment.Operation{}, fmt.Errorf("reading an operation: %w", err)
	}
	return o, nil
}

// StoredCard is a card that a merchant saved.
func (r *Reader) StoredCard(token payment.ID) (payment.StoredCard, error) {
	k, err := r.records.StoredCard(token)
	if err != nil {
		return payment.StoredCard{}, fmt.Errorf("reading a stored card: %w", err)
	}
	return k, nil
}

// History is a payment's life, oldest first.
func (r *Reader) History(id payment.ID) ([]payment.Entry, error) {
	h, err := r.records.History(id)
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s: %w", id, err)
	}
	return h, nil
}

// ByKey is the payment that holds an idempotency key: a page of none or one.
func (r *Reader) ByKey(m payment.MerchantID, key []byte) (Page, error) {
	id, err := r.index.ByKey(m, key)
	if errors.Is(err, payment.ErrNotFound) || err == nil && id.IsZero() {
		return Page{}, nil
	}
	if err != nil {
		return Page{}, fmt.Errorf("finding a key of %s: %w", m, err)
	}
	return r.page([]payment.ID{id}, false)
}

// ByReference are the payments with a merchant's reference, at most MaxPage.
func (r *Reader) ByReference(m payment.MerchantID, reference []byte) (Page, error) {
	ids, err := r.index.ByReference(m, reference)
	if errors.Is(err, payment.ErrNotFound) {
		return Page{}, nil
	}
	if err != nil {
		return Page{}, fmt.Errorf("finding a reference of %s: %w", m, err)
	}
	if len(ids) > MaxPage {
		ids = ids[:MaxPage]
	}
	return r.page(ids, false)
}

// List are a merchant's payments before an id, newest first: a page is the
// same however many payments came since.
func (r *Reader) List(m payment.MerchantID, before payment.ID, limit int) (Page, error) {
	ids, more, err := r.index.List(m, before, min(limit, MaxPage))
	if err != nil {
		return Page{}, fmt.Errorf("listing %s: %w", m, err)
	}
	return r.page(ids, more)
}

// page reads what an index named. An id without a payment is one the index is
// ahead with; the next reading has it.
func (r *Reader) page(ids []payment.ID, more bool) (Page, error) {
	p := Page{Items: make([]Item, 0, len(ids)), More: more && len(ids) > 0}
	if p.More {
		p.Next = ids[len(ids)-1]
	}
	for _, id := range ids {
		item, err := r.Item(id)
		if errors.Is(err, payment.ErrNotFound) {
			continue
		}
		if err != nil {
			return Page{}, err
		}
		p.Items = append(p.Items, item)
	}
	return p, nil
}
