package journal

import (
	"fmt"

	"authswitch/payment"
)

// KindPaymentLink makes a payment link, or cancels one.
const KindPaymentLink Kind = 31

const (
	paymentLinkVersion        = 1
	paymentLinkCommandVersion = 1
)

// Limits of payment links.
const (
	MaxLinkUses = 10_000
)

// CheckPaymentLink says whether a link can be proposed.
func CheckPaymentLink(k *payment.PayLink) error {
	switch {
	case k.ID.IsZero() || k.Merchant == "":
		return fmt.Errorf("%w: payment link without id or merchant", ErrInvalid)
	case !k.Cancelled && (k.Amount.Value <= 0 || k.Amount.Value > payment.MaxAmount || k.Uses == 0 || k.Uses > MaxLinkUses || k.ExpiresAt == 0):
		return fmt.Errorf("%w: payment link without amount, uses or end", ErrInvalid)
	}
	for _, n := range [...]int{len(k.Merchant), len(k.Gateway), len(k.Key), len(k.Reference), len(k.Text)} {
		if n > maxText {
			return fmt.Errorf("%w: payment link with a field of %d bytes", ErrInvalid, n)
		}
	}
	return nil
}

// AppendPaymentLink writes a KindPaymentLink command: a link that is to be made,
// or, where it is cancelled, one that is to end.
func AppendPaymentLink(b []byte, k *payment.PayLink) []byte {
	return appendPaymentLink(append(b, paymentLinkCommandVersion), k)
}

func appendPaymentLink(b []byte, k *payment.PayLink) []byte {
	b = append(b, paymentLinkVersion)
	b = append(b, k.ID[:]...)
	b = append(b, k.Fingerprint[:]...)
	b = putAmount(b, k.Amount)
	b = putTime(b, k.ExpiresAt)
	b = put16(b, k.Uses)
	b = put16(b, k.Used)
	b = putBool(b, k.Cancelled)
	b = append(b, k.Busy[:]...)
	b = append(b, k.Last[:]...)
	b = putTime(b, k.CreatedAt)
	b = putTime(b, k.ChangedAt)
	b = putText(b, k.Merchant)
	b = putText(b, k.Gateway)
	b = putText(b, k.Key)
	b = putText(b, k.Reference)
	return putText(b, k.Text)
}

func readPaymentLink(c *cursor, k *payment.PayLink) {
	c.version(paymentLinkVersion)
	k.ID = c.id()
	c.copy(k.Fingerprint[:])
	k.Amount = c.amount()
	k.ExpiresAt = c.time()
	k.Uses, k.Used = c.u16(), c.u16()
	k.Cancelled = c.flag()
	k.Busy, k.Last = c.id(), c.id()
	k.CreatedAt, k.ChangedAt = c.time(), c.time()
	k.Merchant = payment.MerchantID(c.text())
	k.Gateway = payment.GatewayID(c.text())
	k.Key, k.Reference, k.Text = owned(c.text()), owned(c.text()), owned(c.text())
}

func appendPaymentLinkKey(b []byte, id payment.ID) []byte {
	return append(append(b, tablePaymentLinks), id[:]...)
}

func (m *Machine) paymentLink(id payment.ID, k *payment.PayLink) bool {
	m.keyA = appendPaymentLinkKey(m.keyA[:0], id)
	return m.record(func(c *cursor) { readPaymentLink(c, k) })
}

func (m *Machine) setPaymentLink(k *payment.PayLink) {
	k.ChangedAt = m.now
	m.keyA = appendPaymentLinkKey(m.keyA[:0], k.ID)
	m.value = appendPaymentLink(m.value[:0], k)
	m.view.writes.set(m.keyA, m.value)
}

func (m *Machine) applyPaymentLink(c *cursor, r *Result) error {
	c.version(paymentLinkCommandVersion)
	var x payment.PayLink
	readPaymentLink(c, &x)
	if err := c.end(); err != nil {
		return err
	}
	if x.Cancelled {
		m.cancelPaymentLink(&x, &r.Link)
		return nil
	}
	m.makePaymentLink(&x, &r.Link)
	return nil
}

func (m *Machine) makePaymentLink(x *payment.PayLink, r *payment.PayLinkAnswer) {
	own := hashOf(domainKey, []byte(x.Merchant), x.Key)
	var k keyRecord
	switch {
	case m.paymentLink(x.ID, &r.Link):
		r.Verdict = payment.OperateAgain // proposed twice
		return
	case len(x.Key) == 0 || !m.findKey([]byte(x.Merchant), own, &k) || m.freed(&k):
	case k.kind != keyPaymentLink || k.fingerprint != x.Fingerprint:
		r.Verdict = payment.OperateConflict
		return
	case !m.paymentLink(k.id, &r.Link):
		m.view.fail(ErrCorrupt)
		return
	default:
		r.Verdict = payment.OperateAgain
		return
	}
	x.Used, x.Busy, x.Last, x.CreatedAt = 0, payment.ID{}, payment.ID{}, m.now
	m.setPaymentLink(x)
	if len(x.Key) > 0 {
		m.setKey([]byte(x.Merchant), own, &keyRecord{kind: keyPaymentLink, id: x.ID, fingerprint: x.Fingerprint})
	}
	r.Verdict, r.Link = payment.OperateNew, *x
}

// cancelPaymentLink ends a link: no payment of it begins any more. One under way
// goes on, and one that was paid stays paid.
func (m *Machine) cancelPaymentLink(x *payment.PayLink, r *payment.PayLinkAnswer) {
	if !m.paymentLink(x.ID, &r.Link) || r.Link.Merchant != x.Merchant {
		*r = payment.PayLinkAnswer{Verdict: payment.OperateRefused}
		return
	}
	r.Verdict = payment.OperateAgain
	if r.Link.Cancelled || r.Link.Used >= r.Link.Uses {
		return
	}
	r.Verdict, r.Link.Cancelled = payment.OperateNew, true
	m.setPaymentLink(&r.Link)
}

// payLink begins a payment of a link, in the command that opens the payment: two
// of them, on whatever nodes, are never under way at once.
func (m *Machine) payLink(h *intentHead) payment.OpenVerdict {
	var k payment.PayLink
	switch {
	case !m.paymentLink(h.paymentLink, &k) || string(k.Merchant) != string(h.merchant) || k.Amount != h.amount:
		return payment.OpenLinkUnknown
	case !k.Busy.IsZero():
		return payment.OpenLinkBusy
	case !k.Payable(m.now):
		return payment.OpenLinkOver
	}
	k.Busy = h.id
	m.setPaymentLink(&k)
	return payment.OpenNew
}

// linkPaid ends a payment of a link: an approval uses it, anything else leaves it
// as it was.
func (m *Machine) linkPaid(l *life, approved bool) {
	var k payment.PayLink
	if !m.paymentLink(l.paymentLink, &k) || k.Busy != l.id {
		m.view.fail(ErrCorrupt)
		return
	}
	k.Busy = payment.ID{}
	if approved {
		k.Used++
		k.Last = l.id
	}
	m.setPaymentLink(&k)
}

// ReadPaymentLink reads a payment link; payment.ErrNotFound.
func ReadPaymentLink(r Reader, id payment.ID) (payment.PayLink, error) {
	var k payment.PayLink
	value, found, err := r.Get(nil, appendPaymentLinkKey(nil, id))
	switch {
	case err != nil:
		return k, err
	case !found:
		return k, payment.ErrNotFound
	}
	c := cursor{b: value}
	readPaymentLink(&c, &k)
	return k, c.end()
}
