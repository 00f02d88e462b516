// Package iso8583 turns payments into the messages of one acquirer or scheme
// and back.
//
// A dialect file (package dialects) is compiled at boot into a table; packing
// appends to a buffer the caller owns, unpacking copies the frame into a
// Message and keeps offsets. Neither allocates once warm, and both refuse what
// the file does not describe: docs/wire.md lists where they are stricter than
// moov-io/iso8583, which is the specification format and the oracle of the
// differential tests.
//
// A frame, here, is what the length prefix counts out: the scheme's header, if
// the dialect has one, and the message. The length prefix itself, reserved
// bytes after it and trailers belong to package link, which reads Framing.
//
// The package opens no connection, keeps no state between messages, reads no
// clock and never puts the value of an element into an error. Called by:
// switching and outbox (payments), link (network management, correlation), the
// message and dialect commands, bench.
package iso8583
