// Package oracle is the simulators' codec for correctness runs: moov-io/iso8583
// with a network header before it.
//
// It imports nothing of this project, so that no type, table or habit of the
// switch's codec can reach a simulator: one mistake must not agree with
// itself. It is slow (a hundred times the switch's own) and that does not
// matter. Called by: sim.
package oracle

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/specs"
)

// Errors of the codec.
var (
	ErrSpec    = errors.New("moov cannot use the specification")
	ErrMessage = errors.New("moov cannot read the message")
	ErrAnswer  = errors.New("moov cannot write the message")
)

// Header is the network header before a message: how long it is and how an
// answer's differs from the request's.
type Header struct {
	Length int
	Own    []byte // what a request of our own carries
	Swap   []Swap // fields that change places in an answer
	Total  Total  // the field that holds the length of header and message
}

// Swap is two fields of one length that change places: source and destination.
type Swap struct{ A, B, Length int }

// Total is where a header says how long header and message are; none when
// Length is 0.
type Total struct {
	At, Length int
	ASCII      bool // decimal digits; else binary
}

// Element is a data element of a message to write.
type Element struct {
	DE    int
	Path  string // a piece of a composite; "" for the whole element
	Value []byte
}

// Codec reads and writes the messages of one connection.
type Codec struct {
	spec   *moov.MessageSpec
	header Header
	last   []byte // the header received last
	in     *moov.Message
}

// New reads a specification in moov's JSON, and adds what it cannot say.
func New(spec []byte, header Header, tracks ...Track) (*Codec, error) {
	s, err := specs.ImportJSON(spec)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	for i := range tracks {
		s.Fields[tracks[i].DE] = tracks[i].field()
	}
	return &Codec{spec: s, header: header}, nil
}

// Unpack reads a frame and gives each element but the message type. The values
// are the message's own until the next Unpack.
func (c *Codec) Unpack(frame []byte, each func(de int, value []byte)) (mti string, err error) {
	// moov parses what the network sent; a panic of its is an unreadable frame.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic", ErrMessage)
		}
	}()
	if len(frame) < c.header.Length {
		return "", fmt.Errorf("%w: no header", ErrMessage)
	}
	c.last = append(c.last[:0], frame[:c.header.Length]...)
	c.in = moov.NewMessage(c.spec)
	if err := c.in.Unpack(frame[c.header.Length:]); err != nil {
		// The error's text may quote the message: its kind is enough.
		return "", fmt.Errorf("%w: %s", ErrMessage, fieldOf(err))
	}
	if mti, err = c.in.GetMTI(); err != nil || len(mti) != 4 {
		return "", fmt.Errorf("%w: message type", ErrMessage)
	}
	for de, f := range c.in.GetFields() {
		if de < 2 {
			continue
		}
		value, err := valueOf(f)
		if err != nil {
			return "", fmt.Errorf("%w: DE %d", ErrMessage, de)
		}
		each(de, value)
	}
	return mti, nil
}

// fieldOf names the element moov stumbled over, without its value.
func fieldOf(err error) string {
	var at interface{ FieldIDs() []string }
	if errors.As(err, &at) {
		return fmt.Sprintf("DE %v", at.FieldIDs())
	}
	return "unreadable"
}

// Piece is a piece of a composite of the message read last, nil when absent.
func (c *Codec) Piece(de int, path string) []byte {
	var text string
	if c.in == nil || c.in.UnmarshalPath(strconv.Itoa(de)+"."+path, &text) != nil || text == "" {
		return nil
	}
	return []byte(text)
}

// Pack appends a message. An answer's header is derived from the one received
// last.
func (c *Codec) Pack(dst []byte, mti string, elements []Element, answer bool) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, fmt.Errorf("%w: panic", ErrAnswer)
		}
	}()
	m := moov.NewMessage(c.spec)
	m.MTI(mti)
	for _, e := range elements {
		if err = c.set(m, e); err != nil {
			return dst, fmt.Errorf("%w: DE %d: %w", ErrAnswer, e.DE, err)
		}
	}
	body, err := m.Pack()
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	start := len(dst)
	dst = c.appendHeader(dst, answer)
	dst = append(dst, body...)
	c.putTotal(dst[start:])
	return dst, nil
}

func (c *Codec) set(m *moov.Message, e Element) error {
	if e.Path != "" {
		return m.MarshalPath(strconv.Itoa(e.DE)+"."+e.Path, string(e.Value))
	}
	positions := positionsOf(c.spec.Fields[e.DE])
	if positions == nil {
		return m.BinaryField(e.DE, e.Value)
	}
	text := string(e.Value)
	for _, p := range positions {
		n := min(p.length, len(text))
		if n == 0 {
			break
		}
		if err := m.MarshalPath(strconv.Itoa(e.DE)+"."+p.id, text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

func (c *Codec) appendHeader(dst []byte, answer bool) []byte {
	if !answer || len(c.last) != c.header.Length {
		own := make([]byte, c.header.Length)
		copy(own, c.header.Own)
		return append(dst, own...)
	}
	start := len(dst)
	dst = append(dst, c.last...)
	h := dst[start:]
	for _, s := range c.header.Swap {
		for i := range s.Length {
			h[s.A+i], h[s.B+i] = h[s.B+i], h[s.A+i]
		}
	}
	return dst
}

func (c *Codec) putTotal(frame []byte) {
	t, n := c.header.Total, len(frame)
	for i := t.Length - 1; i >= 0; i-- {
		if t.ASCII {
			frame[t.At+i] = '0' + byte(n%10)
			n /= 10
			continue
		}
		frame[t.At+i] = byte(n)
		n >>= 8
	}
}

// position is a piece of an element that is only text cut by place.
type position struct {
	id     string
	length int
}

// positionsOf are the pieces of a composite that has neither tags nor a
// bitmap, in order; nil for anything else. moov gives and takes such an
// element as it is packed; its text is what its pieces say, one after the
// other.
func positionsOf(f field.Field) []position {
	composite, ok := f.(*field.Composite)
	if !ok || composite.Spec().Bitmap != nil || composite.Spec().Tag != nil && composite.Spec().Tag.Length != 0 {
		return nil
	}
	var positions []position
	for id, piece := range composite.Spec().Subfields {
		if _, text := piece.(*field.String); !text {
			return nil
		}
		positions = append(positions, position{id, piece.Spec().Length})
	}
	slices.SortFunc(positions, func(a, b position) int {
		m, _ := strconv.Atoi(a.id)
		n, _ := strconv.Atoi(b.id)
		return m - n
	})
	return positions
}

func valueOf(f field.Field) ([]byte, error) {
	positions := positionsOf(f)
	if positions == nil {
		return f.Bytes()
	}
	composite, ok := f.(*field.Composite)
	if !ok {
		return f.Bytes()
	}
	pieces := composite.GetSubfields()
	var text []byte
	for _, p := range positions {
		piece := pieces[p.id]
		if piece == nil {
			break
		}
		value, err := piece.Bytes()
		if err != nil {
			return nil, err
		}
		text = append(text, value...)
	}
	return text, nil
}
