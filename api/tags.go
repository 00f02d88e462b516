package api

import "bytes"

// Limits of an authorization's tags.
const (
	maxTag  = 64
	maxTags = 255 // all of them, with what is between them
)

// tags are the merchant's own names for what a payment belongs to, one to a
// line; nil where there are none.
func (d *document) tags() []byte {
	if d.listed == 0 || !d.is(fieldTags, texts) {
		return nil
	}
	joined := make([]byte, 0, maxTags)
	for n := range d.listed {
		tag := d.element(n)
		switch {
		case len(tag) == 0 || len(tag) > maxTag || len(joined)+1+len(tag) > maxTags:
			d.fault("/tags", "invalid_length", "a tag is empty or too long, or they are together")
			return nil
		case !isPrintable(tag):
			d.fault("/tags", "invalid_value", "must be printable ASCII")
			return nil
		case tagged(joined, tag):
			d.fault("/tags", "duplicate", "a tag stands there twice")
			return nil
		}
		if n > 0 {
			joined = append(joined, '\n')
		}
		joined = append(joined, tag...)
	}
	return joined
}

// tagged says whether a tag is among others.
func tagged(joined, tag []byte) bool {
	for one := range bytes.SplitSeq(joined, []byte{'\n'}) {
		if bytes.Equal(one, tag) {
			return true
		}
	}
	return false
}

// appendTags writes the tags of a payment.
func appendTags(dst, joined []byte) []byte {
	dst = append(dst, '[')
	if len(joined) > 0 {
		n := 0
		for one := range bytes.SplitSeq(joined, []byte{'\n'}) {
			dst = appendComma(dst, n)
			dst = appendText(dst, one)
			n++
		}
	}
	return append(dst, ']')
}
