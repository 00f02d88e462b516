package desk

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/wire"
)

// KeyKeeper does what officers ask to be done to keys: hsm/server.
type KeyKeeper interface {
	// Describe says what an operation would do, in words that a second officer
	// can judge, or why it cannot be done. It changes nothing.
	Describe(op wire.Op, fields []byte) (string, error)
	// Perform does it, with an entry of the audit log that names the officers
	// before the effect, and gives the operation's answer.
	Perform(op wire.Op, officers []string, fields []byte) ([]byte, error)
}

// Dual says whether operations on keys need two officers: in production always,
// elsewhere since two are enrolled.
func (d *Desk) Dual() bool { return d.dual.Load() }

// setDual is called whenever the list of officers changed.
func (d *Desk) setDual() { d.dual.Store(d.o.Production || !d.roster.Founding()) }

// maxLabel bounds whose key it is.
const maxLabel = 64

// request reads what is asked of keys, and what it would do.
func (d *Desk) request(action ceremony.Action, payload []byte) (ceremony.KeyRequest, string, error) {
	op, _ := ceremony.KeyOperation(action)
	var r ceremony.KeyRequest
	if err := json.Unmarshal(payload, &r); err != nil {
		return r, "", fmt.Errorf("%w: %w", ceremony.ErrMessage, err)
	}
	if len(r.Label) > maxLabel || strings.ContainsAny(r.Label, "\r\n") {
		return r, "", fmt.Errorf("%w: a label of at most %d characters", ceremony.ErrMessage, maxLabel)
	}
	object, err := d.o.Keys.Describe(op, r.Fields)
	if err == nil && r.Label != "" {
		object = r.Label + ": " + object
	}
	return r, object, err
}

// askKey notes what one officer wants done to keys.
func (d *Desk) askKey(a *ceremony.Act) (*ceremony.View, error) {
	_, object, err := d.request(a.Action, a.Payload)
	if err != nil {
		return nil, d.refused(a, object, err)
	}
	return d.wait(a, object)
}

// performKey does what one officer asked, on the word of a second. What it does
// is in the audit log before its effect, with both names.
func (d *Desk) performKey(p *ceremony.Pending, second *ceremony.Act) (*ceremony.View, error) {
	op, _ := ceremony.KeyOperation(ceremony.Action(p.Action))
	r, object, err := d.request(ceremony.Action(p.Action), p.Payload)
	if err == nil && object != p.Object {
		// The next local master key has another number by now, or a key opens no more.
		err = fmt.Errorf("%w: it would be %s now, not %s", ceremony.ErrNoPending, object, p.Object)
	}
	if err != nil {
		return nil, d.refused(second, p.Action+" "+p.Object, err)
	}
	officers := []string{p.By, second.Officer}
	answer, err := d.o.Keys.Perform(op, officers, r.Fields)
	if err != nil {
		return nil, err // the keeper has written it down
	}
	defer clear(answer)
	done := &ceremony.DoneView{Action: p.Action, Object: p.Object, By: officers}
	if err := d.result(done, op, r.Label, answer); err != nil {
		return nil, err
	}
	return &ceremony.View{Dual: d.Dual(), Officers: []ceremony.OfficerView{}, Pending: []ceremony.PendingView{}, Done: done}, nil
}

// result reads an operation's answer, and has the token sign for a key that was
// made or taken in.
func (d *Desk) result(done *ceremony.DoneView, op wire.Op, label string, answer []byte) error {
	f := wire.Read(answer)
	switch op {
	case wire.OpNewMaster, wire.OpRetireMaster:
		done.Master = int(f.Uint16())
		return f.Done()
	case wire.OpExport:
		done.KCV = strings.ToUpper(hex.EncodeToString(f.Bytes()))
		done.Sent = printable(f.Bytes())
		return f.Done()
	}
	var attributes [5]byte
	f.Fixed(attributes[:])
	kcv := strings.ToUpper(hex.EncodeToString(f.Bytes()))
	f.Uint16() // which local master key it is under: the block says it to who has it
	block := string(f.Bytes())
	if err := f.Done(); err != nil {
		return err
	}
	done.Key = &ceremony.KeyView{Block: block, KCV: kcv}
	text, err := json.Marshal(ceremony.Warrant{
		Action: done.Action, Object: done.Object, Label: label, Attributes: string(attributes[:]), KCV: kcv, Block: block,
		Officers: done.By, At: d.o.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return fmt.Errorf("writing a warrant: %w", err)
	}
	signature, err := d.o.Signer.Sign(ceremony.WarrantDigest(text))
	if err != nil {
		return fmt.Errorf("%w: signing a warrant: %w", errStore, err)
	}
	if done.Paper, err = json.Marshal(ceremony.SignedWarrant{Warrant: text, Key: d.o.KeyName, Signature: signature}); err != nil {
		return fmt.Errorf("writing a warrant: %w", err)
	}
	return nil
}

// printable is a key block as it is, and a bare cryptogram as digits.
func printable(sent []byte) string {
	for _, c := range sent {
		if c < ' ' || c > '~' {
			return strings.ToUpper(hex.EncodeToString(sent))
		}
	}
	return string(sent)
}

// wait notes what a second officer must approve, once it is written down.
func (d *Desk) wait(a *ceremony.Act, object string) (*ceremony.View, error) {
	if err := d.write(audit.Event{Actors: []string{a.Officer}, Operation: string(a.Action), Object: object, Reason: "asked; a second officer must approve"}); err != nil {
		return nil, err
	}
	p, err := d.approvals.Ask(ceremony.Pending{Action: string(a.Action), Object: object, By: a.Officer, Asked: d.o.Now(), Payload: a.Payload})
	if err != nil {
		return nil, d.refused(a, object, err)
	}
	v := d.view()
	asked := pendingView(&p)
	v.Asked = &asked
	return v, nil
}
