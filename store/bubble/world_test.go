package bubble_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/journal"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/sim"
	"authswitch/vault"
)

const (
	dialect = "ascii87"
	nodes   = 3
	hosts   = 2
)

func linkName(i int) payment.LinkName { return payment.LinkName([]string{"acq-a", "acq-b"}[i]) }

// world is one seed's cluster and all around it.
type world struct {
	seed    uint64
	dir     string // the acquirers' ledgers, which are real files
	net     *fabric
	members []*member
	keys    []byte
	ending  sync.WaitGroup
	stopSim context.CancelFunc
	sims    sync.WaitGroup
	began   time.Time
	trace   *trace
	dialect *iso8583.Dialect // of every member, as table: neither changes
	table   *routing.Table

	mu       sync.Mutex
	r        *rand.Rand
	notes    bytes.Buffer
	logs     bytes.Buffer
	found    []string
	payments []*sale
	approved []*sale // that were told so, oldest first
	counts   map[string]int
}

func (w *world) notef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	note := fmt.Sprintf(format, args...)
	w.trace.add('n', "", "", []byte(note))
	fmt.Fprintf(&w.notes, "%10.6f  %s\n", time.Since(w.began).Seconds(), note)
}

func (w *world) failf(format string, args ...any) {
	w.notef("VIOLATION "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, fmt.Sprintf(format, args...))
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// logger keeps a node's words beside the world's notes.
func (w *world) logger(id payment.NodeID) *slog.Logger {
	return slog.New(slog.NewTextHandler(&logWriter{w}, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", id)
}

type logWriter struct{ w *world }

func (l *logWriter) Write(b []byte) (int, error) {
	l.w.trace.add('l', "", "", b)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.w.logs.Len() < 1<<20 {
		fmt.Fprintf(&l.w.logs, "%10.6f  %s", time.Since(l.w.began).Seconds(), b)
	}
	return len(b), nil
}

func (w *world) crashClone(fs *vfs.MemFS) *vfs.MemFS {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.r.IntN(101), RNG: w.r})
}

// newWorld starts the acquirers and boots the members. It is called inside a
// bubble.
func newWorld(seed uint64, dir string) *world {
	w := &world{seed: seed, dir: dir, r: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), trace: newTrace(*eventsFlag), counts: map[string]int{}}
	w.net = newFabric(rand.New(rand.NewPCG(seed, 2)), w.trace)
	var err error
	if w.keys, err = vault.Generate(plainRoot{}, random("keys")); err != nil {
		panic(err)
	}
	if w.dialect, err = iso8583.Load(dialects.FS, dialect); err != nil {
		panic(err)
	}
	if w.table, err = contracts(); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stopSim = stop
	for i := range hosts {
		name := string(linkName(i))
		s, err := sim.New(sim.Config{
			Name: name, Dialect: dialect, Listen: name, Ledger: w.ledger(i), LedgerSync: sim.SyncNone, Codec: sim.CodecMoov,
			LateAfter: 3 * time.Second, Seed: seed, RememberReversals: seed>>i&1 == 0,
			Latency: sim.Latency{Distribution: "exponential", Mean: 15 * time.Millisecond, Max: 300 * time.Millisecond},
		}, sim.Deps{
			Now: time.Now, Dialects: dialects.FS, Log: slog.New(slog.DiscardHandler),
			Listen: func(context.Context, string, string) (net.Listener, error) {
				return w.net.process(name).listen(name), nil
			},
		})
		if err != nil {
			panic(err)
		}
		w.sims.Go(func() {
			if err := s.Run(ctx); err != nil {
				w.failf("acquirer %s: %v", name, err)
			}
		})
	}
	for i := range nodes {
		w.members = append(w.members, &member{w: w, id: payment.NodeID(fmt.Sprintf("n%d", i+1)), fs: vfs.NewCrashableMem()})
	}
	return w
}

// contracts are what the merchant agreed with the acquirers.
func contracts() (*routing.Table, error) {
	return routing.NewTable(routing.DefaultRanges(), []routing.Contract{{
		Merchant: "parcels", Scheme: payment.Visa, Links: []payment.LinkName{linkName(0), linkName(1)}, Currencies: []payment.Currency{978},
		Terms: payment.Terms{
			Terminal: "TERM0001", Acceptor: "PARCELS00000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "9402", Acquirer: "497010", Country: "250",
		},
	}}, nil)
}

func (w *world) ledger(i int) string {
	return filepath.Join(w.dir, fmt.Sprintf("%d-%s.jsonl", w.seed, linkName(i)))
}

