package twin_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand" //nolint:depguard // Raft draws from it
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/link"
	"authswitch/outbox"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/sim"
	"authswitch/store"
	switching "authswitch/switch"
	"authswitch/vault"
	"authswitch/vault/stored"
)

// lanes are the node's links: each scheme's own dialect puts a security code
// into another place.
var lanes = []struct {
	name   payment.LinkName
	scheme payment.Scheme
}{
	{"cb-a", payment.CB}, {"visa-a", payment.Visa}, {"mastercard-a", payment.Mastercard}, {"amex-a", payment.Amex},
}

const (
	// No two of these, and no timer of the node, end at the same moment: what
	// does happens in whichever order the scheduler likes.
	answerTimeout = 3007 * time.Millisecond
	lateAfter     = 4013 * time.Millisecond
	// rest is longer than a late answer is late, and beats with no timer.
	rest  = 1700*time.Millisecond + 370*time.Microsecond
	apart = 410 * time.Microsecond
)

// world is one run's surroundings: a disk, a network, a clock, randomness and
// all that is written down.
type world struct {
	t          *testing.T
	dir        string // of the ledgers and key files, which are real files
	fs         *vfs.MemFS
	log        *lockedBuffer
	simulators sync.WaitGroup
	stop       context.CancelFunc
	listeners  map[string]*pipes
	metrics    bytes.Buffer
	module     *module
	terminal   sim.Terminal
}

// lockedBuffer is a log of many writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// random is a stream of its own for each who draws, so that nobody's draw
// depends on another's turn.
func random(who string) io.Reader {
	var seed [32]byte
	copy(seed[:], who)
	return rand.NewChaCha8(seed)
}

