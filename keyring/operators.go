package keyring

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"authswitch/hsm"
	"authswitch/payment"
)

// Form is how a key travels.
type Form string

// The forms.
const (
	Block  Form = "tr31"   // a key block under the link's block protection key (K1)
	Raw    Form = "raw"    // the bare cryptogram under the link's key-encrypting key (K0)
	Stored Form = "stored" // a block under the local master key, as the ceremony and hsmd make them
)

// ImportRequest is a key that an operator brings.
type ImportRequest struct {
	Link       payment.LinkName
	Form       Form
	Letters    string // usage, algorithm, mode, exportability as in P0TBE; what a block must say, and a raw cryptogram becomes
	Sent       []byte
	CheckValue []byte // compared; needed with Raw
	Legacy     bool   // key blocks of versions A and C are taken
	NotBefore  payment.Instant
	NotAfter   payment.Instant
	Officers   [2]string
}

// Keys is every key, by number.
func (k *Keyring) Keys() []*payment.Key { return k.deps.Reader.WorkingKeys() }

// Key finds one by its number.
func (k *Keyring) Key(id payment.KeyID) (*payment.Key, error) {
	for _, key := range k.deps.Reader.WorkingKeys() {
		if key.ID == id {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoKey, id)
}

// Import takes a key in, pending. Whatever is wrong with it is said, and nothing
// of it kept.
func (k *Keyring) Import(r *ImportRequest) (*payment.Key, error) {
	if err := k.owner(r.Link); err != nil {
		return nil, err
	}
	want, usage, err := parseLetters(r.Letters)
	if err != nil {
		return nil, err
	}
	if r.Link == payment.VaultKeys || usage == payment.KeyData || usage == payment.KeyBlindIndex {
		return nil, fmt.Errorf("%w: the vault's keys are made in the security module and never imported", ErrRefused)
	}
	made, err := k.take(r, want)
	if err != nil {
		return nil, err
	}
	key := record(r.Link, usage, &made, 0)
	key.NotBefore, key.NotAfter, key.Officers = r.NotBefore, r.NotAfter, r.Officers
	kept, err := k.deps.Writer.PutKey(key)
	if errors.Is(err, payment.ErrKeyKnown) && kept != nil {
		return nil, fmt.Errorf("%w: %w: %s of %s for %s, %s", ErrRefused, err, kept.ID, kept.Link, kept.Usage, kept.State)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the imported key: %w", err)
	}
	return kept, nil
}

// take lets the module open what was sent.
func (k *Keyring) take(r *ImportRequest, want hsm.Attributes) (hsm.Key, error) {
	switch r.Form {
	case Stored:
		made, err := k.deps.Exchange.KCV(r.Sent, k.deadline())
		switch {
		case err != nil:
			return hsm.Key{}, fmt.Errorf("%w: the block: %w", ErrRefused, err)
		case made.Attributes != want:
			return hsm.Key{}, fmt.Errorf("%w: the block's header says %s, not %s", ErrRefused, made.Attributes, want)
		case len(r.CheckValue) > 0 && !matches(made.KCV, r.CheckValue):
			return hsm.Key{}, fmt.Errorf("%w: the key check value does not fit", ErrRefused)
		}
		return made, nil
	case Block, Raw:
		form, usage := hsm.Block, payment.KeyZoneBlock
		if r.Form == Raw {
			form, usage = hsm.Raw, payment.KeyZone
		}
		wrapping, err := k.wrapping(r.Link, usage)
		if err != nil {
			return hsm.Key{}, err
		}
		made, err := k.deps.Exchange.Import(wrapping.Block, r.Sent, hsm.ImportRequest{
			Form: form, Want: want, CheckValue: r.CheckValue, LegacyImport: r.Legacy,
		}, k.deadline())
		if err != nil {
			return hsm.Key{}, fmt.Errorf("%w: under %s (%s): %w", ErrRefused, wrapping.ID, usage, err)
		}
		return made, nil
	}
	return hsm.Key{}, fmt.Errorf("%w: form %q is none of tr31, raw, stored", ErrRefused, r.Form)
}

func matches(kcv, given []byte) bool {
	return len(given) >= 2 && len(given) <= len(kcv) && slices.Equal(kcv[:len(given)], given)
}

// owner says whether a name can own keys.
func (k *Keyring) owner(link payment.LinkName) error {
	if link == payment.VaultKeys || slices.Contains(k.deps.Links, link) {
		return nil
	}
	return fmt.Errorf("%w: no link %q in this node's configuration", ErrRefused, link)
}

func parseLetters(letters string) (hsm.Attributes, payment.KeyUsage, error) {
	a, err := hsm.ParseAttributes(letters)
	if err != nil {
		return a, 0, fmt.Errorf("%w: %q: five letters are needed, usage, algorithm, mode and exportability, as in P0TBE", ErrRefused, letters)
	}
	usage := payment.KeyUsageOf(a.Usage, a.Mode)
	if usage == payment.KeyNone {
		return a, 0, fmt.Errorf("%w: no key of usage %s is kept", ErrRefused, a.Usage)
	}
	return a, usage, nil
}

// wrapping is the link's active key-encrypting key.
func (k *Keyring) wrapping(link payment.LinkName, usage payment.KeyUsage) (*payment.Key, error) {
	if key := k.deps.Reader.Ring().ActiveKey(link, usage); key != nil {
		return key, nil
	}
	return nil, fmt.Errorf("%w: %s has no active %s key", ErrRefused, link, usage)
}

// Exported is a key as its peer gets it.
type Exported struct {
	Key      *payment.Key
	Wrapping *payment.Key
	Sent     []byte
	KCV      []byte
}

// Export gives a key to its link's peer, under the link's own key-encrypting
// key and no other.
func (k *Keyring) Export(id payment.KeyID, form Form) (*Exported, error) {
	key, err := k.Key(id)
	if err != nil {
		return nil, err
	}
	if key.State != payment.KeyPending && key.State != payment.KeyActive {
		return nil, fmt.Errorf("%w: %s is %s", ErrRefused, key.ID, key.State)
	}
	if now := k.deps.Now(); key.NotAfter != 0 && now >= key.NotAfter {
		return nil, fmt.Errorf("%w: %s has expired", ErrRefused, key.ID)
	}
	how, usage := hsm.Block, payment.KeyZoneBlock
	switch form {
	case Raw:
		how, usage = hsm.Raw, payment.KeyZone
	case Block:
	default:
		return nil, fmt.Errorf("%w: form %q is neither tr31 nor raw", ErrRefused, form)
	}
	wrapping, err := k.wrapping(key.Link, usage)
	if err != nil {
		return nil, err
	}
	sent, err := k.deps.Exchange.Export(wrapping.Block, key.Block, how, k.deadline())
	if err != nil {
		return nil, fmt.Errorf("%w: %s under %s: %w", ErrRefused, key.ID, wrapping.ID, err)
	}
	return &Exported{Key: key, Wrapping: wrapping, Sent: sent.Sent, KCV: sent.KCV}, nil
}

// Advance moves a key to a state that an operator asks for. Without force it
// does not take away what would stop traffic or lose what was sealed.
func (k *Keyring) Advance(id payment.KeyID, to payment.KeyState, overlap time.Duration, force bool) (*payment.Key, error) {
	key, err := k.Key(id)
	if err != nil {
		return nil, err
	}
	vaults := key.Usage == payment.KeyData || key.Usage == payment.KeyBlindIndex
	if vaults && key.State != payment.KeyPending && !force {
		return nil, fmt.Errorf("%w: what was sealed under %s could never be opened again", ErrRefused, key.ID)
	}
	if overlap == 0 {
		overlap = k.cfg.Overlap
	}
	if vaults {
		overlap = 0 // until nothing is left that was sealed under it
	}
	kept, err := k.deps.Writer.AdvanceKey(&payment.KeyAdvance{ID: id, To: to, Overlap: payment.Instant(overlap), RetireActive: force})
	switch {
	case errors.Is(err, payment.ErrKeyState):
		return nil, fmt.Errorf("%w: %s is %s and cannot become %s: %w", ErrRefused, id, key.State, to, err)
	case errors.Is(err, payment.ErrKeyDates):
		return nil, fmt.Errorf("%w: %s: %w", ErrRefused, id, err)
	case err != nil:
		return nil, fmt.Errorf("%s to %s: %w", id, to, err)
	}
	return kept, nil
}

// Generate makes a key for a link, pending: with the letters and the length of
// the one in use where none are given.
func (k *Keyring) Generate(link payment.LinkName, usage payment.KeyUsage, letters string, bytes int) (*payment.Key, error) {
	if err := k.owner(link); err != nil {
		return nil, err
	}
	if link == payment.VaultKeys && usage == payment.KeyBlindIndex {
		return nil, fmt.Errorf("%w: there is one blind-index key; another would find no card that was indexed before", ErrRefused)
	}
	like := k.deps.Reader.Ring().ActiveKey(link, usage)
	if letters == "" && like == nil {
		return nil, fmt.Errorf("%w: %s has no active %s key to make another like: say its letters and length", ErrRefused, link, usage)
	}
	if letters == "" {
		letters = string(like.Letters[:])
	}
	_, named, err := parseLetters(letters)
	if err != nil {
		return nil, err
	}
	if named != usage {
		return nil, fmt.Errorf("%w: %s is a %s key, not a %s key", ErrRefused, letters, named, usage)
	}
	if bytes == 0 {
		bytes = usualBytes(like, letters)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key, err := k.generate(link, usage, letters, bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return key, nil
}

// usualBytes is the length of the key that is replaced; of one whose length
// nobody said, a double-length TDES key or AES-256.
func usualBytes(like *payment.Key, letters string) int {
	if like != nil && like.Bits != 0 && like.Letters[2] == letters[2] {
		return int(like.Bits) / 8
	}
	if letters[2] == 'T' {
		return 16
	}
	return vaultBytes
}

// RotateData makes the next data key now. It is pending: the leader makes it
// the active one once every node has had the time to load it.
func (k *Keyring) RotateData() (*payment.Key, error) {
	if next := k.deps.Reader.Ring().Pending(payment.VaultKeys, payment.KeyData); next != nil {
		return next, nil // one is on its way
	}
	return k.Generate(payment.VaultKeys, payment.KeyData, dataLetters, vaultBytes)
}

// RotateMaster wraps every key under the newest local master key now, and says
// how many were under another, and which key it is.
func (k *Keyring) RotateMaster() (count, newest int, err error) {
	status, err := k.deps.Module.Status(k.deadline())
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the local master keys: %w", err)
	}
	if len(status.Masters) == 0 {
		return 0, 0, fmt.Errorf("%w: the security module names no local master key", ErrRefused)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	newest = status.Masters[len(status.Masters)-1]
	count, err = k.rewrapUnder(newest)
	return count, newest, err
}
