package api

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

const requestLine = "POST /v1/authorizations HTTP/1.1\r\nHost: door\r\n"

// raw opens a connection that speaks for itself.
func (d *door) raw() (net.Conn, *bufio.Reader) {
	d.t.Helper()
	c, err := d.dial()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		d.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// served fails unless the door serves somebody else meanwhile.
func (d *door) served(while string) {
	d.t.Helper()
	if a := d.ask("POST", "/v1/authorizations", goodBody); a.status != 201 {
		d.t.Errorf("while %s: %d %s", while, a.status, a.text)
	}
}

// closed reads an answer's status, and then wants the connection closed.
func closed(t *testing.T, name string, r *bufio.Reader, status int) {
	t.Helper()
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status || response.Header.Get("Content-Type") != problemMedia {
		t.Errorf("%s: %d %s, %v", name, response.StatusCode, body, err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("%s: the connection is still open: %v", name, err)
	}
}

func TestSlowClients(t *testing.T) {
	d := openDoor(t, Config{ReadTimeout: 60 * time.Millisecond, IdleTimeout: 60 * time.Millisecond})
	for _, c := range []struct{ name, first string }{
		{"half a header", requestLine + "Content-Type: applica"},
		{"half a request line", "POST /v1/auth"},
		{"half a body", requestLine + "Content-Length: 500\r\n\r\n{\"merchant\":\"par"},
		{"half a chunk", requestLine + "Transfer-Encoding: chunked\r\n\r\n40\r\n{\"merchant\""},
		{"no end of chunks", requestLine + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"},
	} {
		conn, reader := d.raw()
		if _, err := io.WriteString(conn, c.first); err != nil {
			t.Fatal(err)
		}
		d.served(c.name)
		closed(t, c.name, reader, 408)
	}
}

// TestTrickle: a byte now and then does not prolong the time to read.
func TestTrickle(t *testing.T) {
	d := openDoor(t, Config{ReadTimeout: 100 * time.Millisecond})
	conn, reader := d.raw()
	if _, err := io.WriteString(conn, requestLine+"Content-Length: 4000\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := conn.Write([]byte{' '}); err != nil {
					return
				}
			}
		}
	}()
	defer close(stop)
	d.served("a body trickles")
	closed(t, "trickle", reader, 408)
}

func TestSilentClient(t *testing.T) {
	d := openDoor(t, Config{ReadTimeout: 30 * time.Millisecond})
	_, reader := d.raw()
	d.served("a client is silent")
	if _, err := io.ReadAll(reader); err != nil {
		t.Errorf("the silent connection is still open: %v", err)
	}
}

func TestEndlessBody(t *testing.T) {
	d := openDoor(t, Config{BodyBytes: 2048})
	conn, reader := d.raw()
	go func(conn net.Conn) {
		_, _ = io.WriteString(conn, requestLine+"Transfer-Encoding: chunked\r\n\r\n")
		for {
			if _, err := io.WriteString(conn, "100\r\n"+strings.Repeat(" ", 256)+"\r\n"); err != nil {
				return
			}
		}
	}(conn)
	d.served("a body does not end")
	closed(t, "endless", reader, 413)

	conn, reader = d.raw()
	if _, err := io.WriteString(conn, requestLine+"Content-Length: 999999999999\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	closed(t, "announced", reader, 413)
}

func TestNotHTTP(t *testing.T) {
	d := openDoor(t, Config{})
	for _, text := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"GET\r\n\r\n",
		requestLine + "Content-Length: -1\r\n\r\n",
		requestLine + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		requestLine + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		conn, reader := d.raw()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		closed(t, fmt.Sprintf("%q", text), reader, 400)
	}
	d.served("others talk nonsense")
}

