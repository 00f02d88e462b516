package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"authswitch/payment"
)

// The kinds of what is done to working keys; see Kind.
const (
	KindKeyPut     Kind = 40 // a working key is kept, pending
	KindKeyAdvance Kind = 41 // its next state
	KindKeyRewrap  Kind = 42 // its block under another master key
	KindKeySweep   Kind = 43 // those past their dates are retired
	KindKeyMark    Kind = 44 // every node is told something of it
)

// Limits of working keys.
const (
	maxKeys     = 20_000 // a vault's data keys of fifty years, and some
	maxKeyBlock = 2048   // a block of an AES-256 key is 144 characters without optional blocks
	maxKeyCheck = 8
	// keyGrace is how long after a step of the clock no key expires: an expired
	// key does not come back, and a leader whose clock is wrong is found out by
	// the others in that time.
	keyGrace = payment.Instant(2 * 60 * 1_000_000_000)
)

// keyTable is the working keys in memory: few, read rarely, needed whole.
type keyTable struct {
	byID    map[payment.KeyID]*payment.Key
	last    payment.KeyID
	changed bool // since KeysChanged was asked
}

const (
	keyCommandVersion = 1
	keyRecordVersion  = 1
	keyMarkedVersion  = 2 // of a record with marks, at its end
)

// CheckKey says whether a key can be proposed.
func CheckKey(k *payment.Key) error {
	switch {
	case k.Link == "" || len(k.Link) > maxText:
		return fmt.Errorf("%w: a key without an owner", ErrInvalid)
	case k.Usage == payment.KeyNone || k.Usage >= payment.KeyUsages:
		return fmt.Errorf("%w: a key without usage", ErrInvalid)
	case len(k.Block) == 0 || len(k.Block) > maxKeyBlock:
		return fmt.Errorf("%w: a key block of %d bytes", ErrInvalid, len(k.Block))
	case len(k.CheckValue) < 3 || len(k.CheckValue) > maxKeyCheck:
		return fmt.Errorf("%w: a key check value of %d bytes", ErrInvalid, len(k.CheckValue))
	case len(k.Officers[0]) > maxText || len(k.Officers[1]) > maxText:
		return fmt.Errorf("%w: an officer's name that is too long", ErrInvalid)
	}
	return nil
}

// AppendKeyPut writes a KindKeyPut command: the key becomes pending. The number,
// version, state and times of k are the journal's to give.
func AppendKeyPut(b []byte, k *payment.Key) []byte {
	b = append(b, keyCommandVersion)
	return appendKeyBody(b, k)
}

// AppendKeyAdvance writes a KindKeyAdvance command.
func AppendKeyAdvance(b []byte, a *payment.KeyAdvance) []byte {
	b = append(b, keyCommandVersion)
	b = put32(b, uint32(a.ID))
	b = append(b, byte(a.To))
	b = putTime(b, a.Overlap)
	b = putBool(b, a.RetireActive)
	for _, officer := range a.Officers {
		b = putText(b, officer)
	}
	return b
}

// AppendKeyRewrap writes a KindKeyRewrap command: the block of a key under
// another local master key, if its block is still the one that was rewrapped.
func AppendKeyRewrap(b []byte, id payment.KeyID, was, block []byte, master uint32) []byte {
	digest := sha256.Sum256(was)
	b = append(b, keyCommandVersion)
	b = put32(b, uint32(id))
	b = append(b, digest[:]...)
	b = put32(b, master)
	return putLong(b, block)
}

// AppendKeySweep writes a KindKeySweep command: keys past their dates are
// retired, by the entry's time; a data key goes on opening what it sealed.
func AppendKeySweep(b []byte) []byte { return append(b, keyCommandVersion) }

// appendKeyBody is what a command and a record have in common.
func appendKeyBody(b []byte, k *payment.Key) []byte {
	b = putText(b, k.Link)
	b = append(b, byte(k.Usage))
	b = append(b, k.Letters[:]...)
	b = put16(b, k.Bits)
	b = putText(b, k.CheckValue)
	b = putLong(b, k.Block)
	b = put32(b, k.Master)
	b = putTime(b, k.NotBefore)
	b = putTime(b, k.NotAfter)
	for _, officer := range k.Officers {
		b = putText(b, officer)
	}
	return b
}

func readKeyBody(c *cursor, k *payment.Key) {
	k.Link = payment.LinkName(c.text())
	k.Usage = payment.KeyUsage(c.u8())
	c.copy(k.Letters[:])
	k.Bits = c.u16()
	k.CheckValue = owned(c.text())
	k.Block = owned(c.long())
	k.Master = c.u32()
	k.NotBefore, k.NotAfter = c.time(), c.time()
	for n := range k.Officers {
		k.Officers[n] = string(c.text())
	}
	if k.Usage == payment.KeyNone || k.Usage >= payment.KeyUsages {
		c.broken = true // of a newer binary
	}
}

// appendWorkingKey is c | k | id. A key has one line, written anew at each change: a
// line of each change would go on holding the block of a key that was destroyed
// or rewrapped.
func appendWorkingKey(b []byte, id payment.KeyID) []byte {
	return put32(append(b, tableConfig, configKey), uint32(id))
}

