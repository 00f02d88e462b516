package iso8583

import "strings"

// content is a composite's value to pack: as Set gave it, checked by nothing
// but its length, or put together from the pieces SetSub gave. It also names
// the piece that could not be packed.
func (b *Builder) content(e *element, whole span) ([]byte, string, error) {
	b.window = b.subsOf(int(e.de))
	if whole.to > whole.from || len(b.window) == 0 {
		return b.buf[whole.from:whole.to], "", nil
	}
	b.scratch = b.scratch[:0]
	sub, err := b.pieces(e.composite, int(e.de), "")
	return b.scratch, sub, err
}

// subsOf is the part of what SetSub gave in which an element's pieces lie: the
// searches below are over a handful, not over the whole message.
func (b *Builder) subsOf(de int) []subValue {
	first, last := 0, len(b.subs)
	for first < last && b.subs[first].de != de {
		first++
	}
	for last > first && b.subs[last-1].de != de {
		last--
	}
	return b.subs[first:last]
}

// lookup is the last value set for a piece.
func (b *Builder) lookup(de int, path, id string) ([]byte, bool) {
	for i := len(b.window) - 1; i >= 0; i-- {
		s := &b.window[i]
		if len(s.path) == len(path)+len(id) && s.path[len(path):] == id && s.path[:len(path)] == path && s.de == de {
			return b.buf[s.value.from:s.value.to], true
		}
	}
	return nil, false
}

// pieces appends a composite's pieces to the scratch buffer. path is "" or
// ends in a dot.
func (b *Builder) pieces(c *composite, de int, path string) (string, error) {
	if c.lead != nil {
		if value, ok := b.lookup(de, path, c.lead.id); ok {
			var err error
			if b.scratch, err = c.lead.append(b.scratch, value); err != nil {
				return path + c.lead.id, err
			}
		}
	}
	switch c.kind {
	case positional:
		return b.positions(c, de, path)
	case bitmapped:
		return b.bits(c, de, path)
	default:
		return b.listed(c, de, path)
	}
}

// positions writes pieces up to the last one set; those between are filled:
// zeros where digits stand, spaces elsewhere.
func (b *Builder) positions(c *composite, de int, path string) (string, error) {
	last := len(c.elements) - 1
	for !c.whole && last >= 0 && !b.isSet(c.elements[last], de, path) {
		last--
	}
	for _, e := range c.elements[:last+1] {
		if sub, err := b.piece(e, de, path); err != nil {
			return sub, err
		}
	}
	return "", nil
}

func (b *Builder) isSet(e *element, de int, path string) bool {
	if _, ok := b.lookup(de, path, e.id); ok {
		return true
	}
	return e.composite != nil && b.hasNested(e, de, path)
}

func (b *Builder) hasNested(e *element, de int, path string) bool {
	for i := range b.window {
		s := &b.window[i]
		if s.de == de && len(s.path) > len(path)+len(e.id) && strings.HasPrefix(s.path, path) &&
			strings.HasPrefix(s.path[len(path):], e.id) && s.path[len(path)+len(e.id)] == '.' {
			return true
		}
	}
	return false
}

// piece writes one listed piece; an absent one as filling of its full length.
func (b *Builder) piece(e *element, de int, path string) (string, error) {
	value, ok := b.lookup(de, path, e.id)
	if !ok && e.composite != nil && b.hasNested(e, de, path) {
		return b.nested(e, de, path)
	}
	var err error
	if !ok {
		b.scratch, err = e.appendFilling(b.scratch)
	} else {
		b.scratch, err = e.append(b.scratch, value)
	}
	if err != nil {
		return path + e.id, err
	}
	return "", nil
}

// appendFilling stands for a position that has no value.
func (e *element) appendFilling(dst []byte) ([]byte, error) {
	if !e.fixed {
		return e.append(dst, nil)
	}
	fill := byte(0)
	switch {
	case e.class == classB:
	case e.coding == codingBCD || e.coding == codingLBCD:
	case e.class == classN:
		fill = '0'
	default:
		fill = ' '
	}
	if e.coding == codingEBCDIC {
		fill = e.encode[fill]
	}
	return appendRepeat(dst, fill, e.wireLen(e.max)), nil
}

// nested packs a composite inside a composite: its content is put together
// behind what is there, then moved behind its length.
func (b *Builder) nested(e *element, de int, path string) (string, error) {
	from := len(b.scratch)
	inner := path + e.id + "."
	if sub, err := b.pieces(e.composite, de, inner); err != nil {
		return sub, err
	}
	to := len(b.scratch)
	var err error
	if b.scratch, err = e.append(b.scratch, b.scratch[from:to]); err != nil {
		return path + e.id, err
	}
	n := copy(b.scratch[from:], b.scratch[to:])
	b.scratch = b.scratch[:from+n]
	return "", nil
}

