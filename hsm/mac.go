package hsm

import (
	"errors"
	"fmt"

	"authswitch/hsm/wire"
)

// GenerateMAC writes a MAC of 4 or 8 bytes into dst. The algorithm is the key
// block's usage: M1, M3 or M6.
func (c *Client) GenerateMAC(dst, key []byte, p Padding, length int, message []byte, deadline int64) error {
	if length != 4 && length != 8 || len(dst) < length {
		return fmt.Errorf("%w: a MAC has 4 or 8 bytes", ErrInput)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpGenerateMAC, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, key)
	k.request = append(k.request, byte(p), byte(length))
	k.request = wire.AppendBytes(k.request, message)
	if err := c.ask(k, wire.OpGenerateMAC, deadline); err != nil {
		return err
	}
	if len(k.answer) != length {
		return fmt.Errorf("%w: a MAC of %d bytes", ErrFailed, len(k.answer))
	}
	copy(dst, k.answer)
	return nil
}

// VerifyMAC checks a MAC under the current key, and where there is a previous
// one under that: nil when it holds, ErrRefused when it does not. The expected
// value never leaves the module.
func (c *Client) VerifyMAC(current, previous []byte, p Padding, message, mac []byte, deadline int64) error {
	deadline = c.until(deadline)
	if c.cfg.Protocol == ProtocolPayshield && len(previous) > 0 { // one key a command there
		if err := c.VerifyMAC(current, nil, p, message, mac, deadline); !errors.Is(err, ErrRefused) {
			return err
		}
		current, previous = previous, nil
	}
	k := begin(wire.OpVerifyMAC, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, current)
	k.request = wire.AppendBytes(k.request, previous)
	k.request = append(k.request, byte(p))
	k.request = wire.AppendBytes(k.request, mac)
	k.request = wire.AppendBytes(k.request, message)
	return c.ask(k, wire.OpVerifyMAC, deadline)
}
