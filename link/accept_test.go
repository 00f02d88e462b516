package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/iso8583/dialects"
	"authswitch/sim"
)

// accepting is a link that an acquirer connects to, at an address of its own.
func accepting(t *testing.T, cfg Config) (r *rig, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Mode, cfg.Address = ModeAccept, ln.Addr().String()
	if cfg.Peers == nil {
		cfg.Peers = []string{"127.0.0.0/8"}
	}
	r = newRigWith(t, cfg, loadDialect(t, "ascii87"), nil, func(d *Deps) {
		d.Listen = func(string, string) (net.Listener, error) { return ln, nil }
	})
	t.Cleanup(r.close)
	return r, cfg.Address
}

// connect plays an acquirer that connects and answers until its socket ends.
func connect(t *testing.T, address string, serve func(net.Conn)) (over chan struct{}, hangUp func()) {
	t.Helper()
	socket, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	over = make(chan struct{})
	go func() { defer close(over); serve(socket) }()
	t.Cleanup(func() { _ = socket.Close(); <-over })
	return over, func() { _ = socket.Close() }
}

// onlySigningOn reads and answers nothing but the first 0800.
func onlySigningOn(t *testing.T) func(net.Conn) {
	return func(socket net.Conn) {
		h := newHost(t, socket)
		if m := h.raw(); m != nil {
			h.answer(m, "00")
		}
		for m := h.raw(); m != nil; m = h.raw() {
		}
	}
}

// The simulator of an acquirer that connects inward, on as many connections as
// the link may have; when they break, it comes back.
func TestAcceptSimulator(t *testing.T) {
	r, address := accepting(t, Config{Connections: 2, BackoffShortest: 10 * time.Millisecond})
	s, err := sim.New(sim.Config{
		Name: "inward", Dialect: "ascii87", Dial: address, Connections: 2, Ledger: filepath.Join(t.TempDir(), "ledger.jsonl"), RequireSignOn: true,
	}, sim.Deps{Now: time.Now, Dial: dialer.DialContext, Dialects: dialects.FS, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	both := func(s Status) bool {
		return s.NumbersLeft > 0 && s.Connections[0].State == Ready && s.Connections[1].State == Ready
	}
	r.until("both signed on", both)
	for i := range byte(20) {
		outcome(t, r.pay(i))
	}
	r.link.Cut()
	r.until("cut", func(s Status) bool { return s.Counters.Reconnects >= 2 })
	r.until("both back", both)
	outcome(t, r.pay(99))
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestAcceptRefuses(t *testing.T) {
	t.Run("a stranger", func(t *testing.T) {
		r, address := accepting(t, Config{Peers: []string{"192.0.2.1", "2001:db8::/32"}})
		over, _ := connect(t, address, approving(t))
		<-over
		if s := r.link.Status(); s.Counters.Refused != 1 || s.State != Down {
			t.Errorf("%+v", s)
		}
	})
	t.Run("one more than the link may have, while the first answers", func(t *testing.T) {
		r, address := accepting(t, Config{BackoffShortest: 10 * time.Millisecond})
		connect(t, address, approving(t))
		r.ready()
		over, _ := connect(t, address, approving(t))
		<-over
		if s := r.link.Status(); s.Counters.Refused != 1 || s.State != Ready || s.Connections[0].LastError != "" {
			t.Errorf("%+v", s)
		}
		outcome(t, r.pay(1))
	})
	t.Run("while an operator holds it signed off", func(t *testing.T) {
		r, address := accepting(t, Config{BackoffShortest: 10 * time.Millisecond})
		r.link.Hold(HoldSignedOff)
		r.until("down", func(s Status) bool { return s.State == Down })
		over, _ := connect(t, address, approving(t))
		<-over
		r.link.Hold(NoHold)
		connect(t, address, approving(t))
		r.ready()
	})
}

// A peer that lost its socket without our knowing connects anew: the old
// connection is asked, is silent, and makes room.
func TestAcceptReplacesDeadConnection(t *testing.T) {
	r, address := accepting(t, Config{BackoffShortest: 10 * time.Millisecond, EchoTimeout: 100 * time.Millisecond, EchoMisses: 100})
	connect(t, address, onlySigningOn(t))
	r.ready()
	connect(t, address, approving(t))
	r.until("replaced", func(s Status) bool { return s.Counters.Reconnects == 1 })
	r.ready()
	outcome(t, r.pay(1))
	if s := r.link.Status(); s.Counters.Refused != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAcceptTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	cert, key := a.issue("switch.test")
	r, address := accepting(t, Config{BackoffShortest: 10 * time.Millisecond, TLS: &TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: cert, KeyFile: key}})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	serve := func(by *authority, approve func(net.Conn)) func(net.Conn) {
		c, k := by.issue("acquirer.test")
		pair, err := tls.LoadX509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return func(socket net.Conn) {
			approve(tls.Client(socket, &tls.Config{RootCAs: roots, ServerName: "switch.test", Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
		}
	}
	over, _ := connect(t, address, serve(other, approving(t)))
	<-over
	over, _ = connect(t, address, func(socket net.Conn) { // no TLS at all
		_, _ = socket.Write([]byte("0100 plain"))
		approving(t)(socket)
	})
	<-over
	if s := r.link.Status(); s.Counters.Refused != 2 || s.State != Down {
		t.Errorf("%+v", s)
	}
	connect(t, address, serve(a, approving(t)))
	r.ready()
	outcome(t, r.pay(1))
}

func TestModeConfig(t *testing.T) {
	good := Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1"}
	for want, c := range map[string]func(*Config){
		"mode is":     func(c *Config) { c.Mode = "both" },
		"peers: need": func(c *Config) { c.Mode = ModeAccept },
		"neither an":  func(c *Config) { c.Mode, c.Peers = ModeAccept, []string{"host.test"} },
		"only in":     func(c *Config) { c.Peers = []string{"192.0.2.1"} },
		"cert_file":   func(c *Config) { c.Mode, c.Peers, c.TLS = ModeAccept, []string{"192.0.2.1"}, &TLS{} },
	} {
		cfg := good
		c(&cfg)
		if faults := cfg.Validate(); len(faults) != 1 || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("%s: %v", want, faults)
		}
	}
	good.Mode, good.Peers = ModeAccept, []string{"192.0.2.1", "10.0.0.0/8"}
	if faults := good.Validate(); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}
