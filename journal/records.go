package journal

import (
	"authswitch/payment"
)

// Versions of the encodings below. A change of layout takes a new number and
// the old decoder stays: a log outlives the binary that wrote it.
const (
	intentVersion = 1
	// An intent with a capture that is not manual for ever says so in its head.
	intentCaptureVersion = 2
	// One that is paid with a stored card, or saves one, names it too.
	intentCardVersion = 3
	// One with tags is 3 with them behind it.
	intentTagsVersion = 4
	// One that has extras is 4 with them behind it, and its tags may be none.
	intentExtraVersion = 5
	outcomeVersion     = 1
	// outcomeVersionChip is 1 with what goes back to the chip behind it; without
	// such data an outcome is written as 1.
	outcomeVersionChip = 2
	// outcomeVersionCard is 1 with the token of the card that was saved with it,
	// and what goes back to the chip, if anything does.
	outcomeVersionCard = 3
	owedVersion        = 1
	// An operation's message has more to say than the reversal of an
	// authorization, which keeps the shorter form.
	owedOperationVersion = 2
	// The message of a batch upload's line says of which batch.
	owedUploadVersion = 3
)

// appendIntent writes an intent. What Apply needs of it stands first, so that
// Apply can stop reading early (intentHead).
func appendIntent(b []byte, i *payment.Intent) []byte {
	version := byte(intentVersion)
	if i.Capture != (payment.Capturing{}) {
		version = intentCaptureVersion
	}
	if !i.Token.IsZero() || !i.Save.IsZero() {
		version = intentCardVersion
	}
	if len(i.Tags) > 0 {
		version = intentTagsVersion
	}
	if hasExtras(i) {
		version = intentExtraVersion
	}
	b = append(b, version)
	b = append(b, i.ID[:]...)
	b = append(b, i.Attempt)
	b = put64(b, uint64(i.Session))
	b = append(b, i.Fingerprint[:]...)
	b = putAmount(b, i.Amount)
	b = putTime(b, i.ReceivedAt)
	b = putTime(b, i.AnswerBy)
	b = putTime(b, i.LifeOver)
	b = put32(b, uint32(i.STAN))
	b = putText(b, i.Merchant)
	b = putText(b, i.Link)
	b = putText(b, i.Key)
	b = putText(b, i.Reference)
	if version >= intentCaptureVersion {
		b = append(b, byte(i.Capture.Means))
		b = put16(b, i.Capture.MTI)
		b = putTime(b, i.Capture.Within)
		b = append(b, byte(i.Capture.Mode))
	}
	if version >= intentCardVersion {
		b = append(b, i.Token[:]...)
		b = append(b, i.Save[:]...)
		b = append(b, i.Expiry[:]...)
		b = putText(b, i.Holder)
	}
	if version >= intentTagsVersion {
		b = putText(b, i.Tags)
	}
	if version == intentExtraVersion {
		b = appendExtras(b, i)
	}
	// Apply reads no further.
	b = putText(b, i.Node)
	b = putText(b, i.Gateway)
	b = append(b, byte(i.Channel), byte(i.Capture.Mode))
	b = putBool(b, i.Partial)
	b = append(b, byte(i.Scheme))
	b = putText(b, i.Dialect)
	b = put16(b, i.MTI)
	b = append(b, i.RRN[:]...)
	b = put32(b, uint32(i.Transmitted))
	b = append(b, i.Local[:]...)
	b = putTime(b, i.SendBy)
	t := &i.Terms
	b = putText(b, t.Terminal)
	b = putText(b, t.Acceptor)
	b = putText(b, t.AcceptorName)
	b = putText(b, t.MCC)
	b = putText(b, t.Acquirer)
	b = putText(b, t.Forwarder)
	b = putText(b, t.Country)
	b = putLong(b, i.Sealed)
	b = append(b, i.BlindIndex[:]...)
	b = putText(b, i.BIN)
	b = append(b, i.Last4[:]...)
	return putText(b, i.NetworkTransactionID)
}

// intentHead is the part of an intent that Apply decides on. Its slices alias
// the entry.
type intentHead struct {
	id          payment.ID
	attempt     uint8
	session     payment.Session
	fingerprint [32]byte
	amount      payment.Amount
	receivedAt  payment.Instant
	answerBy    payment.Instant
	lifeOver    payment.Instant
	stan        payment.STAN
	merchant    []byte
	link        []byte
	key         []byte
	reference   []byte
	capture     payment.Capturing
	token, save payment.ID
	expiry      [4]byte
	holder      []byte
	tags        []byte
	follows     payment.ID
	paymentLink payment.ID
	cardScope   []byte
	onFile      bool
}

