package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// capture writes messages with Writer and returns the file and its packets.
func capture(t testing.TB, messages ...string) (file []byte, packets []Packet) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, 9001)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		server := strings.HasPrefix(m, "<")
		if err := w.Write(time.Unix(1_790_000_000, int64(i)*1e6), server, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Read(bytes.NewReader(out.Bytes()), func(p *Packet) error {
		packets = append(packets, Packet{p.At, p.LinkType, bytes.Clone(p.Data), p.Cut})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), packets
}

// text is what the streams say, a word for each piece.
func text(s *Streams, packets []Packet) string {
	var words []string
	for i := range packets {
		for _, p := range s.Add(&packets[i]) {
			word := string(p.Data)
			if p.Gap {
				word = "…" + word
			}
			if p.End {
				word = "END"
			}
			words = append(words, fmt.Sprintf("%d:%s", p.From.Port(), word))
		}
	}
	return strings.Join(words, " ")
}

// shuffled are packets in another order, or with some of them left out.
func pick(packets []Packet, order ...int) []Packet {
	var out []Packet
	for _, i := range order {
		out = append(out, packets[i])
	}
	return out
}

func TestStreams(t *testing.T) {
	_, p := capture(t, "one", "<uno", "two", "three", "four")
	for _, c := range []struct {
		name  string
		order []int
		want  string
		gaps  int
	}{
		{"in order", []int{0, 1, 2, 3, 4}, "49152:one 9001:<uno 49152:two 49152:three 49152:four", 0},
		{"out of order", []int{0, 4, 3, 2, 1}, "49152:one 49152:two 49152:three 49152:four 9001:<uno", 0},
		{"retransmitted", []int{0, 0, 2, 0, 2, 3}, "49152:one 49152:two 49152:three", 0},
		{"begun in the middle", []int{3, 4}, "49152:three 49152:four", 0},
		{"waiting for what is missing", []int{0, 3, 4}, "49152:one", 0},
	} {
		s := NewStreams()
		if got := text(s, pick(p, c.order...)); got != c.want || s.Gaps != c.gaps {
			t.Errorf("%s: %s, %d gaps", c.name, got, s.Gaps)
		}
	}
}

// flag sets the TCP flags of a packet that Writer wrote.
func flag(p Packet, flags byte) Packet {
	p.Data = bytes.Clone(p.Data)
	p.Data[33] = flags
	return p
}

func TestEnds(t *testing.T) {
	_, p := capture(t, "one", "two", "three")
	s := NewStreams()
	fin := flag(p[2], 0x11)
	if got := text(s, []Packet{p[0], fin}); got != "49152:one 49152:…three 49152:END" || s.Gaps != 1 {
		t.Errorf("a gap before the end: %s, %d gaps", got, s.Gaps)
	}
	syn := flag(p[0], 0x02)
	clear(syn.Data[24:28]) // its sequence number: the one before the data's
	if got := text(s, []Packet{p[0], syn, p[0]}); got != "49152:one 49152:END 49152:one" {
		t.Errorf("a new connection on the same ports: %s", got)
	}
}

// TestFullWindow: what never comes is passed over, and memory stays bounded.
func TestFullWindow(t *testing.T) {
	var messages []string
	for i := range maxHeld + 20 {
		messages = append(messages, fmt.Sprintf("m%d", i))
	}
	_, p := capture(t, messages...)
	s := NewStreams()
	got := text(s, append(pick(p, 0), p[2:]...))
	if s.Gaps != 1 || !strings.HasPrefix(got, "49152:m0 49152:…m2 49152:m3 ") || !strings.HasSuffix(got, messages[len(messages)-1]) {
		t.Errorf("%d gaps, %.80s", s.Gaps, got)
	}
}

// ethernet puts a link layer around a raw packet.
func around(linkType uint32, head []byte, p Packet) Packet {
	return Packet{At: p.At, LinkType: linkType, Data: append(bytes.Clone(head), p.Data...)}
}

func TestLinkTypes(t *testing.T) {
	_, p := capture(t, "one")
	mac := [12]byte{}
	ethernet := func(kind ...byte) []byte { return slices.Concat(mac[:], kind) }
	cooked := append(make([]byte, 14), 8, 0)
	cooked2 := make([]byte, 20)
	cooked2[0] = 8
	v6 := make([]byte, 40)
	v6[0], v6[6] = 0x60, 6
	binary.BigEndian.PutUint16(v6[4:], uint16(len(p[0].Data)-20))
	tcp6 := Packet{LinkType: linkRaw, Data: slices.Concat(v6, p[0].Data[20:])}
	for name, packet := range map[string]Packet{
		"raw": p[0], "ethernet": around(linkEthernet, ethernet(8, 0), p[0]),
		"one VLAN": around(linkEthernet, ethernet(0x81, 0, 0, 7, 8, 0), p[0]),
		"cooked":   around(linkCooked, cooked, p[0]), "cooked 2": around(linkCooked2, cooked2, p[0]),
		"loopback": around(linkNull, []byte{2, 0, 0, 0}, p[0]), "IPv6": tcp6,
	} {
		if got := text(NewStreams(), []Packet{packet}); got != "49152:one" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, change := range map[string]func(b []byte){
		"UDP": func(b []byte) { b[9] = 17 }, "a fragment": func(b []byte) { b[6] = 0x20 }, "a short header": func(b []byte) { b[32] = 0x10 },
		"no version of IP": func(b []byte) { b[0] = 0x95 },
	} {
		packet := around(linkRaw, nil, p[0])
		change(packet.Data)
		s := NewStreams()
		if got := text(s, []Packet{packet}); got != "" || s.Skipped != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestBlocks writes a pcapng by hand, in both byte orders, with nanoseconds.
func TestBlocks(t *testing.T) {
	_, p := capture(t, "one")
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		var file []byte
		add := func(kind uint32, body []byte) {
			body = append(body, make([]byte, (4-len(body)%4)%4)...)
			file = order.AppendUint32(file, kind)
			file = order.AppendUint32(file, uint32(12+len(body)))
			file = append(file, body...)
			file = order.AppendUint32(file, uint32(12+len(body)))
		}
		section := order.AppendUint32(nil, orderMagic)
		add(blockSection, append(section, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255))
		device := order.AppendUint16(nil, linkRaw)
		device = append(device, 0, 0, 0, 0, 0, 0)
		device = order.AppendUint16(device, 9) // if_tsresol
		device = order.AppendUint16(device, 1)
		add(blockDevice, append(device, 9, 0, 0, 0))
		add(5, []byte("statistics, which nobody reads"))
		ticks := uint64(1_790_000_000_123_456_789)
		packet := order.AppendUint32(nil, 0)
		packet = order.AppendUint32(packet, uint32(ticks>>32))
		packet = order.AppendUint32(packet, uint32(ticks))
		packet = order.AppendUint32(packet, uint32(len(p[0].Data)))
		packet = order.AppendUint32(packet, uint32(len(p[0].Data))+7)
		add(blockPacket, append(packet, p[0].Data...))
		add(blockSimple, append(order.AppendUint32(nil, uint32(len(p[0].Data))), p[0].Data...))
		n := 0
		err := Read(bytes.NewReader(file), func(got *Packet) error {
			if n++; n == 1 && (got.At.UnixNano() != int64(ticks) || !got.Cut) || !bytes.Equal(got.Data, p[0].Data) {
				t.Errorf("%v: %+v", order, got)
			}
			return nil
		})
		if err != nil || n != 2 {
			t.Errorf("%v: %d packets, %v", order, n, err)
		}
		for cut := range len(file) {
			if err := Read(bytes.NewReader(file[:cut]), func(*Packet) error { return nil }); err != nil && !errors.Is(err, ErrFormat) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
	}
}

func TestNoCapture(t *testing.T) {
	file, _ := capture(t, "one")
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("0800 and so on"), "half a header": file[:20], "half a packet": file[:len(file)-1],
		"an endless packet": append(bytes.Clone(file[:32]), 255, 255, 255, 255, 0, 0, 0, 0),
	} {
		if err := Read(bytes.NewReader(b), func(*Packet) error { return nil }); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChecksums: Wireshark marks a packet whose sums are wrong.
func TestChecksums(t *testing.T) {
	_, p := capture(t, "odd", "even")
	for _, packet := range p {
		ip, rest := packet.Data[:20], packet.Data[20:]
		if fold(sum(0, ip)) != 0xFFFF {
			t.Errorf("header: %X", ip)
		}
		pseudo := []byte{0, protoTCP, byte(len(rest) >> 8), byte(len(rest))}
		if fold(sum(sum(sum(0, ip[12:20]), pseudo), rest)) != 0xFFFF {
			t.Errorf("segment: %X", rest)
		}
	}
}

// TestAnyOrder: whatever order segments come in, and however often, each byte
// is given out once.
func TestAnyOrder(t *testing.T) {
	var messages []string
	for i := range 40 {
		messages = append(messages, fmt.Sprintf("message-%02d.", i))
	}
	_, p := capture(t, messages...)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		order := []int{0} // a capture that begins in the middle takes its first segment for the beginning
		for _, i := range r.Perm(len(p)) {
			order = append(order, i, r.IntN(len(p)))
		}
		got := strings.ReplaceAll(strings.ReplaceAll(text(NewStreams(), pick(p, order...)), "49152:", ""), " ", "")
		if got != strings.Join(messages, "") {
			t.Fatalf("seed %d: %s", seed, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	file, _ := capture(f, "one", "<uno", "two")
	f.Add(file)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewStreams()
		_ = Read(bytes.NewReader(b), func(p *Packet) error {
			for range s.Add(p) {
			}
			return nil
		})
		for _, h := range s.halves {
			if h.bytes > maxHeldBytes || len(h.held) > maxHeld {
				t.Fatalf("%d bytes held back", h.bytes)
			}
		}
	})
}
