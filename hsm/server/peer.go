package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// ErrPeer is a client that may not.
var ErrPeer = errors.New("this peer may not")

// UnixPeers lets in the users of a list, and names them by their number: the
// kernel says who opened the other end.
func UnixPeers(users []uint32) Identify {
	return func(socket net.Conn) (string, error) {
		u, ok := socket.(*net.UnixConn)
		if !ok {
			return "", fmt.Errorf("%w: not a Unix socket", ErrPeer)
		}
		uid, pid, err := credentials(u)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrPeer, err)
		}
		if !slices.Contains(users, uid) {
			return "", fmt.Errorf("%w: user %d (process %d) is not among the users of this socket", ErrPeer, uid, pid)
		}
		return fmt.Sprintf("uid %d", uid), nil
	}
}

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 5 * time.Second

// TLSPeers lets in whoever holds a certificate of the listener's own authority
// with one of these names, and names it by that.
func TLSPeers(names []string) Identify {
	return func(socket net.Conn) (string, error) {
		t, ok := socket.(*tls.Conn)
		if !ok {
			return "", fmt.Errorf("%w: not a TLS connection", ErrPeer)
		}
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return "", fmt.Errorf("%w: %w", ErrPeer, err)
		}
		certificate := t.ConnectionState().PeerCertificates[0] // the configuration requires one
		for _, name := range append(slices.Clone(certificate.DNSNames), certificate.Subject.CommonName) {
			if name != "" && slices.Contains(names, name) {
				return name, nil
			}
		}
		return "", fmt.Errorf("%w: its certificate is of %q, none of the names of this listener", ErrPeer, certificate.Subject.CommonName)
	}
}

// TLSConfig is mutual TLS 1.3 with an authority of its own; there is no other.
func TLSConfig(caFile, certFile, keyFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate", caFile)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file and key_file: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority,
		// A resumed session would not ask for the certificate again.
		SessionTicketsDisabled: true,
	}, nil
}
