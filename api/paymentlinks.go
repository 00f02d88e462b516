package api

import (
	"crypto/sha256"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// LinkKeeper makes payment links and cancels them; it mints their ids.
// payment.ErrNotFound when there is none of the merchant's to cancel; a
// *payment.Refusal where nothing was done.
type LinkKeeper interface {
	KeepLink(k *payment.PayLink) (payment.PayLink, error)
	PaymentLink(id payment.ID) (payment.PayLink, error)
}

const (
	fieldPLMerchant field = iota
	fieldPLReference
	fieldPLAmount
	fieldPLValue
	fieldPLCurrency
	fieldPLExpires
	fieldPLUses
	fieldPLText
)

// paymentLinkSchema is the body of POST /v1/payment-links.
var paymentLinkSchema = []member{
	{"/merchant", "merchant", text, fieldPLMerchant, nil},
	{"/reference", "reference", text, fieldPLReference, nil},
	{"/amount", "amount", object, fieldPLAmount, []member{
		{"/amount/value", "value", number, fieldPLValue, nil},
		{"/amount/currency", "currency", text, fieldPLCurrency, nil},
	}},
	{"/expires_at", "expires_at", text, fieldPLExpires, nil},
	{"/uses", "uses", number, fieldPLUses, nil},
	{"/description", "description", text, fieldPLText, nil},
}

// Limits of a payment link.
const (
	maxLinkUses = 10_000
	maxLinkText = 255
	maxLinkLife = 366 * 24 * time.Hour
)

// makePaymentLink is POST /v1/payment-links.
func (r *request) makePaymentLink() {
	k := payment.PayLink{Gateway: r.gateway.ID(), Uses: 1}
	var ok bool
	if k.Key, ok = r.idempotencyKey(); !ok || !r.read(paymentLinkSchema, false) {
		return
	}
	if k.Merchant, ok = r.merchant(fieldPLMerchant); !ok {
		return
	}
	d := &r.document
	d.paymentLink(&k, &r.server.cfg, r.server.deps.Now())
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	k.Fingerprint = linkFingerprint(&k)
	r.keepLink(fasthttp.StatusCreated, &k)
}

func (d *document) paymentLink(k *payment.PayLink, cfg *Config, now payment.Instant) {
	if d.is(fieldPLMerchant, absent) {
		d.fault("/merchant", "required", "name the merchant")
	}
	k.Reference = d.printable(fieldPLReference, "/reference", cfg.ReferenceBytes, required)
	k.Text = d.words(fieldPLText, "/description", maxLinkText)
	if d.is(fieldPLAmount, object) {
		var a payment.Authorization
		d.amountOf(&a, fieldPLValue, fieldPLCurrency)
		k.Amount = a.Amount
	} else {
		d.present(fieldPLAmount, "/amount", required)
	}
	if text := d.present(fieldPLExpires, "/expires_at", required); text != nil {
		at, err := time.Parse(time.RFC3339, string(text))
		k.ExpiresAt = payment.Instant(at.UnixNano())
		if err != nil || k.ExpiresAt <= now || k.ExpiresAt > now+payment.Instant(maxLinkLife) {
			d.fault("/expires_at", "invalid_value", "must be a time to come within 366 days, such as 2027-01-31T00:00:00Z")
		}
	}
	if digits := d.present(fieldPLUses, "/uses", optional); digits != nil {
		n, err := strconv.ParseUint(string(digits), 10, 16)
		if k.Uses = uint16(n); err != nil || n == 0 || n > maxLinkUses {
			d.fault("/uses", "invalid_value", "must be 1 to 10000")
		}
	}
}

// linkFingerprint tells a key's second use from another request.
func linkFingerprint(k *payment.PayLink) [32]byte {
	b := append([]byte("payment link\x00"), k.Merchant...)
	b = append(append(b, 0), k.Reference...)
	b = append(append(b, 0), k.Text...)
	b = appendAmount(append(b, 0), k.Amount)
	b = strconv.AppendInt(b, int64(k.ExpiresAt), 10)
	return sha256.Sum256(strconv.AppendUint(append(b, 0), uint64(k.Uses), 10))
}

// paymentLink is GET and DELETE /v1/payment-links/{id}.
func (r *request) paymentLink() {
	id, err := payment.ParseID(string(r.id), payment.LinkPrefix)
	if err != nil {
		r.problem(notFound("no such payment link"))
		return
	}
	k, err := r.server.deps.PaymentLinks.PaymentLink(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && !r.gateway.Acts(k.Merchant):
		r.problem(notFound("no such payment link"))
	case err != nil:
		r.unreadable(err)
	case r.ctx.IsDelete():
		k.Cancelled = true
		r.keepLink(fasthttp.StatusOK, &k)
	default:
		r.showLink(fasthttp.StatusOK, &k)
	}
}

func (r *request) keepLink(status int, k *payment.PayLink) {
	kept, err := r.server.deps.PaymentLinks.KeepLink(k)
	switch {
	case errors.Is(err, payment.ErrNotFound):
		r.problem(notFound("no such payment link"))
	case err != nil:
		r.refused(err)
	default:
		r.showLink(status, &kept)
	}
}

func (r *request) showLink(status int, k *payment.PayLink) {
	r.out = appendPaymentLink(r.out, k, r.server.deps.Now())
	r.json(status)
}

// appendPaymentLink writes a link as it stands at a moment.
func appendPaymentLink(dst []byte, k *payment.PayLink, now payment.Instant) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendID(dst, k.ID, payment.LinkPrefix)
	dst = append(dst, `,"merchant":`...)
	dst = appendString(dst, string(k.Merchant))
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, k.Status(now))
	dst = append(dst, `,"reference":`...)
	dst = appendText(dst, k.Reference)
	dst = append(dst, `,"description":`...)
	dst = appendOptional(dst, k.Text)
	dst = append(dst, `,"amount":`...)
	dst = appendAmount(dst, k.Amount)
	dst = append(dst, `,"expires_at":`...)
	dst = appendInstant(dst, k.ExpiresAt)
	dst = appendCount(dst, `,"uses":`, int(k.Uses))
	dst = appendCount(dst, `,"used":`, int(k.Used))
	dst = append(dst, `,"authorization":`...)
	dst = appendID(dst, k.Last, payment.AuthorizationPrefix)
	dst = append(dst, `,"created_at":`...)
	dst = appendInstant(dst, k.CreatedAt)
	dst = append(dst, `,"changed_at":`...)
	return append(appendInstant(dst, k.ChangedAt), '}')
}
