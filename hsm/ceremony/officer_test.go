package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"authswitch/hsm/wire"
)

func officer(t testing.TB, name string) (Officer, Credential) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := FromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return Officer{Name: name, Kind: ByKey, Public: public}, c
}

func TestRoster(t *testing.T) {
	r := &Roster{}
	a, _ := officer(t, "alice")
	b, _ := officer(t, "bob")
	c, _ := officer(t, "carol")
	var err error
	for i, o := range []Officer{a, b, c} {
		if r.Founding() != (i < Founders) {
			t.Errorf("%d officers: founding %v", i, r.Founding())
		}
		if r, err = r.Enrol(o, epoch, "x", "y"); err != nil {
			t.Fatal(err)
		}
	}
	twin := a
	twin.Name = "alice2"
	for name, o := range map[string]Officer{"same name": a, "same key": twin} {
		if _, err := r.Enrol(o, epoch); !errors.Is(err, ErrEnrolled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "a", "Alice", "1a", "a b", "a\n", strings.Repeat("a", 33), "zoë"} {
		o, _ := officer(t, name)
		if _, err := r.Enrol(o, epoch); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := r.Remove("dave"); !errors.Is(err, ErrNoOfficer) {
		t.Error(err)
	}
	less, err := r.Remove("bob")
	if err != nil || len(less.Officers) != 2 || len(r.Officers) != 3 || less.Version != 4 {
		t.Errorf("%+v, %v", less, err)
	}
	if _, err := less.Remove("alice"); !errors.Is(err, ErrFew) {
		t.Error(err)
	}
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeRoster(text)
	if err != nil || len(again.Officers) != 3 || again.Officers[2].By[1] != "y" {
		t.Errorf("%+v, %v", again, err)
	}
	for _, bad := range []string{"", "{", `{"officers":[{"name":"alice"}]}`, `{"other":1}`} {
		if _, err := DecodeRoster([]byte(bad)); !errors.Is(err, ErrRoster) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	full := r
	for i := 0; ; i++ {
		o, _ := officer(t, fmt.Sprintf("officer-%d", i))
		next, err := full.Enrol(o, epoch)
		if err != nil {
			if !errors.Is(err, ErrFull) || len(full.Officers) != maxOfficers {
				t.Errorf("%d officers: %v", len(full.Officers), err)
			}
			break
		}
		full = next
	}
}

func TestProofIsOfOneAction(t *testing.T) {
	o, c := officer(t, "alice")
	other, _ := officer(t, "alice")
	nonce := bytes.Repeat([]byte{7}, NonceBytes)
	body := []byte("component")
	sign := c.Prove(nonce, "alice", "ceremony.component", body)
	if err := o.Proven(nonce, "ceremony.component", body, sign); err != nil {
		t.Error(err)
	}
	bob := o
	bob.Name = "bob"
	for name, err := range map[string]error{
		"other nonce":   o.Proven(bytes.Repeat([]byte{8}, NonceBytes), "ceremony.component", body, sign),
		"other action":  o.Proven(nonce, "ceremony.confirm", body, sign),
		"other body":    o.Proven(nonce, "ceremony.component", body[1:], sign),
		"moved border":  o.Proven(nonce, "ceremony.componentc", body[1:], sign),
		"other officer": bob.Proven(nonce, "ceremony.component", body, sign),
		"other key":     other.Proven(nonce, "ceremony.component", body, sign),
		"no signature":  o.Proven(nonce, "ceremony.component", body, nil),
		"short nonce":   o.Proven(nonce[:8], "ceremony.component", body, sign),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := fmt.Sprintf("%v %+v %x", c, c, c); strings.Trim(got, "[hiden] ") != "" {
		t.Errorf("a credential prints as %s", got)
	}
	c.Wipe()
	if c.private != nil {
		t.Error("not wiped")
	}
}

func TestPassphrase(t *testing.T) {
	s := NewStretch(bytes.Repeat([]byte{1}, SaltBytes))
	s.KiB = minStretchKiB // the test's patience
	one, err := FromPassphrase([]byte("correct horse battery"), s)
	if err != nil {
		t.Fatal(err)
	}
	same, err := FromPassphrase([]byte("correct horse battery"), s)
	if err != nil || !bytes.Equal(one.Public(), same.Public()) {
		t.Errorf("the same passphrase is another officer: %v", err)
	}
	if other, err := FromPassphrase([]byte("correct horse batterY"), s); err != nil || bytes.Equal(one.Public(), other.Public()) {
		t.Errorf("another passphrase is the same officer: %v", err)
	}
	salted := s
	salted.Salt = bytes.Repeat([]byte{2}, SaltBytes)
	if other, err := FromPassphrase([]byte("correct horse battery"), salted); err != nil || bytes.Equal(one.Public(), other.Public()) {
		t.Errorf("another salt is the same officer: %v", err)
	}
	if _, err := FromPassphrase([]byte("short"), s); !errors.Is(err, ErrPassphrase) {
		t.Error(err)
	}
	for _, bad := range []Stretch{{}, {Salt: s.Salt, Passes: 1, KiB: 1, Threads: 1}, {Salt: s.Salt, Passes: 1, KiB: 1 << 30, Threads: 1}, {Salt: s.Salt, Passes: 1 << 30, KiB: minStretchKiB, Threads: 1}} {
		if _, err := FromPassphrase([]byte("correct horse battery"), bad); !errors.Is(err, ErrStretch) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestApprovals(t *testing.T) {
	var a Approvals
	p, err := a.Ask(Pending{Action: "officer.enrol", Object: "carol", By: "alice", Asked: epoch})
	if err != nil || p.ID != 1 {
		t.Fatal(p, err)
	}
	for by, want := range map[string]error{"alice": ErrSame, "carol": ErrSelf, "bob": nil} {
		if _, err := a.Approve(1, by, epoch); !errors.Is(err, want) {
			t.Errorf("%s: %v", by, err)
		}
	}
	if _, err := a.Approve(2, "bob", epoch); !errors.Is(err, ErrNoPending) {
		t.Error(err)
	}
	if _, err := a.Approve(1, "bob", epoch.Add(Life)); !errors.Is(err, ErrTime) {
		t.Error(err)
	}
	if gone := a.Expire(epoch.Add(Life - 1)); len(gone) != 0 {
		t.Error("too early")
	}
	if gone := a.Expire(epoch.Add(Life)); len(gone) != 1 || len(a.Waiting(epoch)) != 0 {
		t.Error("not forgotten")
	}
	for range maxPending {
		if _, err := a.Ask(Pending{Asked: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Ask(Pending{Asked: epoch}); !errors.Is(err, ErrManyPending) {
		t.Error(err)
	}
	if _, err := a.Ask(Pending{Asked: epoch.Add(Life)}); err != nil {
		t.Errorf("the old ones make room: %v", err)
	}
}

func TestTranscriptIsSigned(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(begin(&Request{ID: "c1", Label: "<zone>"}, time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	digest := Digest(text)
	signature, err := ecdsa.SignASN1(rand.Reader, k, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.MarshalIndent(Signed{text, "audit/1", signature}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifyTranscript(file, &k.PublicKey); err != nil || got.Label != "<zone>" {
		t.Errorf("%+v, %v", got, err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyTranscript(file, &other.PublicKey); !errors.Is(err, ErrTranscript) {
		t.Error(err)
	}
	if _, err := VerifyTranscript(bytes.Replace(file, []byte("c1"), []byte("c2"), 1), &k.PublicKey); !errors.Is(err, ErrTranscript) {
		t.Error(err)
	}
}

func FuzzReadAct(f *testing.F) {
	a := Act{Nonce: []byte{1}, Officer: "alice", Action: ActStart, Signature: []byte{2}, Payload: AppendComponent(nil, []byte{3}, []byte{4})}
	f.Add(a.Append(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		fields := wire.Read(body)
		got, err := ReadAct(&fields)
		if err == nil && !bytes.Equal(got.Append(nil), body) {
			t.Error("reads as another")
		}
		if component, kcv, err := ReadComponent(body); err == nil && !bytes.Equal(AppendComponent(nil, component, kcv), body) {
			t.Error("component reads as another")
		}
	})
}
