package bubble_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/link"
	"authswitch/outbox"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/store"
	switching "authswitch/switch"
	"authswitch/vault"
	"authswitch/vault/stored"
)

func wallClock() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// random is a stream of its own for each who draws.
func random(parts ...any) io.Reader {
	var seed [32]byte
	copy(seed[:], fmt.Sprint(parts...))
	return rand.NewChaCha8(seed)
}

// member is one node: its disk stays, its lives come and go.
type member struct {
	w      *world
	id     payment.NodeID
	fs     *vfs.MemFS
	syncs  atomic.Int64 // how long one sync takes, in nanoseconds
	mu     sync.Mutex
	life   *life // nil while it is down
	lives  int
	starts int
}

// life is one process: the node as cmd puts it together, below its HTTP door.
type life struct {
	m     *member
	host  *process
	dead  atomic.Bool
	store *store.Store
	core  *switching.Switch
	set   *link.Set
	cards *stored.Cards
	stop  context.CancelFunc
	ctx   context.Context
	tasks sync.WaitGroup
}

// disk is the member's file system, whose syncs take their time.
func (m *member) disk() vfs.FS {
	return errorfs.Wrap(m.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			if d := m.syncs.Load(); d > 0 {
				time.Sleep(time.Duration(d))
			}
		}
		return nil
	}))
}

