package sim

import (
	"authswitch/iso8583"
	"authswitch/sim/oracle"
)

// moovCodec speaks with moov's codec: the simulator then shares no type with
// the switch.
type moovCodec struct {
	oracle   *oracle.Codec
	elements []oracle.Element
}

func (c *moovCodec) read(frame []byte, m *message) error {
	mti, err := c.oracle.Unpack(frame, m.put)
	if err != nil {
		return err
	}
	copy(m.mti[:], mti)
	return nil
}

func (c *moovCodec) sub(de int, path string) []byte { return c.oracle.Piece(de, path) }

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
