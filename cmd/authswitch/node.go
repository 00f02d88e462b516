package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"authswitch/api"
	"authswitch/clearing"
	"authswitch/handover"
	"authswitch/hsm"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/keyring"
	"authswitch/link"
	"authswitch/outbox"
	"authswitch/payment"
	"authswitch/peer"
	"authswitch/people"
	"authswitch/query"
	"authswitch/schedule"
	"authswitch/store"
	switching "authswitch/switch"
	"authswitch/vault"
	"authswitch/vault/stored"
	"authswitch/zone"
)

// node is one running switch: its parts, in the order they were built.
type node struct {
	cfg      *Config
	path     string // of its file
	log      *slog.Logger
	registry *prometheus.Registry
	vault    *vault.Vault
	store    *store.Store
	runQueue *runQueue
	cards    *stored.Cards
	keys     *keyring.Keyring // nil: no security module
	clearing *clearing.Runner
	links    []*link.Link
	byName   *link.Set
	mesh     *peer.Mesh               // nil where this node is alone
	control  *controlServer           // with mesh
	handover *handover.Handover       // with mesh
	linkSet  atomic.Pointer[link.Set] // byName, for the store, which starts before it
	core     *switching.Switch
	door     *api.Server
	admin    *admin
	people   *people.Book
	changing changing               // what can be read again while it runs
	hsm      *hsm.Client            // nil: the configuration names no security module
	hsmSeen  atomic.Bool            // it answered once
	shedBy   atomic.Pointer[string] // who took the node out of rotation
	phase    atomic.Pointer[string] // why /ready says no whatever else: before and after serving
	stopHSM  func()
	zones    []*zone.Zone // of the links that have one
	failed   chan error   // a part that cannot go on

	storeFailed atomic.Bool // nothing that waits for the journal ends any more

	running      sync.WaitGroup // links and outbox workers
	sharing      sync.WaitGroup // those who keep shares of links
	stopCards    func()
	stopHandover func()
	stopKeys     func()
	stopSend     context.CancelFunc
	stopLink     context.CancelFunc
}

// Limits of a clean stop, one after the other.
const (
	stopDoor  = 15 * time.Second
	stopLinks = 5 * time.Second
	stopStore = 10 * time.Second
)

// wallClock is the process's only clock for what is written.
func wallClock() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// startNode builds the parts top to bottom and returns when the doors are open.
// What it started before a failure, it stops.
func startNode(ctx context.Context, cfg *Config, path string, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, path: path, log: log, registry: prometheus.NewRegistry(), runQueue: newRunQueue(), failed: make(chan error, 8)}
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "processor_wait_seconds", Help: "What nine of ten runnable goroutines waited less than for a processor, lately: what the door refuses by where processors are short.",
	}, func() float64 { return n.runQueue.Wait().Seconds() }))
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := writePID(cfg.Node.DataDir); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		phase string
		build func(context.Context) error
	}{
		{"starting", n.openAdmin},
		{"starting: the security module and the vault", n.openModule},
		{"starting: the security module and the vault", n.openVault},
		{"starting: the journal is read, and a leader is sought", n.openStore},
		{"starting: keys and links", n.openControl},
		{"starting: keys and links", n.openCards},
		{"starting: keys and links", n.openKeys},
		{"starting: keys and links", n.openHandover},
		{"starting: keys and links", n.buildCore},
		{"starting: keys and links", n.startLinks},
		{"starting: keys and links", n.openDoors},
	} {
		n.phase.Store(&part.phase)
		if err := part.build(ctx); err != nil {
			n.stop()
			return nil, err
		}
	}
	n.phase.Store(nil)
	return n, nil
}

