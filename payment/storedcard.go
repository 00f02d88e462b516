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
	Merchant   MerchantID
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

// CardChange is a merchant's change of a stored card: what is nil stays.
type CardChange struct {
	Token    ID
	Merchant MerchantID
	Delete   bool
	Sealed   []byte // with the new expiry, for the token itself
	Expiry   [4]byte
	Holder   []byte
	Holds    bool // Holder is given
}
