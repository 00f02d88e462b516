package issuer

import (
	"crypto/cipher"
	"crypto/sha1" //nolint:gosec // EMV Book 2 A1.4.2 derives with it; nothing rests on its collisions
	"crypto/subtle"
	"fmt"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

// MasterMethod is how a card's key comes from the issuer's: EMV Book 2 annex
// A1.4.
type MasterMethod uint8

// The methods.
const (
	OptionA MasterMethod = iota // A1.4.1: the sixteen rightmost digits of number and sequence
	OptionB                     // A1.4.2: a hash of them, for numbers of more than sixteen digits
)

// SessionMethod is how a transaction's key comes from the card's.
type SessionMethod uint8

// The methods.
const (
	CardKey       SessionMethod = iota // none, Visa CVN 10: the card's own key
	CommonSession                      // EMV Book 2 annex A1.3.1, by the ATC: CVN 18, 22 and EMV CSK
	MastercardSKD                      // M/Chip, by ATC and unpredictable number: CVN 16, 17
)

// Chip is what the keys of one transaction are derived from.
type Chip struct {
	PAN      []byte // ASCII digits
	Sequence []byte // two ASCII digits; none is "00"
	ATC      [2]byte
	UN       [4]byte // unpredictable number, tag 9F37: for MastercardSKD
	Master   MasterMethod
	Session  SessionMethod
}

// SessionKey derives the key of one transaction's cryptograms from the issuer's
// master key.
func SessionKey(issuer *key.Key, c Chip) (key.Key, error) {
	if !doubleLength(issuer) {
		return key.Key{}, ErrKey
	}
	expanded, err := issuer.Cipher()
	if err != nil {
		return key.Key{}, fmt.Errorf("expanding an issuer master key: %w", err)
	}
	diversifier, err := cardDiversifier(c)
	if err != nil {
		return key.Key{}, err
	}
	left, right := diversifier, diversifier
	for i := range right {
		right[i] ^= 0xFF
	}
	card, err := halves(expanded, left, right)
	if err != nil {
		return key.Key{}, err
	}
	if c.Session == CardKey {
		return card, nil
	}
	defer card.Wipe()
	if expanded, err = card.Cipher(); err != nil {
		return key.Key{}, fmt.Errorf("expanding a card master key: %w", err)
	}
	left = [8]byte{c.ATC[0], c.ATC[1]}
	switch c.Session {
	case CommonSession:
	case MastercardSKD:
		copy(left[4:], c.UN[:])
	default:
		return key.Key{}, ErrInput
	}
	right = left
	left[2], right[2] = 0xF0, 0x0F
	return halves(expanded, left, right)
}

// halves encrypts two blocks into the two halves of a key, with odd parity as
// EMV Book 2 A1.4.1 step 3 asks.
func halves(c cipher.Block, left, right [8]byte) (key.Key, error) {
	both := make([]byte, 16)
	defer clear(both)
	copy(both, left[:])
	copy(both[8:], right[:])
	c.Encrypt(both[:8], both[:8])
	c.Encrypt(both[8:], both[8:])
	k, err := key.New(key.TDES, both)
	k.FixParity()
	return k, err
}

// cardDiversifier is the block Y of EMV Book 2 annex A1.4.
func cardDiversifier(c Chip) ([8]byte, error) {
	var y [8]byte
	sequence := c.Sequence
	if len(sequence) == 0 {
		sequence = []byte("00")
	}
	if !digits(c.PAN, 8, 19) || !digits(sequence, 2, 2) || c.Master > OptionB {
		return y, ErrInput
	}
	var ascii [22]byte // a zero, number, sequence
	for i := range ascii {
		ascii[i] = '0'
	}
	n := len(c.PAN) + 2
	copy(ascii[22-n:], c.PAN)
	copy(ascii[20:], sequence)
	if c.Master == OptionA || len(c.PAN) <= 16 {
		pack(y[:], ascii[6:])
		return y, nil
	}
	var packed [11]byte
	n += n % 2 // a zero in front of an odd number
	pack(packed[:], ascii[22-n:])
	hash := sha1.Sum(packed[:n/2]) //nolint:gosec // see the import
	d := decimalised(hash[:], 16)
	pack(y[:], d.Reveal())
	return y, nil
}

// Cryptogram is the application cryptogram of data under a session key: MAC
// algorithm 3 (EMV Book 2 annex A1.2.1), eight bytes. Padding is 2 by EMV, 1
// for Visa CVN 10.
func Cryptogram(session *key.Key, p mac.Padding, data []byte) ([8]byte, error) {
	m, err := mac.New(mac.ISO3, session)
	if err != nil {
		return [8]byte{}, fmt.Errorf("expanding a session key: %w", err)
	}
	var out [8]byte
	if err := m.Sum(out[:], p, data); err != nil {
		return [8]byte{}, fmt.Errorf("computing a cryptogram: %w", err)
	}
	return out, nil
}

// Answer1 is the issuer's answer by ARPC method 1, EMV Book 2 clause 8.2.1: the
// cryptogram with the response code added to its start, through TDES.
func Answer1(session *key.Key, cryptogram [8]byte, responseCode [2]byte) ([8]byte, error) {
	if !doubleLength(session) {
		return [8]byte{}, ErrKey
	}
	c, err := session.Cipher()
	if err != nil {
		return [8]byte{}, fmt.Errorf("expanding a session key: %w", err)
	}
	out := cryptogram
	subtle.XORBytes(out[:2], out[:2], responseCode[:])
	c.Encrypt(out[:], out[:])
	return out, nil
}

// Answer2 is the issuer's answer by ARPC method 2, EMV Book 2 clause 8.2.2: the
// four leftmost bytes of the MAC of cryptogram, card status update and up to
// eight bytes of proprietary data.
func Answer2(session *key.Key, cryptogram [8]byte, update [4]byte, proprietary []byte) ([4]byte, error) {
	if len(proprietary) > 8 {
		return [4]byte{}, ErrInput
	}
	message := make([]byte, 0, 20)
	message = append(message, cryptogram[:]...)
	message = append(message, update[:]...)
	message = append(message, proprietary...)
	whole, err := Cryptogram(session, mac.OneAndZeros, message)
	if err != nil {
		return [4]byte{}, err
	}
	return [4]byte(whole[:4]), nil
}
