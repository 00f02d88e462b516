package simulation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"authswitch/journal"
	"authswitch/payment"
)

// What must hold of clearing files and batch uploads (U): a batch that is closed
// does not change; each line stands in one batch, reaches its acquirer once, and
// not before its day is over; the totals are what the acquirer has, and it takes a
// lie of the acquirer's to end out of balance.

// Tables of closed batches, by the first byte of their keys.
const (
	fileBatches   = 'D'
	uploadBatches = 'G'
)

type batchKey struct {
	link   payment.LinkName
	means  payment.OperationMeans
	number uint64
}

// closed is a batch as the checker has it.
type closed struct {
	b     payment.ClearingBatch
	lines []payment.ClearingLine
}

// claimedTotals is a transmission of totals that may leave.
type claimedTotals struct {
	batch batchKey
	group uint16
	tries map[payment.Transmitted]uint16
	first bool
}

// batchOf names the closed batch that a key is of.
func (c *checks) batchOf(key []byte) (batchKey, bool) {
	k := batchKey{means: payment.MeansFile, number: binary.BigEndian.Uint64(key[len(key)-8:])}
	if key[0] == uploadBatches {
		k.means = payment.MeansUpload
	}
	for i := range c.w.hosts {
		if bytes.Contains(key, []byte(linkName(i))) {
			k.link = linkName(i)
		}
	}
	return k, k.number > 0
}

// collected judges a batch that an entry changed.
func (c *checks) collected(k batchKey) {
	b, err := journal.ReadClearingBatch(c.disk, k.means, k.link, k.number)
	if err != nil {
		c.fail("N", "batch %+v: %v", k, err)
		return
	}
	x := c.closed[k]
	if x == nil {
		if x = c.close(k, &b); x == nil {
			return
		}
	}
	before := x.b
	x.b = b
	if b.Lines != before.Lines || b.Next != before.Next || b.ClosedAt != before.ClosedAt || b.ClosedBy != before.ClosedBy {
		c.fail("U", "batch %+v was %+v and is %+v", k, before, b)
	}
	if b.State != before.State {
		c.cover.batches[boolean(k.means == payment.MeansUpload)][b.State]++
		c.w.tracef("        journal: batch %d of %s by %s is %s", k.number, k.link, k.means, b.State)
	}
	c.totalsClaimed(k, &b)
	if before.State == b.State {
		return
	}
	switch {
	case over(before.State):
		c.fail("flip", "batch %+v was %s and is %s", k, before.State, b.State)
	case k.means == payment.MeansFile && b.State != payment.ClearingClosed:
		if f := c.files[fmt.Sprintf("%s-%06d.csv", k.link, k.number)]; f == nil || sha256.Sum256(f) != b.SHA256 {
			c.fail("U", "batch %+v is %s, and no such file was written", k, b.State)
		}
	}
	for _, l := range x.lines {
		o := &c.ops[l.Operation].op
		switch {
		case k.means == payment.MeansFile && b.State == payment.ClearingSettled && o.State != payment.OperationDone,
			k.means == payment.MeansUpload && b.State != payment.ClearingClosed && !o.State.Over():
			c.fail("U", "batch %+v is %s, and its line %d is %s", k, b.State, l.Line, o.State)
		}
	}
	c.balanced(k, &b)
}

