package journal

import "authswitch/payment"

// A card that a group of merchants shares has a scope, and so has its change:
// version 2 of both; without, they are written as 1.
const (
	cardVersion      = 1
	cardScopeVersion = 2
	// Records of versions 1 and 2 are of cards that are not counted under their
	// data key; 3 and 4 have the same forms, and are.
	cardCounted = 2
)

func appendCard(b []byte, k *payment.StoredCard) []byte {
	b = append(b, scopeVersion(k.Scope)+cardCounted, byte(k.Status), byte(k.Scheme))
	b = append(b, k.Token[:]...)
	b = append(b, k.SealedFor[:]...)
	b = append(b, k.BlindIndex[:]...)
	b = append(b, k.Last4[:]...)
	b = append(b, k.Expiry[:]...)
	b = append(b, k.NetworkID[:]...)
	b = putTime(b, k.CreatedAt)
	b = putTime(b, k.ChangedAt)
	b = putText(b, k.Merchant)
	b = putText(b, k.BIN)
	b = putText(b, k.Holder)
	b = putLong(b, k.Sealed)
	if k.Scope != "" {
		b = putText(b, k.Scope)
	}
	return b
}

func scopeVersion(scope string) byte {
	if scope != "" {
		return cardScopeVersion
	}
	return cardVersion
}

// scoped reads a version and says whether a scope comes at the end.
func (c *cursor) scoped() bool {
	version := c.u8()
	if version != cardVersion && version != cardScopeVersion {
		c.broken = true
	}
	return version == cardScopeVersion
}

// record reads the version of a record, and says whether a scope comes at the
// end.
func (c *cursor) record() bool {
	version := c.u8()
	if counted(version) {
		version -= cardCounted
	}
	if version != cardVersion && version != cardScopeVersion {
		c.broken = true
	}
	return version == cardScopeVersion
}

// counted says whether a record of a version is of a card that is counted.
func counted(version byte) bool { return version > cardCounted }

// scope reads one: it is not empty, or it would not be there.
func (c *cursor) scope() string {
	text := string(c.text())
	c.broken = c.broken || text == ""
	return text
}

// scopeOf is whose cards one number has one token among.
func scopeOf(merchant payment.MerchantID, scope string) string {
	if scope != "" {
		return scope
	}
	return string(merchant)
}

func readCard(c *cursor, k *payment.StoredCard) {
	scoped := c.record()
	k.Status = payment.CardStatus(c.u8())
	k.Scheme = payment.Scheme(c.u8())
	k.Token, k.SealedFor = c.id(), c.id()
	c.copy(k.BlindIndex[:])
	c.copy(k.Last4[:])
	c.copy(k.Expiry[:])
	c.copy(k.NetworkID[:])
	k.CreatedAt, k.ChangedAt = c.time(), c.time()
	k.Merchant = payment.MerchantID(c.text())
	k.BIN, k.Holder = owned(c.text()), owned(c.text())
	k.Sealed = owned(c.long())
	if scoped {
		k.Scope = c.scope()
	}
}

func appendCardKey(b []byte, token payment.ID) []byte {
	return append(append(b, tableCards), token[:]...)
}

func appendCardIndexKey(b []byte, scope string, index *[32]byte) []byte {
	return append(putText(append(b, tableCardIndex), scope), index[:]...)
}

func (m *Machine) card(token payment.ID, k *payment.StoredCard) bool {
	m.keyA = appendCardKey(m.keyA[:0], token)
	return m.record(func(c *cursor) { readCard(c, k) })
}

// record reads what stands under keyA; false where nothing does.
func (m *Machine) record(read func(*cursor)) bool {
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found {
		return false
	}
	c := cursor{b: value}
	read(&c)
	m.view.fail(c.end())
	return true
}

func (m *Machine) setCard(k *payment.StoredCard) {
	k.ChangedAt = m.now
	m.writeCard(k)
}

