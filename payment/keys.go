package payment

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Errors of working keys, decided in the journal.
var (
	ErrKeyKnown   = errors.New("this key is already kept")                    // on a link, or for another use: a key has one place and one use
	ErrKeyState   = errors.New("the key's state does not allow this")         // see KeyState
	ErrKeyDates   = errors.New("the key is not valid yet, or not any more")   // by the journal's time
	ErrKeyChanged = errors.New("the key's block is not the one that was met") // somebody rewrapped it meanwhile
	ErrKeyLimit   = errors.New("as many keys are kept as may be")
	ErrKeyUsed    = errors.New("what is kept or owed was sealed under this key") // and could never be opened again
)

// KeyID numbers a working key: 1, 2, … in the order they were kept, never given
// twice. It stands in the envelopes that were sealed under it.
type KeyID uint32

// String is the number as tools show it: key-17.
func (k KeyID) String() string { return fmt.Sprintf("key-%d", uint32(k)) }

// KeyUsage is what the switch needs a working key for. The header of its block
// says the same in TR-31's letters; several of those are one use here, because
// a link has one MAC key, whatever the algorithm.
type KeyUsage uint8

// The usages. Their numbers are in the journal.
const (
	KeyNone        KeyUsage = iota
	KeyZone                 // K0: key-encrypting key of a link, for raw cryptograms
	KeyZoneBlock            // K1: key block protection key of a link
	KeyPIN                  // P0
	KeyMAC                  // M1, M3, M6
	KeyDerivation           // B0: base derivation key of terminals
	KeyData                 // D0: the vault's data key
	KeyBlindIndex           // D0, encrypt only: what blind indexes and fingerprints are made under
	KeyCVV                  // C0
	KeyPINOffset            // V1, IBM 3624
	KeyPVV                  // V2
	KeyApplication          // E0: EMV
	KeyUsages               // how many there are
)

var keyUsageNames = [KeyUsages]string{"none", "zone", "zone-block", "pin", "mac", "derivation", "data", "blind-index", "cvv", "pin-offset", "pvv", "emv"}

// String is the usage's name in tools and metrics.
func (u KeyUsage) String() string {
	if u >= KeyUsages {
		return "invalid"
	}
	return keyUsageNames[u]
}

// ParseKeyUsage reads a name as String writes it.
func ParseKeyUsage(name string) (KeyUsage, bool) {
	for u := KeyNone + 1; u < KeyUsages; u++ {
		if keyUsageNames[u] == name {
			return u, true
		}
	}
	return KeyNone, false
}

// KeyUsageOf is the usage of a block by the letters of its header; KeyNone for
// letters that the switch has no use for. A D0 block that only encrypts is the
// blind-index key: so the security module never decrypts a card under it.
func KeyUsageOf(letters [2]byte, mode byte) KeyUsage {
	switch string(letters[:]) {
	case "K0":
		return KeyZone
	case "K1":
		return KeyZoneBlock
	case "P0":
		return KeyPIN
	case "M1", "M3", "M6":
		return KeyMAC
	case "B0":
		return KeyDerivation
	case "D0":
		if mode == 'E' {
			return KeyBlindIndex
		}
		return KeyData
	case "C0":
		return KeyCVV
	case "V1":
		return KeyPINOffset
	case "V2":
		return KeyPVV
	case "E0":
		return KeyApplication
	}
	return KeyNone
}

// KeyState is where in its life a working key is.
type KeyState uint8

// The states. A key goes forward only.
const (
	KeyAbsent      KeyState = iota
	KeyPending              // kept, preloaded by every node, not used yet
	KeyActive               // the one of its link and usage
	KeyDecryptOnly          // replaced: opens and verifies what was made under it
	KeyRetired              // used for nothing; its block is still there
	KeyDestroyed            // the block is gone; what is known of the key stays
	keyStates
)

var keyStateNames = [keyStates]string{"absent", "pending", "active", "decrypt-only", "retired", "destroyed"}

// String is the state's name in tools and metrics.
func (s KeyState) String() string {
	if s >= keyStates {
		return "invalid"
	}
	return keyStateNames[s]
}

// ParseKeyState reads a name as String writes it.
func ParseKeyState(name string) (KeyState, bool) {
	for s := KeyPending; s < keyStates; s++ {
		if keyStateNames[s] == name {
			return s, true
		}
	}
	return KeyAbsent, false
}

// KeyStep says whether a key may go from one state to another.
func KeyStep(from, to KeyState) bool {
	switch from {
	case KeyPending:
		return to == KeyActive || to == KeyRetired
	case KeyActive:
		return to == KeyDecryptOnly || to == KeyRetired
	case KeyDecryptOnly:
		return to == KeyRetired
	case KeyRetired:
		return to == KeyDestroyed
	}
	return false
}

// Key is one working key as the journal keeps it: a TR-31 version D block under
// the local master key, and what may be known of it. No part of it is secret
// without that master key.
type Key struct {
	ID      KeyID
	Link    LinkName // whose it is: a link's name, a scheme's for card verification, "vault" for the vault's
	Usage   KeyUsage
	Version uint32 // of this link and usage: 1, 2, …
	State   KeyState
	// Letters are usage, algorithm, mode and exportability of the block's
	// header, as in "P0TBE".
	Letters [5]byte
	Bits    uint16 // of the key, parity included
	// CheckValue is three bytes for TDES, five for AES.
	CheckValue []byte
	Block      []byte
	Master     uint32 // which local master key the block is under
	NotBefore  Instant
	NotAfter   Instant // 0: no end of its own
	// RetireAt ends the overlap of a replaced key; 0: an operator ends it.
	RetireAt Instant
	Officers [2]string // who brought it in; empty for what the switch makes itself
	// Marks hold until the state changes.
	Marks KeyMarks
	// Changed is when the state became what it is, Created when the key came, by
	// the journal's time.
	Created, Changed Instant
}

