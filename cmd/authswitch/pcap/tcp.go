package pcap

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// The link types that captures of TCP come in.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRaw      = 101
	linkLoop     = 108
	linkCooked   = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkCooked2  = 276
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86DD
	etherVLAN = 0x8100
	etherQinQ = 0x88A8
	protoTCP  = 6
)

// Direction is one half of a TCP connection.
type Direction struct{ From, To netip.AddrPort }

// segment is one TCP segment. Its payload aliases the packet.
type segment struct {
	Direction
	seq           uint32
	syn, fin, rst bool
	payload       []byte
}

// tcp finds the TCP segment of a packet; ok is false for everything else,
// fragments of IP included.
func tcp(p *Packet) (s segment, ok bool) {
	b, kind := network(p)
	switch {
	case len(b) < 1:
		return s, false
	case kind == etherIPv4 || kind == 0 && b[0]>>4 == 4:
		return ipv4(b)
	case kind == etherIPv6 || kind == 0 && b[0]>>4 == 6:
		return ipv6(b)
	}
	return s, false
}

// network takes the link layer off. kind is 0 where only the first nibble
// tells the version of IP.
func network(p *Packet) (b []byte, kind uint16) {
	b = p.Data
	skip := func(n int) []byte {
		if len(b) < n {
			return nil
		}
		return b[n:]
	}
	at := 12
	switch p.LinkType {
	case linkNull, linkLoop:
		return skip(4), 0
	case linkRaw, linkIPv4, linkIPv6, 12, 14: // 12, 14: raw IP on some systems
		return b, 0
	case linkCooked:
		at = 14
	case linkCooked2:
		if len(b) < 20 {
			return nil, 0
		}
		return b[20:], binary.BigEndian.Uint16(b)
	case linkEthernet:
	default:
		return nil, 0
	}
	for {
		if len(b) < at+2 {
			return nil, 0
		}
		kind = binary.BigEndian.Uint16(b[at:])
		if kind != etherVLAN && kind != etherQinQ {
			return b[at+2:], kind
		}
		at += 4
	}
}

func ipv4(b []byte) (s segment, ok bool) {
	if len(b) < 20 {
		return s, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	fragment := binary.BigEndian.Uint16(b[6:])&0x3FFF != 0 // more fragments, or an offset
	if total == 0 {
		total = len(b) // segmentation offload: the card fills it in
	}
	if header < 20 || total < header || len(b) < header || fragment || b[9] != protoTCP {
		return s, false
	}
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return transport(b[header:min(total, len(b))], from, to)
}

func ipv6(b []byte) (s segment, ok bool) {
	if len(b) < 40 {
		return s, false
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n == 0 {
		n = len(b) - 40
	}
	from, to := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, rest := b[6], b[40:min(40+n, len(b))]
	for next == 0 || next == 43 || next == 60 { // hop by hop, routing, destination
		if len(rest) < 8 || len(rest) < 8+int(rest[1])*8 {
			return s, false
		}
		next, rest = rest[0], rest[8+int(rest[1])*8:]
	}
	if next != protoTCP {
		return s, false
	}
	return transport(rest, from, to)
}

func transport(b []byte, from, to netip.Addr) (s segment, ok bool) {
	if len(b) < 20 {
		return s, false
	}
	header := int(b[12]>>4) * 4
	if header < 20 || len(b) < header {
		return s, false
	}
	flags := b[13]
	return segment{
		Direction: Direction{
			netip.AddrPortFrom(from, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:])),
		},
		seq: binary.BigEndian.Uint32(b[4:]), fin: flags&1 != 0, syn: flags&2 != 0, rst: flags&4 != 0, payload: b[header:],
	}, true
}

// Streams puts TCP segments of many connections in order. Retransmissions are
// taken once; what a capture lacks is passed over when what comes after it has
// waited long enough.
type Streams struct {
	halves map[Direction]*half
	// Counts of a whole file.
	Packets, Segments, Skipped, Gaps, Cut int
}

