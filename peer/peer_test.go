package peer

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func node(t *testing.T, dir, name string, admit func(string, Stream) bool) *Mesh {
	t.Helper()
	m, err := Start(Config{
		Listen: "127.0.0.1:0", CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, name+".pem"), KeyFile: filepath.Join(dir, name+".key"),
	}, Deps{Admit: admit, NodeAt: func(a string) (string, bool) { return "n1", true }}, "raft", "commands")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func issued(t *testing.T, now time.Time, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := Issue(dir, rand.Reader, now, names...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func echo(t *testing.T, l net.Listener) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
}

func reaches(m *Mesh, s Stream, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := m.Dial(ctx, s, address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	// TLS 1.3: a server refuses a client's certificate after the client's side
	// of the handshake is over, so only an answer proves that it did not.
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

func TestWhoIsLetIn(t *testing.T) {
	now := time.Now()
	dir, other := issued(t, now, "n1", "n2", "n9"), issued(t, now, "n1", "n2")
	expired := issued(t, now.Add(-2*365*24*time.Hour), "n2")
	// The expired one is signed by the right authority.
	for _, f := range []string{"ca.pem", "ca.key"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(expired, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(expired, "n2.pem")); err != nil {
		t.Fatal(err)
	}
	if err := Issue(expired, rand.Reader, now.Add(-2*365*24*time.Hour), "n2"); err != nil {
		t.Fatal(err)
	}
	server := node(t, dir, "n1", func(name string, _ Stream) bool { return name != "n9" })
	echo(t, server.Accept("raft"))
	at := server.Addr().String()
	for _, c := range []struct {
		what string
		from *Mesh
		ok   bool
	}{
		{"a member", node(t, dir, "n2", nil), true},
		{"the right authority, another node", node(t, dir, "n9", nil), false},
		{"another authority", node(t, other, "n2", nil), false},
		{"an expired certificate", node(t, expired, "n2", nil), false},
	} {
		if err := reaches(c.from, "raft", at); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := reaches(node(t, dir, "n2", nil), "handover", at); err == nil {
		t.Error("a stream that nobody serves is served")
	}
	for what, cfg := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{"raft"}},
		"TLS 1.2":        {InsecureSkipVerify: true, NextProtos: []string{"raft"}, MaxVersion: tls.VersionTLS12},
	} {
		c, err := tls.Dial("tcp", at, cfg)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		if err == nil {
			t.Errorf("%s is let in", what)
		}
	}
}

func TestDialedNodeProvesItsName(t *testing.T) {
	dir := issued(t, time.Now(), "n1", "n2", "n3")
	impostor := node(t, dir, "n3", nil)
	echo(t, impostor.Accept("raft"))
	if err := reaches(node(t, dir, "n2", nil), "raft", impostor.Addr().String()); err == nil {
		t.Error("n3 passes for n1")
	}
}

func TestRenewedCertificateIsUsed(t *testing.T) {
	dir := issued(t, time.Now(), "n1", "n2")
	server := node(t, dir, "n1", nil)
	first, _, err := server.files.current()
	if err != nil {
		t.Fatal(err)
	}
	// A broken file changes nothing.
	path := filepath.Join(dir, "n1.pem")
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.files.looked = time.Time{}
	if same, _, _ := server.files.current(); same != first {
		t.Error("a half-written file is used")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := Issue(dir, rand.Reader, time.Now(), "n1"); err != nil {
		t.Fatal(err)
	}
	server.files.looked = time.Time{}
	if renewed, _, _ := server.files.current(); string(renewed.Certificate[0]) == string(first.Certificate[0]) {
		t.Error("the renewed certificate is not used")
	}
	echo(t, server.Accept("commands"))
	if err := reaches(node(t, dir, "n2", nil), "commands", server.Addr().String()); err != nil {
		t.Error(err)
	}
}