// boot starts every member at once. One whose disk is not to be believed, or is
// empty, is rebuilt from the others, as an operator would.
func (w *world) boot(members ...*member) {
	var group sync.WaitGroup
	for _, m := range members {
		group.Go(func() {
			for range 10 {
				err := m.start()
				if err == nil {
					return
				}
				w.notef("%v", err)
				if untrusted(err) {
					w.rebuild(m)
					return
				}
				time.Sleep(time.Second)
			}
			w.failf("%s does not start", m.id)
		})
	}
	group.Wait()
}

// upgraded waits until the new cluster has the newest version: until then the rules
// of money are those of an older one, and the register has the newest's.
func (w *world) upgraded() {
	until := time.Now().Add(time.Minute)
	for _, m := range w.members {
		for {
			l := m.now()
			if l == nil || time.Now().After(until) {
				w.failf("%s never has the newest version", m.id)
				return
			}
			if s, err := l.store.Status(); err == nil && s.Version == journal.NewestVersion {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	w.notef("the cluster has the newest version")
}

// sale is one payment of a gateway: it asks until it has a final answer.
type sale struct {
	number int
	key    []byte
	amount int64
	told   *payment.Payment
	err    error
	tries  int

	moves    []*move      // under the world's lock
	captures []payment.ID // that stand, as far as gateways were told
}

// amounts are what the simulators know to do with: mostly approvals, then each
// of their misdeeds.
var misdeeds = []int64{10, 51, 91, 5, 68, 69, 70, 71, 72, 74, 75, 76, 80, 84, 85, 86, 87}

// sell runs the gateways until the end of the active time, and each until it is
// answered.
func (w *world) sell(active time.Duration, gateways int) *sync.WaitGroup {
	var group sync.WaitGroup
	until := time.Now().Add(active)
	for g := range gateways {
		r := rand.New(rand.NewPCG(w.seed, uint64(100+g)))
		group.Go(func() {
			for n := 0; time.Now().Before(until); n++ {
				time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
				amount := int64(1000+r.IntN(500)) * 100
				if r.IntN(3) == 0 {
					amount += misdeeds[r.IntN(len(misdeeds))]
				}
				s := &sale{number: g*100_000 + n, key: fmt.Appendf(nil, "key-%d-%d", g, n), amount: amount}
				w.mu.Lock()
				w.payments = append(w.payments, s)
				w.mu.Unlock()
				s.run(w, r)
			}
		})
	}
	return &group
}

// mostAsks is far more often than a healed cluster needs to answer.
const mostAsks = 400

func (s *sale) run(w *world, r *rand.Rand) {
	for s.tries = 1; s.tries < mostAsks; s.tries++ {
		if done := s.ask(w, w.members[r.IntN(nodes)]); done {
			return
		}
		time.Sleep(50*time.Millisecond + time.Duration(r.Int64N(int64(500*time.Millisecond))))
	}
	w.failf("%s has no final answer after %d tries: %v", s.key, s.tries, s.err)
}

// ask asks one node once. An answer of a process that died meanwhile was never
// given.
func (s *sale) ask(w *world, m *member) (final bool) {
	l := m.now()
	if l == nil {
		return false
	}
	a := s.request(l.m.clockTime())
	var out payment.Payment
	err := l.core.Authorize(a, &out)
	if l.dead.Load() {
		return false
	}
	s.err = err
	if err != nil {
		return false
	}
	s.told = &out
	out.Intent.Key, out.Intent.Reference, out.Intent.BIN = s.key, nil, nil // they lie in the request
	w.count(out.Outcome.Status.String())
	if out.Outcome.Status.Approved() {
		w.mu.Lock()
		w.approved = append(w.approved, s)
		w.mu.Unlock()
	}
	return true
}

func (s *sale) request(now payment.Instant) *payment.Authorization {
	a := &payment.Authorization{
		Gateway: "gw", Merchant: "parcels", Key: s.key, Reference: fmt.Appendf(nil, "order-%d", s.number),
		Amount: payment.Amount{Value: s.amount, Currency: 978}, Channel: payment.Ecommerce, SaveCard: s.number%2 == 0, ReceivedAt: now,
		Deadline: now + payment.Instant(8*time.Second),
	}
	var err error
	if a.Card.PAN, err = card.ParsePAN([]byte("4111111111111111")); err != nil {
		panic(err)
	}
	if a.Card.Expiry, err = card.ParseExpiry([]byte("9912")); err != nil {
		panic(err)
	}
	return a
}
