package journal

import "authswitch/payment"

const (
	operationVersion = 1
	// One that is a batch's line says so at its end.
	operationBatchVersion = 2
	// One that is a line of a clearing file says of which, and of which refund
	// batch it is a line, if of any.
	operationFileVersion = 3
)

// appendOperation writes an operation as it stands.
func appendOperation(b []byte, o *payment.Operation) []byte {
	version := byte(operationVersion)
	switch {
	case o.File != 0:
		version = operationFileVersion
	case !o.Batch.IsZero():
		version = operationBatchVersion
	}
	b = append(b, version, byte(o.Kind), byte(o.State), byte(o.Means))
	b = append(b, o.ID[:]...)
	b = append(b, o.Payment[:]...)
	b = append(b, o.Parent[:]...)
	b = append(b, o.Fingerprint[:]...)
	b = putAmount(b, o.Amount)
	b = put64(b, uint64(o.Refunded))
	b = append(b, operationFlags(o), byte(o.Reason))
	b = put16(b, o.MTI)
	b = append(b, o.Attempt)
	b = put64(b, o.Seq)
	b = put32(b, uint32(o.STAN))
	b = put32(b, uint32(o.Transmitted))
	b = putTime(b, o.CreatedAt)
	b = putTime(b, o.DecidedAt)
	b = putText(b, o.Merchant)
	b = putText(b, o.Gateway)
	b = putText(b, o.Key)
	b = putText(b, o.Text)
	b = putText(b, o.Link)
	answered := o.Response != payment.Response{}
	b = putBool(b, answered)
	if answered {
		b = appendResponse(b, &o.Response)
	}
	if version >= operationBatchVersion {
		b = append(b, o.Batch[:]...)
		b = put32(b, o.Line)
		b = append(b, byte(o.Tallied))
	}
	if version == operationFileVersion {
		b = put32(put64(b, o.File), o.FileLine)
	}
	return b
}

const (
	flagLast = 1 << iota
	flagAutomatic
	flagReversible
	operationFlagsEnd
)

func operationFlags(o *payment.Operation) byte {
	var f byte
	if o.Last {
		f |= flagLast
	}
	if o.Automatic {
		f |= flagAutomatic
	}
	if o.Reversible {
		f |= flagReversible
	}
	return f
}

// readOperation reads what appendOperation wrote, into memory of its own.
func readOperation(c *cursor, o *payment.Operation) {
	version := c.u8()
	if version < operationVersion || version > operationFileVersion {
		c.broken = true
	}
	o.Kind = payment.OperationKind(c.u8())
	o.State = payment.OperationState(c.u8())
	o.Means = payment.OperationMeans(c.u8())
	o.ID, o.Payment, o.Parent = c.id(), c.id(), c.id()
	c.copy(o.Fingerprint[:])
	o.Amount = c.amount()
	o.Refunded = int64(c.u64())
	f := c.u8()
	if f >= operationFlagsEnd {
		c.broken = true
	}
	o.Last, o.Automatic, o.Reversible = f&flagLast != 0, f&flagAutomatic != 0, f&flagReversible != 0
	o.Reason = payment.ReversalReason(c.u8())
	o.MTI = c.u16()
	o.Attempt = c.u8()
	o.Seq = c.u64()
	o.STAN = payment.STAN(c.u32())
	o.Transmitted = payment.Transmitted(c.u32())
	o.CreatedAt, o.DecidedAt = c.time(), c.time()
	o.Merchant = payment.MerchantID(c.text())
	o.Gateway = payment.GatewayID(c.text())
	o.Key, o.Text = owned(c.text()), owned(c.text())
	o.Link = payment.LinkName(c.text())
	o.Response = payment.Response{}
	if c.flag() {
		readResponse(c, &o.Response)
	}
	o.Batch, o.Line, o.Tallied = payment.ID{}, 0, 0
	o.File, o.FileLine = 0, 0
	if version >= operationBatchVersion {
		o.Batch, o.Line = c.id(), c.u32()
		o.Tallied = payment.OperationState(c.u8())
		if o.Batch.IsZero() && version == operationBatchVersion {
			c.broken = true // it has one encoding, another
		}
	}
	if version == operationFileVersion {
		if o.File, o.FileLine = c.u64(), c.u32(); o.File == 0 {
			c.broken = true // it has one encoding, another
		}
	}
}

// An operation's record says where its newest line stands.
const pointerVersion = 1

func appendPointer(b []byte, id payment.ID, line uint32) []byte {
	b = append(b, pointerVersion)
	b = append(b, id[:]...)
	return put32(b, line)
}

func readPointer(c *cursor) (id payment.ID, line uint32) {
	c.version(pointerVersion)
	return c.id(), c.u32()
}

// operation reads an operation as it stands; false when there is none.
func (m *Machine) operation(id payment.ID, o *payment.Operation) bool {
	m.keyA = appendOperationKey(m.keyA[:0], id)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return false
	}
	c := cursor{b: value}
	paymentID, line := readPointer(&c)
	m.view.fail(c.end())
	m.keyA = appendLineKey(m.keyA[:0], paymentID, line)
	value, found = m.view.get(m.value[:0], m.keyA)
	m.value = value
	c = cursor{b: value}
	var discard life
	if !found || readLine(&c, &discard).kind != payment.EntryOperation {
		m.view.fail(ErrCorrupt)
		return false
	}
	readOperation(&c, o)
	m.view.fail(c.end())
	return true
}

// writeOperation adds a line with an operation as it now stands.
func (m *Machine) writeOperation(l *life, o *payment.Operation) {
	if o.State.Over() && o.DecidedAt == 0 {
		o.DecidedAt = m.now
		m.decided = append(m.decided, o.ID)
		if o.Means == payment.MeansUpload && o.State != payment.OperationWithdrawn {
			m.uploadOver(o)
		}
	}
	m.tally(o)
	m.body = appendOperation(m.body[:0], o)
	m.write(l, payment.EntryOperation, payment.EventApproved, m.body)
	m.keyA = appendOperationKey(m.keyA[:0], o.ID)
	m.value = appendPointer(m.value[:0], l.id, l.lines-1)
	m.view.writes.set(m.keyA, m.value)
}

// AppendOperate writes a KindOperate command: an operation that a gateway asks
// for. An amount of zero is all that there is.
func AppendOperate(b []byte, o *payment.Operation) []byte { return appendOperation(b, o) }
