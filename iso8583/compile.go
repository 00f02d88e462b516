package iso8583

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moov-io/iso8583/encoding"
)

func compile(f *file) (*Dialect, error) {
	d := &Dialect{file: f, name: f.Name, builders: &sync.Pool{New: newBuilder}}
	if err := compileFraming(d, &f.Framing); err != nil {
		return nil, err
	}
	if err := compileHeader(d, &f.Header); err != nil {
		return nil, err
	}
	if err := compileEnvelope(d, f); err != nil {
		return nil, err
	}
	for de, ff := range f.Fields {
		if de < 2 || de > maxDE || de == 65 || de == 129 || (de-1)/64 >= d.bitmapCount {
			return nil, fmt.Errorf("DE %d: no such element: %w", de, ErrDialect)
		}
		e, err := d.compileElement(ff, "", 0, nil)
		if err != nil {
			return nil, fmt.Errorf("DE %d: %w", de, err)
		}
		e.setDE(int16(de))
		d.elements[de] = e
	}
	for _, de := range f.MAC {
		if de != 64 && de != 128 || d.elements[de] == nil || !d.elements[de].fixed {
			return nil, fmt.Errorf("mac: DE %d: %w", de, ErrDialect)
		}
		d.mac64, d.mac128 = d.mac64 || de == 64, d.mac128 || de == 128
	}
	if err := compilePayments(d, f); err != nil {
		return nil, err
	}
	var err error
	if d.security, err = d.compileSecurity(f.Security, false); err != nil {
		return nil, fmt.Errorf("security: %w", err)
	}
	return d, nil
}

// builderRoom is more than any message needs: a buffer that grew would leave its
// first memory behind, with a card number in it.
const builderRoom = 8 << 10

func newBuilder() any {
	return &Builder{buf: make([]byte, 0, builderRoom), scratch: make([]byte, 0, builderRoom)}
}

func (e *element) setDE(de int16) {
	e.de = de
	if e.composite == nil {
		return
	}
	for _, piece := range e.composite.elements {
		piece.setDE(de)
	}
	if e.composite.lead != nil {
		e.composite.lead.setDE(de)
	}
}

func compileFraming(d *Dialect, f *framingFile) error {
	trailer, err := hex.DecodeString(f.Trailer)
	if err != nil {
		return fmt.Errorf("framing: trailer is not hexadecimal: %w", ErrDialect)
	}
	d.framing = Framing{
		LengthEncoding: LengthEncoding(f.Length), LengthBytes: f.Bytes, Inclusive: f.Inclusive,
		Reserved: f.Reserved, Trailer: trailer, Heartbeat: f.Heartbeat, MaxMessage: f.MaxMessage,
	}
	if !slices.Contains([]LengthEncoding{LengthBinary, LengthBCD, LengthASCII}, d.framing.LengthEncoding) {
		return fmt.Errorf("framing: length %q is not binary, bcd or ascii: %w", f.Length, ErrDialect)
	}
	if f.Bytes < 2 || f.Bytes > 4 || f.Reserved < 0 || f.Reserved > 4 || f.MaxMessage < 64 || f.MaxMessage > MaxFrame {
		return fmt.Errorf("framing: bytes 2 to 4, reserved 0 to 4, max_message 64 to %d: %w", MaxFrame, ErrDialect)
	}
	counted := f.MaxMessage + len(trailer)
	if f.Inclusive {
		counted += f.Bytes
	}
	kind := map[LengthEncoding]coding{LengthBinary: codingBinary, LengthASCII: codingASCII, LengthBCD: codingBCD}[d.framing.LengthEncoding]
	width := f.Bytes
	if kind == codingBCD {
		width *= 2
	}
	if _, ok := appendLength(nil, kind, width, counted); !ok {
		return fmt.Errorf("framing: max_message does not fit the length prefix: %w", ErrDialect)
	}
	return nil
}

// compileEnvelope is what stands around the elements: message type, bitmaps,
// character set.
func compileEnvelope(d *Dialect, f *file) error {
	var err error
	if d.mtiCoding, err = parseCoding(f.MTI.Enc); err != nil {
		return fmt.Errorf("mti: %w", err)
	}
	if d.bitmapCoding, err = parseCoding(f.Bitmap.Enc); err != nil {
		return fmt.Errorf("bitmap: %w", err)
	}
	if f.MTI.Version < 0 || f.MTI.Version > 2 || f.Bitmap.Count < 1 || f.Bitmap.Count > 3 || f.Bitmap.Always > f.Bitmap.Count {
		return fmt.Errorf("mti version 0 to 2, bitmap count 1 to 3: %w", ErrDialect)
	}
	d.bitmapCount, d.bitmapAlways, d.bitmapContiguous = f.Bitmap.Count, f.Bitmap.Always, f.Bitmap.Contiguous
	d.ebcdic, err = ebcdicTables(f)
	return err
}

