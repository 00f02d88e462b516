package iso8583

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Doc writes the dialect for a person, in Markdown: what `authswitch dialect
// doc` prints and what an integrator compares with the acquirer's own paper.
func (d *Dialect) Doc(w io.Writer) error {
	p := &printer{w: w}
	p.line("# Dialect %s", d.name)
	p.line("")
	p.line("Status: **%s**", d.file.Status)
	p.line("")
	p.line("%s", d.file.About)
	p.line("")
	d.docEnvelope(p)
	d.docElements(p)
	d.docMessages(p)
	d.docRules(p)
	return p.err
}

func (d *Dialect) docEnvelope(p *printer) {
	f := d.framing
	counts := "header and message"
	if f.Inclusive {
		counts += ", and itself"
	}
	p.line("## Envelope")
	p.line("")
	p.line("- Length: %d bytes, %s, counts %s.", f.LengthBytes, f.LengthEncoding, counts)
	if f.Reserved > 0 {
		p.line("- Then %d zero bytes.", f.Reserved)
	}
	if len(f.Trailer) > 0 {
		p.line("- Trailer `%X`, counted in the length.", f.Trailer)
	}
	if f.Heartbeat {
		p.line("- A frame of length zero is a keep-alive and is echoed.")
	}
	for _, h := range f.Header.Fields {
		p.line("- Header field %s: %d bytes, `%X`.", h.Name, h.Length, h.Value)
	}
	always := ""
	if d.bitmapAlways > 1 {
		always = ", the second always there"
	}
	p.line("- Message type in %s; bitmaps in %s, at most %d%s.", moovNames[d.mtiCoding], moovNames[d.bitmapCoding], d.bitmapCount, always)
	p.line("- No message is longer than %d bytes.", f.MaxMessage)
	p.line("")
}

func (d *Dialect) docElements(p *printer) {
	p.line("## Data elements")
	p.line("")
	p.line("| DE | name | format | on the wire | |")
	p.line("|---|---|---|---|---|")
	for de, e := range d.elements {
		if e == nil {
			continue
		}
		docElement(p, fmt.Sprint(de), e)
	}
	p.line("")
}

func docElement(p *printer, id string, e *element) {
	note := ""
	if e.sensitive != plain {
		note = "masked: " + sensitivityNames[e.sensitive]
	}
	p.line("| %s | %s | %s | %s | %s |", id, e.description, e.format(), e.wire(), note)
	if e.composite == nil {
		return
	}
	if e.composite.lead != nil {
		docElement(p, id+".lead", e.composite.lead)
	}
	for _, piece := range e.composite.elements {
		docElement(p, id+"."+piece.id, piece)
	}
}

func (e *element) format() string {
	n := e.max
	if e.class == classXN && e.fixed {
		n--
	}
	if e.fixed {
		return fmt.Sprintf("%s%d", className[e.class], n)
	}
	return fmt.Sprintf("%s..%d", className[e.class], n)
}

// wire says how an element travels.
func (e *element) wire() string {
	parts := []string{moovNames[e.coding]}
	if !e.fixed && e.prefix != codingNone {
		unit := ""
		if e.bytesUnit {
			unit = " (bytes)"
		}
		parts = append(parts, "length "+e.moovPrefix()+unit)
	}
	if e.pad != 0 && e.fixed {
		side := "right"
		if e.padLeft {
			side = "left"
		}
		parts = append(parts, fmt.Sprintf("filled on the %s with %q", side, string(e.pad)))
	}
	if e.composite != nil {
		parts = append(parts, kindNames[e.composite.kind])
	}
	return strings.Join(parts, ", ")
}

func (d *Dialect) docMessages(p *printer) {
	p.line("## Messages")
	p.line("")
	p.line("| type | meaning | mandatory | conditional |")
	p.line("|---|---|---|---|")
	for _, m := range d.payments.messages {
		p.line("| %s | %s | %s | %s |", m.mti, m.about, list(m.mandatory), list(m.conditional))
	}
	p.line("")
	if gaps := d.MoovGaps(); len(gaps) > 0 {
		p.line("moov-io/iso8583 has no words for DE %s as they travel here.", list(gaps))
		p.line("")
	}
}

func list(elements []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(elements), " ", ", "), "[]")
}

func (d *Dialect) docRules(p *printer) {
	r := d.file.Reversal
	p.line("## Rules")
	p.line("")
	p.line("- Authorization %s, reversal %s (repeat %s) under %s trace number.", d.AuthorizationMTI(), d.ReversalMTI(), d.ReversalMTI().Repeat(),
		map[bool]string{true: "the original's", false: "a new"}[d.payments.sameSTAN])
	p.line("- A reversal is acknowledged by %s, its repeat also by %s; not found: %s; repeated on %s.",
		words(r.Accept), words(r.RepeatAccept), words(r.NotFound), words(slices.Concat(r.Retry, r.Security)))
	p.line("- Network management %s, function in DE %d.", d.NetworkMTI(), d.payments.functionDE)
	p.line("- An answer belongs to the request with the same DE %s.", list(d.payments.correlation.Elements))
	p.line("")
	p.line("| DE 39 | action |")
	p.line("|---|---|")
	codes := make([]string, 0, len(d.file.Responses))
	for code := range d.file.Responses {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		p.line("| %s | %s |", code, d.file.Responses[code])
	}
}

func words(codes []string) string {
	if len(codes) == 0 {
		return "nothing"
	}
	return strings.Join(codes, ", ")
}
