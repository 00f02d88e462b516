package payment

// ClearingState is how far a clearing batch has come.
type ClearingState uint8

// The states. The numbers are in the journal.
const (
	ClearingNone       ClearingState = iota
	ClearingOpen                     // takes lines
	ClearingClosed                   // takes none any more; its file is not written yet
	ClearingWritten                  // its file is on a node's disk
	ClearingSettled                  // and each of its lines is done in the journal
	ClearingUploaded                 // each of its messages has its end; the acquirer has not agreed to its totals yet
	ClearingUnbalanced               // the acquirer has other totals: for people to investigate
	clearingStates
)

var clearingStateNames = [clearingStates]string{"none", "open", "closed", "written", "settled", "uploaded", "out_of_balance"}

// String is the state's name in API and logs.
func (s ClearingState) String() string {
	if s >= clearingStates {
		return "invalid"
	}
	return clearingStateNames[s]
}

// ClearingBatch is what goes to an acquirer in one file, or in one upload of
// messages: the captures and refunds of one link between two cut-overs. What is
// in it is the journal's alone to say, so that any node sends the same.
type ClearingBatch struct {
	Link      LinkName
	Means     OperationMeans // MeansFile or MeansUpload: a link has a series of each
	Number    uint64         // from 1
	State     ClearingState
	Lines     uint32 // without those that were withdrawn
	Next      uint32 // number of the line after the last one ever given
	Settled   uint32 // lines up to here are done in the journal; of an upload: are in the outbox
	ClosedAt  Instant
	ClosedBy  string // schedule, acquirer, or the operator's name
	WrittenAt Instant
	Node      NodeID // that wrote the file
	SHA256    [32]byte
	Bytes     uint64
	Upload    Upload // of MeansUpload
}

// Upload is how far a batch upload has come: first its messages, each until it
// is acknowledged, then the totals, of one terminal and currency after the
// other, each until it is answered.
type Upload struct {
	Over        uint32 // lines that have their end
	Group       uint16 // totals that are answered; the next ones are under way
	Unbalanced  uint16 // of them: where the acquirer has others
	Tries       uint16 // transmissions of the ones under way
	STAN        STAN   // of them, fixed by the first
	Transmitted Transmitted
	Due         Instant // of their next transmission
	Code        ResponseCode
}

// Totals is what one terminal's lines of an upload come to in one currency: what
// a reconciliation message says, and its acquirer's answer is held to.
type Totals struct {
	Link     LinkName
	Number   uint64 // of the batch
	Group    uint16 // which of the batch's totals these are, from 0
	Groups   uint16 // how many there are
	Terms    Terms
	Currency Currency
	Captures uint32 // debits
	Captured int64
	Refunds  uint32 // credits
	Refunded int64
	// Of their transmission: the first claim fixes the STAN.
	Tries       uint16
	STAN        STAN
	Transmitted Transmitted
}

// Agreed is what an acquirer said to totals.
type Agreed struct {
	Code     ResponseCode
	Answered bool // it says whether they are its own; else they are sent again
	Balanced bool
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
