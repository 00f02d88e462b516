package api

// kind is the JSON type of a member.
type kind uint8

const (
	absent kind = iota // not there, or null
	text
	number
	boolean
	object
	texts  // a list of strings; a schema has one at most
	faulty // there, but already reported
)

// member describes one member of an object that a body may hold.
type member struct {
	pointer string // from the body's root, so that none is built while reading
	name    string
	kind    kind
	field   field
	members []member // of an object
}

// field is where a member's value is kept in a document.
type field uint8

// maxFields bounds the schemas: seen is a bit set of 64.
const maxFields = 48

// value is where a member stands in the body.
type value struct {
	start, end int32
	kind       kind
	whole      bool // a number without fraction and exponent
}

// fault is something wrong with one field. All three are constant texts but
// the pointer of an unknown member.
type fault struct{ pointer, code, detail string }

// maxFaults bounds one answer's errors; a body with more is wrong enough.
const maxFaults = 16

// document is a body read against a schema: which members there are, where
// their values stand, and all that is wrong with them.
type document struct {
	scan   scanner
	values [maxFields]value
	seen   uint64
	list   [maxTexts]value // of the member that is texts
	listed int
	faults [maxFaults]fault
	count  int
}

// maxTexts is the longest list of strings that a body may hold.
const maxTexts = 8

// read reads a whole body. It is false when the body is not JSON at all; what
// is wrong with its members is among the faults.
func (d *document) read(body []byte, schema []member) bool {
	*d = document{scan: scanner{b: body}}
	if d.scan.peek() != '{' {
		if !d.scan.skip(0) {
			return false
		}
		d.fault("", "wrong_type", "the body must be an object")
	} else if !d.object(schema, "") {
		return false
	}
	if d.scan.peek(); d.scan.at != len(body) {
		return d.scan.fail("something follows the value")
	}
	return true
}

// forget drops every reference into the body.
func (d *document) forget() { *d = document{} }

func (d *document) fault(pointer, code, detail string) {
	if d.count < maxFaults {
		d.faults[d.count] = fault{pointer, code, detail}
		d.count++
	}
}

// object reads the members of one object; pointer is its own.
func (d *document) object(schema []member, pointer string) bool {
	s := &d.scan
	s.at++ // the bracket, which the caller saw
	if s.peek() == '}' {
		s.at++
		return true
	}
	for {
		start, end, ok := s.text()
		if !ok || !s.byte(':', "a colon was expected") {
			return false
		}
		if !d.member(schema, pointer, s.b[start:end]) {
			return false
		}
		switch s.peek() {
		case ',':
			s.at++
		case '}':
			s.at++
			return true
		default:
			return s.fail("a comma or a closing bracket was expected")
		}
	}
}

// member reads one value by what the schema says of its name.
func (d *document) member(schema []member, pointer string, name []byte) bool {
	var m *member
	for i := range schema {
		if schema[i].name == string(name) {
			m = &schema[i]
			break
		}
	}
	if m == nil {
		d.fault(unknownPointer(pointer, name), "unknown_field", "no such field here")
		return d.scan.skip(0)
	}
	if d.seen&(1<<m.field) != 0 {
		d.fault(m.pointer, "duplicate_field", "the field stands here twice")
		return d.scan.skip(0)
	}
	d.seen |= 1 << m.field
	return d.value(m)
}

// value reads a known member's value. null is the same as leaving it out.
func (d *document) value(m *member) bool {
	s := &d.scan
	v := &d.values[m.field]
	var start, end int
	var ok bool
	switch c := s.peek(); {
	case c == 'n':
		return s.word("null")
	case c == '"' && m.kind == text:
		start, end, ok = s.text()
	case c == '{' && m.kind == object:
		v.kind = object
		return d.object(m.members, m.pointer)
	case c == '[' && m.kind == texts:
		v.kind = texts
		return d.texts(m)
	case (c == '-' || c >= '0' && c <= '9') && m.kind == number:
		start, end, v.whole, ok = s.number()
	case c == 't' && m.kind == boolean:
		start, end, ok = s.at, s.at+1, s.word("true")
	case c == 'f' && m.kind == boolean:
		start, end, ok = s.at, s.at, s.word("false")
	default:
		v.kind = faulty
		d.fault(m.pointer, "wrong_type", expected(m.kind))
		return s.skip(0)
	}
	if !ok {
		return false
	}
	v.start, v.end, v.kind = int32(start), int32(end), m.kind
	return true
}

// texts reads a list of strings.
func (d *document) texts(m *member) bool {
	s := &d.scan
	return s.list(']', func() bool {
		switch {
		case s.peek() != '"':
			d.fault(m.pointer, "wrong_type", "must be a list of strings")
			return s.skip(0)
		case d.listed == maxTexts:
			if d.values[m.field].kind == texts {
				d.values[m.field].kind = faulty
				d.fault(m.pointer, "too_many", "is a list of 8 strings at most")
			}
			return s.skip(0)
		}
		start, end, ok := s.text()
		d.list[d.listed] = value{start: int32(start), end: int32(end), kind: text}
		d.listed++
		return ok
	})
}

// element is a string of the list.
func (d *document) element(n int) []byte {
	v := &d.list[n]
	return d.scan.b[v.start:v.end:v.end]
}

// bytes is a text or number as it stands in the body, nil when absent.
func (d *document) bytes(f field) []byte {
	v := &d.values[f]
	if v.kind != text && v.kind != number {
		return nil
	}
	return d.scan.b[v.start:v.end:v.end]
}

// is says whether a field is there with its right type.
func (d *document) is(f field, k kind) bool { return d.values[f].kind == k }

// yes says whether a boolean is there and true.
func (d *document) yes(f field) bool {
	v := &d.values[f]
	return v.kind == boolean && v.end > v.start
}

func expected(k kind) string {
	switch k {
	case text:
		return "must be a string"
	case number:
		return "must be a number"
	case boolean:
		return "must be true or false"
	case texts:
		return "must be a list of strings"
	}
	return "must be an object"
}

// maxEchoed bounds the name of an unknown member in an answer.
const maxEchoed = 48

// unknownPointer points at an unknown member. A name that is not made of
// letters is not echoed: it is the caller's text, and could hold a card number.
// The pointer is then the object's own.
func unknownPointer(parent string, name []byte) string {
	if len(name) == 0 || len(name) > maxEchoed {
		return parent
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '-' {
			return parent
		}
	}
	return parent + "/" + string(name)
}
