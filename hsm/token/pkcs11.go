package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// PKCS11 names a token behind a PKCS#11 module.
type PKCS11 struct {
	Module string // path of the module's library
	Label  string // of the token
	// SoftHSMConf is the file that tells SoftHSM where its tokens are, its
	// variable SOFTHSM2_CONF; empty: the system's. Other modules ignore it.
	SoftHSMConf string
}

// sessions is how many operations of the token run at once. Two on one session
// crash SoftHSM, and the process with it.
const sessions = 4

// pkcs11Root is a token with a user logged in. The owner session is kept open
// for as long as the root is: with the last session the login would be gone.
type pkcs11Root struct {
	ctx   *pkcs11.Ctx
	slot  uint
	owner pkcs11.SessionHandle
	idle  chan pkcs11.SessionHandle

	mu      sync.Mutex                     // of everything that finds or changes objects, on the owner session
	handles map[string]pkcs11.ObjectHandle // of private and secret keys, by label
}

// OpenPKCS11 logs in to a token. The PIN is not kept.
func OpenPKCS11(c PKCS11, pin []byte) (Keeper, error) {
	ctx, err := load(c)
	if err != nil {
		return nil, err
	}
	r := &pkcs11Root{ctx: ctx, idle: make(chan pkcs11.SessionHandle, sessions), handles: map[string]pkcs11.ObjectHandle{}}
	if r.slot, _, err = findToken(ctx, c); err == nil {
		err = r.login(c, pin)
	}
	if err != nil {
		_ = r.Close() // what went wrong before is what is said
		return nil, err
	}
	return r, nil
}

// load makes the module ready.
func load(c PKCS11) (*pkcs11.Ctx, error) {
	if c.SoftHSMConf != "" {
		if err := os.Setenv("SOFTHSM2_CONF", c.SoftHSMConf); err != nil {
			return nil, fmt.Errorf("pointing SoftHSM to its configuration: %w", err)
		}
	}
	if _, err := os.Stat(c.Module); err != nil {
		return nil, fmt.Errorf("%w: %w; install it (`make setup` installs SoftHSM) or name another with root.module", ErrModule, err)
	}
	ctx := pkcs11.New(c.Module)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s is no library that can be loaded, or no PKCS#11 module; name another with root.module", ErrModule, c.Module)
	}
	if err := ctx.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		ctx.Destroy()
		cure := "see the module's own log for its reason"
		if c.SoftHSMConf != "" {
			cure = "check that " + c.SoftHSMConf + " exists and that its directories.tokendir is a directory this user may write"
		}
		return nil, fmt.Errorf("%w: %s does not initialise (%w); %s", ErrModule, c.Module, err, cure)
	}
	return ctx, nil
}

// findToken finds the slot of a label, or of a token that waits to be
// initialised.
func findToken(ctx *pkcs11.Ctx, c PKCS11) (slot, empty uint, err error) {
	const none = ^uint(0)
	empty = none
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return none, none, tokenError("listing the slots of "+c.Module, err)
	}
	found := []uint{}
	for _, s := range slots {
		info, err := ctx.GetTokenInfo(s)
		if err != nil {
			continue // a token that is being pulled out; the others are asked
		}
		switch {
		case info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0:
			empty = s
		case strings.TrimRight(info.Label, " \x00") == c.Label:
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return none, empty, fmt.Errorf("%w: %s has no token with the label %q; run `hsmd init`, or mend root.token", ErrAbsent, c.Module, c.Label)
	case 1:
		return found[0], empty, nil
	}
	return none, empty, fmt.Errorf("%w: %d tokens have the label %q; give each its own", ErrAbsent, len(found), c.Label)
}

// login opens the owner session, then one for each operation at once.
func (r *pkcs11Root) login(c PKCS11, pin []byte) error {
	if len(pin) == 0 {
		return fmt.Errorf("%w: it is empty; put the token's into root.pin_file", ErrPIN)
	}
	var err error
	if r.owner, err = r.ctx.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return tokenError(fmt.Sprintf("opening a session with token %q", c.Label), err)
	}
	if err := r.ctx.Login(r.owner, pkcs11.CKU_USER, string(pin)); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return tokenError(fmt.Sprintf("logging in to token %q", c.Label), err)
	}
	for range sessions {
		s, err := r.ctx.OpenSession(r.slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			return tokenError(fmt.Sprintf("opening a session with token %q", c.Label), err)
		}
		r.idle <- s
	}
	return nil
}

