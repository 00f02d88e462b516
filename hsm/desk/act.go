package desk

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

// act proves who asks, and does what they ask.
func (d *Desk) act(a *ceremony.Act) (*ceremony.View, error) {
	if a.Action == ceremony.ActEnrol && d.roster.Founding() {
		return d.found(a)
	}
	if err := d.prove(a); err != nil {
		return nil, d.refused(a, "", err)
	}
	switch a.Action {
	case ceremony.ActEnrol, ceremony.ActRemove:
		return d.ask(a)
	case ceremony.ActApprove:
		return d.approve(a)
	case ceremony.ActStart, ceremony.ActComponent, ceremony.ActConfirm, ceremony.ActAbort:
		return d.step(a)
	case ceremony.ActGenerate, ceremony.ActImport, ceremony.ActExport, ceremony.ActBindTable, ceremony.ActCreateMaster, ceremony.ActDestroyMaster:
		return d.askKey(a)
	}
	return nil, d.refused(a, "", fmt.Errorf("%w: action %q", ceremony.ErrMessage, a.Action))
}

// prove checks the signature of an act against the officer's credential.
func (d *Desk) prove(a *ceremony.Act) error {
	officer, err := d.roster.Find(a.Officer)
	if err != nil {
		return err
	}
	if err := d.spend(a.Officer, a.Nonce); err != nil {
		return err
	}
	now := d.o.Now()
	f := d.failures[a.Officer]
	if now.Before(f.until) {
		return ErrLocked
	}
	if err := officer.Proven(a.Nonce, string(a.Action), a.Payload, a.Signature); err != nil {
		if f.count++; f.count >= maxFailures {
			f = failure{until: now.Add(lockTime)}
		}
		d.failures[a.Officer] = f // enrolled officers only, so it stays small
		return err
	}
	delete(d.failures, a.Officer)
	return nil
}

// refused writes a refusal down and gives it back.
func (d *Desk) refused(a *ceremony.Act, object string, why error) error {
	_, err := d.o.Book.Append(audit.Event{Actors: []string{a.Officer}, Operation: string(a.Action), Object: object, Outcome: audit.Refused, Reason: why.Error()})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAudit, err)
	}
	return why
}

// write writes down what is allowed, before it is done.
func (d *Desk) write(e audit.Event) error {
	e.Outcome = audit.Allowed
	if _, err := d.o.Book.Append(e); err != nil {
		return fmt.Errorf("%w: %w", ErrAudit, err)
	}
	return nil
}

// step is one step of the ceremony.
func (d *Desk) step(a *ceremony.Act) (*ceremony.View, error) {
	e := ceremony.Event{Officer: a.Officer, At: d.o.Now()}
	var err error
	switch a.Action {
	case ceremony.ActStart:
		e.Step = ceremony.Start
		e.Request, err = d.opening(a.Payload)
	case ceremony.ActComponent:
		e.Step = ceremony.Component
		var component []byte
		component, e.KCV, err = ceremony.ReadComponent(a.Payload)
		e.Component = component
		defer e.Component.Wipe()
	case ceremony.ActConfirm:
		e.Step = ceremony.Confirm
		e.KCV, err = d.confirmation(a.Payload)
	case ceremony.ActAbort:
		e.Step = ceremony.Abort
	}
	if err != nil {
		return nil, d.refused(a, "", err)
	}
	decision := d.ceremony.Decide(e, d.o.Combine)
	if err := d.settle(decision, a.Officer, e.Step); err != nil {
		return nil, err
	}
	return d.view(), nil
}

