package sim

// completion says what a financial request captures that names an original.
type completion uint8

const (
	completesNone    completion = iota // it is a sale or a refund: it names nothing
	completesNothing                   // what it names is not here, or was undone
	completesPayment
)

// completes looks up what a request names. One with an original is the second
// half of a pre-authorization, and never another sale.
func (h *host) completes(m *message, f *facts) completion {
	if m.class() != '2' || m.function() != '0' {
		return completesNone
	}
	o, named := h.original(m)
	if !named {
		return completesNone
	}
	if q, ok := h.book.requests[h.keyOf(m, &o, f)]; ok && q.decision == approved && q.amount > 0 {
		return completesPayment
	}
	return completesNothing
}