func (n *node) openStore(ctx context.Context) error {
	schemes := make(map[payment.LinkName]string, len(n.cfg.Links))
	for i := range n.cfg.Links {
		schemes[n.cfg.Links[i].Name] = n.cfg.Links[i].Scheme
	}
	var err error
	n.store, err = store.Start(ctx, n.cfg.Store, store.Deps{
		Now: wallClock, Rand: rand.Reader, Log: n.log, Registerer: n.registry, Schemes: schemes,
		Fail:  func(err error) { n.storeFailed.Store(true); n.failed <- fmt.Errorf("store: %w", err) },
		Build: version, Connect: n.connect(), Steady: bootTime, Stopped: n.cutLinks, Lost: n.loseShares, Renewed: n.dropNumbers,
	})
	return err
}

// buildCore compiles dialects and routes and puts the switch together.
func (n *node) buildCore(context.Context) error {
	ranges, err := n.cfg.ranges()
	if err != nil {
		return err
	}
	n.changing.file, n.changing.ranges = n.cfg, ranges
	if err := n.takeMerchants(); err != nil {
		return err
	}
	if n.clearing, err = n.newClearing(); err != nil {
		return err
	}
	minter, err := payment.NewMinter(wallClock, rand.Reader)
	if err != nil {
		return fmt.Errorf("seed ids: %w", err)
	}
	compiled := map[payment.DialectName]*iso8583.Dialect{}
	lanes := make([]switching.Lane, 0, len(n.cfg.Links))
	budget := link.NewDialBudget(dialsPerSecond, dialsBurst)
	for i := range n.cfg.Links {
		c := &n.cfg.Links[i]
		d := compiled[c.Dialect]
		if d == nil {
			if d, err = iso8583.Load(dialects.FS, string(c.Dialect)); err != nil {
				return fmt.Errorf("link %s: %w", c.Name, err)
			}
			compiled[c.Dialect] = d
		}
		var l *link.Link
		z, d, err := n.secureLink(c, d, func(u payment.KeyUsage) { n.tellStop(l.Name(), u); l.WantKeys(u) })
		if err != nil {
			return err
		}
		deps := link.Deps{
			Now: wallClock, Rand: rand.Reader, Dial: (&net.Dialer{}).DialContext, Log: n.log, Registerer: n.registry, Dials: budget,
			Lease:        n.store.Lease,
			MayWrite:     n.mayWrite,
			Starved:      n.runQueue.Wait,
			Late:         func(l payment.Late) { n.core.Late(l) },
			LateReversal: n.lateReversal, LateOperation: n.lateOperation, CutOver: n.cutOver,
		}
		guarded(&deps, z)
		if l, err = link.New(c.Config, d, deps); err != nil {
			return err
		}
		n.links = append(n.links, l)
		lane := switching.Lane{Name: c.Name, Dialect: d, KeepsNoHold: c.KeepsNoHold, RefundsFinal: c.RefundsFinal}
		if z != nil {
			lane.Zone = z
		}
		lanes = append(lanes, lane)
	}
	if n.byName, err = link.NewSet(n.links...); err != nil {
		return err
	}
	n.linkSet.Store(n.byName)
	n.core, err = switching.New(switching.Deps{
		Journal: n.store, Canceller: n.store, Records: n.store, Operations: n.store, Moves: n.store, Cards: n.store, Links: n.store, Opener: n.cards.For(hsm.Capture), CardScope: n.cardScope, Exchanger: n.byName, Elsewhere: n.elsewhere(), Sealer: n.cards,
		Table: &n.changing.table, Lanes: lanes, Node: n.cfg.Node.ID, Session: n.store.Session,
		Now: wallClock, Mint: minter.Mint, Log: n.log, Registerer: n.registry,
	})
	return err
}

// All links together dial at most so often, so that they do not storm a
// network that comes back.
const (
	dialsPerSecond = 20
	dialsBurst     = 10
)

// lateReversal takes an acknowledgement that came after its transmission had
// been given up: it ends what is owed all the same.
func (n *node) lateReversal(name payment.LinkName, seq uint64, r *payment.Response) {
	if r.Advice == payment.AdviceRepeat {
		return
	}
	if _, err := n.store.Acknowledge(name, seq, r, r.Advice); err != nil {
		n.log.Warn("late acknowledgement not journalled; the reversal is repeated", "link", name, "error", err)
	}
}

