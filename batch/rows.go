package batch

import (
	"bytes"
	"errors"
	"io"
)

// maxLine is the longest line of a file in bytes.
const maxLine = 4 << 10

// maxColumns bounds a line: no layout has as many.
const maxColumns = 32

// Faults of a line that cannot be split.
var (
	errLong    = errors.New("the line is longer than 4096 bytes")
	errColumns = errors.New("the line has more than 32 columns")
	errQuote   = errors.New("a quotation mark stands alone")
	errCut     = errors.New("the last line has no end")
)

// rows splits a file into lines and columns (RFC 4180, without line breaks in a
// field), where it stands: its fields alias the file or, where quotes had to be
// taken out, a buffer that the next row overwrites. A card number never becomes a
// string; whoever has the file wipes it.
type rows struct {
	rest      []byte // of the file
	separator byte
	line      int
	fields    [maxColumns][]byte
	buffer    [maxLine]byte // of fields that had quotes in them
	used      int
}

// raw is the next line without its end; io.EOF after the last one.
func (r *rows) raw() ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, io.EOF
	}
	r.line++
	line, rest, ended := bytes.Cut(r.rest, []byte{'\n'})
	r.rest = rest
	line = bytes.TrimSuffix(line, []byte{'\r'})
	switch {
	case !ended:
		return line, errCut
	case len(line) > maxLine:
		return nil, errLong
	}
	return line, nil
}

// split is a line's columns.
func (r *rows) split(line []byte) ([][]byte, error) {
	r.used = 0
	for n := range r.fields {
		var field []byte
		var more bool
		var err error
		if field, line, more, err = r.field(line); err != nil {
			return nil, err
		}
		r.fields[n] = bytes.TrimSpace(field)
		if !more {
			return r.fields[:n+1], nil
		}
	}
	return nil, errColumns
}

// field cuts the first column off.
func (r *rows) field(line []byte) (field, rest []byte, more bool, err error) {
	if len(line) == 0 || line[0] != '"' {
		field, rest, more = bytes.Cut(line, []byte{r.separator})
		if bytes.IndexByte(field, '"') >= 0 {
			return nil, nil, false, errQuote
		}
		return field, rest, more, nil
	}
	from := r.used
	for at := 1; at < len(line); at++ {
		switch {
		case line[at] != '"':
			r.put(line[at])
		case at+1 < len(line) && line[at+1] == '"':
			r.put('"')
			at++
		case at+1 == len(line):
			return r.buffer[from:r.used], nil, false, nil
		case line[at+1] == r.separator:
			return r.buffer[from:r.used], line[at+2:], true, nil
		default:
			return nil, nil, false, errQuote
		}
	}
	return nil, nil, false, errQuote
}

// put never runs over: a line is not longer than the buffer.
func (r *rows) put(c byte) {
	r.buffer[r.used] = c
	r.used++
}
