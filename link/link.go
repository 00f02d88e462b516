package link

import (
	"context"
	crand "crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Deps are what a link takes from its environment.
type Deps struct {
	Now  func() payment.Instant // the wall clock: DE 7, deadlines
	Rand io.Reader              // jitter; crypto/rand when nil
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Listen is for links that the acquirer connects to; nil: net.Listen.
	Listen func(network, address string) (net.Listener, error)
	Log    *slog.Logger
	// Lease gives the next range of trace and reference numbers. It may take its
	// time: it is called in the background, never twice at once.
	Lease func(ctx context.Context, link payment.LinkName) (payment.Numbers, error)
	// Late takes an authorization's answer that came after its outcome was
	// decided. LateReversal, if set, takes a late acknowledgement the same way.
	// Both are called from one goroutine of the link and may block.
	Late         func(l payment.Late)
	LateReversal func(link payment.LinkName, seq uint64, r *payment.Response)
	// MayWrite says whether a request of a session may still be written; 0 is
	// what is owed, and belongs to none. It is asked under the link's lock, right
	// before each write. nil: always.
	MayWrite func(payment.Session) bool
	// Starved, if set, is how long what could run in this process waits for a
	// processor: the acquirer is not blamed for that.
	Starved func() time.Duration
	// LateOperation, if set, takes the late answer to an advice or to an
	// operation's request.
	LateOperation func(a *payment.Acknowledgement)
	// CutOver, if set, is told of each cut-over that the peer announces, on every
	// connection that heard it.
	CutOver func(link payment.LinkName)
	// Unmatched, if set, takes an answer that matches nothing this process
	// remembers, with the line that was logged about it.
	Unmatched func(m *iso8583.Message, line string)
	// Guard, if set, has the MAC keys of the link; the dialect says which messages
	// carry one. Keys, if set, takes part in key exchanges.
	Guard      Guard
	Keys       Keys
	Registerer prometheus.Registerer // nil: not registered
	Dials      *DialBudget           // shared by all links of a node; nil: no limit
}

// Link is one acquirer: its connections, window, numbers and pending requests.
type Link struct {
	cfg     Config
	dialect *iso8583.Dialect
	codec   *dialectCodec
	deps    Deps
	tls     *tls.Config
	metrics *metrics
	started time.Time // the steady clock starts here

	mu   sync.Mutex
	core *core // under mu

	connections []*connection
	acceptor    *acceptor     // nil: the link dials
	wake        chan struct{} // a deadline may have come closer
	lease       chan struct{} // numbers are wanted
	reports     chan report   // late and unmatched answers, alarms
	strange     *rate.Limiter // of unmatched answers that are looked into
	verifier    *verifier     // nil: nothing that arrives carries a MAC
	exchanges   *exchanges    // of keys; nil: there are none
	protecting  chan protectJob
	ending      chan struct{} // closed when Run's context has ended
	planned     moment        // under mu: when the clock will tick next, 0 while it is awake
	running     bool          // under mu
}

// New checks the configuration, reads what TLS needs, and resolves the metrics.
// Nothing is dialed before Run.
func New(cfg Config, d *iso8583.Dialect, deps Deps) (*Link, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	cfg = cfg.WithDefaults()
	f, err := newFramer(d.Framing())
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
	}
	l := &Link{
		cfg: cfg, dialect: d, codec: newDialectCodec(d), deps: deps, started: time.Now(),
		wake: make(chan struct{}, 1), lease: make(chan struct{}, 1), reports: make(chan report, maxReports),
		strange: rate.NewLimiter(rate.Every(logEvery), logBurst), ending: make(chan struct{}),
	}
	if cfg.TLS != nil {
		if l.tls, err = cfg.TLS.config(cfg.Address, cfg.Mode); err != nil {
			return nil, fmt.Errorf("link %s: tls: %w", cfg.Name, err)
		}
	}
	random, err := jitter(deps.Rand)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
	}
	if l.deps.Log == nil {
		l.deps.Log = slog.New(slog.DiscardHandler)
	}
	l.deps.Log = l.deps.Log.With("link", string(cfg.Name))
	l.core = newCore(cfg, ruleOf(d.Correlation()), f, l.codec, l.codec.abilities(), random)
	l.core.mayWrite = deps.MayWrite
	for _, st := range l.core.stations {
		l.connections = append(l.connections, newConnection(l, st))
	}
	if cfg.Mode == ModeAccept {
		if l.acceptor, err = newAcceptor(l); err != nil {
			return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
		}
	}
	l.secure()
	if l.metrics, err = newMetrics(deps.Registerer, l); err != nil {
		return nil, fmt.Errorf("link %s: %w", cfg.Name, err)
	}
	return l, nil
}

// jitter is a generator of its own, seeded once: backoff needs spread, not
// secrecy, and must be repeatable where the reader is.
func jitter(r io.Reader) (func() uint64, error) {
	if r == nil {
		r = crand.Reader
	}
	var seed [16]byte
	if _, err := io.ReadFull(r, seed[:]); err != nil {
		return nil, fmt.Errorf("seed of the jitter: %w", err)
	}
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:]))).Uint64, nil
}

// Name is the link's name.
func (l *Link) Name() payment.LinkName { return l.cfg.Name }

// Config is the configuration with its defaults filled in.
func (l *Link) Config() Config { return l.cfg }

// Dialect is what the link speaks.
func (l *Link) Dialect() *iso8583.Dialect { return l.dialect }

// now is the steady clock. It starts at one second, so that no moment is the
// zero that means never.
func (l *Link) now() moment { return moment(time.Second + time.Since(l.started)) }

