package auditcmd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/hsm/audit"
)

type signer struct{ key *ecdsa.PrivateKey }

func (s signer) Sign(digest [32]byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, s.key, digest[:])
}

// book writes a log of two files and the public key.
func book(t *testing.T) (files []string, public string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	l, err := audit.Open(path, audit.Options{Now: time.Now, Signer: signer{k}, KeyName: "audit/1", Public: &k.PublicKey, SegmentBytes: 1500})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := l.Append(audit.Event{Actors: []string{"alice"}, Operation: "key.import", Object: "zone", Outcome: audit.Allowed}); err != nil {
			t.Fatal(err)
		}
		if l.Head().Sequence == 8 {
			if _, err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public = filepath.Join(dir, "audit-1.pem")
	if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := filepath.Glob(filepath.Join(dir, "audit-0*.jsonl"))
	if err != nil || len(closed) == 0 {
		t.Fatalf("no closed file: %v, %v", closed, err)
	}
	return append(closed, path), public
}

func verify(args ...string) (string, error) {
	var out bytes.Buffer
	c := Command()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(append([]string{"verify"}, args...))
	err := c.Execute()
	return out.String(), err
}

func TestVerify(t *testing.T) {
	files, public := book(t)
	first, last := files[0], files[len(files)-1]
	out, err := verify("--file", first, "--file", last, "--public-key", public)
	if err != nil || !strings.Contains(out, "ok: entries 1 to 9; 1 checkpoints signed by the audit key, up to entry 9") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = verify("--file", last)
	if !errors.Is(err, errFaults) || !strings.Contains(out, "entry 1 deleted (line 1): and all up to 9 are missing") || !strings.Contains(out, "NOT checked") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = verify("--file", last, "--partial", "--json"); err != nil || !strings.HasPrefix(out, `{"ok":true,"files":[{"file":`) {
		t.Errorf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.SplitAfter(content, []byte("\n"))
	write := func(b []byte) {
		if err := os.WriteFile(last, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bytes.Join(whole[:1], nil))
	out, err = verify("--file", first, "--file", last, "--public-key", public)
	if !errors.Is(err, errFaults) || !strings.Contains(out, "entry 11 truncated (line 2): the book ends before it, but entry") {
		t.Errorf("%v\n%s", err, out)
	}
	write(bytes.Replace(content, []byte("alice"), []byte("carol"), 1))
	out, err = verify("--file", first, "--file", last, "--public-key", public)
	if !errors.Is(err, errFaults) || !strings.Contains(out, "entry 10 edited (line 1): its hash is not its own") {
		t.Errorf("%v\n%s", err, out)
	}
	write(content)
	_, other := book(t)
	out, err = verify("--file", first, "--file", last, "--public-key", other)
	if !errors.Is(err, errFaults) || !strings.Contains(out, "forged") || !strings.Contains(out, "head file's signature") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestVerifyWords(t *testing.T) {
	files, public := book(t)
	for _, args := range [][]string{{"--file", files[0], "--known", "12"}, {"--file", files[0], "--known", "x:00"}, {"--file", files[0], "--known", "1:00"}} {
		if _, err := verify(args...); !errors.Is(err, ErrUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{}, {"--file", files[0] + "x"}, {"--file", files[0], "--public-key", files[0]}, {"--file", files[0], "--public-key", public + "x"}} {
		if _, err := verify(args...); err == nil || errors.Is(err, errFaults) {
			t.Errorf("%v: %v", args, err)
		}
	}
	zeros := strings.Repeat("0", 64)
	if out, err := verify("--file", files[0], "--known", "5:"+zeros); !errors.Is(err, errFaults) || !strings.Contains(out, "entry 5 edited") {
		t.Errorf("%v\n%s", err, out)
	}
}
