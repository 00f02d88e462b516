package desk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
)

// errStore marks what the file system or the token could not do.
var errStore = errors.New("the module could not")

// found enrols one of the first two officers: nobody is there who could let
// them in but whoever set the module up, by a code that is good once. They prove
// that the key is theirs by signing the act with it.
func (d *Desk) found(a *ceremony.Act) (*ceremony.View, error) {
	e, err := enrolment(a.Payload)
	if err != nil {
		return nil, d.refused(a, "", err)
	}
	if err := d.spend(a.Officer, a.Nonce); err != nil {
		return nil, d.refused(a, a.Officer, err)
	}
	if a.Officer != e.Officer.Name || e.Officer.Proven(a.Nonce, string(a.Action), a.Payload, a.Signature) != nil {
		return nil, d.refused(a, a.Officer, ceremony.ErrProof)
	}
	next, err := d.roster.Enrol(e.Officer, d.o.Now())
	if err == nil {
		err = d.spendCode(e.Code)
	}
	if err != nil {
		return nil, d.refused(a, a.Officer, err)
	}
	event := audit.Event{
		Actors: []string{a.Officer}, Operation: string(a.Action), Object: a.Officer + " " + e.Officer.Fingerprint(),
		Reason: "one of the first two officers: without dual control, with an enrolment code",
	}
	return d.change(event, next)
}

func enrolment(payload []byte) (ceremony.Enrolment, error) {
	var e ceremony.Enrolment
	if err := json.Unmarshal(payload, &e); err != nil {
		return e, fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
	}
	return e, nil
}

// ask notes what one officer wants done about the officers.
func (d *Desk) ask(a *ceremony.Act) (*ceremony.View, error) {
	object, err := d.judge(a.Action, a.Payload, a.Nonce, a.Officer)
	if err == nil && object == a.Officer {
		err = ceremony.ErrSelf
	}
	if err != nil {
		return nil, d.refused(a, object, err)
	}
	return d.wait(a, object)
}

// judge says whom an act is about, and whether it could be done now. The nonce
// is nil when a second officer approves: the new officer's own proof was checked
// when it was asked.
func (d *Desk) judge(action ceremony.Action, payload, nonce []byte, by ...string) (string, error) {
	_, object, err := d.next(action, payload, nonce, by...)
	return object, err
}

// next is the list of officers as an act would make it.
func (d *Desk) next(action ceremony.Action, payload, nonce []byte, by ...string) (*ceremony.Roster, string, error) {
	if action == ceremony.ActRemove {
		var r ceremony.Removal
		if err := json.Unmarshal(payload, &r); err != nil {
			return nil, "", fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
		}
		next, err := d.roster.Remove(r.Officer)
		return next, r.Officer, err
	}
	e, err := enrolment(payload)
	if err != nil {
		return nil, "", err
	}
	next, err := d.roster.Enrol(e.Officer, d.o.Now(), by...)
	if err != nil {
		return nil, e.Officer.Name, err
	}
	if nonce != nil {
		text, err := json.Marshal(e.Officer)
		if err != nil {
			return nil, e.Officer.Name, fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
		}
		if err := e.Officer.Proven(nonce, string(ceremony.ActSelf), text, e.Self); err != nil {
			return nil, e.Officer.Name, err
		}
	}
	return next, e.Officer.Name, nil
}

// approve does what a first officer asked, on the word of a second.
func (d *Desk) approve(a *ceremony.Act) (*ceremony.View, error) {
	var word ceremony.Approval
	if err := json.Unmarshal(a.Payload, &word); err != nil {
		return nil, d.refused(a, "", fmt.Errorf("%w: %w", ceremony.ErrMessage, err))
	}
	p, err := d.approvals.Approve(word.ID, a.Officer, d.o.Now())
	if err == nil && (p.Action != word.Action || p.Object != word.Object) {
		err = fmt.Errorf("%w: it is another than the one that was shown", ceremony.ErrNoPending)
	}
	if err != nil {
		if errors.Is(err, ceremony.ErrSame) {
			d.approvals.Take(p.ID) // refused and wiped
		}
		return nil, d.refused(a, p.Action+" "+p.Object, err)
	}
	defer d.approvals.Take(p.ID) // done or refused, it is not done twice
	// Who asked may have been removed in the meantime.
	if _, err := d.roster.Find(p.By); err != nil {
		return nil, d.refused(a, p.Action+" "+p.Object, err)
	}
	if _, keys := ceremony.KeyOperation(ceremony.Action(p.Action)); keys {
		return d.performKey(&p, a)
	}
	next, object, err := d.next(ceremony.Action(p.Action), p.Payload, nil, p.By, a.Officer)
	if err != nil {
		return nil, d.refused(a, p.Action+" "+p.Object, err)
	}
	return d.change(audit.Event{Actors: []string{p.By, a.Officer}, Operation: p.Action, Object: object, Reason: "under dual control"}, next)
}

