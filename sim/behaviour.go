package sim

import "slices"

// decision is what a host did about a message, in the words of the ledger.
type decision uint8

// The decisions.
const (
	undecided decision = iota
	approved
	declined
	silent // nothing was approved and nothing is answered
	reversed
	captured
	refunded
	unknownOriginal
	reconciled // totals were compared: response code 00 or 95
)

// decisionNames are the ledger's words, read-only.
var decisionNames = [...]string{"", "approved", "declined", "silent", "reversed", "captured", "refunded", "unknown_original", "reconciled"}

func (d decision) String() string { return decisionNames[d] }

// delivery is how an answer leaves, or does not.
type delivery uint8

// The deliveries.
const (
	deliverNormally delivery = iota
	deliverNever
	deliverLate
	deliverTwice
	deliverWrongSTAN
	deliverGarbage
	deliverHalf
	deliverDrop
	deliverWrongAmount
	deliverWrongTerminal
	deliverByteAtATime
	deliverLyingBitmap
	deliverWrongMTI
	deliverReject
	deliverSecondThoughts
	deliverAfterReversal
	deliverZeroLength
	deliverOversize
	deliverMaximum
	deliverBadMAC
	deliverWrongKey
)

// deliveryNames are the words of scenarios, in the order of the constants;
// read-only.
var deliveryNames = [...]string{
	"normal", "silence", "late", "twice", "wrong_stan", "garbage", "half_frame", "drop", "wrong_amount", "wrong_terminal",
	"byte_at_a_time", "lying_bitmap", "wrong_mti", "reject", "decline_then_approve", "after_reversal", "zero_length", "oversize_length", "maximum_length",
	"bad_mac", "wrong_key",
}

func deliveryNamed(name string) (delivery, bool) {
	i := slices.Index(deliveryNames[:], name)
	return delivery(max(i, 0)), i >= 0
}

// reversalManner is how the reversal of a payment is met.
type reversalManner uint8

// The manners.
const (
	reversalAccepted    reversalManner = iota
	reversalAnswerLost                 // recorded; the first answer is lost, a repeat is acknowledged
	reversalTwice91                    // 91 twice, then accepted
	reversalForgotten                  // "original unknown", whatever happened
	reversalFormatError                // 30: an exception for the switch
)

// behaviour is what a host does with a request. Its code is the 1987 one; the
// host's own spelling is profile's.
type behaviour struct {
	name     string
	decision decision
	code     string
	delivery delivery
	reversal reversalManner
	cvv      byte // what the answer says of a security code; 0: M, it matches
}

// The behaviours the table below and scenarios name.
func approve(name string, d delivery) behaviour {
	return behaviour{name: name, decision: approved, code: "00", delivery: d}
}

func decline(code string) behaviour { return behaviour{name: code, decision: declined, code: code} }

func unanswered(name string, r reversalManner) behaviour {
	return behaviour{name: name, decision: approved, code: "00", delivery: deliverNever, reversal: r}
}

// builtIn is the table of docs/simulators.md: the last two digits of the
// amount in minor units choose. What it does not list is approved.
func builtIn() map[int]behaviour {
	t := map[int]behaviour{
		0:  approve("approve", deliverNormally),
		10: {name: "partial", decision: approved, code: "10"},
		68: {name: "silence", decision: silent, delivery: deliverNever},
		69: approve("late", deliverLate),
		70: approve("twice", deliverTwice),
		71: approve("wrong_stan", deliverWrongSTAN),
		72: approve("garbage", deliverGarbage),
		73: approve("half_frame", deliverHalf),
		74: approve("drop", deliverDrop),
		75: approve("wrong_amount", deliverWrongAmount),
		76: approve("wrong_terminal", deliverWrongTerminal),
		77: approve("byte_at_a_time", deliverByteAtATime),
		78: approve("lying_bitmap", deliverLyingBitmap),
		79: {name: "reject", decision: declined, code: "30", delivery: deliverReject},
		80: {name: "decline_then_approve", decision: approved, code: "00", delivery: deliverSecondThoughts},
		81: approve("wrong_mti", deliverWrongMTI),
		82: {name: "cvv_mismatch", decision: approved, code: "00", cvv: 'N'},
		83: approve("after_reversal", deliverAfterReversal),
		84: unanswered("approve_unanswered", reversalAccepted),
		85: unanswered("lose_reversal_answer", reversalAnswerLost),
		86: unanswered("reversal_91_twice", reversalTwice91),
		87: unanswered("forget_reversals", reversalForgotten),
		88: unanswered("reversal_format_error", reversalFormatError),
		89: approve("zero_length", deliverZeroLength),
		90: approve("oversize_length", deliverOversize),
		97: approve("maximum_length", deliverMaximum),
	}
	for amount, code := range map[int]string{
		1: "01", 3: "03", 4: "04", 5: "05", 6: "06", 12: "12", 13: "13", 14: "14", 30: "30", 41: "41", 43: "43", 51: "51", 54: "54",
		55: "55", 57: "57", 61: "61", 62: "62", 63: "63", 65: "1A", 91: "91", 94: "94", 96: "96",
	} {
		t[amount] = decline(code)
	}
	return t
}

// behaviourNamed finds a behaviour by the name in the table, by the name of a
// delivery of an approval, or a decline by its 1987 code.
func behaviourNamed(name string) (behaviour, bool) {
	for _, b := range builtIn() {
		if b.name == name {
			return b, true
		}
	}
	if known87(name) {
		return decline(name), true
	}
	return behaviour{}, false
}

// chooser maps the last two digits to what is done.
type chooser [100]behaviour

func newChooser(overrides map[string]string) chooser {
	var c chooser
	for i := range c {
		c[i] = approve("approve", deliverNormally)
	}
	for i, b := range builtIn() {
		c[i] = b
	}
	for digits, name := range overrides {
		// Validate has checked both.
		b, _ := behaviourNamed(name)
		c[int(digits[0]-'0')*10+int(digits[1]-'0')] = b
	}
	return c
}

func (c *chooser) of(amount int64) *behaviour { return &c[amount%100] }
