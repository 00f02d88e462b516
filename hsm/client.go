package hsm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/hsm/wire"
)

// Deps are what a client takes from its environment.
type Deps struct {
	Now        func() int64 // the wall clock in Unix nanoseconds: deadlines
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: not registered
}

// Client is the security module, wherever it is. Good for any number of
// goroutines.
type Client struct {
	cfg     Config
	deps    Deps
	ends    []*endpoint
	metrics *metrics
}

// New checks the configuration and reads what TLS needs. Nothing is dialed
// before Run.
func New(cfg Config, deps Deps) (*Client, error) {
	cfg = cfg.WithDefaults()
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Dial == nil {
		deps.Dial = (&net.Dialer{}).DialContext
	}
	c := &Client{cfg: cfg, deps: deps}
	for i := range cfg.Endpoints {
		var secure *tls.Config
		if e := &cfg.Endpoints[i]; e.TLS != nil {
			var err error
			if secure, err = e.TLS.config(e.Address); err != nil {
				return nil, fmt.Errorf("hsm endpoint %s: %w", e.name(), err)
			}
		}
		for range cfg.Connections {
			c.ends = append(c.ends, newEndpoint(c, &cfg.Endpoints[i], secure))
		}
	}
	var err error
	if c.metrics, err = newMetrics(deps.Registerer, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Run keeps the connections until ctx ends.
func (c *Client) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, e := range c.ends {
		all.Go(func() { e.run(ctx) })
	}
	all.Wait()
}

// Up says whether any endpoint takes work now.
func (c *Client) Up() bool {
	for _, e := range c.ends {
		if e.isUp() {
			return true
		}
	}
	return false
}

// AwaitUp waits until an endpoint takes work: for tools that ask one thing.
func (c *Client) AwaitUp(ctx context.Context) error {
	for !c.Up() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ErrUnavailable, c.trouble())
		case <-time.After(awaitStep): // a tool's wait: nobody has a channel for it
		}
	}
	return nil
}

const awaitStep = 5 * time.Millisecond

// trouble is why the endpoints are not up, one line.
func (c *Client) trouble() string {
	for _, e := range c.ends {
		if s := e.state(); !s.Up {
			return s.Name + ": " + s.Error
		}
	}
	return "all are up"
}

// EndpointState is what a person wants to know of an endpoint.
type EndpointState struct {
	Name     string
	Up       bool
	InFlight int
	Lost     uint64 // times that a connection was lost or went silent
	Error    string // the last one, empty when up
}

// Endpoints are the states of all connections.
func (c *Client) Endpoints() []EndpointState {
	out := make([]EndpointState, len(c.ends))
	for i, e := range c.ends {
		out[i] = e.state()
	}
	return out
}

// until is the moment a call ends: its caller's deadline, but never later than
// the configured timeout.
func (c *Client) until(deadline int64) int64 {
	latest := c.deps.Now() + int64(c.cfg.Timeout)
	if deadline == 0 || deadline > latest {
		return latest
	}
	return deadline
}

// ask runs an operation whose frame is whole but for its length. On nil the
// answer's fields are in k.answer. The caller frees k.
func (c *Client) ask(k *call, op wire.Op, deadline int64) error {
	if err := wire.Finish(k.request, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	from := c.deps.Now()
	if deadline <= from {
		c.metrics.count(op, resultDeadline)
		return ErrDeadline
	}
	result, err := c.tryAll(k, deadline)
	c.metrics.done(op, result, c.deps.Now()-from)
	return err
}

// tryAll sends to the first endpoint that takes it, and where that one is lost
// or busy to the next. Every operation can be repeated.
func (c *Client) tryAll(k *call, deadline int64) (result, error) {
	busy, lost := false, 0
	for i := 0; i < len(c.ends); i++ {
		k.err, k.status = nil, wire.StatusOK
		if err := c.ends[i].send(k, deadline); err != nil {
			if errors.Is(err, ErrInput) { // its protocol has no such operation: no other endpoint has
				return resultOf(wire.StatusMalformed), err
			}
			busy = busy || errors.Is(err, errFull)
			continue
		}
		card.ClearRegisters()
		<-k.done
		switch {
		case k.err == nil && k.status != wire.StatusBusy:
			return resultOf(k.status), errorOf(k.status, k.answer)
		case k.err == nil:
			busy = true
		case errors.Is(k.err, ErrDeadline):
			return resultDeadline, ErrDeadline
		default:
			// Lost with the connection. A second look at the first endpoints once:
			// one of them may be back before the deadline, another may never be.
			if lost++; lost == 1 {
				i = -1
			}
		}
		if c.deps.Now() >= deadline {
			return resultDeadline, ErrDeadline
		}
	}
	if busy {
		return resultOf(wire.StatusBusy), ErrBusy
	}
	return resultUnavailable, ErrUnavailable
}
