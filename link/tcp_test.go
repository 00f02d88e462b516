package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/iso8583"
	"authswitch/payment"
)

// listen accepts connections for a test and gives each to serve.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { defer socket.Close(); serve(socket) })
		}
	})
	t.Cleanup(func() { listener.Close(); group.Wait() })
	return listener.Addr().String()
}

// approving answers every request.
func approving(t testing.TB) func(net.Conn) {
	return func(socket net.Conn) {
		h := newHost(t, socket)
		for m := h.next(); m != nil; m = h.next() {
			h.answer(m, "00")
		}
	}
}

var dialer net.Dialer

func TestTCP(t *testing.T) {
	r := newRig(t, Config{Address: listen(t, approving(t)), UserTimeout: 1234 * time.Millisecond}, dialer.DialContext)
	defer r.close()
	r.ready()
	for i := range byte(20) {
		got := r.pay(i)
		outcome(t, got)
		if string(got.answer.Bytes(37)) != got.slot.RRN.String() {
			t.Errorf("%s answered with %s", got.slot.RRN, got.answer.Bytes(37))
		}
	}
	if runtime.GOOS == "linux" && userTimeout(t, r.link) != 1234 {
		t.Errorf("TCP_USER_TIMEOUT is %d", userTimeout(t, r.link))
	}
}

// userTimeout reads TCP_USER_TIMEOUT of the link's socket, in milliseconds.
func userTimeout(t *testing.T, l *Link) int {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	raw, err := l.connections[0].socket.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	var failed error
	if err := raw.Control(func(fd uintptr) { ms, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 0x12) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return ms
}

// haltingConn is a socket that sometimes takes its time to write, as one does
// whose peer does not read.
type haltingConn struct{ net.Conn }

func (c haltingConn) Write(b []byte) (int, error) {
	if mrand.IntN(10) == 0 {
		time.Sleep(time.Duration(mrand.IntN(90)) * time.Millisecond)
	}
	return c.Conn.Write(b)
}

// chaos is a host that drops connections at random, answers late, twice, for
// another terminal, or not at all, and writes down every request it saw.
type chaos struct {
	t    *testing.T
	mu   sync.Mutex
	seen map[string]bool // by DE 37
}

func (c *chaos) serve(socket net.Conn) {
	h := newHost(c.t, socket)
	var late sync.WaitGroup
	defer late.Wait()
	for m := h.next(); m != nil; m = h.next() {
		c.mu.Lock()
		c.seen[string(m.Bytes(37))] = true
		c.mu.Unlock()
		switch n := mrand.IntN(300); {
		case n == 0:
			return // and what is in flight is lost
		case n == 1:
			h.write([]byte{0xff})
			return
		case n < 4: // silence
		case n < 8:
			h.answer(m, "00")
			h.answer(m, "00")
		case n < 12:
			h.answerWith(m, "00", func(b *iso8583.Builder) { b.Set(41, []byte("OTHER")) })
		case n < 16:
			frame := h.framer.append(nil, h.response(m, "00", nil))
			late.Go(func() { time.Sleep(80 * time.Millisecond); h.write(frame) })
		default:
			h.answer(m, "00")
		}
	}
}

// tally is what became of many payments.
type tally struct {
	mu                         sync.Mutex
	answered, unknown, refused int
	notSent                    []string // by DE 37
}

func (y *tally) add(t *testing.T, got result) {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case got.err == nil:
		y.answered++
		if string(got.answer.Bytes(37)) != got.slot.RRN.String() || string(got.answer.Bytes(11)) != got.slot.STAN.String() {
			t.Errorf("%s got the answer of %s", got.slot.RRN, got.answer.Bytes(37))
		}
	case errors.Is(got.err, payment.ErrNotSent):
		y.notSent = append(y.notSent, got.slot.RRN.String())
	case errors.Is(got.err, payment.ErrUnknownOutcome):
		y.unknown++
	case errors.Is(got.err, payment.ErrBusy), errors.Is(got.err, payment.ErrUnavailable):
		y.refused++
	default:
		t.Errorf("an error that says nothing: %v", got.err)
	}
}

