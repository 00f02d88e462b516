package iso8583

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	moov "github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/specs"
)

// make differential raises these; the seed is printed with every failure.
var (
	randomCount  = flag.Int("differential.random", 2000, "random messages per dialect")
	mutatedCount = flag.Int("differential.mutated", 2000, "mutated messages per dialect")
	firstSeed    = flag.Uint64("differential.seed", 1, "seed of the first message")
)

func moovSpec(t testing.TB, d *Dialect) *moov.MessageSpec {
	t.Helper()
	raw, err := d.MoovSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := specs.ImportJSON(raw)
	if err != nil {
		t.Fatalf("%s: %v", d.Name(), err)
	}
	return spec
}

// generator makes random valid messages of a dialect.
type generator struct {
	*rand.Rand
	d    *Dialect
	gaps []int
	mtis []MTI
}

func newGenerator(d *Dialect, seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 8583)), d: d, gaps: d.MoovGaps()}
	for _, m := range d.payments.messages {
		g.mtis = append(g.mtis, m.mti)
	}
	return g
}

func (g *generator) message(b *Builder) {
	b.Start(g.mtis[g.IntN(len(g.mtis))])
	share := g.IntN(100)
	for de, e := range g.d.elements {
		if e == nil || g.IntN(100) > share || slices.Contains(g.gaps, de) {
			continue
		}
		if e.composite != nil && g.IntN(8) > 0 {
			g.pieces(b, e.composite, e, de, "")
			continue
		}
		if e.composite == nil {
			b.Set(de, g.value(e))
		}
	}
}

const (
	digits       = "0123456789"
	letters      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	alphanumeric = digits + letters
	// What EBCDIC and ASCII both have, without the characters that moov's code
	// page and ours may place differently: both use the same table.
	printables = alphanumeric + " .,-/*&%$@:;()'+=<>?_"
)

func (g *generator) value(e *element) []byte {
	n := e.max
	if !e.fixed {
		n = min(1+g.IntN(e.max), 40)
	}
	if e.composite != nil || e.class == classB {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(g.Uint32())
		}
		return out
	}
	switch e.class {
	case classN:
		return g.text(digits, n)
	case classA:
		return g.text(letters, n)
	case classAN:
		return g.text(alphanumeric, n)
	case classXN:
		n = max(n, 1)
		return append(g.text("CD", 1), g.text(digits, n-1)...)
	case classZ:
		return append(append(g.text(digits, 12), '='), g.text(digits, max(0, min(n-13, 20)))...)
	default:
		return g.text(printables, n)
	}
}

func (g *generator) text(alphabet string, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[g.IntN(len(alphabet))]
	}
	return out
}

// pieces sets some of a composite's pieces: a prefix of the positions (all of
// them where the length is fixed), any others, in the order moov packs them.
func (g *generator) pieces(b *Builder, c *composite, of *element, de int, path string) {
	if c.lead != nil {
		b.SetSub(de, path+c.lead.id, g.value(c.lead))
	}
	count := 1 + g.IntN(max(1, len(c.elements)))
	if of.fixed {
		count = len(c.elements)
	}
	room := of.max - 8
	for i, e := range c.elements {
		if c.kind == positional && i >= count || c.kind != positional && g.IntN(3) == 0 {
			continue
		}
		if c.kind != positional && (room < e.wireLen(min(e.max, 40))+8) {
			continue
		}
		room -= e.wireLen(min(e.max, 40)) + 8
		if e.composite != nil {
			g.pieces(b, e.composite, e, de, path+e.id+".")
			continue
		}
		b.SetSub(de, path+e.id, g.value(e))
	}
}

// strictness are the reasons for which we refuse what moov takes, each in
// docs/wire.md; everything else must be refused by both. An element that we
// take apart and that is opaque to moov may be refused for what is in it.
func strictness(d *Dialect, spec *moov.MessageSpec, err error) bool {
	for _, known := range []error{ErrTrailing, ErrDigits, ErrCharacters, ErrFiller, ErrLength, ErrMTI} {
		if errors.Is(err, known) {
			return true
		}
	}
	var fe *FieldError
	if !errors.As(err, &fe) || fe.DE == 0 {
		return false
	}
	if fe.DE == 1 {
		return true
	}
	return fe.Inner && spec.Fields[fe.DE] != nil && opaque(d.elements[fe.DE], spec.Fields[fe.DE])
}