func (h *intentHead) read(c *cursor) {
	version := c.u8()
	if version < intentVersion || version > intentExtraVersion {
		c.broken = true
	}
	h.id = c.id()
	h.attempt = c.u8()
	h.session = payment.Session(c.u64())
	c.copy(h.fingerprint[:])
	h.amount = c.amount()
	h.receivedAt = c.time()
	h.answerBy = c.time()
	h.lifeOver = c.time()
	h.stan = payment.STAN(c.u32())
	h.merchant = c.text()
	h.link = c.text()
	h.key = c.text()
	h.reference = c.text()
	if version >= intentCaptureVersion {
		h.capture.Means = payment.OperationMeans(c.u8())
		h.capture.MTI = c.u16()
		h.capture.Within = c.time()
		h.capture.Mode = payment.CaptureMode(c.u8())
	}
	if version >= intentCardVersion {
		h.token, h.save = c.id(), c.id()
		c.copy(h.expiry[:])
		h.holder = c.text()
	}
	if version >= intentTagsVersion {
		h.tags = c.text()
	}
	if version == intentExtraVersion {
		h.readExtras(c)
	}
}

// rest walks over what Apply does not need, so that an intent that could not be
// read back is never written.
func (h *intentHead) rest(c *cursor) error {
	c.text()      // node
	c.text()      // gateway
	c.bytes(2)    // channel, capture
	c.flag()      // partial
	c.u8()        // scheme
	c.text()      // dialect
	c.bytes(2)    // MTI
	c.bytes(12)   // RRN
	c.bytes(4)    // transmitted
	c.bytes(12)   // local
	c.bytes(8)    // send by
	for range 7 { // terms
		c.text()
	}
	c.long()    // sealed
	c.bytes(32) // blind index
	c.text()    // BIN
	c.bytes(4)  // last four
	c.text()    // network transaction id
	return c.end()
}

// readIntent reads a whole intent into memory of its own.
func readIntent(c *cursor, i *payment.Intent) {
	var h intentHead
	h.read(c)
	*i = payment.Intent{
		ID: h.id, Attempt: h.attempt, Session: h.session, Fingerprint: h.fingerprint, Amount: h.amount, ReceivedAt: h.receivedAt, AnswerBy: h.answerBy, LifeOver: h.lifeOver,
		STAN: h.stan, Merchant: payment.MerchantID(h.merchant), Link: payment.LinkName(h.link), Key: owned(h.key), Reference: owned(h.reference), Capture: h.capture,
		Token: h.token, Save: h.save, Expiry: h.expiry, Holder: owned(h.holder), Tags: owned(h.tags),
		Follows: h.follows, PaymentLink: h.paymentLink, CardScope: string(h.cardScope),
		OnFile: h.onFile || !h.token.IsZero(),
	}
	i.Node = payment.NodeID(c.text())
	i.Gateway = payment.GatewayID(c.text())
	i.Channel = payment.Channel(c.u8())
	i.Capture.Mode = payment.CaptureMode(c.u8())
	i.Partial = c.flag()
	i.Scheme = payment.Scheme(c.u8())
	i.Dialect = payment.DialectName(c.text())
	i.MTI = c.u16()
	c.copy(i.RRN[:])
	i.Transmitted = payment.Transmitted(c.u32())
	c.copy(i.Local[:])
	i.SendBy = c.time()
	t := &i.Terms
	t.Terminal = string(c.text())
	t.Acceptor = string(c.text())
	t.AcceptorName = string(c.text())
	t.MCC = string(c.text())
	t.Acquirer = string(c.text())
	t.Forwarder = string(c.text())
	t.Country = string(c.text())
	i.Sealed = owned(c.long())
	c.copy(i.BlindIndex[:])
	i.BIN = owned(c.text())
	c.copy(i.Last4[:])
	i.NetworkTransactionID = owned(c.text())
}

func putAmount(b []byte, a payment.Amount) []byte {
	return put16(put64(b, uint64(a.Value)), uint16(a.Currency))
}

func (c *cursor) amount() payment.Amount {
	v := int64(c.u64())
	return payment.Amount{Value: v, Currency: payment.Currency(c.u16())}
}

func appendResponse(b []byte, r *payment.Response) []byte {
	b = append(b, r.Code[:]...)
	b = append(b, byte(r.Verdict.Action))
	b = put16(b, uint16(r.Verdict.Flags))
	b = append(b, byte(r.Verdict.Reason), byte(r.Advice))
	b = append(b, r.ApprovalCode[:]...)
	b = putAmount(b, r.Amount)
	b = append(b, r.CVVResult)
	b = append(b, r.AdviceCode[:]...)
	b = append(b, r.NetworkID[:]...)
	b = append(b, r.SettlementDate[:]...)
	return append(b, r.ActionCodeClass)
}

func readResponse(c *cursor, r *payment.Response) {
	c.copy(r.Code[:])
	r.Verdict.Action = payment.Action(c.u8())
	r.Verdict.Flags = payment.Flags(c.u16())
	r.Verdict.Reason = payment.Reason(c.u8())
	r.Advice = payment.AdviceVerdict(c.u8())
	c.copy(r.ApprovalCode[:])
	r.Amount = c.amount()
	r.CVVResult = c.u8()
	c.copy(r.AdviceCode[:])
	c.copy(r.NetworkID[:])
	c.copy(r.SettlementDate[:])
	r.ActionCodeClass = c.u8()
}

