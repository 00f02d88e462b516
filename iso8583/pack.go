package iso8583

import "math/bits"

// Pack appends header and message to dst. On an error dst is returned as it
// was.
func (d *Dialect) Pack(dst []byte, b *Builder) ([]byte, error) {
	if b.invalid {
		return dst, fieldError(b.wrong, "", "", ErrUndefined)
	}
	start := len(dst)
	out := d.appendHeader(dst, b)
	b.body = len(out) - start
	out = d.appendMTI(out, b.mti)
	present := b.present
	count := d.bitmaps(&present)
	for i := range count {
		if i < 2 || d.bitmapContiguous {
			out = d.appendBitmap(out, present[i])
		}
	}
	b.mac = -1
	for i := range count {
		w := present[i]
		if i == 1 && w>>63 == 1 && !d.bitmapContiguous {
			out = d.appendBitmap(out, present[2])
		}
		w &^= 1 << 63
		for w != 0 {
			bit := bits.LeadingZeros64(w)
			w &^= 1 << (63 - uint(bit))
			de := i<<6 + bit + 1
			e := d.elements[de]
			if e == nil {
				return dst, fieldError(de, "", "", ErrUndefined)
			}
			var err error
			if out, err = d.packElement(out, b, e, de, start); err != nil {
				return dst, err
			}
		}
	}
	if len(out)-start > d.framing.MaxMessage {
		return dst, fieldError(0, "", "message", ErrTooLong)
	}
	d.finishHeader(out[start:])
	return out, nil
}

// bitmaps sets the bits that announce further bitmaps and counts them.
func (d *Dialect) bitmaps(present *[3]uint64) int {
	count := 1
	switch {
	case present[2] != 0:
		count = 3
	case present[1] != 0 || d.bitmapAlways > 1:
		count = 2
	}
	for i := range count - 1 {
		present[i] |= 1 << 63
	}
	return count
}

func (d *Dialect) appendMTI(dst []byte, mti MTI) []byte {
	if d.mtiCoding == codingBCD {
		return append(dst, byte(mti>>8), byte(mti))
	}
	text := mti.text()
	if d.mtiCoding == codingEBCDIC {
		for i, c := range text {
			text[i] = d.ebcdic.fromASCII[c]
		}
	}
	return append(dst, text[:]...)
}

func (d *Dialect) appendBitmap(dst []byte, word uint64) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		c := byte(word >> shift)
		if d.bitmapCoding == codingBinary {
			dst = append(dst, c)
			continue
		}
		hi, lo := upperHex[c>>4], upperHex[c&15]
		if d.bitmapCoding == codingEBCDIC {
			hi, lo = d.ebcdic.fromASCII[hi], d.ebcdic.fromASCII[lo]
		}
		dst = append(dst, hi, lo)
	}
	return dst
}

func (d *Dialect) packElement(dst []byte, b *Builder, e *element, de, start int) ([]byte, error) {
	s := b.spans[de]
	value := b.buf[s.from:s.to]
	if e.composite != nil {
		content, sub, err := b.content(e, s)
		if err != nil {
			return dst, fieldError(de, sub, e.name, err)
		}
		value = content
	}
	if d.isMAC(de) {
		// The MAC is over all before it, so that it can only be put in later.
		b.mac = len(dst) - start
	}
	out, err := e.append(dst, value)
	if err != nil {
		return dst, fieldError(de, "", e.name, err)
	}
	return out, nil
}

// isMAC reports the element that holds the message authentication code.
func (d *Dialect) isMAC(de int) bool { return de == 64 && d.mac64 || de == 128 && d.mac128 }

// append writes prefix and value of one element. What is sent is held to the
// letter of its class; what is received, in check, is not.
func (e *element) append(dst, value []byte) ([]byte, error) {
	n := len(value)
	missing := 0
	if n > e.max {
		return dst, ErrTooLong
	}
	if e.fixed && n < e.max {
		if e.pad == 0 || n == 0 && e.class == classN {
			return dst, ErrTooShort
		}
		missing, n = e.max-n, e.max
	}
	if err := e.strict(value); err != nil {
		return dst, err
	}
	if !e.fixed || e.prefixLen > 0 {
		length := n
		if e.bytesUnit {
			length = e.wireLen(n)
		}
		var ok bool
		if dst, ok = appendLength(dst, e.prefix, int(e.prefixLen), length); !ok {
			return dst, ErrTooLong
		}
	}
	switch e.coding {
	case codingBCD, codingLBCD:
		return e.appendDigits(dst, value, missing)
	case codingHex:
		for _, c := range value {
			dst = append(dst, upperHex[c>>4], upperHex[c&15])
		}
		return dst, nil
	}
	from := len(dst)
	if e.padLeft {
		dst = appendRepeat(dst, e.pad, missing)
	}
	dst = append(dst, value...)
	if !e.padLeft {
		dst = appendRepeat(dst, e.pad, missing)
	}
	if e.coding == codingEBCDIC {
		for i := from; i < len(dst); i++ {
			dst[i] = e.encode[dst[i]]
		}
	}
	return dst, nil
}

func appendRepeat(dst []byte, c byte, n int) []byte {
	for range n {
		dst = append(dst, c)
	}
	return dst
}

// appendDigits packs two digits a byte; missing zeros come first.
func (e *element) appendDigits(dst, value []byte, missing int) ([]byte, error) {
	if e.class == classXN && len(value) > 0 {
		dst = append(dst, value[0])
		value = value[1:]
	}
	n := len(value) + missing
	half, odd := byte(0), false
	if n&1 == 1 && e.coding == codingBCD {
		half, odd = e.filler, true
	}
	for i := -missing; i < len(value); i++ {
		nibble := byte(0)
		if i >= 0 {
			nibble = value[i] - '0'
			if value[i] == '=' || value[i] == 'D' {
				nibble = 13
			}
		}
		if odd {
			dst = append(dst, half<<4|nibble)
		}
		half, odd = nibble, !odd
	}
	if odd {
		dst = append(dst, half<<4|e.filler)
	}
	return dst, nil
}

// strict holds a value we are about to send to its class.
func (e *element) strict(value []byte) error {
	switch e.class {
	case classB:
		return nil
	case classA, classAN:
		for _, c := range value {
			upper := c&^0x20 >= 'A' && c&^0x20 <= 'Z'
			if !upper && c != ' ' && (e.class == classA || !isDigit(c)) {
				return ErrCharacters
			}
		}
		return nil
	case classANS:
		for _, c := range value {
			if c < ' ' || c > '~' {
				return ErrCharacters
			}
		}
		return nil
	default:
		return e.check(value)
	}
}
