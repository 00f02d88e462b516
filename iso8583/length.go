package iso8583

// readLength decodes a length prefix: its value, and the bytes it took. The
// value is -1 where there is no prefix at all.
func readLength(kind coding, width int, src []byte) (length, used int, err error) {
	switch kind {
	case codingNone:
		return -1, 0, nil
	case codingBER:
		return readBERLength(src)
	}
	used = lengthBytes(kind, width)
	if used > len(src) {
		return 0, 0, ErrTruncated
	}
	bad := byte(0)
	switch kind {
	case codingBinary:
		for _, c := range src[:used] {
			length = length<<8 | int(c)
		}
	case codingBCD, codingLBCD:
		if width&1 == 1 && src[0]>>4 != 0 {
			return 0, 0, ErrLength // a digit more than the prefix has
		}
		for _, c := range src[:used] {
			hi, lo := c>>4, c&15
			bad |= ((hi + 6) | (lo + 6)) & 16
			length = length*100 + int(hi)*10 + int(lo)
		}
	case codingHex:
		for _, c := range src[:used] {
			n := hexNibble(c)
			bad |= n & 16
			length = length<<4 | int(n&15)
		}
	default:
		zero := byte('0')
		if kind == codingEBCDIC {
			zero = 0xF0
		}
		for _, c := range src[:used] {
			d := c - zero
			if d > 9 {
				bad = 1
			}
			length = length*10 + int(d)
		}
	}
	if bad != 0 {
		return 0, 0, ErrLength
	}
	return length, used, nil
}

// lengthBytes is how many bytes a prefix takes.
func lengthBytes(kind coding, width int) int {
	switch kind {
	case codingBCD, codingLBCD:
		return (width + 1) / 2
	case codingHex:
		return 2 * width
	case codingNone, codingBER:
		return 0
	default:
		return width
	}
}

// appendLength writes a length prefix; false when it does not fit.
func appendLength(dst []byte, kind coding, width, length int) ([]byte, bool) {
	switch kind {
	case codingNone:
		return dst, true
	case codingBER:
		return appendBERLength(dst, length)
	}
	n := lengthBytes(kind, width)
	start := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	out := dst[start:]
	rest := length
	for i := n - 1; i >= 0; i-- {
		switch kind {
		case codingBinary:
			out[i] = byte(rest)
			rest >>= 8
		case codingBCD, codingLBCD:
			out[i] = byte(rest%10) | byte(rest/10%10)<<4
			rest /= 100
		case codingHex:
			out[i] = upperHex[rest&15]
			rest >>= 4
		case codingEBCDIC:
			out[i] = 0xF0 + byte(rest%10)
			rest /= 10
		default:
			out[i] = '0' + byte(rest%10)
			rest /= 10
		}
	}
	return dst, rest == 0
}

const upperHex = "0123456789ABCDEF"

// readBERLength decodes a definite length of at most two bytes after the first:
// no element of ISO 8583 is longer.
func readBERLength(src []byte) (length, used int, err error) {
	if len(src) == 0 {
		return 0, 0, ErrTruncated
	}
	first := src[0]
	if first < 0x80 {
		return int(first), 1, nil
	}
	n := int(first & 0x7F)
	if n == 0 || n > 2 {
		return 0, 0, ErrLength
	}
	if len(src) < 1+n {
		return 0, 0, ErrTruncated
	}
	for _, c := range src[1 : 1+n] {
		length = length<<8 | int(c)
	}
	return length, 1 + n, nil
}

func appendBERLength(dst []byte, length int) ([]byte, bool) {
	switch {
	case length < 0x80:
		return append(dst, byte(length)), true
	case length < 0x100:
		return append(dst, 0x81, byte(length)), true
	case length < 0x10000:
		return append(dst, 0x82, byte(length>>8), byte(length)), true
	}
	return dst, false
}

// berTagLen is the number of bytes of the tag at the start of src, 0 when it
// is cut or longer than four bytes (EMV uses two, schemes three).
func berTagLen(src []byte) int {
	if len(src) == 0 {
		return 0
	}
	if src[0]&0x1F != 0x1F {
		return 1
	}
	for i := 1; i < len(src) && i < 4; i++ {
		if src[i]&0x80 == 0 {
			return i + 1
		}
	}
	return 0
}