// tokenError says what cures a return value.
func tokenError(what string, err error) error {
	var value pkcs11.Error
	if !errors.As(err, &value) {
		return fmt.Errorf("%w: %s: %w", ErrToken, what, err)
	}
	switch uint(value) {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID:
		return fmt.Errorf("%w: %s: it is not the token's; put the right one into root.pin_file. Some tokens lock after a few wrong ones", ErrPIN, what)
	case pkcs11.CKR_PIN_LOCKED:
		return fmt.Errorf("%w: %s: too many wrong PINs were given; let the security officer set a new one (for SoftHSM: pkcs11-tool --init-pin)", ErrLocked, what)
	case pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return fmt.Errorf("%w: %s: the user's PIN is not set or has expired; let the security officer set a new one", ErrPIN, what)
	case pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_HOST_MEMORY:
		return fmt.Errorf("%w: %s; destroy keys that are retired, or make room on the disk that holds the token", ErrFull, what)
	case pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_TOKEN_NOT_RECOGNIZED:
		return fmt.Errorf("%w: %s: it was taken out; put it back and start hsmd again", ErrAbsent, what)
	case pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY:
		return fmt.Errorf("%w: %s: it is write protected", ErrToken, what)
	case pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR:
		return fmt.Errorf("%w: %s (%w); for SoftHSM, see whether its token directory is still there, writable and has room", ErrToken, what, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrToken, what, err)
}

// with runs one operation on a session of its own.
func (r *pkcs11Root) with(f func(s pkcs11.SessionHandle) error) error {
	s := <-r.idle
	defer func() { r.idle <- s }()
	return f(s)
}

// CMAC computes under lmk/<master>.
func (r *pkcs11Root) CMAC(master int, dst, input []byte) error {
	h, err := r.handle(masterName(master))
	if err != nil {
		return err
	}
	return r.with(func(s pkcs11.SessionHandle) error {
		mac, err := r.signature(s, pkcs11.CKM_AES_CMAC, h, input)
		if err != nil {
			return tokenError("computing a CMAC under "+masterName(master), err)
		}
		defer clear(mac)
		if len(mac) != cmacBytes || len(dst) < cmacBytes {
			return fmt.Errorf("%w: a CMAC of %d bytes under %s", ErrToken, len(mac), masterName(master))
		}
		copy(dst, mac)
		return nil
	})
}

func (r *pkcs11Root) signature(s pkcs11.SessionHandle, mechanism uint, h pkcs11.ObjectHandle, input []byte) ([]byte, error) {
	if err := r.ctx.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, h); err != nil {
		return nil, err
	}
	return r.ctx.Sign(s, input)
}

// Sign signs with audit/<number>.
func (r *pkcs11Root) Sign(number int, digest []byte) ([]byte, error) {
	if len(digest) != digestBytes {
		return nil, fmt.Errorf("%w: a digest of %d bytes", ErrNotFit, len(digest))
	}
	h, err := r.handle(auditName(number))
	if err != nil {
		return nil, err
	}
	var out []byte
	err = r.with(func(s pkcs11.SessionHandle) error {
		raw, err := r.signature(s, pkcs11.CKM_ECDSA, h, digest)
		if err != nil {
			return tokenError("signing with "+auditName(number), err)
		}
		half := len(raw) / 2 // r and s, one behind the other: PKCS#11 clause 2.3.1
		out, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
		return err
	})
	return out, err
}

// PublicKey reads that of audit/<number>.
func (r *pkcs11Root) PublicKey(number int) (*ecdsa.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, err := r.find(pkcs11.CKO_PUBLIC_KEY, auditName(number))
	if err != nil {
		return nil, err
	}
	values, err := r.ctx.GetAttributeValue(r.owner, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, tokenError("reading the public key of "+auditName(number), err)
	}
	var point []byte // the point stands in an OCTET STRING: PKCS#11 clause 2.3.3
	if rest, err := asn1.Unmarshal(values[0].Value, &point); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("%w: the public key of %s is not on P-256", ErrNotFit, auditName(number))
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("%w: the public key of %s: %w", ErrNotFit, auditName(number), err)
	}
	return public, nil
}

// Describe asks the token for its names.
func (r *pkcs11Root) Describe() (Description, error) {
	info, err := r.ctx.GetTokenInfo(r.slot)
	if err != nil {
		return Description{}, tokenError("asking the token for its name", err)
	}
	module, err := r.ctx.GetInfo()
	if err != nil {
		return Description{}, tokenError("asking the module for its name", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	marks, err := r.all(pkcs11.CKO_DATA, testMark)
	if err != nil {
		return Description{}, err
	}
	trim := func(s string) string { return strings.TrimRight(s, " \x00") }
	return Description{
		Kind: "pkcs11", Manufacturer: trim(info.ManufacturerID), Model: trim(info.Model), Serial: trim(info.SerialNumber), Label: trim(info.Label),
		Library:  fmt.Sprintf("%s %d.%d", trim(module.LibraryDescription), module.LibraryVersion.Major, module.LibraryVersion.Minor),
		TestKeys: len(marks) > 0,
	}, nil
}

// Close ends all sessions, the login with them, and the module.
func (r *pkcs11Root) Close() error {
	err := r.ctx.CloseAllSessions(r.slot)
	if f := r.ctx.Finalize(); err == nil {
		err = f
	}
	r.ctx.Destroy()
	if err != nil {
		return tokenError("closing the token", err)
	}
	return nil
}

// Masters lists the local master keys, and looks at each: one that could leave,
// or do more than compute CMACs, is refused.
func (r *pkcs11Root) Masters() ([]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	objects, err := r.all(pkcs11.CKO_SECRET_KEY, "")
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, h := range objects {
		name, err := r.label(h)
		if err != nil {
			return nil, err
		}
		n, ok := numberOf(name, masterPrefix)
		if !ok {
			continue
		}
		if err := r.inspect(name, h); err != nil {
			return nil, err
		}
		if slices.Contains(numbers, n) {
			return nil, fmt.Errorf("%w: the token holds two keys named %s; destroy the wrong one with the vendor's tool", ErrNotFit, name)
		}
		numbers = append(numbers, n)
		r.handles[name] = h
	}
	slices.Sort(numbers)
	return numbers, nil
}