// Limits of what is held back for a segment that is missing.
const (
	maxHeld      = 256 // segments
	maxHeldBytes = 1 << 20
	maxHalves    = 4096
)

type half struct {
	next  uint32
	known bool
	held  []segment
	bytes int
}

// Piece is bytes of one direction, in their order.
type Piece struct {
	Direction
	At   time.Time
	Data []byte
	Gap  bool // bytes before it are missing
	End  bool // the direction is over: FIN, RST, or a new connection on its ports
}

// NewStreams has seen nothing.
func NewStreams() *Streams { return &Streams{halves: map[Direction]*half{}} }

// Add takes one packet and returns what is in order now. The pieces are valid
// until the packet's memory is used again.
func (s *Streams) Add(p *Packet) []Piece {
	s.Packets++
	seg, ok := tcp(p)
	if !ok {
		s.Skipped++
		return nil
	}
	s.Segments++
	if p.Cut {
		s.Cut++
	}
	h := s.halves[seg.Direction]
	var pieces []Piece
	if h == nil || seg.syn {
		if h == nil && len(s.halves) >= maxHalves {
			s.Skipped++
			return nil
		}
		if h != nil {
			pieces = append(pieces, Piece{Direction: seg.Direction, At: p.At, End: true})
		}
		h = &half{}
		s.halves[seg.Direction] = h
	}
	if seg.syn {
		h.next, h.known = seg.seq+1, true
		return pieces
	}
	if !h.known {
		h.next, h.known = seg.seq, true // the capture began in the middle
	}
	pieces = h.take(pieces, seg, p.At)
	for h.full() {
		s.Gaps++
		pieces = h.jump(pieces, p.At)
	}
	if seg.fin || seg.rst {
		for len(h.held) > 0 {
			s.Gaps++
			pieces = h.jump(pieces, p.At)
		}
		delete(s.halves, seg.Direction)
		pieces = append(pieces, Piece{Direction: seg.Direction, At: p.At, End: true})
	}
	return pieces
}

func (h *half) full() bool { return len(h.held) > maxHeld || h.bytes > maxHeldBytes }

// take gives out a segment that is next, and what waited for it.
func (h *half) take(pieces []Piece, seg segment, at time.Time) []Piece {
	if len(seg.payload) == 0 {
		return pieces
	}
	if int32(seg.seq-h.next) > 0 {
		seg.payload = append([]byte(nil), seg.payload...)
		h.held = append(h.held, seg)
		h.bytes += len(seg.payload)
		return pieces
	}
	pieces = h.give(pieces, seg, at)
	for i := 0; i < len(h.held); i++ {
		if waiting := h.held[i]; int32(waiting.seq-h.next) <= 0 {
			h.held = append(h.held[:i], h.held[i+1:]...)
			h.bytes -= len(waiting.payload)
			pieces = h.give(pieces, waiting, at)
			i = -1 // what stands before it may be next now
		}
	}
	return pieces
}

// give gives out what is new of a segment that starts at next or before it.
func (h *half) give(pieces []Piece, seg segment, at time.Time) []Piece {
	old := int(h.next - seg.seq)
	if old >= len(seg.payload) {
		return pieces // all of it was there before
	}
	seg.payload = seg.payload[old:]
	h.next += uint32(len(seg.payload))
	return append(pieces, Piece{Direction: seg.Direction, At: at, Data: seg.payload})
}

// jump goes on behind a gap, at the earliest segment that waits.
func (h *half) jump(pieces []Piece, at time.Time) []Piece {
	first := 0
	for i := range h.held {
		if int32(h.held[i].seq-h.held[first].seq) < 0 {
			first = i
		}
	}
	seg := h.held[first]
	h.held = append(h.held[:first], h.held[first+1:]...)
	h.bytes -= len(seg.payload)
	h.next = seg.seq
	from := len(pieces)
	pieces = h.take(pieces, seg, at)
	if len(pieces) > from {
		pieces[from].Gap = true
	}
	return pieces
}