// ebcdicTables asks moov for its translations, so that both codecs speak the
// same code page; EBCDIC1047 anywhere in the file chooses that page for all.
func ebcdicTables(f *file) (*charset, error) {
	t := &charset{page: "EBCDIC"}
	var page encoding.Encoder = encoding.EBCDIC
	for _, c := range f.Classes {
		if c.Enc == "EBCDIC1047" {
			t.page, page = "EBCDIC1047", encoding.EBCDIC1047
		}
	}
	for i := range t.toASCII {
		t.toASCII[i], t.fromASCII[i] = 0xFF, 0x6F // a question mark, never sent: strict refuses what has no code
	}
	for c := range byte(0x80) {
		wire, err := page.Encode([]byte{c})
		if err != nil || len(wire) != 1 {
			return nil, fmt.Errorf("EBCDIC code page: %w", ErrDialect)
		}
		t.fromASCII[c], t.toASCII[wire[0]] = wire[0], c
	}
	return t, nil
}

func parseCoding(s string) (coding, error) {
	switch s {
	case "ASCII":
		return codingASCII, nil
	case "BCD":
		return codingBCD, nil
	case "LBCD":
		return codingLBCD, nil
	case "EBCDIC", "EBCDIC1047":
		return codingEBCDIC, nil
	case "Binary":
		return codingBinary, nil
	case "HexToASCII", "Hex":
		return codingHex, nil
	case "BerTLV":
		return codingBER, nil
	case "None":
		return codingNone, nil
	}
	return 0, fmt.Errorf("encoding %q is not known: %w", s, ErrDialect)
}

// format is an element's format in the field's notation.
type format struct {
	class class
	fixed bool
	max   int
}

func parseFormat(s string) (format, error) {
	f := format{fixed: true}
	letters := strings.TrimRight(s, "0123456789")
	number := s[len(letters):]
	if name, variable := strings.CutSuffix(letters, ".."); variable {
		f.fixed, letters = false, name
	}
	class, ok := classNames[letters]
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || n > MaxFrame {
		return f, fmt.Errorf("format %q: %w", s, ErrDialect)
	}
	f.class, f.max = class, n
	if class == classXN && f.fixed {
		f.max++ // the sign is not counted in x+n8
	}
	return f, nil
}

// classNames is read-only.
var classNames = map[string]class{"n": classN, "a": classA, "an": classAN, "ans": classANS, "anp": classANS, "b": classB, "z": classZ, "x+n": classXN}

// className is the key of a class in the file's classes.
var className = [...]string{"n", "a", "an", "ans", "b", "z", "x+n"}

// within is the composite a piece belongs to, nil for a data element.
type within struct {
	kind compositeKind
	text bool // the composite lies in decoded text
	tag  *tagFile
}

func (d *Dialect) compileElement(f *fieldFile, id string, depth int, in *within) (*element, error) {
	if f == nil {
		return nil, fmt.Errorf("no definition: %w", ErrDialect)
	}
	fm, err := parseFormat(f.Format)
	if err != nil {
		return nil, err
	}
	e := &element{id: id, name: strings.ToLower(f.Description), description: f.Description, class: fm.class, fixed: fm.fixed, max: fm.max}
	if e.sensitive, err = parseSensitivity(f.Sensitive); err != nil {
		return nil, err
	}
	if err := d.compileCoding(e, f, in); err != nil {
		return nil, err
	}
	if err := d.compilePrefix(e, f, in); err != nil {
		return nil, err
	}
	if f.Kind != "" {
		if depth+1 >= maxDepth {
			return nil, fmt.Errorf("composites nested too deeply: %w", ErrDialect)
		}
		e.composite, err = d.compileComposite(e, f, depth)
	} else if len(f.Subfields) > 0 {
		err = fmt.Errorf("subfields without a kind: %w", ErrDialect)
	}
	return e, err
}

// defaults are a class's own, a class that has none travels as "ans" does.
func (d *Dialect) defaults(c class) classFile {
	if cf, ok := d.file.Classes[className[c]]; ok {
		return cf
	}
	return d.file.Classes["ans"]
}

