package hsm

import (
	"fmt"

	"authswitch/hsm/wire"
)

// Generate makes a key of the given number of bytes inside the module.
func (c *Client) Generate(a Attributes, bytes int, deadline int64) (Key, error) {
	if bytes < 1 || bytes > 255 {
		return Key{}, fmt.Errorf("%w: a key of %d bytes", ErrInput, bytes)
	}
	deadline = c.until(deadline)
	k := begin(wire.OpGenerate, deadline)
	defer k.free()
	k.request = append(a.append(k.request), byte(bytes))
	return c.askKey(k, wire.OpGenerate, deadline)
}

func (c *Client) askKey(k *call, op wire.Op, deadline int64) (Key, error) {
	if err := c.ask(k, op, deadline); err != nil {
		return Key{}, err
	}
	return readKey(k.answer)
}

// KCV opens a key block and says what is in it: attributes and check value.
func (c *Client) KCV(block []byte, deadline int64) (Key, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpKCV, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, block)
	return c.askKey(k, wire.OpKCV, deadline)
}

// Form is how a key comes in or leaves.
type Form byte

// The forms.
const (
	Block Form = Form(wire.FormBlock) // a TR-31 / X9.143 key block
	Raw   Form = Form(wire.FormRaw)   // the bare cryptogram under a TDES key-encrypting key, X9.17
)

// ImportRequest is what is expected of a key that comes in. The header of a
// block must say exactly Want; a raw cryptogram needs its check value.
type ImportRequest struct {
	Form         Form
	Want         Attributes
	CheckValue   []byte // two bytes or more; compared when given
	LegacyImport bool   // versions A and C are taken
	Table        []byte // the decimalisation table to bind to an IBM 3624 key
}

// Import takes a key in that a peer sent under a key-encrypting key.
func (c *Client) Import(kek, sent []byte, r ImportRequest, deadline int64) (Key, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpImport, deadline)
	defer k.free()
	legacy := byte(0)
	if r.LegacyImport {
		legacy = 1
	}
	k.request = append(k.request, byte(r.Form), legacy)
	k.request = r.Want.append(k.request)
	k.request = wire.AppendBytes(k.request, r.CheckValue)
	k.request = wire.AppendBytes(k.request, r.Table)
	k.request = wire.AppendBytes(k.request, kek)
	k.request = wire.AppendBytes(k.request, sent)
	return c.askKey(k, wire.OpImport, deadline)
}

// Exported is a key as a peer gets it.
type Exported struct {
	KCV  []byte
	Sent []byte // a key block, or the bare cryptogram
}

// Export gives a key to a peer under a key-encrypting key.
func (c *Client) Export(kek, block []byte, form Form, deadline int64) (Exported, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpExport, deadline)
	defer k.free()
	k.request = append(k.request, byte(form))
	k.request = wire.AppendBytes(k.request, kek)
	k.request = wire.AppendBytes(k.request, block)
	if err := c.ask(k, wire.OpExport, deadline); err != nil {
		return Exported{}, err
	}
	f := wire.Read(k.answer)
	e := Exported{KCV: append([]byte(nil), f.Bytes()...), Sent: append([]byte(nil), f.Bytes()...)}
	return e, done(&f)
}

// Rewrap seals a block of an earlier local master key under the current one. A
// block that is under it already comes back as it was.
func (c *Client) Rewrap(block []byte, deadline int64) (Key, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpRewrap, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, block)
	return c.askKey(k, wire.OpRewrap, deadline)
}

// Status is what a module says of itself.
type Status struct {
	Version      string
	Profile      string
	Root         string // pkcs11 or file
	Manufacturer string
	Model        string
	Serial       string
	Label        string
	Library      string
	TestKeys     bool
	Masters      []int // local master keys that open blocks, ascending; the last one seals
	StartedAt    int64 // Unix nanoseconds
	Cached       int   // opened keys in memory
}

// Status asks the first endpoint that answers.
func (c *Client) Status(deadline int64) (Status, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpStatus, deadline)
	defer k.free()
	if err := c.ask(k, wire.OpStatus, deadline); err != nil {
		return Status{}, err
	}
	f := wire.Read(k.answer)
	s := Status{
		Version: f.String(), Profile: f.String(), Root: f.String(), Manufacturer: f.String(), Model: f.String(), Serial: f.String(), Label: f.String(), Library: f.String(),
		TestKeys: f.Byte() == 1, StartedAt: int64(f.Uint64()), Cached: int(f.Uint64()),
	}
	for range f.Byte() {
		s.Masters = append(s.Masters, int(f.Uint16()))
	}
	return s, done(&f)
}

// Control is how a module guards its keys.
type Control struct {
	Dual   bool   // operations on keys need two officers
	Public []byte // of the key that signs their warrants, PKIX DER
}

// Control asks the first endpoint that answers. A module that speaks host
// commands has its own ways: ErrInput.
func (c *Client) Control(deadline int64) (Control, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpControl, deadline)
	defer k.free()
	if err := c.ask(k, wire.OpControl, deadline); err != nil {
		return Control{}, err
	}
	f := wire.Read(k.answer)
	out := Control{Dual: f.Byte() == 1, Public: append([]byte(nil), f.Bytes()...)}
	return out, done(&f)
}

// NewMaster makes the next local master key in the token and says its number:
// from then on it seals, and the earlier ones only open. On the admin socket.
func (c *Client) NewMaster(deadline int64) (int, error) {
	return c.askMaster(wire.OpNewMaster, 0, deadline)
}

// RetireMaster destroys an earlier local master key in the token, for ever:
// every block must have been wrapped again. On the admin socket.
func (c *Client) RetireMaster(number int, deadline int64) error {
	_, err := c.askMaster(wire.OpRetireMaster, number, deadline)
	return err
}

// Reload lets the module look again which local master keys its token holds,
// and says the one that seals. On the admin socket.
func (c *Client) Reload(deadline int64) (int, error) {
	return c.askMaster(wire.OpReload, 0, deadline)
}

func (c *Client) askMaster(op wire.Op, number int, deadline int64) (int, error) {
	deadline = c.until(deadline)
	k := begin(op, deadline)
	defer k.free()
	k.request = wire.AppendUint16(k.request, uint16(number))
	if err := c.ask(k, op, deadline); err != nil {
		return 0, err
	}
	f := wire.Read(k.answer)
	n := int(f.Uint16())
	return n, done(&f)
}

// BindTable binds a decimalisation table to an IBM 3624 key. On the admin
// socket.
func (c *Client) BindTable(block, table []byte, deadline int64) (Key, error) {
	deadline = c.until(deadline)
	k := begin(wire.OpBindTable, deadline)
	defer k.free()
	k.request = wire.AppendBytes(k.request, block)
	k.request = wire.AppendBytes(k.request, table)
	return c.askKey(k, wire.OpBindTable, deadline)
}

// Ask sends an operation that this package does not know, with the fields as
// they are, and returns a copy of the answer's: for the ceremony, whose
// operations are its own.
func (c *Client) Ask(op wire.Op, fields []byte, deadline int64) ([]byte, error) {
	deadline = c.until(deadline)
	k := begin(op, deadline)
	defer k.free()
	k.request = append(k.request, fields...)
	if err := c.ask(k, op, deadline); err != nil {
		return nil, err
	}
	return append([]byte(nil), k.answer...), nil
}
