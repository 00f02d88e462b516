package link

import (
	"context"
	"fmt"
	"time"

	"authswitch/payment"
)

// Status is a link as GET /v1/links and the console show it.
type Status struct {
	Name           payment.LinkName    `json:"name"`
	Scheme         string              `json:"scheme"`
	Dialect        payment.DialectName `json:"dialect"`
	Address        string              `json:"address"`
	Mode           Mode                `json:"mode"`
	State          State               `json:"state"` // the best of its connections
	Hold           Hold                `json:"hold"`  // of an operator
	SignedOn       bool                `json:"signed_on"`
	InFlight       int                 `json:"in_flight"` // requests
	Owed           int                 `json:"reversals_in_flight"`
	Window         int                 `json:"window"`
	WindowNow      int                 `json:"window_now"` // less than Window while the acquirer answers slowly
	ReversalWindow int                 `json:"reversal_window"`
	NumbersLeft    uint64              `json:"numbers_left"`
	Distrusted     bool                `json:"distrusted"` // bad MACs: no new work
	Connections    []ConnectionStatus  `json:"connections"`
	Counters       Counters            `json:"counters"`
}

// ConnectionStatus is one connection of a link.
type ConnectionStatus struct {
	State     State         `json:"state"`
	For       time.Duration `json:"for_ns"` // in this state
	InFlight  int           `json:"in_flight"`
	Owed      int           `json:"reversals_in_flight"`
	EchoRTT   time.Duration `json:"echo_rtt_ns"` // of the last echo, 0 before the first
	Echoes    uint64        `json:"echoes"`      // that were answered
	LastError string        `json:"last_error,omitempty"`
}

// state is the best of the connections' states.
func (c *core) state() State {
	best := Down
	for _, s := range c.stations {
		best = max(best, s.machine.state)
	}
	return best
}

// Status is a snapshot.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	s := Status{
		Name: l.cfg.Name, Scheme: l.cfg.Scheme, Dialect: l.cfg.Dialect, Address: l.cfg.Address, Mode: l.cfg.Mode,
		State: l.core.state(), Hold: l.core.hold,
		Window: l.cfg.Window * l.cfg.Connections, WindowNow: l.core.adaptive.limit * l.cfg.Connections, ReversalWindow: l.cfg.ReversalWindow * l.cfg.Connections,
		NumbersLeft: l.core.numbers.left(), Distrusted: l.core.suspicious(), Counters: l.core.counters,
	}
	s.SignedOn = s.State == Ready || s.State == Suspect
	for _, st := range l.core.stations {
		s.InFlight += st.inFlight
		s.Owed += st.owed
		s.Connections = append(s.Connections, ConnectionStatus{
			State: st.machine.state, For: elapsed(st.machine.since, now), InFlight: st.inFlight, Owed: st.owed,
			EchoRTT: time.Duration(st.echoRTT), Echoes: st.echoes, LastError: st.lastError,
		})
	}
	return s
}

// Up says whether a request would be taken now: a connection is signed on,
// nobody keeps new work from the link, and there are numbers.
func (l *Link) Up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.state() == Ready && l.core.hold == NoHold && !l.core.suspicious() && l.core.numbers.left() > 0
}

// Drain signs off: no new work, pending work finishes by its own deadlines,
// then the connections close and stay closed. It returns at once; Drained
// waits. It is how a node stops; Hold is an operator's.
func (l *Link) Drain() {
	l.do(func(now moment) {
		for _, st := range l.core.stations {
			l.core.event(now, st, eventDisabled)
		}
	})
}

// drainPoll is how often Drained looks. Draining is rare and takes a round
// trip at the least, so that a look costs nothing and a condition variable on
// the hot path would.
const drainPoll = 5 * time.Millisecond

// Drained returns when every connection is down, or with the context's error.
func (l *Link) Drained(ctx context.Context) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		l.mu.Lock()
		down := l.core.state() == Down && l.core.sockets() == 0
		l.mu.Unlock()
		if down {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("link %s: draining: %w", l.cfg.Name, ctx.Err())
		}
	}
}

// sockets counts the connections whose socket is not gone yet.
func (c *core) sockets() int {
	n := 0
	for _, s := range c.stations {
		if s.machine.state != Down || s.machine.closing {
			n++
		}
	}
	return n
}

// Echo sends an echo on every ready connection now; Status shows the round
// trip.
func (l *Link) Echo() {
	l.do(func(now moment) {
		for _, st := range l.core.stations {
			if st.machine.can.echo && st.machine.state == Ready && st.machine.echoAt == 0 {
				st.machine.sendEcho(now)
				l.core.carryOut(now, st, nil)
			}
		}
	})
}
