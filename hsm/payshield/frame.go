// Package payshield speaks the host commands of payShield-style payment HSMs,
// shaped after their public documentation: a length of two bytes, a header that
// is given back, a command of two letters, fields without separators.
//
// It translates both ways between host commands and the operations of hsm/wire:
// Encode and Decode for a client whose module is such an HSM, Parse and
// Call.Answer for a module that answers such clients. So the cryptography, the
// rules of keys and the audit log are the same behind both doors. It does no
// I/O and sees no clear key or PIN; docs/payshield.md has every field. Called by
// hsm and hsm/server.
package payshield

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of frames and of what cannot be said in this language.
var (
	ErrFrame       = errors.New("not a host command")
	ErrUnsupported = errors.New("no host command does this")
	ErrAnswer      = errors.New("not the answer to this host command")
)

// Sizes of a frame.
const (
	lengthBytes = 2
	commandSize = 2
	// MaxFrame bounds a whole frame in bytes, its length included.
	MaxFrame = 8 << 10
	// UsualHeader is as long as the client's correlation ids in hexadecimal.
	UsualHeader = 16
	// endOfMessage begins a trailer, which is given back as it came.
	endOfMessage = 0x19
	maxTrailer   = 32
)

// Code is the error code of an answer: two characters.
type Code string

// The codes that are sent and understood.
const (
	OK             Code = "00"
	VerifyFailed   Code = "01" // a MAC, CVV, PVV or offset does not hold
	SourceKey      Code = "10" // the first key is none, or not for this
	DestinationKey Code = "11" // the second
	InvalidData    Code = "15" // a field is not what it must be
	InvalidPIN     Code = "20" // the PIN block holds none; nothing more is said
	InvalidFormat  Code = "23" // unknown PIN block format
	PINLength      Code = "24" // understood, never sent: 20 says it
	KeyType        Code = "29" // the key may not be used or moved so
	Internal       Code = "41" // the module could not
	Disabled       Code = "68" // no such command, or not for this client
	LengthError    Code = "80" // the frame is shorter or longer than its fields
	InvalidScheme  Code = "26" // a key that is not in a key block
)

// Message is one frame taken apart. Its parts are of the buffer it was cut from.
type Message struct {
	Header  []byte
	Command [commandSize]byte
	Fields  []byte
	Trailer []byte // with the character that begins it
}

// Cut takes the first frame off what was received. A size of zero means that
// more must come.
func Cut(received []byte, headerLength int) (m Message, size int, err error) {
	if len(received) < lengthBytes {
		return Message{}, 0, nil
	}
	n := int(binary.BigEndian.Uint16(received))
	if n > MaxFrame-lengthBytes || n < headerLength+commandSize {
		return Message{}, 0, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	if len(received) < lengthBytes+n {
		return Message{}, 0, nil
	}
	body := received[lengthBytes : lengthBytes+n]
	m.Header, body = body[:headerLength:headerLength], body[headerLength:]
	m.Command = [commandSize]byte(body)
	m.Fields = body[commandSize:]
	return m, lengthBytes + n, nil
}

// Begin appends a frame's head; the fields follow, then Finish.
func Begin(dst, header []byte, command [commandSize]byte) []byte {
	dst = append(dst, 0, 0)
	dst = append(dst, header...)
	return append(dst, command[:]...)
}

// Finish writes the length of the frame that begins at start.
func Finish(dst []byte, start int) error {
	n := len(dst) - start
	if n > MaxFrame {
		return fmt.Errorf("%w: %d bytes of %d", ErrFrame, n, MaxFrame)
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(n-lengthBytes))
	return nil
}

// answerOf is the command of an answer: the second letter is the next one.
func answerOf(command [commandSize]byte) [commandSize]byte {
	command[1]++
	return command
}
