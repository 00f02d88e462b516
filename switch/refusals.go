package switching

import (
	"errors"
	"time"

	"authswitch/payment"
	"authswitch/routing"
)

// The refusals of this package, built in one place so that a code means one
// thing. None of them is stored; each key may be used again except after
// outcome_pending, where it must be.

func refusalConflict() error {
	return &payment.Refusal{
		Kind: payment.RefusedKeyConflict, Code: "idempotency_key_reused",
		Detail: "this Idempotency-Key was used with another request body",
	}
}

func refusalRunning() error {
	return &payment.Refusal{
		Kind: payment.RefusedRunning, Code: "in_progress", RetryAfter: time.Second,
		Detail: "the first request with this Idempotency-Key is still running",
	}
}

func refusalBarred() error {
	return &payment.Refusal{
		Kind: payment.RefusedBarred, Code: "reversed",
		Detail: "a reversal naming this request came before it; it was not sent",
	}
}

// refusalPending is the answer when the journal could not say or decide in
// time. The intent, if it stands, is reversed without us.
func refusalPending(payment.ID) error {
	return &payment.Refusal{
		Kind: payment.RefusedPending, Code: "outcome_pending", RetryAfter: time.Second,
		Detail: "the outcome is not durable yet; repeat the request with the same Idempotency-Key",
	}
}

func refusalNotSent() error {
	return &payment.Refusal{
		Kind: payment.RefusedNoRoute, Code: "no_route", RetryAfter: time.Second,
		Detail: "no acquirer could be reached and nothing was sent",
	}
}

// refusalOf is a request that asks for what cannot be, at one of its members.
func refusalOf(pointer, code, detail string) error {
	return &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: pointer, Code: code, Detail: detail}
}

func refusalUnavailable() error {
	return &payment.Refusal{
		Kind: payment.RefusedOverloaded, Code: "overloaded", RetryAfter: time.Second,
		Detail: "this node cannot take requests now; nothing was sent",
	}
}

// refusalOfReserve explains why no route had room. A message that no dialect
// could carry is the request's fault; everything else is ours.
func refusalOfReserve(err error) error {
	if r, ok := errors.AsType[*payment.Refusal](err); ok {
		return r
	}
	if f, ok := asFieldError(err); ok {
		detail := f.Reason
		if f.Pointer == "" { // no field of the request's says which it is: often the contract lacks it
			detail = "the acquirer's message cannot be made of this request and its contract: " + f.Error()
		}
		return &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: f.Pointer, Code: "not_transmissible", Detail: detail}
	}
	if errors.Is(err, payment.ErrPINRefused) {
		return &payment.Refusal{
			Kind: payment.RefusedInvalid, Pointer: "/card/pin", Code: "pin_refused",
			Detail: "the PIN block cannot be taken; nothing was sent",
		}
	}
	if errors.Is(err, payment.ErrSecurity) {
		return &payment.Refusal{
			Kind: payment.RefusedSecurity, Code: "security_unavailable", RetryAfter: time.Second,
			Detail: "PIN or message authentication is not available now; nothing was sent",
		}
	}
	if errors.Is(err, payment.ErrBusy) {
		return &payment.Refusal{
			Kind: payment.RefusedOverloaded, Code: "overloaded", RetryAfter: time.Second,
			Detail: "every route's window is full; nothing was sent",
		}
	}
	return refusalNotSent()
}

// refusalOfRouting names the field that no route fits.
func refusalOfRouting(err error) error {
	for _, r := range []struct {
		err                   error
		pointer, code, detail string
	}{
		{routing.ErrUnknownMerchant, "/merchant", "unknown_merchant", "no such merchant"},
		{routing.ErrNoContract, "/card/number", "scheme_not_accepted", "the merchant has no contract for the card's scheme"},
		{routing.ErrBrand, "/brand", "brand_not_on_card", "the card does not carry this brand, or the merchant does not take it"},
		{routing.ErrCurrency, "/amount/currency", "currency_not_accepted", "the contract does not cover this currency"},
		{routing.ErrChannel, "/channel", "channel_not_accepted", "the contract does not cover this channel"},
		{routing.ErrAmountLimit, "/amount/value", "amount_over_limit", "the amount is over the contract's limit"},
		{routing.ErrAmountBelow, "/amount/value", "amount_below_limit", "the amount is below the contract's least"},
		{routing.ErrCVV, "/card/cvv", "cvv_required", "the contract's CVV policy asks for the security code on this channel"},
		{routing.ErrCVVForbidden, "/card/cvv", "cvv_not_allowed", "the contract's CVV policy takes no security code on this channel"},
	} {
		if errors.Is(err, r.err) {
			return &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: r.pointer, Code: r.code, Detail: r.detail}
		}
	}
	return refusalNotSent()
}
