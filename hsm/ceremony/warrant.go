package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"authswitch/hsm/wire"
)

// What two officers do to keys: one asks, the other approves. The names are
// those of the audit log.
const (
	ActGenerate      Action = "key.generate"
	ActImport        Action = "key.import"
	ActExport        Action = "key.export"
	ActBindTable     Action = "key.bind_table"
	ActCreateMaster  Action = "lmk.create"
	ActDestroyMaster Action = "lmk.destroy"
)

// KeyOperation is the operation of the admin socket that an action does once a
// second officer has approved it.
func KeyOperation(a Action) (wire.Op, bool) {
	switch a {
	case ActGenerate:
		return wire.OpGenerate, true
	case ActImport:
		return wire.OpImport, true
	case ActExport:
		return wire.OpExport, true
	case ActBindTable:
		return wire.OpBindTable, true
	case ActCreateMaster:
		return wire.OpNewMaster, true
	case ActDestroyMaster:
		return wire.OpRetireMaster, true
	}
	return 0, false
}

// KeyAction is what KeyOperation is asked with.
func KeyAction(op wire.Op) Action {
	for _, a := range []Action{ActGenerate, ActImport, ActExport, ActBindTable, ActCreateMaster, ActDestroyMaster} {
		if of, _ := KeyOperation(a); of == op {
			return a
		}
	}
	return ""
}

// KeyRequest is the payload of an action on keys, JSON: the operation's own
// fields, and whose key it is, for the second officer and for the warrant.
type KeyRequest struct {
	Label  string `json:"label"` // a link's name; empty for a local master key
	Fields []byte `json:"fields"`
}

// DoneView is what an approved action on keys gave.
type DoneView struct {
	Action string          `json:"action"`
	Object string          `json:"object"`
	By     []string        `json:"by"`
	Key    *KeyView        `json:"key,omitempty"`    // made or taken in
	Sent   string          `json:"sent,omitempty"`   // exported: a key block, or hexadecimal digits
	KCV    string          `json:"kcv,omitempty"`    // of what was exported
	Master int             `json:"master,omitempty"` // the local master key that seals now
	Paper  json.RawMessage `json:"warrant,omitempty"`
}

// Warrant says that two officers had a key made or taken in: what a node wants
// to see before it keeps a key where there is dual control.
type Warrant struct {
	Action     string   `json:"action"`
	Object     string   `json:"object"`
	Label      string   `json:"label"`
	Attributes string   `json:"attributes"` // as in P0TBE
	KCV        string   `json:"kcv"`
	Block      string   `json:"block"` // under the local master key
	Officers   []string `json:"officers"`
	At         string   `json:"at"`
}

// SignedWarrant is a warrant with the signature of the token's audit key, over
// the warrant's bytes as they stand, behind a label of their own.
type SignedWarrant struct {
	Warrant   json.RawMessage `json:"warrant"`
	Key       string          `json:"key"`
	Signature []byte          `json:"signature"`
}

const warrantLabel = "authswitch warrant 1\n"

// ErrWarrant says that a warrant is not as it was signed.
var ErrWarrant = errors.New("the warrant's signature does not hold")

// WarrantDigest is what the token signs.
func WarrantDigest(warrant []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(warrantLabel))
	h.Write(warrant)
	return [sha256.Size]byte(h.Sum(nil))
}

// VerifyWarrant reads a warrant and checks its signature.
func VerifyWarrant(file []byte, public *ecdsa.PublicKey) (Warrant, error) {
	var s SignedWarrant
	if err := json.Unmarshal(file, &s); err != nil {
		return Warrant{}, fmt.Errorf("%w: %w", ErrWarrant, err)
	}
	var compact bytes.Buffer // as it was signed: the file may be laid out for people
	if err := json.Compact(&compact, s.Warrant); err != nil {
		return Warrant{}, fmt.Errorf("%w: %w", ErrWarrant, err)
	}
	digest := WarrantDigest(compact.Bytes())
	if !ecdsa.VerifyASN1(public, digest[:], s.Signature) {
		return Warrant{}, ErrWarrant
	}
	var w Warrant
	if err := json.Unmarshal(s.Warrant, &w); err != nil {
		return Warrant{}, fmt.Errorf("%w: %w", ErrWarrant, err)
	}
	return w, nil
}
