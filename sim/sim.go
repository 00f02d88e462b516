package sim

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"authswitch/iso8583"
	"authswitch/sim/oracle"
)

// errHungUp ends a connection on the script's order.
var errHungUp = errors.New("hung up")

// Deps is what a simulator takes from its surroundings.
type Deps struct {
	Now      func() time.Time // for what is written: ledger, DE 7
	Listen   func(ctx context.Context, network, address string) (net.Listener, error)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // of scenarios with dial
	Dialects fs.FS
	Log      *slog.Logger
	// Listening, when set, is told the address once connections are taken.
	Listening func(net.Addr)
}

// Simulator is one acquirer or issuer host.
type Simulator struct {
	config    Config
	deps      Deps
	log       *slog.Logger
	framing   framing
	headerLen int
	version   byte
	host      *host
	ledger    *ledger
	wire      *wire // nil: none
	newCodec  func() (codec, error)
	custody   *custody
	stats     counters

	mu     sync.Mutex
	failed error // why it must stop
	stop   context.CancelFunc
}

// counters are what a simulator can tell about a run.
type counters struct {
	connections, payments, unreadable, unsendable, badMACs atomic.Uint64
}

// Stats is a reading of a simulator's counters.
type Stats struct {
	Connections uint64 // ever accepted
	Payments    uint64 // messages decided
	Unreadable  uint64 // frames the codec refused
	Unsendable  uint64 // answers the codec refused
	BadMACs     uint64 // network messages that were not answered because of theirs
}

// New compiles the dialect and opens the ledger, whose decisions it remembers.
func New(config Config, deps Deps) (*Simulator, error) {
	if faults := config.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrScenario, errors.Join(faults...))
	}
	config = config.withDefaults()
	dialect, err := iso8583.Load(deps.Dialects, config.Dialect)
	if err != nil {
		return nil, fmt.Errorf("simulator %s: %w", config.Name, err)
	}
	s := &Simulator{config: config, deps: deps, log: deps.Log.With("simulator", config.Name)}
	s.framing = framingOf(dialect.Framing())
	s.headerLen = dialect.Framing().Header.Len()
	s.version = '0' + byte(dialect.AuthorizationMTI()>>12)
	profile, err := profileOf(dialect.Name(), s.version, config.Codes)
	if err != nil {
		return nil, fmt.Errorf("simulator %s: %w", config.Name, err)
	}
	if s.newCodec, err = codecs(config.Codec, dialect, profile); err != nil {
		return nil, fmt.Errorf("simulator %s: %w", config.Name, err)
	}
	if s.custody, err = openCustody(config.Security, crand.Reader); err != nil {
		return nil, fmt.Errorf("simulator %s: %w", config.Name, err)
	}
	random := rand.New(rand.NewPCG(config.Seed, 0x5157))
	book := newBook(config.MaxDecisions, config.RememberReversals)
	replay := replayer{book: book, profile: profile}
	if s.ledger, err = openLedger(config.Ledger, config.LedgerSync == SyncGroup, replay.line); err != nil {
		return nil, fmt.Errorf("simulator %s: %w", config.Name, err)
	}
	if s.wire, err = openWire(config.Wire, dialect); err != nil {
		return nil, errors.Join(fmt.Errorf("simulator %s: %w", config.Name, err), s.ledger.close())
	}
	s.host = &host{
		config: config, profile: profile, chooser: newChooser(config.Amounts), now: deps.Now, ledger: s.ledger, book: book,
		script: newScript(config.Faults, random), random: random, held: map[requestKey][]byte{},
	}
	return s, nil
}

// codecs gives each connection a codec of its own.
func codecs(which Codec, dialect *iso8583.Dialect, p *profile) (func() (codec, error), error) {
	if which == CodecFast {
		return func() (codec, error) { return &fastCodec{dialect: dialect}, nil }, nil
	}
	spec, err := dialect.MoovSpec()
	if err != nil {
		return nil, fmt.Errorf("moov specification: %w", err)
	}
	header := oracleHeader(dialect.Framing().Header, p)
	if _, err := oracle.New(spec, header, p.tracks...); err != nil {
		return nil, fmt.Errorf("moov specification: %w", err)
	}
	return func() (codec, error) {
		c, err := oracle.New(spec, header, p.tracks...)
		return &moovCodec{oracle: c}, err
	}, nil
}

