// Package wire is what goes between the security module and those that ask it:
// frames, operations, statuses and fields. Client and server share it.
//
// It only encodes and decodes: no I/O, no clock, no judgement about keys, and
// no allocation where the caller's buffer has room. A frame is
//
//	length     4 bytes, big endian: the bytes behind it
//	version    1
//	operation  1: what is asked; in an answer, the status
//	id         8: chosen by who asks, given back in the answer
//	deadline   8: Unix nanoseconds, 0 for none; only in a request
//	fields     as the operation has them
//
// Requests are pipelined and answers come in any order. Called by hsm,
// hsm/server and the tools of operators.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the second part of every frame. A server answers another one with
// StatusVersion.
const Version = 1

// MaxFrame bounds a whole frame in bytes: 64 sealed cards with what binds them,
// or the largest message that a MAC is asked of.
const MaxFrame = 8 << 10

// The bytes in front of the fields.
const (
	lengthBytes  = 4
	RequestHead  = lengthBytes + 1 + 1 + 8 + 8
	ResponseHead = lengthBytes + 1 + 1 + 8
)

// Errors of reading and building frames.
var (
	ErrFrame   = errors.New("not a frame")
	ErrVersion = errors.New("a frame of another version")
	ErrTooLong = errors.New("longer than a frame can be")
	ErrFields  = errors.New("the fields are not those of the operation")
)

// Request is one that was received. Body is a part of the buffer it was cut
// from.
type Request struct {
	Op       Op
	ID       uint64
	Deadline int64
	Body     []byte
}

// Response is one that was received. Body is a part of the buffer it was cut
// from.
type Response struct {
	Status Status
	ID     uint64
	Body   []byte
}

// BeginRequest appends the head of a request to dst. The fields follow, then
// Finish.
func BeginRequest(dst []byte, op Op, id uint64, deadline int64) []byte {
	dst = append(dst, 0, 0, 0, 0, Version, byte(op))
	dst = binary.BigEndian.AppendUint64(dst, id)
	return binary.BigEndian.AppendUint64(dst, uint64(deadline))
}

// BeginResponse appends the head of a response to dst. The fields follow, then
// Finish.
func BeginResponse(dst []byte, s Status, id uint64) []byte {
	dst = append(dst, 0, 0, 0, 0, Version, byte(s))
	return binary.BigEndian.AppendUint64(dst, id)
}

// Finish writes the length of the frame that begins at start.
func Finish(dst []byte, start int) error {
	n := len(dst) - start
	if n > MaxFrame {
		return fmt.Errorf("%w: %d bytes of %d", ErrTooLong, n, MaxFrame)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(n-lengthBytes))
	return nil
}

// SetID gives a whole request another id: it is sent again, to another
// endpoint.
func SetID(frame []byte, id uint64) { binary.BigEndian.PutUint64(frame[lengthBytes+2:], id) }

// SetStatus gives a response that was begun at start another status and takes
// its fields back.
func SetStatus(dst []byte, start int, s Status) []byte {
	dst[start+lengthBytes+1] = byte(s)
	return dst[:start+ResponseHead]
}

// CutRequest takes the first request off what was received. A size of zero
// means that more must come. A frame of another version is returned with
// ErrVersion and its id, so that it can be answered.
func CutRequest(received []byte) (r Request, size int, err error) {
	size, err = cut(received, RequestHead)
	if size == 0 || err != nil {
		return Request{}, 0, err
	}
	r = Request{
		Op:       Op(received[5]),
		ID:       binary.BigEndian.Uint64(received[6:]),
		Deadline: int64(binary.BigEndian.Uint64(received[14:])),
		Body:     received[RequestHead:size],
	}
	if received[4] != Version {
		return r, size, ErrVersion
	}
	return r, size, nil
}

// CutResponse takes the first response off what was received. A size of zero
// means that more must come.
func CutResponse(received []byte) (r Response, size int, err error) {
	size, err = cut(received, ResponseHead)
	if size == 0 || err != nil {
		return Response{}, 0, err
	}
	if received[4] != Version {
		return Response{}, 0, ErrVersion
	}
	return Response{
		Status: Status(received[5]),
		ID:     binary.BigEndian.Uint64(received[6:]),
		Body:   received[ResponseHead:size],
	}, size, nil
}

// cut says how long the first frame is, 0 when it is not whole yet. What its
// length says is judged before its bytes are waited for.
func cut(received []byte, head int) (int, error) {
	if len(received) < lengthBytes {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(received)
	if n > MaxFrame-lengthBytes {
		return 0, fmt.Errorf("%w: %d bytes", ErrTooLong, n)
	}
	if int(n) < head-lengthBytes {
		return 0, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	if len(received) < lengthBytes+int(n) {
		return 0, nil
	}
	return lengthBytes + int(n), nil
}
