package journal

import "authswitch/payment"

const (
	batchVersion       = 1
	lineRefusalVersion = 1
	personVersion      = 1
)

// appendBatch writes a batch as it stands.
func appendBatch(b []byte, x *payment.Batch) []byte {
	b = append(b, batchVersion, byte(x.State), x.Needs)
	b = append(b, x.ID[:]...)
	b = putText(b, x.Merchant)
	b = putText(b, x.Gateway)
	b = putText(b, x.Key)
	b = append(b, x.Fingerprint[:]...)
	b = putText(b, x.Name)
	b = putText(b, x.Tag)
	b = append(b, byte(len(x.Releases)))
	for i := range x.Releases {
		r := &x.Releases[i]
		b = putTime(putBool(putText(b, r.Who), r.Operator), r.At)
	}
	b = append(b, byte(len(x.Totals)))
	for _, t := range x.Totals {
		b = putAmount(b, t)
	}
	b = append(b, byte(len(x.Lanes)))
	for i := range x.Lanes {
		l := &x.Lanes[i]
		b = put16(put32(put32(putText(b, l.Link), l.Chunks), l.Next), l.At)
	}
	for _, n := range [...]uint32{x.Lines, x.Loaded, x.Written, x.Started, x.Refused, x.Done, x.Declined, x.Failed, x.Exceptions} {
		b = put32(b, n)
	}
	for _, t := range [...]payment.Instant{x.CreatedAt, x.ReleasedAt, x.EndedAt} {
		b = putTime(b, t)
	}
	return putText(b, x.CancelledBy)
}

func readBatch(c *cursor, x *payment.Batch) {
	c.version(batchVersion)
	x.State, x.Needs = payment.BatchState(c.u8()), c.u8()
	x.ID = c.id()
	x.Merchant, x.Gateway = payment.MerchantID(c.text()), payment.GatewayID(c.text())
	x.Key = owned(c.text())
	c.copy(x.Fingerprint[:])
	x.Name, x.Tag = owned(c.text()), owned(c.text())
	for range c.u8() {
		x.Releases = append(x.Releases, payment.Release{Who: string(c.text()), Operator: c.flag(), At: c.time()})
	}
	for range c.u8() {
		x.Totals = append(x.Totals, c.amount())
	}
	for range c.u8() {
		x.Lanes = append(x.Lanes, payment.BatchLane{Link: payment.LinkName(c.text()), Chunks: c.u32(), Next: c.u32(), At: c.u16()})
	}
	for _, n := range [...]*uint32{&x.Lines, &x.Loaded, &x.Written, &x.Started, &x.Refused, &x.Done, &x.Declined, &x.Failed, &x.Exceptions} {
		*n = c.u32()
	}
	for _, t := range [...]*payment.Instant{&x.CreatedAt, &x.ReleasedAt, &x.EndedAt} {
		*t = c.time()
	}
	x.CancelledBy = string(c.text())
}

func appendLineRefusalKey(b []byte, id payment.ID, line uint32) []byte {
	return put32(append(append(b, tableLineRefusals), id[:]...), line)
}

func appendLineRefusal(b []byte, r payment.LineRefusal) []byte {
	return put64(append(b, lineRefusalVersion, byte(r.Why)), uint64(r.Left))
}

func readLineRefusal(c *cursor) payment.LineRefusal {
	c.version(lineRefusalVersion)
	return payment.LineRefusal{Why: payment.OperationRefusal(c.u8()), Left: int64(c.u64())}
}

func appendPerson(b []byte, p *payment.Person) []byte {
	b = append(b, personVersion)
	b = putText(b, p.Name)
	b = putLong(b, p.Hash)
	b = putBool(b, p.Removed)
	b = append(b, byte(len(p.Events)))
	for i := range p.Events {
		e := &p.Events[i]
		b = putTime(putText(putText(putBool(b, e.Removed), e.By), e.Reason), e.At)
	}
	return b
}

func readPerson(c *cursor, p *payment.Person) {
	c.version(personVersion)
	p.Name, p.Hash, p.Removed = string(c.text()), owned(c.long()), c.flag()
	for range c.u8() {
		p.Events = append(p.Events, payment.PersonEvent{Removed: c.flag(), By: string(c.text()), Reason: string(c.text()), At: c.time()})
	}
}
