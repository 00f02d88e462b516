package journal

import "authswitch/payment"

// Kind is what a command does. The numbers are in the log: they are never used
// again for something else.
type Kind uint8

// The kinds.
const (
	KindSession     Kind = 1  // a node begins a session; its earlier one ends
	KindOpen        Kind = 2  // the first attempt of a payment
	KindNext        Kind = 3  // attempt n ends, attempt n+1 opens
	KindSettle      Kind = 4  // Close and Reverse
	KindCancel      Kind = 5  // a gateway's reversal
	KindLate        Kind = 6  // an answer after the outcome
	KindClaim       Kind = 7  // an attempt to send an owed reversal
	KindAcknowledge Kind = 8  // the answer to one
	KindLease       Kind = 9  // STANs and RRNs
	KindSweep       Kind = 10 // intents open past their time become reversals
	KindForget      Kind = 11 // old idempotency generations go
	KindWriteOff    Kind = 60 // an operator ends a payment's exceptions by hand

	// Those of the cluster itself begin at 100.
	KindEndSession Kind = 100 // a session whose node fell silent ends
	KindForgetNode Kind = 101 // a node left, or lost its disk
	KindRelease    Kind = 102 // a lane of a restored state is let go
)

// String is the kind's name in logs and tests.
func (k Kind) String() string {
	names := [...]string{
		"", "session", "open", "next", "settle", "cancel", "late", "claim", "acknowledge", "lease", "sweep", "forget",
		KindKeyPut: "key-put", KindKeyAdvance: "key-advance", KindKeyRewrap: "key-rewrap", KindKeySweep: "key-sweep", KindWriteOff: "write-off", KindEndSession: "end-session", KindForgetNode: "forget-node", KindRelease: "release",
	}
	if int(k) >= len(names) || names[k] == "" {
		return "unknown"
	}
	return names[k]
}

const commandVersion = 1

// AppendSession writes a KindSession command.
func AppendSession(b []byte, node payment.NodeID) []byte {
	return putText(append(b, commandVersion), node)
}

// AppendOpen writes a KindOpen command.
func AppendOpen(b []byte, i *payment.Intent) []byte { return appendIntent(b, i) }

// AppendNext writes a KindNext command.
func AppendNext(b []byte, o *payment.Outcome, i *payment.Intent) []byte {
	return appendIntent(appendOutcome(b, o), i)
}

// AppendSettle writes a KindSettle command.
func AppendSettle(b []byte, o *payment.Outcome) []byte { return appendOutcome(b, o) }

// AppendCancel writes a KindCancel command.
func AppendCancel(b []byte, c *payment.Cancellation) []byte {
	b = append(b, commandVersion)
	b = putText(b, c.Merchant)
	b = putText(b, c.Gateway)
	b = putText(b, c.RequestKey)
	b = append(b, c.ID[:]...)
	b = putText(b, c.Key)
	b = putText(b, c.Reference)
	return append(b, byte(c.Reason))
}

func readCancel(c *cursor, x *cancellation) {
	c.version(commandVersion)
	x.merchant = c.text()
	c.text() // the gateway is for the audit log
	x.requestKey = c.text()
	x.id = c.id()
	x.key = c.text()
	x.reference = c.text()
	x.reason = payment.ReversalReason(c.u8())
}

// cancellation is payment.Cancellation whose bytes alias the entry.
type cancellation struct {
	merchant, requestKey []byte
	id                   payment.ID
	key, reference       []byte
	reason               payment.ReversalReason
}

// AppendLate writes a KindLate command.
func AppendLate(b []byte, l *payment.Late) []byte { return appendLate(append(b, commandVersion), l) }

func appendLate(b []byte, l *payment.Late) []byte {
	b = append(b, l.ID[:]...)
	b = append(b, l.Attempt)
	b = appendResponse(b, &l.Response)
	return putText(b, l.Link)
}

func readLate(c *cursor, l *payment.Late) {
	l.ID = c.id()
	l.Attempt = c.u8()
	readResponse(c, &l.Response)
	l.Link = payment.LinkName(c.text())
}

// AppendClaim writes a KindClaim command. The pair of session and number names
// the claim: proposed twice, it counts once.
func AppendClaim(b []byte, session payment.Session, number uint64, link payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) []byte {
	b = append(b, commandVersion)
	b = put64(b, uint64(session))
	b = put64(b, number)
	b = put64(b, seq)
	b = put32(b, uint32(stan))
	b = put32(b, uint32(t))
	return putText(b, link)
}

// AppendAcknowledge writes a KindAcknowledge command.
func AppendAcknowledge(b []byte, link payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) []byte {
	b = append(b, commandVersion)
	b = put64(b, seq)
	b = append(b, byte(v))
	b = appendResponse(b, r)
	return putText(b, link)
}

// AppendLease writes a KindLease command.
func AppendLease(b []byte, session payment.Session, link payment.LinkName) []byte {
	b = append(b, commandVersion)
	b = put64(b, uint64(session))
	return putText(b, link)
}

// AppendSweep writes a KindSweep command: whatever is open more than margin
// after its AnswerBy, by the entry's time, is owed a reversal.
func AppendSweep(b []byte, margin int64) []byte {
	return put64(append(b, commandVersion), uint64(margin))
}

// AppendForget writes a KindForget command: idempotency generations whose
// newest entry is more than keep old, by the entry's time, are deleted; never
// the three newest.
func AppendForget(b []byte, keep int64) []byte { return put64(append(b, commandVersion), uint64(keep)) }

// Result is what Apply answers to one command; Kind says which of the rest is
// set.
type Result struct {
	Kind      Kind
	Session   payment.Session
	Opened    payment.Opened
	Settled   payment.Settled
	Cancelled payment.Cancelled
	State     payment.State // of KindAcknowledge, KindLate and KindWriteOff
	Owed      payment.Owed
	Numbers   payment.Numbers
	Count     int          // payments that KindSweep and KindSession turned into reversals; exceptions that KindWriteOff ended; keys that KindKeySweep retired
	Key       *payment.Key // of the key commands; must not be changed
	Err       error        // ErrNotFound, ErrBusy, ErrUnavailable of payment: nothing was done
}
