package payment

// ClearingState is how far a clearing batch has come.
type ClearingState uint8

// The states. The numbers are in the journal.
const (
	ClearingNone    ClearingState = iota
	ClearingOpen                  // takes lines
	ClearingClosed                // takes none any more; its file is not written yet
	ClearingWritten               // its file is on a node's disk
	ClearingSettled               // and each of its lines is done in the journal
	clearingStates
)

var clearingStateNames = [clearingStates]string{"none", "open", "closed", "written", "settled"}

// String is the state's name in API and logs.
func (s ClearingState) String() string {
	if s >= clearingStates {
		return "invalid"
	}
	return clearingStateNames[s]
}

// ClearingBatch is what goes to an acquirer in one file: the captures and
// refunds of one link between two cut-overs. What is in it is the journal's
// alone to say, so that any node writes the same file.
type ClearingBatch struct {
	Link      LinkName
	Number    uint64 // from 1
	State     ClearingState
	Lines     uint32 // without those that were withdrawn
	Next      uint32 // number of the line after the last one ever given
	Settled   uint32 // lines up to here are done in the journal
	ClosedAt  Instant
	ClosedBy  string // schedule, acquirer, or the operator's name
	WrittenAt Instant
	Node      NodeID // that wrote the file
	SHA256    [32]byte
	Bytes     uint64
}

// ClearingLine is one capture or refund in a batch.
type ClearingLine struct {
	Line      uint32
	Operation ID
}

// DayEnd asks for the end of a link's business day: the open batch is closed
// and, until the next one, what was captured before is settled.
type DayEnd struct {
	Link   LinkName
	Number uint64 // of the batch that is open, so that two askers close it once
	By     string
	// Apart is how long ago the last cut-over must have been: every connection of
	// an acquirer announces the same one. Zero: no matter when.
	Apart Instant
}

// Filed says that a batch's file is on a node's disk.
type Filed struct {
	Link   LinkName
	Number uint64
	Node   NodeID
	SHA256 [32]byte
	Bytes  uint64
}
