package pcap

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Writer writes one TCP connection as a capture, one message a packet, under
// raw IPv4 and documentation addresses: what to see in it are the messages.
type Writer struct {
	out  io.Writer
	port uint16
	seq  [2]uint32
	id   uint16
}

// The two ends: 192.0.2.0/24 is for examples (RFC 5737).
var ends = [2][4]byte{{192, 0, 2, 1}, {192, 0, 2, 2}}

const clientPort = 49152

// NewWriter writes the file's header. Port is the server's: by it Wireshark
// knows what to dissect.
func NewWriter(out io.Writer, port uint16) (*Writer, error) {
	var h [24]byte
	binary.LittleEndian.PutUint32(h[0:], magicMicros)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], maxPacket)
	binary.LittleEndian.PutUint32(h[20:], linkRaw)
	if _, err := out.Write(h[:]); err != nil {
		return nil, fmt.Errorf("write the capture: %w", err)
	}
	return &Writer{out: out, port: port, seq: [2]uint32{1, 1}}, nil
}

// maxPayload fits an IPv4 packet.
const maxPayload = 65535 - 40

// Write adds one packet from the client, or from the server.
func (w *Writer) Write(at time.Time, fromServer bool, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("write the capture: a message of %d bytes does not fit a packet", len(payload))
	}
	from, to := 0, 1
	ports := [2]uint16{clientPort, w.port}
	if fromServer {
		from, to = 1, 0
	}
	n := 40 + len(payload)
	b := make([]byte, 16+40, 16+n)
	binary.LittleEndian.PutUint32(b[0:], uint32(at.Unix()))
	binary.LittleEndian.PutUint32(b[4:], uint32(at.Nanosecond()/1000))
	binary.LittleEndian.PutUint32(b[8:], uint32(n))
	binary.LittleEndian.PutUint32(b[12:], uint32(n))
	ip := b[16:36]
	w.id++
	ip[0], ip[8], ip[9] = 0x45, 64, protoTCP
	binary.BigEndian.PutUint16(ip[2:], uint16(n))
	binary.BigEndian.PutUint16(ip[4:], w.id)
	copy(ip[12:], ends[from][:])
	copy(ip[16:], ends[to][:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip)))
	t := b[36:56]
	binary.BigEndian.PutUint16(t[0:], ports[from])
	binary.BigEndian.PutUint16(t[2:], ports[to])
	binary.BigEndian.PutUint32(t[4:], w.seq[from])
	binary.BigEndian.PutUint32(t[8:], w.seq[to])
	t[12], t[13] = 5<<4, 0x18 // PSH, ACK
	binary.BigEndian.PutUint16(t[14:], 65535)
	pseudo := []byte{0, protoTCP, 0, 0}
	binary.BigEndian.PutUint16(pseudo[2:], uint16(n-20))
	binary.BigEndian.PutUint16(t[16:], ^fold(sum(sum(sum(sum(0, ip[12:20]), pseudo), t), payload)))
	w.seq[from] += uint32(len(payload))
	if _, err := w.out.Write(append(b, payload...)); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// sum is the Internet checksum's, of whole words but for the last piece.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return uint16(s)
}