// Stats reads the counters.
func (s *Simulator) Stats() Stats {
	return Stats{
		Connections: s.stats.connections.Load(), Payments: s.stats.payments.Load(),
		Unreadable: s.stats.unreadable.Load(), Unsendable: s.stats.unsendable.Load(), BadMACs: s.stats.badMACs.Load(),
	}
}

func (s *Simulator) count(c *atomic.Uint64) { c.Add(1) }

// fail stops the simulator: its ledger is lost.
func (s *Simulator) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	s.stop()
}

// Run takes connections until ctx ends, then closes them, waits for what is
// under way and closes the ledger. It may be called once.
func (s *Simulator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.stop = cancel
	s.mu.Unlock()
	if s.config.Dial != "" {
		s.dialAll(ctx)
		return s.end(ctx, cancel, nil)
	}
	listener, err := s.deps.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("simulator %s: %w", s.config.Name, err), s.ledger.close(), s.wire.close())
	}
	closed := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer closed()
	if s.deps.Listening != nil {
		s.deps.Listening(listener.Addr())
	}
	return s.end(ctx, cancel, s.accept(ctx, listener))
}

// end is what Run returns when its last connection is gone.
func (s *Simulator) end(ctx context.Context, cancel context.CancelFunc, err error) error {
	if ctx.Err() != nil {
		err = nil // the end was ordered
	}
	cancel()
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	return errors.Join(err, failed, s.ledger.close(), s.wire.close())
}

// accept serves connections and returns when all of them have ended.
func (s *Simulator) accept(ctx context.Context, listener net.Listener) error {
	var group sync.WaitGroup
	defer group.Wait()
	places := make(chan struct{}, s.config.MaxConnections)
	for {
		nc, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("taking connections: %w", err)
		}
		select {
		case places <- struct{}{}:
		default:
			s.log.Warn("connection refused: all places taken", "peer", nc.RemoteAddr().String())
			nc.Close()
			continue
		}
		s.count(&s.stats.connections)
		group.Go(func() {
			defer func() { <-places }()
			s.converse(ctx, nc)
		})
	}
}

// dialAll keeps its connections to a link that listens, until ctx ends.
func (s *Simulator) dialAll(ctx context.Context) {
	var group sync.WaitGroup
	for range s.config.Connections {
		group.Go(func() {
			for ctx.Err() == nil {
				nc, err := s.deps.Dial(ctx, "tcp", s.config.Dial)
				if err == nil {
					s.count(&s.stats.connections)
					s.converse(ctx, nc)
				} else {
					s.log.Debug("cannot connect", "address", s.config.Dial, "error", err)
				}
				if sleep(ctx, dialAgain) != nil {
					return
				}
			}
		})
	}
	group.Wait()
}

// dialAgain is the pause of a host that dials, after a connection ended or came to
// nothing.
const dialAgain = 200 * time.Millisecond

// converse serves one connection to its end.
func (s *Simulator) converse(ctx context.Context, nc net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	closed := context.AfterFunc(ctx, func() { nc.Close() })
	defer closed()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	codec, err := s.newCodec()
	if err != nil {
		s.log.Error("no codec", "error", err)
		return
	}
	c := &conn{Simulator: s, net: nc, codec: codec}
	c.delayed = delayQueue{most: s.config.MaxDelayed, wake: make(chan struct{}, 1)}
	group.Go(func() { c.delayed.run(ctx, c.write) })
	if s.config.EchoEvery > 0 {
		group.Go(func() { s.echo(ctx, c) })
	}
	err = c.serve(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, errHungUp):
		s.log.Debug("connection ended", "peer", nc.RemoteAddr().String(), "error", err)
	default:
		s.log.Warn("connection ended", "peer", nc.RemoteAddr().String(), "error", err)
	}
}

// echo sends echo requests of the host's own. It has a codec and buffers of
// its own and shares only the writer's lock with the reader.
func (s *Simulator) echo(ctx context.Context, c *conn) {
	codec, err := s.newCodec()
	if err != nil {
		return
	}
	asker := &conn{Simulator: s, net: c.net, codec: codec, stan: 500_000} // apart from the reader's own
	for sleep(ctx, s.config.EchoEvery) == nil {
		asker.out, asker.pieces = asker.out[:0], asker.pieces[:0]
		asker.ask(s.host.profile.echo[0])
		if c.write(asker.out) != nil {
			return
		}
	}
}