// opaque reports an element of which moov takes apart less than we do.
func opaque(e *element, f field.Field) bool {
	if e.composite == nil {
		return false
	}
	c, composite := f.(*field.Composite)
	if !composite {
		return true
	}
	for _, piece := range e.composite.elements {
		if opaque(piece, c.Spec().Subfields[piece.id]) {
			return true
		}
	}
	return false
}

// moovUnpack shields the test from moov's panics on malformed input.
func moovUnpack(m *moov.Message, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("moov panics: %v", p)
		}
	}()
	return m.Unpack(body)
}

func TestDifferential(t *testing.T) {
	for _, name := range dialectNames(t) {
		d := load(t, name)
		spec := moovSpec(t, d)
		t.Run(name+"/random", func(t *testing.T) {
			t.Parallel()
			var b Builder
			var ours Message
			for i := range uint64(scaled(*randomCount)) {
				seed := *firstSeed + i
				newGenerator(d, seed).message(&b)
				if err := compareRandom(d, spec, &b, &ours); err != nil {
					t.Fatalf("-differential.seed=%d: %v", seed, err)
				}
			}
		})
		t.Run(name+"/mutated", func(t *testing.T) {
			t.Parallel()
			var b Builder
			var ours Message
			for i := range uint64(scaled(*mutatedCount)) {
				seed := *firstSeed + i
				g := newGenerator(d, seed)
				g.message(&b)
				frame, err := d.Pack(nil, &b)
				if err != nil {
					continue
				}
				if err := compareMutated(d, spec, g.mutate(frame), &ours); err != nil {
					t.Fatalf("-differential.seed=%d: %v", seed, err)
				}
			}
		})
	}
}

// compareRandom packs with both, and unpacks with each what the other packed.
func compareRandom(d *Dialect, spec *moov.MessageSpec, b *Builder, ours *Message) error {
	frame, err := d.Pack(nil, b)
	if err != nil {
		if errors.Is(err, ErrTooLong) { // more pieces than the element holds
			return nil
		}
		return fmt.Errorf("our Pack: %w", err)
	}
	if err := d.Unpack(ours, frame); err != nil {
		return fmt.Errorf("our Unpack of our Pack: %w\n%x", err, frame)
	}
	return sameInMoov(d, spec, ours, frame)
}

// sameInMoov wants moov to read a frame as ours was read from it, and to pack
// the same bytes again.
func sameInMoov(d *Dialect, spec *moov.MessageSpec, ours *Message, frame []byte) error {
	body := frame[d.headerLen:]
	theirs := moov.NewMessage(spec)
	if err := moovUnpack(theirs, body); err != nil {
		return fmt.Errorf("moov does not read it: %w\n%x", err, body)
	}
	if err := sameValues(ours, theirs); err != nil {
		return fmt.Errorf("%w\n%x", err, body)
	}
	packed, err := packMoov(spec, ours, theirs)
	if err != nil {
		return fmt.Errorf("moov does not pack our values: %w\n%x", err, body)
	}
	if d.bitmapAlways > 1 {
		packed[bitmapAt(d)] |= 0x80 // moov does not announce a bitmap that is always there
	}
	if !bytes.Equal(packed, body) && !(d.file.Classes["n"].Filler == "F" && sameButFiller(d, ours, packed)) {
		return fmt.Errorf("moov packs otherwise:\nours %x\nmoov %x", body, packed)
	}
	return nil
}

// sameButFiller reads what moov packed where the dialect fills an odd number of
// digits with an F: moov always writes a zero.
func sameButFiller(d *Dialect, ours *Message, packed []byte) bool {
	var m Message
	if err := d.Unpack(&m, packed); err != nil || m.MTI() != ours.MTI() || m.present != ours.present {
		return false
	}
	for de := m.Next(1); de != 0; de = m.Next(de) {
		if d.elements[de].composite == nil && !bytes.Equal(m.Bytes(de), ours.Bytes(de)) {
			return false
		}
	}
	return len(packed) == len(ours.Frame())-d.headerLen
}

func bitmapAt(d *Dialect) int {
	if d.mtiCoding == codingBCD {
		return 2
	}
	return 4
}

// packMoov builds a new message of moov's from our canonical values. Where a
// composite is present moov packs what it read: it takes pieces only whole.
func packMoov(spec *moov.MessageSpec, ours *Message, read *moov.Message) ([]byte, error) {
	m := moov.NewMessage(spec)
	m.MTI(ours.MTI().String())
	for de := ours.Next(1); de != 0; de = ours.Next(de) {
		f := read.GetField(de)
		if _, composite := f.(*field.Composite); composite {
			return read.Pack()
		}
		value := ours.Bytes(de)
		if !sameForm(ours.dialect.elements[de], f) {
			raw, err := f.Bytes()
			if err != nil {
				return nil, err
			}
			value = raw
		}
		if err := m.BinaryField(de, value); err != nil {
			return nil, err
		}
	}
	return m.Pack()
}

