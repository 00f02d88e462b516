// Package audit is the security module's book: an append-only file of JSON
// lines in which each entry names the hash of the one before, signed every so
// often by a key that cannot leave the token.
//
// An entry is on disk before what it tells of happens, and when it cannot be
// written the thing does not happen. Entries are words about keys and people:
// never a key, a PIN, a card number. Written by hsm/server and hsm/payshield
// (one Log a process), read by Verify, which names what somebody deleted,
// edited, moved, cut off or forged.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Errors of writing the book.
var (
	ErrClosed   = errors.New("the audit log is closed")
	ErrFailed   = errors.New("the audit log cannot be written, so nothing that needs an entry is done")
	ErrBusy     = errors.New("too many audit entries wait for the disk")
	ErrTampered = errors.New("the audit log is not as it was written")
	ErrEvent    = errors.New("not an audit event")
)

// Outcome is what was decided about an event before it had its effect.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed" // what follows is done now
	Refused Outcome = "refused" // nothing is done, and the reason says why
	Failed  Outcome = "failed"  // was allowed by an earlier entry, and could not be done
)

// Limits of an entry.
const (
	maxActors   = 4
	maxWord     = 64
	maxText     = 256
	maxLine     = 8192 // every character of the texts escaped
	digestBytes = sha256.Size
)

// Event is one thing that somebody asks of the security module. Longer texts
// than 64 (actors, operation) and 256 (object, reason) bytes are cut.
type Event struct {
	Actors    []string // officers by name, or the peer: "uid 1000", a certificate's subject
	Operation string   // "key.import", "card.reveal", "officer.add"
	Object    string   // which key, card record, officer
	Reason    string   // why it is asked, or why it is refused
	Outcome   Outcome
}

// Digest is the hash of an entry.
type Digest [digestBytes]byte

// String is hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads hexadecimal.
func ParseDigest(s string) (Digest, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != digestBytes {
		return Digest{}, fmt.Errorf("%w: not 64 hexadecimal digits", ErrEvent)
	}
	return Digest(b), nil
}

// Place is where an entry stands: to be noted elsewhere, so that a book which
// was cut off before it can be told.
type Place struct {
	Sequence uint64
	Hash     Digest
}

// String is SEQUENCE:HASH.
func (p Place) String() string { return fmt.Sprintf("%d:%s", p.Sequence, p.Hash) }

// line is an entry as it is written. The hash follows as the last member: it is
// SHA-256 over every byte of the line before `,"hash":`, so that anybody can
// check a line with head and sha256sum. A checkpoint has a signature before it,
// over every byte before `,"signature":`.
type line struct {
	Sequence   uint64   `json:"sequence"`
	At         string   `json:"at"`
	Actors     []string `json:"actors,omitempty"`
	Operation  string   `json:"operation,omitempty"`
	Object     string   `json:"object,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Outcome    Outcome  `json:"outcome,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"` // name of the signing key
	State      string   `json:"state,omitempty"`      // of a checkpoint: what was noted last
	Previous   string   `json:"previous"`
	Signature  []byte   `json:"signature,omitempty"` // ASN.1, of a checkpoint
	Hash       string   `json:"hash,omitempty"`
}

// timeForm is RFC 3339 in UTC, always with nine digits.
const timeForm = "2006-01-02T15:04:05.000000000Z"

const (
	hashMember      = `,"hash":"`
	signatureMember = `,"signature":"`
	// checkpointLabel keeps a checkpoint's signature from being taken for one of
	// another document under the same key.
	checkpointLabel = "authswitch audit checkpoint 1\n"
)

// eventLine writes an event down.
func eventLine(e Event, sequence uint64, at time.Time, previous Digest) (line, error) {
	switch e.Outcome {
	case Allowed, Refused, Failed:
	default:
		return line{}, fmt.Errorf("%w: outcome %q", ErrEvent, e.Outcome)
	}
	if e.Operation == "" || len(e.Actors) > maxActors {
		return line{}, fmt.Errorf("%w: an operation and at most %d actors", ErrEvent, maxActors)
	}
	l := line{
		Sequence: sequence, At: at.UTC().Format(timeForm), Operation: cut(e.Operation, maxWord),
		Object: cut(e.Object, maxText), Reason: cut(e.Reason, maxText), Outcome: e.Outcome, Previous: previous.String(),
	}
	for _, a := range e.Actors {
		l.Actors = append(l.Actors, cut(a, maxWord))
	}
	return l, nil
}

// cut shortens a text, and shows that it did.
func cut(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:limit-len(mark)]), nil)) + mark
}

// seal writes a line with its hash.
func (l *line) seal() ([]byte, Digest, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return nil, Digest{}, fmt.Errorf("writing an audit entry: %w", err)
	}
	body = body[:len(body)-1] // the closing brace
	hash := Digest(sha256.Sum256(body))
	return fmt.Appendf(body, "%s%s\"}\n", hashMember, hash), hash, nil
}

// toSign is what a checkpoint's signature is over: the label and the line
// before the signature.
func (l *line) toSign() ([digestBytes]byte, error) {
	body, err := json.Marshal(l)
	if err != nil {
		return [digestBytes]byte{}, fmt.Errorf("writing an audit checkpoint: %w", err)
	}
	return signed(body[:len(body)-1]), nil
}

func signed(before []byte) [digestBytes]byte {
	h := sha256.New()
	h.Write([]byte(checkpointLabel))
	h.Write(before)
	return [digestBytes]byte(h.Sum(nil))
}

// record is a line that was read.
type record struct {
	line
	number   int    // of the line in its file, from 1
	hash     Digest // as the line says
	previous Digest
	whole    bool // its hash is its own
	toSign   [digestBytes]byte
}

// read takes a line apart; an error says that it is no entry at all.
func read(text []byte, number int) (record, error) {
	r := record{number: number}
	if len(text) > maxLine {
		return r, fmt.Errorf("%w: longer than any entry", ErrEvent)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r.line); err != nil {
		return r, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	var err error
	if r.hash, err = ParseDigest(r.Hash); err != nil {
		return r, err
	}
	if r.previous, err = ParseDigest(r.Previous); err != nil {
		return r, err
	}
	end := bytes.LastIndex(text, []byte(hashMember))
	if end < 0 {
		return r, fmt.Errorf("%w: no hash at its end", ErrEvent)
	}
	// What stands after the hash is fixed, or it could be edited unseen.
	tail := fmt.Sprintf("%s%s\"}", hashMember, r.Hash)
	r.whole = Digest(sha256.Sum256(text[:end])) == r.hash && string(text[end:]) == tail
	if r.Checkpoint != "" {
		if end = bytes.LastIndex(text, []byte(signatureMember)); end < 0 {
			return r, fmt.Errorf("%w: a checkpoint without a signature", ErrEvent)
		}
		r.toSign = signed(text[:end])
	}
	return r, nil
}

// place is where the entry stands.
func (r *record) place() Place { return Place{r.Sequence, r.hash} }