func appendWorkingRecord(b []byte, k *payment.Key) []byte {
	version := byte(keyRecordVersion)
	if k.Marks != 0 {
		version = keyMarkedVersion
	}
	b = append(b, version)
	b = put32(b, k.Version)
	b = append(b, byte(k.State))
	b = putTime(b, k.RetireAt)
	b = putTime(b, k.Created)
	b = putTime(b, k.Changed)
	b = appendKeyBody(b, k)
	if k.Marks != 0 {
		b = append(b, byte(k.Marks))
	}
	return b
}

func readWorkingRecord(key, value []byte) (*payment.Key, error) {
	if len(key) != 6 {
		return nil, ErrCorrupt
	}
	k := &payment.Key{ID: payment.KeyID(binary.BigEndian.Uint32(key[2:]))}
	c := cursor{b: value}
	version := c.u8()
	c.broken = c.broken || version != keyRecordVersion && version != keyMarkedVersion
	k.Version = c.u32()
	k.State = payment.KeyState(c.u8())
	k.RetireAt, k.Created, k.Changed = c.time(), c.time(), c.time()
	readKeyBody(&c, k)
	if version == keyMarkedVersion {
		k.Marks = payment.KeyMarks(c.u8())
	}
	if k.State < payment.KeyPending || k.State > payment.KeyDestroyed {
		return nil, ErrCorrupt
	}
	return k, c.end()
}

// loadKeys reads the working keys. None is ever deleted, so the greatest number
// is the last that was given.
func (m *Machine) loadKeys() error {
	m.working = keyTable{byID: map[payment.KeyID]*payment.Key{}, changed: true}
	from := []byte{tableConfig, configKey}
	var fault error
	err := m.view.state.Scan(from, after(nil, from), false, func(key, value []byte) bool {
		var k *payment.Key
		if k, fault = readWorkingRecord(key, value); fault != nil {
			return false
		}
		m.working.byID[k.ID] = k
		m.working.last = k.ID
		return true
	})
	if err != nil {
		return err
	}
	return fault
}

// keepKey writes a changed key. The record that was handed out stays as it was: a
// ring or a caller may hold it.
func (m *Machine) keepKey(k *payment.Key, r *Result) {
	m.working.byID[k.ID] = k
	m.working.changed = true
	m.keyA = appendWorkingKey(m.keyA[:0], k.ID)
	m.value = appendWorkingRecord(m.value[:0], k)
	m.view.writes.set(m.keyA, m.value)
	r.Key = k
}

func (m *Machine) applyKey(kind Kind, c *cursor, r *Result) error {
	switch kind {
	case KindKeyPut:
		return m.applyKeyPut(c, r)
	case KindKeyAdvance:
		return m.applyKeyAdvance(c, r)
	case KindKeyRewrap:
		return m.applyKeyRewrap(c, r)
	case KindKeySweep:
		return m.applyKeySweep(c, r)
	case KindKeyMark:
		return m.applyKeyMark(c, r)
	}
	return ErrCorrupt
}

func (m *Machine) applyKeyPut(c *cursor, r *Result) error {
	c.version(keyCommandVersion)
	k := &payment.Key{}
	readKeyBody(c, k)
	if err := c.end(); err != nil {
		return err
	}
	for _, id := range m.keyOrder() {
		known := m.working.byID[id]
		if known.State == payment.KeyDestroyed || known.Letters[2] != k.Letters[2] || string(known.CheckValue) != string(k.CheckValue) {
			continue
		}
		r.Key = known
		if string(known.Block) != string(k.Block) || known.Link != k.Link || known.Usage != k.Usage {
			r.Err = payment.ErrKeyKnown
		}
		return nil // else: proposed twice
	}
	switch {
	case len(m.working.byID) >= maxKeys:
		r.Err = payment.ErrKeyLimit
		return nil
	case k.NotAfter != 0 && (k.NotAfter <= m.now || k.NotAfter <= k.NotBefore):
		r.Err = payment.ErrKeyDates
		return nil
	}
	m.working.last++
	k.ID, k.State, k.Version = m.working.last, payment.KeyPending, 1
	k.Created, k.Changed, k.RetireAt = m.now, m.now, 0
	for _, known := range m.working.byID {
		if known.Link == k.Link && known.Usage == k.Usage {
			k.Version = max(k.Version, known.Version+1)
		}
	}
	m.keepKey(k, r)
	return nil
}

