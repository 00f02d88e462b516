package link

import "authswitch/iso8583"

// Stream is a dialect's framing for tools: it cuts what was captured from a
// connection, and puts messages back into one.
type Stream struct{ framer *framer }

// NewStream refuses a framing that no link could speak.
func NewStream(f iso8583.Framing) (*Stream, error) {
	r, err := newFramer(f)
	if err != nil {
		return nil, err
	}
	return &Stream{r}, nil
}

// Cut takes the first frame out of received bytes. size is how many it took, 0
// while the frame is incomplete; a heartbeat has a size and no payload. An
// error wraps ErrFraming: the boundaries are lost.
func (s *Stream) Cut(received []byte) (payload []byte, size int, err error) {
	return s.framer.cut(received)
}

// Append writes one frame.
func (s *Stream) Append(dst, payload []byte) []byte { return s.framer.append(dst, payload) }
