package zone_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/mac"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/tr31"
	"authswitch/payment"
)

// module is the security module in process: the real engine, without sockets.
// It counts what it is asked.
type module struct {
	*engine.Engine
	asked   atomic.Int64
	away    atomic.Bool // nobody answers
	inOrder atomic.Bool // of the last translation
	mu      sync.Mutex
	keys    map[string]*engine.Key
	// verifying runs before a verification.
	verifying func()
	// generating runs before a MAC is made.
	generating atomic.Pointer[func(message []byte)]
}

func newModule(t *testing.T) *module {
	t.Helper()
	lmk, err := key.New(key.AES, []byte("the local master key of a test.."))
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr31.New(tr31.D, &lmk)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(p, rand.Reader, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &module{Engine: e, keys: map[string]*engine.Key{}}
}

func (m *module) load(block []byte) (*engine.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.keys[string(block)]; k != nil {
		return k, nil
	}
	k, err := m.Load(block)
	if err != nil {
		return nil, hsm.ErrBadKey
	}
	m.keys[string(block)] = k
	return k, nil
}

func (m *module) ask() error {
	m.asked.Add(1)
	if m.away.Load() {
		return hsm.ErrUnavailable
	}
	return nil
}

func refused(err error) error {
	if errors.Is(err, engine.ErrPINBlock) || errors.Is(err, engine.ErrMismatch) {
		return hsm.ErrRefused
	}
	return err
}

func (m *module) TranslatePIN(dst []byte, in hsm.In, out hsm.Out, _ int64) (int, error) {
	if err := m.ask(); err != nil {
		return 0, err
	}
	m.inOrder.Store(in.InOrder)
	from, err := m.load(in.Key)
	if err != nil {
		return 0, err
	}
	to, err := m.load(out.Key)
	if err != nil {
		return 0, err
	}
	n, err := m.Engine.TranslatePIN(dst, engine.Incoming{
		Key: from, Serial: in.KSN, Format: pinblock.Format(in.Format), Rule: pinblock.PANRule(in.Rule), Block: in.Block, PAN: in.PAN.RevealPAN(),
	}, engine.Outgoing{Key: to, Format: pinblock.Format(out.Format), Rule: pinblock.PANRule(out.Rule)})
	return n, refused(err)
}

func (m *module) GenerateMAC(dst, block []byte, p hsm.Padding, length int, message []byte, _ int64) error {
	if f := m.generating.Load(); f != nil {
		(*f)(message)
	}
	if err := m.ask(); err != nil {
		return err
	}
	k, err := m.load(block)
	if err != nil {
		return err
	}
	var out [16]byte
	err = m.Engine.GenerateMAC(out[:], k, mac.Padding(p), length, message)
	copy(dst, out[:length])
	return err
}

func (m *module) VerifyMAC(current, previous []byte, p hsm.Padding, message, got []byte, _ int64) error {
	if m.verifying != nil {
		m.verifying()
	}
	if err := m.ask(); err != nil {
		return err
	}
	k, err := m.load(current)
	if err != nil {
		return err
	}
	var before *engine.Key
	if previous != nil {
		if before, err = m.load(previous); err != nil {
			return err
		}
	}
	var scratch [16]byte
	return refused(m.Engine.VerifyMAC(scratch[:], k, before, mac.Padding(p), message, got))
}

func attributesOf(a hsm.Attributes) engine.Attributes {
	return engine.Attributes{
		Usage: tr31.Usage(a.Usage[0])<<8 | tr31.Usage(a.Usage[1]), Algorithm: key.Algorithm(a.Algorithm), Mode: tr31.Mode(a.Mode), Exportability: tr31.Exportability(a.Exportability),
	}
}

func keyOf(s engine.Sealed) hsm.Key {
	a := s.Attributes
	return hsm.Key{
		Attributes: hsm.Attributes{Usage: [2]byte{byte(a.Usage >> 8), byte(a.Usage)}, Algorithm: byte(a.Algorithm), Mode: byte(a.Mode), Exportability: byte(a.Exportability)},
		KCV:        s.Check.Bytes(), Block: s.Block, Master: 1,
	}
}

func (m *module) Generate(a hsm.Attributes, bytes int, _ int64) (hsm.Key, error) {
	s, err := m.Engine.Generate(attributesOf(a), bytes)
	return keyOf(s), err
}

func (m *module) Import(kek, sent []byte, r hsm.ImportRequest, _ int64) (hsm.Key, error) {
	k, err := m.load(kek)
	if err != nil {
		return hsm.Key{}, err
	}
	request := engine.ImportRequest{Want: attributesOf(r.Want), CheckValue: r.CheckValue}
	in := m.Engine.Import
	if r.Form == hsm.Raw {
		in = m.ImportRaw
	}
	s, err := in(k, sent, request)
	return keyOf(s), err
}

func (m *module) Export(kek, block []byte, form hsm.Form, _ int64) (hsm.Exported, error) {
	k, err := m.load(kek)
	if err != nil {
		return hsm.Exported{}, err
	}
	if form == hsm.Raw {
		sent, check, err := m.ExportRaw(k, block)
		return hsm.Exported{KCV: check.Bytes(), Sent: sent}, err
	}
	s, err := m.Engine.Export(k, block)
	return hsm.Exported{KCV: s.Check.Bytes(), Sent: s.Block}, err
}

// seal is a clear key as a block under the module's master key: two components,
// as in a ceremony.
func (m *module) seal(t *testing.T, letters, clearHex string) hsm.Key {
	t.Helper()
	a, err := hsm.ParseAttributes(letters)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := hex.DecodeString(clearHex)
	if err != nil {
		t.Fatal(err)
	}
	one, two := make(key.Secret, len(whole)), make(key.Secret, len(whole))
	for i := range whole {
		one[i] = byte(i*7 + 1)
		two[i] = whole[i] ^ one[i]
	}
	s, err := m.Combine(attributesOf(a), one, two)
	if err != nil {
		t.Fatal(err)
	}
	return keyOf(s)
}

// journal keeps keys as the store does: pending, active, decrypt-only, retired.
type journal struct {
	mu     sync.Mutex
	keys   []*payment.Key
	commit time.Duration // how long a change takes
	ring   atomic.Pointer[payment.KeyRing]
}

func (j *journal) publish() {
	var all []*payment.Key
	for _, k := range j.keys {
		c := *k
		all = append(all, &c)
	}
	j.ring.Store(payment.NewKeyRing(uint64(len(j.keys)), all))
}

func (j *journal) PutKey(k *payment.Key) (*payment.Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := *k
	c.ID, c.State = payment.KeyID(len(j.keys)+1), payment.KeyPending
	j.keys = append(j.keys, &c)
	j.publish()
	return &c, nil
}

func (j *journal) AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error) {
	time.Sleep(j.commit)
	j.mu.Lock()
	defer j.mu.Unlock()
	k := j.keys[a.ID-1]
	if !payment.KeyStep(k.State, a.To) {
		return nil, payment.ErrKeyState
	}
	if a.To == payment.KeyActive {
		for _, other := range j.keys {
			if other.Link == k.Link && other.Usage == k.Usage && other.State == payment.KeyActive {
				other.State = payment.KeyDecryptOnly
			}
		}
	}
	k.State, k.Marks = a.To, 0
	j.publish()
	return k, nil
}

func (j *journal) MarkKey(id payment.KeyID, marks payment.KeyMarks) (*payment.Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keys[id-1].Marks |= marks
	j.publish()
	return j.keys[id-1], nil
}

func recordOf(link payment.LinkName, k hsm.Key) *payment.Key {
	return &payment.Key{
		Link: link, Usage: payment.KeyUsageOf(k.Attributes.Usage, k.Attributes.Mode), Letters: [5]byte([]byte(k.Attributes.String())),
		CheckValue: k.KCV, Block: k.Block, Master: 1,
	}
}

// have keeps a key and makes it active.
func (j *journal) have(t *testing.T, link payment.LinkName, k hsm.Key) *payment.Key {
	t.Helper()
	kept, err := j.PutKey(recordOf(link, k))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.AdvanceKey(&payment.KeyAdvance{ID: kept.ID, To: payment.KeyActive}); err != nil {
		t.Fatal(err)
	}
	return kept
}