// lateOperation takes the answer to an advice or an operation's request that
// came after it had been given up.
func (n *node) lateOperation(a *payment.Acknowledgement) {
	if a.Verdict == payment.AdviceRepeat {
		return
	}
	if err := switching.Insist(func() error { return n.store.Answer(a) }); err != nil && !errors.Is(err, payment.ErrNotFound) {
		n.log.Error("late answer to an operation not journalled: its approval, if it is one, must be looked for at the acquirer",
			"id", a.ID.String(), "link", a.Link, "response_code", a.Response.Code.String(), "error", err)
	}
}

// startLinks dials, and carries what is owed from earlier lives.
func (n *node) startLinks(ctx context.Context) error {
	linkContext, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	sendContext, stopSend := context.WithCancel(context.WithoutCancel(ctx))
	n.stopLink, n.stopSend = stopLink, stopSend
	n.running.Go(func() { n.loadTestKeys(sendContext) })
	n.running.Go(func() { n.followMerchants(sendContext) })
	for _, l := range n.links {
		if n.mesh != nil && shared(l) {
			l.Stand(link.Standing{Others: true}) // nothing before it is claimed
			n.sharing.Go(func() { n.keepShare(sendContext, l) })
		}
		n.running.Go(func() {
			if err := l.Run(linkContext); err != nil && !errors.Is(err, context.Canceled) {
				n.failed <- fmt.Errorf("link %s: %w", l.Name(), err)
			}
		})
		var protector outbox.Protector
		for _, z := range n.zones {
			if z.Link() == l.Name() {
				protector = z
			}
		}
		deps := outbox.Deps{
			Link: l.Name(), Dialect: l.Dialect(), Journal: n.store, Operations: n.store, Sender: l, Up: l.Ready, Vault: n.cards, Captures: n.cards.For(hsm.Capture), Zone: protector, Now: wallClock, Log: n.log, Idle: n.store.Idle,
			Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"link": string(l.Name()), "scheme": l.Config().Scheme}, n.registry),
		}
		worker, err := outbox.New(outbox.Config{Window: l.Config().ReversalWindow}, deps)
		if err != nil {
			return err
		}
		if l.Dialect().UploadMTI() != 0 {
			n.clearing.Agrees(l.Name(), &outbox.Reconciler{Deps: deps, Totals: n.store})
		}
		n.running.Go(func() { worker.Run(sendContext) })
	}
	n.running.Go(func() { n.clearing.Run(sendContext) })
	n.running.Go(func() { n.runBatches(sendContext) })
	n.running.Go(func() { schedule.New(schedule.Config{}, n.store, n.log).Run(sendContext) })
	return nil
}

// openAdmin is first: a node that reads a long journal says so at /ready, and is
// not taken for one that hangs. Operators are let in by openDoors.
func (n *node) openAdmin(context.Context) error {
	var err error
	if n.admin, err = newAdmin(net.Listen, n.cfg.Admin, n.registry, n.missing); err != nil {
		return err
	}
	go n.report("admin port", n.admin.serve)
	return nil
}

