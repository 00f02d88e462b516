package desk

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"authswitch/hsm/ceremony"
	"authswitch/hsm/wire"
)

// keyAct asks for something to be done to keys.
func (m *module) keyAct(officer string, action ceremony.Action, fields string) (ceremony.View, error) {
	m.t.Helper()
	return m.act(officer, action, encode(m.t, ceremony.KeyRequest{Label: "cb-a", Fields: []byte(fields)}))
}

// Every operation on keys: asked by one, done on the word of another, once.
func TestKeysByTwo(t *testing.T) {
	for _, c := range []struct {
		action ceremony.Action
		op     wire.Op
		gives  string
	}{
		{ceremony.ActGenerate, wire.OpGenerate, "a block"},
		{ceremony.ActImport, wire.OpImport, "a block"},
		{ceremony.ActBindTable, wire.OpBindTable, "a block"},
		{ceremony.ActExport, wire.OpExport, "C0FF"},
		{ceremony.ActCreateMaster, wire.OpNewMaster, ""},
		{ceremony.ActDestroyMaster, wire.OpRetireMaster, ""},
	} {
		t.Run(string(c.action), func(t *testing.T) {
			m := newModule(t)
			m.found("alice", "bob")
			if op, ok := ceremony.KeyOperation(c.action); !ok || op != c.op || ceremony.KeyAction(op) != c.action {
				t.Errorf("%s is operation %s", c.action, op)
			}
			v, err := m.keyAct("alice", c.action, "x")
			if err != nil || v.Asked == nil || len(m.keys.done) != 0 {
				t.Fatalf("%+v, %v, done %v", v, err, m.keys.done)
			}
			if !m.written(`"`+string(c.action)+`"`, `["alice"]`, "cb-a: "+c.op.String()+" of x", "a second officer must approve") {
				t.Error("what was asked is not in the audit log")
			}
			asked := *v.Asked
			if v, err = m.approve("bob", &asked); err != nil || v.Done == nil {
				t.Fatalf("%+v, %v", v, err)
			}
			if want := c.op.String() + " of x by [alice bob]"; len(m.keys.done) != 1 || m.keys.done[0] != want {
				t.Errorf("done %q, want %q", m.keys.done, want)
			}
			got := v.Done.Sent
			if v.Done.Key != nil {
				got = v.Done.Key.Block
				w, err := ceremony.VerifyWarrant(v.Done.Paper, &m.signer.key.PublicKey)
				if err != nil || w.Label != "cb-a" || w.Attributes != "P0TBE" || w.KCV != "ABCDEF" || w.Block != "a block" || !slices.Equal(w.Officers, []string{"alice", "bob"}) {
					t.Errorf("warrant %+v, %v", w, err)
				}
				edited := strings.Replace(string(v.Done.Paper), "bob", "eve", 1)
				if _, err := ceremony.VerifyWarrant([]byte(edited), &m.signer.key.PublicKey); !errors.Is(err, ceremony.ErrWarrant) {
					t.Errorf("an edited warrant: %v", err)
				}
			}
			if got != c.gives {
				t.Errorf("gives %q, want %q", got, c.gives)
			}
			_, err = m.approve("bob", &asked)
			m.expect(err, "nothing of this number")
		})
	}
}

// One alone, the same twice, ten minutes gone, somebody who left, another thing
// than was shown: refused, wiped, written down, and nothing done.
func TestKeysRefused(t *testing.T) {
	for name, c := range map[string]struct {
		second func(m *module, p *ceremony.PendingView) error
		want   string
		gone   bool
	}{
		"the same twice": {func(m *module, p *ceremony.PendingView) error { _, err := m.approve("alice", p); return err }, "the same officer twice", true},
		"ten minutes gone": {func(m *module, p *ceremony.PendingView) error {
			m.now = m.now.Add(ceremony.Life)
			m.desk.Tick()
			if _, err := m.approve("bob", p); err == nil {
				m.t.Error("approved after its time")
			}
			return ceremony.ErrTime
		}, "ten minutes are over", true},
		"no officer": {func(m *module, p *ceremony.PendingView) error {
			m.people["bob"] = m.people["alice"]
			_, err := m.approve("bob", p)
			return err
		}, "this is not the officer", false},
		"another thing": {func(m *module, p *ceremony.PendingView) error {
			other := *p
			other.Object = "something nice"
			_, err := m.approve("bob", &other)
			return err
		}, "it is another than the one that was shown", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModule(t)
			m.found("alice", "bob")
			v, err := m.keyAct("alice", ceremony.ActExport, "a key block")
			if err != nil {
				t.Fatal(err)
			}
			m.expect(c.second(m, v.Asked), c.want)
			if len(m.keys.done) != 0 {
				t.Errorf("done all the same: %v", m.keys.done)
			}
			if !m.written(`"outcome":"refused"`, c.want) {
				t.Error("not in the audit log")
			}
			if left := m.desk.view().Pending; (len(left) == 0) != c.gone {
				t.Errorf("%d wait", len(left))
			}
		})
	}
}

