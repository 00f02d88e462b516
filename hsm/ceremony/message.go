package ceremony

import (
	"errors"
	"fmt"

	"authswitch/hsm/wire"
)

// The operations of the admin socket that are answered at the desk.
const (
	OpChallenge = wire.OpCeremony     // officer → Challenge
	OpAct       = wire.OpCeremony + 1 // Act → View, or what the action gives
	OpView      = wire.OpCeremony + 2 // nothing → View
	OpPaper     = wire.OpCeremony + 3 // nothing → Signed, the last ceremony's
)

// ErrMessage says that a request is not one.
var ErrMessage = errors.New("not a request of the ceremony")

// Action is what an officer signs to have done.
type Action string

// The actions.
const (
	ActEnrol     Action = "officer.enrol"
	ActRemove    Action = "officer.remove"
	ActApprove   Action = "officer.approve"
	ActStart     Action = "ceremony.start"
	ActComponent Action = "ceremony.component"
	ActConfirm   Action = "ceremony.confirm"
	ActAbort     Action = "ceremony.abort"
	// ActSelf is what a new officer signs beside ActEnrol: that the key is theirs.
	ActSelf Action = "officer.self"
)

// Challenge is what a proof is made for.
type Challenge struct {
	Nonce   []byte   `json:"nonce"`
	Kind    Kind     `json:"kind"`
	Stretch *Stretch `json:"stretch,omitempty"`
}

// Act is one action, proven by its officer.
type Act struct {
	Nonce     []byte
	Officer   string
	Action    Action
	Signature []byte
	Payload   []byte
}

// Append writes an act as the fields of OpAct.
func (a *Act) Append(dst []byte) []byte {
	dst = wire.AppendBytes(dst, a.Nonce)
	dst = wire.AppendString(dst, a.Officer)
	dst = wire.AppendString(dst, string(a.Action))
	dst = wire.AppendBytes(dst, a.Signature)
	return wire.AppendBytes(dst, a.Payload)
}

// ReadAct reads the fields of OpAct. Its bytes are a part of the request's.
func ReadAct(f *wire.Fields) (Act, error) {
	a := Act{Nonce: f.Bytes(), Officer: f.String(), Action: Action(f.String()), Signature: f.Bytes(), Payload: f.Bytes()}
	if err := f.Done(); err != nil {
		return Act{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return a, nil
}

// Enrolment is the payload of ActEnrol, JSON.
type Enrolment struct {
	Officer Officer `json:"officer"`
	// Self is the new officer's signature of ActSelf over the officer as JSON:
	// nobody is enrolled with a key that they cannot use. Founders have none: they
	// sign the act itself.
	Self []byte `json:"self,omitempty"`
	// Code is what a founder was given by whoever set the module up: good for one
	// enrolment. Empty for all who come after the founders.
	Code string `json:"code,omitempty"`
}

// Removal is the payload of ActRemove, JSON.
type Removal struct {
	Officer string `json:"officer"`
}

// Approval is the payload of ActApprove, JSON: the object is repeated, so that
// what a person saw is what they sign.
type Approval struct {
	ID     uint64 `json:"id"`
	Action string `json:"action"`
	Object string `json:"object"`
}

// Opening is the payload of ActStart, JSON.
type Opening struct {
	Label         string `json:"label"`
	Usage         string `json:"usage"`
	Algorithm     string `json:"algorithm"`
	Mode          string `json:"mode"`
	Exportability string `json:"exportability"`
	Bits          int    `json:"bits"`
	Components    int    `json:"components"`
	Rehearsal     bool   `json:"rehearsal"`
}

// AppendComponent writes the payload of ActComponent: no text, because text
// cannot be wiped.
func AppendComponent(dst, component, kcv []byte) []byte {
	return wire.AppendBytes(wire.AppendBytes(dst, component), kcv)
}

// ReadComponent reads what AppendComponent wrote.
func ReadComponent(payload []byte) (component, kcv []byte, err error) {
	f := wire.Read(payload)
	component, kcv = f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return component, kcv, nil
}

// Confirmation is the payload of ActConfirm, JSON: the check value that the
// officer saw.
type Confirmation struct {
	Ceremony string `json:"ceremony"`
	KCV      string `json:"kcv"`
}

// View is what the desk shows to anybody on the admin socket: nothing secret.
type View struct {
	Founding bool          `json:"founding"`
	Dual     bool          `json:"dual"` // operations on keys need two officers
	Officers []OfficerView `json:"officers"`
	Pending  []PendingView `json:"pending"`
	Ceremony *StateView    `json:"ceremony,omitempty"`
	Asked    *PendingView  `json:"asked,omitempty"` // what the act of this answer has to wait for
	Key      *KeyView      `json:"key,omitempty"`   // what the ceremony made
	Done     *DoneView     `json:"done,omitempty"`  // what the approved action on keys gave
}

// OfficerView is one officer of the list.
type OfficerView struct {
	Name        string   `json:"name"`
	Kind        Kind     `json:"kind"`
	Fingerprint string   `json:"fingerprint"`
	Enrolled    string   `json:"enrolled"`
	By          []string `json:"by,omitempty"`
}

// PendingView is one request that waits for a second officer.
type PendingView struct {
	ID       uint64 `json:"id"`
	Action   string `json:"action"`
	Object   string `json:"object"`
	By       string `json:"by"`
	Deadline string `json:"deadline"`
}

// StateView is where a ceremony stands.
type StateView struct {
	ID         string        `json:"id"`
	State      string        `json:"state"`
	Label      string        `json:"label"`
	Usage      string        `json:"usage"`
	Algorithm  string        `json:"algorithm"`
	Bits       int           `json:"bits"`
	Components int           `json:"components"`
	Rehearsal  bool          `json:"rehearsal"`
	Brought    []BroughtView `json:"brought"`
	KCV        string        `json:"kcv,omitempty"` // of the combined key, once it is combined
	Deadline   string        `json:"deadline,omitempty"`
	Reason     string        `json:"reason,omitempty"` // why it was aborted
}

// BroughtView is one component of a ceremony.
type BroughtView struct {
	Officer string `json:"officer"`
	KCV     string `json:"kcv"`
}

// KeyView is a key as it leaves the ceremony.
type KeyView struct {
	Block string `json:"block"`
	KCV   string `json:"kcv"`
}
