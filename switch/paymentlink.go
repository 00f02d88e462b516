package switching

import (
	"errors"
	"time"

	"authswitch/payment"
)

// PaymentLinks has the links that merchants send.
type PaymentLinks interface {
	PaymentLink(id payment.ID) (payment.PayLink, error)
	KeepLink(k *payment.PayLink) (payment.PayLinkAnswer, error)
}

// payLink holds a payment to the link that it pays. Whether that may be paid now
// is the journal's to decide, in the command that opens the payment.
func (s *Switch) payLink(a *payment.Authorization) error {
	if a.PaymentLink.IsZero() {
		return nil
	}
	if s.Links == nil {
		return refusalOfLink(payment.OpenLinkUnknown)
	}
	k, err := s.Links.PaymentLink(a.PaymentLink)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && k.Merchant != a.Merchant:
		return refusalOfLink(payment.OpenLinkUnknown)
	case err != nil:
		return refusalUnavailable()
	case a.Channel != payment.PayByLink:
		return refusalOf("/channel", "not_pay_by_link", "a payment link is paid over channel pay_by_link")
	case a.Amount != k.Amount:
		return refusalOf("/amount", "another_amount", "the payment link is for another amount")
	case string(a.Reference) != string(k.Reference):
		return refusalOf("/reference", "another_reference", "the payment link has another reference")
	}
	return nil
}

// refusalOfLink is what a gateway is told when a payment link cannot be paid.
func refusalOfLink(v payment.OpenVerdict) error {
	r := &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: "/payment_link", Code: "unknown_payment_link", Detail: "the merchant has no such payment link"}
	switch v {
	case payment.OpenLinkOver:
		r.Code, r.Detail = "payment_link_over", "the payment link is paid, expired or cancelled"
	case payment.OpenLinkBusy:
		r = &payment.Refusal{Kind: payment.RefusedRunning, Code: "payment_link_in_use", Detail: "another payment of this link is under way", RetryAfter: time.Second}
	}
	return r
}

// KeepLink makes a payment link, or cancels one where it says so.
func (s *Switch) KeepLink(k *payment.PayLink) (payment.PayLink, error) {
	if k.ID.IsZero() {
		k.ID = s.Mint()
	}
	answer, err := s.Links.KeepLink(k)
	switch {
	case errors.Is(err, payment.ErrPending):
		return *k, refusalPending(k.ID)
	case err != nil:
		return *k, refusalUnavailable()
	case answer.Verdict == payment.OperateConflict:
		return *k, refusalConflict()
	case answer.Verdict == payment.OperateRefused:
		return *k, payment.ErrNotFound
	}
	return answer.Link, nil
}