// KeyMarks are what every node must know of a key besides its state.
type KeyMarks uint8

// The marks.
const (
	KeyDoubtful KeyMarks = 1 << iota // pending: it is not known whether the peer took it, so no PIN leaves
	KeyStopped                       // the active PIN key: too many answers mean a wrong key, so no PIN leaves
	keyMarksEnd
)

// Known says whether these are marks that there are.
func (m KeyMarks) Known() bool { return m != 0 && m < keyMarksEnd }

// SealedUnder is the data key in the head of a vault's envelope, 0 for one of a
// key file or none at all. Package vault writes it: version 2, then the number.
func SealedUnder(sealed []byte) KeyID {
	const versionModule = 2
	if len(sealed) < 5 || sealed[0] != versionModule {
		return 0
	}
	return KeyID(binary.BigEndian.Uint32(sealed[1:]))
}

// VaultKeys is the owner of the vault's keys.
const VaultKeys LinkName = "vault"

// Usable says whether the key's block may still be given to the security module.
func (k *Key) Usable() bool {
	return k.State == KeyPending || k.State == KeyActive || k.State == KeyDecryptOnly
}

// KeyAdvance asks for a change of state.
type KeyAdvance struct {
	ID KeyID
	To KeyState
	// Overlap is how long the key that is replaced goes on verifying and
	// opening; 0: until an operator retires it. Only for To == KeyActive.
	Overlap Instant
	// RetireActive lets the active key of a link be retired without another in
	// its place: traffic that needs it stops. Only for To == KeyRetired.
	RetireActive bool
	Officers     [2]string
}

// KeyRing is the working keys that can be used at one moment. It never changes:
// a change of keys makes another ring. The zero value has no key; so has nil.
type KeyRing struct {
	index uint64
	links map[LinkName]*linkKeys
	keys  map[KeyID]*Key
}

type linkKeys [KeyUsages]usageKeys

type usageKeys struct{ active, previous, pending, doubtful *Key }

// NewKeyRing makes the ring of some keys; it keeps references to those it can
// use, which must not change any more. Index is the log index it is of.
func NewKeyRing(index uint64, keys []*Key) *KeyRing {
	r := &KeyRing{index: index, links: map[LinkName]*linkKeys{}, keys: map[KeyID]*Key{}}
	for _, k := range keys {
		if !k.Usable() || k.Usage >= KeyUsages {
			continue
		}
		r.keys[k.ID] = k
		l := r.links[k.Link]
		if l == nil {
			l = &linkKeys{}
			r.links[k.Link] = l
		}
		u := &l[k.Usage]
		switch k.State {
		case KeyActive:
			u.active = k
		case KeyDecryptOnly:
			u.previous = newer(u.previous, k)
		case KeyPending:
			u.pending = newer(u.pending, k)
			if k.Marks&KeyDoubtful != 0 {
				u.doubtful = newer(u.doubtful, k)
			}
		}
	}
	return r
}

// newer is the key that got its state last.
func newer(a, b *Key) *Key {
	if a == nil || b.Changed > a.Changed || b.Changed == a.Changed && b.ID > a.ID {
		return b
	}
	return a
}

// Active is the block of a link's key for a use and, in the overlap after a
// change, that of the key before it; previous is nil when there is none. Not ok:
// there is no active key. The blocks must not be written to.
func (r *KeyRing) Active(link LinkName, usage KeyUsage) (block, previous []byte, ok bool) {
	u := r.of(link, usage)
	if u == nil || u.active == nil {
		return nil, nil, false
	}
	if u.previous != nil {
		previous = u.previous.Block
	}
	return u.active.Block, previous, true
}

// Pending is the newest key that waits to become active, nil when none does:
// while it is not known whether a peer took it, MACs are checked with it too.
func (r *KeyRing) Pending(link LinkName, usage KeyUsage) *Key {
	if u := r.of(link, usage); u != nil {
		return u.pending
	}
	return nil
}

// Doubtful is the newest pending key of which no node knows whether the peer
// took it, nil when there is none.
func (r *KeyRing) Doubtful(link LinkName, usage KeyUsage) *Key {
	if u := r.of(link, usage); u != nil {
		return u.doubtful
	}
	return nil
}

// ActiveKey is the whole record of the active key, nil when there is none.
func (r *KeyRing) ActiveKey(link LinkName, usage KeyUsage) *Key {
	if u := r.of(link, usage); u != nil {
		return u.active
	}
	return nil
}

// Key is a key by its number, nil when it cannot be used (any more).
func (r *KeyRing) Key(id KeyID) *Key {
	if r == nil {
		return nil
	}
	return r.keys[id]
}

// Index is the log index that made the ring.
func (r *KeyRing) Index() uint64 {
	if r == nil {
		return 0
	}
	return r.index
}

func (r *KeyRing) of(link LinkName, usage KeyUsage) *usageKeys {
	if r == nil || usage >= KeyUsages {
		return nil
	}
	l := r.links[link]
	if l == nil {
		return nil
	}
	return &l[usage]
}