// start boots the member on its disk. It returns when the store has its session
// and the links are told to dial, or says why not.
func (m *member) start() error {
	w := m.w
	m.mu.Lock()
	m.lives++
	stream := func(who string) io.Reader { return random(w.seed, m.id, who, m.lives) }
	m.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	l := &life{m: m, host: w.net.process(string(m.id)), ctx: ctx, stop: stop}
	var members []store.Member
	for _, o := range w.members {
		members = append(members, store.Member{Node: o.id, Address: string(o.id)})
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	l.store, err = store.Start(starting, store.Config{
		Node: m.id, Dir: "data", Address: string(m.id), Members: members, MemtableBytes: 1 << 20, BlockCacheBytes: 1 << 20,
		LogMemtableBytes: 1 << 20, LogCacheBytes: 1 << 20, SnapshotThreshold: 96, TrailingLogs: 32, SnapshotEvery: 2 * time.Second,
		HeartbeatTimeout: 300 * time.Millisecond,
	}, store.Deps{
		Now: wallClock, Rand: stream("store"), Log: w.logger(m.id), FS: m.disk(), Registerer: prometheus.NewRegistry(),
		Connect: func(store.Book) (store.Network, error) { return l.host.mesh(), nil },
		Stopped: func() {
			if l.set != nil {
				l.set.Cut()
			}
		},
		Renewed: func() {
			if l.set != nil {
				l.set.DropNumbers()
			}
		},
		Fail: func(err error) {
			if !l.dead.Load() {
				w.notef("%s must stop: %v", m.id, err)
				go m.crash(l)
			}
		},
	})
	if err != nil {
		stop()
		l.host.end()
		return fmt.Errorf("start %s: %w", m.id, err)
	}
	if err := l.build(stream); err != nil {
		return fmt.Errorf("build %s: %w", m.id, err)
	}
	m.mu.Lock()
	m.life, m.starts = l, m.starts+1
	m.mu.Unlock()
	w.notef("%s serves", m.id)
	return nil
}

// build makes links, routes, the switch and the outbox's workers.
func (l *life) build(stream func(string) io.Reader) error {
	w := l.m.w
	sealed, err := vault.Open(plainRoot{}, w.keys, stream("vault"))
	if err != nil {
		return err
	}
	l.cards, err = stored.New(stored.Config{}, stored.Deps{Vault: sealed, Now: wallClock, Ring: func() *payment.KeyRing { return nil }})
	if err != nil {
		return err
	}
	d, err := iso8583.Load(dialects.FS, dialect)
	if err != nil {
		return err
	}
	var links []*link.Link
	var lanes []switching.Lane
	for i := range hosts {
		made, err := link.New(link.Config{
			Name: linkName(i), Scheme: "visa", Dialect: dialect, Address: string(linkName(i)) + ":1", SendWithin: time.Second,
			AnswerTimeout: 2 * time.Second, MaxOriginalLife: 6 * time.Second, UserTimeout: time.Second, DialTimeout: time.Second,
			BackoffLongest: time.Second, LateMemory: 256, EchoEvery: 5 * time.Second, EchoTimeout: time.Second, DrainTimeout: 3 * time.Second,
		}, d, link.Deps{
			Now: wallClock, Rand: stream(string(linkName(i))), Log: w.logger(l.m.id), Lease: l.store.Lease,
			MayWrite: l.store.MayWrite,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return l.host.dial(ctx, string(linkName(i)), string(linkName(i)))
			},
			Late: func(x payment.Late) { l.core.Late(x) },
			LateReversal: func(name payment.LinkName, seq uint64, r *payment.Response) {
				if r.Advice != payment.AdviceRepeat {
					_, _ = l.store.Acknowledge(name, seq, r, r.Advice)
				}
			},
		})
		if err != nil {
			return err
		}
		links = append(links, made)
		lanes = append(lanes, switching.Lane{Name: linkName(i), Dialect: d})
	}
	if l.set, err = link.NewSet(links...); err != nil {
		return err
	}
	table, err := routing.NewTable(routing.DefaultRanges(), []routing.Contract{{
		Merchant: "parcels", Scheme: payment.Visa, Links: []payment.LinkName{linkName(0), linkName(1)}, Currencies: []payment.Currency{978},
		Terms: payment.Terms{
			Terminal: "TERM0001", Acceptor: "PARCELS00000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "9402", Acquirer: "497010", Country: "250",
		},
	}}, nil)
	if err != nil {
		return err
	}
	var current atomic.Pointer[routing.Table]
	current.Store(table)
	minter, err := payment.NewMinter(wallClock, stream("ids"))
	if err != nil {
		return err
	}
	l.core, err = switching.New(switching.Deps{
		Journal: l.store, Canceller: l.store, Records: l.store, Exchanger: l.set, Sealer: l.cards, Table: &current, Lanes: lanes,
		Node: l.m.id, Session: l.store.Session, Now: wallClock, Mint: minter.Mint, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	l.tasks.Go(func() { _ = l.set.Run(l.ctx) })
	for _, x := range links {
		worker, err := outbox.New(outbox.Config{Window: 4}, outbox.Deps{
			Link: x.Name(), Dialect: d, Journal: l.store, Sender: x, Vault: l.cards, Now: wallClock, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		l.tasks.Go(func() { worker.Run(l.ctx) })
	}
	return nil
}

// crash is the end of a process at this very moment: its lines are dead and its
// disk is what a power cut leaves of it. The rest of the process, which no longer
// reaches anything, is wound up behind it.
func (m *member) crash(l *life) {
	m.mu.Lock()
	if l == nil || m.life != l {
		m.mu.Unlock()
		return
	}
	m.life = nil
	m.mu.Unlock()
	l.dead.Store(true)
	l.host.end() // before the disk is cut: what it says after that nobody hears
	m.fs = m.w.crashClone(m.fs)
	m.w.notef("%s crashes", m.id)
	m.w.ending.Go(l.end)
}

// end stops what is left of a life.
func (l *life) end() {
	l.stop()
	l.tasks.Wait()
	_ = l.store.Stop(context.Background())
	l.host.end()
}

// now is the life that serves, nil when there is none.
func (m *member) now() *life {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life
}

// plainRoot wraps data keys in nothing: these keys protect nothing.
type plainRoot struct{}

func (plainRoot) Wrap(key []byte) ([]byte, error) { return append([]byte(nil), key...), nil }

func (plainRoot) Unwrap(wrapped []byte) ([]byte, error) { return append([]byte(nil), wrapped...), nil }