func (m *Machine) applyKeyAdvance(c *cursor, r *Result) error {
	c.version(keyCommandVersion)
	a := payment.KeyAdvance{ID: payment.KeyID(c.u32()), To: payment.KeyState(c.u8()), Overlap: c.time(), RetireActive: c.flag()}
	for n := range a.Officers {
		a.Officers[n] = string(c.text())
	}
	if err := c.end(); err != nil {
		return err
	}
	known := m.working.byID[a.ID]
	if known == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	r.Key = known
	switch {
	case known.State == a.To: // proposed twice, or by two: it is so
		return nil
	case !payment.KeyStep(known.State, a.To),
		known.State == payment.KeyActive && a.To == payment.KeyDecryptOnly, // happens when another becomes active
		known.State == payment.KeyActive && !a.RetireActive:
		r.Err = payment.ErrKeyState
	case a.To == payment.KeyActive && (m.now < known.NotBefore || known.NotAfter != 0 && m.now >= known.NotAfter):
		r.Err = payment.ErrKeyDates
	case a.To == payment.KeyActive && known.Usage == payment.KeyBlindIndex && m.hasActive(known):
		// There is one for life: another would find none of what was indexed. Two
		// nodes may both have made the first; one of them wins here.
		r.Err = payment.ErrKeyState
	case a.To == payment.KeyRetired && !a.RetireActive && known.State == payment.KeyDecryptOnly && m.sealedUnder(known):
		r.Err = payment.ErrKeyUsed
	case a.To == payment.KeyActive:
		m.activateKey(known, &a, r)
	default:
		m.moveKey(known, a.To, r)
	}
	return nil
}

func (m *Machine) hasActive(like *payment.Key) bool {
	for _, k := range m.working.byID {
		if k.Link == like.Link && k.Usage == like.Usage && k.State == payment.KeyActive {
			return true
		}
	}
	return false
}

// activateKey makes a key the one of its link and usage; the one before it opens
// and verifies for the overlap.
func (m *Machine) activateKey(known *payment.Key, a *payment.KeyAdvance, r *Result) {
	for _, id := range m.keyOrder() {
		other := m.working.byID[id]
		if other.Link != known.Link || other.Usage != known.Usage || other.State != payment.KeyActive {
			continue
		}
		replaced := *other
		replaced.State, replaced.Changed, replaced.Marks = payment.KeyDecryptOnly, m.now, 0
		if a.Overlap > 0 {
			replaced.RetireAt = m.now + a.Overlap
		}
		m.keepKey(&replaced, r)
	}
	m.moveKey(known, payment.KeyActive, r)
}

func (m *Machine) moveKey(known *payment.Key, to payment.KeyState, r *Result) {
	k := *known
	k.State, k.Changed, k.Marks = to, m.now, 0
	if to == payment.KeyDestroyed {
		k.Block = nil
	}
	m.keepKey(&k, r)
}

func (m *Machine) applyKeyRewrap(c *cursor, r *Result) error {
	c.version(keyCommandVersion)
	id := payment.KeyID(c.u32())
	var was [sha256.Size]byte
	c.copy(was[:])
	master := c.u32()
	block := owned(c.long())
	if err := c.end(); err != nil {
		return err
	}
	known := m.working.byID[id]
	if known == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	r.Key = known
	switch {
	case string(known.Block) == string(block): // proposed twice
		return nil
	case sha256.Sum256(known.Block) != was:
		r.Err = payment.ErrKeyChanged
		return nil
	}
	k := *known
	k.Block, k.Master = block, master
	m.keepKey(&k, r)
	return nil
}

// keyOver says whether a key's time is over: what was not replaced by its end
// is used no more, and what was replaced has had its overlap.
func (m *Machine) keyOver(k *payment.Key, now payment.Instant) bool {
	switch k.State {
	case payment.KeyPending, payment.KeyActive:
		return k.NotAfter != 0 && now >= k.NotAfter
	case payment.KeyDecryptOnly:
		return k.RetireAt != 0 && now >= k.RetireAt
	}
	return false
}

// KeysOver says whether a KeySweep at that moment would find something.
func (m *Machine) KeysOver(now payment.Instant) bool {
	for _, k := range m.working.byID {
		if m.keyOver(k, now) {
			return true
		}
	}
	return false
}

func (m *Machine) applyKeySweep(c *cursor, r *Result) error {
	c.version(keyCommandVersion)
	if err := c.end(); err != nil {
		return err
	}
	if m.now < m.step+keyGrace {
		return nil
	}
	for _, id := range m.keyOrder() {
		k := m.working.byID[id]
		if !m.keyOver(k, m.now) {
			continue
		}
		to := payment.KeyRetired
		if k.Usage == payment.KeyData && k.State == payment.KeyActive {
			to = payment.KeyDecryptOnly // it seals no more; what it sealed is still owed
		}
		m.moveKey(k, to, r)
		r.Count++
	}
	return nil
}

// keyOrder is the numbers of all keys in order: what a command does must not
// depend on the order of a map.
func (m *Machine) keyOrder() []payment.KeyID {
	ids := make([]payment.KeyID, 0, len(m.working.byID))
	for id := range m.working.byID {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// WorkingKeys is every key, by number. The records must not be changed.
func (m *Machine) WorkingKeys() []*payment.Key {
	keys := make([]*payment.Key, 0, len(m.working.byID))
	for _, id := range m.keyOrder() {
		keys = append(keys, m.working.byID[id])
	}
	return keys
}

// KeysChanged says whether a key changed since it was last asked: then there is
// a new ring to make.
func (m *Machine) KeysChanged() bool {
	changed := m.working.changed
	m.working.changed = false
	return changed
}
