package routing

import (
	"fmt"
	"strings"

	"authswitch/payment"
)

// CVVPolicy says what becomes of a payment's security code.
type CVVPolicy uint8

// The policies.
const (
	CVVOptional CVVPolicy = iota
	CVVRequired           // refused without one
	CVVNever              // refused with one
)

var cvvNames = [...]string{"optional", "required", "never"}

// String is the policy's name in configuration and API.
func (p CVVPolicy) String() string {
	if int(p) >= len(cvvNames) {
		return "invalid"
	}
	return cvvNames[p]
}

// ParseCVVPolicy reads a name as String writes it; "" is optional.
func ParseCVVPolicy(name string) (CVVPolicy, bool) {
	for p, n := range cvvNames {
		if n == name {
			return CVVPolicy(p), true
		}
	}
	return CVVOptional, name == ""
}

// cvvChannels is room for every payment.Channel.
const cvvChannels = 8

// CVVRules are the policies of one contract: for each channel one for a card
// whose number is given, and one for a card that is on file. Both stand at the
// channel's number; the zero value leaves all to the merchant.
type CVVRules struct {
	Given  [cvvChannels]CVVPolicy
	Stored [cvvChannels]CVVPolicy
}

// CVVEverywhere is one policy wherever a cardholder types the number in; never
// holds on every channel and for cards on file, too.
func CVVEverywhere(p CVVPolicy) (r CVVRules) {
	switch p {
	case CVVRequired:
		for _, c := range [...]payment.Channel{payment.Ecommerce, payment.MOTO, payment.PayByLink} {
			r.Given[c] = p
		}
	case CVVNever:
		for c := range r.Given {
			r.Given[c], r.Stored[c] = p, p
		}
	}
	return r
}

// of is the policy that holds for a payment. Where the merchant initiates there
// is nobody to give a code, so none is asked for.
func (r *CVVRules) of(q *Query) CVVPolicy {
	p := r.Given[q.Channel]
	if q.StoredCard {
		p = r.Stored[q.Channel]
	}
	if p == CVVRequired && q.MerchantInitiated {
		return CVVOptional
	}
	return p
}

// refuses says what a payment does against the policy, nil when nothing.
func (r *CVVRules) refuses(q *Query) error {
	switch p := r.of(q); {
	case p == CVVRequired && !q.CVVPresent:
		return ErrCVV
	case p == CVVNever && q.CVVPresent:
		return ErrCVVForbidden
	}
	return nil
}

// String is what is not optional, "optional" when all is.
func (r *CVVRules) String() string {
	var parts []string
	for c := payment.Ecommerce; c < cvvChannels && c.String() != "unknown"; c++ {
		if p := r.Given[c]; p != CVVOptional {
			parts = append(parts, fmt.Sprintf("%s %s", c, p))
		}
		if p := r.Stored[c]; p != CVVOptional {
			parts = append(parts, fmt.Sprintf("%s, card on file, %s", c, p))
		}
	}
	if len(parts) == 0 {
		return CVVOptional.String()
	}
	return strings.Join(parts, "; ")
}