func (b *Builder) bits(c *composite, de int, path string) (string, error) {
	at := len(b.scratch)
	b.scratch = appendRepeat(b.scratch, 0, c.bitmapLen)
	for _, e := range c.elements {
		if !b.isSet(e, de, path) {
			continue
		}
		bit := e.number() - 1
		b.scratch[at+bit/8] |= 0x80 >> (bit % 8)
		if sub, err := b.piece(e, de, path); err != nil {
			return sub, err
		}
	}
	return "", nil
}

// listed writes pieces in the order they were first set: an acquirer that
// wants an order gets the caller's.
func (b *Builder) listed(c *composite, de int, path string) (string, error) {
	if c.kind == usage {
		b.usageList(c, de, path)
	}
	for i := range b.window {
		s := &b.window[i]
		if s.de != de || !strings.HasPrefix(s.path, path) {
			continue
		}
		id, _, _ := strings.Cut(s.path[len(path):], ".")
		if c.lead != nil && id == c.lead.id || b.earlier(i, de, path, id) {
			continue
		}
		if sub, err := b.listedPiece(c, de, path, id); err != nil {
			return sub, err
		}
	}
	return "", nil
}

// usageList announces a list where there is more than one usage.
func (b *Builder) usageList(c *composite, de int, path string) {
	count := 0
	for i := range b.window {
		if b.window[i].de == de && strings.HasPrefix(b.window[i].path, path) {
			count++
		}
	}
	if count > 1 {
		b.scratch = append(b.scratch, c.list...)
	}
}

// earlier reports whether an id was set before the i-th value.
func (b *Builder) earlier(i, de int, path, id string) bool {
	for j := range i {
		s := &b.window[j]
		if s.de != de || !strings.HasPrefix(s.path, path) {
			continue
		}
		if other, _, _ := strings.Cut(s.path[len(path):], "."); other == id {
			return true
		}
	}
	return false
}

func (b *Builder) listedPiece(c *composite, de int, path, id string) (string, error) {
	var ok bool
	alone := c.kind == delimited || c.kind == usage && !b.inList(c)
	if b.scratch, ok = c.appendID(b.scratch, id); !ok {
		return path + id, ErrUndefined
	}
	for _, e := range c.elements {
		if e.id != id {
			continue
		}
		if alone {
			return b.barePiece(c, e, de, path)
		}
		return b.piece(e, de, path)
	}
	value, found := b.lookup(de, path, id)
	if c.closed || !found {
		return path + id, ErrUndefined
	}
	if !alone {
		if b.scratch, ok = appendLength(b.scratch, c.prefix, int(c.prefixLen), len(value)); !ok {
			return path + id, ErrTooLong
		}
	}
	b.scratch = append(b.scratch, value...)
	if c.kind == delimited {
		b.scratch = append(b.scratch, c.separator)
	}
	return "", nil
}

// inList reports whether a usage list was announced.
func (b *Builder) inList(c *composite) bool {
	return len(b.scratch) >= len(c.list) && c.list != "" && string(b.scratch[:len(c.list)]) == c.list
}

// barePiece writes a listed piece without its length.
func (b *Builder) barePiece(c *composite, e *element, de int, path string) (string, error) {
	value, _ := b.lookup(de, path, e.id)
	bare := *e
	bare.prefix, bare.prefixLen = codingNone, 0
	var err error
	if b.scratch, err = bare.append(b.scratch, value); err != nil {
		return path + e.id, err
	}
	if c.kind == delimited {
		b.scratch = append(b.scratch, c.separator)
	}
	return "", nil
}

// appendID writes an id as it travels: as text, or as the bytes its
// hexadecimal digits say.
func (c *composite) appendID(dst []byte, id string) ([]byte, bool) {
	if !c.idBinary {
		if len(id) != c.idLen {
			return dst, false
		}
		for i := range len(id) {
			b := id[i]
			if c.encode != nil {
				b = c.encode[b]
			}
			dst = append(dst, b)
		}
		return dst, true
	}
	if len(id)%2 != 0 || c.idLen > 0 && len(id) != 2*c.idLen {
		return dst, false
	}
	for i := 0; i < len(id); i += 2 {
		hi, lo := hexNibble(id[i]), hexNibble(id[i+1])
		if hi > 15 || lo > 15 {
			return dst, false
		}
		dst = append(dst, hi<<4|lo)
	}
	return dst, true
}
