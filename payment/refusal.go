package payment

import "time"

// Refusal is why a request about a payment got no decision: what a door tells
// its gateway instead of an outcome. Code and Detail are stable texts without
// card data; Pointer is the JSON pointer of the field at fault, "" when none
// is. It is an error, so that a path returns it like any other.
type Refusal struct {
	Kind       RefusalKind
	Pointer    string
	Code       string
	Detail     string
	RetryAfter time.Duration // 0: the door's own advice
}

// Error is the code and the detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return r.Code
	}
	return r.Code + ": " + r.Detail
}

// RefusalKind is what a refusal means for the idempotency key.
type RefusalKind uint8

// The kinds. Only Barred is the key's answer for ever; after Pending the same
// key must be asked again, after any other it may be.
const (
	RefusedInvalid      RefusalKind = iota + 1 // a field cannot be accepted: 422
	RefusedKeyConflict                         // the key was used with another body: 422
	RefusedRunning                             // the key's first request still runs: 409
	RefusedNoRoute                             // nothing can carry it now, and nothing left: 503 no_route
	RefusedOverloaded                          // a limit is reached, and nothing left: 503 overloaded
	RefusedPending                             // the outcome is not known here yet: 503 outcome_pending
	RefusedBarred                              // its reversal came first: 409 reversed, final
	RefusedSecurity                            // PIN or MAC cannot be worked on now, and nothing left: 503 security_unavailable
	RefusedMissing                             // no such payment or capture: 404
	RefusedWholeRelease                        // a partial reversal of the whole: for its caller, never for a gateway
)

// String is the kind's name in logs and metrics.
func (k RefusalKind) String() string {
	switch k {
	case RefusedInvalid:
		return "invalid"
	case RefusedKeyConflict:
		return "key_conflict"
	case RefusedRunning:
		return "running"
	case RefusedNoRoute:
		return "no_route"
	case RefusedOverloaded:
		return "overloaded"
	case RefusedPending:
		return "pending"
	case RefusedBarred:
		return "barred"
	case RefusedSecurity:
		return "security"
	case RefusedMissing:
		return "missing"
	case RefusedWholeRelease:
		return "whole"
	}
	return "unknown"
}
