package api

import (
	"errors"

	"github.com/valyala/fasthttp"

	"authswitch/card"
	"authswitch/payment"
)

// CardKeeper changes stored cards; payment.ErrNotFound when there is none of
// the merchant's.
type CardKeeper interface {
	ChangeCard(x *payment.CardChange, expiry *card.Expiry) (payment.StoredCard, error)
}

const (
	fieldKeptExpiry field = iota
	fieldKeptHolder
)

// cardSchema is the body of PATCH /v1/cards/{token}.
var cardSchema = []member{
	{"/expiry", "expiry", text, fieldKeptExpiry, nil},
	{"/holder", "holder", text, fieldKeptHolder, nil},
}

// maxHolder is the longest name that is kept: what a card's face and DE 45 hold.
const maxHolder = 64

// ownCard reads the stored card of the path, if it is the gateway's.
func (r *request) ownCard() (payment.StoredCard, bool) {
	id, err := payment.ParseID(string(r.id), payment.CardPrefix)
	if err != nil {
		r.problem(notFound("no such card"))
		return payment.StoredCard{}, false
	}
	k, err := r.server.deps.Reader.StoredCard(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && !r.gateway.MayUse(&k):
		r.problem(notFound("no such card"))
		return payment.StoredCard{}, false
	case err != nil:
		r.unreadable(err)
		return payment.StoredCard{}, false
	}
	return k, true
}

// card is GET, PATCH and DELETE /v1/cards/{token}.
func (r *request) card() {
	k, ok := r.ownCard()
	if !ok {
		return
	}
	switch {
	case r.ctx.IsGet():
		r.out = appendCard(r.out, &k)
		r.json(fasthttp.StatusOK)
	case r.ctx.IsDelete():
		r.changeCard(&payment.CardChange{Token: k.Token, Merchant: k.Merchant, Scope: k.Scope, Delete: true}, &card.Expiry{})
	default:
		r.patchCard(&k)
	}
}

func (r *request) patchCard(k *payment.StoredCard) {
	if !r.read(cardSchema, false) {
		return
	}
	d := &r.document
	x := payment.CardChange{Token: k.Token, Merchant: k.Merchant, Scope: k.Scope}
	var expiry card.Expiry
	if digits := d.present(fieldKeptExpiry, "/expiry", optional); digits != nil {
		var err error
		if expiry, err = card.ParseExpiry(digits); err != nil {
			d.fault("/expiry", "invalid_value", "must be YYMM")
		} else if expired(&expiry, r.server.deps.Now()) {
			d.fault("/expiry", "expired", "the card has expired")
		}
	}
	if x.Holder = d.words(fieldKeptHolder, "/holder", maxHolder); x.Holder != nil {
		x.Holds = true
	}
	if d.count > 0 {
		r.problem(invalid(d.faults[:d.count]))
		return
	}
	r.changeCard(&x, &expiry)
}

func (r *request) changeCard(x *payment.CardChange, expiry *card.Expiry) {
	k, err := r.server.deps.Cards.ChangeCard(x, expiry)
	switch {
	case errors.Is(err, payment.ErrNotFound):
		r.problem(notFound("no such card"))
		return
	case err != nil:
		r.refused(err)
		return
	}
	r.out = appendCard(r.out, &k)
	r.json(fasthttp.StatusOK)
}

// appendCard writes a stored card as people may see it.
func appendCard(dst []byte, k *payment.StoredCard) []byte {
	dst = append(dst, `{"token":`...)
	dst = appendID(dst, k.Token, payment.CardPrefix)
	dst = append(dst, `,"merchant":`...)
	dst = appendString(dst, string(k.Merchant))
	dst = append(dst, `,"group":`...)
	dst = appendName(dst, payment.GroupOf(k.Scope))
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, k.Status.String())
	dst = append(dst, `,"scheme":`...)
	dst = appendName(dst, k.Scheme.String())
	dst = append(dst, `,"bin":`...)
	dst = appendOptional(dst, k.BIN)
	dst = append(dst, `,"last4":`...)
	dst = appendOptional(dst, trimZero(k.Last4[:]))
	dst = append(dst, `,"expiry":`...)
	dst = appendOptional(dst, trimZero(k.Expiry[:]))
	dst = append(dst, `,"holder":`...)
	dst = appendOptional(dst, k.Holder)
	dst = append(dst, `,"created_at":`...)
	dst = appendInstant(dst, k.CreatedAt)
	dst = append(dst, `,"changed_at":`...)
	return append(appendInstant(dst, k.ChangedAt), '}')
}

// appendToken writes the token of a payment's card: the one it was paid with,
// or was saved under.
func appendToken(dst []byte, p *payment.Payment) []byte {
	token := p.Outcome.Token
	if token.IsZero() {
		token = p.Intent.Token
	}
	if token.IsZero() {
		return dst
	}
	dst = append(dst, `,"token":`...)
	return appendID(dst, token, payment.CardPrefix)
}
