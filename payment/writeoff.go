package payment

// WriteOff is an operator's decision to give up what acquirers refuse to
// reverse: every exception that a payment owes ends without an acknowledgement,
// and the journal keeps who decided it and why.
type WriteOff struct {
	ID       ID
	Operator string // the person, for the audit
	Reason   string // the person's words: a ticket, what the acquirer said
	// Operations says what became of the payment's captures, refunds and the like
	// that are exceptions; undecided leaves them.
	Operations Resolution
}

// Resolution is what a person found out about an operation that no machine may
// settle.
type Resolution uint8

// The resolutions. The numbers are in the journal.
const (
	Undecided Resolution = iota
	Taken                // the acquirer did it: it is done
	NotTaken             // the acquirer did not: its amount is free again
	resolutions
)

var resolutionNames = [resolutions]string{"", "taken", "not_taken"}

// String is the resolution's name in API and commands.
func (r Resolution) String() string {
	if r >= resolutions {
		return "invalid"
	}
	return resolutionNames[r]
}

// ParseResolution reads a name as String writes it; "" is undecided.
func ParseResolution(name string) (Resolution, bool) {
	for r := range resolutions {
		if resolutionNames[r] == name {
			return r, true
		}
	}
	return Undecided, false
}

// EntryWrittenOff is a line of history that says so, one for each exception.
// Its number stands apart: it is in the journal.
const EntryWrittenOff EntryKind = 20
