// Package pcap reads what tcpdump and Wireshark capture and puts the bytes of
// TCP connections back in order, and writes captures for them.
//
// It knows files, Ethernet, IP and TCP as far as a capture of ISO 8583 needs
// them, and nothing of messages. (gopacket would do it, too; it is 78,000 lines
// that register themselves at every start of a node, for two tools.) No clock,
// no network. Called by: cmd/authswitch.
package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrFormat means that a file is no capture, or a damaged one.
var ErrFormat = errors.New("not a pcap or pcapng file")

// maxPacket is more than any link layer carries.
const maxPacket = 256 << 10

// Packet is one captured packet. Data is valid until the next is read.
type Packet struct {
	At       time.Time
	LinkType uint32
	Data     []byte
	Cut      bool // the capture kept only the packet's beginning
}

const (
	magicMicros  = 0xA1B2C3D4
	magicNanos   = 0xA1B23C4D
	blockSection = 0x0A0D0D0A
	blockDevice  = 1
	blockSimple  = 3
	blockPacket  = 6
	orderMagic   = 0x1A2B3C4D
)

// Read gives every packet of a file to each, in the file's order.
func Read(r io.Reader, each func(p *Packet) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(4)
	if err != nil {
		return fmt.Errorf("%w: shorter than its first number", ErrFormat)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(head) {
		case magicMicros:
			return readClassic(in, order, time.Microsecond, each)
		case magicNanos:
			return readClassic(in, order, time.Nanosecond, each)
		case blockSection:
			return readBlocks(in, each)
		}
	}
	return ErrFormat
}

// readClassic reads libpcap's format: a header, then packets with a header
// each.
func readClassic(in io.Reader, order binary.ByteOrder, unit time.Duration, each func(p *Packet) error) error {
	var head [24]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return fmt.Errorf("%w: cut in its header", ErrFormat)
	}
	p := Packet{LinkType: order.Uint32(head[20:]) & 0x0FFFFFFF}
	var buffer []byte
	for {
		var h [16]byte
		if _, err := io.ReadFull(in, h[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: cut in a packet's header", ErrFormat)
		}
		kept, original := order.Uint32(h[8:]), order.Uint32(h[12:])
		if kept > maxPacket {
			return fmt.Errorf("%w: a packet of %d bytes", ErrFormat, kept)
		}
		buffer = room(buffer, int(kept))
		if _, err := io.ReadFull(in, buffer); err != nil {
			return fmt.Errorf("%w: cut in a packet", ErrFormat)
		}
		p.At = time.Unix(int64(order.Uint32(h[0:])), int64(order.Uint32(h[4:]))*int64(unit)).UTC()
		p.Data, p.Cut = buffer, kept < original
		if err := each(&p); err != nil {
			return err
		}
	}
}

func room(b []byte, n int) []byte {
	if cap(b) < n {
		b = make([]byte, n)
	}
	return b[:n]
}

// device is an interface that a pcapng section describes.
type device struct {
	linkType uint32
	unit     time.Duration // of its timestamps; 0: coarser than a second or finer than a nanosecond, taken as microseconds
}

// readBlocks reads pcapng: blocks, of which sections, interfaces and packets
// matter here.
func readBlocks(in io.Reader, each func(p *Packet) error) error {
	var order binary.ByteOrder = binary.LittleEndian
	var devices []device
	var buffer []byte
	for {
		var h [8]byte
		if _, err := io.ReadFull(in, h[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: cut in a block's header", ErrFormat)
		}
		if kind := binary.BigEndian.Uint32(h[:]); kind == blockSection { // reads the same in both orders
			var magic [4]byte
			if _, err := io.ReadFull(in, magic[:]); err != nil {
				return fmt.Errorf("%w: cut in a section", ErrFormat)
			}
			switch {
			case binary.LittleEndian.Uint32(magic[:]) == orderMagic:
				order = binary.LittleEndian
			case binary.BigEndian.Uint32(magic[:]) == orderMagic:
				order = binary.BigEndian
			default:
				return fmt.Errorf("%w: a section of unknown byte order", ErrFormat)
			}
			devices = nil
			if _, err := body(in, order.Uint32(h[4:]), 4, &buffer); err != nil {
				return err
			}
			continue
		}
		content, err := body(in, order.Uint32(h[4:]), 0, &buffer)
		if err != nil {
			return err
		}
		if err := block(order.Uint32(h[:]), content, order, &devices, each); err != nil {
			return err
		}
	}
}

// body reads the rest of a block, without the length that ends it. already is
// how much of it was read.
func body(in io.Reader, total, already uint32, buffer *[]byte) ([]byte, error) {
	if total < 12+already || total%4 != 0 || total > maxPacket+1024 {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, total)
	}
	*buffer = room(*buffer, int(total-8-already))
	if _, err := io.ReadFull(in, *buffer); err != nil {
		return nil, fmt.Errorf("%w: cut in a block", ErrFormat)
	}
	return (*buffer)[:len(*buffer)-4], nil
}

func block(kind uint32, b []byte, order binary.ByteOrder, devices *[]device, each func(p *Packet) error) error {
	switch kind {
	case blockDevice:
		if len(b) < 8 {
			return fmt.Errorf("%w: an interface without description", ErrFormat)
		}
		*devices = append(*devices, device{uint32(order.Uint16(b)), resolution(b[8:], order)})
	case blockPacket:
		if len(b) < 20 {
			return fmt.Errorf("%w: a packet without header", ErrFormat)
		}
		n, kept, original := order.Uint32(b), order.Uint32(b[12:]), order.Uint32(b[16:])
		if int(n) >= len(*devices) || uint64(kept) > uint64(len(b)-20) {
			return fmt.Errorf("%w: a packet that its header does not fit", ErrFormat)
		}
		d := (*devices)[n]
		ticks := uint64(order.Uint32(b[4:]))<<32 | uint64(order.Uint32(b[8:]))
		perSecond := uint64(time.Second / d.unit)
		at := time.Unix(int64(ticks/perSecond), int64(ticks%perSecond)*int64(d.unit)).UTC()
		return each(&Packet{At: at, LinkType: d.linkType, Data: b[20 : 20+kept], Cut: kept < original})
	case blockSimple:
		if len(b) < 4 || len(*devices) == 0 {
			return fmt.Errorf("%w: a packet without interface", ErrFormat)
		}
		original := order.Uint32(b)
		data := b[4:]
		if uint64(original) < uint64(len(data)) {
			data = data[:original] // padding
		}
		return each(&Packet{LinkType: (*devices)[0].linkType, Data: data, Cut: uint64(original) > uint64(len(data))})
	}
	return nil
}

// resolution finds the option if_tsresol.
func resolution(options []byte, order binary.ByteOrder) time.Duration {
	for len(options) >= 4 {
		code, n := order.Uint16(options), int(order.Uint16(options[2:]))
		if code == 0 || 4+n > len(options) {
			break
		}
		if code == 9 && n >= 1 {
			unit := time.Second
			for range min(options[4], 9) {
				unit /= 10
			}
			if options[4] <= 9 {
				return unit
			}
		}
		options = options[min(4+(n+3)/4*4, len(options)):]
	}
	return time.Microsecond
}
