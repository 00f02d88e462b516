package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"authswitch/payment"
)

// Stored cards and the data keys they are sealed under: how many there are is
// counted with every change, so that a key is never given up while a card needs
// it, and nobody has to look at all cards to know.

const cardResealVersion = 1

// MaxReseals bounds the cards of one command.
const MaxReseals = 64

// maxEnvelope bounds one envelope of a reseal.
const maxEnvelope = 256

// CheckCardReseals says whether cards can be proposed.
func CheckCardReseals(list []payment.CardReseal) error {
	if len(list) == 0 || len(list) > MaxReseals {
		return fmt.Errorf("%w: %d cards to seal anew", ErrInvalid, len(list))
	}
	for i := range list {
		if x := &list[i]; len(x.Was) == 0 || len(x.Sealed) == 0 || len(x.Sealed) > maxEnvelope {
			return fmt.Errorf("%w: a card without its envelopes", ErrInvalid)
		}
	}
	return nil
}

// AppendCardReseals writes a KindCardReseal command.
func AppendCardReseals(b []byte, list []payment.CardReseal) []byte {
	b = append(b, cardResealVersion, byte(len(list)))
	for i := range list {
		digest := sha256.Sum256(list[i].Was)
		b = append(b, list[i].Token[:]...)
		b = append(b, digest[:]...)
		b = putLong(b, list[i].Sealed)
	}
	return b
}

// applyCardReseal gives cards another envelope, those whose envelope is still
// the one that was opened. For merchants nothing has changed.
func (m *Machine) applyCardReseal(c *cursor, r *Result) error {
	c.version(cardResealVersion)
	type change struct {
		token  payment.ID
		was    [sha256.Size]byte
		sealed []byte
	}
	list := make([]change, c.u8())
	for i := range list {
		list[i].token = c.id()
		c.copy(list[i].was[:])
		list[i].sealed = owned(c.long())
	}
	if err := c.end(); err != nil {
		return err
	}
	for i := range list {
		var k payment.StoredCard
		if !m.card(list[i].token, &k) || k.Status == payment.CardDeleted || sha256.Sum256(k.Sealed) != list[i].was {
			continue
		}
		k.Sealed, k.SealedFor = list[i].sealed, k.Token
		m.writeCard(&k)
		r.Count++
	}
	return nil
}

// writeCard writes a card's record, and counts it under its data key.
func (m *Machine) writeCard(k *payment.StoredCard) {
	var was payment.KeyID
	m.keyA = appendCardKey(m.keyA[:0], k.Token)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if found && len(value) > 0 && counted(value[0]) {
		var before payment.StoredCard
		c := cursor{b: value}
		readCard(&c, &before)
		m.view.fail(c.end())
		was = payment.SealedUnder(before.Sealed)
	}
	if now := payment.SealedUnder(k.Sealed); now != was {
		m.countCard(was, -1)
		m.countCard(now, 1)
	}
	m.keyA = appendCardKey(m.keyA[:0], k.Token)
	m.value = appendCard(m.value[:0], k)
	m.view.writes.set(m.keyA, m.value)
}

func appendCardKeyKey(b []byte, id payment.KeyID) []byte {
	return put32(append(b, tableCardKeys), uint32(id))
}

func (m *Machine) countCard(id payment.KeyID, step int64) {
	if id == 0 {
		return
	}
	n := int64(m.cardsUnder(id)) + step
	if n < 0 {
		m.view.fail(ErrCorrupt)
		return
	}
	m.keyA = appendCardKeyKey(m.keyA[:0], id)
	if n == 0 {
		m.view.writes.delete(m.keyA)
		return
	}
	m.value = put64(m.value[:0], uint64(n))
	m.view.writes.set(m.keyA, m.value)
}

func (m *Machine) cardsUnder(id payment.KeyID) uint64 {
	m.keyA = appendCardKeyKey(m.keyA[:0], id)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return 0
	}
	c := cursor{b: value}
	n := c.u64()
	m.view.fail(c.end())
	return n
}

// sealedGrace is how long after a data key was replaced a node may have gone on
// sealing under it: it has not heard yet, or its clock is off.
const sealedGrace = payment.Instant(60 * 60 * 1_000_000_000)

// sealedUnder says whether a data key is needed: by a stored card, or by a
// payment that is open or owed and was begun before the key was out of use.
func (m *Machine) sealedUnder(k *payment.Key) bool {
	if k.Usage != payment.KeyData {
		return false
	}
	if m.cardsUnder(k.ID) > 0 {
		return true
	}
	until := k.Changed + sealedGrace
	for id := range m.open {
		if begunAt(id) <= until {
			return true
		}
	}
	for _, l := range m.lanes {
		for _, o := range l.owed {
			if begunAt(o.ID) <= until {
				return true
			}
		}
	}
	return false
}

// begunAt is the moment in a payment's id: milliseconds, then what tells those
// of one millisecond apart.
func begunAt(id payment.ID) payment.Instant {
	const millisecond = 1_000_000
	return payment.Instant(binary.BigEndian.Uint64(id[:])>>16) * millisecond
}

// ReadCardKeys says how many stored cards are sealed under which data key.
func ReadCardKeys(r Reader) (map[payment.KeyID]uint64, error) {
	out := map[payment.KeyID]uint64{}
	var fault error
	err := r.Scan([]byte{tableCardKeys}, []byte{tableCardKeys + 1}, false, func(key, value []byte) bool {
		k, v := cursor{b: key[1:]}, cursor{b: value}
		out[payment.KeyID(k.u32())] = v.u64()
		if k.end() != nil || v.end() != nil {
			fault = ErrCorrupt
		}
		return fault == nil
	})
	if err == nil {
		err = fault
	}
	return out, err
}

// ReadCards appends up to limit stored cards behind a token, in the order of
// tokens.
func ReadCards(r Reader, dst []payment.StoredCard, behind payment.ID, limit int) ([]payment.StoredCard, error) {
	var fault error
	from := append(appendCardKey(nil, behind), 0)
	err := r.Scan(from, []byte{tableCards + 1}, false, func(_, value []byte) bool {
		var k payment.StoredCard
		c := cursor{b: value}
		readCard(&c, &k)
		if fault = c.end(); fault != nil {
			return false
		}
		dst = append(dst, k)
		limit--
		return limit > 0
	})
	if err == nil {
		err = fault
	}
	return dst, err
}
