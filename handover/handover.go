// Package handover takes a request whole to a node of the cluster that has the
// link it needs, and its answer back.
//
// Every node tells every other, twice a second and when it changes, which links
// it has up; what was said counts for two seconds and ends with the connection it
// came by. A request goes to one node at a time and is never handed on by the one
// that takes it. What a request is, this package does not know: it is bytes with
// card data in them, in memory only, wiped when they are no longer needed, and
// never logged.
//
// It decides nothing about a payment. What became of a request that was given to
// a node which then fell silent is not known here, and that is what Hand says.
// Built by cmd; used by api (Hand), switching (Elsewhere).
package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/payment"
)

// Stream is the kind of connection between two nodes, by its name on the wire. A
// change that an older node would misread takes a new number.
const Stream = "authswitch-handover/1"

// Member is another node and where it is reached.
type Member struct {
	Node    payment.NodeID
	Address string
}

// Deps are what a Handover takes from its surroundings.
type Deps struct {
	// Others are the other members of the cluster as they are now.
	Others func() []Member
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	// Peer is the name that the other end of an accepted connection proved.
	Peer func(net.Conn) payment.NodeID
	// Links appends the links that are up here, and may be written to.
	Links func([]payment.LinkName) []payment.LinkName
	// Serve answers a request that another node handed here for a link, appending
	// to answer; within is what is left of its gateway's budget. false: the link is
	// not up here and nothing was done. The request is wiped afterwards.
	Serve      func(link payment.LinkName, request []byte, within time.Duration, answer []byte) ([]byte, bool)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: not registered
}

// Limits of a handover.
const (
	every      = 500 * time.Millisecond // between two words of which links are up
	look       = 50 * time.Millisecond  // between two looks whether they changed
	fresh      = 2 * time.Second        // how long the word of a node that has a link counts
	dialFor    = time.Second
	retryFirst = 100 * time.Millisecond // after a dial that failed; it doubles
	retryLast  = 2 * time.Second
	writeFor   = time.Second // for one frame
	maxInWork  = 4096        // requests of others that are answered here at once
	maxFrame   = 2 << 20     // larger than a request may be with its headers
	maxLinks   = 1024
)

// Handover is one node's part.
type Handover struct {
	deps    Deps
	metrics *metrics
	inWork  chan struct{}
	buffers sync.Pool // of *[]byte: requests of others in work

	mu    sync.Mutex
	said  map[payment.NodeID]said // what the others have
	lines map[payment.NodeID]*line
	next  int // where the search begins, so that two nodes with a link share the work
}

// said is which links a node has up.
type said struct {
	links []payment.LinkName
	at    time.Time
	conn  net.Conn // that it came by
}

// New builds a Handover; Run does the work.
func New(deps Deps) (*Handover, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	return &Handover{
		deps: deps, metrics: m, buffers: sync.Pool{New: func() any { return new([]byte) }}, inWork: make(chan struct{}, maxInWork),
		said: map[payment.NodeID]said{}, lines: map[payment.NodeID]*line{},
	}, nil
}

// Elsewhere says whether another node has a link up and can be reached.
func (h *Handover) Elsewhere(link payment.LinkName) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.having(link)) > 0
}

// having are the lines to the nodes that have a link. Under mu.
func (h *Handover) having(link payment.LinkName) []*line {
	var lines []*line
	for node, s := range h.said {
		if l := h.lines[node]; l != nil && time.Since(s.at) < fresh && slices.Contains(s.links, link) {
			lines = append(lines, l)
		}
	}
	return lines
}

// Hand gives a request to a node that has the link and returns its answer. One
// that refuses has done nothing, and the next one is asked.
//
// payment.ErrNotSent: nobody took it, and nothing was done. Any other error is
// payment.ErrUnknownOutcome: it may have been done.
func (h *Handover) Hand(link payment.LinkName, request []byte, within time.Duration) ([]byte, error) {
	deadline := time.Now().Add(within)
	h.mu.Lock()
	lines := h.having(link)
	h.next++
	start := h.next
	h.mu.Unlock()
	slices.SortFunc(lines, func(a, b *line) int { return compare(a.node, b.node) })
	for n := range lines {
		l := lines[(start+n)%len(lines)]
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		answer, err := l.ask(link, request, left)
		switch {
		case err == nil:
			h.metrics.answered.Inc()
			return answer, nil
		case !errors.Is(err, payment.ErrNotSent):
			h.metrics.unknown.Inc()
			h.deps.Log.Warn("a request was handed on and its answer is not known", "link", string(link), "node", string(l.node), "error", err)
			return nil, err
		}
	}
	h.metrics.refused.Inc()
	return nil, errNobody
}

var errNobody = fmt.Errorf("%w: no other node has the link", payment.ErrNotSent)

func compare(a, b payment.NodeID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Run keeps a line to every other member and answers theirs, until the context
// ends and all are gone. Requests of others that are in work are answered first.
func (h *Handover) Run(ctx context.Context, ln net.Listener) {
	var group sync.WaitGroup
	group.Go(func() { h.accept(ctx, ln) })
	group.Go(func() { h.keepLines(ctx) })
	group.Wait()
}

// keepLines runs one line for every other member there is.
func (h *Handover) keepLines(ctx context.Context) {
	running := map[Member]context.CancelFunc{}
	var group sync.WaitGroup
	defer group.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		others := h.deps.Others()
		for _, m := range others {
			if running[m] == nil {
				lineContext, stop := context.WithCancel(ctx)
				running[m] = stop
				group.Go(func() { h.keepLine(lineContext, m) })
			}
		}
		for m, stop := range running {
			if !slices.Contains(others, m) {
				stop()
				delete(running, m)
			}
		}
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return
		case <-tick.C:
		}
	}
}

// keepLine dials a member again and again.
func (h *Handover) keepLine(ctx context.Context, m Member) {
	pause := retryFirst
	for ctx.Err() == nil {
		dialContext, cancel := context.WithTimeout(ctx, dialFor)
		conn, err := h.deps.Dial(dialContext, m.Address)
		cancel()
		if err == nil {
			pause = retryFirst
			h.runLine(ctx, newLine(m.Node, conn))
		} else {
			// A node of the version before has no such stream: it is not asked often.
			h.deps.Log.Debug("no line for handing over", "node", string(m.Node), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, retryLast)
	}
}

// runLine tells the other end what is up here until the line breaks.
func (h *Handover) runLine(ctx context.Context, l *line) {
	stop := context.AfterFunc(ctx, l.end)
	defer stop()
	go l.read()
	h.mu.Lock()
	h.lines[l.node] = l
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		if h.lines[l.node] == l {
			delete(h.lines, l.node)
		}
		h.mu.Unlock()
		l.end()
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	var told, now []payment.LinkName
	var last time.Time
	for {
		now = h.deps.Links(now[:0])
		if time.Since(last) >= every || !slices.Equal(told, now) {
			if err := l.tell(now); err != nil {
				return
			}
			told, last = append(told[:0], now...), time.Now()
		}
		select {
		case <-l.over:
			return
		case <-tick.C:
		}
	}
}