// What was refused or forgotten is overwritten, not only dropped.
func TestPendingIsWiped(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	v, err := m.keyAct("alice", ceremony.ActImport, "a cryptogram")
	if err != nil {
		t.Fatal(err)
	}
	kept := m.desk.approvals.Waiting(m.now)[0].Payload
	if len(kept) == 0 {
		t.Fatal("nothing was kept")
	}
	_, err = m.approve("alice", v.Asked)
	m.expect(err, "the same officer twice")
	if slices.ContainsFunc(kept, func(b byte) bool { return b != 0 }) {
		t.Errorf("left behind: %q", kept)
	}
}

// What cannot be done is refused when it is asked; what fails is not done later.
func TestKeysThatFail(t *testing.T) {
	m := newModule(t)
	m.found("alice", "bob")
	_, err := m.keyAct("alice", ceremony.ActGenerate, "nonsense")
	m.expect(err, wire.ErrFields.Error())
	_, err = m.act("alice", ceremony.ActGenerate, []byte("no JSON"))
	m.expect(err, ceremony.ErrMessage.Error())
	_, err = m.act("alice", ceremony.ActGenerate, encode(t, ceremony.KeyRequest{Label: strings.Repeat("x", maxLabel+1)}))
	m.expect(err, "a label of at most")
	v, err := m.keyAct("alice", ceremony.ActGenerate, "x")
	if err != nil {
		t.Fatal(err)
	}
	m.keys.fail = errors.New("token is out")
	_, err = m.approve("bob", v.Asked)
	m.expect(err, "token is out")
	m.keys.fail = nil
	_, err = m.approve("bob", v.Asked)
	m.expect(err, "nothing of this number")
	if len(m.keys.done) != 0 {
		t.Errorf("done: %v", m.keys.done)
	}
}

// Two are needed since two are enrolled; in production from the first day.
func TestWhenTwoAreNeeded(t *testing.T) {
	m := newModule(t)
	for i, want := range []bool{false, false, true} {
		if got := m.desk.Dual(); got != want {
			t.Errorf("%d officers: %t", i, got)
		}
		if i < 2 {
			m.found([]string{"alice", "bob"}[i])
		}
	}
	if err := m.open(); err != nil || !m.desk.Dual() {
		t.Errorf("after a restart: %v", err)
	}
	p := newModule(t)
	p.production = true
	if err := p.open(); err != nil || !p.desk.Dual() {
		t.Errorf("production: %v", err)
	}
	var v ceremony.View
	status, text := p.ask(ceremony.OpView, nil)
	if json.Unmarshal(text, &v) != nil || status != wire.StatusOK || !v.Dual || !v.Founding {
		t.Errorf("%s %s", status, text)
	}
}

// The first two officers are not whoever comes first: each needs a code that the
// installer has, and a code is good once.
func TestFoundersNeedACode(t *testing.T) {
	m := newModule(t)
	found := func(name, code string) error {
		_, err := m.act(name, ceremony.ActEnrol, encode(t, ceremony.Enrolment{Officer: m.credential(name), Code: code}))
		return err
	}
	m.expect(found("mallory", ""), ErrCode.Error())
	m.expect(found("mallory", "FIRSTCODF"), ErrCode.Error())
	if !m.written(`["mallory"]`, `"officer.enrol"`, `"refused"`, "none of the enrolment codes") {
		t.Error("not in the audit log")
	}
	if err := found("alice", " first-code "); err != nil {
		t.Fatal(err)
	}
	m.expect(found("mallory", "FIRST-CODE"), ErrCode.Error())
	if err := m.open(); err != nil {
		t.Fatal(err)
	}
	m.expect(found("mallory", "FIRST-CODE"), ErrCode.Error())
	// Guessing locks: the right one too, for a while.
	for range maxFailures {
		m.expect(found("mallory", "guess"), "")
	}
	m.expect(found("bob", "SECONDCODE"), ErrLocked.Error())
	m.now = m.now.Add(lockTime)
	if err := found("bob", "SECONDCODE"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadFile(string(m.codes())); err != nil || len(left) != 0 {
		t.Errorf("codes left: %q, %v", left, err)
	}
	// Nobody becomes a founder afterwards, with whatever code.
	if err := m.codes().Save(Codes("THIRD")); err != nil {
		t.Fatal(err)
	}
	if status, _ := m.ask(ceremony.OpChallenge, wire.AppendString(nil, "mallory")); status != wire.StatusForbidden {
		t.Errorf("a challenge for mallory: %s", status)
	}
}

func TestFoundersWithoutCodes(t *testing.T) {
	m := newModule(t)
	if err := m.codes().Save(nil); err != nil {
		t.Fatal(err)
	}
	_, err := m.act("alice", ceremony.ActEnrol, encode(t, ceremony.Enrolment{Officer: m.credential("alice"), Code: "FIRST-CODE"}))
	m.expect(err, "run")
	m.expect(err, "hsmd init")
	for officers, want := range map[int]int{0: 2, 1: 1, 2: 0, 3: 0} {
		list, err := json.Marshal(ceremony.SignedRoster{Roster: encode(t, ceremony.Roster{Officers: []ceremony.Officer{m.credential("aa"), m.credential("bb"), m.credential("cc")}[:officers]})})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Founders(list); err != nil || got != want {
			t.Errorf("%d officers: %d founders missing, %v; want %d", officers, got, err, want)
		}
	}
	if got, err := Founders(nil); err != nil || got != ceremony.Founders {
		t.Errorf("no list: %d, %v", got, err)
	}
}
