package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/session"
)

// Frames of the commands stream. TLS keeps them whole; the length bounds them.
//
//	length 4 (of what follows) | kind 1 | number 8 | payload
//
// A node asks the leader and gets an answer under the same number:
//
//	propose   count 4, {kind 1, length 4, body}*      → status 1, index 8, count 4, {length 4, result}*
//	keepalive session 8, quote 8, wall clock 8        → status 1, flags 1, quote 8, deviation of the wall clock 8
//	read      -                                       → status 1, index 8
//	introduction  the asker's name                    → status 1, flags 1
//	announce  what version.go says                    → status 1, what version.go says
//	greeting  last index 8                            → status 1, how far the asker had its log, where that is further 8
const (
	askPropose   = 'P'
	askKeepalive = 'K'
	askRead      = 'R'
	answerBit    = 0x80

	askIntroduction = 'I' // asked by a member whose disk is empty
	askAnnounce     = 'V'
	askGreeting     = 'G' // asked before Raft runs

	wireHead     = 4 + 1 + 8
	maxWireFrame = 2 << 20 // the results of a full entry
)

// What became of a question.
const (
	statusDone    = 0
	statusNotDone = 1 // not leader, or busy: nothing was appended
	statusUnknown = 2 // it may have been, or may still be
)

var errBadWire = errors.New("commands stream: malformed frame")

func beginFrame(b []byte, kind byte, number uint64) []byte {
	b = append(b[:0], 0, 0, 0, 0, kind)
	return binary.BigEndian.AppendUint64(b, number)
}

func endFrame(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// readWire reads one frame into b, growing it where needed.
func readWire(r io.Reader, b []byte) (kind byte, number uint64, payload, buffer []byte, err error) {
	if cap(b) < wireHead {
		b = make([]byte, 4096)
	}
	b = b[:cap(b)]
	if _, err := io.ReadFull(r, b[:4]); err != nil {
		return 0, 0, nil, b, err
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < wireHead-4 || n > maxWireFrame {
		return 0, 0, nil, b, fmt.Errorf("%w: %d bytes", errBadWire, n)
	}
	if cap(b) < n {
		b = make([]byte, n)
	}
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return 0, 0, nil, b, err
	}
	return b[0], binary.BigEndian.Uint64(b[1:]), b[9:n], b, nil
}

func appendProposal(b []byte, batch []*waiter) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(batch)))
	for _, w := range batch {
		b = append(b, byte(w.kind))
		b = binary.BigEndian.AppendUint32(b, uint32(len(w.body)))
		b = append(b, w.body...)
	}
	return b
}

// beginsSession says whether a proposal begins with a node's session: without
// one nobody says what its clock says.
func beginsSession(payload []byte) bool {
	return len(payload) > 4 && journal.Kind(payload[4]) == journal.KindSession
}

// commandsIn is how many commands a proposal says it has.
func commandsIn(payload []byte) int {
	if len(payload) < 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(payload))
}

// entryOf makes the entry of a proposal, stamped by the leader.
func entryOf(payload []byte, now payment.Instant, allows func(journal.Kind, []byte) error) ([]byte, error) {
	if len(payload) < 4 || journal.EntrySize(0, len(payload)) > journal.MaxEntry {
		return nil, errBadWire
	}
	count, rest := binary.BigEndian.Uint32(payload), payload[4:]
	entry := journal.BeginEntry(make([]byte, 0, journal.EntrySize(0, len(payload))), now)
	for range count {
		if len(rest) < 5 {
			return nil, errBadWire
		}
		n := int(binary.BigEndian.Uint32(rest[1:]))
		if n > journal.MaxCommand || n > len(rest)-5 {
			return nil, errBadWire
		}
		if err := allows(journal.Kind(rest[0]), rest[5:5+n]); err != nil {
			return nil, err
		}
		entry = journal.AddCommand(entry, journal.Kind(rest[0]), rest[5:5+n])
		rest = rest[5+n:]
	}
	if count == 0 || len(rest) != 0 {
		return nil, errBadWire
	}
	return journal.EndEntry(entry), nil
}

func appendResults(b []byte, index uint64, results []journal.Result) ([]byte, error) {
	b = append(b, statusDone)
	b = binary.BigEndian.AppendUint64(b, index)
	b = binary.BigEndian.AppendUint32(b, uint32(len(results)))
	for n := range results {
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		var err error
		if b, err = journal.AppendResult(b, &results[n]); err != nil {
			return b, err
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, nil
}

// readResults reads the answer to a proposal of want commands.
func readResults(payload []byte, want int, a *applied) (index uint64, err error) {
	if len(payload) < 1+8+4 {
		return 0, errBadWire
	}
	index = binary.BigEndian.Uint64(payload[1:])
	count, rest := int(binary.BigEndian.Uint32(payload[9:])), payload[13:]
	if count != want {
		return 0, errBadWire
	}
	a.results = a.results[:0]
	for range count {
		if len(rest) < 4 {
			return 0, errBadWire
		}
		n := int(binary.BigEndian.Uint32(rest))
		if n > len(rest)-4 {
			return 0, errBadWire
		}
		var r journal.Result
		if err := journal.ReadResult(rest[4:4+n], &r); err != nil {
			return 0, err
		}
		a.results = append(a.results, r)
		rest = rest[4+n:]
	}
	return index, nil
}

// keepalive is a node's sign of life.
type keepalive struct {
	session payment.Session
	quote   session.Quote
	wall    payment.Instant
}

func appendKeepalive(b []byte, k keepalive) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(k.session))
	b = binary.BigEndian.AppendUint64(b, uint64(k.quote))
	return binary.BigEndian.AppendUint64(b, uint64(k.wall))
}

func readKeepalive(b []byte) (k keepalive, err error) {
	if len(b) != 24 {
		return k, errBadWire
	}
	return keepalive{
		session: payment.Session(binary.BigEndian.Uint64(b)), quote: session.Quote(binary.BigEndian.Uint64(b[8:])),
		wall: payment.Instant(binary.BigEndian.Uint64(b[16:])),
	}, nil
}

const (
	flagGranted = 1
	flagEnded   = 2
	flagAgreed  = 4
)

// heard is the leader's answer to a keepalive.
type heard struct {
	session.Answer
	deviation time.Duration // of the asker's wall clock from the median
	agreed    bool          // a majority's clocks say what the asker's does
}

func appendAnswer(b []byte, a heard) []byte {
	flags := byte(0)
	if a.Granted {
		flags |= flagGranted
	}
	if a.Ended {
		flags |= flagEnded
	}
	if a.agreed {
		flags |= flagAgreed
	}
	b = append(b, statusDone, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(a.Quote))
	return binary.BigEndian.AppendUint64(b, uint64(a.deviation))
}

func readAnswer(b []byte) (heard, error) {
	if len(b) != 18 {
		return heard{}, errBadWire
	}
	return heard{session.Answer{
		Granted: b[1]&flagGranted != 0, Ended: b[1]&flagEnded != 0, Quote: session.Quote(binary.BigEndian.Uint64(b[2:])),
	}, time.Duration(binary.BigEndian.Uint64(b[10:])), b[1]&flagAgreed != 0}, nil
}
