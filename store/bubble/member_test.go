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
	"github.com/prometheus/client_golang/prometheus"

	"authswitch/link"
	"authswitch/outbox"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/schedule"
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
	w  *world
	id payment.NodeID
	fs *vfs.MemFS
	moods
	clock  atomic.Int64 // how far its clock is from the true time, in nanoseconds
	mu     sync.Mutex
	life   *life // nil while it is down
	lives  int
	starts int
}

// clockTime is the time by the member's own clock.
func (m *member) clockTime() payment.Instant { return wallClock() + payment.Instant(m.clock.Load()) }

// heartbeat is how long a leader may be silent.
const heartbeat = 300 * time.Millisecond

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

// start boots the member on its disk. It returns when the store has its session
// and the links are told to dial, or says why not.
func (m *member) start() error {
	w := m.w
	w.net.power(string(m.id))
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
		Node: m.id, Dir: "data", Address: string(m.id), Members: members, MemtableBytes: 1 << 20, BlockCacheBytes: 16 << 20,
		// A sync in memory copies the whole file: small files.
		LogMemtableBytes: 128 << 10, LogCacheBytes: 1 << 20, SnapshotThreshold: 96, TrailingLogs: 32, SnapshotEvery: 2 * time.Second,
		HeartbeatTimeout: heartbeat,
	}, store.Deps{
		Now: m.clockTime, Rand: stream("store"), Log: w.logger(m.id), FS: &disk{m.fs, m}, Registerer: prometheus.NewRegistry(),
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
				go m.kill(l)
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
	l.cards, err = stored.New(stored.Config{}, stored.Deps{Vault: sealed, Now: l.m.clockTime, Ring: func() *payment.KeyRing { return nil }})
	if err != nil {
		return err
	}
	d := w.dialect
	var links []*link.Link
	var lanes []switching.Lane
	for i := range hosts {
		made, err := link.New(link.Config{
			Name: linkName(i), Scheme: "visa", Dialect: dialect, Address: string(linkName(i)) + ":1", SendWithin: time.Second,
			AnswerTimeout: 2 * time.Second, MaxOriginalLife: 6 * time.Second, UserTimeout: time.Second, DialTimeout: time.Second,
			BackoffLongest: time.Second, LateMemory: 256, EchoEvery: 5 * time.Second, EchoTimeout: time.Second, DrainTimeout: 3 * time.Second,
		}, d, link.Deps{
			Now: l.m.clockTime, Rand: stream(string(linkName(i))), Log: w.logger(l.m.id), Lease: l.store.Lease,
			MayWrite: l.store.MayWrite,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return l.host.dial(ctx, string(linkName(i)), string(linkName(i)))
			},
			Late: func(x payment.Late) { l.core.Late(x) },
			LateOperation: func(a *payment.Acknowledgement) {
				if a.Verdict != payment.AdviceRepeat {
					_ = l.store.Answer(a)
				}
			},
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
	var current atomic.Pointer[routing.Table]
	current.Store(w.table)
	minter, err := payment.NewMinter(l.m.clockTime, stream("ids"))
	if err != nil {
		return err
	}
	l.core, err = switching.New(switching.Deps{
		Journal: l.store, Canceller: l.store, Records: l.store, Operations: l.store, Moves: l.store, Cards: l.store, Opener: l.cards, Exchanger: l.set, Sealer: l.cards, Table: &current, Lanes: lanes,
		Node: l.m.id, Session: l.store.Session, Now: l.m.clockTime, Mint: minter.Mint, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	l.tasks.Go(func() { _ = l.set.Run(l.ctx) })
	l.tasks.Go(func() { schedule.New(schedule.Config{}, l.store, slog.New(slog.DiscardHandler)).Run(l.ctx) })
	for _, x := range links {
		worker, err := outbox.New(outbox.Config{Window: 4, Poll: 100 * time.Millisecond}, outbox.Deps{
			Link: x.Name(), Dialect: d, Journal: l.store, Operations: l.store, Sender: x, Vault: l.cards, Now: l.m.clockTime, Log: w.logger(l.m.id),
		})
		if err != nil {
			return err
		}
		l.tasks.Go(func() { worker.Run(l.ctx) })
	}
	return nil
}

// kill is the end of a process at this very moment: the kernel closes its lines,
// refuses new ones and keeps what was written.
func (m *member) kill(l *life) { m.crash(l, false) }

// powerCut is the end of its machine: nobody is told, and what was not synced may
// be lost.
func (m *member) powerCut(l *life) { m.crash(l, true) }

// crash ends a life. What is left of it, which no longer reaches anything, is wound
// up behind it.
func (m *member) crash(l *life, power bool) {
	m.mu.Lock()
	if l == nil || m.life != l {
		m.mu.Unlock()
		return
	}
	m.life = nil
	m.mu.Unlock()
	l.dead.Store(true)
	// Before the disk is cut: what it says after that nobody hears.
	if power {
		l.host.lose()
		m.fs = m.w.crashClone(m.fs)
		m.w.notef("%s has no power", m.id)
	} else {
		l.host.end()
		m.fs = m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
		m.w.notef("%s is killed", m.id)
	}
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
