package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"authswitch/payment"
)

// Tagged is a mass refund that is asked for: all that is left of every payment
// with a tag.
type Tagged struct {
	Merchant payment.MerchantID
	Gateway  payment.GatewayID
	Key      []byte
	Tag      []byte
	Reason   []byte // the merchant's own, kept with each refund
	Preview  bool   // only looked at
}

// Left is a payment of a mass refund that is not refunded, and why.
type Left struct {
	Payment payment.ID
	Why     string
}

// Preview is what a mass refund comes to.
type Preview struct {
	Payments int            // with the tag
	Counts   map[string]int // of those left out, by reason
	Left     []Left         // the first of them
	Batch    payment.Batch  // without an id where it was only looked at
}

// Reasons are all that a payment is left out for.
func Reasons() []string {
	return []string{"not_approved", "not_captured", "refunded_already", "not_supported_by_link"}
}

// maxLeft bounds the payments that a preview names; all are counted.
const maxLeft = 1000

// page is how many payments are read at a time.
const page = 500

// TakeTagged makes a batch of all that is left of the payments with a tag, to
// wait for its release. A payment that cannot be refunded is left out and named.
func (t *Taker) TakeTagged(x *Tagged) (Preview, error) {
	v := Preview{Counts: map[string]int{}}
	end, err := t.begin()
	if err != nil {
		return v, err
	}
	defer end()
	if err := t.deps.CatchUp(); err != nil {
		return v, err
	}
	if err := t.again(x); err != nil && !x.Preview {
		return v, err
	}
	c := newCollected()
	if err := t.collect(x, c, &v); err != nil {
		return v, err
	}
	b := payment.Batch{Merchant: x.Merchant, Gateway: x.Gateway, Key: x.Key, Tag: x.Tag, Fingerprint: c.fingerprint(x)}
	if err := t.known(&b); err != nil && !x.Preview {
		return v, err
	}
	b.Lines, b.Totals = c.lines, c.totals
	if v.Batch = b; c.lines > 0 {
		v.Batch.Needs = t.needs(c.totals)
	}
	if x.Preview {
		return v, nil
	}
	if c.lines == 0 {
		return v, refuse(CodeNothing, "no payment with this tag has anything left to refund")
	}
	v.Batch, err = t.write(&b, c)
	return v, err
}

// again refuses a key that was used before. What the tag has left has changed
// since; the same request is about the same tag.
func (t *Taker) again(x *Tagged) error {
	known, err := t.deps.Writer.BatchBy(x.Merchant, [32]byte{}, x.Key)
	switch {
	case len(x.Key) == 0 || errors.Is(err, payment.ErrNotFound):
		return nil
	case err != nil:
		return err
	case !bytes.Equal(known.Tag, x.Tag):
		return orRefusal(nil, &payment.BatchAnswer{Refused: payment.BatchKeyConflict, Batch: known})
	}
	return orRefusal(nil, &payment.BatchAnswer{Refused: payment.BatchDuplicate, Batch: known})
}

// collect looks at every payment with the tag.
func (t *Taker) collect(x *Tagged, c *collected, v *Preview) error {
	behind := payment.ID{}
	for more := true; more; {
		ids, others, err := t.deps.Tags.Tagged(x.Merchant, x.Tag, behind, page)
		if err != nil {
			return err
		}
		for _, id := range ids {
			v.Payments++
			why, err := t.collectPayment(id, x, c)
			if err != nil {
				return err
			}
			if why != "" {
				v.Counts[why]++
				if len(v.Left) < maxLeft {
					v.Left = append(v.Left, Left{Payment: id, Why: why})
				}
			}
			behind = id
		}
		more = others
	}
	return nil
}

// collectPayment takes what is left of one payment's captures, or says why
// nothing is.
func (t *Taker) collectPayment(id payment.ID, x *Tagged, c *collected) (why string, err error) {
	p, err := t.deps.Records.Payment(id)
	if err != nil {
		return "", err
	}
	if p.State != payment.StateApproved {
		return "not_approved", nil
	}
	captures, err := t.captures(&p)
	if err != nil {
		return "", err
	}
	before := c.lines
	why = "not_captured"
	for i := range captures {
		capture := &captures[i]
		left := capture.Amount.Value - capture.Refunded
		switch {
		case left <= 0:
			why = "refunded_already"
			continue
		case !t.deps.Refunds(capture.Link):
			why = "not_supported_by_link"
			continue
		case int(c.lines) == t.cfg.Lines:
			return "", refuse(CodeTooMany, "a batch has at most %d refunds, and the tag has more", t.cfg.Lines)
		}
		if refused := c.add(capture.Link, payment.BatchLine{
			Number: c.lines + 1, Capture: capture.ID, Amount: payment.Amount{Value: left, Currency: capture.Amount.Currency}, Order: p.Intent.Reference, Text: x.Reason,
		}); refused != nil {
			return "", refused
		}
	}
	if c.lines > before {
		return "", nil
	}
	return why, nil
}

// fingerprint tells one mass refund from another: by what it refunds.
func (c *collected) fingerprint(x *Tagged) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte("tag"))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(x.Tag))))
	h.Write(x.Tag)
	for i := range c.lanes {
		for j := range c.lanes[i].lines {
			l := &c.lanes[i].lines[j]
			h.Write(l.Capture[:])
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(l.Amount.Value)))
		}
	}
	h.Sum(sum[:0])
	return sum
}
