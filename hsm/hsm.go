// Package hsm is what the switch knows of its security module: the operations
// it needs, over connections to one or several hsmd.
//
// A call blocks until its answer, its deadline, or the loss of every endpoint;
// it never queues without bound. Keys go and come as key blocks under the local
// master key, never in the clear but for the data key that the switch seals
// cards with. The package holds no key and computes nothing; it opens no
// listener and does not decide what a refusal means for a payment. Called by
// cmd, which hands it to link, switch and vault through their own interfaces.
package hsm

import (
	"errors"
	"fmt"

	"authswitch/hsm/wire"
)

// Errors. They are the ways an operation can end; what is wrapped around
// ErrBadKey and ErrFailed says more, of ErrRefused nothing is ever said.
var (
	ErrUnavailable = errors.New("no security module can be reached")
	ErrBusy        = errors.New("the security module is busy")
	ErrDeadline    = errors.New("the security module did not answer in time")
	ErrRefused     = errors.New("the security module refused")
	ErrBadKey      = errors.New("not a key for this")
	ErrForbidden   = errors.New("the security module does not let this client do that")
	ErrLimited     = errors.New("the limit for this purpose is used up")
	ErrFailed      = errors.New("the security module failed")
	ErrInput       = errors.New("what was asked cannot be asked")
)

// errorOf makes an error of a status and of the text that came with it.
func errorOf(s wire.Status, body []byte) error {
	if s == wire.StatusOK {
		return nil
	}
	var sentinel error
	switch s {
	case wire.StatusRefused:
		return ErrRefused
	case wire.StatusBusy:
		return ErrBusy
	case wire.StatusDeadline:
		return ErrDeadline
	case wire.StatusBadKey:
		sentinel = ErrBadKey
	case wire.StatusForbidden:
		sentinel = ErrForbidden
	case wire.StatusLimited:
		sentinel = ErrLimited
	case wire.StatusMalformed:
		sentinel = ErrInput
	default:
		sentinel = fmt.Errorf("%w (%s)", ErrFailed, s)
	}
	f := wire.Read(body)
	if text := f.String(); text != "" {
		return fmt.Errorf("%w: %s", sentinel, text)
	}
	return sentinel
}

// PINFormat is the format of a PIN block, ISO 9564-1.
type PINFormat uint8

// The formats that are translated.
const (
	ISO0 PINFormat = 0
	ISO1 PINFormat = 1
	ISO3 PINFormat = 3
	ISO4 PINFormat = 4
)

// PANRule is how format 4 binds the account number: a setting of both ends.
type PANRule uint8

// The rules.
const (
	FullPAN     PANRule = 0
	Rightmost12 PANRule = 1
)

// Padding is a padding method of ISO/IEC 9797-1 clause 6.3. CMAC has its own
// and ignores it.
type Padding uint8

// The paddings.
const (
	PadZeros       Padding = 1
	PadOneAndZeros Padding = 2
	PadLengthFirst Padding = 3
)

// Attributes are what a key is for, as its block's header has them.
type Attributes struct {
	Usage         [2]byte // "P0"
	Algorithm     byte    // T or A
	Mode          byte
	Exportability byte // E, S or N
}

// ParseAttributes reads them in the order of a header: "P0TBE".
func ParseAttributes(s string) (Attributes, error) {
	if len(s) != 5 {
		return Attributes{}, fmt.Errorf("%w: attributes are five characters, such as P0TBE", ErrInput)
	}
	return Attributes{Usage: [2]byte{s[0], s[1]}, Algorithm: s[2], Mode: s[3], Exportability: s[4]}, nil
}

// String is the order of a header.
func (a Attributes) String() string {
	return string([]byte{a.Usage[0], a.Usage[1], a.Algorithm, a.Mode, a.Exportability})
}

func (a Attributes) append(dst []byte) []byte {
	return append(dst, a.Usage[0], a.Usage[1], a.Algorithm, a.Mode, a.Exportability)
}

func readAttributes(f *wire.Fields) Attributes {
	var b [5]byte
	f.Fixed(b[:])
	return Attributes{Usage: [2]byte{b[0], b[1]}, Algorithm: b[2], Mode: b[3], Exportability: b[4]}
}

// Key is a key as it is stored and shown: a version D block under the local
// master key.
type Key struct {
	Attributes Attributes
	KCV        []byte
	Block      []byte
	Master     int // the number of the local master key it is under
}

func readKey(body []byte) (Key, error) {
	f := wire.Read(body)
	k := Key{Attributes: readAttributes(&f), KCV: append([]byte(nil), f.Bytes()...), Master: int(f.Uint16()), Block: append([]byte(nil), f.Bytes()...)}
	return k, done(&f)
}

// done turns fields that are not what was agreed into a failure of the module.
func done(f *wire.Fields) error {
	if err := f.Done(); err != nil {
		return fmt.Errorf("%w: its answer: %w", ErrFailed, err)
	}
	return nil
}
