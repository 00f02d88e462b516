package iso8583

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// moovField is a field of moov-io/iso8583's JSON specification.
type moovField struct {
	Type              string                `json:"type"`
	Length            int                   `json:"length"`
	Description       string                `json:"description,omitempty"`
	Enc               string                `json:"enc,omitempty"`
	Prefix            string                `json:"prefix"`
	Tag               *moovTag              `json:"tag,omitempty"`
	Subfields         map[string]*moovField `json:"subfields,omitempty"`
	Bitmap            *moovField            `json:"bitmap,omitempty"`
	DisableAutoExpand bool                  `json:"disableAutoExpand,omitempty"`
}

type moovTag struct {
	Length              int    `json:"length,omitempty"`
	Enc                 string `json:"enc,omitempty"`
	Sort                string `json:"sort,omitempty"`
	SkipUnknownTLVTags  bool   `json:"skipUnknownTLVTags,omitempty"`
	StoreUnknownTLVTags bool   `json:"storeUnknownTLVTags,omitempty"`
	PrefUnknownTLV      string `json:"prefUnknownTLV,omitempty"`
}

// MoovSpec is the dialect as moov-io/iso8583 reads it (specs.ImportJSON): the
// message alone, without the network header. No field has padding, so that
// values are those of Message.Bytes. Elements that moov's JSON has no words
// for (packed track data whose length counts digits) are left out: MoovGaps.
// DE 55 and composites moov would re-order or could not take apart are plain
// Binary or String fields there.
func (d *Dialect) MoovSpec() ([]byte, error) {
	if d.bitmapCoding == codingEBCDIC || d.bitmapCount == 3 && !d.bitmapContiguous {
		return nil, fmt.Errorf("dialect %s: moov has no such bitmap: %w", d.name, ErrDialect)
	}
	fields := map[string]*moovField{
		"0": {Type: "String", Length: 4, Description: "Message type indicator", Enc: d.moovEnc(d.mtiCoding), Prefix: "ASCII.Fixed"},
		"1": {Type: "Bitmap", Length: 8, Description: "Bitmap", Enc: moovNames[d.bitmapCoding], Prefix: "Binary.Fixed"},
	}
	if d.bitmapAlways > 1 {
		fields["1"].Length, fields["1"].DisableAutoExpand = 16, true
	}
	for de, e := range d.elements {
		if e == nil {
			continue
		}
		if f := d.moovField(e); f != nil {
			fields[strconv.Itoa(de)] = f
		}
	}
	return json.MarshalIndent(map[string]any{"name": d.name, "fields": fields}, "", "  ")
}

// MoovGaps are the elements MoovSpec leaves out.
func (d *Dialect) MoovGaps() []int {
	var gaps []int
	for de, e := range d.elements {
		if e != nil && d.moovField(e) == nil {
			gaps = append(gaps, de)
		}
	}
	return gaps
}

// moovEnc is moov's word for a coding, with this dialect's EBCDIC code page.
func (d *Dialect) moovEnc(c coding) string {
	if c == codingEBCDIC {
		return d.ebcdic.page
	}
	return moovNames[c]
}

// moovNames is read-only: moov's word for each coding.
var moovNames = [...]string{
	codingASCII: "ASCII", codingBCD: "BCD", codingLBCD: "LBCD", codingEBCDIC: "EBCDIC", codingBinary: "Binary", codingHex: "HexToASCII",
	codingBER: "BerTLV", codingNone: "None.Fixed",
}

func (d *Dialect) moovField(e *element) *moovField {
	f := &moovField{Type: "String", Length: e.max, Description: e.description, Enc: d.moovEnc(e.coding), Prefix: e.moovPrefix()}
	packed := e.coding == codingBCD || e.coding == codingLBCD
	switch {
	case packed && (e.bytesUnit || e.class == classXN):
		f.Type, f.Enc, f.Length = "Binary", "Binary", e.wireLen(e.max)
	case packed && e.class == classZ:
		return nil
	case e.class == classB:
		f.Type = "Binary"
	}
	if e.composite != nil && f.Type != "Binary" || e.composite != nil && e.class == classB {
		d.moovComposite(e, f)
	}
	return f
}

func (e *element) moovPrefix() string {
	switch {
	case e.fixed:
		return "ASCII.Fixed"
	case e.prefix == codingBER || e.prefix == codingNone:
		return moovNames[e.prefix]
	case e.prefix == codingHex:
		return "Hex." + strings.Repeat("L", int(e.prefixLen))
	case e.prefix == codingLBCD:
		return "BCD." + strings.Repeat("L", int(e.prefixLen))
	}
	return moovNames[e.prefix] + "." + strings.Repeat("L", int(e.prefixLen))
}

// moovComposite turns a field into moov's composite where moov takes it apart
// as we do.
func (d *Dialect) moovComposite(e *element, f *moovField) {
	c := e.composite
	packed := e.coding == codingBCD || e.coding == codingLBCD // positions of nibbles
	if packed || c.lead != nil || len(c.elements) == 0 || c.kind == berTagged || c.kind == delimited || c.kind == usage {
		return
	}
	tag := &moovTag{Sort: "StringsByInt"}
	if c.kind == tagged {
		tag.Length, tag.Enc = c.idLen, d.moovEnc(e.coding)
		tag.SkipUnknownTLVTags, tag.StoreUnknownTLVTags = !c.closed, !c.closed
		tag.PrefUnknownTLV = (&element{prefix: c.prefix, prefixLen: c.prefixLen}).textPrefix(e)
		switch {
		case c.idBinary:
			tag.Enc, tag.Sort = "ASCIIToHex", "StringsByHex"
		case c.encode != nil:
			tag.Enc = d.ebcdic.page
		case e.class == classB:
			tag.Enc = "ASCII"
		}
	}
	subfields := map[string]*moovField{}
	for _, piece := range c.elements {
		p := d.moovField(piece)
		if p == nil {
			return
		}
		if e.coding == codingEBCDIC {
			// Our pieces lie in text already decoded; moov's decode themselves.
			p.Enc, p.Prefix = d.ebcdic.page, piece.textPrefix(e)
		}
		subfields[piece.id] = p
	}
	f.Type, f.Enc, f.Tag, f.Subfields = "Composite", "", tag, subfields
	if c.kind == bitmapped {
		f.Tag = nil
		f.Bitmap = &moovField{Type: "Bitmap", Length: c.bitmapLen, Enc: "Binary", Prefix: "Binary.Fixed", DisableAutoExpand: true}
	}
}

// textPrefix is a piece's prefix in the encoding of the text it lies in.
func (e *element) textPrefix(in *element) string {
	p := e.moovPrefix()
	if in.coding == codingEBCDIC && e.prefix == codingASCII {
		return strings.Replace(p, "ASCII", "EBCDIC", 1)
	}
	return p
}
