// Package peer is the network between the members of a cluster: one listener
// and mutual TLS 1.3, several kinds of stream told apart by ALPN.
//
// A member's certificate carries its node's name as its only DNS name, signed
// by the cluster's own authority. Whoever dials an address expects the name of
// the node that lives there; whoever is dialed takes only names that its owner
// admits. Files are read again when they change: no restart renews a
// certificate. It knows nothing of what travels. Built by cmd, used by store.
package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Errors of a handshake that succeeded and is refused all the same.
var (
	// ErrStranger is a certificate of the right authority whose node is none of
	// ours.
	ErrStranger = errors.New("the certificate's node is not a member")
	// ErrNoStream is a peer that asks for a kind of stream nobody serves here.
	ErrNoStream = errors.New("no such stream")
)

// Stream is a kind of connection.
type Stream string

// Config says where to listen and which files prove who we are.
type Config struct {
	Listen   string `yaml:"listen"`    // host:port for the other members; empty: this node is alone
	CAFile   string `yaml:"ca_file"`   // the cluster's authority and nobody else's
	CertFile string `yaml:"cert_file"` // its only DNS name is the node's id
	KeyFile  string `yaml:"key_file"`  // mode 0600
}

// Deps are what a mesh takes from its owner.
type Deps struct {
	// Admit says whether a node of that name may open a stream of that kind.
	Admit func(node string, s Stream) bool
	// NodeAt is the name of the node at an address; false: none is known there.
	NodeAt func(address string) (node string, known bool)
	// Dial and Listen are the network; nil: the real one.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Listen func(network, address string) (net.Listener, error)
	Log    *slog.Logger
}

// Limits of a mesh.
const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 64 // at once; more wait in the kernel's queue
	acceptQueue      = 16 // connections of one stream that nobody took yet
)

// Mesh is this node's end of the network.
type Mesh struct {
	cfg      Config
	deps     Deps
	files    *files
	listener net.Listener
	streams  map[Stream]*streamListener
	places   chan struct{}
	running  sync.WaitGroup
	closed   chan struct{}
	once     sync.Once
}

// Dialer dials without listening: for command-line tools, which prove
// themselves with their node's certificate.
type Dialer struct{ m Mesh }

// NewDialer reads the files.
func NewDialer(cfg Config, deps Deps) (*Dialer, error) {
	f, err := openFiles(cfg)
	if err != nil {
		return nil, err
	}
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{}).DialContext
	}
	return &Dialer{m: Mesh{cfg: cfg, deps: deps, files: f}}, nil
}

// Dial is Mesh.Dial.
func (d *Dialer) Dial(ctx context.Context, s Stream, address string) (net.Conn, error) {
	return d.m.Dial(ctx, s, address)
}

// Start listens for the given streams.
func Start(cfg Config, deps Deps, streams ...Stream) (*Mesh, error) {
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{KeepAlive: 5 * time.Second, LocalAddr: from(cfg.Listen)}).DialContext
	}
	if deps.Listen == nil {
		deps.Listen = net.Listen
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	f, err := openFiles(cfg)
	if err != nil {
		return nil, err
	}
	ln, err := deps.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the other members on %s: %w", cfg.Listen, err)
	}
	m := &Mesh{cfg: cfg, deps: deps, files: f, listener: ln, streams: map[Stream]*streamListener{}, places: make(chan struct{}, maxHandshakes), closed: make(chan struct{})}
	for _, s := range streams {
		m.streams[s] = &streamListener{mesh: m, conns: make(chan net.Conn, acceptQueue), over: make(chan struct{})}
	}
	m.running.Go(m.accept)
	return m, nil
}

// from is the address that a node dials from: the one it listens on, so that
// the others' firewalls know it; nil where that is every address.
func from(listen string) net.Addr {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.IsUnspecified() {
		return nil
	}
	return &net.TCPAddr{IP: ip}
}

// Accept is the listener of one stream.
func (m *Mesh) Accept(s Stream) net.Listener { return m.streams[s] }

