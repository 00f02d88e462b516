package iso8583

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Describe writes a frame for a person to read: header, type, and each element
// with its pieces. What is sensitive is masked, always: there is no switch.
func (d *Dialect) Describe(w io.Writer, frame []byte) error {
	var m Message
	defer m.Wipe()
	readErr := d.Unpack(&m, frame)
	p := &printer{w: w}
	if h := m.Header(); h != nil && m.body > 0 {
		p.line("header  %X", h)
	}
	if m.Rejected() {
		p.line("reject  %X", m.RejectCode())
	}
	about := ""
	if description := d.message(m.mti); description != nil {
		about = "  " + description.about
	}
	p.line("MTI     %s%s", m.mti, about)
	for de := m.Next(1); de != 0; de = m.Next(de) {
		e := d.elements[de]
		if e == nil {
			break
		}
		p.line("%-7s %-48s %s", fmt.Sprintf("DE %d", de), e.description, e.show(m.Bytes(de)))
		d.describeSubs(p, &m, de, -1, 1)
	}
	if readErr != nil {
		p.line("error   %s", readErr)
	}
	if p.err != nil {
		return p.err
	}
	return readErr
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, strings.TrimRight(fmt.Sprintf(format, args...), " ")+"%s", "\n")
	}
}

func (d *Dialect) describeSubs(p *printer, m *Message, de int, parent int32, depth int) {
	for i := range m.subs {
		s := &m.subs[i]
		if int(s.de) != de || s.parent != parent {
			continue
		}
		indent := strings.Repeat("  ", depth)
		if s.element == nil {
			p.line("%-7s %-48s %s", indent+m.idText(s), "not listed", hideUnknown(m, s))
			continue
		}
		p.line("%-7s %-48s %s", indent+s.element.id, s.element.description, s.element.show(m.at(s.value)))
		d.describeSubs(p, m, de, int32(i), depth+1)
	}
}

// idText is an id the dialect does not list.
func (m *Message) idText(s *subfield) string {
	c := m.compositeOf(s)
	wire := m.at(s.id)
	if c.idBinary {
		return fmt.Sprintf("%X", wire)
	}
	text := make([]byte, len(wire))
	for i, b := range wire {
		text[i] = c.decodeByte(b)
	}
	return printable(text)
}

// hideUnknown shows the length only of what the dialect does not list: it may
// be anything, a security code included.
func hideUnknown(m *Message, s *subfield) string {
	return fmt.Sprintf("(%d bytes)", len(m.at(s.value)))
}

// show is an element's value as a dump may have it.
func (e *element) show(value []byte) string {
	switch e.sensitive {
	case plain:
	case sensitivePAN:
		if e.class == classN {
			return maskPAN(value)
		}
		return "[card number, not shown]"
	default:
		if e.composite != nil {
			return fmt.Sprintf("(%d bytes)", len(value))
		}
		return fmt.Sprintf("[%s, %d long, not shown]", sensitivityNames[e.sensitive], len(value))
	}
	if e.composite != nil {
		return fmt.Sprintf("(%d bytes)", len(value))
	}
	if e.class == classB {
		if len(value) > 16 {
			return fmt.Sprintf("(%d bytes)", len(value)) // may hold anything
		}
		return fmt.Sprintf("%X", value)
	}
	if looksLikePAN(value) {
		return fmt.Sprintf("[like a card number, %d long, not shown]", len(value))
	}
	return fmt.Sprintf("%q", printable(value))
}

func maskPAN(value []byte) string {
	if len(value) < 12 {
		return fmt.Sprintf("[%d long, not shown]", len(value))
	}
	out := bytes.Repeat([]byte{'*'}, len(value))
	copy(out, value[:6])
	copy(out[len(out)-4:], value[len(value)-4:])
	return string(out)
}

// looksLikePAN finds 13 to 19 digits in a row that pass the check digit, in an
// element that should hold none: text that merchants or peers fill freely.
func looksLikePAN(value []byte) bool {
	run := 0
	for i := 0; i <= len(value); i++ {
		if i < len(value) && isDigit(value[i]) {
			run++
			continue
		}
		if run >= 13 && run <= 19 && luhn(value[i-run:i]) {
			return true
		}
		run = 0
	}
	return false
}

func luhn(digits []byte) bool {
	sum := 0
	for i := range digits {
		n := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

// printable replaces what a terminal would act on.
func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c > '~' {
			c = '.'
		}
		out[i] = c
	}
	return string(out)
}

// Diff writes the elements in which two frames differ, masked.
func (d *Dialect) Diff(w io.Writer, a, b []byte) error {
	var left, right Message
	defer left.Wipe()
	defer right.Wipe()
	if err := d.Unpack(&left, a); err != nil {
		return fmt.Errorf("first message: %w", err)
	}
	if err := d.Unpack(&right, b); err != nil {
		return fmt.Errorf("second message: %w", err)
	}
	p := &printer{w: w}
	if left.mti != right.mti {
		p.line("MTI     - %s", left.mti)
		p.line("        + %s", right.mti)
	}
	for de := 2; de <= maxDE; de++ {
		if !left.Has(de) && !right.Has(de) || left.Has(de) == right.Has(de) && bytes.Equal(left.Bytes(de), right.Bytes(de)) {
			continue
		}
		e := d.elements[de]
		p.line("DE %-4d %s", de, e.description)
		if left.Has(de) {
			p.line("        - %s", e.show(left.Bytes(de)))
		}
		if right.Has(de) {
			p.line("        + %s", e.show(right.Bytes(de)))
		}
	}
	return p.err
}

// Validate holds a frame to the dialect: what cannot be read, what its message
// type must have and has not, and what it has that the type does not list.
func (d *Dialect) Validate(frame []byte) []Finding {
	var m Message
	defer m.Wipe()
	if err := d.Unpack(&m, frame); err != nil {
		return []Finding{{Text: err.Error(), Fatal: true}}
	}
	description := d.message(m.mti)
	if description == nil {
		return []Finding{{Text: fmt.Sprintf("message type %s is not one of the dialect", m.mti), Fatal: true}}
	}
	var found []Finding
	for _, de := range description.mandatory {
		if !m.Has(de) {
			found = append(found, Finding{DE: de, Text: fmt.Sprintf("mandatory in %s and absent (%s)", m.mti, d.elements[de].description), Fatal: true})
		}
	}
	stored := m.mti.Class() == ClassReversal || m.mti.IsAdvice()
	for de := m.Next(1); de != 0; de = m.Next(de) {
		if stored && d.elements[de].sensitive.authentication() {
			found = append(found, Finding{DE: de, Text: "sensitive authentication data in an advice or a reversal", Fatal: true})
		}
		if !slices.Contains(description.mandatory, de) && !slices.Contains(description.conditional, de) {
			found = append(found, Finding{DE: de, Text: fmt.Sprintf("not listed for %s (%s)", m.mti, d.elements[de].description)})
		}
	}
	return found
}
