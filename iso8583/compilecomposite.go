package iso8583

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kindNames is read-only.
var kindNames = [...]string{"positional", "bitmap", "tlv", "ber", "delimited", "usage"}

func (d *Dialect) compileComposite(e *element, f *fieldFile, depth int) (*composite, error) {
	kind := slices.Index(kindNames[:], f.Kind)
	if kind < 0 {
		return nil, fmt.Errorf("kind %q is not known: %w", f.Kind, ErrDialect)
	}
	c := &composite{kind: compositeKind(kind), bitmapLen: f.Bitmap, closed: f.Closed, list: f.List, whole: e.fixed}
	in := &within{kind: c.kind, text: e.class != classB, tag: f.Tag}
	if err := c.compileTag(d, f, in.text); err != nil {
		return nil, err
	}
	if c.kind == bitmapped && (f.Bitmap < 1 || f.Bitmap > 16 || e.class != classB) {
		return nil, fmt.Errorf("an inner bitmap has 1 to 16 bytes and stands in format b: %w", ErrDialect)
	}
	if c.kind == delimited {
		if len(f.Separator) != 1 {
			return nil, fmt.Errorf("separator wants one character: %w", ErrDialect)
		}
		c.separator = f.Separator[0]
	}
	if f.Lead != nil {
		lead, err := d.compileElement(f.Lead, "lead", depth+1, &within{kind: positional, text: in.text})
		if err != nil {
			return nil, fmt.Errorf("lead: %w", err)
		}
		c.lead = lead
	}
	ids := make([]string, 0, len(f.Subfields))
	for id := range f.Subfields {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	for _, id := range ids {
		if err := c.checkID(id); err != nil {
			return nil, err
		}
		piece, err := d.compileElement(f.Subfields[id], id, depth+1, in)
		if err != nil {
			return nil, fmt.Errorf("subfield %s: %w", id, err)
		}
		c.elements = append(c.elements, piece)
	}
	c.index()
	return c, nil
}

// compareIDs orders positions as numbers and tags as text.
func compareIDs(a, b string) int {
	m, errA := strconv.Atoi(a)
	n, errB := strconv.Atoi(b)
	if errA == nil && errB == nil {
		return m - n
	}
	return strings.Compare(a, b)
}

func (c *composite) compileTag(d *Dialect, f *fieldFile, text bool) error {
	switch c.kind {
	case positional, bitmapped:
		return nil
	case berTagged:
		c.idBinary, c.prefix = true, codingBER
		return nil
	}
	if f.Tag == nil || f.Tag.Length < 1 || f.Tag.Length > 8 {
		return fmt.Errorf("kind %s wants a tag with a length: %w", f.Kind, ErrDialect)
	}
	c.idLen = f.Tag.Length
	enc := f.Tag.Enc
	if text && enc != "ASCII" {
		return fmt.Errorf("tags in text are written in ASCII, whatever the text's own encoding: %w", ErrDialect)
	}
	switch enc {
	case "ASCII":
	case "EBCDIC":
		c.encode, c.decode = &d.ebcdic.fromASCII, &d.ebcdic.toASCII
	case "Binary":
		c.idBinary = true
	default:
		return fmt.Errorf("tag encoding %q is not known: %w", enc, ErrDialect)
	}
	if c.kind == delimited {
		return nil
	}
	var err error
	c.prefix, c.prefixLen, err = parsePrefix(f.Tag.Prefix, 99)
	return err
}

// checkID refuses an id that could never be met.
func (c *composite) checkID(id string) error {
	n, err := strconv.Atoi(id)
	numbered := err == nil && n >= 1 && strconv.Itoa(n) == id
	var ok bool
	switch c.kind {
	case positional:
		ok = numbered
	case bitmapped:
		ok = numbered && n <= 8*c.bitmapLen
	case berTagged:
		ok = len(id) >= 2 && len(id)%2 == 0 && strings.Trim(id, upperHex) == ""
	default:
		if c.idBinary {
			ok = len(id) == 2*c.idLen && strings.Trim(id, upperHex) == ""
		} else {
			ok = len(id) == c.idLen
		}
	}
	if !ok {
		return fmt.Errorf("subfield %q cannot be an id here: %w", id, ErrDialect)
	}
	return nil
}