func (d *Dialect) compileCoding(e *element, f *fieldFile, in *within) error {
	cf := d.defaults(e.class)
	if f.Enc != "" {
		cf.Enc = f.Enc
	} else if in != nil && in.text {
		cf.Enc = "ASCII"
	}
	if f.Filler != "" {
		cf.Filler = f.Filler
	}
	var err error
	if e.coding, err = parseCoding(cf.Enc); err != nil {
		return err
	}
	if e.coding == codingBER || e.coding == codingNone {
		return fmt.Errorf("encoding %q is for lengths: %w", cf.Enc, ErrDialect)
	}
	digits := e.class == classN || e.class == classZ || e.class == classXN
	if (e.coding == codingBCD || e.coding == codingLBCD) && !digits {
		return fmt.Errorf("%s cannot be packed digits: %w", f.Format, ErrDialect)
	}
	if e.class == classB && e.coding != codingBinary && e.coding != codingHex {
		return fmt.Errorf("%s must be Binary or HexToASCII: %w", f.Format, ErrDialect)
	}
	if e.coding == codingEBCDIC {
		e.encode, e.decode = &d.ebcdic.fromASCII, &d.ebcdic.toASCII
	}
	switch cf.Filler {
	case "", "0":
	case "F":
		e.filler = 15
	default:
		return fmt.Errorf("filler %q is neither 0 nor F: %w", cf.Filler, ErrDialect)
	}
	padding := cf.Padding
	if f.Padding != nil {
		padding = f.Padding
	}
	if padding == nil || padding.Type == "None" || e.class == classB {
		return nil
	}
	if len(padding.Pad) != 1 || padding.Type != "Left" && padding.Type != "Right" {
		return fmt.Errorf("padding wants Left or Right and one character: %w", ErrDialect)
	}
	e.pad, e.padLeft = padding.Pad[0], padding.Type == "Left"
	if e.coding != codingASCII && e.coding != codingEBCDIC && (e.pad != '0' || !e.padLeft) {
		return fmt.Errorf("packed digits are padded with zeros on the left: %w", ErrDialect)
	}
	return nil
}

// compilePrefix settles the length prefix: its coding from the element, the
// class or the file, its width from the longest value.
func (d *Dialect) compilePrefix(e *element, f *fieldFile, in *within) error {
	cf := d.defaults(e.class)
	unit := cf.Unit
	if f.Unit != "" {
		unit = f.Unit
	}
	e.bytesUnit = unit == "bytes" && (e.coding == codingBCD || e.coding == codingLBCD) && !e.fixed
	if unit != "" && unit != "bytes" && unit != "digits" {
		return fmt.Errorf("unit %q is neither digits nor bytes: %w", unit, ErrDialect)
	}
	spelled := f.Prefix
	listed := in != nil && (in.kind == tagged || in.kind == berTagged || in.kind == usage)
	switch {
	case listed && spelled == "" && in.kind == berTagged:
		spelled = "BerTLV"
	case listed && spelled == "":
		spelled = in.tag.Prefix
	case e.fixed && !listed, in != nil && in.kind == delimited:
		e.prefix = codingNone
		return nil
	case spelled == "" && in != nil && in.text:
		spelled = "ASCII"
	case spelled == "" && cf.Prefix != "":
		spelled = cf.Prefix
	case spelled == "":
		spelled = d.file.Prefix
	}
	var err error
	e.prefix, e.prefixLen, err = parsePrefix(spelled, e.max)
	if listed {
		// A fixed piece with a length of its own may be shorter: the length says so.
		e.bytesUnit = e.coding == codingBCD || e.coding == codingLBCD
		e.fixed = false
	}
	return err
}

// parsePrefix reads "ASCII.LLL", or "ASCII" whose width follows from the
// longest value.
func parsePrefix(s string, longest int) (coding, uint8, error) {
	name, width, _ := strings.Cut(s, ".")
	c, err := parseCoding(name)
	if err != nil {
		return 0, 0, err
	}
	if c == codingBER || c == codingNone {
		return c, 1, nil
	}
	n := len(width)
	if strings.Trim(width, "L") != "" || n > 6 {
		return 0, 0, fmt.Errorf("prefix %q: %w", s, ErrDialect)
	}
	if n == 0 {
		n = max(2, len(strconv.Itoa(longest))) // "n..6" is still written LL
		if c == codingBinary || c == codingHex {
			n = 1
			if longest > 255 {
				n = 2
			}
		}
	}
	return c, uint8(n), nil
}

func parseSensitivity(s string) (sensitivity, error) {
	i := slices.Index(sensitivityNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("sensitive %q is not known: %w", s, ErrDialect)
	}
	return sensitivity(i), nil
}

// sensitivityNames is read-only.
var sensitivityNames = [...]string{"", "pan", "expiry", "track", "pin", "cvv", "chip", "key"}
