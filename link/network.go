package link

import (
	"authswitch/iso8583"
	"authswitch/payment"
)

// dialectCodec is the networkCodec of a dialect.
type dialectCodec struct {
	dialect     *iso8583.Dialect
	accept      payment.ResponseCode // of the peer's 0800
	unsupported payment.ResponseCode // of a function this switch does not have
	format      payment.ResponseCode // format error: a message that is none of ours to answer
}

func newDialectCodec(d *iso8583.Dialect) *dialectCodec {
	c := &dialectCodec{dialect: d}
	unsupported, format := "12", "30"
	switch d.NetworkMTI().Version() {
	case 1:
		unsupported, format = "902", "904"
	case 2:
		unsupported, format = "9002", "9004"
	}
	c.unsupported, c.format = payment.MakeResponseCode([]byte(unsupported)), payment.MakeResponseCode([]byte(format))
	c.accept = acceptCode(d)
	return c
}

// acceptCode is the code with which the dialect accepts an 0800: the first that
// it accepts itself. A dialect with another is found by nobody's sign-on.
func acceptCode(d *iso8583.Dialect) payment.ResponseCode {
	var m iso8583.Message
	for _, text := range []string{"00", "800", "0800", "000", "0000", "8000"} {
		code := payment.MakeResponseCode([]byte(text))
		for _, f := range []payment.NetworkFunction{payment.Echo, payment.SignOn, payment.CutOver} {
			frame, err := d.EncodeNetwork(nil, payment.NetworkRequest{Function: f, Response: true, Code: code, STAN: 1, Transmitted: 101000000})
			if err != nil || d.Unpack(&m, frame) != nil {
				continue
			}
			if n, ok := d.DecodeNetwork(&m); ok && n.Accepted {
				return code
			}
		}
	}
	return payment.MakeResponseCode([]byte("00"))
}

// abilities are the network functions a dialect can pack.
func (c *dialectCodec) abilities() capabilities {
	can := func(f payment.NetworkFunction) bool {
		_, err := c.request(nil, payment.NetworkRequest{Function: f, STAN: 1, Transmitted: 101000000})
		return err == nil
	}
	return capabilities{signOn: can(payment.SignOn), signOff: can(payment.SignOff), echo: can(payment.Echo)}
}

func (c *dialectCodec) request(dst []byte, n payment.NetworkRequest) ([]byte, error) {
	return c.dialect.EncodeNetwork(dst, n)
}

// answer accepts what this switch can do. Keys are not exchanged on a line that
// has none: to say yes would make the peer use a key that nobody here has.
func (c *dialectCodec) answer(dst []byte, peer *iso8583.Message, n payment.NetworkMessage) ([]byte, error) {
	code := c.accept
	if n.Function == payment.KeyExchange {
		code = c.unsupported
	}
	return c.dialect.EncodeAnswer(dst, peer, code)
}

// refuse answers a request that no acquirer should send to an acceptor's side.
func (c *dialectCodec) refuse(dst []byte, peer *iso8583.Message) ([]byte, error) {
	return c.dialect.EncodeAnswer(dst, peer, c.format)
}

// ruleOf says what of a dialect's correlation an answer must echo.
func ruleOf(c iso8583.Correlation) rule {
	var r rule
	for _, de := range c.Elements {
		switch de {
		case deTransmitted:
			r.transmitted = !c.PeerSetsTransmitted
		case deRRN:
			r.rrn = true
		case deTerminal:
			r.terminal = true
		case deAcquirer:
			r.acquirer = true
		}
	}
	return r
}
