package switching

import (
	"errors"

	"authswitch/payment"
)

// retryOf holds a second attempt to the soft decline that it names: the same
// merchant, card and amount, and authenticated this time. All of it stands in
// the journal for ever, so that a request asked again is judged alike.
func (s *Switch) retryOf(a *payment.Authorization, i *payment.Intent) error {
	if a.RetryOf.IsZero() {
		return nil
	}
	first, err := s.Records.Payment(a.RetryOf)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && first.Intent.Merchant != a.Merchant:
		return refusalOf("/retry_of", "unknown_payment", "the merchant has no such payment")
	case err != nil:
		return refusalUnavailable()
	}
	o := &first.Outcome
	switch {
	case o.Status != payment.StatusDeclined || !o.Response.Verdict.Flags.Has(payment.NeedsAuth):
		return refusalOf("/retry_of", "not_a_soft_decline", "that payment's issuer did not ask for authentication")
	case first.Intent.BlindIndex != i.BlindIndex:
		return refusalOf("/card", "another_card", "the second attempt is with the card of the first")
	case first.Intent.Amount != a.Amount:
		return refusalOf("/amount", "another_amount", "the second attempt is for the amount of the first")
	case len(a.ThreeDS.AuthenticationValue) == 0:
		return refusalOf("/three_d_secure/authentication_value", "authentication_required", "the issuer asked for authentication: give what 3-D Secure returned")
	}
	return nil
}