// sameForm reports whether moov's value of a field has our canonical form:
// packed digits whose length counts bytes are plain bytes to moov.
func sameForm(e *element, f field.Field) bool {
	_, binary := f.(*field.Binary)
	return !binary || e.class == classB
}

func sameValues(ours *Message, theirs *moov.Message) error {
	mti, err := theirs.GetMTI()
	if err != nil || mti != ours.MTI().String() {
		return fmt.Errorf("MTI: ours %s, moov %s (%v)", ours.MTI(), mti, err)
	}
	fields := theirs.GetFields()
	for de := range fields {
		if de > 1 && !ours.Has(de) {
			return fmt.Errorf("DE %d: moov has it, we have not", de)
		}
	}
	for de := ours.Next(1); de != 0; de = ours.Next(de) {
		f, ok := fields[de]
		if !ok {
			return fmt.Errorf("DE %d: moov has it not", de)
		}
		if err := sameField(ours, ours.dialect.elements[de], f, de, "", ours.Bytes(de)); err != nil {
			return err
		}
	}
	return nil
}

func sameField(ours *Message, e *element, f field.Field, de int, path string, value []byte) error {
	c, composite := f.(*field.Composite)
	if !composite {
		got, err := f.Bytes()
		if err != nil {
			return err
		}
		if sameForm(e, f) && !bytes.Equal(got, value) {
			return fmt.Errorf("DE %d.%s: ours %q, moov %q", de, path, value, got)
		}
		return nil
	}
	for id, sub := range c.GetSubfields() {
		piece := e.composite.listed(id)
		if piece == nil {
			if e.coding == codingEBCDIC {
				continue // kept undecoded by moov, as text by us
			}
			piece = &element{class: classB}
		}
		if printable([]byte(id)) != id {
			continue // an id of no character we could be asked for
		}
		inner := id
		if path != "" {
			inner = path + "." + id
		}
		if n := occurrences(ours, de, id); n > 1 {
			continue // we keep the first of several, moov the last
		}
		if err := sameField(ours, piece, sub, de, inner, ours.Sub(de, inner)); err != nil {
			return err
		}
	}
	return nil
}

func occurrences(m *Message, de int, id string) int {
	n := 0
	for i := range m.subs {
		s := &m.subs[i]
		if int(s.de) == de && (s.element != nil && s.element.id == id || s.element == nil && m.hasID(s, id)) {
			n++
		}
	}
	return n
}

// mutate damages a message behind its header.
func (g *generator) mutate(frame []byte) []byte {
	out := bytes.Clone(frame)
	for range 1 + g.IntN(3) {
		from := g.d.headerLen
		if len(out) <= from {
			break
		}
		at := from + g.IntN(len(out)-from)
		if g.IntN(3) == 0 {
			at = from + g.IntN(min(len(out)-from, 24)) // type and bitmaps
		}
		switch g.IntN(6) {
		case 0:
			out[at] ^= 1 << g.IntN(8)
		case 1:
			out[at] = byte(g.Uint32())
		case 2:
			out = out[:at]
		case 3:
			out = slices.Insert(out, at, byte(g.Uint32()))
		case 4:
			out = slices.Delete(out, at, at+1)
		default:
			out[at] = "+- 0F9"[g.IntN(6)]
		}
	}
	return out
}

// compareMutated wants both to read the same or both to refuse, but for the
// documented strictness.
func compareMutated(d *Dialect, spec *moov.MessageSpec, frame []byte, ours *Message) error {
	err := d.Unpack(ours, frame)
	if len(frame) < d.headerLen {
		return nil
	}
	body := frame[d.headerLen:]
	theirs := moov.NewMessage(spec)
	moovErr := moovUnpack(theirs, body)
	switch {
	case err == nil && moovErr != nil:
		if slices.ContainsFunc(d.MoovGaps(), ours.Has) {
			return nil // moov has no words for it
		}
		return fmt.Errorf("we read what moov refuses: %w\n%x", moovErr, body)
	case err != nil && moovErr == nil && !strictness(d, spec, err):
		return fmt.Errorf("we refuse what moov reads: %w\n%x", err, body)
	case err == nil:
		if err := sameValues(ours, theirs); err != nil {
			return fmt.Errorf("%w\n%x", err, body)
		}
	}
	return nil
}
