package hsm

import (
	"encoding/hex"
	"errors"
	"fmt"

	"authswitch/hsm/payshield"
	"authswitch/hsm/wire"
)

// speech is how requests and answers look on a connection. Requests come as
// frames of hsm/wire whatever the language: all that is above a connection, the
// pool, its deadlines and its failover, is the same.
type speech interface {
	// request appends a request under an id.
	request(dst, frame []byte, id uint64) ([]byte, error)
	// cut takes the first answer off what was received; its size is 0 while more
	// must come.
	cut(received []byte) (answer, error)
	// ping says whether the answer to a ping is one.
	ping(a answer) wire.Status
	// answer appends the fields of the answer to a request.
	answer(dst, request []byte, a answer) (wire.Status, []byte)
}

// answer is one that was received.
type answer struct {
	id     uint64
	size   int
	status wire.Status       // of hsmd
	body   []byte            // of hsmd
	host   payshield.Message // of a module with host commands
}

func speechOf(protocol string) speech {
	if protocol == ProtocolPayshield {
		return hostCommands{}
	}
	return frames{}
}

// frames is hsmd's own language.
type frames struct{}

func (frames) request(dst, frame []byte, _ uint64) ([]byte, error) { return append(dst, frame...), nil }

func (frames) cut(received []byte) (answer, error) {
	r, size, err := wire.CutResponse(received)
	return answer{id: r.ID, size: size, status: r.Status, body: r.Body}, err
}

func (frames) ping(a answer) wire.Status { return a.status }

func (frames) answer(dst, _ []byte, a answer) (wire.Status, []byte) {
	return a.status, append(dst, a.body...)
}

// hostCommands is the language of payShield-style modules. The id goes into the
// header, which such a module gives back: it must be set up with headers of 16
// characters.
type hostCommands struct{}

// headerBytes are those of an id.
const headerBytes = payshield.UsualHeader / 2

func (hostCommands) request(dst, frame []byte, id uint64) ([]byte, error) {
	q, _, err := wire.CutRequest(frame)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrInput, err)
	}
	start := len(dst)
	out := append(dst, 0, 0)
	var raw [headerBytes]byte
	for i := range raw {
		raw[i] = byte(id >> (8 * (headerBytes - 1 - i)))
	}
	out = hex.AppendEncode(out, raw[:])
	out, err = payshield.Encode(out, q.Op, q.Body)
	if err == nil {
		err = payshield.Finish(out, start)
	}
	if err != nil {
		clear(out[start:])
		return dst, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return out, nil
}

func (hostCommands) cut(received []byte) (answer, error) {
	m, size, err := payshield.Cut(received, payshield.UsualHeader)
	if err != nil || size == 0 {
		return answer{}, err
	}
	var raw [headerBytes]byte
	if _, err := hex.Decode(raw[:], m.Header); err != nil {
		return answer{}, errHeader
	}
	a := answer{size: size, host: m}
	for _, b := range raw {
		a.id = a.id<<8 | uint64(b)
	}
	return a, nil
}

var errHeader = errors.New("an answer with another header than was sent: set the module up with headers of 16 characters")

func (hostCommands) ping(a answer) wire.Status {
	status, _ := payshield.Decode(nil, wire.OpPing, nil, &a.host)
	return status
}

func (hostCommands) answer(dst, request []byte, a answer) (wire.Status, []byte) {
	q, _, err := wire.CutRequest(request)
	if err != nil {
		return wire.StatusFailed, dst
	}
	return payshield.Decode(dst, q.Op, q.Body, &a.host)
}
