package batch

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"authswitch/payment"
)

// resolve finds what a line refunds, and says whether it can be. Its error is not
// the line's: the journal could not be read, or the batch as a whole is refused.
func (r *reading) resolve(line *rowReader) (bool, error) {
	capture, p, err := r.captureOf(line)
	if err != nil || line.bad {
		return false, err
	}
	row := line.row
	switch {
	case p.State != payment.StateApproved:
		line.fault(columnPayment, "not_approved", "the payment is not approved, or is being reversed")
	case capture.Undone():
		line.fault(columnPayment, "capture_reversed", "the capture is reversed, or being reversed")
	case row.amount.Currency != capture.Amount.Currency:
		line.fault(columnCurrency, "currency_mismatch", "must be the payment's currency")
	case !r.taker.deps.Refunds(capture.Link):
		line.fault(columnPayment, "not_supported_by_link", "the acquirer's link has no message for a refund")
	default:
		r.hold(line, capture)
	}
	r.match(line, p)
	if line.bad {
		return false, nil
	}
	r.collected.taken[capture.ID] += row.amount.Value
	if refused := r.collected.add(capture.Link, payment.BatchLine{
		Number: uint32(row.number), Capture: capture.ID, Amount: row.amount, Order: bytes.Clone(row.order), Text: bytes.Clone(row.comment),
	}); refused != nil {
		return false, refused
	}
	return true, nil
}

// hold checks the amount against what the capture still has, the lines before
// this one counted.
func (r *reading) hold(line *rowReader, capture *payment.Operation) {
	left := capture.Amount.Value - capture.Refunded - r.collected.taken[capture.ID]
	switch {
	case left <= 0:
		line.fault(columnAmount, "nothing_left", "all of the capture is refunded already, here or before")
	case line.row.amount.Value > left:
		line.fault(columnAmount, "amount_too_large", fmt.Sprintf("refunds, those in doubt and in this file counted, must not pass what was captured: at most %d is left", left))
	}
}

// match holds what the line says of the payment against it. A file that names
// another card or order is not about this payment, whatever its id says.
func (r *reading) match(line *rowReader, p *payment.Payment) {
	row, i := line.row, &p.Intent
	if row.brand != payment.NoScheme && row.brand != i.Scheme {
		line.fault(columnBrand, "brand_mismatch", "the payment was made with another brand")
	}
	if !r.sameCard(row, i) {
		line.fault(columnCard, "card_mismatch", "the payment was made with another card")
	}
	if len(row.order) > 0 && len(row.payment) > 0 && !bytes.Equal(row.order, i.Reference) {
		line.fault(columnOrder, "order_mismatch", "the payment has another reference")
	}
}

func (r *reading) sameCard(row *row, i *payment.Intent) bool {
	switch {
	case row.pan.Present():
		return r.taker.deps.Index(&row.pan) == i.BlindIndex
	case len(row.masked) == 0:
		return true
	}
	shown := 0
	for shown < len(row.masked) && row.masked[shown] >= '0' && row.masked[shown] <= '9' {
		shown++
	}
	shown = min(shown, len(i.BIN))
	return bytes.Equal(row.masked[:shown], i.BIN[:shown]) && bytes.Equal(row.masked[len(row.masked)-4:], i.Last4[:])
}

var capturePrefix = payment.OpCapture.Prefix()

// captureOf finds the capture that a line refunds: the one it names, the one of
// the payment it names, or of the only payment with its order.
func (r *reading) captureOf(line *rowReader) (*payment.Operation, *payment.Payment, error) {
	text := string(line.row.payment)
	if text == "" {
		return r.captureOfOrder(line)
	}
	missing := func() { line.fault(columnPayment, "not_found", "no such payment or capture") }
	if id, err := payment.ParseID(text, capturePrefix); err == nil {
		capture, err := r.taker.deps.Records.Operation(id)
		switch {
		case errors.Is(err, payment.ErrNotFound), err == nil && (capture.Kind != payment.OpCapture || capture.Merchant != r.file.Merchant):
			missing()
			return nil, nil, nil
		case err != nil:
			return nil, nil, err
		}
		p, err := r.taker.deps.Records.Payment(capture.Payment)
		return &capture, &p, err
	}
	id, err := payment.ParseID(text, payment.AuthorizationPrefix)
	if err != nil {
		line.fault(columnPayment, "invalid_value", "must be the id of a payment (auth_…) or of a capture (cap_…)")
		return nil, nil, nil //nolint:nilerr // it is the line's, and among its faults
	}
	p, err := r.taker.deps.Records.Payment(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && p.Intent.Merchant != r.file.Merchant:
		missing()
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	capture, err := r.captureIn(line, &p)
	return capture, &p, err
}

// captureIn is the first of a payment's captures that still has the line's
// amount; the one with the most where none has.
func (r *reading) captureIn(line *rowReader, p *payment.Payment) (*payment.Operation, error) {
	captures, err := r.taker.captures(p)
	if err != nil {
		return nil, err
	}
	if len(captures) == 0 {
		line.fault(columnPayment, "not_captured", "nothing of the payment is captured")
		return nil, nil
	}
	left := func(c *payment.Operation) int64 { return c.Amount.Value - c.Refunded - r.collected.taken[c.ID] }
	best := &captures[0]
	for i := range captures {
		if left(&captures[i]) >= line.row.amount.Value {
			return &captures[i], nil
		}
		if left(&captures[i]) > left(best) {
			best = &captures[i]
		}
	}
	return best, nil
}

// captures are those of a payment that stand.
func (t *Taker) captures(p *payment.Payment) ([]payment.Operation, error) {
	if p.State != payment.StateApproved {
		return nil, nil
	}
	all, err := t.deps.Records.Operations(p.Intent.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(o payment.Operation) bool {
		return o.Kind != payment.OpCapture || o.Undone()
	}), nil
}

// captureOfOrder finds the one payment with an order that has a capture. Two are
// not guessed between.
func (r *reading) captureOfOrder(line *rowReader) (*payment.Operation, *payment.Payment, error) {
	ids, err := r.taker.deps.Records.ByReference(r.file.Merchant, line.row.order)
	if err != nil {
		return nil, nil, err
	}
	var found *payment.Payment
	var capture *payment.Operation
	for _, id := range ids {
		p, err := r.taker.deps.Records.Payment(id)
		if err != nil {
			return nil, nil, err
		}
		captures, err := r.taker.captures(&p)
		if err != nil {
			return nil, nil, err
		}
		if len(captures) == 0 || !bytes.Equal(p.Intent.Reference, line.row.order) || !r.sameCard(line.row, &p.Intent) {
			continue
		}
		if found != nil {
			line.fault(columnOrder, "ambiguous", "more than one captured payment has this order: name the payment")
			return nil, nil, nil
		}
		found = &p
		if capture, err = r.captureIn(line, &p); err != nil {
			return nil, nil, err
		}
	}
	if found == nil {
		line.fault(columnOrder, "not_found", "no captured payment has this order, with the card that the line names")
	}
	return capture, found, nil
}
