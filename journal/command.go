package journal

import (
	"cmp"

	"authswitch/payment"
)

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
	KindOperate     Kind = 12 // a capture, refund, increment, partial reversal or void
	KindExpire      Kind = 13 // the time for captures of some payments is over
	KindCard        Kind = 14 // a stored card is changed or deleted
	KindCardReseal  Kind = 15 // the envelopes of some stored cards under another data key
	KindCutOver     Kind = 70 // a link's business day ends
	KindFiled       Kind = 71 // a clearing batch's file is on a node's disk
	KindFileSettle  Kind = 72 // the lines of a written file are done
	KindUpload      Kind = 75 // lines of a closed batch go into the outbox
	KindTotals      Kind = 76 // an attempt to send an upload's totals
	KindAgreed      Kind = 77 // the answer to one
	KindAbandon     Kind = 73 // the payment that was to charge a correction is not opened
	KindCredit      Kind = 74 // a refund without a payment of this switch
	KindWriteOff    Kind = 60 // an operator ends a payment's exceptions by hand

	// Those of the cluster itself begin at 100.
	KindEndSession Kind = 100 // a session whose node fell silent ends
	KindForgetNode Kind = 101 // a node left, or lost its disk
	KindRelease    Kind = 102 // a lane of a restored state is let go
	KindVersion    Kind = 103 // every member can apply more than before
	KindMarks      Kind = 104 // how far members' disks have the log
	KindShare      Kind = 105 // how many of a link's connections a session has
)

// String is the kind's name in logs and tests.
func (k Kind) String() string {
	names := [...]string{
		"", "session", "open", "next", "settle", "cancel", "late", "claim", "acknowledge", "lease", "sweep", "forget", "operate", "expire", "card", "card-reseal",
		KindMerchant: "merchant", KindPaymentLink: "payment-link",
		KindKeyPut: "key-put", KindKeyAdvance: "key-advance", KindKeyRewrap: "key-rewrap", KindKeySweep: "key-sweep", KindKeyMark: "key-mark", KindWriteOff: "write-off", KindCutOver: "cut-over", KindFiled: "filed", KindFileSettle: "file-settle", KindUpload: "upload", KindTotals: "totals", KindAgreed: "agreed", KindAbandon: "abandon", KindCredit: "credit", KindEndSession: "end-session", KindForgetNode: "forget-node", KindRelease: "release", KindVersion: "version", KindMarks: "marks", KindShare: "share",
	}
	if int(k) >= len(names) || names[k] == "" {
		return cmp.Or(batchKinds()[k], "unknown")
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
	return appendClaim(b, commandVersion, session, number, &payment.Claim{Link: link, Seq: seq, STAN: stan, Transmitted: t})
}

// claimVersion 2 carries how long an online request's answer is waited for.
const claimVersion = 2

// AppendClaimOnline writes a KindClaim command for a request that is sent once.
func AppendClaimOnline(b []byte, session payment.Session, number uint64, k *payment.Claim) []byte {
	b = appendClaim(b, claimVersion, session, number, k)
	return putTime(putTime(b, k.Patience), k.Life)
}

func appendClaim(b []byte, version byte, session payment.Session, number uint64, k *payment.Claim) []byte {
	b = append(b, version)
	b = put64(b, uint64(session))
	b = put64(b, number)
	b = put64(b, k.Seq)
	b = put32(b, uint32(k.STAN))
	b = put32(b, uint32(k.Transmitted))
	return putText(b, k.Link)
}

func readClaim(c *cursor, k *payment.Claim) (by claim) {
	version := c.u8()
	if version != commandVersion && version != claimVersion {
		c.broken = true
	}
	by = claim{session: payment.Session(c.u64()), number: c.u64()}
	k.Seq = c.u64()
	k.STAN = payment.STAN(c.u32())
	k.Transmitted = payment.Transmitted(c.u32())
	k.Link = payment.LinkName(c.text())
	if version == claimVersion {
		k.Patience = c.time()
		k.Life = c.time()
	}
	return by
}

// AppendAcknowledge writes a KindAcknowledge command.
func AppendAcknowledge(b []byte, link payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) []byte {
	return appendAcknowledge(b, commandVersion, &payment.Acknowledgement{Link: link, Seq: seq, Verdict: v, Response: *r})
}

// acknowledgeVersion 2 names the payment: a late answer finds no entry in the
// outbox any more.
const acknowledgeVersion = 2

// AppendAnswer writes a KindAcknowledge command that names its payment.
func AppendAnswer(b []byte, a *payment.Acknowledgement) []byte {
	b = appendAcknowledge(b, acknowledgeVersion, a)
	return append(b, a.ID[:]...)
}

func appendAcknowledge(b []byte, version byte, a *payment.Acknowledgement) []byte {
	b = append(b, version)
	b = put64(b, a.Seq)
	b = append(b, byte(a.Verdict))
	b = appendResponse(b, &a.Response)
	return putText(b, a.Link)
}

func readAcknowledge(c *cursor, a *payment.Acknowledgement) {
	version := c.u8()
	if version != commandVersion && version != acknowledgeVersion {
		c.broken = true
	}
	a.Seq = c.u64()
	a.Verdict = payment.AdviceVerdict(c.u8())
	readResponse(c, &a.Response)
	a.Link = payment.LinkName(c.text())
	if version == acknowledgeVersion {
		a.ID = c.id()
	}
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
	Operated  payment.Operated
	Card      payment.StoredCard
	Merchant  payment.MerchantRecord
	Link      payment.PayLinkAnswer
	Count     int          // payments that KindSweep and KindSession turned into reversals; what a clearing command changed; connections that KindShare gave; exceptions that KindWriteOff ended; keys that KindKeySweep retired
	Key       *payment.Key // of the key commands; must not be changed
	Batch     *payment.BatchAnswer
	Person    *payment.Person
	Err       error // ErrNotFound, ErrBusy, ErrUnavailable of payment: nothing was done
}
