package api

import "unicode/utf8"

// scanner reads JSON (RFC 8259) from a request's body without copying or
// allocating. Strings are unescaped where they stand, which only ever shortens
// them, so the body is changed and must be the caller's own.
//
// It is stricter than encoding/json in two places, both of which would let two
// readers of one body disagree: invalid UTF-8 and lone surrogates are refused
// instead of replaced.
type scanner struct {
	b      []byte
	at     int
	reason string // why it stopped, a constant text
}

// maxDepth bounds values that are only skipped; those that are read have the
// depth of their schema.
const maxDepth = 16

// fail stops the scan. The body's content never goes into the reason.
func (s *scanner) fail(reason string) bool {
	if s.reason == "" {
		s.reason = reason
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek is the next byte after white space, 0 at the end. A NUL in the body is
// no token either, so the two need no telling apart.
func (s *scanner) peek() byte {
	s.space()
	if s.at == len(s.b) {
		return 0
	}
	return s.b[s.at]
}

// byte takes one structural character.
func (s *scanner) byte(c byte, reason string) bool {
	if s.peek() != c {
		return s.fail(reason)
	}
	s.at++
	return true
}

// text reads a string and leaves its content at [start, end) of the body.
func (s *scanner) text() (start, end int, ok bool) {
	if !s.byte('"', "a string was expected") {
		return 0, 0, false
	}
	start = s.at
	for s.at < len(s.b) {
		c := s.b[s.at]
		switch {
		case c == '"':
			end = s.at
			s.at++
			return start, end, true
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return 0, 0, s.fail("a control character stands in a string")
		case c < utf8.RuneSelf:
			s.at++
		default:
			r, size := utf8.DecodeRune(s.b[s.at:])
			if r == utf8.RuneError && size <= 1 {
				return 0, 0, s.fail("a string is not UTF-8")
			}
			s.at += size
		}
	}
	return 0, 0, s.fail("a string does not end")
}

// escaped goes on with a string from its first backslash, moving content down
// over the escapes.
func (s *scanner) escaped(start int) (int, int, bool) {
	to := s.at
	for s.at < len(s.b) {
		c := s.b[s.at]
		switch {
		case c == '"':
			s.at++
			return start, to, true
		case c < 0x20:
			return 0, 0, s.fail("a control character stands in a string")
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				return 0, 0, false
			}
			to += utf8.EncodeRune(s.b[to:s.at], r)
		case c < utf8.RuneSelf:
			s.b[to] = c
			to++
			s.at++
		default:
			r, size := utf8.DecodeRune(s.b[s.at:])
			if r == utf8.RuneError && size <= 1 {
				return 0, 0, s.fail("a string is not UTF-8")
			}
			to += copy(s.b[to:], s.b[s.at:s.at+size])
			s.at += size
		}
	}
	return 0, 0, s.fail("a string does not end")
}

// escape reads one escape, or two that make a surrogate pair.
func (s *scanner) escape() (rune, bool) {
	if s.at+1 >= len(s.b) {
		return 0, s.fail("a string does not end")
	}
	c := s.b[s.at+1]
	s.at += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
	default:
		return 0, s.fail("an unknown escape stands in a string")
	}
	high, ok := s.hex4()
	if !ok || high < 0xD800 || high > 0xDFFF {
		return high, ok
	}
	if high > 0xDBFF || s.at+1 >= len(s.b) || s.b[s.at] != '\\' || s.b[s.at+1] != 'u' {
		return 0, s.fail("a surrogate stands alone in a string")
	}
	s.at += 2
	low, ok := s.hex4()
	if !ok {
		return 0, false
	}
	if low < 0xDC00 || low > 0xDFFF {
		return 0, s.fail("a surrogate stands alone in a string")
	}
	return 0x10000 + (high-0xD800)<<10 + (low - 0xDC00), true
}

func (s *scanner) hex4() (rune, bool) {
	if s.at+4 > len(s.b) {
		return 0, s.fail("a string does not end")
	}
	var r rune
	for _, c := range s.b[s.at : s.at+4] {
		r <<= 4
		switch {
		case c >= '0' && c <= '9':
			r |= rune(c - '0')
		case c >= 'a' && c <= 'f':
			r |= rune(c - 'a' + 10)
		case c >= 'A' && c <= 'F':
			r |= rune(c - 'A' + 10)
		default:
			return 0, s.fail("an unknown escape stands in a string")
		}
	}
	s.at += 4
	return r, true
}

// number reads a number and says where it stands and whether it is written as
// a whole one: no fraction, no exponent.
func (s *scanner) number() (start, end int, whole, ok bool) {
	s.space()
	start = s.at
	negative := s.take('-')
	if !s.take('0') && !s.digits() {
		if !negative {
			return 0, 0, false, s.fail("a value was expected") // whatever stands here begins none
		}
		return 0, 0, false, s.fail("a number is malformed")
	}
	whole = true
	if s.take('.') {
		whole = false
		if !s.digits() {
			return 0, 0, false, s.fail("a number is malformed")
		}
	}
	if s.take('e') || s.take('E') {
		whole = false
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return 0, 0, false, s.fail("a number is malformed")
		}
	}
	return start, s.at, whole, true
}

// take takes one character where it is the next one.
func (s *scanner) take(c byte) bool {
	if s.at < len(s.b) && s.b[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// word takes true, false or null.
func (s *scanner) word(w string) bool {
	s.space()
	if len(s.b)-s.at < len(w) || string(s.b[s.at:s.at+len(w)]) != w {
		return s.fail("a value was expected")
	}
	s.at += len(w)
	return true
}

// skip reads any value and forgets it.
func (s *scanner) skip(depth int) bool {
	if depth > maxDepth {
		return s.fail("values are nested too deep")
	}
	switch s.peek() {
	case '"':
		_, _, ok := s.text()
		return ok
	case '{':
		return s.list('}', func() bool {
			_, _, ok := s.text()
			return ok && s.byte(':', "a colon was expected") && s.skip(depth+1)
		})
	case '[':
		return s.list(']', func() bool { return s.skip(depth + 1) })
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	_, _, _, ok := s.number()
	return ok
}

// list reads what stands between brackets, comma by comma.
func (s *scanner) list(end byte, element func() bool) bool {
	s.at++ // the opening bracket, which the caller saw
	if s.peek() == end {
		s.at++
		return true
	}
	for {
		if !element() {
			return false
		}
		switch s.peek() {
		case ',':
			s.at++
		case end:
			s.at++
			return true
		default:
			return s.fail("a comma or a closing bracket was expected")
		}
	}
}