// saveCard keeps the card of a payment that is approved in this command, and
// returns its token. A card number has one token among a merchant's cards, or its group's: one that is saved
// again keeps it, with the envelope and expiry that were given last.
func (m *Machine) saveCard(l *life, o *payment.Outcome) payment.ID {
	m.keyA = appendLineKey(m.keyA[:0], l.id, l.intentAt)
	value, found := m.view.get(m.value[:0], m.keyA)
	m.value = value
	c := cursor{b: value}
	var discard life
	if !found || readLine(&c, &discard).kind != payment.EntryIntent {
		m.view.fail(ErrCorrupt)
		return payment.ID{}
	}
	var i payment.Intent
	readIntent(&c, &i)
	if err := c.end(); err != nil {
		m.view.fail(err)
		return payment.ID{}
	}
	var k payment.StoredCard
	scope := scopeOf(i.Merchant, i.CardScope)
	m.keyA = appendCardIndexKey(m.keyA[:0], scope, &i.BlindIndex)
	value, found = m.view.get(m.value[:0], m.keyA)
	m.value = value
	if !found || !m.card(payment.ID(value), &k) || k.Status == payment.CardDeleted {
		k = payment.StoredCard{Token: i.Save, Scope: i.CardScope, BlindIndex: i.BlindIndex, CreatedAt: m.now, NetworkID: o.Response.NetworkID}
		m.keyA = appendCardIndexKey(m.keyA[:0], scope, &i.BlindIndex)
		m.view.writes.set(m.keyA, k.Token[:])
	}
	k.Status, k.Scheme = payment.CardActive, i.Scheme
	k.Sealed, k.SealedFor, k.Merchant = i.Sealed, i.ID, i.Merchant
	k.BIN, k.Last4, k.Expiry = i.BIN, i.Last4, i.Expiry
	if len(i.Holder) > 0 {
		k.Holder = i.Holder
	}
	if k.NetworkID == (payment.NetworkTransactionID{}) {
		k.NetworkID = o.Response.NetworkID
	}
	m.setCard(&k)
	return k.Token
}

// blockCard keeps a card from being paid with again: its issuer wants it back.
func (m *Machine) blockCard(token payment.ID) {
	var k payment.StoredCard
	if m.card(token, &k) && k.Status == payment.CardActive {
		k.Status = payment.CardBlocked
		m.setCard(&k)
	}
}

// AppendCardChange writes a KindCard command.
func AppendCardChange(b []byte, k *payment.CardChange) []byte {
	b = append(b, scopeVersion(k.Scope))
	b = append(b, k.Token[:]...)
	b = putBool(b, k.Delete)
	b = append(b, k.Expiry[:]...)
	b = putBool(b, k.Holds)
	b = putText(b, k.Holder)
	b = putText(b, k.Merchant)
	b = putLong(b, k.Sealed)
	if k.Scope != "" {
		b = putText(b, k.Scope)
	}
	return b
}

// applyCard changes or deletes a stored card. What is deleted loses its
// envelope; payments that were made with it keep theirs.
func (m *Machine) applyCard(c *cursor, r *Result) error {
	scoped := c.scoped()
	x := payment.CardChange{Token: c.id(), Delete: c.flag()}
	c.copy(x.Expiry[:])
	x.Holds = c.flag()
	x.Holder = owned(c.text())
	x.Merchant = payment.MerchantID(c.text())
	x.Sealed = owned(c.long())
	if scoped {
		x.Scope = c.scope()
	}
	if err := c.end(); err != nil {
		return err
	}
	var k payment.StoredCard
	if !m.card(x.Token, &k) || scopeOf(k.Merchant, k.Scope) != scopeOf(x.Merchant, x.Scope) || k.Status == payment.CardDeleted {
		r.Err = payment.ErrNotFound
		return nil
	}
	if x.Delete {
		k.Status, k.Sealed, k.Holder = payment.CardDeleted, nil, nil
		m.keyA = appendCardIndexKey(m.keyA[:0], scopeOf(k.Merchant, k.Scope), &k.BlindIndex)
		m.view.writes.delete(m.keyA)
	}
	if len(x.Sealed) > 0 {
		k.Sealed, k.SealedFor, k.Expiry, k.Merchant = x.Sealed, k.Token, x.Expiry, x.Merchant
	}
	if x.Holds {
		k.Holder = x.Holder
	}
	m.setCard(&k)
	r.Card = k
	return nil
}

// ReadCard reads a stored card.
func ReadCard(r Reader, token payment.ID) (payment.StoredCard, error) {
	var k payment.StoredCard
	value, found, err := r.Get(nil, appendCardKey(nil, token))
	switch {
	case err != nil:
		return k, err
	case !found:
		return k, payment.ErrNotFound
	}
	c := cursor{b: value}
	readCard(&c, &k)
	return k, c.end()
}