func TestConnectionLimit(t *testing.T) {
	d := openDoor(t, Config{Connections: 2})
	var open []net.Conn
	for range 2 {
		conn, _ := d.raw()
		if _, err := io.WriteString(conn, "GET /v1/whoami HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer "+testKey+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 200 {
			t.Fatalf("within the limit: %v %v", response, err)
		}
		open = append(open, conn)
	}
	_, reader := d.raw()
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 503 {
		t.Fatalf("over the limit: %v %v", response, err)
	}
	for _, c := range open {
		c.Close()
	}
	for range 1000 { // the workers end when they see the close
		conn, reader := d.raw()
		_, _ = io.WriteString(conn, "GET /v1/whoami HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer "+testKey+"\r\n\r\n")
		if response, err := http.ReadResponse(reader, nil); err == nil && response.StatusCode == 200 {
			conn.Close()
			return
		}
		conn.Close()
	}
	t.Error("a closed connection's place was not given back")
}

func TestConnectionsPerAddress(t *testing.T) {
	server, err := New(Config{ConnectionsPerAddress: 1}, testDeps(t, newFakes(), io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	status := func() (int, net.Conn) {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /v1/links HTTP/1.1\r\nHost: door\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, conn
	}
	first, conn := status()
	second, other := status()
	if first != 401 || second != 429 {
		t.Errorf("the first connection got %d, the second %d", first, second)
	}
	conn.Close()
	other.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRequestsInWork: beyond the limit an answer at once, none of it queued.
func TestRequestsInWork(t *testing.T) {
	d := openDoor(t, Config{Requests: 1})
	entered, leave := make(chan struct{}), make(chan struct{})
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		close(entered)
		<-leave
		*out = testPayment(a)
		return nil
	}
	first := make(chan answer, 1)
	go func() { first <- d.ask("POST", "/v1/authorizations", goodBody) }()
	<-entered
	if a := d.ask("GET", "/v1/whoami", ""); a.status != 503 || a.json["code"] != "overloaded" || a.header.Get("Retry-After") == "" {
		t.Errorf("the second: %d %s", a.status, a.text)
	}
	close(leave)
	if a := <-first; a.status != 201 {
		t.Errorf("the first: %d %s", a.status, a.text)
	}
	if a := d.ask("GET", "/v1/whoami", ""); a.status != 200 {
		t.Errorf("after it: %d %s", a.status, a.text)
	}
}

// TestShutdown: a request in work is answered, and nobody new is let in.
func TestShutdown(t *testing.T) {
	d := openDoor(t, Config{})
	entered, leave := make(chan struct{}), make(chan struct{})
	d.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		close(entered)
		<-leave
		*out = testPayment(a)
		return nil
	}
	first := make(chan answer, 1)
	go func() { first <- d.ask("POST", "/v1/authorizations", goodBody) }()
	<-entered
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.server.Shutdown(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a shutdown that may not wait: %v", err)
	}
	if c, err := d.dial(); err == nil {
		c.Close()
		t.Error("a connection was let in after the shutdown began")
	}
	close(leave)
	if a := <-first; a.status != 201 {
		t.Errorf("the request in work: %d %s", a.status, a.text)
	}
}

func TestTLS(t *testing.T) {
	certificate, key := testCertificate(t)
	d := openDoor(t, Config{CertificateFile: certificate, KeyFile: key})
	conn, err := d.dial()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(content)
	secure := tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: "door", MinVersion: tls.VersionTLS12})
	_, err = fmt.Fprintf(secure, "POST /v1/authorizations HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer %s\r\nIdempotency-Key: k\r\n"+
		"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", testKey, len(goodBody), goodBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil || response.StatusCode != 201 {
		t.Errorf("over TLS: %v %v", response, err)
	}
	secure.Close()
	plain, reader := d.raw()
	if _, err := io.WriteString(plain, "GET /v1/whoami HTTP/1.1\r\nHost: door\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(reader); strings.Contains(string(b), "gateway") {
		t.Errorf("a plain request was served: %q", b)
	}
}

// testCertificate writes a certificate for "door" and its key.
func testCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"door"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("door.crt", "CERTIFICATE", der), write("door.key", "PRIVATE KEY", privateDER)
}

// TestValidate reports all faults of a configuration at once.
func TestValidate(t *testing.T) {
	bad := Config{
		CertificateFile: "x", Budget: -1, BodyBytes: 10, HeaderBytes: 1 << 20, Connections: -1, ReadTimeout: time.Hour, KeyBytes: 256, PageSize: 1001,
	}
	if faults := bad.Validate(); len(faults) != 8 {
		t.Errorf("%d faults, want 8: %v", len(faults), faults)
	}
	good := Config{}
	if faults := good.Validate(); len(faults) != 0 {
		t.Errorf("the zero configuration: %v", faults)
	}
	if _, err := New(bad, Deps{}); !errors.Is(err, ErrTLS) || !errors.Is(err, ErrTooSmall) {
		t.Errorf("New took it: %v", err)
	}
	if _, err := New(Config{CertificateFile: "/nowhere", KeyFile: "/nowhere"}, Deps{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("New took a missing certificate: %v", err)
	}
}
