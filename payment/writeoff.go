package payment

// WriteOff is an operator's decision to give up what acquirers refuse to
// reverse: every exception that a payment owes ends without an acknowledgement,
// and the journal keeps who decided it and why.
type WriteOff struct {
	ID       ID
	Operator string // the person, for the audit
	Reason   string // the person's words: a ticket, what the acquirer said
}

// EntryWrittenOff is a line of history that says so, one for each exception.
// Its number stands apart: it is in the journal.
const EntryWrittenOff EntryKind = 20
