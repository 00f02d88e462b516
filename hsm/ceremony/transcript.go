package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Transcript is the protocol of a ceremony, for the folder and the auditor: who
// did what when, check values, how it ended. It holds no component, and the key
// only as the block that the ceremony gave out.
type Transcript struct {
	Ceremony      string `json:"ceremony"`
	Rehearsal     bool   `json:"rehearsal"`
	Label         string `json:"label"`
	Usage         string `json:"usage"`
	Algorithm     string `json:"algorithm"`
	Mode          string `json:"mode"`
	Exportability string `json:"exportability"`
	Bits          int    `json:"bits"`
	Components    int    `json:"components"`
	Started       string `json:"started"`
	Ended         string `json:"ended"`
	Result        string `json:"result"` // done or aborted
	Reason        string `json:"reason,omitempty"`
	CheckValue    string `json:"kcv,omitempty"`   // of the combined key
	Block         string `json:"block,omitempty"` // under the local master key
	Steps         []Line `json:"steps"`
	// Audit is SEQUENCE:HASH of the last entry about the ceremony: `authswitch
	// audit verify --known` holds the audit log to it.
	Audit string `json:"audit,omitempty"`
}

// Line is one step.
type Line struct {
	At      string `json:"at"`
	Officer string `json:"officer,omitempty"`
	Step    string `json:"step"`
	KCV     string `json:"kcv,omitempty"`     // of the officer's component
	Refused string `json:"refused,omitempty"` // why
}

// maxSteps bounds a transcript: what is refused without ending the ceremony is
// in the audit log anyway.
const maxSteps = 40 // a transcript fits into one frame

func begin(r *Request, at time.Time) Transcript {
	return Transcript{
		Ceremony: r.ID, Rehearsal: r.Rehearsal, Label: r.Label, Usage: r.Attributes.Usage.String(),
		Algorithm: string(rune(r.Attributes.Algorithm)), Mode: string(rune(r.Attributes.Mode)), Exportability: string(rune(r.Attributes.Exportability)),
		Bits: r.Bytes * 8, Components: r.Components, Started: stamp(at),
	}
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

func (t *Transcript) add(e *Event, d *Decision) {
	if len(t.Steps) >= maxSteps || t.Ended != "" {
		return
	}
	l := Line{At: stamp(e.At), Officer: e.Officer, Step: e.Step.String()}
	if e.Step == Component && d.Err == nil {
		l.KCV = d.check.String()
	}
	if d.Err != nil {
		l.Refused = d.Err.Error()
	}
	t.Steps = append(t.Steps, l)
}

func (t *Transcript) close(s State, at time.Time, err error, given bool, block []byte) {
	t.Ended, t.Result = stamp(at), s.String()
	if err != nil {
		t.Reason = err.Error()
	}
	if given {
		t.Block = string(block)
	}
}

// Signed is a transcript as it is filed. The signature is over the transcript's
// bytes as they stand, behind a label of their own.
type Signed struct {
	Transcript json.RawMessage `json:"transcript"`
	Key        string          `json:"key"` // which audit key
	Signature  []byte          `json:"signature"`
}

const transcriptLabel = "authswitch ceremony transcript 1\n"

// ErrTranscript says that a transcript is not as it was signed.
var ErrTranscript = errors.New("the transcript's signature does not hold")

// Digest is what the token signs.
func Digest(transcript []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(transcriptLabel))
	h.Write(transcript)
	return [sha256.Size]byte(h.Sum(nil))
}

// VerifyTranscript reads a filed transcript and checks its signature.
func VerifyTranscript(file []byte, public *ecdsa.PublicKey) (Transcript, error) {
	var s Signed
	if err := json.Unmarshal(file, &s); err != nil {
		return Transcript{}, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	var compact bytes.Buffer // as it was signed: the file may be laid out for people
	if err := json.Compact(&compact, s.Transcript); err != nil {
		return Transcript{}, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	digest := Digest(compact.Bytes())
	if !ecdsa.VerifyASN1(public, digest[:], s.Signature) {
		return Transcript{}, ErrTranscript
	}
	var t Transcript
	if err := json.Unmarshal(s.Transcript, &t); err != nil {
		return Transcript{}, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	return t, nil
}
