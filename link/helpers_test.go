package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

func loadDialect(t testing.TB, name string) *iso8583.Dialect {
	t.Helper()
	d, err := iso8583.Load(dialects.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wallNow is the wall clock of tests: inside a bubble it is the bubble's.
func wallNow() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// zeros is a reader of zero bytes: jitter that is always the same.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// leases hands out ranges of 1,000.
func leases() func(context.Context, payment.LinkName) (payment.Numbers, error) {
	var n atomic.Uint64
	return func(context.Context, payment.LinkName) (payment.Numbers, error) {
		k := n.Add(1) - 1
		first := payment.STAN(k%999)*1000 + 1
		return payment.Numbers{FirstSTAN: first, LastSTAN: first + 999, FirstRRN: k * 1000, LastRRN: k*1000 + 999}, nil
	}
}

// logs is a log that tests can look into.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a link and what tests need around it.
type rig struct {
	t       testing.TB
	dialect *iso8583.Dialect
	link    *Link
	logs    *logs
	late    chan payment.Late
	lateRev chan uint64
	strange chan string
	stop    context.CancelFunc
	ran     chan error
}

// newRig starts a link over a dialer.
func newRig(t testing.TB, cfg Config, dial func(context.Context, string, string) (net.Conn, error)) *rig {
	t.Helper()
	return newRigSpeaking(t, cfg, "ascii87", dial)
}

func newRigSpeaking(t testing.TB, cfg Config, dialect string, dial func(context.Context, string, string) (net.Conn, error)) *rig {
	t.Helper()
	return newRigWith(t, cfg, loadDialect(t, dialect), dial, func(*Deps) {})
}

// newRigWith starts a link with more than others have.
func newRigWith(t testing.TB, cfg Config, dialect *iso8583.Dialect, dial func(context.Context, string, string) (net.Conn, error), more func(*Deps)) *rig {
	t.Helper()
	r := &rig{
		t: t, dialect: dialect, logs: new(logs), ran: make(chan error, 1),
		late: make(chan payment.Late, 10_000), lateRev: make(chan uint64, 10_000), strange: make(chan string, 10_000),
	}
	cfg.Name, cfg.Scheme, cfg.Dialect = "cb-a", "cb", payment.DialectName(dialect.Name())
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:1"
	}
	var err error
	deps := Deps{
		Now: wallNow, Rand: zeros{}, Dial: dial, Lease: leases(), Log: slog.New(slog.NewTextHandler(r.logs, nil)),
		Late:         func(l payment.Late) { r.late <- l },
		LateReversal: func(_ payment.LinkName, seq uint64, _ *payment.Response) { r.lateRev <- seq },
		Unmatched:    func(_ *iso8583.Message, line string) { r.strange <- line },
	}
	more(&deps)
	r.link, err = New(cfg, r.dialect, deps)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.ran <- r.link.Run(ctx) }()
	return r
}

// close stops the link and checks that all of it is gone.
func (r *rig) close() {
	r.t.Helper()
	r.stop()
	if err := <-r.ran; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	if n := r.link.Status().InFlight; n != 0 {
		r.t.Errorf("%d still in flight after Run", n)
	}
}

// until waits for a condition: real sockets have no other way.
func (r *rig) until(what string, ok func(Status) bool) {
	r.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok(r.link.Status()) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never %s: %+v\n%s", what, r.link.Status(), r.logs)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) ready() {
	r.t.Helper()
	r.until("ready", func(s Status) bool { return s.State == Ready && s.NumbersLeft > 0 })
}

// intentFor is an intent as the switch would build it for a slot.
func intentFor(d *iso8583.Dialect, s *payment.Slot) *payment.Intent {
	return &payment.Intent{
		MTI: uint16(d.AuthorizationMTI()), STAN: s.STAN, RRN: s.RRN, Transmitted: s.Transmitted, Link: s.Link,
		Local:  payment.LocalTime([]byte("261123045512")),
		Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: payment.Ecommerce, Attempt: 1,
		Terms: payment.Terms{
			Terminal: "10000001", Acceptor: "970001000000001", AcceptorName: "PARCELS ONLINE/PARIS/FR", MCC: "5942",
			Acquirer: "970001", Forwarder: "970002", Country: "250",
		},
	}
}

