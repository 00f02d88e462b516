package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"authswitch/payment"
)

// Frames. TLS keeps them whole; the length bounds them.
//
//	length 4 (of what follows) | kind 1 | number 8 | payload
//
//	links    {length 1, name}*                              no answer
//	request  length 1, link, budget in ms 4, the request    → taken, refused, under its number
//	taken    the answer
//	refused  -
const (
	kindLinks   = 'L'
	kindRequest = 'H'
	kindTaken   = 'A'
	kindRefused = 'R'

	headBytes = 4 + 1 + 8
)

var errFrame = errors.New("handover: malformed frame")

func beginFrame(b []byte, kind byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b[:0], 0, 0, 0, 0, kind), number)
}

func endFrame(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// write puts a whole frame on the wire.
func write(conn net.Conn, frame []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeFor)); err != nil {
		return err
	}
	_, err := conn.Write(frame)
	return err
}

// readFrame reads one frame into b, growing it where needed. What it grew out of
// is wiped: it held card data.
func readFrame(r io.Reader, b []byte) (kind byte, number uint64, payload, buffer []byte, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, nil, b, err
	}
	n := int(binary.BigEndian.Uint32(head[:])) - (headBytes - 4)
	if n < 0 || n > maxFrame {
		return 0, 0, nil, b, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	if cap(b) < n {
		clear(b[:cap(b)])
		b = make([]byte, n)
	}
	b = b[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, 0, nil, b, err
	}
	return head[4], binary.BigEndian.Uint64(head[5:]), b, b, nil
}

func appendLinks(b []byte, links []payment.LinkName) []byte {
	for _, l := range links[:min(len(links), maxLinks)] {
		if len(l) <= 255 {
			b = append(append(b, byte(len(l))), l...)
		}
	}
	return b
}

func readLinks(b []byte) ([]payment.LinkName, error) {
	var links []payment.LinkName
	for len(b) > 0 {
		n := int(b[0])
		if n > len(b)-1 || len(links) == maxLinks {
			return nil, errFrame
		}
		links = append(links, payment.LinkName(b[1:1+n]))
		b = b[1+n:]
	}
	return links, nil
}

func appendRequest(b []byte, link payment.LinkName, within time.Duration, request []byte) []byte {
	b = append(append(b, byte(len(link))), link...)
	b = binary.BigEndian.AppendUint32(b, uint32(max(within, 0)/time.Millisecond))
	return append(b, request...)
}

func readRequest(b []byte) (link payment.LinkName, within time.Duration, request []byte, err error) {
	if len(b) < 1 || len(b) < 1+int(b[0])+4 {
		return "", 0, nil, errFrame
	}
	n := 1 + int(b[0])
	return payment.LinkName(b[1:n]), time.Duration(binary.BigEndian.Uint32(b[n:])) * time.Millisecond, b[n+4:], nil
}

// hangUp closes at once: TLS would say goodbye first, and wait for a peer that
// does not read.
func hangUp(conn net.Conn) {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = conn.Close()
}
