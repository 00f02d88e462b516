package payment

// CardPrefix stands before a stored card's token in the API.
const CardPrefix = "card_"

// CardStatus is what a stored card may be used for.
type CardStatus uint8

// The statuses. The numbers are in the journal.
const (
	CardNone    CardStatus = iota
	CardActive             // may be paid with
	CardBlocked            // its issuer said that it is lost or stolen
	CardDeleted            // the merchant deleted it: its number is gone
	cardStatuses
)

var cardStatusNames = [cardStatuses]string{"none", "active", "blocked", "deleted"}

// String is the status's name in API and logs.
func (s CardStatus) String() string {
	if s >= cardStatuses {
		return "invalid"
	}
	return cardStatusNames[s]
}

// StoredCard is a card that a merchant saved: one for one card number, whatever
// payments it was saved with. It holds no clear number.
type StoredCard struct {
	Token      ID
	Merchant   MerchantID // that saved it last: its envelope is bound to that name
	Scope      string     // who may pay with it, where that is not Merchant alone: see GroupScope
	Status     CardStatus
	Sealed     []byte // vault envelope of number and expiry
	SealedFor  ID     // the record that the envelope is bound to: a payment, or the token
	BlindIndex [32]byte
	BIN        []byte
	Last4      [4]byte
	Expiry     [4]byte // YYMM, for people; zero when not known
	Holder     []byte
	Scheme     Scheme
	NetworkID  NetworkTransactionID // of the payment it was first saved with
	CreatedAt  Instant
	ChangedAt  Instant
}

// CardReseal replaces the envelope of a stored card by one of the same number
// and expiry under another data key, bound to the token; nothing else changes.
type CardReseal struct {
	Token  ID
	Was    []byte // the envelope that was opened: another one by now stays
	Sealed []byte
}

// CardChange is a merchant's change of a stored card: what is nil stays.
type CardChange struct {
	Token    ID
	Merchant MerchantID
	Scope    string // of the card
	Delete   bool
	Sealed   []byte // with the new expiry, for the token itself
	Expiry   [4]byte
	Holder   []byte
	Holds    bool // Holder is given
}

// GroupScope is the scope of the cards that a group of merchants shares; "" for
// no group. No merchant's name begins like it.
func GroupScope(group string) string {
	if group == "" {
		return ""
	}
	return "@" + group
}

// UsableBy says whether a merchant, whose cards have a scope, may pay with the
// card: one of its own, or of its group.
func (k *StoredCard) UsableBy(m MerchantID, scope string) bool {
	if k.Status == CardDeleted {
		return false
	}
	if k.Scope == "" {
		return k.Merchant == m
	}
	return k.Scope == scope
}

// GroupOf is the group of a scope, "" where it is none.
func GroupOf(scope string) string {
	if scope == "" {
		return ""
	}
	return scope[1:]
}