// TestProofs is the promise the whole switch rests on, under fire. ErrNotSent
// is proof: no host ever saw that request. An answer is the answer to this
// very request. Everything ends, and nothing stays in the window.
func TestProofs(t *testing.T) {
	host := &chaos{t: t, seen: map[string]bool{}}
	r := newRig(t, Config{
		Address: listen(t, host.serve), Connections: 2, Window: 16, AnswerTimeout: 60 * time.Millisecond, SendWithin: 20 * time.Millisecond,
		BackoffShortest: 10 * time.Millisecond, BackoffLongest: 10 * time.Millisecond,
	}, func(ctx context.Context, network, address string) (net.Conn, error) {
		socket, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return haltingConn{socket}, nil
	})
	r.ready()
	var group sync.WaitGroup
	var y tally
	for worker := range byte(40) {
		group.Go(func() {
			for n := 0; n < 50; {
				got := r.pay(worker)
				y.add(t, got)
				if got.slot.STAN == 0 { // refused
					time.Sleep(time.Millisecond)
					continue
				}
				n++
			}
		})
	}
	group.Wait()
	time.Sleep(100 * time.Millisecond) // the last halting write and late answer
	r.close()
	counters := r.link.Status().Counters
	t.Logf("%d answered, %d unknown, %d never written, %d refused, %+v", y.answered, y.unknown, len(y.notSent), y.refused, counters)
	host.mu.Lock()
	defer host.mu.Unlock()
	for _, rrn := range y.notSent {
		if host.seen[rrn] {
			t.Errorf("%s was never written, and the host has it", rrn)
		}
	}
	if y.answered < 100 || y.unknown == 0 || y.refused == 0 || len(y.notSent) == 0 || counters.Late == 0 {
		t.Error("the test did not test")
	}
	if used := r.link.core.table.used; used != 0 {
		t.Errorf("%d places are still taken", used)
	}
}

// authority makes certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) file(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes a certificate and its key, for a host and for a client alike.
func (a *authority) issue(name string) (cert, key string) {
	k := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.file(name+".pem", "CERTIFICATE", der), a.file(name+".key", "PRIVATE KEY", private)
}

func TestTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	hostCert, hostKey := a.issue("acquirer.test")
	pair, err := tls.LoadX509KeyPair(hostCert, hostKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	address := listen(t, func(socket net.Conn) {
		secure := tls.Server(socket, &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		})
		if secure.Handshake() == nil {
			approving(t)(secure)
		}
	})
	cert, key := a.issue("switch.test")
	wrongCert, wrongKey := other.issue("switch.test")
	for _, c := range []struct {
		name string
		tls  TLS
		good bool
	}{
		{"mutual", TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: cert, KeyFile: key, ServerName: "acquirer.test"}, true},
		{"1.3", TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: cert, KeyFile: key, ServerName: "acquirer.test", MinVersion: "1.3"}, true},
		{"no certificate", TLS{CAFile: filepath.Join(a.dir, "ca.pem"), ServerName: "acquirer.test"}, false},
		{"certificate of another authority", TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: wrongCert, KeyFile: wrongKey, ServerName: "acquirer.test"}, false},
		{"host of another authority", TLS{CAFile: filepath.Join(other.dir, "ca.pem"), CertFile: cert, KeyFile: key, ServerName: "acquirer.test"}, false},
		{"another name", TLS{CAFile: filepath.Join(a.dir, "ca.pem"), CertFile: cert, KeyFile: key, ServerName: "elsewhere.test"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Config{Address: address, TLS: &c.tls}, dialer.DialContext)
			defer r.close()
			if !c.good {
				r.until("refused", func(s Status) bool { return s.Connections[0].LastError != "" })
				if s := r.link.Status(); s.State == Ready {
					t.Errorf("%+v", s)
				}
				return
			}
			r.ready()
			outcome(t, r.pay(1))
		})
	}
}

func TestTLSConfig(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("switch.test")
	for _, c := range []struct {
		tls  TLS
		want string
	}{
		{TLS{MinVersion: "1.1"}, "min_version"},
		{TLS{CAFile: "absent"}, "ca_file"},
		{TLS{CAFile: key}, "holds no certificate"},
		{TLS{CertFile: cert}, "go together"},
		{TLS{CertFile: cert, KeyFile: cert}, "cert_file"},
	} {
		if _, err := c.tls.config("127.0.0.1:1", ModeDial); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.tls, err)
		}
	}
}

