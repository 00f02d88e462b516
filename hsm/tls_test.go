package hsm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/server"
	"authswitch/hsm/wire"
)

// authority signs certificates of the test.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, name: name}
	a.cert, a.key = a.issue(name, nil, time.Now().Add(time.Hour))
	return a
}

// issue makes a certificate and its two files; of an authority when parent is
// nil.
func (a *authority) issue(name string, parent *authority, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	issuer, signer := template, k
	if parent == nil {
		template.IsCA, template.KeyUsage, template.DNSNames = true, x509.KeyUsageCertSign, nil
	} else {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &k.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(a.dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(filepath.Join(a.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, k
}

// TLS is mutual and 1.3, with certificates of the listener's own authority and
// of the names it lets in. Everything else is refused before a frame is read.
func TestMutualTLS(t *testing.T) {
	m := newModule(t, fileRoot(t))
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ours, foreign := newAuthority(t, dir, "our-ca"), newAuthority(t, dir, "other-ca")
	ours.issue("hsm", ours, time.Now().Add(time.Hour))
	ours.issue("node-1", ours, time.Now().Add(time.Hour))
	ours.issue("node-9", ours, time.Now().Add(time.Hour))
	ours.issue("expired", ours, time.Now().Add(-time.Hour))
	foreign.issue("foreign", foreign, time.Now().Add(time.Hour))
	secure, err := server.TLSConfig(file("our-ca.pem"), file("hsm.pem"), file("hsm.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := m.server
	go func() {
		if err := s.Serve(tls.NewListener(l, secure), server.Run, server.TLSPeers([]string{"node-1", "expired", "foreign"})); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}()
	address := l.Addr().String()
	good := hsm.TLSConfig{CAFile: file("our-ca.pem"), CertFile: file("node-1.pem"), KeyFile: file("node-1.key")}
	c := connect(t, hsm.Config{Endpoints: []hsm.EndpointConfig{{Address: address, TLS: &good}}, Timeout: 10 * time.Second})
	a, err := hsm.ParseAttributes("D0ABN")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Generate(a, 32, 0); err != nil || m.book.events[0].Actors[0] != "node-1" {
		t.Fatalf("%v %+v", err, m.book.events)
	}

	pair := func(name string) []tls.Certificate {
		p, err := tls.LoadX509KeyPair(file(name+".pem"), file(name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	for _, c := range []struct {
		name   string
		config *tls.Config
	}{
		{"no certificate", &tls.Config{}},
		{"a certificate of another authority", &tls.Config{Certificates: pair("foreign")}},
		{"an expired certificate", &tls.Config{Certificates: pair("expired")}},
		{"a name that is not let in", &tls.Config{Certificates: pair("node-9")}},
		{"TLS 1.2", &tls.Config{Certificates: pair("node-1"), MaxVersion: tls.VersionTLS12}},
	} {
		c.config.InsecureSkipVerify = true // what is refused is this client, by the server
		if pings(t, address, c.config) {
			t.Errorf("%s is let in", c.name)
		}
	}
	if !pings(t, address, &tls.Config{InsecureSkipVerify: true, Certificates: pair("node-1")}) {
		t.Error("the good one is refused too: the cases above prove nothing")
	}
	// Without TLS, and a server that the client does not know.
	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Write(frame(t, wire.OpPing, 1, 0, nil)); err != nil {
		t.Fatal(err)
	}
	if !ends(plain) {
		t.Error("a plain connection stays")
	}
	stranger := good
	stranger.CAFile = file("other-ca.pem")
	never, err := hsm.New(hsm.Config{Endpoints: []hsm.EndpointConfig{{Address: address, TLS: &stranger}}}, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	never.Run(ctx)
	if e := never.Endpoints()[0]; e.Up || e.Lost != 0 {
		t.Errorf("a client took a server of another authority: %+v", e)
	}
}

// pings says whether a client with this configuration gets an answer.
func pings(t *testing.T, address string, config *tls.Config) bool {
	t.Helper()
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(frame(t, wire.OpPing, 1, 0, nil)); err != nil {
		return false
	}
	n, err := c.Read(make([]byte, 64))
	return err == nil && n > 0
}
