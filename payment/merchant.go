package payment

import "errors"

// MerchantRecord is one version of a merchant as it was agreed through the API:
// its document, whose form is package merchant's, and who made it so.
type MerchantRecord struct {
	ID       MerchantID
	Version  uint64 // from 1, one more with every change
	At       Instant
	By       string // the person, or the key's name
	Reason   string
	Document []byte
}

// MerchantChange is a new version of a merchant. It takes only on the version
// that it was made from; 0 is a merchant that the journal does not have yet.
type MerchantChange struct {
	ID       MerchantID
	From     uint64
	By       string
	Reason   string
	Document []byte
}

// ErrMerchantVersion means that a merchant was changed meanwhile.
var ErrMerchantVersion = errors.New("the merchant was changed meanwhile")

// ErrMerchantLimit means that there are as many merchants as there may be.
var ErrMerchantLimit = errors.New("as many merchants as there may be")
