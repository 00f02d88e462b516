package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"authswitch/payment"
)

// A state that comes from a backup does not know what happened after it. Until
// an operator says so, lane by lane, nothing new is opened in it and nothing of
// its outbox is sent: what was answered before the backup is still answered.
//
//	F    released lanes, by name

const (
	tableFence   = 'F'
	fenceVersion = 1
	// EveryLane releases all that is fenced.
	EveryLane payment.LinkName = "*"
)

type fence struct {
	on       bool
	released map[string]bool
}

func (f *fence) holds(link string) bool { return f.on && !f.released[link] }

// fencesOperation says whether nothing may be done about a payment: it may have
// been done after the backup. What a restored state does not know at all may
// have been made after it, so nothing is called unknown before the last lane is
// released.
func (m *Machine) fencesOperation(l *life) bool {
	return m.at(versionMarks) && (l == nil && m.fence.on || l != nil && m.fence.holds(l.link))
}

// AppendRelease writes a KindRelease command.
func AppendRelease(b []byte, lane payment.LinkName) []byte {
	return putText(append(b, commandVersion), lane)
}

// applyRelease lets a lane go, or all of them.
func (m *Machine) applyRelease(c *cursor, r *Result) error {
	c.version(commandVersion)
	lane := string(c.text())
	if err := c.end(); err != nil {
		return err
	}
	switch {
	case !m.fence.on:
	case lane == string(EveryLane):
		m.fence = fence{}
		m.view.writes.delete([]byte{tableFence})
		r.Count = 1
	default:
		if m.fence.released == nil {
			m.fence.released = map[string]bool{}
		}
		m.fence.released[lane] = true
		m.view.writes.set([]byte{tableFence}, m.fence.append(nil))
		r.Count = 1
	}
	return nil
}

func (f *fence) append(b []byte) []byte {
	b = put16(append(b, fenceVersion), uint16(len(f.released)))
	for _, lane := range slices.Sorted(maps.Keys(f.released)) {
		b = putText(b, lane)
	}
	return b
}

func (m *Machine) loadFence() error {
	value, found, err := m.view.state.Get(nil, []byte{tableFence})
	if err != nil || !found {
		return err
	}
	m.fence.on, m.fence.released = true, map[string]bool{}
	c := cursor{b: value}
	c.version(fenceVersion)
	for range c.u16() {
		m.fence.released[string(c.text())] = true
	}
	return c.end()
}

// Fenced says whether this state came from a backup that nobody has released
// whole, and which lanes were.
func (m *Machine) Fenced() (on bool, released []payment.LinkName) {
	for lane := range m.fence.released {
		released = append(released, payment.LinkName(lane))
	}
	slices.Sort(released)
	return m.fence.on, released
}

// The jumps are past anything that could have been used since the backup was
// taken: half of what the six digits of a STAN, and of a reference number's
// counter, go round in.
const (
	jumpRanges = leaseRanges / 2
	jumpRRN    = 500_000
)

// Fence makes a restored state one that starts fenced: its sessions are nobody's
// any more, and its numbers jump.
func Fence(state Reader, b Batch) error {
	m := New(state)
	if err := m.Load(); err != nil {
		return err
	}
	for node := range m.nodes {
		if err := b.Delete(appendSessionKey(nil, node)); err != nil {
			return err
		}
	}
	for link, n := range m.numbers {
		n.held = nil
		n.next = (n.next + jumpRanges) % leaseRanges
		n.rrn += jumpRRN
		if err := b.Set(appendNumbersKey(nil, link), n.append(nil)); err != nil {
			return err
		}
	}
	for link := range m.shares {
		if err := b.Delete(appendSharesKey(nil, link)); err != nil {
			return err
		}
	}
	// Nobody older is a member of the new cluster, and the fence is this
	// version's. Nor does anybody of it have a log yet.
	if m.version < NewestVersion {
		m.version = NewestVersion
	}
	if err := b.DeleteRange([]byte{tableMarks}, []byte{tableMarks + 1}); err != nil {
		return err
	}
	if err := b.Set([]byte{tableFence}, (&fence{}).append(nil)); err != nil {
		return err
	}
	return m.Flush(m.applied, b)
}

// Summary is what an operator wants to know of a state.
type Summary struct {
	Applied    uint64          `json:"applied_index"`
	At         payment.Instant `json:"newest_entry"`
	Open       int             `json:"open"`
	Owed       int             `json:"owed"`
	Exceptions int             `json:"exceptions"`
	Payments   int             `json:"payments"`
	Sessions   payment.Session `json:"sessions_begun"`
	Fenced     bool            `json:"fenced"`
	Version    Version         `json:"version"`
	Records    int             `json:"records"`
	// SHA256 is over every key and value in their order, before a restore fences
	// the state: the same in save, inspect and restore.
	SHA256 string `json:"sha256"`
	// Lanes are the links that the state knows, by name: what a restore fences.
	Lanes []payment.LinkName `json:"lanes"`
}

// Summarize reads a whole state: every payment's lines are decoded on the way,
// so that a summary is a proof that they can be.
func Summarize(state Reader) (Summary, error) {
	m := New(state)
	if err := m.Load(); err != nil {
		return Summary{}, err
	}
	s := Summary{Applied: m.applied, At: m.now, Open: len(m.open), Sessions: m.last, Fenced: m.fence.on, Version: m.version}
	for _, lane := range m.lanes {
		s.Owed += len(lane.owed)
		s.Exceptions += lane.exceptions
	}
	for link := range m.numbers {
		if link != everyLink {
			s.Lanes = append(s.Lanes, payment.LinkName(link))
		}
	}
	slices.Sort(s.Lanes)
	if err := s.hash(state); err != nil {
		return s, err
	}
	err := m.table(tableLines, func(key, value []byte) error {
		if lineOf(key) == 0 {
			s.Payments++
		}
		_, err := decodeEntry(value)
		return err
	})
	return s, err
}

// hash reads all there is.
func (s *Summary) hash(state Reader) error {
	h := sha256.New()
	var length []byte
	err := state.Scan([]byte{0}, []byte{0xFF}, false, func(key, value []byte) bool {
		s.Records++
		length = put32(put32(length[:0], uint32(len(key))), uint32(len(value)))
		for _, part := range [...][]byte{length, key, value} {
			_, _ = h.Write(part) // a hash never fails
		}
		return true
	})
	s.SHA256 = hex.EncodeToString(h.Sum(nil))
	return err
}

// AppendForgetNode writes a KindForgetNode command: a node that left, or whose
// disk was wiped, begins anew.
func AppendForgetNode(b []byte, node payment.NodeID) []byte {
	return putText(append(b, commandVersion), node)
}

// applyForgetNode ends a node's session and forgets that it ever had one.
func (m *Machine) applyForgetNode(c *cursor, r *Result) error {
	c.version(commandVersion)
	node := string(c.text())
	if err := c.end(); err != nil {
		return err
	}
	m.forgetMark(payment.NodeID(node))
	s, known := m.nodes[node]
	if !known {
		return nil
	}
	r.Count = m.endSession(s)
	delete(m.nodes, node)
	delete(m.begun, node)
	m.view.writes.delete(appendSessionKey(nil, node))
	return nil
}