// do runs something that may step machines, and carries out their orders.
func (l *Link) do(f func(now moment)) {
	wall := l.deps.Now()
	l.mu.Lock()
	l.core.wall = wall
	f(l.now())
	l.settle()
	l.mu.Unlock()
}

// settle hands the core's orders to the shells and wakes writers and clock. It
// is called under the lock and blocks on nothing.
func (l *Link) settle() {
	for _, o := range l.core.orders {
		l.connections[o.station].obey(o.effect)
	}
	l.core.orders = l.core.orders[:0]
	for i, st := range l.core.stations {
		if len(st.segments) > 0 && !st.writing {
			l.connections[i].kick()
		}
	}
	l.hurry()
}

// hurry wakes the clock when a deadline was set that comes before it wakes by
// itself. Under steady load deadlines only move away and nothing is woken.
// Under mu.
func (l *Link) hurry() {
	if l.core.wheel.soonest < l.planned {
		l.planned = 0
		signal(l.wake)
	}
}

// signal leaves a token in a channel of one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run dials or listens, signs on and serves until the context ends. It owns every
// goroutine of the link and returns when they are gone; requests that were in
// flight then have their outcome, which is never "approved".
func (l *Link) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.running {
		l.mu.Unlock()
		return fmt.Errorf("link %s: already running", l.cfg.Name)
	}
	l.running = true
	l.mu.Unlock()

	var group sync.WaitGroup
	if l.acceptor != nil {
		ln, err := l.acceptor.listen()
		if err != nil {
			return err
		}
		group.Go(func() { l.acceptor.run(ctx, ln); l.acceptor.await() })
	}
	for _, c := range l.connections {
		group.Go(func() { c.run(ctx) })
	}
	group.Go(func() { l.keepTime(ctx) })
	group.Go(func() { l.keepNumbers(ctx) })
	group.Go(func() { <-ctx.Done(); close(l.ending) })
	if l.verifier != nil {
		group.Go(func() { l.verifier.run(ctx) })
		group.Go(func() { l.keepProtecting(ctx) })
	}
	if l.exchanges != nil {
		group.Go(func() { l.exchanges.run(ctx) })
	}
	quiet, reported := make(chan struct{}), make(chan struct{})
	go func() { defer close(reported); l.keepReports(quiet) }()

	l.do(func(now moment) {
		l.core.stand(now, l.core.standing)
		l.askForNumbers()
	})
	group.Wait()
	close(quiet)
	<-reported
	return nil
}

// keepTime fires the wheel, sleeping from deadline to deadline.
func (l *Link) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		sleep := time.Hour
		l.do(func(now moment) {
			l.core.tick(now, l.core.wall)
			if next, ok := l.core.wheel.next(); ok {
				sleep = max(elapsed(now, next), 0)
			}
			l.core.wheel.soonest = never
			l.planned = now + moment(sleep)
		})
		timer.Reset(sleep)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
			return
		}
	}
}

// The pause after a lease that came to nothing doubles from the first to the
// last; leaseTimeout bounds one lease.
const (
	leaseRetryFirst = 50 * time.Millisecond
	leaseRetryLast  = time.Second
	leaseTimeout    = 10 * time.Second
)

// keepNumbers leases ranges when they are wanted, one at a time.
func (l *Link) keepNumbers(ctx context.Context) {
	for {
		select {
		case <-l.lease:
		case <-ctx.Done():
			return
		}
		pause := leaseRetryFirst
		for {
			err := l.leaseOne(ctx)
			if err == nil && !l.wantsNumbers() {
				break
			}
			if err == nil {
				pause = leaseRetryFirst
				continue
			}
			l.deps.Log.Warn("no trace numbers leased", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, leaseRetryLast)
		}
	}
}

// leaseOne takes one range. One that was asked for before the session ended is
// left alone: it may have been the ended session's, and somebody else's by now.
func (l *Link) leaseOne(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	l.mu.Lock()
	drops := l.core.numbers.drops
	l.mu.Unlock()
	r, err := l.deps.Lease(bounded, l.cfg.Name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	ended := drops != l.core.numbers.drops
	granted := !ended && l.core.numbers.grant(r)
	l.mu.Unlock()
	if ended {
		return fmt.Errorf("%w: leased by a session that has ended", ErrNumbers)
	}
	if !granted {
		return fmt.Errorf("%w: leased %d to %d, which is no range", ErrNumbers, r.FirstSTAN, r.LastSTAN)
	}
	return nil
}

// wantsNumbers says whether another range is wanted at once, and if so notes
// that it is under way.
func (l *Link) wantsNumbers() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.core.numbers.wanted() {
		return false
	}
	l.core.numbers.ask()
	return true
}

// askForNumbers signals the lease goroutine when numbers run low. Under mu.
func (l *Link) askForNumbers() {
	if l.core.numbers.wanted() {
		l.core.numbers.ask()
		signal(l.lease)
	}
}

// DropNumbers forgets every leased number: the session that leased them is
// over, and another node may be given the same ones.
func (l *Link) DropNumbers() {
	l.mu.Lock()
	l.core.numbers.drop()
	l.askForNumbers()
	l.mu.Unlock()
}

// Cut drops every connection at once, with what is in its buffers: this process
// was stopped, and what it was about to write may be somebody else's by now.
// The connections are dialed again.
func (l *Link) Cut() {
	l.mu.Lock()
	for _, c := range l.connections {
		c.abort()
	}
	l.mu.Unlock()
}
