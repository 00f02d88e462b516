package batch

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strconv"

	"authswitch/payment"
)

// File is a file of refunds as it came.
type File struct {
	Merchant payment.MerchantID
	Gateway  payment.GatewayID
	Key      []byte // Idempotency-Key
	Name     []byte // for people
	Body     []byte // the caller wipes it
	Lines    int    // how many it should have; 0: not said
	Digest   []byte // SHA-256 of Body, as its maker says; nil: not said
	DryRun   bool   // only checked
}

// Take checks a file as a whole and, where every line can be refunded, writes it
// down to wait for its release. With DryRun it writes nothing: the batch it
// returns has no id. Its error is a *Refusal where nothing was done;
// payment.ErrBusy, payment.ErrUnavailable and payment.ErrPending: send the same
// file again.
func (t *Taker) Take(f *File) (payment.Batch, error) {
	end, err := t.begin()
	if err != nil {
		return payment.Batch{}, err
	}
	defer end()
	if f.Digest != nil {
		if sum := sha256.Sum256(f.Body); !bytes.Equal(sum[:], f.Digest) {
			return payment.Batch{}, refuse(CodeChecksum, "the file is not the one that its checksum was made of")
		}
	}
	if err := t.deps.CatchUp(); err != nil {
		return payment.Batch{}, err
	}
	r := &reading{taker: t, file: f, rows: rows{rest: f.Body, separator: ','}, digest: sha256.New(), collected: newCollected()}
	defer r.wipe()
	if err := r.whole(); err != nil {
		return payment.Batch{}, err
	}
	b := payment.Batch{Merchant: f.Merchant, Gateway: f.Gateway, Key: f.Key, Name: f.Name}
	r.digest.Sum(b.Fingerprint[:0])
	// What was taken before is said before what is wrong with it now: its lines
	// have been refunded since.
	if err := t.known(&b); err != nil {
		return b, err
	}
	if len(r.faults) > 0 {
		return payment.Batch{}, &Refusal{Code: CodeLines, Detail: strconv.Itoa(r.bad) + " of " + strconv.Itoa(r.count) + " lines cannot be taken; nothing was done", Faults: r.faults}
	}
	if f.DryRun {
		b.Lines, b.Totals, b.Needs = r.collected.lines, r.collected.totals, t.needs(r.collected.totals)
		return b, nil
	}
	return t.write(&b, r.collected)
}

// known refuses what was taken before. The same request again gets the batch
// that it made, and no error.
func (t *Taker) known(b *payment.Batch) error {
	for _, key := range [][]byte{b.Key, nil} {
		known, err := t.deps.Writer.BatchBy(b.Merchant, b.Fingerprint, key)
		switch {
		case errors.Is(err, payment.ErrNotFound):
		case err != nil:
			return err
		case known.Fingerprint != b.Fingerprint:
			return orRefusal(nil, &payment.BatchAnswer{Refused: payment.BatchKeyConflict, Batch: known})
		default:
			return orRefusal(nil, &payment.BatchAnswer{Refused: payment.BatchDuplicate, Batch: known})
		}
	}
	return nil
}

// reading is a file being read.
type reading struct {
	taker     *Taker
	file      *File
	rows      rows
	layout    layout
	begun     bool
	digest    hash.Hash // of the content, without card numbers
	row       row
	faults    []Fault
	count     int // lines of refunds
	bad       int // of them
	sum       int64
	ended     bool // by a trailer
	collected *collected
}

func (r *reading) wipe() {
	r.row.pan.Wipe()
	clear(r.rows.buffer[:])
}

// whole reads every line. Its error is about the file as a whole.
func (r *reading) whole() error {
	for {
		line, err := r.rows.raw()
		if errors.Is(err, io.EOF) {
			return r.end()
		}
		if errors.Is(err, errCut) && (r.file.Digest != nil || bytes.HasPrefix(line, []byte(trailer))) {
			err = nil // how long it is is known otherwise
		}
		if errors.Is(err, errCut) {
			return refuse(CodeCut, "line %d has no end: the file is cut", r.rows.line)
		}
		if r.ended {
			return refuse(CodeCut, "line %d follows the one that says where the file ends", r.rows.line)
		}
		if err := r.one(line, err); err != nil {
			return err
		}
	}
}

