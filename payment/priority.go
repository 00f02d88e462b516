package payment

// Priority says who gives way to whom where there is not room for all: at the
// door, in the journal's queue and in a link's window. The lowest goes first.
type Priority uint8

// The priorities.
const (
	// PriorityReversal gives money back, or ends what has begun: refusing it would
	// keep what it is to free.
	PriorityReversal Priority = iota
	PriorityCustomer          // somebody stands at a terminal or looks at a page
	PriorityMerchant          // the merchant started it: recurring, instalments, captures, refunds
	PriorityBatch             // files of refunds: nobody waits for a line of one
	Priorities
)

var priorityNames = [Priorities]string{"reversal", "customer", "merchant", "batch"}

// String is the priority's name in metrics.
func (p Priority) String() string {
	if p >= Priorities {
		return "unknown"
	}
	return priorityNames[p]
}

// Share is how much of room for n a priority may fill: an eighth of it is kept
// from each one for those before it. Where n is so small that an eighth is
// nothing, nothing is kept.
func (p Priority) Share(n int) int {
	if p >= Priorities {
		p = PriorityBatch
	}
	return n - n/8*int(p)
}

// Priority of an authorization.
func (a *Authorization) Priority() Priority {
	if a.StoredCredential.MerchantInitiated || a.Channel == Recurring || a.Channel == Instalment {
		return PriorityMerchant
	}
	return PriorityCustomer
}

// Priority of an operation.
func (o *Operation) Priority() Priority {
	switch o.Kind {
	case OpVoid, OpRelease:
		return PriorityReversal
	}
	return PriorityMerchant
}
