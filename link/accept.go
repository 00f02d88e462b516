package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// acceptor takes the connections that an acquirer opens to this link. Who is not
// among its peers is hung up on before a byte is read. A socket goes to a
// connection that wants one; there are as many of those as the link may have.
type acceptor struct {
	link    *Link
	peers   []netip.Prefix
	arrived chan net.Conn // to whichever connection wants a socket
	places  chan struct{} // of sockets that have none yet
}

// maxArriving is how many sockets may shake hands, or wait for an older one of
// theirs to be judged, at once.
const maxArriving = 16

// Refusals of a peer that connects.
var (
	errStranger = errors.New("its address is not among the link's peers")
	errTooMany  = errors.New("the link has as many connections as it may have")
)

func newAcceptor(l *Link) (*acceptor, error) {
	peers, err := parsePeers(l.cfg.Peers)
	return &acceptor{link: l, peers: peers, arrived: make(chan net.Conn), places: make(chan struct{}, maxArriving)}, err
}

// parsePeers reads addresses and networks.
func parsePeers(texts []string) (peers []netip.Prefix, err error) {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			peers = append(peers, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", text)
		}
		peers = append(peers, p.Masked())
	}
	return peers, nil
}

// listen opens the link's address.
func (a *acceptor) listen() (net.Listener, error) {
	open := a.link.deps.Listen
	if open == nil {
		open = net.Listen
	}
	ln, err := open("tcp", a.link.cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("link %s: listen for the acquirer on %s: %w", a.link.cfg.Name, a.link.cfg.Address, err)
	}
	return ln, nil
}

// run takes sockets until the context ends.
func (a *acceptor) run(ctx context.Context, ln net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		socket, err := ln.Accept()
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(acceptAgain): // out of descriptors: the next one may succeed
				continue
			}
		}
		if !a.knows(socket.RemoteAddr()) {
			a.refuse(socket, errStranger)
			continue
		}
		select {
		case a.places <- struct{}{}:
			go func() {
				defer func() { <-a.places }()
				a.welcome(ctx, socket)
			}()
		default:
			a.refuse(socket, errTooMany)
		}
	}
}

const (
	acceptAgain = 10 * time.Millisecond
	wantedFor   = time.Second // for a connection to want a socket that arrived
)

// await waits for the sockets that have no connection yet.
func (a *acceptor) await() {
	for range cap(a.places) {
		a.places <- struct{}{}
	}
}

func (a *acceptor) knows(from net.Addr) bool {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	for _, p := range a.peers {
		if p.Contains(at.Addr().Unmap()) {
			return true
		}
	}
	return false
}

func (a *acceptor) refuse(socket net.Conn, why error) {
	a.link.mu.Lock()
	a.link.core.counters.Refused++
	a.link.mu.Unlock()
	_ = socket.Close()
	if a.link.strange.Allow() {
		a.link.deps.Log.Warn("a connection is refused", "from", socket.RemoteAddr().String(), "why", why.Error())
	}
}

// welcome shakes hands and gives the socket to a connection that wants one.
// Where none does, the peer may have lost one of its sockets without our knowing:
// an older one of the same host is asked, and makes room if it is silent.
func (a *acceptor) welcome(ctx context.Context, raw net.Conn) {
	socket, err := a.shakeHands(ctx, raw)
	if err != nil {
		a.refuse(raw, err)
		return
	}
	cfg := &a.link.cfg
	if a.offer(ctx, socket, cfg.BackoffShortest+wantedFor) { // one that broke a moment ago wants another by then
		return
	}
	if older := a.older(socket.RemoteAddr()); older == nil || !a.silent(ctx, older) || !a.offer(ctx, socket, cfg.DialTimeout) {
		a.refuse(socket, errTooMany)
	}
}

func (a *acceptor) shakeHands(ctx context.Context, raw net.Conn) (net.Conn, error) {
	cfg := &a.link.cfg
	if t, ok := raw.(*net.TCPConn); ok {
		if err := setUserTimeout(t, cfg.UserTimeout); err != nil {
			return nil, fmt.Errorf("TCP_USER_TIMEOUT: %w", err)
		}
	}
	if a.link.tls == nil {
		return raw, nil
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	secure := tls.Server(raw, a.link.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// offer waits for a connection that wants a socket.
func (a *acceptor) offer(ctx context.Context, socket net.Conn, within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case a.arrived <- socket:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// older is the connection to the same host of which the least was heard lately;
// nil where there is none.
func (a *acceptor) older(from net.Addr) *connection {
	l := a.link
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest *connection
	for _, c := range l.connections {
		if c.socket == nil || hostOf(c.socket.RemoteAddr()) != hostOf(from) {
			continue
		}
		if oldest == nil || c.station.machine.heard < oldest.station.machine.heard {
			oldest = c
		}
	}
	return oldest
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	return host
}

// silent asks an older connection with an echo and drops it where nothing is
// heard of it in an echo's time. A dialect without echoes has only what was heard
// lately to go by.
func (a *acceptor) silent(ctx context.Context, c *connection) bool {
	l, st := a.link, c.station
	var heard moment
	var life uint32
	l.do(func(now moment) {
		heard, life = st.machine.heard, st.life
		if st.machine.can.echo && st.machine.state == Ready && st.machine.echoAt == 0 {
			st.machine.sendEcho(now)
			l.core.carryOut(now, st, nil)
		}
	})
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for until := time.Now().Add(l.cfg.EchoTimeout); ; {
		l.mu.Lock()
		gone, spoke := c.socket == nil || st.life != life, st.machine.heard != heard
		over := !time.Now().Before(until)
		if over && !gone && !spoke {
			st.lastError = "replaced: silent while its peer connected anew"
			c.abort()
		}
		l.mu.Unlock()
		if over || gone || spoke {
			return !spoke || gone
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}
