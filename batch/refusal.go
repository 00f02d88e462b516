package batch

import (
	"fmt"

	"authswitch/payment"
)

// Codes of what is wrong with a whole file.
const (
	CodeEmpty      = "empty_file"        // no line of a refund
	CodeHeader     = "wrong_header"      // a column is unknown, twice or missing
	CodeTooMany    = "too_many_lines"    // over the limit
	CodeCut        = "file_cut"          // fewer or more lines than declared, or the last one has no end
	CodeChecksum   = "checksum_mismatch" // not the content that Content-Digest declares
	CodeUndeclared = "length_undeclared" // nothing says where the file should end
	CodeLines      = "bad_lines"         // Faults names every one
	CodeDuplicate  = "duplicate_batch"   // the same content is a batch already
	CodeNothing    = "nothing_to_refund" // no payment with the tag has anything left
	CodeCurrencies = "too_many_currencies"
	CodeLinks      = "too_many_links"
	CodeKey        = "idempotency_key_conflict"
	CodeUnknown    = "not_found"
	CodeState      = "wrong_state"
	CodeOperators  = "operators_needed"
	CodeSame       = "same_operator"
)

// Refusal is why a file, or something asked of a batch, is refused: nothing was
// done. Code and Detail are stable texts without card data.
type Refusal struct {
	Code   string
	Detail string
	Faults []Fault       // with CodeLines: every bad line
	Batch  payment.Batch // with CodeDuplicate: the one that is there
}

// Error is the code and the detail.
func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

func refuse(code, detail string, args ...any) *Refusal {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	return &Refusal{Code: code, Detail: detail}
}

// Fault is what is wrong with one line.
type Fault struct {
	Line   int    // of the file, from 1
	Column string // "" where it is the line as a whole
	Code   string
	Detail string
}
