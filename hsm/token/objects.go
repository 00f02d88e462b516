package token

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"authswitch/hsm/key"
)

// searchStep is how many objects one call of a search returns at most.
const searchStep = 64

// all finds the objects of a class, of a label where one is given. Under mu.
func (r *pkcs11Root) all(class uint, label string) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	if label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if err := r.ctx.FindObjectsInit(r.owner, template); err != nil {
		return nil, tokenError("searching the token", err)
	}
	var found []pkcs11.ObjectHandle
	for {
		some, _, err := r.ctx.FindObjects(r.owner, searchStep)
		if err != nil {
			_ = r.ctx.FindObjectsFinal(r.owner) // the search is over either way
			return nil, tokenError("searching the token", err)
		}
		if len(some) == 0 {
			break
		}
		found = append(found, some...)
	}
	if err := r.ctx.FindObjectsFinal(r.owner); err != nil {
		return nil, tokenError("searching the token", err)
	}
	return found, nil
}

// find finds the one object of a class and label. Under mu.
func (r *pkcs11Root) find(class uint, label string) (pkcs11.ObjectHandle, error) {
	found, err := r.all(class, label)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d objects named %s in the token, not one", ErrKey, len(found), label)
	}
	return found[0], nil
}

// handle is that of a secret or private key, searched for once.
func (r *pkcs11Root) handle(name string) (pkcs11.ObjectHandle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h, ok := r.handles[name]; ok {
		return h, nil
	}
	class := uint(pkcs11.CKO_PRIVATE_KEY)
	if _, ok := numberOf(name, masterPrefix); ok {
		class = pkcs11.CKO_SECRET_KEY
	}
	h, err := r.find(class, name)
	if err != nil {
		return 0, err
	}
	r.handles[name] = h
	return h, nil
}

func (r *pkcs11Root) label(h pkcs11.ObjectHandle) (string, error) {
	values, err := r.ctx.GetAttributeValue(r.owner, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	if err != nil {
		return "", tokenError("reading the name of a key", err)
	}
	return string(values[0].Value), nil
}

// masterUse is what a local master key may do and not do, besides being of the
// token, sensitive and not extractable.
func masterUse() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
	}
}

// inspect refuses a key that is called a local master key and is none. Under
// mu.
func (r *pkcs11Root) inspect(name string, h pkcs11.ObjectHandle) error {
	want := append(masterUse(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, masterBytes))
	ask := make([]*pkcs11.Attribute, len(want))
	for i, a := range want {
		ask[i] = pkcs11.NewAttribute(a.Type, nil)
	}
	got, err := r.ctx.GetAttributeValue(r.owner, h, ask)
	if err != nil {
		return tokenError("reading what "+name+" may do", err)
	}
	for i := range want {
		if string(got[i].Value) != string(want[i].Value) {
			return fmt.Errorf("%w: %s must be an AES-256 key of the token, sensitive, not extractable, for signing only (attribute 0x%X is %X); replace it in a ceremony",
				ErrNotFit, name, want[i].Type, got[i].Value)
		}
	}
	return nil
}

// CreateMaster lets the token draw lmk/<n>.
func (r *pkcs11Root) CreateMaster(n int) error {
	return r.make(masterName(n), n, pkcs11.CKO_SECRET_KEY, func(name []*pkcs11.Attribute) error {
		template := append(append(masterUse(), name...), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, masterBytes))
		_, err := r.ctx.GenerateKey(r.owner, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, template)
		return err
	})
}

// ImportMaster takes lmk/<n> in. From then on it cannot leave.
func (r *pkcs11Root) ImportMaster(n int, k *key.Key) error {
	if err := checkMaster(n, k); err != nil {
		return err
	}
	return r.make(masterName(n), n, pkcs11.CKO_SECRET_KEY, func(name []*pkcs11.Attribute) error {
		value := append([]byte(nil), k.Reveal()...)
		defer clear(value)
		_, err := r.ctx.CreateObject(r.owner, append(append(masterUse(), name...), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)))
		return err
	})
}

// make creates a key that is not there yet.
func (r *pkcs11Root) make(name string, n int, class uint, create func(name []*pkcs11.Attribute) error) error {
	if err := checkNumber(n); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if there, err := r.all(class, name); err != nil {
		return err
	} else if len(there) > 0 {
		return fmt.Errorf("%w: the token holds %s already", ErrExists, name)
	}
	id := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(name))}
	if err := create(id); err != nil {
		return tokenError("creating "+name, err)
	}
	return nil
}

// DestroyMaster destroys lmk/<n>.
func (r *pkcs11Root) DestroyMaster(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, err := r.find(pkcs11.CKO_SECRET_KEY, masterName(n))
	if err != nil {
		return err
	}
	delete(r.handles, masterName(n))
	if err := r.ctx.DestroyObject(r.owner, h); err != nil {
		return tokenError("destroying "+masterName(n), err)
	}
	return nil
}

// p256 is the object identifier of the curve, DER: PKCS#11's CKA_EC_PARAMS.
func p256() []byte { return []byte{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07} }

// CreateAudit lets the token draw audit/<n>.
func (r *pkcs11Root) CreateAudit(n int) error {
	return r.make(auditName(n), n, pkcs11.CKO_PRIVATE_KEY, func(name []*pkcs11.Attribute) error {
		public := append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256()),
		}, name...)
		private := append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		}, name...)
		_, _, err := r.ctx.GenerateKeyPair(r.owner, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private)
		return err
	})
}

// MarkTest leaves a data object in the token.
func (r *pkcs11Root) MarkTest() error {
	err := r.make(testMark, 1, pkcs11.CKO_DATA, func(name []*pkcs11.Attribute) error {
		_, err := r.ctx.CreateObject(r.owner, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
			name[0], // its label; data has no id
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, "test keys were let in"),
		})
		return err
	})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// InitPKCS11 makes a token of a label with both PINs, where the module has an
// empty slot, as SoftHSM always does. A token that is there is left alone.
func InitPKCS11(c PKCS11, officerPIN, userPIN []byte) error {
	ctx, err := load(c)
	if err != nil {
		return err
	}
	defer func() {
		_ = ctx.Finalize() // nothing is open any more
		ctx.Destroy()
	}()
	_, empty, err := findToken(ctx, c)
	if err == nil {
		return fmt.Errorf("%w: token %q", ErrExists, c.Label)
	}
	if empty == ^uint(0) {
		return fmt.Errorf("%w: %s has neither a token %q nor an empty slot; make the token with the vendor's tool", ErrAbsent, c.Module, c.Label)
	}
	if err := ctx.InitToken(empty, string(officerPIN), c.Label); err != nil {
		return tokenError(fmt.Sprintf("initialising token %q", c.Label), err)
	}
	slot, _, err := findToken(ctx, c) // SoftHSM gives it another slot
	if err != nil {
		return err
	}
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return tokenError("opening a session", err)
	}
	defer func() { _ = ctx.CloseSession(s) }()
	if err := ctx.Login(s, pkcs11.CKU_SO, string(officerPIN)); err != nil {
		return tokenError("logging in as the security officer", err)
	}
	if err := ctx.InitPIN(s, string(userPIN)); err != nil {
		return tokenError("setting the user's PIN", err)
	}
	return nil
}
