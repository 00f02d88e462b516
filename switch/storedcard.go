package switching

import (
	"errors"

	"authswitch/card"
	"authswitch/payment"
)

// StoredCards has the cards that merchants saved, and opens them.
type StoredCards interface {
	StoredCard(token payment.ID) (payment.StoredCard, error)
	ChangeCard(x *payment.CardChange) (payment.StoredCard, error)
}

// Opener opens a sealed card for the time of one request. payment.ErrUnavailable:
// not now.
type Opener interface {
	Open(c *card.Card, i *payment.Intent) error
}

// unveil puts the stored card that a token stands for into the request, with
// the network's name of the payment it was saved with.
func (s *Switch) unveil(a *payment.Authorization, networkID *[24]byte) error {
	k, err := s.usableCard(a.Merchant, string(a.Card.Token))
	if err != nil {
		return err
	}
	if k.Status == payment.CardBlocked {
		return &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: "/card/token", Code: "card_blocked", Detail: "the issuer reported this card lost or stolen"}
	}
	if err := s.open(&a.Card, &k); err != nil {
		return err
	}
	*networkID = k.NetworkID
	onFile(a, trimmed(networkID[:]))
	return nil
}

// onFile says of a request what a payment with a stored card is, where it does
// not say so itself.
func onFile(a *payment.Authorization, networkID []byte) {
	if len(a.StoredCredential.Usage) == 0 {
		a.StoredCredential.Usage = usageSubsequent
	}
	if len(a.StoredCredential.NetworkTransactionID) == 0 {
		a.StoredCredential.NetworkTransactionID = networkID
	}
}

// usageSubsequent is what a payment with a stored card is that does not say.
// Read-only.
var usageSubsequent = []byte("subsequent")

func trimmed(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

func (s *Switch) open(c *card.Card, k *payment.StoredCard) error {
	sealed := payment.Intent{ID: k.SealedFor, Merchant: k.Merchant, Sealed: k.Sealed, BlindIndex: k.BlindIndex, Node: s.Node}
	err := s.Opener.Open(c, &sealed)
	switch {
	case errors.Is(err, payment.ErrUnavailable):
		return refusalUnavailable()
	case err != nil:
		s.Log.Error("stored card cannot be opened", "token", string(k.Token.Append(nil, payment.CardPrefix)), "error", err)
		return refusalUnavailable()
	}
	return nil
}

// usableCard finds a stored card of a merchant or its group. Another's is as
// unknown as one that does not exist.
func (s *Switch) usableCard(m payment.MerchantID, token string) (payment.StoredCard, error) {
	unknown := &payment.Refusal{Kind: payment.RefusedInvalid, Pointer: "/card/token", Code: "unknown_token", Detail: "the merchant has no such stored card"}
	id, err := payment.ParseID(token, payment.CardPrefix)
	if err != nil {
		return payment.StoredCard{}, unknown
	}
	k, err := s.Cards.StoredCard(id)
	switch {
	case errors.Is(err, payment.ErrNotFound), err == nil && !k.UsableBy(m, s.scope(m)):
		return payment.StoredCard{}, unknown
	case err != nil:
		return payment.StoredCard{}, refusalUnavailable()
	}
	return k, nil
}

// ChangeCard gives a stored card another expiry or holder, or deletes it.
func (s *Switch) ChangeCard(x *payment.CardChange, expiry *card.Expiry) (payment.StoredCard, error) {
	if expiry.Present() {
		k, err := s.Cards.StoredCard(x.Token)
		if err != nil {
			return k, err
		}
		if !k.UsableBy(x.Merchant, x.Scope) {
			return k, payment.ErrNotFound
		}
		var c card.Card
		defer c.Wipe()
		if err := s.open(&c, &k); err != nil {
			return k, err
		}
		c.Expiry = *expiry
		if x.Sealed, err = s.Sealer.Seal(nil, &c, x.Merchant, x.Token); err != nil {
			return k, refusalUnavailable()
		}
		copy(x.Expiry[:], expiry.RevealExpiry())
	}
	return s.Cards.ChangeCard(x)
}

// describeRefusal is what a gateway is told when its request cannot be
// described: a refusal, or that this node cannot seal now.
func describeRefusal(err error) error {
	if r, ok := errors.AsType[*payment.Refusal](err); ok {
		return r
	}
	return refusalUnavailable()
}

// fingerprint is of what the gateway sent: of a stored card only its token, so
// that a change of its expiry does not make the same request another.
func (s *Switch) fingerprint(a *payment.Authorization, i *payment.Intent) [32]byte {
	if i.Token.IsZero() {
		return s.Sealer.Fingerprint(a, i.BlindIndex)
	}
	expiry := a.Card.Expiry
	a.Card.Expiry = card.Expiry{}
	sum := s.Sealer.Fingerprint(a, i.BlindIndex)
	a.Card.Expiry = expiry
	return sum
}

// fingerprintWith is that of a request whose stored card cannot be used any more:
// what the card put into it stands in the payment that was opened with it. false:
// that was another card's.
func (s *Switch) fingerprintWith(a *payment.Authorization, known *payment.Intent) (sum [32]byte, same bool) {
	token, err := payment.ParseID(string(a.Card.Token), payment.CardPrefix)
	if err != nil || known.Token != token {
		return sum, false
	}
	onFile(a, known.NetworkTransactionID)
	return s.fingerprint(a, known), true
}

// scope is that of the cards which a merchant shares with others, "" for none.
func (s *Switch) scope(m payment.MerchantID) string {
	if s.CardScope == nil {
		return ""
	}
	return s.CardScope(m)
}
