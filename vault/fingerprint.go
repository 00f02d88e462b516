package vault

import (
	"encoding/binary"

	"authswitch/payment"
)

// Fingerprint tells whether two requests with one idempotency key have the same
// body: HMAC-SHA256 under the blind-index key of everything the gateway asked
// for. The card is its blind index. Sensitive authentication data (security
// code, track, PIN block) and the 3-D Secure cryptogram are left out, present
// or not: their hash would be a stored form of them (PCI DSS 3.3.1), and a
// three-digit code is found from its hash in a moment.
//
// Also left out is what is not in the body: id, gateway, key and times. Zero
// while the vault has no key.
func (v *Vault) Fingerprint(a *payment.Authorization, index [32]byte) [32]byte {
	k := v.keys.Load()
	if k == nil {
		return [32]byte{}
	}
	s := k.scratch.Get().(*scratch)
	m := append(s.message[:0], labelFingerprint)
	m = appendField(m, a.Merchant)
	m = appendField(m, a.Reference)
	m = binary.BigEndian.AppendUint64(m, uint64(a.Amount.Value))
	m = binary.BigEndian.AppendUint16(m, uint16(a.Amount.Currency))
	m = append(m, byte(a.Channel), byte(a.Capture), byte(a.Brand), bit(a.AcceptsPartial))
	m = append(m, index[:]...)
	m = appendField(m, a.Card.Token)
	m = appendField(m, a.Card.Expiry.RevealExpiry())
	m = appendField(m, a.ThreeDS.Version)
	m = appendField(m, a.ThreeDS.ECI)
	m = appendField(m, a.ThreeDS.DSTransactionID)
	m = appendField(m, a.Exemption)
	m = append(m, bit(a.StoredCredential.MerchantInitiated))
	m = appendField(m, a.StoredCredential.Usage)
	m = appendField(m, a.StoredCredential.NetworkTransactionID)
	if a.Entry != payment.NoEntryMode { // absent it leaves what was kept before there was one
		m = append(m, byte(a.Entry))
	}
	if a.SaveCard || len(a.Holder) > 0 { // nothing where it is not asked: fingerprints from before stay
		m = appendField(append(m, 0x80|bit(a.SaveCard)), a.Holder)
	}
	if len(a.Tags) > 0 {
		m = appendField(append(m, 0x40), a.Tags)
	}
	if !a.RetryOf.IsZero() {
		m = append(append(m, 0x20), a.RetryOf[:]...)
	}
	if !a.PaymentLink.IsZero() {
		m = append(append(m, 0x10), a.PaymentLink[:]...)
	}
	if len(a.Over) > 0 {
		m = appendField(append(m, 0x08), a.Over)
	}
	sum := s.authenticate(m)
	k.scratch.Put(s)
	return sum
}

// appendField writes a length first, so that no two requests have the same
// bytes ("ab"+"c" is not "a"+"bc").
func appendField[T ~string | ~[]byte](dst []byte, field T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
	return append(dst, field...)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
