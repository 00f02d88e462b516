package iso8583

import "fmt"

// MTI is a message type indicator as four BCD nibbles: 0x0100 is "0100".
type MTI uint16

// Message classes and functions (second and third digit).
const (
	ClassAuthorization  = 1
	ClassFinancial      = 2
	ClassFile           = 3
	ClassReversal       = 4
	ClassReconciliation = 5
	ClassAdministrative = 6
	ClassFee            = 7
	ClassNetwork        = 8

	FunctionRequest         = 0
	FunctionResponse        = 1
	FunctionAdvice          = 2
	FunctionAdviceResponse  = 3
	FunctionNotification    = 4
	FunctionAcknowledgement = 5
)

// ParseMTI reads four ASCII digits.
func ParseMTI(s string) (MTI, error) {
	if len(s) != 4 {
		return 0, fmt.Errorf("message type %q: not four digits", s)
	}
	m, ok := mtiOf([]byte(s))
	if !ok {
		return 0, fmt.Errorf("message type %q: not four digits", s)
	}
	return m, nil
}

// mtiOf reads four ASCII digits without allocating.
func mtiOf(b []byte) (MTI, bool) {
	var m MTI
	for _, c := range b[:4] {
		if c < '0' || c > '9' {
			return 0, false
		}
		m = m<<4 | MTI(c-'0')
	}
	return m, true
}

func (m MTI) text() [4]byte {
	return [4]byte{'0' + byte(m>>12), '0' + byte(m>>8&15), '0' + byte(m>>4&15), '0' + byte(m&15)}
}

// String is the four digits.
func (m MTI) String() string { t := m.text(); return string(t[:]) }

// Version is the first digit: 0 for 1987, 1 for 1993, 2 for 2003.
func (m MTI) Version() int { return int(m >> 12) }

// Class is the second digit.
func (m MTI) Class() int { return int(m >> 8 & 15) }

// Function is the third digit.
func (m MTI) Function() int { return int(m >> 4 & 15) }

// Origin is the fourth digit: 0 acquirer, 1 acquirer repeat, 2 issuer, 3
// issuer repeat.
func (m MTI) Origin() int { return int(m & 15) }

// IsRequest reports a request, which may be declined.
func (m MTI) IsRequest() bool { return m.Function() == FunctionRequest }

// IsAdvice reports an advice, which must be accepted once it is durable.
func (m MTI) IsAdvice() bool { return m.Function() == FunctionAdvice }

// IsResponse reports the answer to a request, an advice or a notification.
func (m MTI) IsResponse() bool {
	f := m.Function()
	return f == FunctionResponse || f == FunctionAdviceResponse || f == FunctionAcknowledgement
}

// IsRepeat reports whether the repeat bit is set: 0421, 0103.
func (m MTI) IsRepeat() bool { return m&1 == 1 }

// Response is the type of the answer: the function digit plus one, the repeat
// bit cleared (0101 → 0110, 0421 → 0430). A type that is an answer already, or
// whose function has none, is returned as it is.
func (m MTI) Response() MTI {
	if m.IsResponse() || m.Function() > FunctionNotification {
		return m
	}
	return m&^1 + 0x10
}

// Repeat is the type with the repeat bit set: 0420 → 0421.
func (m MTI) Repeat() MTI { return m | 1 }

// Original is the type without the repeat bit: 0421 → 0420.
func (m MTI) Original() MTI { return m &^ 1 }