// TestReset: a connection that is given up takes what the kernel still holds
// with it, so that nothing leaves after it was said to be lost. One that is
// drained ends politely.
func TestReset(t *testing.T) {
	ended := make(chan error, 10)
	var garbage atomic.Bool
	garbage.Store(true)
	r := newRig(t, Config{Address: listen(t, func(socket net.Conn) {
		h := newHost(t, socket)
		if m := h.raw(); m == nil {
			return
		} else if garbage.Load() {
			h.write([]byte{0xff, 0xff})
		} else {
			h.answer(m, "00")
		}
		for {
			if _, err := socket.Read(make([]byte, 100)); err != nil {
				ended <- err
				return
			}
		}
	}), DrainTimeout: 50 * time.Millisecond}, dialer.DialContext)
	defer r.close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("framing lost: the host sees %v", err)
	}
	garbage.Store(false)
	r.ready()
	for len(ended) > 0 {
		<-ended
	}
	r.link.Drain()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("drained: the host sees %v", err)
	}
}

func TestDialFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	r := newRig(t, Config{Address: address}, dialer.DialContext)
	defer r.close()
	r.until("refused", func(s Status) bool { return strings.Contains(s.Connections[0].LastError, "refused") })
}

// TestSet: what is asked of the set goes to the link the slot names.
func TestSet(t *testing.T) {
	d := loadDialect(t, "ascii87")
	registry := prometheus.NewRegistry()
	address := listen(t, approving(t))
	var links []*Link
	for _, name := range []payment.LinkName{"cb-b", "cb-a"} {
		l, err := New(Config{Name: name, Scheme: "cb", Dialect: "ascii87", Address: address}, d, Deps{
			Now: wallNow, Dial: dialer.DialContext, Lease: leases(), Registerer: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	if _, err := NewSet(links[0], links[0]); err == nil {
		t.Error("two links of one name")
	}
	set, err := NewSet(links...)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(set.Status()); err != nil || !strings.Contains(string(text), `"state":"down"`) || !strings.Contains(string(text), `"unmatched_answers":0`) {
		t.Errorf("%s, %v", text, err)
	}
	if names := set.Names(); names[0] != "cb-a" || set.Status()[1].Name != "cb-b" || set.Link("cb-a") != links[1] {
		t.Errorf("%v", names)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- set.Run(ctx) }()
	r := &rig{t: t, dialect: d, link: links[0], logs: new(logs)}
	r.ready()

	slot := payment.Slot{Link: "nobody"}
	if err := set.Reserve(&slot, payment.ID{1}, 1); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := set.ReserveOwed(&slot, &payment.Owed{Link: "nobody"}, payment.RRN{}); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := set.Exchange(&slot, nil, []byte("x"), nil); !errors.Is(err, payment.ErrNotSent) {
		t.Errorf("%v", err)
	}
	set.Release(&slot)
	slot.Link = "cb-b"
	if err := set.Reserve(&slot, payment.ID{1}, 1); err != nil {
		t.Fatal(err)
	}
	if links[0].Status().InFlight != 1 || links[1].Status().InFlight != 0 {
		t.Error("reserved on another link")
	}
	checkMetrics(t, registry)
	i := intentFor(d, &slot)
	frame, err := d.EncodeAuthorization(nil, authorization(t), i)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Exchange(&slot, i, frame, new(iso8583.Message)); err != nil {
		t.Error(err)
	}
	bounded, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := set.Drain(bounded); err != nil {
		t.Error(err)
	}
	set.DropNumbers()
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func checkMetrics(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range families {
		found[f.GetName()] = len(f.GetMetric())
	}
	for _, name := range []string{
		"link_state", "link_in_flight", "link_window_refusals_total", "link_late_answers_total", "link_unmatched_answers_total",
		"link_round_trip_seconds", "link_frames_per_write", "link_reconnects_total", "link_echo_rtt_seconds",
	} {
		if found[name] != 2 {
			t.Errorf("%s has %d series, want one for each link", name, found[name])
		}
	}
}
