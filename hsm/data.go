package hsm

import (
	"fmt"

	"authswitch/hsm/wire"
)

// Purpose is why stored cards are decrypted. Each has its limit in the module.
type Purpose = wire.Purpose

// The purposes.
const (
	Reveal  = wire.PurposeReveal  // a person wants to see one: a few a minute
	Outbox  = wire.PurposeOutbox  // what is owed to a link
	Capture = wire.PurposeCapture // a capture, or a payment with a stored card
)

// MaxCards is how many cards one call may ask for.
const MaxCards = wire.MaxCards

// Sealed is one card as it is stored, and after DecryptCards what was in it.
type Sealed struct {
	ID         []byte // of the record that owes it, for the audit log
	AAD        []byte // what is bound to it
	Ciphertext []byte // nonce (12), ciphertext, tag (16): AES-256-GCM
	Plain      []byte // the caller's buffer: appended to from its start, and the caller's to wipe
	OK         bool   // false: altered, of another record or under another key
}

// DecryptCards opens what was sealed under one data key. Every call is written
// into the module's audit log before it has its effect. A card that does not
// open is not OK and fails no other.
func (c *Client) DecryptCards(p Purpose, dataKey []byte, cards []Sealed, deadline int64) error {
	return c.decrypt(p, "", dataKey, cards, deadline)
}

// RevealCard opens one card for a person, whose name and reason stand in the
// module's audit log.
func (c *Client) RevealCard(who, reason string, dataKey []byte, s *Sealed, deadline int64) error {
	if who == "" || reason == "" {
		return fmt.Errorf("%w: who wants to see the card, and why", ErrInput)
	}
	one := []Sealed{*s}
	err := c.decrypt(Reveal, who+": "+reason, dataKey, one, deadline)
	*s = one[0]
	return err
}

func (c *Client) decrypt(p Purpose, reason string, dataKey []byte, cards []Sealed, deadline int64) error {
	if len(cards) == 0 || len(cards) > MaxCards {
		return fmt.Errorf("%w: %d cards; 1 to %d go into a call", ErrInput, len(cards), MaxCards)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpDecryptCards, deadline)
	defer k.free()
	k.request = append(k.request, byte(p), byte(len(cards)))
	k.request = wire.AppendString(k.request, reason)
	k.request = wire.AppendBytes(k.request, dataKey)
	for i := range cards {
		cards[i].Plain, cards[i].OK = cards[i].Plain[:0], false
		k.request = wire.AppendBytes(k.request, cards[i].ID)
		k.request = wire.AppendBytes(k.request, cards[i].AAD)
		k.request = wire.AppendBytes(k.request, cards[i].Ciphertext)
	}
	if err := c.ask(k, wire.OpDecryptCards, deadline); err != nil {
		return err
	}
	f := wire.Read(k.answer)
	for i := range cards {
		ok := f.Byte() == 1
		cards[i].Plain = append(cards[i].Plain, f.Bytes()...)
		cards[i].OK = ok
	}
	if err := done(&f); err != nil {
		for i := range cards {
			clear(cards[i].Plain)
			cards[i].Plain, cards[i].OK = cards[i].Plain[:0], false
		}
		return err
	}
	return nil
}

// Resealed is one stored card on its way to another data key.
type Resealed struct {
	ID         []byte // of its record, for the audit log
	AAD, Next  []byte // what is bound to it, and what will be
	Ciphertext []byte // nonce (12), ciphertext, tag (16); after ResealCards the new one
	OK         bool   // false: altered, of another record or under another key, and left as it was
}

// ResealBytes is how much of cards goes into one call of ResealCards: the sum of
// their ids, ciphertexts and what is bound to them, and 8 each.
const ResealBytes = wire.MaxFrame - 1024

// ResealCards moves cards from one data key to another inside the module: nobody
// outside sees a number. It is written into the audit log first, and has a limit
// of its own.
func (c *Client) ResealCards(from, to []byte, cards []Resealed, deadline int64) error {
	if len(cards) == 0 || len(cards) > MaxCards {
		return fmt.Errorf("%w: %d cards; 1 to %d go into a call", ErrInput, len(cards), MaxCards)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpResealCards, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, from)
	k.request = wire.AppendBytes(k.request, to)
	k.request = append(k.request, byte(len(cards)))
	for i := range cards {
		for _, field := range [][]byte{cards[i].ID, cards[i].AAD, cards[i].Next, cards[i].Ciphertext} {
			k.request = wire.AppendBytes(k.request, field)
		}
	}
	if err := c.ask(k, wire.OpResealCards, deadline); err != nil {
		return err
	}
	f := wire.Read(k.answer)
	for i := range cards {
		if cards[i].OK = f.Byte() == 1; cards[i].OK {
			cards[i].Ciphertext = append([]byte(nil), f.Bytes()...)
		} else {
			f.Bytes()
		}
	}
	return done(&f)
}

// ReleaseDataKey takes a data key out of the module: the one usage whose keys
// leave it, because the switch seals cards itself. Each release is written into
// the audit log. The caller wipes dst.
func (c *Client) ReleaseDataKey(dst *[32]byte, block []byte, deadline int64) error {
	deadline = c.until(deadline)
	k := begin(wire.OpReleaseDataKey, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, block)
	if err := c.ask(k, wire.OpReleaseDataKey, deadline); err != nil {
		return err
	}
	if len(k.answer) != len(dst) {
		return fmt.Errorf("%w: a data key of %d bytes", ErrFailed, len(k.answer))
	}
	copy(dst[:], k.answer)
	return nil
}
