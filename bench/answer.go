package bench

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fastjson"
)

// Outcomes of an answer beyond the API's own words (approved, declined, …).
const (
	outcomeApproved        = "approved"
	outcomePartially       = "partially_approved"
	outcomeDeclined        = "declined"
	outcomeAcquirerTimeout = "acquirer_timeout"
	outcomeOverloaded      = "overloaded" // refused: nothing was sent, the key is free
	outcomeUnanswered      = "unanswered" // no final answer before the run ended
)

// answer is what one HTTP response said about a payment. The slices are the
// parser's and end with its next use.
type answer struct {
	status              int
	final               bool
	outcome             string // the API's status, or the problem's code
	id, rrn, stan, link []byte
}

// readAnswer understands a response body. A 201 is a decision; everything else
// is a problem whose `final` says whether asking again is of use. A refusal of
// the request itself (4xx but 409 and 429) is final for a run.
func readAnswer(p *fastjson.Parser, status int, body []byte) answer {
	a := answer{status: status}
	v, err := p.ParseBytes(body)
	if err != nil {
		a.outcome = "http_" + strconv.Itoa(status)
		a.final = refusal(status)
		return a
	}
	a.id, a.rrn = v.GetStringBytes("id"), v.GetStringBytes("rrn")
	a.stan, a.link = v.GetStringBytes("stan"), v.GetStringBytes("link")
	if status == http.StatusCreated || status == http.StatusOK {
		switch status := v.GetStringBytes("status"); string(status) { // the usual ones without an allocation
		case outcomeApproved:
			a.outcome = outcomeApproved
		case outcomeDeclined:
			a.outcome = outcomeDeclined
		default:
			a.outcome = string(status)
		}
		a.final = a.outcome != ""
		return a
	}
	a.outcome = problemCode(v, status)
	// A refusal may say that its key is free for another body; this run has
	// only the one body, which would be refused again.
	a.final = refusal(status) || v.GetBool("final")
	return a
}

// readDecision understands an approval or a decline from how it begins, without
// reading the rest, which is an eighth of the generator's CPU. Only for runs
// that keep no answers: it gives nothing but the outcome. Whatever does not
// begin so is left to readAnswer.
func readDecision(status int, body []byte) (answer, bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"id":"`))
	if !ok || status != http.StatusCreated {
		return answer{}, false
	}
	id, rest, ok := bytes.Cut(rest, []byte(`","status":"`))
	if !ok || bytes.ContainsAny(id, `"\\`) {
		return answer{}, false
	}
	word, _, ok := bytes.Cut(rest, []byte(`"`))
	a := answer{status: status, final: true}
	switch string(word) {
	case outcomeApproved:
		a.outcome = outcomeApproved
	case outcomeDeclined:
		a.outcome = outcomeDeclined
	default:
		return answer{}, false
	}
	return a, ok
}

// refusal reports whether a status refuses the request itself, for good.
func refusal(status int) bool {
	return status >= 400 && status < 500 && status != http.StatusConflict && status != http.StatusTooManyRequests
}

// problemCode names a problem: its code, or the end of its type.
func problemCode(v *fastjson.Value, status int) string {
	if code := v.GetStringBytes("code"); len(code) > 0 {
		return string(code)
	}
	kind := string(v.GetStringBytes("type"))
	kind = kind[strings.LastIndexAny(kind, "/:#")+1:]
	if kind == "" || kind == "blank" {
		return "http_" + strconv.Itoa(status)
	}
	return kind
}

// decided reports whether the answer is a decision about the payment that the
// switch must give again, byte for byte, to whoever asks with the same key.
func (a *answer) decided() bool {
	return a.final && (a.status < 300 || a.status == http.StatusGatewayTimeout || a.status == http.StatusConflict)
}

// answersFile is the record of what the gateway was told: one JSON line for
// every response, final or not. It is the verifier's first side.
type answersFile struct {
	mu       sync.Mutex
	w        *bufio.Writer
	c        io.Closer
	line     []byte
	merchant string
	currency string
	started  time.Time // of the run
	err      error     // the first write that failed; the run reports it at its end
}

func newAnswersFile(w io.WriteCloser, merchant, currency string) *answersFile {
	return &answersFile{w: bufio.NewWriterSize(w, 1<<18), c: w, merchant: merchant, currency: currency}
}

// add records one response. sum is the digest of its body; zero when there was
// no response at all.
func (f *answersFile) add(key []byte, j *job, a *answer, body []byte, at time.Time) {
	sum := sha256.Sum256(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.line[:0]
	b = append(b, `{"key":"`...)
	b = append(b, key...)
	b = append(b, `","attempt":`...)
	b = strconv.AppendUint(b, uint64(j.attempt), 10)
	b = appendField(b, "merchant", f.merchant)
	b = append(b, `,"amount":`...)
	b = strconv.AppendInt(b, j.amount, 10)
	b = appendField(b, "currency", f.currency)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(a.status), 10)
	b = append(b, `,"final":`...)
	b = strconv.AppendBool(b, a.final)
	if a.status != 0 {
		b = append(b, `,"body_sha256":"`...)
		b = hex.AppendEncode(b, sum[:])
		b = append(b, '"')
	}
	b = appendField(b, "id", a.id)
	b = appendField(b, "outcome", a.outcome)
	b = appendField(b, "rrn", a.rrn)
	b = appendField(b, "stan", a.stan)
	b = appendField(b, "link", a.link)
	b = append(b, `,"at":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `","ms":`...)
	b = strconv.AppendFloat(b, float64((at.Sub(f.started)-j.intended).Microseconds())/1000, 'f', 3, 64) // since it was due
	b = append(b, "}\n"...)
	f.line = b
	_, err := f.w.Write(b)
	f.keep(err)
}

func (f *answersFile) keep(err error) {
	if f.err == nil && err != nil {
		f.err = fmt.Errorf("writing answers: %w", err)
	}
}

func (f *answersFile) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep(f.w.Flush())
}

func (f *answersFile) close() error {
	f.flush()
	return errors.Join(f.err, f.c.Close())
}

// appendField appends a member whose value came from outside.
func appendField[T string | []byte](b []byte, name string, value T) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, `\u00`...)
			b = hex.AppendEncode(b, []byte{c})
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
