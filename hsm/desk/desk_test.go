package desk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
	"authswitch/hsm/wire"
)

type signer struct {
	key  *ecdsa.PrivateKey
	fail error
}

func (s *signer) Sign(digest [32]byte) ([]byte, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	return ecdsa.SignASN1(rand.Reader, s.key, digest[:])
}

// failingBook is an audit log whose disk can be pulled out.
type failingBook struct {
	*audit.Log
	fail error
}

func (b *failingBook) Append(e audit.Event) (audit.Place, error) {
	if b.fail != nil {
		return audit.Place{}, b.fail
	}
	return b.Log.Append(e)
}

// module is a desk and what is around it.
type module struct {
	t      *testing.T
	dir    string
	signer *signer
	book   *failingBook
	desk   *Desk
	now    time.Time
	people map[string]ceremony.Credential
	keys   keeper

	production bool
}

func (m *module) codes() File { return File(filepath.Join(m.dir, "enrolment.codes")) }

// code is the next one that is left.
func (m *module) code() string {
	m.t.Helper()
	text, err := m.codes().Load()
	if err != nil {
		m.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// keeper does what is asked, and notes it.
type keeper struct {
	done []string
	fail error
}

func (k *keeper) Describe(op wire.Op, fields []byte) (string, error) {
	if string(fields) == "nonsense" {
		return "", wire.ErrFields
	}
	return fmt.Sprintf("%s of %s", op, fields), nil
}

func (k *keeper) Perform(op wire.Op, officers []string, fields []byte) ([]byte, error) {
	if k.fail != nil {
		return nil, k.fail
	}
	k.done = append(k.done, fmt.Sprintf("%s of %s by %v", op, fields, officers))
	switch op {
	case wire.OpExport:
		return wire.AppendBytes(wire.AppendBytes(nil, []byte{1, 2, 3}), []byte{0xC0, 0xFF}), nil
	case wire.OpNewMaster, wire.OpRetireMaster:
		return []byte{0, 2}, nil
	}
	answer := wire.AppendUint16(wire.AppendBytes([]byte("P0TBE"), []byte{0xAB, 0xCD, 0xEF}), 1)
	return wire.AppendBytes(answer, []byte("a block")), nil
}

func newModule(t *testing.T) *module {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &module{t: t, dir: t.TempDir(), signer: &signer{key: k}, now: time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC), people: map[string]ceremony.Credential{}}
	if err := m.codes().Save(Codes("FIRST-CODE", "SECONDCODE")); err != nil {
		t.Fatal(err)
	}
	if err := m.open(); err != nil {
		t.Fatal(err)
	}
	return m
}

// open starts the module: again, after the first time.
func (m *module) open() error {
	if m.book != nil {
		if err := m.book.Close(); err != nil {
			return err
		}
	}
	log, err := audit.Open(filepath.Join(m.dir, "audit.jsonl"), audit.Options{Now: func() time.Time { return m.now }, Signer: m.signer, KeyName: "audit/1", Public: &m.signer.key.PublicKey})
	if err != nil {
		return err
	}
	m.book = &failingBook{Log: log}
	lmk, err := key.New(key.AES, bytes.Repeat([]byte{1, 2}, 16))
	if err != nil {
		return err
	}
	p, err := tr31.New(tr31.D, &lmk)
	if err != nil {
		return err
	}
	e, err := engine.New(p, rand.Reader, 1)
	if err != nil {
		return err
	}
	m.desk, err = Open(Options{
		Now: func() time.Time { return m.now }, Random: rand.Reader, Book: m.book, Store: File(filepath.Join(m.dir, "officers.json")),
		Signer: m.signer, Public: &m.signer.key.PublicKey, KeyName: "audit/1", Combine: e.Combine, Keys: &m.keys, Codes: m.codes(), Production: m.production,
	})
	return err
}

func (m *module) ask(op wire.Op, body []byte) (wire.Status, []byte) {
	f := wire.Read(body)
	return m.desk.Handle(op, &f)
}

func (m *module) nonce(officer string) []byte {
	m.t.Helper()
	status, text := m.ask(ceremony.OpChallenge, wire.AppendString(nil, officer))
	var c ceremony.Challenge
	if status != wire.StatusOK || json.Unmarshal(text, &c) != nil {
		m.t.Fatalf("challenge: %s %s", status, text)
	}
	return c.Nonce
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// act lets an officer do something.
func (m *module) act(officer string, action ceremony.Action, payload []byte) (ceremony.View, error) {
	m.t.Helper()
	c := m.people[officer]
	a := ceremony.Act{Nonce: m.nonce(officer), Officer: officer, Action: action, Payload: payload}
	a.Signature = c.Prove(a.Nonce, officer, string(action), payload)
	return m.send(&a)
}

func (m *module) send(a *ceremony.Act) (ceremony.View, error) {
	m.t.Helper()
	status, text := m.ask(ceremony.OpAct, a.Append(nil))
	if status != wire.StatusOK {
		return ceremony.View{}, errors.New(string(text))
	}
	var v ceremony.View
	if err := json.Unmarshal(text, &v); err != nil {
		m.t.Fatal(err)
	}
	return v, nil
}

// credential makes a person who is not enrolled yet.
func (m *module) credential(name string) ceremony.Officer {
	m.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.people[name], err = ceremony.FromKey(private); err != nil {
		m.t.Fatal(err)
	}
	return ceremony.Officer{Name: name, Kind: ceremony.ByKey, Public: public}
}

func (m *module) found(names ...string) {
	m.t.Helper()
	for _, name := range names {
		if _, err := m.act(name, ceremony.ActEnrol, encode(m.t, ceremony.Enrolment{Officer: m.credential(name), Code: m.code()})); err != nil {
			m.t.Fatal(err)
		}
	}
}

// enrol asks for a third officer.
func (m *module) enrol(by, name string) (ceremony.View, error) {
	m.t.Helper()
	o := m.credential(name)
	nonce := m.nonce(by)
	c, self := m.people[by], m.people[name]
	payload := encode(m.t, ceremony.Enrolment{Officer: o, Self: self.Prove(nonce, name, string(ceremony.ActSelf), encode(m.t, o))})
	return m.send(&ceremony.Act{Nonce: nonce, Officer: by, Action: ceremony.ActEnrol, Payload: payload, Signature: c.Prove(nonce, by, string(ceremony.ActEnrol), payload)})
}

func (m *module) approve(by string, p *ceremony.PendingView) (ceremony.View, error) {
	m.t.Helper()
	return m.act(by, ceremony.ActApprove, encode(m.t, ceremony.Approval{ID: p.ID, Action: p.Action, Object: p.Object}))
}

// written says whether an entry of the audit log holds all of some words.
func (m *module) written(words ...string) bool {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, "audit.jsonl"))
	if err != nil {
		m.t.Fatal(err)
	}
next:
	for l := range strings.SplitSeq(string(b), "\n") {
		for _, w := range words {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		return true
	}
	return false
}

func (m *module) expect(err error, want string) {
	m.t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		m.t.Errorf("error %v, want %q", err, want)
	}
}

