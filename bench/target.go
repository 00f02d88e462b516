package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Errors of a target's address and key.
var (
	ErrNoAPI      = errors.New("no API address")
	ErrAddress    = errors.New("not an http or https address")
	ErrEmptyKey   = errors.New("the key is empty")
	ErrNoMerchant = errors.New("the key is for no merchant")
)

// Dial opens a connection: net.Dialer's DialContext, or a test's.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// target is one node's HTTP door.
type target struct {
	base    string // as given, without a trailing slash: http://127.0.0.1:8080
	host    string // for the Host header and for TLS
	address string // host:port to dial
	secure  bool
}

// parseTargets reads the addresses of --api.
func parseTargets(addresses []string) ([]target, error) {
	var out []target
	for _, a := range addresses {
		a = strings.TrimRight(strings.TrimSpace(a), "/")
		if a == "" {
			continue
		}
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Path != "" {
			return nil, fmt.Errorf("%q: %w", a, ErrAddress)
		}
		t := target{base: a, host: u.Host, address: u.Host, secure: u.Scheme == "https"}
		if u.Port() == "" {
			port := "80"
			if t.secure {
				port = "443"
			}
			t.address = net.JoinHostPort(u.Hostname(), port)
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, ErrNoAPI
	}
	return out, nil
}

// dial connects to the target, with TLS where its address says https.
func (t *target) dial(dial Dial, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := dial(ctx, "tcp", t.address)
	if err != nil || !t.secure {
		return conn, err
	}
	host, _, err := net.SplitHostPort(t.address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(conn, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", t.address, err)
	}
	return secured, nil
}

// Key reads an API key as the command line gives it: itself, or @FILE.
func Key(given string) (string, error) {
	if name, isFile := strings.CutPrefix(given, "@"); isFile {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("key file: %w", err)
		}
		given = string(content)
	}
	given = strings.TrimSpace(given)
	if given == "" || strings.ContainsAny(given, "\r\n") {
		return "", ErrEmptyKey
	}
	return given, nil
}
