package sim

import (
	"authswitch/iso8583"
)

// fastCodec speaks with the switch's own codec. It is for load: a mistake of
// the codec would agree with itself here.
type fastCodec struct {
	dialect *iso8583.Dialect
	in      iso8583.Message
	out     iso8583.Builder
}

func (c *fastCodec) read(frame []byte, m *message) error {
	if err := c.dialect.Unpack(&c.in, frame); err != nil {
		return err
	}
	n := c.in.MTI()
	m.mti = [4]byte{'0' + byte(n>>12), '0' + byte(n>>8&15), '0' + byte(n>>4&15), '0' + byte(n&15)}
	for de := c.in.Next(1); de != 0; de = c.in.Next(de) {
		m.put(de, c.in.Bytes(de))
	}
	return nil
}

func (c *fastCodec) sub(de int, path string) []byte { return c.in.Sub(de, path) }

func (c *fastCodec) write(dst []byte, m *message, asked bool) ([]byte, error) {
	var n iso8583.MTI
	for _, digit := range m.mti {
		n = n<<4 | iso8583.MTI(digit-'0')
	}
	c.out.Start(n)
	if asked {
		c.out.AnswerHeader(&c.in)
	}
	for _, de := range m.set {
		c.out.Set(int(de), m.values[de])
	}
	for i := range m.subs {
		s := &m.subs[i]
		c.out.SetSub(s.de, s.path, s.value)
	}
	return c.dialect.Pack(dst, &c.out)
}

// framingOf copies what the dialect file says into the simulator's own terms.
func framingOf(f iso8583.Framing) framing {
	return framing{
		encoding: string(f.LengthEncoding), bytes: f.LengthBytes, inclusive: f.Inclusive, reserved: f.Reserved,
		trailer: f.Trailer, heartbeat: f.Heartbeat, max: f.MaxMessage,
	}
}