// settle writes a decision down and applies it. Where the log cannot be
// written, nothing goes forward, but what must be wiped is wiped.
func (d *Desk) settle(decision ceremony.Decision, officer string, step ceremony.Step) error {
	e := audit.Event{Operation: "ceremony." + step.String(), Object: d.object(&decision), Outcome: audit.Allowed, Reason: decision.Says()}
	if officer != "" {
		e.Actors = []string{officer}
	}
	if decision.Err != nil {
		e.Outcome = audit.Refused
	}
	place, err := d.o.Book.Append(e)
	if err != nil {
		if decision.Wipes() {
			d.ceremony.Apply(decision)
		}
		return fmt.Errorf("%w: %w", ErrAudit, err)
	}
	d.place = place
	d.ceremony.Apply(decision)
	if s := d.ceremony.State(); s == ceremony.Done || s == ceremony.Aborted {
		// What people will file is signed now. If the token cannot, the transcript
		// will say so; the ceremony itself is decided.
		_, _ = d.o.Book.Checkpoint()
	}
	return decision.Err
}

// object names the ceremony in the audit log.
func (d *Desk) object(decision *ceremony.Decision) string {
	r := d.ceremony.Request()
	if started, ok := decision.Started(); ok {
		r = started
	}
	if r.ID == "" {
		return ""
	}
	kind := "ceremony"
	if r.Rehearsal {
		kind = "rehearsal"
	}
	return fmt.Sprintf("%s %s (%s, %s %c %d bits)", kind, r.ID, r.Label, r.Attributes.Usage, r.Attributes.Algorithm, r.Bytes*8)
}

// opening reads what a ceremony is for.
func (d *Desk) opening(payload []byte) (ceremony.Request, error) {
	var o ceremony.Opening
	if err := json.Unmarshal(payload, &o); err != nil {
		return ceremony.Request{}, fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
	}
	if len(o.Usage) != 2 || len(o.Algorithm) != 1 || len(o.Mode) != 1 || len(o.Exportability) != 1 || o.Bits%8 != 0 {
		return ceremony.Request{}, fmt.Errorf("%w: usage has two characters, algorithm, mode and exportability one, and a key whole bytes", ceremony.ErrRequest)
	}
	id := make([]byte, 6)
	if _, err := io.ReadFull(d.o.Random, id); err != nil {
		return ceremony.Request{}, fmt.Errorf("drawing the number of a ceremony: %w", err)
	}
	return ceremony.Request{
		ID: hex.EncodeToString(id), Label: o.Label, Bytes: o.Bits / 8, Components: o.Components, Rehearsal: o.Rehearsal,
		Attributes: engine.Attributes{
			Usage: tr31.Usage(o.Usage[0])<<8 | tr31.Usage(o.Usage[1]), Algorithm: key.Algorithm(o.Algorithm[0]),
			Mode: tr31.Mode(o.Mode[0]), Exportability: tr31.Exportability(o.Exportability[0]),
		},
	}, nil
}

// errOther says that an officer confirms another ceremony than the one that is
// under way: theirs is over.
var errOther = errors.New("another ceremony is under way")

// confirmation reads which check value an officer saw. An empty one means that
// there was none to see: one component alone.
func (d *Desk) confirmation(payload []byte) ([]byte, error) {
	var c ceremony.Confirmation
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
	}
	if id := d.ceremony.Request().ID; id != "" && c.Ceremony != id {
		return nil, errOther
	}
	kcv, err := hex.DecodeString(c.KCV)
	if err != nil {
		return nil, fmt.Errorf("%w: a check value is hexadecimal", ceremony.ErrMessage)
	}
	return kcv, nil
}

// paper is the transcript of the last ceremony, signed by the token.
func (d *Desk) paper() (*ceremony.Signed, error) {
	t, over := d.ceremony.Transcript()
	if !over {
		return nil, errNoTranscript
	}
	t.Audit = d.place.String()
	text, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("writing a transcript: %w", err)
	}
	signature, err := d.o.Signer.Sign(ceremony.Digest(text))
	if err != nil {
		return nil, fmt.Errorf("%w: signing a transcript: %w", errStore, err)
	}
	return &ceremony.Signed{Transcript: text, Key: d.o.KeyName, Signature: signature}, nil
}

var errNoTranscript = errors.New("no ceremony was finished or aborted since the module started; the audit log has the earlier ones")