// Addr is where the mesh listens.
func (m *Mesh) Addr() net.Addr { return m.listener.Addr() }

// Close ends the listener and waits for handshakes under way. Connections that
// were handed out are their owners'.
func (m *Mesh) Close() error {
	var err error
	m.once.Do(func() {
		close(m.closed)
		err = m.listener.Close()
	})
	m.running.Wait()
	return err
}

func (m *Mesh) accept() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			select {
			case <-m.closed:
				return
			case <-time.After(10 * time.Millisecond): // out of descriptors: the next one may succeed
				continue
			}
		}
		select {
		case m.places <- struct{}{}:
		case <-m.closed:
			_ = conn.Close()
			return
		}
		m.running.Go(func() {
			defer func() { <-m.places }()
			if err := m.welcome(conn); err != nil {
				_ = conn.Close()
				m.deps.Log.Warn("a peer is refused", "from", conn.RemoteAddr().String(), "error", err)
			}
		})
	}
}

// welcome shakes hands and hands the connection to its stream.
func (m *Mesh) welcome(conn net.Conn) error {
	secure := tls.Server(conn, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ClientAuth:         tls.RequireAndVerifyClientCert,
		NextProtos:         m.protocols(),
		GetConfigForClient: m.serverConfig,
	})
	if err := secure.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	stream := Stream(secure.ConnectionState().NegotiatedProtocol)
	l := m.streams[stream]
	if l == nil {
		return fmt.Errorf("%w: %q", ErrNoStream, stream)
	}
	name, err := nameOf(secure.ConnectionState().PeerCertificates)
	if err != nil {
		return err
	}
	if m.deps.Admit != nil && !m.deps.Admit(name, stream) {
		return fmt.Errorf("%w: %s asks for %s", ErrStranger, name, stream)
	}
	if err := secure.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return l.give(secure)
}

func (m *Mesh) protocols() []string {
	names := make([]string, 0, len(m.streams))
	for s := range m.streams {
		names = append(names, string(s))
	}
	return names
}

// serverConfig uses the files as they are now.
func (m *Mesh) serverConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	pair, pool, err := m.files.current()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: m.protocols(),
		Certificates: []tls.Certificate{*pair}, ClientCAs: pool, SessionTicketsDisabled: true,
	}, nil
}

// Dial opens a stream to the node at an address, which must prove its name.
func (m *Mesh) Dial(ctx context.Context, s Stream, address string) (net.Conn, error) {
	node, known := m.deps.NodeAt(address)
	if !known {
		return nil, fmt.Errorf("dial %s: %w", address, ErrStranger)
	}
	pair, pool, err := m.files.current()
	if err != nil {
		return nil, err
	}
	conn, err := m.deps.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", node, err)
	}
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{string(s)}, ServerName: node,
		Certificates: []tls.Certificate{*pair}, RootCAs: pool,
	})
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", node, err)
	}
	return secure, nil
}

// Name is the node at the other end of a connection of a mesh.
func Name(conn net.Conn) string {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return ""
	}
	name, err := nameOf(secure.ConnectionState().PeerCertificates)
	if err != nil {
		return ""
	}
	return name
}

func nameOf(chain []*x509.Certificate) (string, error) {
	if len(chain) == 0 || len(chain[0].DNSNames) != 1 {
		return "", fmt.Errorf("%w: the certificate must carry one DNS name, the node's", ErrStranger)
	}
	return chain[0].DNSNames[0], nil
}

// streamListener is one stream's net.Listener.
type streamListener struct {
	mesh  *Mesh
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (l *streamListener) give(conn net.Conn) error {
	select {
	case l.conns <- conn:
		return nil
	case <-l.over:
		return net.ErrClosed
	case <-l.mesh.closed:
		return net.ErrClosed
	}
}

// Accept implements net.Listener.
func (l *streamListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.over:
		return nil, net.ErrClosed
	case <-l.mesh.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: the mesh and its other streams go on.
func (l *streamListener) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr implements net.Listener.
func (l *streamListener) Addr() net.Addr { return l.mesh.listener.Addr() }
