// Package server is hsmd without its main: it answers what clients ask over
// frames, with keys whose master keys stay in a root of trust.
//
// A connection has one reader, which answers what is quick at once, in the
// order it came, and writes all answers of one read in one write. What waits
// for the token or for the audit log goes to a bounded number of workers; when
// they are all at work the answer is busy. What changes or releases a key or a
// card is in the audit log before it has its effect. There are two kinds of
// listeners: run, for the switch, and admin, for those who look after keys.
// The package does no cryptography (hsm/engine does), knows no PKCS#11 (its
// Root is given), and logs no key, PIN or card. Called by cmd/hsmd.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm/audit"
	"authswitch/hsm/dukpt"
	"authswitch/hsm/wire"
)

// Errors of starting.
var (
	ErrNoMaster = errors.New("the root of trust holds no local master key; run `hsmd init`, or hold a ceremony")
	ErrTestKeys = errors.New("test keys were let in under this root of trust: production needs another")
	ErrFileRoot = errors.New("production needs a token: a key file gives all keys to whoever copies it")
)

// Root is where the local master keys are.
type Root interface {
	Masters() ([]int, error)
	CMAC(master int, dst, input []byte) error
}

// Keeper makes and destroys local master keys; nil where that is not for this
// process.
type Keeper interface {
	CreateMaster(number int) error
	DestroyMaster(number int) error
}

// Book is the audit log: an entry is on disk when Append returns nil.
type Book interface {
	Append(e audit.Event) (audit.Place, error)
	Checkpoint() (audit.Place, error)
}

// About is what Status says besides what the server knows itself.
type About struct {
	Version, Profile, Kind, Manufacturer, Model, Serial, Label, Library string
	TestKeys                                                            bool
}

// Production is the profile that refuses what is only good for trying things
// out.
const Production = "production"

// Deps are what a server takes from its environment.
type Deps struct {
	Root       Root
	Keeper     Keeper
	Book       Book
	About      About
	Now        func() time.Time
	Random     io.Reader // the operating system's
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: not registered
	// Admin are operations of the admin listeners that this package does not
	// have: the ceremony's.
	Admin map[wire.Op]Handler
	// Dual says whether operations on keys need two officers; nil: they do not.
	Dual func() bool
	// AuditKey is the public half of the key that signs warrants, PKIX DER.
	AuditKey []byte
}

// Server answers. Good for any number of listeners.
type Server struct {
	cfg      Config
	deps     Deps
	started  time.Time
	masters  *masters
	order    *dukpt.Order
	purposes [wire.PurposeReseal + 1]purpose
	refusals *refusals
	stop     context.CancelFunc // ends the writing of refusals
	table    [256]operation
	slow     chan struct{} // a place for each operation at work
	changing sync.Mutex    // of the master keys: one change at a time
	metrics  *metrics

	mu          sync.Mutex
	closed      bool
	listeners   map[net.Listener]struct{}
	connections map[*connection]struct{}
	running     sync.WaitGroup
	writing     sync.WaitGroup // of refusals
	names       atomic.Uint64  // of connections
}

// New derives the block keys from the root, and refuses what the profile does.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.WithDefaults()
	if deps.About.Profile == Production {
		if deps.About.Kind == "file" {
			return nil, ErrFileRoot
		}
		if deps.About.TestKeys {
			return nil, ErrTestKeys
		}
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, deps: deps, started: deps.Now(),
		order:     dukpt.NewOrder(cfg.Devices),
		purposes:  purposes(&cfg),
		refusals:  newRefusals(deps.Book, deps.Log, cfg.RefusalsEvery),
		slow:      make(chan struct{}, cfg.Workers),
		listeners: map[net.Listener]struct{}{}, connections: map[*connection]struct{}{},
	}
	var err error
	if s.masters, err = newMasters(deps.Root, deps.Random, cfg, deps.Now); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(deps.Registerer, s); err != nil {
		return nil, err
	}
	s.table = s.operations()
	for op, h := range deps.Admin {
		if s.table[op].handle != nil {
			return nil, fmt.Errorf("operation %d has a handler already", op)
		}
		s.table[op] = operation{handle: h, admin: true}
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.writing.Go(func() { s.refusals.run(ctx) })
	return s, nil
}

// Role is what a listener is for.
type Role uint8

// The roles.
const (
	Run   Role = iota // the switch
	Admin             // those who look after keys
	Host              // who speaks host commands: what the switch may, in another language
)

// String is the role's name.
func (r Role) String() string {
	switch r {
	case Admin:
		return "admin"
	case Host:
		return "host"
	}
	return "run"
}

// Identify says who a new connection is, or refuses it. It may take until a TLS
// handshake is done.
type Identify func(socket net.Conn) (peer string, err error)

// Serve answers on a listener until it is closed. Every connection is asked for
// its peer first.
func (s *Server) Serve(l net.Listener, role Role, identify Identify) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	for {
		socket, err := l.Accept()
		if err != nil {
			if s.isClosed() {
				return net.ErrClosed
			}
			if isTemporary(err) {
				time.Sleep(acceptPause) // out of descriptors: every other cure is not ours
				continue
			}
			return fmt.Errorf("accepting on the %s listener: %w", role, err)
		}
		s.welcome(socket, role, identify)
	}
}

const acceptPause = 20 * time.Millisecond

// isTemporary says whether accepting may work again soon.
func isTemporary(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && !errors.Is(err, net.ErrClosed)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// welcome takes a connection in, unless there are too many.
func (s *Server) welcome(socket net.Conn, role Role, identify Identify) {
	c := &connection{server: s, socket: socket, role: role, name: s.names.Add(1)}
	s.mu.Lock()
	full, closed := len(s.connections) >= s.cfg.Connections, s.closed
	if !full && !closed {
		s.connections[c] = struct{}{}
		s.running.Add(1)
	}
	s.mu.Unlock()
	if full || closed {
		s.metrics.turnedAway.Inc()
		_ = socket.Close()
		return
	}
	go func() {
		defer s.running.Done()
		c.run(identify)
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
	}()
}

// Close ends all listeners and connections, waits for what is at work, and
// wipes the keys.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.connections {
		c.hangUp()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.stop()
	s.writing.Wait()
	s.masters.wipe()
}