func wallClock() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// newWorld starts the simulators. It is called inside a bubble.
func newWorld(t *testing.T, dir, bank string, cards wallet) *world {
	// Raft draws its election timeouts from the process's generator.
	mathrand.Seed(1) //nolint:staticcheck // there is no other way to it
	w := &world{t: t, dir: dir, fs: vfs.NewMem(), log: &lockedBuffer{}, listeners: map[string]*pipes{}, module: newModule(t)}
	var keys string
	keys, w.terminal = openBank(t, bank, cards)
	if err := vault.CreateKeyFile(w.path("vault.key"), random("root")); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	for _, l := range lanes {
		pipe := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		w.listeners[string(l.name)] = pipe
		s, err := sim.New(sim.Config{
			Name: string(l.name), Dialect: l.scheme.String(), Listen: string(l.name), Ledger: w.path(string(l.name) + ".jsonl"),
			Codec: sim.CodecMoov, LateAfter: lateAfter, Seed: 7, Security: sim.Security{Keys: keys, PIN: true},
		}, sim.Deps{
			Now: time.Now, Dialects: dialects.FS, Log: w.logger(),
			Listen: func(context.Context, string, string) (net.Listener, error) { return pipe, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w.simulators.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// end stops the simulators.
func (w *world) end() {
	w.stop()
	w.simulators.Wait()
}

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	p := w.listeners[address[:len(address)-len(":1")]]
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// node is a switch without its HTTP door, put together as cmd does it.
type node struct {
	*world
	life     int
	registry *prometheus.Registry
	store    *store.Store
	core     *switching.Switch
	stops    []func() // of the links and their workers, one after the other
}

func (w *world) start(life int) *node {
	n := &node{world: w, life: life, registry: prometheus.NewRegistry()}
	stream := func(who string) io.Reader { return random(fmt.Sprint(who, " of life ", life)) }
	root, err := vault.OpenKeyFile(w.path("vault.key"), stream("wrap"))
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := vault.Load(root, w.path("vault.keys"), stream("vault"))
	if err != nil {
		w.t.Fatal(err)
	}
	keys, err := stored.New(stored.Config{}, stored.Deps{Vault: sealed, Now: wallClock, Ring: func() *payment.KeyRing { return nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	n.store, err = store.Start(context.Background(), store.Config{
		Node: "n1", Dir: "data", MemtableBytes: 4 << 20, BlockCacheBytes: 8 << 20, LogMemtableBytes: 4 << 20,
	}, store.Deps{
		Now: wallClock, Rand: stream("store"), Log: w.logger(), FS: w.fs, Registerer: n.registry,
		Fail: func(err error) { w.t.Errorf("the store failed: %v", err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	links := n.build(keys, stream)
	for _, l := range links {
		var running sync.WaitGroup
		ctx, stop := context.WithCancel(context.Background())
		n.stops = append(n.stops, func() {
			stop()
			running.Wait()
			synctest.Wait()
		})
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
		worker, err := outbox.New(outbox.Config{Window: 4}, outbox.Deps{
			Link: l.Name(), Dialect: l.Dialect(), Journal: n.store, Sender: l, Vault: keys, Now: wallClock, Log: w.logger(),
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"link": string(l.Name())}, n.registry),
		})
		if err != nil {
			w.t.Fatal(err)
		}
		// Off the beat of the links, whose timers fire at whole milliseconds.
		time.Sleep(apart)
		running.Go(func() { worker.Run(ctx) })
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	time.Sleep(rest)
	synctest.Wait()
	return n
}

// build makes links, routes and the switch.
func (n *node) build(keys *stored.Cards, stream func(string) io.Reader) []*link.Link {
	must := func(err error) {
		if err != nil {
			n.t.Fatal(err)
		}
	}
	var links []*link.Link
	var core []switching.Lane
	var contracts []routing.Contract
	for _, l := range lanes {
		d, err := iso8583.Load(dialects.FS, l.scheme.String())
		must(err)
		made, err := link.New(link.Config{
			Name: l.name, Scheme: l.scheme.String(), Dialect: payment.DialectName(l.scheme.String()), Address: string(l.name) + ":1",
			AnswerTimeout: answerTimeout, MaxOriginalLife: 5 * time.Second, BackoffLongest: time.Second, LateMemory: 64,
		}, d, link.Deps{
			Now: wallClock, Rand: stream(string(l.name)), Dial: n.dial, Log: n.logger(), Registerer: n.registry, Lease: n.store.Lease,
			Late:         func(l payment.Late) { n.core.Late(l) },
			LateReversal: n.lateReversal,
		})
		must(err)
		links = append(links, made)
		core = append(core, switching.Lane{Name: l.name, Dialect: d, Zone: n.module})
		contracts = append(contracts, routing.Contract{
			Merchant: "parcels", Scheme: l.scheme, Links: []payment.LinkName{l.name}, TimeZone: time.UTC, Currencies: []payment.Currency{978},
			Terms: payment.Terms{
				Terminal: "TERM0001", Acceptor: "PARCELS00000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "9402", Acquirer: "497010", Country: "250",
			},
		})
	}
	table, err := routing.NewTable(routing.DefaultRanges(), contracts, nil)
	must(err)
	var current atomic.Pointer[routing.Table]
	current.Store(table)
	set, err := link.NewSet(links...)
	must(err)
	minter, err := payment.NewMinter(wallClock, stream("ids"))
	must(err)
	n.core, err = switching.New(switching.Deps{
		Journal: n.store, Canceller: n.store, Records: n.store, Exchanger: set, Sealer: keys, Table: &current, Lanes: core, Node: "n1",
		Session: n.store.Session, Now: wallClock, Mint: minter.Mint, Log: n.logger(), Registerer: n.registry,
	})
	must(err)
	return links
}

func (n *node) lateReversal(name payment.LinkName, seq uint64, r *payment.Response) {
	if r.Advice == payment.AdviceRepeat {
		return
	}
	if _, err := n.store.Acknowledge(name, seq, r, r.Advice); err != nil {
		n.t.Error(err)
	}
}

// end writes the metrics down and stops the node.
func (n *node) end() {
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	n.metrics.Write(recorder.Body.Bytes())
	for _, stop := range n.stops {
		stop()
	}
	if err := n.store.Stop(context.Background()); err != nil {
		n.t.Error(err)
	}
}
