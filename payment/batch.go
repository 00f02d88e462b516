package payment

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// ErrPersonKnown means that an operator of that name is there already.
var ErrPersonKnown = errors.New("there is an operator of that name")

// BatchPrefix stands before a refund batch's id in the API.
const BatchPrefix = "batch_"

// BatchState is where a refund batch stands.
type BatchState uint8

// The states. The numbers are in the journal.
const (
	BatchNone      BatchState = iota
	BatchLoading              // its lines are being written down; nobody is shown it
	BatchHeld                 // whole; nothing moves before it is released
	BatchReleased             // its lines are started, one after the other
	BatchDone                 // every line has its end
	BatchCancelled            // no further line is started
	batchStates
)

var batchStateNames = [batchStates]string{"none", "loading", "held", "released", "done", "cancelled"}

// String is the state's name in API and logs.
func (s BatchState) String() string {
	if s >= batchStates {
		return "invalid"
	}
	return batchStateNames[s]
}

// Limits of a batch that no configuration moves.
const (
	MaxBatchLines      = 1_000_000
	MaxBatchLanes      = 64 // links that the lines of one batch go to
	MaxBatchCurrencies = 16
	MaxReleases        = 2 // names that one batch can need
)

// BatchLine is one refund of a batch. It holds nothing of a card.
type BatchLine struct {
	Number  uint32 // of the file's line; of the refund where there was no file
	Capture ID
	Amount  Amount
	Order   []byte // the merchant's reference, as the file gives it
	Text    []byte // why: the refund's reason
}

// Limits of what one command about a batch carries.
const (
	// BatchLinesRoom is how many bytes of lines fit into one that writes lines down.
	BatchLinesRoom = 8<<10 - 64
	// MaxBatchRun is how many lines one starts: they are worked on in one piece,
	// and live payments wait meanwhile.
	MaxBatchRun = 64
)

// Size is how many bytes a line takes of BatchLinesRoom.
func (l *BatchLine) Size() int { return 4 + 16 + 10 + 1 + len(l.Order) + 1 + len(l.Text) }

// BatchLane is the part of a batch that goes to one link. Its lines stand in
// chunks, which are started one after the other; lanes do not wait for each other.
type BatchLane struct {
	Link   LinkName
	Chunks uint32
	Next   uint32 // chunks before it are started
	At     uint16 // and so many lines of it
}

// Release is one person's or gateway's word that a batch may run.
type Release struct {
	Who      string
	Operator bool // a named operator; else a gateway
	At       Instant
}

// Batch is a refund batch as the journal has it.
type Batch struct {
	ID          ID
	Merchant    MerchantID
	Gateway     GatewayID
	Key         []byte   // Idempotency-Key as given
	Fingerprint [32]byte // of what it asks for: the same file twice has the same
	Name        []byte   // the file's, for people
	Tag         []byte   // of a mass refund; empty: a file
	State       BatchState
	Needs       uint8 // releases it needs: 2 are two different operators'
	Releases    []Release
	Lines       uint32
	Totals      []Amount // by currency
	Lanes       []BatchLane
	Loaded      uint32 // chunks that are written, of all lanes
	Written     uint32 // and lines

	Started    uint32 // lines that were given to the journal's rules
	Refused    uint32 // of them: by a rule, with nothing done
	Done       uint32
	Declined   uint32
	Failed     uint32
	Exceptions uint32 // in doubt, and no machine repeats them

	CreatedAt   Instant
	ReleasedAt  Instant
	EndedAt     Instant
	CancelledBy string
}

// Over is how many lines have their end.
func (b *Batch) Over() uint32 { return b.Refused + b.Done + b.Declined + b.Failed }

// InDoubt is how many lines are on their way, exceptions included.
func (b *Batch) InDoubt() uint32 { return b.Started - b.Over() }

// BatchRefusal is why the journal refuses something about a batch.
type BatchRefusal uint8

// The refusals.
const (
	BatchTaken          BatchRefusal = iota // it was not refused
	BatchUnknown                            // no such batch of this merchant
	BatchDuplicate                          // the same content was taken as another batch, which Batch is
	BatchKeyConflict                        // the key was used for another batch
	BatchNotHeld                            // it is not waiting to be released
	BatchEnded                              // it is done or cancelled
	BatchNeedsOperators                     // a gateway's word is not enough
	BatchSameOperator                       // the second release is by the first one's operator
	BatchNoOperator                         // no such operator
	BatchIncomplete                         // lines are missing
)

// BatchAnswer is the answer to a command about a batch, which Batch is as it
// stands then.
type BatchAnswer struct {
	Refused BatchRefusal
	Batch   Batch
}

// BatchAct is what is done with a batch that is there.
type BatchAct struct {
	ID       ID
	Merchant MerchantID // empty: any
	Cancel   bool       // else it is released
	Who      string
	Operator bool
}

// BatchRun starts lines of one lane, if they are those that are next. The means
// are those of the lane's link.
type BatchRun struct {
	ID         ID
	Lane       uint8
	Chunk      uint32
	At         uint16 // the first line of the chunk
	Count      uint16 // how many; fewer where the chunk ends
	Means      OperationMeans
	MTI        uint16
	Reversible bool
}

// Ended says whether every line of a lane is started.
func (l *BatchLane) Ended() bool { return l.Next >= l.Chunks }

// LineRefusal is why the journal refused a line when its turn came.
type LineRefusal struct {
	Why  OperationRefusal
	Left int64
}

// LineOperation is the id of the refund that a line of a batch is: always the
// same, so that a line that is started again is the same refund. The salt is for
// the case, not seen yet, that the id is another operation's.
//
// Ids begin with a batch's first half and go up with its lines, so that they
// stand together on disk. Minted ids end in six zero bits and those that the
// journal derives set the lowest two: neither is one of these.
func LineOperation(batch ID, line, salt uint32) ID {
	var b [24]byte
	copy(b[:], batch[:])
	binary.BigEndian.PutUint32(b[16:], line)
	binary.BigEndian.PutUint32(b[20:], salt)
	sum := sha256.Sum256(b[:])
	id := batch
	binary.BigEndian.PutUint32(id[8:], 1<<31|line)
	binary.BigEndian.PutUint32(id[12:], binary.BigEndian.Uint32(sum[:])&^0x3F|0x04)
	return id
}

// Person is a named operator: somebody with credentials of their own, who
// releases what no gateway's key may.
type Person struct {
	Name    string
	Hash    []byte // of the credential, in PHC form; empty once removed
	Removed bool
	Events  []PersonEvent // what became of them, oldest first
}

// PersonEvent is one entry of an operator's audit.
type PersonEvent struct {
	Removed bool // else added
	By      string
	Reason  string
	At      Instant
}

// MaxPersonEvents bounds one operator's audit: the oldest but the first are
// dropped, and are in the log.
const MaxPersonEvents = 16

// PersonChange adds an operator, with a new credential, or removes one.
type PersonChange struct {
	Name   string
	Hash   []byte // none: removed
	By     string
	Reason string
}