// change writes down, keeps, and takes a new list of officers.
func (d *Desk) change(e audit.Event, next *ceremony.Roster) (*ceremony.View, error) {
	text, err := next.Encode()
	if err != nil {
		return nil, err
	}
	if err := d.write(e); err != nil {
		return nil, err
	}
	signature, err := d.o.Signer.Sign(ceremony.RosterDigest(text))
	if err != nil {
		return nil, d.failed(e, fmt.Errorf("%w: sign the list of officers: %w", errStore, err))
	}
	file, err := json.Marshal(ceremony.SignedRoster{Roster: text, Key: d.o.KeyName, Signature: signature})
	if err != nil {
		return nil, d.failed(e, fmt.Errorf("%w: %w", errStore, err))
	}
	if err := d.o.Store.Save(file); err != nil {
		return nil, d.failed(e, fmt.Errorf("%w: keep the list of officers: %w", errStore, err))
	}
	d.roster = next
	d.setDual()
	// The log must know the newest list, or an older one could be put back.
	if _, err := d.o.Book.Note(stateOf(next.Version, text)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAudit, err)
	}
	return d.view(), nil
}

// failed writes that what was allowed could not be done.
func (d *Desk) failed(e audit.Event, why error) error {
	e.Outcome, e.Reason = audit.Failed, why.Error()
	if _, err := d.o.Book.Append(e); err != nil {
		return fmt.Errorf("%w: %w", ErrAudit, err)
	}
	return why
}

// stateOf is what the audit log's checkpoints carry of a list.
func stateOf(version uint64, roster []byte) string {
	return fmt.Sprintf("officers %d %x", version, sha256.Sum256(roster))
}

// load reads the list of officers and holds it to its signature and to what the
// audit log noted.
func (d *Desk) load() (*ceremony.Roster, error) {
	file, err := d.o.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("read the list of officers: %w", err)
	}
	roster := &ceremony.Roster{}
	var text []byte
	if file != nil {
		s, err := parseSigned(file)
		if err != nil {
			return nil, err
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, s.Roster); err != nil {
			return nil, fmt.Errorf("%w: %w", ceremony.ErrRoster, err)
		}
		text = compact.Bytes()
		digest := ceremony.RosterDigest(text)
		if !ecdsa.VerifyASN1(d.o.Public, digest[:], s.Signature) {
			return nil, ceremony.ErrRoster
		}
		if roster, err = ceremony.DecodeRoster(text); err != nil {
			return nil, err
		}
	}
	noted, known := versionOf(d.o.Book.State())
	switch {
	case known && roster.Version < noted, known && roster.Version == noted && stateOf(noted, text) != d.o.Book.State():
		return nil, ErrRollback
	case roster.Version > noted: // a crash between the file and the note
		if _, err := d.o.Book.Note(stateOf(roster.Version, text)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAudit, err)
		}
	}
	return roster, nil
}

func parseSigned(file []byte) (ceremony.SignedRoster, error) {
	var s ceremony.SignedRoster
	if err := json.Unmarshal(file, &s); err != nil {
		return s, fmt.Errorf("%w: %w", ceremony.ErrRoster, err)
	}
	return s, nil
}

// unsigned reads a list without looking at its signature; nil is an empty one.
func unsigned(file []byte) (*ceremony.Roster, error) {
	if file == nil {
		return &ceremony.Roster{}, nil
	}
	s, err := parseSigned(file)
	if err != nil {
		return nil, err
	}
	return ceremony.DecodeRoster(s.Roster)
}

func versionOf(state string) (uint64, bool) {
	words := strings.Fields(state)
	if len(words) != 3 || words[0] != "officers" {
		return 0, false
	}
	n, err := strconv.ParseUint(words[1], 10, 64)
	return n, err == nil
}
