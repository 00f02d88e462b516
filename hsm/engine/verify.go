package engine

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
	"authswitch/hsm/tr31"
)

// GenerateMAC writes the MAC of a message into dst, which has 16 bytes of room:
// the first 4 or 8 are it, the others zeros. The algorithm is the key's usage.
func (e *Engine) GenerateMAC(dst []byte, k *Key, p mac.Padding, length int, message []byte) error {
	if err := k.may(generates, tr31.MACISO1, tr31.MACISO3, tr31.MACCMAC); err != nil {
		return err
	}
	if length != 4 && length != 8 {
		return ErrMACLength
	}
	if err := k.mac.Sum(dst, p, message); err != nil {
		return fmt.Errorf("generating a MAC: %w", err)
	}
	clear(dst[length:k.mac.Size()])
	return nil
}

// VerifyMAC checks a MAC of 4 or 8 bytes under the current key, and in the
// overlap of a rotation under the previous one, nil otherwise. scratch has 16
// bytes and is zeros afterwards.
func (e *Engine) VerifyMAC(scratch []byte, current, previous *Key, p mac.Padding, message, got []byte) error {
	if len(got) != 4 && len(got) != 8 {
		return ErrMACLength
	}
	err := verifyMAC(scratch, current, p, message, got)
	if errors.Is(err, ErrMismatch) && previous != nil {
		return verifyMAC(scratch, previous, p, message, got)
	}
	return err
}

func verifyMAC(scratch []byte, k *Key, p mac.Padding, message, got []byte) error {
	if err := k.may(verifies, tr31.MACISO1, tr31.MACISO3, tr31.MACCMAC); err != nil {
		return err
	}
	err := k.mac.Verify(scratch, p, message, got)
	if errors.Is(err, mac.ErrMismatch) {
		return ErrMismatch
	}
	return err
}

// CardValue is a card verification value and what it is of: a service code of
// issuer.ServiceCVV2 or ServiceICVV makes it that kind.
type CardValue struct {
	PAN, Expiry, Service []byte // ASCII digits
	Value                []byte
}

// VerifyCVV checks a CVV, CVV2 or iCVV.
func (e *Engine) VerifyCVV(k *Key, v CardValue) error {
	if err := k.may(verifies, tr31.CardVerification); err != nil {
		return err
	}
	want, err := issuer.CVV(&k.material, v.PAN, v.Expiry, v.Service)
	if err != nil {
		return fmt.Errorf("verifying a card verification value: %w", err)
	}
	defer want.Wipe()
	if !want.Equal(v.Value) {
		return ErrMismatch
	}
	return nil
}

// VerifyARQC checks a chip's request cryptogram over the data it signed.
func (e *Engine) VerifyARQC(k *Key, c issuer.Chip, p mac.Padding, data []byte, arqc [8]byte) error {
	if err := k.may(derives, tr31.EMVCryptogram); err != nil {
		return err
	}
	session, err := issuer.SessionKey(&k.material, c)
	if err != nil {
		return fmt.Errorf("verifying a cryptogram: %w", err)
	}
	defer session.Wipe()
	want, err := issuer.Cryptogram(&session, p, data)
	if err != nil {
		return fmt.Errorf("verifying a cryptogram: %w", err)
	}
	return equal(want[:], arqc[:])
}

// VerifyARPC1 checks an issuer's answer of method 1 to a cryptogram.
func (e *Engine) VerifyARPC1(k *Key, c issuer.Chip, arqc [8]byte, responseCode [2]byte, arpc [8]byte) error {
	if err := k.may(derives, tr31.EMVCryptogram); err != nil {
		return err
	}
	session, err := issuer.SessionKey(&k.material, c)
	if err != nil {
		return fmt.Errorf("verifying an issuer's answer: %w", err)
	}
	defer session.Wipe()
	want, err := issuer.Answer1(&session, arqc, responseCode)
	if err != nil {
		return fmt.Errorf("verifying an issuer's answer: %w", err)
	}
	return equal(want[:], arpc[:])
}

// VerifyARPC2 checks an issuer's answer of method 2 to a cryptogram.
func (e *Engine) VerifyARPC2(k *Key, c issuer.Chip, arqc [8]byte, update [4]byte, proprietary []byte, arpc [4]byte) error {
	if err := k.may(derives, tr31.EMVCryptogram); err != nil {
		return err
	}
	session, err := issuer.SessionKey(&k.material, c)
	if err != nil {
		return fmt.Errorf("verifying an issuer's answer: %w", err)
	}
	defer session.Wipe()
	want, err := issuer.Answer2(&session, arqc, update, proprietary)
	if err != nil {
		return fmt.Errorf("verifying an issuer's answer: %w", err)
	}
	return equal(want[:], arpc[:])
}

// equal compares in constant time and wipes the expected value.
func equal(want, got []byte) error {
	same := subtle.ConstantTimeCompare(want, got)
	clear(want)
	if same != 1 {
		return ErrMismatch
	}
	return nil
}
