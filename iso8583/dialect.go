package iso8583

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"sync"
)

// Dialect is one compiled dialect file: immutable, safe for concurrent use.
type Dialect struct {
	file             *file
	name             string
	framing          Framing
	header           []headerField
	headerLen        int
	headerTotal      int // index of the field that holds the total length, -1
	reject           *rejectHeader
	mtiCoding        coding
	bitmapCoding     coding
	bitmapCount      int
	bitmapAlways     int
	bitmapContiguous bool
	mac64, mac128    bool
	ebcdic           *charset
	elements         [maxDE + 1]*element
	payments         payments
	builders         *sync.Pool // of *Builder; each is wiped before it goes back
	security         security
}

// charset is a pair of translation tables.
type charset struct {
	page               string // moov's name of it
	toASCII, fromASCII [256]byte
}

// LengthEncoding is how a frame's length prefix is written.
type LengthEncoding string

// The encodings of a length prefix.
const (
	LengthBinary LengthEncoding = "binary"
	LengthBCD    LengthEncoding = "bcd"
	LengthASCII  LengthEncoding = "ascii"
)

// Framing is how frames stand in a stream: length prefix, Reserved zero bytes,
// then header and message, then the trailer. The length counts header, message
// and trailer, and the prefix itself (without the reserved bytes) if Inclusive.
type Framing struct {
	LengthEncoding LengthEncoding
	LengthBytes    int
	Inclusive      bool
	Reserved       int
	Trailer        []byte
	Heartbeat      bool // a frame of length zero is a keep-alive, to be echoed
	Header         HeaderSpec
	MaxMessage     int // bytes of header and message
}

// HeaderSpec describes the network header, which Pack and Unpack handle: it is
// part of the frame. Others read it to know what they see.
type HeaderSpec struct {
	Fields []HeaderField
}

// Len is the number of bytes of the header.
func (h HeaderSpec) Len() int {
	n := 0
	for _, f := range h.Fields {
		n += f.Length
	}
	return n
}

// HeaderField is one field of a network header.
type HeaderField struct {
	Name   string
	Length int
	Value  []byte // what we write, as on the wire
	Total  bool   // holds the length of header and message
}

type headerField struct {
	at, length int
	value      []byte
	match      bool
	total      coding
	isTotal    bool
	answerFrom int // offset in the received header to copy from in an answer, -1
}

type rejectHeader struct {
	marker                  byte
	length, codeAt, codeLen int
}

// Load compiles a dialect file and refuses one that could not work: an element
// the compiler does not know, a response code without an action, sensitive
// authentication data in a reversal.
func Load(fsys fs.FS, name string) (*Dialect, error) {
	f, err := readFile(fsys, name)
	if err != nil {
		return nil, err
	}
	d, err := compile(f)
	if err != nil {
		return nil, fmt.Errorf("dialect %s: %w", name, err)
	}
	var faults []string
	for _, finding := range d.Lint() {
		if finding.Fatal {
			faults = append(faults, finding.String())
		}
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("dialect %s: %s: %w", name, strings.Join(faults, "; "), ErrDialect)
	}
	return d, nil
}

// Names are the dialects that can be loaded, in order: every file but those
// that only serve to be extended.
func Names(fsys fs.FS) ([]string, error) {
	files, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing dialects: %w", err)
	}
	var names []string
	for _, file := range files {
		if !strings.HasPrefix(file, "base-") {
			names = append(names, strings.TrimSuffix(file, ".yaml"))
		}
	}
	return names, nil
}

// Name is the file's name, without its ending.
func (d *Dialect) Name() string { return d.name }

// Status says how far the file may be trusted, such as "illustrative, certify
// against scheme documents".
func (d *Dialect) Status() string { return d.file.Status }

// Framing is how the dialect's frames stand in a stream.
func (d *Dialect) Framing() Framing { return d.framing }

// MACSpan is where a packed frame is authenticated: the MAC is over
// frame[body:mac] and takes the place of frame[mac:]. ok is false when the
// frame has no MAC element. The message need not have been packed by Pack.
func (d *Dialect) MACSpan(frame []byte) (body, mac int, ok bool) {
	de := d.lastElement(frame)
	if de != 64 && de != 128 || !d.isMAC(de) {
		return 0, 0, false
	}
	n := d.elements[de].wireLen(d.elements[de].max)
	if len(frame)-d.headerLen < n {
		return 0, 0, false
	}
	return d.headerLen, len(frame) - n, true
}

