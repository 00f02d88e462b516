// Package selftest runs known answers against the payment cryptography and says
// of each whether it holds.
//
// It exercises the primitives, not the engine: published keys are weak, short
// and without parity, which the engine refuses. It reads a document of families
// of vectors, prints a line for each case, and does nothing else. Called by
// `hsmd selftest --vectors FILE` and by tests.
package selftest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrDocument is a vector file that cannot be read as one.
var ErrDocument = errors.New("not a document of vectors")

// maxBytes is the largest document: a thousand times the one there is.
const maxBytes = 16 << 20

// family is one member of the document that is known: what each of its cases
// must show.
type family struct {
	name string
	run  func(r *report, m member)
}

// families are the members of payment-crypto.json.
func families() []family {
	return []family{
		{"tr31", (*report).keyBlock},
		{"tr31_refused", (*report).keyBlockRefused},
		{"kcv_tdes", (*report).checkValueTDES},
		{"kcv_aes_cmac", (*report).checkValueAES},
		{"cmac", (*report).cmac},
		{"mac_iso9797", (*report).macISO9797},
		{"pin_block_clear", (*report).pinBlock},
		{"pin_block_format4", (*report).pinBlock4},
		{"pin_block_refused", (*report).pinBlockRefused},
		{"dukpt_tdes", (*report).dukptTDES},
		{"dukpt_aes", (*report).dukptAES},
		{"cvv", (*report).cvv},
		{"pvv", (*report).pvv},
		{"ibm3624", (*report).ibm3624},
		{"emv", (*report).emv},
	}
}

// Run checks every case of a document and prints `pass family case` or `fail
// family case` for each, in the document's order, and `skip family` for a
// member it does not know. What went wrong stands behind the case. The error
// says that the document could not be read or the lines not be written; a case
// that fails is only counted.
func Run(vectors []byte, w io.Writer) (failed, checked int, err error) {
	if len(vectors) > maxBytes {
		return 0, 0, fmt.Errorf("%w: %d bytes", ErrDocument, len(vectors))
	}
	members, err := inOrder(vectors)
	if err != nil {
		return 0, 0, err
	}
	out := bufio.NewWriter(w)
	r := &report{out: out}
	for _, m := range members {
		r.member(m.name, m.value)
	}
	if err := out.Flush(); err != nil {
		return r.failed, r.checked, fmt.Errorf("printing results: %w", err)
	}
	return r.failed, r.checked, nil
}

type named struct {
	name  string
	value json.RawMessage
}

// inOrder are the members of an object as they stand: a map would lose the
// order of the lines.
func inOrder(document []byte) ([]named, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	start, err := d.Token()
	if err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("%w: no object", ErrDocument)
	}
	var out []named
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDocument, err)
		}
		m := named{name: name.(string)} // the decoder gives nothing else as a member's name
		if err := d.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("%w: member %s: %w", ErrDocument, m.name, err)
		}
		out = append(out, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something behind the object", ErrDocument)
	}
	return out, nil
}

// report counts and prints.
type report struct {
	out             *bufio.Writer
	family          string
	failed, checked int
}

// member runs one member of the document: an object, or a list of objects.
// "about" is text about the document.
func (r *report) member(name string, value json.RawMessage) {
	if name == "about" {
		return
	}
	r.family = name
	for _, f := range families() {
		if f.name != name {
			continue
		}
		cases, err := elements(value, nil)
		if err != nil {
			r.result("document", err)
			return
		}
		before := r.checked
		for _, m := range cases {
			if len(cases) > 1 {
				m.prefix = m.name + "."
			}
			f.run(r, m)
		}
		if r.checked == before {
			r.result("document", errors.New("no case"))
		}
		return
	}
	fmt.Fprintf(r.out, "skip %s\n", oneWord(name))
}

// result prints one line and counts it.
func (r *report) result(name string, err error) {
	r.checked++
	if err == nil {
		fmt.Fprintf(r.out, "pass %s %s\n", r.family, oneWord(name))
		return
	}
	r.failed++
	fmt.Fprintf(r.out, "fail %s %s %q\n", r.family, oneWord(name), err.Error())
}

// oneWord keeps a line to its words, whatever a name holds.
func oneWord(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c <= ' ' || c > '~' {
			b[i] = '_'
		}
	}
	return string(b)
}

// errNot is a value that came out other than published. Vectors are no secrets.
func errNot(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return fmt.Errorf("%X, want %X", got, want)
}
