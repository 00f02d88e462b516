package payment

import "authswitch/card"

// PIN is the PIN block of a card-present request as the gateway gave it, under
// a key of its own: the switch only hands it to the security module, which
// gives it back under the acquirer's key.
type PIN struct {
	Block  card.PINBlock
	Format PINFormat
	Zone   LinkName // of the terminals: whose key it is under
	Serial []byte   // key serial number, where the zone derives a key per transaction (DUKPT)
}

// Present says whether there is a PIN block at all.
func (p *PIN) Present() bool { return p.Block.Present() }

// Wipe overwrites the block.
func (p *PIN) Wipe() {
	p.Block.Wipe()
	*p = PIN{}
}

// PINFormat is a format of ISO 9564-1.
type PINFormat uint8

// The formats that PIN blocks arrive in. 2 is for chip cards only, and never
// travels.
const (
	NoPINFormat PINFormat = iota
	PINFormat0
	PINFormat1
	PINFormat3
	PINFormat4
	pinFormats
)

var pinFormatNames = [pinFormats]string{"", "iso0", "iso1", "iso3", "iso4"}

// String is the format's name in API and dialect files.
func (f PINFormat) String() string {
	if f >= pinFormats {
		return "unknown"
	}
	return pinFormatNames[f]
}

// ParsePINFormat reads a name as String writes it; NoPINFormat when unknown.
func ParsePINFormat(name []byte) PINFormat {
	for f := PINFormat0; f < pinFormats; f++ {
		if pinFormatNames[f] == string(name) {
			return f
		}
	}
	return NoPINFormat
}

// EntryMode is how a card that is present was read: the first digits of DE 22.
type EntryMode uint8

// The modes.
const (
	NoEntryMode EntryMode = iota
	ChipRead
	Contactless
	StripeRead
	FallbackStripe // the stripe of a card whose chip could not be read
	KeyEntered
	entryModes
)

var entryModeNames = [entryModes]string{"", "chip", "contactless", "stripe", "fallback", "keyed"}

// String is the mode's name in API and dialect files.
func (e EntryMode) String() string {
	if e >= entryModes {
		return "unknown"
	}
	return entryModeNames[e]
}

// ParseEntryMode reads a name as String writes it; NoEntryMode when unknown.
func ParseEntryMode(name []byte) EntryMode {
	for e := ChipRead; e < entryModes; e++ {
		if entryModeNames[e] == string(name) {
			return e
		}
	}
	return NoEntryMode
}

// OfferedKey is a working key on its way between two parties: under the key of
// their zone, never clear.
type OfferedKey struct {
	Usage string // "pin" or "mac"; "" where the key block says it itself
	Key   []byte // key block, or the bare cryptogram
	Check []byte // check value, where one came along
}

// KeyResult is how the exchange of a key ended.
type KeyResult uint8

// The results.
const (
	KeyNotTaken KeyResult = iota // the peer has not got it, or refused it
	KeyTaken
	KeyInDoubt // the peer did not answer
)
