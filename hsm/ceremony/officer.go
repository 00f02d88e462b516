package ceremony

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of officers.
var (
	ErrNoOfficer = errors.New("no such officer is enrolled")
	ErrEnrolled  = errors.New("an officer of this name or with this key is enrolled already")
	ErrName      = errors.New("an officer's name is 2 to 32 of a-z, 0-9, dot and dash, and begins with a letter")
	ErrFew       = errors.New("two officers must remain: enrol another first")
	ErrFull      = errors.New("no more officers can be enrolled")
	ErrRoster    = errors.New("the list of officers is not as it was signed")
)

// maxOfficers bounds the list.
const maxOfficers = 32

// Founders is how many officers are enrolled without dual control: before there
// are two, there is nobody to control with. It happens once, when the module is
// set up, with both present; each has a code from whoever set it up.
const Founders = 2

// Kind is how an officer proves who they are. Either way it is a signature: the
// key is in a file of the officer's, or made of a passphrase where it is typed.
type Kind string

// The kinds.
const (
	ByPassphrase Kind = "passphrase"
	ByKey        Kind = "key"
)

// Officer is one person. Nothing here lets anybody act as them.
type Officer struct {
	Name     string            `json:"name"`
	Kind     Kind              `json:"kind"`
	Public   ed25519.PublicKey `json:"public"`
	Stretch  *Stretch          `json:"stretch,omitempty"` // of a passphrase
	Enrolled string            `json:"enrolled"`
	By       []string          `json:"by,omitempty"` // who let them in; founders have nobody
}

// Fingerprint is for reading out: the start of the hash of the public key.
func (o *Officer) Fingerprint() string {
	sum := sha256.Sum256(o.Public)
	return hex.EncodeToString(sum[:8])
}

// check refuses what cannot be an officer.
func (o *Officer) check() error {
	if !validName(o.Name) {
		return ErrName
	}
	if len(o.Public) != ed25519.PublicKeySize || (o.Kind != ByPassphrase && o.Kind != ByKey) || (o.Kind == ByPassphrase) != (o.Stretch != nil) {
		return fmt.Errorf("%w: not a credential", ErrRoster)
	}
	if o.Stretch != nil {
		return o.Stretch.check()
	}
	return nil
}

func validName(s string) bool {
	if len(s) < 2 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// Roster is the officers. Its methods that change it return a new one: the
// caller writes the audit log and the file, and only then takes it.
type Roster struct {
	Version  uint64    `json:"version"` // counts changes
	Officers []Officer `json:"officers"`
}

// Find is the officer of a name.
func (r *Roster) Find(name string) (*Officer, error) {
	for i := range r.Officers {
		if r.Officers[i].Name == name {
			return &r.Officers[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoOfficer, name)
}

// Founding says whether officers are still enrolled without dual control. Once
// two were, never again: officers are only removed while two remain.
func (r *Roster) Founding() bool { return len(r.Officers) < Founders }

// Enrol adds an officer whom others let in.
func (r *Roster) Enrol(o Officer, at time.Time, by ...string) (*Roster, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(r.Officers) >= maxOfficers {
		return nil, ErrFull
	}
	for i := range r.Officers {
		if r.Officers[i].Name == o.Name || bytes.Equal(r.Officers[i].Public, o.Public) {
			return nil, fmt.Errorf("%w: %s", ErrEnrolled, r.Officers[i].Name)
		}
	}
	o.Enrolled, o.By = stamp(at), by
	return &Roster{r.Version + 1, append(slices.Clone(r.Officers), o)}, nil
}

// Remove takes an officer off the list.
func (r *Roster) Remove(name string) (*Roster, error) {
	if _, err := r.Find(name); err != nil {
		return nil, err
	}
	if len(r.Officers) <= Founders {
		return nil, ErrFew
	}
	left := slices.DeleteFunc(slices.Clone(r.Officers), func(o Officer) bool { return o.Name == name })
	return &Roster{r.Version + 1, left}, nil
}

// RosterDigest is what the token signs of a list: whoever writes to its file
// cannot make themselves an officer.
func RosterDigest(roster []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("authswitch officers 1\n"))
	h.Write(roster)
	return [sha256.Size]byte(h.Sum(nil))
}

// SignedRoster is a list as it is kept in a file.
type SignedRoster struct {
	Roster    json.RawMessage `json:"roster"`
	Key       string          `json:"key"`
	Signature []byte          `json:"signature"`
}

// Encode writes a list for its signature.
func (r *Roster) Encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("writing the list of officers: %w", err)
	}
	return b, nil
}

// DecodeRoster reads what Encode wrote, whose signature the caller has checked.
func DecodeRoster(b []byte) (*Roster, error) {
	var r Roster
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRoster, err)
	}
	for i := range r.Officers {
		if err := r.Officers[i].check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRoster, err)
		}
	}
	return &r, nil
}
