package sim

import (
	"authswitch/iso8583"
	"authswitch/sim/oracle"
)

// moovCodec speaks with moov's codec: the simulator then shares no type with
// the switch.
type moovCodec struct {
	oracle   *oracle.Codec
	values   *[maxElement + 1][]byte // of the message read last
	elements []oracle.Element
}

func (c *moovCodec) read(frame []byte, m *message) error {
	c.values = &m.values
	mti, err := c.oracle.Unpack(frame, m.put)
	if err != nil {
		return err
	}
	copy(m.mti[:], mti)
	return nil
}

func (c *moovCodec) sub(de int, path string) []byte {
	if piece := c.oracle.Piece(de, path); piece != nil {
		return piece
	}
	// An element moov does not take apart is plain text to it.
	return pieceOfText(c.values[de], path)
}

// pieceOfText finds {id 2, length 2, value} in text, which may have a category
// character before the first.
func pieceOfText(text []byte, id string) []byte {
	if len(text) > 0 && (text[0] < '0' || text[0] > '9') {
		text = text[1:]
	}
	for len(text) >= 4 {
		n, ok := number(text[2:4])
		if !ok || int(n) > len(text)-4 {
			return nil
		}
		value := text[4 : 4+n]
		if string(text[:2]) == id {
			return value
		}
		text = text[4+n:]
	}
	return nil
}

func (c *moovCodec) write(dst []byte, m *message, asked bool) ([]byte, error) {
	c.elements = c.elements[:0]
	for _, de := range m.set {
		c.elements = append(c.elements, oracle.Element{DE: int(de), Value: m.values[de]})
	}
	for _, s := range m.subs {
		c.elements = append(c.elements, oracle.Element{DE: s.de, Path: s.path, Value: s.value})
	}
	return c.oracle.Pack(dst, string(m.mti[:]), c.elements, asked)
}

// oracleHeader is a scheme's network header as its host knows it. The length
// and what a message of our own carries come from the dialect file; how an
// answer's differs is the profile's.
func oracleHeader(h iso8583.HeaderSpec, p *profile) oracle.Header {
	o := oracle.Header{Length: h.Len(), Swap: p.headerSwap, Total: p.headerTotal}
	for _, f := range h.Fields {
		o.Own = append(o.Own, f.Value...)
	}
	return o
}