func over(s payment.ClearingState) bool {
	return s == payment.ClearingSettled || s == payment.ClearingUnbalanced
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// close takes in a batch that was closed: its lines are what they ever will be.
func (c *checks) close(k batchKey, b *payment.ClearingBatch) *closed {
	lines, err := journal.ReadClearingLines(c.disk, k.means, k.link, k.number, 0, 10_000)
	if err != nil || len(lines) != int(b.Lines) || b.Lines == 0 {
		c.fail("U", "batch %+v has %d lines, and %d are there: %v", k, b.Lines, len(lines), err)
		return nil
	}
	x := &closed{b: *b, lines: lines}
	x.b.State = payment.ClearingOpen
	c.closed[k] = x
	for _, l := range lines {
		y := c.ops[l.Operation]
		if y == nil || y.op.Means != k.means || y.op.Link != k.link || y.op.File != k.number || y.op.FileLine != l.Line || y.op.State == payment.OperationWithdrawn {
			c.fail("U", "line %d of batch %+v is not its operation's, %+v", l.Line, k, y)
		}
		if other, twice := c.batched[l.Operation]; twice {
			c.fail("U", "%s is in batch %+v and in %+v", l.Operation, other, k)
		}
		c.batched[l.Operation] = k
	}
	return x
}

// totalsClaimed notes who may send totals.
func (c *checks) totalsClaimed(k batchKey, b *payment.ClearingBatch) {
	u := &b.Upload
	if u.Tries == 0 {
		return
	}
	w := wireKey{k.link, u.STAN.String()}
	x := c.totals[w]
	if x == nil {
		if u.Tries > 1 {
			c.fail("U", "totals of batch %+v are sent again under another STAN", k)
		}
		x = &claimedTotals{batch: k, group: u.Group, tries: map[payment.Transmitted]uint16{}}
		c.totals[w] = x
	}
	if x.batch != k || x.group != u.Group {
		c.fail("I14", "STAN %s on %s is of the totals of %+v and of %+v", u.STAN, k.link, x.batch, k)
	}
	x.tries[u.Transmitted] = u.Tries
}

// balanced: what a batch ends as is what its acquirer said.
func (c *checks) balanced(k batchKey, b *payment.ClearingBatch) {
	if k.means != payment.MeansUpload || !over(b.State) {
		return
	}
	name := agreement{k.link, fmt.Sprintf("%06d", k.number), "TERM0001"}
	switch {
	case b.State == payment.ClearingSettled && !c.agreed[name]:
		c.fail("U", "batch %+v is settled; its acquirer never agreed", k)
	case b.State == payment.ClearingUnbalanced && !c.lied[name]:
		c.fail("U", "batch %+v is out of balance; its acquirer never said so", k)
	}
}

// totalsLeave is the message about an upload at the moment when the kernel gets it.
func (c *checks) totalsLeave(k wireKey, m *message) {
	x := c.totals[k]
	if x == nil || m.fields[60] != fmt.Sprintf("%06d", x.batch.number) {
		c.fail("I7", "totals of batch %s with STAN %s leave on %s without a claim", m.fields[60], k.stan, k.link)
		return
	}
	c.numbered(k, payment.ID{0xFF})
	tries := uint16(0)
	for t, n := range x.tries {
		if t.String() == m.fields[7] {
			tries = n
		}
	}
	switch {
	case tries == 0:
		c.fail("I7", "totals with STAN %s leave on %s at %s, which nobody claimed", k.stan, k.link, m.fields[7])
	case m.mti == "0520" && x.first, m.mti == "0521" && tries == 1:
		c.fail("U", "totals with STAN %s on %s leave as %s, transmission %d", k.stan, k.link, m.mti, tries)
	}
	x.first = x.first || m.mti == "0520"
}

// lineLeaves is a line of an upload at that moment.
func (c *checks) lineLeaves(o *payment.Operation, m *message) {
	i := &c.newest[o.Payment].intent
	k := batchKey{o.Link, payment.MeansUpload, o.File}
	switch {
	case o.Means != payment.MeansUpload || c.closed[k] == nil:
		c.fail("U", "the %s %s leaves as a line, and its batch %d is not closed", o.Kind, o.ID, o.File)
	case m.fields[60] != fmt.Sprintf("%06d", o.File):
		c.fail("U", "the %s %s leaves as a line of batch %s, not %d", o.Kind, o.ID, m.fields[60], o.File)
	case !strings.HasPrefix(m.fields[90], fmt.Sprintf("%04X%s%s%011s", i.MTI, i.STAN, i.Transmitted, i.Terms.Acquirer)):
		c.fail("U", "the %s %s names %s", o.Kind, o.ID, m.fields[90])
	}
}

// filed is a file that is durable on a node: its acquirer has it.
func (c *checks) filed(n *node, name string, text []byte) {
	c.w.tracef("%s writes %s", n.id, name)
	if before, again := c.files[name]; again {
		if !bytes.Equal(before, text) {
			c.fail("U", "%s writes %s otherwise than before:\n%s\n%s", n.id, name, before, text)
		}
		return
	}
	c.files[name] = bytes.Clone(text)
	link, number, _ := strings.Cut(strings.TrimSuffix(name, ".csv"), "-0")
	k := batchKey{link: payment.LinkName(link), means: payment.MeansFile}
	_, _ = fmt.Sscanf("0"+number, "%d", &k.number)
	lines, err := details(text)
	x := c.closed[k]
	if err != nil || x == nil || len(lines) != len(x.lines) {
		c.fail("U", "%s of %d lines: %v, batch %+v", name, len(lines), err, x)
		return
	}
	for i, l := range lines {
		o := &c.ops[x.lines[i].Operation].op
		if l.op != o.ID || l.amount != o.Amount.Value || l.kind != o.Kind.String() || l.rrn != c.attempt[attemptKey{o.Payment, 1}].intent.RRN.String() {
			c.fail("U", "line %d of %s is %+v, and should be the %s %s of %d", i+1, name, l, o.Kind, o.ID, o.Amount.Value)
		}
	}
	c.w.hosts[c.linkIndex(k.link)].take(lines)
}
