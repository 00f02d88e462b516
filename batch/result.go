package batch

import (
	"bytes"
	"io"
	"strconv"

	"authswitch/payment"
)

// Outcomes reads what became of lines.
type Outcomes interface {
	BatchLines(id payment.ID, lane uint8, chunk uint32) ([]payment.BatchLine, error)
	BatchLine(batch payment.ID, line uint32) (payment.Operation, payment.LineRefusal, error)
}

// resultHeader names the columns of a result file.
const resultHeader = "line,status,amount,currency,order,capture,refund,response_code,approval_code,reason,comment\n"

// laneCursor goes through the lines of one lane.
type laneCursor struct {
	lane  uint8
	chunk uint32
	ends  uint32
	lines []payment.BatchLine
}

// Results is a result file as it is read: a line for each line of the batch, in
// the order of the file, with what became of it by now. It holds one chunk of each
// lane in memory.
type Results struct {
	read    Outcomes
	batch   payment.Batch
	cursors []laneCursor
	row     []byte // what was made
	left    []byte // of it: what was not read yet
}

// NewResults is the result file of a batch.
func NewResults(read Outcomes, b *payment.Batch) *Results {
	r := &Results{read: read, batch: *b, left: []byte(resultHeader)}
	for i := range b.Lanes {
		r.cursors = append(r.cursors, laneCursor{lane: uint8(i), ends: b.Lanes[i].Chunks})
	}
	return r
}

// Read implements io.Reader. After an error the file has no end.
func (r *Results) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.left) == 0 {
			if err := r.next(); err != nil {
				return n, err
			}
		}
		took := copy(p[n:], r.left)
		r.left = r.left[took:]
		n += took
	}
	return n, nil
}

// next makes the next line; io.EOF after the last one.
func (r *Results) next() error {
	var least *laneCursor
	for i := range r.cursors {
		c := &r.cursors[i]
		if err := c.fill(r.read, r.batch.ID); err != nil {
			return err
		}
		if len(c.lines) > 0 && (least == nil || c.lines[0].Number < least.lines[0].Number) {
			least = c
		}
	}
	if least == nil {
		return io.EOF
	}
	line := &least.lines[0]
	op, why, err := r.read.BatchLine(r.batch.ID, line.Number)
	if err != nil {
		return err
	}
	r.row = appendResult(r.row[:0], &r.batch, line, &op, why)
	r.left, least.lines = r.row, least.lines[1:]
	return nil
}

func (c *laneCursor) fill(read Outcomes, id payment.ID) (err error) {
	for len(c.lines) == 0 && c.chunk < c.ends {
		if c.lines, err = read.BatchLines(id, c.lane, c.chunk); err != nil {
			return err
		}
		c.chunk++
	}
	return nil
}

func appendResult(dst []byte, b *payment.Batch, l *payment.BatchLine, o *payment.Operation, why payment.LineRefusal) []byte {
	status, reason := "waiting", ""
	switch {
	case !o.ID.IsZero():
		if status = o.State.Status(); o.State == payment.OperationException {
			status = "exception"
		}
		if o.State == payment.OperationDeclined {
			reason = o.Response.Verdict.Reason.String()
		}
	case why.Why != payment.NotRefused:
		status, reason = "refused", why.Why.String()
	case b.State == payment.BatchCancelled:
		status = "cancelled"
	}
	dst = strconv.AppendUint(dst, uint64(l.Number), 10)
	dst = appendField(dst, []byte(status))
	dst = strconv.AppendInt(append(dst, ','), l.Amount.Value, 10)
	dst = appendField(dst, []byte(l.Amount.Currency.String()))
	dst = appendField(dst, l.Order)
	dst = l.Capture.Append(append(dst, ','), payment.OpCapture.Prefix())
	dst = append(dst, ',')
	if !o.ID.IsZero() {
		dst = o.ID.Append(dst, payment.OpRefund.Prefix())
	}
	r := &o.Response
	dst = appendField(dst, bytes.TrimRight(r.Code[:], "\x00"))
	dst = appendField(dst, bytes.TrimRight(r.ApprovalCode[:], "\x00"))
	dst = appendField(dst, []byte(reason))
	return append(appendField(dst, l.Text), '\n')
}

// appendField writes a comma and a field, quoted where it has to be.
func appendField(dst, field []byte) []byte {
	dst = append(dst, ',')
	if !bytes.ContainsAny(field, ",;\"") {
		return append(dst, field...)
	}
	dst = append(dst, '"')
	for _, c := range field {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