// lastElement is the highest element the bitmaps announce, 0 when they cannot
// be read. It looks at the bitmaps only.
func (d *Dialect) lastElement(frame []byte) int {
	at := d.headerLen + 4
	if d.mtiCoding == codingBCD {
		at -= 2
	}
	m := Message{contents: contents{dialect: d, buf: frame, frame: len(frame)}}
	if at > len(frame) {
		return 0
	}
	if _, err := d.readBitmaps(&m, at); err != nil {
		return 0
	}
	last := 0
	for de := m.Next(1); de != 0; de = m.Next(de) {
		last = de
	}
	return last
}

func (d *Dialect) readHeader(m *Message) (int, error) {
	if d.headerLen == 0 {
		return 0, nil
	}
	at := 0
	if r := d.reject; r != nil && m.frame > 0 && m.buf[0] == r.marker {
		if m.frame < r.length+d.headerLen {
			return 0, ErrHeader
		}
		m.rejected = true
		at = r.length
	}
	if m.frame-at < d.headerLen {
		return 0, ErrHeader
	}
	for i := range d.header {
		h := &d.header[i]
		if h.match && string(m.buf[at+h.at:at+h.at+h.length]) != string(h.value) {
			return 0, ErrHeader
		}
	}
	return at + d.headerLen, nil
}

func (d *Dialect) appendHeader(dst []byte, b *Builder) []byte {
	if d.headerLen == 0 {
		return dst
	}
	received := b.buf[b.header.from:b.header.to]
	for i := range d.header {
		h := &d.header[i]
		if h.answerFrom >= 0 && len(received) == d.headerLen {
			dst = append(dst, received[h.answerFrom:h.answerFrom+h.length]...)
			continue
		}
		dst = append(dst, h.value...)
	}
	return dst
}

// finishHeader writes the total length, known only now.
func (d *Dialect) finishHeader(frame []byte) {
	if d.headerTotal < 0 {
		return
	}
	h := &d.header[d.headerTotal]
	// compile has checked that MaxMessage fits the field.
	appendLength(frame[h.at:h.at:h.at+h.length], h.total, h.length, len(frame))
}

func compileHeader(d *Dialect, f *headerFile) error {
	d.headerTotal = -1
	at := 0
	for i, hf := range f.Fields {
		value, err := hex.DecodeString(hf.Value)
		if err != nil {
			return fmt.Errorf("header %s: value is not hexadecimal: %w", hf.Name, ErrDialect)
		}
		if hf.Text != "" {
			value = []byte(hf.Text)
		}
		for len(value) < hf.Length {
			value = append(value, 0)
		}
		if hf.Length < 1 || len(value) != hf.Length {
			return fmt.Errorf("header %s: the value does not fit %d bytes: %w", hf.Name, hf.Length, ErrDialect)
		}
		h := headerField{at: at, length: hf.Length, value: value, match: hf.Match, answerFrom: -1}
		if hf.Total != "" {
			if h.total, err = parseCoding(hf.Total); err != nil {
				return fmt.Errorf("header %s: %w", hf.Name, err)
			}
			h.isTotal, d.headerTotal = true, i
		}
		d.header = append(d.header, h)
		d.framing.Header.Fields = append(d.framing.Header.Fields, HeaderField{Name: hf.Name, Length: hf.Length, Value: value, Total: h.isTotal})
		at += hf.Length
	}
	d.headerLen = at
	for i, hf := range f.Fields {
		if hf.Answer == "" {
			continue
		}
		from := i
		if hf.Answer != "echo" {
			from = indexOfHeader(f.Fields, hf.Answer)
		}
		if from < 0 || f.Fields[from].Length != hf.Length {
			return fmt.Errorf("header %s: answer %q is no field of its length: %w", hf.Name, hf.Answer, ErrDialect)
		}
		d.header[i].answerFrom = d.header[from].at
	}
	return compileReject(d, f.Reject)
}

func indexOfHeader(fields []headerFieldFile, name string) int {
	for i := range fields {
		if fields[i].Name == name {
			return i
		}
	}
	return -1
}

func compileReject(d *Dialect, r *rejectFile) error {
	if r == nil {
		return nil
	}
	marker, err := hex.DecodeString(r.Marker)
	if err != nil || len(marker) != 1 || r.Length < 1 || r.CodeAt < 0 || r.CodeLength < 0 || r.CodeAt+r.CodeLength > r.Length {
		return fmt.Errorf("header reject: %w", ErrDialect)
	}
	d.reject = &rejectHeader{marker: marker[0], length: r.Length, codeAt: r.CodeAt, codeLen: r.CodeLength}
	return nil
}
