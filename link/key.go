package link

import (
	"bytes"

	"authswitch/iso8583"
	"authswitch/payment"
)

// key is what an answer must carry to be the answer to a request. DE 11 alone
// is never enough: six digits wrap in 83 s at 12,000 a second.
type key struct {
	class       uint8 // second digit of the message type
	owed        bool  // store and forward: matched by DE 11 and 37, whichever transmission it answers
	stan        payment.STAN
	transmitted payment.Transmitted
	rrn         payment.RRN
	terminal    string // DE 41, right-trimmed
	acquirer    string // DE 32, without leading zeros
}

// echoed is what an answer carries of the key, and what it says. The slices
// alias the message.
type echoed struct {
	mti         iso8583.MTI
	stan        payment.STAN // 0 when absent or not a number
	transmitted payment.Transmitted
	rrn         []byte // 12 bytes, nil when absent
	terminal    []byte // right-trimmed, nil when absent
	acquirer    []byte // without leading zeros, nil when absent
	code        payment.ResponseCode
}

// rule says which elements besides DE 11 a dialect's answers must echo.
type rule struct {
	transmitted, rrn, terminal, acquirer bool
}

// The elements of a key, as differences name them.
const (
	deNone        = 0
	deType        = 1 // stands for the message type, which has no number
	deTransmitted = 7
	deSTAN        = 11
	deAcquirer    = 32
	deRRN         = 37
	deCode        = 39
	deTerminal    = 41
	deNetwork     = 70
)

// readEchoed takes the key out of an unpacked message.
func readEchoed(m *iso8583.Message) echoed {
	return echoed{
		mti:         m.MTI(),
		stan:        payment.STAN(number(m.Bytes(deSTAN), 12)), // n6, and n12 in 2003
		transmitted: payment.Transmitted(number(m.Bytes(deTransmitted), 10)),
		rrn:         exactly(m.Bytes(deRRN), len(payment.RRN{})),
		terminal:    trimRight(m.Bytes(deTerminal)),
		acquirer:    trimZeros(m.Bytes(deAcquirer)),
		code:        payment.MakeResponseCode(m.Bytes(deCode)),
	}
}

// differs is the first element that tells an answer from the request with this
// key, or deNone. Elements the rule asks for must be there and equal. DE 37 and
// 41 count against an answer wherever it has them: one with another reference
// or another terminal is another payment's.
func (k *key) differs(e *echoed, r rule) int {
	switch {
	case e.stan != k.stan:
		return deSTAN
	case e.mti.Class() != int(k.class) || !e.mti.IsResponse():
		return deType
	}
	if k.owed {
		return k.owedDiffers(e, r)
	}
	switch {
	case r.transmitted && e.transmitted != k.transmitted:
		return deTransmitted
	case (r.rrn || e.rrn != nil) && !bytes.Equal(e.rrn, k.rrn[:]):
		return deRRN
	case (r.terminal || e.terminal != nil) && string(e.terminal) != k.terminal:
		return deTerminal
	case r.acquirer && string(e.acquirer) != k.acquirer:
		return deAcquirer
	}
	return deNone
}

// owedDiffers leaves DE 7 out, because an acknowledgement may answer an
// earlier transmission. Only where a dialect's acknowledgements carry no DE 37
// does DE 7 (or, where the peer sets its own, DE 41) stand in for it: DE 11
// alone is never enough.
func (k *key) owedDiffers(e *echoed, r rule) int {
	switch {
	case e.rrn != nil && !bytes.Equal(e.rrn, k.rrn[:]):
		return deRRN
	case e.terminal != nil && string(e.terminal) != k.terminal:
		return deTerminal
	case e.rrn != nil:
		return deNone
	case r.transmitted && e.transmitted != k.transmitted:
		return deTransmitted
	case !r.transmitted && e.terminal == nil:
		return deRRN
	}
	return deNone
}

// rejects says whether a reject message (0620, or our own message under a
// reject header) means the request with this key: the class is not compared,
// and one element besides DE 11 must be equal, none unequal. A DE 7 that the
// peer sets itself tells only where it is equal.
func (k *key) rejects(e *echoed, r rule) bool {
	if e.stan != k.stan {
		return false
	}
	agree := 0
	switch {
	case e.transmitted == k.transmitted:
		agree++
	case e.transmitted != 0 && r.transmitted:
		return false
	}
	if e.rrn != nil {
		if !bytes.Equal(e.rrn, k.rrn[:]) {
			return false
		}
		agree++
	}
	if e.terminal != nil {
		if string(e.terminal) != k.terminal {
			return false
		}
		agree++
	}
	return agree > 0
}

// number reads an unsigned number of at most width digits; 0 when it is none,
// which no key holds.
func number(b []byte, width int) uint32 {
	if len(b) == 0 || len(b) > width {
		return 0
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	if n > 1<<32-1 {
		return 0
	}
	return uint32(n)
}

// exactly is b when it has n bytes, or an empty slice, which equals nothing,
// when it has another length; nil stays nil.
func exactly(b []byte, n int) []byte {
	if b == nil || len(b) == n {
		return b
	}
	return b[:0]
}

func trimRight(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == '0' {
		b = b[1:]
	}
	return b
}

func trimRightString(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

func trimZerosString(s string) string {
	for len(s) > 0 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
