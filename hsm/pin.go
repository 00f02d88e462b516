package hsm

import (
	"fmt"

	"authswitch/card"
	"authswitch/hsm/wire"
)

// In is an encrypted PIN block and how to read it. KSN and Bits are for DUKPT:
// the key block is then a base derivation key.
type In struct {
	Key    []byte // key block of usage P0 or B0
	KSN    []byte // key serial number, 10 bytes for TDES, 12 for AES
	Bits   int    // AES DUKPT: length of the PIN key, 0 for that of the base key
	Format PINFormat
	Rule   PANRule
	Block  []byte
	PAN    *card.PAN
	// InOrder refuses a counter that was seen before or goes backward. Without
	// it such a one is only counted: two nodes reorder honest traffic.
	InOrder bool
}

// Out is how the block leaves, for the same account number.
type Out struct {
	Key    []byte // key block of usage P0
	Format PINFormat
	Rule   PANRule
}

// PINBytes is the room that TranslatePIN needs.
const PINBytes = 16

// inOrder is the flag of In.InOrder.
const inOrder = 1

func (in *In) append(dst []byte) []byte {
	flags := byte(0)
	if in.InOrder {
		flags = inOrder
	}
	dst = wire.AppendBytes(dst, in.Key)
	dst = wire.AppendBytes(dst, in.KSN)
	dst = wire.AppendUint16(dst, uint16(in.Bits))
	dst = append(dst, byte(in.Format), byte(in.Rule), flags)
	dst = wire.AppendBytes(dst, in.Block)
	return wire.AppendBytes(dst, in.PAN.RevealPAN())
}

// TranslatePIN moves a PIN from one key to another inside the module and writes
// the block into dst, which has room for PINBytes. Whatever is wrong with
// block, PIN, account number or counter is ErrRefused.
func (c *Client) TranslatePIN(dst []byte, in In, out Out, deadline int64) (n int, err error) {
	if len(dst) < PINBytes || in.PAN == nil {
		return 0, fmt.Errorf("%w: no room for a PIN block, or no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpTranslatePIN, deadline)
	defer k.free()
	k.request = in.append(k.request)
	k.request = wire.AppendBytes(k.request, out.Key)
	k.request = append(k.request, byte(out.Format), byte(out.Rule))
	if err := c.ask(k, wire.OpTranslatePIN, deadline); err != nil {
		return 0, err
	}
	if len(k.answer) != 8 && len(k.answer) != PINBytes {
		return 0, fmt.Errorf("%w: a PIN block of %d bytes", ErrFailed, len(k.answer))
	}
	return copy(dst, k.answer), nil
}

// VerifyPVV checks the PIN of a block against a Visa PIN verification value:
// four digits, and the index of the key.
func (c *Client) VerifyPVV(in In, key []byte, index byte, pvv []byte, deadline int64) error {
	if in.PAN == nil {
		return fmt.Errorf("%w: no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpVerifyPVV, deadline)
	defer k.free()
	k.request = in.append(k.request)
	k.request = wire.AppendBytes(k.request, key)
	k.request = append(k.request, index)
	k.request = wire.AppendBytes(k.request, pvv)
	return c.ask(k, wire.OpVerifyPVV, deadline)
}

// Validation is which digits of the account number an IBM 3624 PIN is made of.
type Validation struct {
	Start, Length int
	Pad           byte // ASCII
}

// VerifyIBM3624 checks the PIN of a block against an IBM 3624 offset. The
// decimalisation table is the one bound to the key.
func (c *Client) VerifyIBM3624(in In, key []byte, v Validation, offset []byte, deadline int64) error {
	if in.PAN == nil {
		return fmt.Errorf("%w: no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpVerifyIBM3624, deadline)
	defer k.free()
	k.request = in.append(k.request)
	k.request = wire.AppendBytes(k.request, key)
	k.request = append(k.request, byte(v.Start), byte(v.Length), v.Pad)
	k.request = wire.AppendBytes(k.request, offset)
	return c.ask(k, wire.OpVerifyIBM3624, deadline)
}
