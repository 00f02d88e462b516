package hsm

import (
	"fmt"

	"authswitch/card"
	"authswitch/hsm/wire"
)

// VerifyCVV checks a card verification value. The service code says which: 000
// for CVV2, 999 for iCVV, else the one of the track.
func (c *Client) VerifyCVV(key []byte, pan *card.PAN, expiry, service, value []byte, deadline int64) error {
	if pan == nil {
		return fmt.Errorf("%w: no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpVerifyCVV, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, key)
	k.request = wire.AppendBytes(k.request, pan.RevealPAN())
	k.request = wire.AppendBytes(k.request, expiry)
	k.request = wire.AppendBytes(k.request, service)
	k.request = wire.AppendBytes(k.request, value)
	return c.ask(k, wire.OpVerifyCVV, deadline)
}

// Chip is what the keys of one chip transaction are derived from.
type Chip struct {
	PAN      *card.PAN
	Sequence []byte // two ASCII digits; none is "00"
	ATC      [2]byte
	UN       [4]byte // unpredictable number, tag 9F37
	Master   byte    // 0: EMV Book 2 option A, 1: option B
	Session  byte    // 0: the card's key, 1: EMV common, 2: Mastercard SKD
}

func (c *Chip) append(dst []byte) []byte {
	dst = wire.AppendBytes(dst, c.PAN.RevealPAN())
	dst = wire.AppendBytes(dst, c.Sequence)
	dst = append(dst, c.ATC[:]...)
	dst = append(dst, c.UN[:]...)
	return append(dst, c.Master, c.Session)
}

// VerifyARQC checks a chip's request cryptogram over the data it signed.
func (c *Client) VerifyARQC(key []byte, chip Chip, p Padding, data []byte, arqc [8]byte, deadline int64) error {
	if chip.PAN == nil {
		return fmt.Errorf("%w: no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpVerifyARQC, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, key)
	k.request = chip.append(k.request)
	k.request = append(k.request, byte(p))
	k.request = append(k.request, arqc[:]...)
	k.request = wire.AppendBytes(k.request, data)
	return c.ask(k, wire.OpVerifyARQC, deadline)
}

// VerifyARPC checks an issuer's answer to a cryptogram. With eight bytes it is
// of method 1 and code is the response code; with four of method 2, code is the
// status update and proprietary what follows it.
func (c *Client) VerifyARPC(key []byte, chip Chip, arqc [8]byte, code, proprietary, arpc []byte, deadline int64) error {
	if chip.PAN == nil {
		return fmt.Errorf("%w: no account number", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpVerifyARPC, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, key)
	k.request = chip.append(k.request)
	k.request = append(k.request, arqc[:]...)
	k.request = wire.AppendBytes(k.request, code)
	k.request = wire.AppendBytes(k.request, proprietary)
	k.request = wire.AppendBytes(k.request, arpc)
	return c.ask(k, wire.OpVerifyARPC, deadline)
}