// openDoors lets operators and gateways in, in this order.
func (n *node) openDoors(context.Context) error {
	var err error
	n.openPeople()
	fresh := store.Fresh{Store: n.store}
	reader := query.New(fresh, fresh)
	deps := api.Deps{
		Authorizer: n.core, Reverser: n.core, Operator: n.core, Corrector: n.core, Cards: n.core, Gateways: &n.changing, Administrators: &n.changing, Merchants: merchantKeeper{n}, PaymentLinks: linkKeeper{n}, Reader: reader, Finder: reader, Links: n.linkViews, QueueAge: n.store.QueueAge, Starved: n.runQueue.Wait, Now: wallClock, Log: n.log, Registerer: n.registry,
	}
	if err := n.openBatches(&deps); err != nil {
		return err
	}
	if n.handover != nil {
		deps.Others = n.handover
	}
	if n.door, err = api.New(n.cfg.API, deps); err != nil {
		return err
	}
	n.startHandover()
	if err := n.openOperations(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", n.cfg.API.Listen)
	if err != nil {
		return fmt.Errorf("listen for the API on %s: %w", n.cfg.API.Listen, err)
	}
	go n.report("API", func() error { return n.door.Serve(ln) })
	return nil
}

// report passes on why a listener ended, unless the node is stopping.
func (n *node) report(what string, serve func() error) {
	if err := serve(); err != nil && !errors.Is(err, net.ErrClosed) {
		n.failed <- fmt.Errorf("%s: %w", what, err)
	}
}

// linkViews is what GET /v1/links shows.
func (n *node) linkViews() []api.Link {
	views := make([]api.Link, len(n.links))
	for i, l := range n.links {
		s, c := l.Status(), &n.cfg.Links[i]
		owed, oldest, exceptions := n.store.Owing(l.Name())
		views[i] = api.Link{
			Name: l.Name(), Scheme: payment.ParseScheme([]byte(c.Scheme)), Dialect: c.Dialect, Address: c.Address, Ledger: c.SimulatorLedger,
			State: n.stateOf(l, s.State), SignedOn: s.SignedOn, Connections: len(s.Connections), InFlight: s.InFlight, Window: s.Window, WindowNow: s.WindowNow,
			ReversalsOwed: owed, OldestOwedSince: oldest, Exceptions: exceptions, OperationsOwed: n.store.OwingOperations(l.Name()),
		}
		if c.SimulatorLedger != "" {
			views[i].Clearing = n.cfg.Clearing.Dir
		}
		for _, connection := range s.Connections {
			views[i].EchoRoundTrip = max(views[i].EchoRoundTrip, connection.EchoRTT)
		}
	}
	return views
}

// missing is what keeps the node from being ready: every link must have signed
// on and be released, so that a first request finds its route; but those that an
// operator holds.
func (n *node) missing() []string {
	if phase := n.phase.Load(); phase != nil {
		return []string{*phase}
	}
	missing := append(append(n.store.Missing(), n.moduleMissing()...), n.zonesMissing()...)
	if by := n.shedBy.Load(); by != nil {
		missing = append(missing, "taken out of rotation by "+*by)
	}
	fenced, released := n.store.Fenced()
	for _, l := range n.links {
		if fenced && !slices.Contains(released, l.Name()) {
			missing = append(missing, fmt.Sprintf("link %s is fenced: this state comes from a backup (cluster release %s)", l.Name(), l.Name()))
		}
		if s := l.Status(); s.Hold == link.NoHold && (s.State != link.Ready || s.NumbersLeft == 0) && n.absent(l) {
			missing = append(missing, fmt.Sprintf("link %s is %s with %d trace numbers", l.Name(), s.State, s.NumbersLeft))
		}
	}
	return missing
}

// stop closes the doors, lets running requests end, then stops the parts in
// the reverse of their order. What is still owed stays in the journal.
func (n *node) stop() {
	phase := "stopping"
	n.phase.Store(&phase)
	if n.door != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopDoor)
		if err := n.door.Shutdown(ctx); err != nil {
			n.log.Warn("API did not drain", "error", err)
		}
		cancel()
	}
	if n.stopHandover != nil {
		n.stopHandover()
	}
	if n.stopSend != nil {
		n.stopSend()
		n.sharing.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), stopLinks)
		if err := n.byName.Drain(ctx); err != nil { // signs off; what is pending has its own deadline
			n.log.Warn("links did not drain", "error", err)
		}
		cancel()
		n.giveSharesBack()
		n.stopLink()
		n.running.Wait()
	}
	for _, stop := range []func(){n.stopKeys, n.stopCards} {
		if stop != nil {
			stop()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopStore)
	defer cancel()
	if n.control != nil {
		n.control.stop()
	}
	if n.store != nil {
		if err := n.store.Stop(ctx); err != nil {
			n.log.Warn("store did not stop cleanly", "error", err)
		}
	}
	if n.stopHSM != nil {
		n.stopHSM()
	}
	if n.admin != nil {
		_ = n.admin.stop(ctx)
	}
}