// approves says whether an answer holds the cardholder's money.
func approves(r *payment.Response) bool {
	return r.Verdict.Action == payment.ActionApprove || r.Verdict.Action == payment.ActionApprovePartially
}

func appendOutcome(b []byte, o *payment.Outcome) []byte {
	version := uint8(outcomeVersion)
	switch {
	case !o.Token.IsZero():
		version = outcomeVersionCard
	case o.Response.Chip != "":
		version = outcomeVersionChip
	}
	b = append(b, version)
	b = append(b, o.ID[:]...)
	b = append(b, o.Attempt)
	b = put64(b, uint64(o.Session))
	b = append(b, byte(o.Event), byte(o.Status), byte(o.Cause))
	b = appendResponse(b, &o.Response)
	b = putAmount(b, o.Amount)
	b = put32(b, o.ProcessingMS)
	b = putTime(b, o.At)
	b = append(b, o.Encoder, byte(o.Reversal))
	if version == outcomeVersionCard {
		b = append(b, o.Token[:]...)
	}
	if version != outcomeVersion {
		b = putText(b, o.Response.Chip)
	}
	return b
}

func readOutcome(c *cursor, o *payment.Outcome) {
	version := c.u8()
	if version < outcomeVersion || version > outcomeVersionCard {
		c.broken = true
	}
	o.ID = c.id()
	o.Attempt = c.u8()
	o.Session = payment.Session(c.u64())
	o.Event = payment.Event(c.u8())
	o.Status = payment.Status(c.u8())
	o.Cause = payment.Cause(c.u8())
	readResponse(c, &o.Response)
	o.Amount = c.amount()
	o.ProcessingMS = c.u32()
	o.At = c.time()
	o.Encoder = c.u8()
	o.Reversal = payment.ReversalReason(c.u8())
	if version == outcomeVersionCard {
		if o.Token = c.id(); o.Token.IsZero() {
			c.broken = true // it has one encoding, another
		}
	}
	if version != outcomeVersion {
		o.Response.Chip = string(c.text())
		if o.Response.Chip == "" && version == outcomeVersionChip {
			c.broken = true
		}
	}
}

// claim is who made the last claim of an owed reversal, so that a claim
// proposed twice counts once.
type claim struct {
	session payment.Session
	number  uint64
}

func appendOwed(b []byte, o *payment.Owed, by claim) []byte {
	version := byte(owedVersion)
	if !o.Operation.IsZero() {
		version = owedOperationVersion
	}
	if o.File != 0 {
		version = owedUploadVersion
	}
	b = append(b, version)
	b = put64(b, o.Seq)
	b = append(b, o.ID[:]...)
	b = append(b, o.Attempt, byte(o.Reason))
	b = putTime(b, o.Since)
	b = putTime(b, o.Due)
	b = put16(b, o.Tries)
	b = put32(b, uint32(o.STAN))
	b = put32(b, uint32(o.Transmitted))
	b = putBool(b, o.Approved)
	b = append(b, o.ApprovalCode[:]...)
	b = putTime(b, o.LifeOver)
	b = putBool(b, o.Exception)
	b = append(b, o.LastCode[:]...)
	b = put64(b, uint64(by.session))
	b = put64(b, by.number)
	b = putText(b, o.Link)
	if version == owedVersion {
		return b
	}
	b = append(b, o.Operation[:]...)
	b = append(b, byte(o.Kind), byte(o.Means))
	b = put16(b, o.MTI)
	b = putAmount(b, o.Amount)
	b = put64(b, uint64(o.Remains))
	b = put16(b, o.Original.MTI)
	b = put32(b, uint32(o.Original.STAN))
	b = put32(b, uint32(o.Original.Transmitted))
	if version == owedUploadVersion {
		b = put64(b, o.File)
	}
	return b
}

func readOwed(c *cursor, o *payment.Owed) (by claim) {
	version := c.u8()
	if version < owedVersion || version > owedUploadVersion {
		c.broken = true
	}
	o.Seq = c.u64()
	o.ID = c.id()
	o.Attempt = c.u8()
	o.Reason = payment.ReversalReason(c.u8())
	o.Since = c.time()
	o.Due = c.time()
	o.Tries = c.u16()
	o.STAN = payment.STAN(c.u32())
	o.Transmitted = payment.Transmitted(c.u32())
	o.Approved = c.flag()
	c.copy(o.ApprovalCode[:])
	o.LifeOver = c.time()
	o.Exception = c.flag()
	c.copy(o.LastCode[:])
	by.session = payment.Session(c.u64())
	by.number = c.u64()
	o.Link = payment.LinkName(c.text())
	if version == owedVersion {
		return by
	}
	o.Operation = c.id()
	o.Kind = payment.OperationKind(c.u8())
	o.Means = payment.OperationMeans(c.u8())
	o.MTI = c.u16()
	o.Amount = c.amount()
	o.Remains = int64(c.u64())
	o.Original = payment.Message{MTI: c.u16(), STAN: payment.STAN(c.u32()), Transmitted: payment.Transmitted(c.u32())}
	if o.File = 0; version == owedUploadVersion {
		o.File = c.u64()
	}
	return by
}