func authorization(t testing.TB) *payment.Authorization {
	t.Helper()
	a := &payment.Authorization{Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: payment.Ecommerce}
	var err error
	if a.Card.PAN, err = card.ParsePAN([]byte("4970100000000154")); err != nil {
		t.Fatal(err)
	}
	if a.Card.Expiry, err = card.ParseExpiry([]byte("2712")); err != nil {
		t.Fatal(err)
	}
	return a
}

// result is what one exchange came to.
type result struct {
	slot   payment.Slot
	answer *iso8583.Message
	err    error
}

// pay runs one authorization through the link.
func (r *rig) pay(id byte) result {
	var s payment.Slot
	if err := r.link.Reserve(&s, payment.ID{id}, 1); err != nil {
		return result{err: err}
	}
	return r.exchange(s)
}

func (r *rig) exchange(s payment.Slot) result {
	i := intentFor(r.dialect, &s)
	a := authorization(r.t)
	a.Card.PAN = testCard(r.t, r.dialect.Name())
	frame, err := r.dialect.EncodeAuthorization(nil, a, i)
	if err != nil {
		r.t.Error(err)
		r.link.Release(&s)
		return result{err: err}
	}
	kept := s
	answer := new(iso8583.Message)
	err = r.link.Exchange(&s, i, frame, answer)
	if s.Place != nil {
		r.t.Error("the slot still holds a place")
	}
	return result{slot: kept, answer: answer, err: err}
}

// host is the other end of a socket: it frames and packs, and leaves what to
// say to the test.
type host struct {
	t       testing.TB
	dialect *iso8583.Dialect
	framer  *framer
	socket  net.Conn
	buf     []byte
	silent  bool // does not answer 0800
}

func newHost(t testing.TB, socket net.Conn) *host {
	return newHostOf(t, socket, loadDialect(t, "ascii87"))
}

func newHostOf(t testing.TB, socket net.Conn, d *iso8583.Dialect) *host {
	f, err := newFramer(d.Framing())
	if err != nil {
		t.Fatal(err)
	}
	return &host{t: t, dialect: d, framer: f, socket: socket}
}

// next is the next message that is not network management, which it answers;
// nil at the end.
func (h *host) next() *iso8583.Message {
	for {
		m := h.raw()
		if m == nil || m.MTI().Class() != iso8583.ClassNetwork {
			return m
		}
		if m.MTI().IsRequest() && !h.silent {
			h.answer(m, "00")
		}
	}
}

// raw is the next message; nil at the end.
func (h *host) raw() *iso8583.Message {
	for {
		payload, size, err := h.framer.cut(h.buf)
		if err != nil {
			h.t.Errorf("host: %v", err)
			return nil
		}
		if size > 0 {
			m := new(iso8583.Message)
			if payload != nil {
				if err := h.dialect.Unpack(m, payload); err != nil {
					h.t.Errorf("host: %v", err)
					return nil
				}
			}
			h.buf = h.buf[size:]
			return m
		}
		b := make([]byte, 4096)
		n, err := h.socket.Read(b)
		h.buf = append(h.buf, b[:n]...)
		if err != nil && n == 0 {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				return nil // a reset: the link gave the connection up
			}
			return nil
		}
	}
}

func (h *host) answer(m *iso8583.Message, code string) {
	h.t.Helper()
	h.answerWith(m, code, nil)
}

// answerWith answers after the test changed something.
func (h *host) answerWith(m *iso8583.Message, code string, change func(b *iso8583.Builder)) {
	h.t.Helper()
	h.write(h.framer.append(nil, h.response(m, code, change)))
}

func (h *host) response(m *iso8583.Message, code string, change func(b *iso8583.Builder)) []byte {
	h.t.Helper()
	var b iso8583.Builder
	b.Start(m.MTI().Response())
	for _, de := range []int{3, 4, 7, 11, 12, 13, 37, 41, 42, 49, 70, 90} {
		if m.Has(de) {
			b.Set(de, m.Bytes(de))
		}
	}
	b.Set(39, []byte(code))
	if code == "00" && m.MTI().Class() == iso8583.ClassAuthorization {
		b.Set(38, []byte("A00001"))
	}
	if change != nil {
		change(&b)
	}
	frame, err := h.dialect.Pack(nil, &b)
	if err != nil {
		h.t.Fatal(err)
	}
	return frame
}

// write says whether the socket took it: a link that gave up has closed it.
func (h *host) write(b []byte) bool {
	_, err := h.socket.Write(b)
	return err == nil
}