func TestOfficersUnderDualControl(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	if !m.written(`"actors":["bob"]`, `"operation":"officer.enrol"`, `without dual control`) {
		t.Error("the founders are not in the audit log")
	}
	v, err := m.enrol("alice", "carol")
	if err != nil || v.Asked == nil || len(v.Officers) != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	_, err = m.approve("alice", v.Asked)
	m.expect(err, "the same officer twice")
	if !m.written(`"outcome":"refused"`, "the same officer twice") {
		t.Error("one alone is not in the audit log")
	}
	if _, err = m.act("bob", ceremony.ActRemove, encode(t, ceremony.Removal{Officer: "alice"})); err == nil {
		t.Error("one of two was removed")
	}
	if v, err = m.enrol("alice", "carol"); err != nil {
		t.Fatal(err)
	}
	if v, err = m.approve("bob", v.Asked); err != nil || len(v.Officers) != 3 || v.Officers[2].By[0] != "alice" || v.Officers[2].By[1] != "bob" {
		t.Fatalf("%+v, %v", v, err)
	}
	if !m.written(`"actors":["alice","bob"]`, `carol`, "under dual control") {
		t.Error("dual control is not in the audit log")
	}
	v, err = m.act("carol", ceremony.ActRemove, encode(t, ceremony.Removal{Officer: "bob"}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.approve("bob", v.Asked)
	m.expect(err, ceremony.ErrSelf.Error())
	if v, err = m.approve("alice", v.Asked); err != nil || len(v.Officers) != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	if status, text := m.ask(ceremony.OpChallenge, wire.AppendString(nil, "bob")); status != wire.StatusForbidden || !strings.Contains(string(text), "no such officer") {
		t.Errorf("who was removed: %s %s", status, text)
	}
	// All of it is still so after a restart.
	if err := m.open(); err != nil {
		t.Fatal(err)
	}
	if v := m.desk.view(); len(v.Officers) != 2 || v.Founding {
		t.Errorf("%+v", v)
	}
}

func TestApprovalComesTooLate(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	v, err := m.enrol("alice", "carol")
	if err != nil {
		t.Fatal(err)
	}
	m.now = m.now.Add(ceremony.Life)
	_, err = m.approve("bob", v.Asked)
	m.expect(err, "nothing of this number")
	if !m.written(`"operation":"officer.enrol"`, "no second officer approved it: ten minutes are over") {
		t.Error("not in the audit log")
	}
}

func TestProofs(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	start := encode(t, ceremony.Opening{Label: "zone", Usage: "K1", Algorithm: "T", Mode: "B", Exportability: "N", Bits: 128, Components: 2})
	alice := m.people["alice"]
	nonce := m.nonce("alice")
	good := ceremony.Act{Nonce: nonce, Officer: "alice", Action: ceremony.ActStart, Payload: start, Signature: alice.Prove(nonce, "alice", string(ceremony.ActStart), start)}
	if _, err := m.send(&good); err != nil {
		t.Fatal(err)
	}
	_, err := m.send(&good)
	m.expect(err, ErrChallenge.Error())
	stale := good
	stale.Nonce = m.nonce("alice")
	stale.Signature = alice.Prove(stale.Nonce, "alice", string(ceremony.ActStart), start)
	m.now = m.now.Add(challengeLife)
	_, err = m.send(&stale)
	m.expect(err, ErrChallenge.Error())
	other := good
	other.Nonce = m.nonce("bob") // bob's challenge, alice's name
	_, err = m.send(&other)
	m.expect(err, ErrChallenge.Error())
	// A few wrong ones lock the officer, the right one too, for a while.
	m.people["alice"] = m.people["bob"]
	for i := range maxFailures + 1 {
		want := ceremony.ErrProof.Error()
		if i == maxFailures {
			want = ErrLocked.Error()
		}
		_, err = m.act("alice", ceremony.ActAbort, nil)
		m.expect(err, want)
		if !m.written(`"actors":["alice"]`, want) {
			t.Error("a wrong proof is not in the audit log")
		}
	}
	m.people["alice"] = alice
	_, err = m.act("alice", ceremony.ActAbort, nil)
	m.expect(err, ErrLocked.Error())
	m.now = m.now.Add(lockTime)
	if _, err = m.act("alice", ceremony.ActAbort, nil); err != nil {
		t.Error(err)
	}
	// Nobody becomes an officer by a challenge they did not answer themselves.
	if status, _ := m.ask(ceremony.OpChallenge, wire.AppendString(nil, "eve")); status != wire.StatusForbidden {
		t.Errorf("challenge for nobody: %s", status)
	}
	for _, body := range [][]byte{nil, {0}, {0, 5, 1}} {
		for op := ceremony.OpChallenge; op <= ceremony.OpAct; op++ {
			if status, _ := m.ask(op, body); status != wire.StatusMalformed {
				t.Errorf("op %d, %x: %s", op, body, status)
			}
		}
	}
}

func component(t *testing.T, n byte) (secret, kcv []byte) {
	t.Helper()
	secret = make([]byte, 16)
	for i := range secret {
		secret[i] = n*17 + byte(i)*29
	}
	k, err := key.New(key.TDES, secret)
	if err != nil {
		t.Fatal(err)
	}
	v, err := engine.KCV(&k)
	if err != nil {
		t.Fatal(err)
	}
	return secret, bytes.Clone(v.Bytes())
}

func (m *module) start() (ceremony.View, error) {
	m.t.Helper()
	return m.act("alice", ceremony.ActStart, encode(m.t, ceremony.Opening{Label: "zone", Usage: "K1", Algorithm: "T", Mode: "B", Exportability: "N", Bits: 128, Components: 2}))
}

func (m *module) bring(officer string, n byte) (ceremony.View, error) {
	m.t.Helper()
	secret, kcv := component(m.t, n)
	return m.act(officer, ceremony.ActComponent, ceremony.AppendComponent(nil, secret, kcv))
}

func (m *module) confirm(officer string, v *ceremony.View) (ceremony.View, error) {
	m.t.Helper()
	return m.act(officer, ceremony.ActConfirm, encode(m.t, ceremony.Confirmation{Ceremony: v.Ceremony.ID, KCV: v.Ceremony.KCV}))
}

func TestCeremonyAtTheDesk(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	steps := []func(v *ceremony.View) (ceremony.View, error){
		func(*ceremony.View) (ceremony.View, error) { return m.start() },
		func(*ceremony.View) (ceremony.View, error) { return m.bring("alice", 1) },
		func(*ceremony.View) (ceremony.View, error) { return m.bring("bob", 2) },
		func(v *ceremony.View) (ceremony.View, error) { return m.confirm("alice", v) },
		func(v *ceremony.View) (ceremony.View, error) { return m.confirm("bob", v) },
	}
	var v ceremony.View
	var err error
	for i, step := range steps {
		if v, err = step(&v); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if v.Ceremony.State != "done" || v.Key == nil || v.Key.Block == "" || v.Key.KCV != v.Ceremony.KCV {
		t.Fatalf("%+v", v)
	}
	for _, words := range [][]string{
		{`"ceremony.start"`, `"alice"`, `"allowed"`, "K1 T 128 bits"}, {`"ceremony.component"`, `"bob"`, "combined KCV " + v.Key.KCV}, {`"ceremony.confirm"`, `"bob"`, "confirmed by both officers"},
	} {
		if !m.written(words...) {
			t.Errorf("the audit log has nothing with %q", words)
		}
	}
	secret, _ := component(t, 1)
	if m.written(hex.EncodeToString(secret)) || m.written(strings.ToUpper(hex.EncodeToString(secret))) {
		t.Error("a component is in the audit log")
	}
	status, paper := m.ask(ceremony.OpPaper, nil)
	if status != wire.StatusOK {
		t.Fatalf("%s %s", status, paper)
	}
	script, err := ceremony.VerifyTranscript(paper, &m.signer.key.PublicKey)
	if err != nil || script.Result != "done" || script.Block != v.Key.Block {
		t.Errorf("%+v, %v", script, err)
	}
	content, err := os.ReadFile(filepath.Join(m.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	sequence, hash, _ := strings.Cut(script.Audit, ":")
	if digest, err := audit.ParseDigest(hash); err != nil || !strings.Contains(string(content), `"hash":"`+digest.String()) || sequence == "" {
		t.Errorf("the transcript's place %q is not in the audit log", script.Audit)
	}
}

// What a ceremony is refused for: wiped, and written down.
func TestCeremonyRefused(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(m *module, v *ceremony.View) error
		want error
	}{
		"one alone":      {func(m *module, v *ceremony.View) error { _, err := m.confirm("alice", v); return err }, ceremony.ErrAlone},
		"the same twice": {func(m *module, _ *ceremony.View) error { _, err := m.bring("alice", 2); return err }, ceremony.ErrSame},
		"wrong KCV": {func(m *module, _ *ceremony.View) error {
			secret, _ := component(m.t, 2)
			_, err := m.act("bob", ceremony.ActComponent, ceremony.AppendComponent(nil, secret, []byte{1, 2, 3}))
			return err
		}, ceremony.ErrCheckValue},
		"time gone": {func(m *module, _ *ceremony.View) error {
			m.now = m.now.Add(ceremony.Life)
			m.desk.Tick()
			_, err := m.bring("bob", 2)
			if !errors.Is(err, ceremony.ErrNone) && (err == nil || err.Error() != ceremony.ErrNone.Error()) {
				m.t.Errorf("after the time: %v", err)
			}
			return ceremony.ErrTime
		}, ceremony.ErrTime},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModule(t)
			m.found("alice", "bob")
			if _, err := m.start(); err != nil {
				t.Fatal(err)
			}
			v, err := m.bring("alice", 1)
			if err != nil {
				t.Fatal(err)
			}
			m.expect(c.do(m, &v), c.want.Error())
			if s := m.desk.ceremony.State(); s != ceremony.Aborted {
				t.Errorf("state %s", s)
			}
			if !m.written(`"outcome":"refused"`, c.want.Error()+"; all components wiped") {
				t.Error("not in the audit log")
			}
			if _, paper := m.ask(ceremony.OpPaper, nil); !strings.Contains(string(paper), `"result":"aborted"`) {
				t.Errorf("transcript %s", paper)
			}
		})
	}
}

// Without the audit log nothing goes forward, and what must be wiped is wiped.
func TestNothingWithoutTheAuditLog(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	if _, err := m.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.bring("alice", 1); err != nil {
		t.Fatal(err)
	}
	m.book.fail = errors.New("no space left")
	_, err := m.bring("bob", 2)
	m.expect(err, ErrAudit.Error())
	if s := m.desk.ceremony.State(); s != ceremony.Collecting || len(m.desk.ceremony.Components()) != 1 {
		t.Errorf("state %s", s)
	}
	_, err = m.enrol("alice", "carol")
	m.expect(err, ErrAudit.Error())
	m.now = m.now.Add(ceremony.Life)
	m.desk.Tick()
	if s := m.desk.ceremony.State(); s != ceremony.Aborted {
		t.Errorf("state %s: components outlive their time because a disk is full", s)
	}
}

// Whoever can write files does not become an officer.
func TestRosterCannotBeChangedOrPutBack(t *testing.T) {
	m := newModule(t)
	file := filepath.Join(m.dir, "officers.json")
	m.found("alice")
	early, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m.found("bob")
	newest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"edited": bytes.Replace(newest, []byte(`"bob"`), []byte(`"eve"`), 1), "not a list": []byte("{}"), "empty": {},
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.open(); !errors.Is(err, ceremony.ErrRoster) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(file, early, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.open(); !errors.Is(err, ErrRollback) {
		t.Errorf("put back: %v", err)
	}
	os.Remove(file)
	if err := m.open(); !errors.Is(err, ErrRollback) {
		t.Errorf("removed: %v", err)
	}
	if err := os.WriteFile(file, newest, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.open(); err != nil {
		t.Error(err)
	}
	// The token away: the change is refused, and the log says that it failed.
	m.signer.fail = errors.New("token removed")
	v, err := m.enrol("alice", "carol")
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.approve("bob", v.Asked)
	m.expect(err, "token removed")
	if !m.written(`"outcome":"failed"`, "token removed") || len(m.desk.view().Officers) != 2 {
		t.Error("a change that failed is not written down")
	}
}
