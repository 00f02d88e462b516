package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/hsm"
)

// freeAddress is one on loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// host sends one host command over a raw connection and gives the answer behind
// its header.
func host(t *testing.T, c net.Conn, command string) string {
	t.Helper()
	message := "0000TESTHEADER16" + command
	if _, err := c.Write(append([]byte{byte(len(message) >> 8), byte(len(message))}, message...)); err != nil {
		t.Fatal(err)
	}
	length := make([]byte, 2)
	if _, err := io.ReadFull(c, length); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, int(length[0])<<8|int(length[1]))
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(answer, []byte(message[:16]))
	if !ok {
		t.Fatalf("the header is not given back: %q", answer)
	}
	return string(rest)
}

func (p *place) read(name string) []byte {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// with writes another configuration beside the first.
func (p *place) with(config string) string {
	p.t.Helper()
	p.write("other.yaml", config)
	return filepath.Join(p.dir, "other.yaml")
}

// over is a client that is up.
func (p *place) over(cfg hsm.Config) *hsm.Client {
	p.t.Helper()
	cfg.Timeout = 10 * time.Second
	c, err := hsm.New(cfg, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	p.t.Cleanup(func() { stop(); <-done })
	p.awaitUp(c)
	return c
}

// A client that knows nothing of us speaks host commands over TCP, and what it
// did is in the audit log; then our own client does the same over the same door.
func TestHostCommandsOverTCP(t *testing.T) {
	address := freeAddress(t)
	p := newPlace(t, softConfig+fmt.Sprintf("host: [{address: %q, plain: true}]\n", address))
	p.init()
	p.start()
	p.client("run.sock")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	for command, want := range map[string]string{
		"B20005hello": "B300hello", "NC": "ND000000000000000000", "XX": "XY68", "A0": "A180", "BUFFFSnonsense": "BV10",
		"A00FFFS#K1A3B00N00": "A168", // a zone key is for the ceremony
	} {
		if got := host(t, c, command); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	made := host(t, c, "A00FFFS#P0T2B00E00\x19trailer")
	if !strings.HasPrefix(made, "A100SD") || !strings.HasSuffix(made, "\x19trailer") {
		t.Fatalf("A0: %q", made)
	}
	key := strings.TrimSuffix(strings.TrimPrefix(made, "A100"), "\x19trailer")
	block, check := key[:len(key)-6], key[len(key)-6:]
	if got := host(t, c, "BUFFF"+block); got != "BV00"+check {
		t.Errorf("BU: %q, want %q", got, "BV00"+check)
	}
	if got := host(t, c, "CC"+block+block+"120123456789ABCDEF0101111111111111"); got != "CD20" {
		t.Errorf("a PIN block that holds no PIN: %q", got)
	}
	log := string(p.read(filepath.Join("data", "audit.jsonl")))
	if !strings.Contains(log, `"operation":"key.generate"`) || !strings.Contains(log, "host 127.0.0.1") {
		t.Errorf("the audit log does not have it:\n%s", log)
	}
	own := p.over(hsm.Config{Protocol: hsm.ProtocolPayshield, Endpoints: []hsm.EndpointConfig{{Address: address, PrivateNetwork: true}}})
	if got, err := own.KCV([]byte(block[1:]), 0); err != nil || fmt.Sprintf("%X", got.KCV) != check {
		t.Errorf("our client: %+v, %v", got, err)
	}
	// Not a host command: the connection ends, the module goes on.
	if _, err := c.Write([]byte{0xFF, 0xFF, 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("an impossible length is answered")
	}
	if _, err := own.KCV([]byte(block[1:]), 0); err != nil {
		t.Errorf("after an impossible length: %v", err)
	}
	if out, stderr, code := p.run("serve", "--config", p.with(strings.Replace(softConfig, "data_dir", "profile: production\ndata_dir", 1)+"host: [{address: \"0.0.0.0:1500\", plain: true}]\n")); code == 0 || !strings.Contains(stderr, "host[0].plain: in production only on loopback") {
		t.Errorf("plain in production: %d %s%s", code, out, stderr)
	}
}