// byteOrderMark is what spreadsheets put before the UTF-8 that they write.
const byteOrderMark = "\xef\xbb\xbf"

// one takes one line; err is why it could not be cut out.
func (r *reading) one(line []byte, err error) error {
	if !r.begun && err == nil {
		line = bytes.TrimPrefix(line, []byte(byteOrderMark))
		l, header, refused := recognize(line, &r.rows)
		if r.layout, r.begun = l, true; refused != nil {
			return refused
		}
		if header {
			return nil
		}
	}
	if err == nil && bytes.HasPrefix(line, []byte(trailer)) {
		return r.trailer(line)
	}
	if r.count++; r.count > r.taker.cfg.Lines {
		return refuse(CodeTooMany, "a batch has at most %d lines, and there is another in line %d", r.taker.cfg.Lines, r.rows.line)
	}
	r.row.pan.Wipe()
	r.row = row{number: r.rows.line}
	var fields [][]byte
	if err == nil {
		fields, err = r.rows.split(line)
	}
	if err != nil {
		r.bad++
		r.faults = append(r.faults, Fault{Line: r.rows.line, Code: "malformed", Detail: err.Error()})
		return nil //nolint:nilerr // it is the line's, and among its faults
	}
	reader := rowReader{layout: &r.layout, fields: fields, row: &r.row, faults: &r.faults}
	good := reader.read()
	r.mix(fields)
	r.sum += r.row.amount.Value
	if good {
		var refused error
		if good, refused = r.resolve(&reader); refused != nil {
			return refused
		}
	}
	if !good {
		r.bad++
	}
	return nil
}

// mix adds a line to what tells this file from others. Of a card number it takes
// the blind index: the number could be found from a plain hash.
func (r *reading) mix(fields [][]byte) {
	var length [4]byte
	add := func(b []byte) {
		binary.BigEndian.PutUint32(length[:], uint32(len(b)))
		r.digest.Write(length[:])
		r.digest.Write(b)
	}
	card := r.layout.at[columnCard]
	for n, field := range fields {
		if n == card && r.row.pan.Present() {
			index := r.taker.deps.Index(&r.row.pan)
			field = index[:]
		}
		add(field)
	}
	add(nil)
}

// trailer reads the line that says how many there are: "#end,30000,12345600".
func (r *reading) trailer(line []byte) error {
	fields, err := r.rows.split(line)
	if err != nil || len(fields) < 2 || len(fields) > 3 || string(fields[0]) != trailer {
		return refuse(CodeCut, "line %d should be #end, the number of lines and, where wanted, the sum of their amounts, separated as the other lines' columns are", r.rows.line)
	}
	r.ended = true
	if lines, err := strconv.Atoi(string(fields[1])); err != nil || lines != r.count {
		return refuse(CodeCut, "line %d says that there is another number of lines of refunds, and there are %d", r.rows.line, r.count)
	}
	if len(fields) == 3 && len(r.faults) == 0 {
		if sum, err := strconv.ParseInt(string(fields[2]), 10, 64); err != nil || sum != r.sum {
			return refuse(CodeCut, "line %d says that the amounts come to something else, and they come to %d", r.rows.line, r.sum)
		}
	}
	return nil
}

// end checks that the file is as long as it should be. One that does not say is
// refused: nobody would see that half of it is missing.
func (r *reading) end() error {
	switch {
	case r.count == 0:
		return refuse(CodeEmpty, "there is no line of a refund")
	case r.file.Lines > 0 && r.file.Lines != r.count:
		return refuse(CodeCut, "%d lines of refunds were announced, and there are %d", r.file.Lines, r.count)
	case r.file.Lines == 0 && r.file.Digest == nil && !r.ended:
		return refuse(CodeUndeclared, "nothing says how long the file should be: end it with a line #end and the number of lines, or give lines= or Content-Digest")
	}
	return nil
}
