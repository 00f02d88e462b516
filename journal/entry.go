package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"authswitch/payment"
)

// An entry is one Raft log entry's data and carries many commands:
//
//	magic 4 | version 1 | flags 1 | leader time 8 | count 4 | {kind 1, length 4, body}* | CRC-32C 4
//
// The checksum is over everything before it and is verified on apply on every
// node: neither the disk nor the network between two nodes is trusted.
const (
	entryMagic   = "ASj1"
	entryVersion = 1
	entryHead    = 4 + 1 + 1 + 8 + 4
	commandHead  = 1 + 4
	entryTail    = 4
	// MaxEntry is the largest entry: big enough that one flush carries
	// hundreds of commands, small enough that a follower is never stuck on one.
	MaxEntry = 256 << 10
)

// castagnoli is the polynomial that processors have an instruction for.
// MakeTable returns the same table each time; it is not a lookup on the path.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// EntrySize is the size of an entry with so many bytes of bodies.
func EntrySize(commands, bodies int) int {
	return entryHead + commands*commandHead + bodies + entryTail
}

// BeginEntry starts an entry. EndEntry finishes it.
func BeginEntry(dst []byte, leader payment.Instant) []byte {
	dst = append(dst, entryMagic...)
	dst = append(dst, entryVersion, 0)
	dst = putTime(dst, leader)
	return put32(dst, 0)
}

// AddCommand adds one command to an entry that starts at dst[0].
func AddCommand(dst []byte, kind Kind, body []byte) []byte {
	dst = append(dst, byte(kind))
	dst = put32(dst, uint32(len(body)))
	dst = append(dst, body...)
	count := dst[entryHead-4 : entryHead]
	binary.BigEndian.PutUint32(count, binary.BigEndian.Uint32(count)+1)
	return dst
}

// EndEntry closes an entry that starts at dst[0].
func EndEntry(dst []byte) []byte { return put32(dst, checksum(dst)) }

// readEntry checks an entry and returns a cursor at its first command.
func readEntry(b []byte) (leader payment.Instant, count uint32, commands cursor, err error) {
	if len(b) < entryHead+entryTail || len(b) > MaxEntry || string(b[:4]) != entryMagic {
		return 0, 0, cursor{}, ErrCorrupt
	}
	body, sum := b[:len(b)-entryTail], b[len(b)-entryTail:]
	if checksum(body) != binary.BigEndian.Uint32(sum) {
		return 0, 0, cursor{}, ErrCorrupt
	}
	c := cursor{b: body[4:]}
	if version := c.u8(); version != entryVersion {
		return 0, 0, cursor{}, fmt.Errorf("%w: an entry of version %d", ErrNewer, version)
	}
	if flags := c.u8(); flags != 0 {
		c.broken = true // a flag that this binary does not know
	}
	leader = c.time()
	count = c.u32()
	if c.broken {
		return 0, 0, cursor{}, ErrCorrupt
	}
	return leader, count, c, nil
}

// CheckEntry says whether an entry is what was written: its checksum holds.
func CheckEntry(b []byte) error {
	_, _, _, err := readEntry(b)
	return err
}

// nextCommand reads one command.
func nextCommand(c *cursor) (kind Kind, body []byte) {
	kind = Kind(c.u8())
	return kind, c.bytes(int(c.u32()))
}
