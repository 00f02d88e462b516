package engine

import (
	"fmt"

	"authswitch/hsm/dukpt"
	"authswitch/hsm/issuer"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/tr31"
)

// Account number lengths that carry a PIN, ISO/IEC 7812-1.
const (
	minPAN = 12
	maxPAN = 19
)

// Incoming is an encrypted PIN block and how to read it: under a zone PIN key,
// or under the key of a transaction of a base derivation key.
type Incoming struct {
	Key    *Key
	Serial []byte // key serial number; only with a base derivation key
	Bits   int    // AES DUKPT: length of the PIN key, 0 for that of the base key
	Format pinblock.Format
	Rule   pinblock.PANRule
	Block  []byte
	PAN    []byte // ASCII digits
}

// Outgoing is how the block leaves: always under a zone PIN key, always of the
// same account number.
type Outgoing struct {
	Key    *Key
	Format pinblock.Format
	Rule   pinblock.PANRule
}

// allowed are those of ISO 9564-1's translations between formats that are done: blocks
// that bind the account number keep it, format 1 gets one, and nothing becomes
// format 1 or 2, which would take it away.
func allowed(from, to pinblock.Format) bool {
	switch to {
	case pinblock.ISO0, pinblock.ISO3, pinblock.ISO4:
	default:
		return false
	}
	switch from {
	case pinblock.ISO0, pinblock.ISO1, pinblock.ISO3, pinblock.ISO4:
		return true
	}
	return false
}

// carries says whether blocks of a format go under keys of an algorithm: format
// 4 under AES only, the others under TDES only.
func carries(a key.Algorithm, f pinblock.Format) bool {
	return (a == key.AES) == (f == pinblock.ISO4)
}

// TranslatePIN moves a PIN from one key to another and says how many bytes it
// wrote into dst, which has room for 16 and does not overlap the block. dst is
// where the clear block is for a moment; nothing is left in it on failure.
//
// Whatever is wrong with block, PIN or account number is ErrPINBlock and no
// more. Other errors are of keys, counters and what is allowed at all.
func (e *Engine) TranslatePIN(dst []byte, in Incoming, out Outgoing) (int, error) {
	if err := out.Key.may(encrypts, tr31.PINEncryption); err != nil {
		return 0, err
	}
	if !allowed(in.Format, out.Format) || !carries(out.Key.attributes.Algorithm, out.Format) {
		return 0, ErrTranslation
	}
	if len(dst) < pinblock.Size4 {
		return 0, fmt.Errorf("%w: no room for the block", ErrTranslation)
	}
	var pin pinblock.PIN
	if err := e.decipher(&pin, dst, in); err != nil {
		return 0, err
	}
	defer pin.Wipe()
	if out.Format == pinblock.ISO4 {
		if err := pinblock.Encipher4(dst, out.Key.block, &pin, in.PAN, out.Rule, e.random); err != nil {
			return 0, err
		}
		return pinblock.Size4, nil
	}
	block := dst[:pinblock.Size]
	if err := pinblock.Encode(block, out.Format, &pin, in.PAN, e.random); err != nil {
		clear(block)
		return 0, err
	}
	out.Key.block.Encrypt(block, block)
	return pinblock.Size, nil
}

// decipher takes a PIN out of an encrypted block. scratch has 16 bytes and is
// zeros afterwards.
func (e *Engine) decipher(pin *pinblock.PIN, scratch []byte, in Incoming) error {
	if !carries(in.Key.attributes.Algorithm, in.Format) || in.Format == pinblock.ISO2 {
		return ErrTranslation
	}
	block := in.Key.block
	switch in.Key.attributes.Usage {
	case tr31.PINEncryption:
		if err := in.Key.may(decrypts, tr31.PINEncryption); err != nil {
			return err
		}
		if len(in.Serial) != 0 {
			return fmt.Errorf("%w: a serial number with a zone key", ErrUse)
		}
	default:
		if err := in.Key.may(derives, tr31.BaseDerivation); err != nil {
			return err
		}
		k, err := in.Key.transactionPINKey(in)
		if err != nil {
			return err
		}
		defer k.Wipe()
		if block, err = k.Cipher(); err != nil {
			return fmt.Errorf("expanding a transaction's key: %w", err)
		}
	}
	if len(in.PAN) < minPAN || len(in.PAN) > maxPAN || len(in.Block) != block.BlockSize() {
		return ErrPINBlock
	}
	work := scratch[:len(in.Block)]
	copy(work, in.Block)
	if in.Format == pinblock.ISO4 {
		return pinblock.Decipher4(pin, block, work, in.PAN, in.Rule) // leaves zeros
	}
	block.Decrypt(work, work)
	err := pinblock.Decode(pin, in.Format, work, in.PAN)
	clear(work)
	return err
}

// transactionPINKey derives the PIN key that a device used.
func (k *Key) transactionPINKey(in Incoming) (key.Key, error) {
	if k.tdesBase != nil {
		return k.tdesBase.Derive(in.Serial, dukpt.TDESPIN)
	}
	t := k.aesBase.KeyType()
	switch in.Bits {
	case 0:
	case 128:
		t = dukpt.AES128
	case 192:
		t = dukpt.AES192
	case 256:
		t = dukpt.AES256
	default:
		return key.Key{}, dukpt.ErrUse
	}
	return k.aesBase.Derive(in.Serial, dukpt.AESPIN, t)
}

// VerifyPVV checks the PIN of a block against a Visa PIN verification value.
func (e *Engine) VerifyPVV(in Incoming, k *Key, index byte, pvv []byte) error {
	if err := k.may(verifies, tr31.PINVisaPVV); err != nil {
		return err
	}
	return e.verifyPIN(in, func(digits []byte) (issuer.Code, []byte, error) {
		want, err := issuer.PVV(&k.material, index, in.PAN, digits)
		return want, pvv, err
	})
}

// VerifyIBM3624 checks the PIN of a block against an IBM 3624 offset, with the
// decimalisation table that is bound to the key: a table that the caller could
// choose tells the PIN in a few dozen questions.
func (e *Engine) VerifyIBM3624(in Incoming, k *Key, v issuer.Validation, offset []byte) error {
	if err := k.may(verifies, tr31.PINIBM3624); err != nil {
		return err
	}
	if !k.tableIsOf {
		return fmt.Errorf("%w: none is bound to the key", ErrTable)
	}
	return e.verifyPIN(in, func(digits []byte) (issuer.Code, []byte, error) {
		want, err := issuer.IBM3624(&k.material, k.table, v, in.PAN, offset)
		return want, digits, err
	})
}

// verifyPIN takes the PIN out and compares what is expected with what is given.
func (e *Engine) verifyPIN(in Incoming, compute func(digits []byte) (want issuer.Code, given []byte, err error)) error {
	var pin pinblock.PIN
	scratch := make([]byte, pinblock.Size4)
	if err := e.decipher(&pin, scratch, in); err != nil {
		return err
	}
	defer pin.Wipe()
	var ascii [12]byte
	defer clear(ascii[:])
	n := pin.RevealPIN(&ascii)
	want, given, err := compute(ascii[:n])
	if err != nil {
		return fmt.Errorf("verifying a PIN: %w", err)
	}
	defer want.Wipe()
	if !want.Equal(given) {
		return ErrMismatch
	}
	return nil
}
