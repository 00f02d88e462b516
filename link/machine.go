package link

import (
	"time"

	"authswitch/payment"
)

// State is where one connection stands in its life. Ready means signed on, not
// connected.
type State uint8

// The states, in the order in which a link with several connections prefers
// them when it has to name one.
const (
	Down State = iota
	Connected
	Draining
	Suspect
	Ready
	linkStates
)

var stateNames = [linkStates]string{"down", "connected", "draining", "suspect", "ready"}

// String is the state's name in API and logs.
func (s State) String() string {
	if s >= linkStates {
		return "invalid"
	}
	return stateNames[s]
}

// MarshalText makes the state its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// event is something that happens to a connection.
type event uint8

const (
	eventTimer event = iota
	eventEnabled
	eventDisabled
	eventDialed
	eventDialFailed
	eventLost
	eventSignOnAccepted
	eventSignOnRefused
	eventSignOffAnswered
	eventEchoAnswered
	eventIdle     // nothing waits for an answer on this connection
	eventStanding // how it stands to the other nodes' connections changed
	eventPeerSignOn
	eventPeerSignOff
	eventPeerEcho
	eventPeerCutOver
	eventPeerOther
	events
)

// effectKind is what a machine asks its shell to do.
type effectKind uint8

const (
	effectDial    effectKind = iota
	effectSend               // an 0800 of ours
	effectAnswer             // the 0810 to the peer's 0800
	effectFinish             // write what is buffered, then close
	effectAbort              // close now; what was not written never will be
	effectAlarm              // a person should see this
	effectCutOver            // the settlement date rolls
	effectKeys               // keys must be exchanged
	effectProtect            // a frame of ours waits for its MAC
)

type effect struct {
	kind     effectKind
	function payment.NetworkFunction
	reason   string
	frame    []byte
}

// capabilities are the network messages a dialect has.
type capabilities struct{ signOn, signOff, echo bool }

// machine is the life of one connection, iso8583-behaviour.md §2, as a decider:
// events in, effects out. Time comes with the event.
type machine struct {
	cfg      *Config
	can      capabilities
	random   func() uint64
	state    State
	enabled  bool // somebody wants it up
	dialing  bool
	closing  bool // an effect closed the socket; the loss is not reported yet
	idle     bool // draining: nothing is awaited any more
	left     bool // draining: our sign-off is answered, or none was needed
	failures int
	misses   int
	heard    moment // the peer's last frame
	echoAt   moment // our echo that is not answered yet; 0 none
	lastEcho moment
	deadline moment // 0 none
	since    moment
	manners  manners // towards the acquirer's other connections, of this moment
	effects  []effect
}

func (m *machine) do(kind effectKind, reason string) {
	m.effects = append(m.effects, effect{kind: kind, reason: reason})
}

func (m *machine) send(f payment.NetworkFunction) {
	m.effects = append(m.effects, effect{kind: effectSend, function: f})
}

func (m *machine) become(s State, now moment) { m.state, m.since = s, now }

func after(now moment, d time.Duration) moment { return now + moment(d) }

// step takes one event. Its effects stand in m.effects, which the caller
// empties.
func (m *machine) step(now moment, e event) {
	switch e {
	case eventPeerSignOn, eventPeerSignOff, eventPeerEcho, eventPeerCutOver, eventPeerOther:
		// Answered in every state; in Down there is no socket to answer on.
		if m.state != Down {
			m.do(effectAnswer, "")
		}
	case eventLost:
		m.lost(now)
		return
	case eventTimer:
		if m.deadline == 0 || now < m.deadline {
			return
		}
	}
	if e == eventPeerCutOver && m.state != Down {
		m.do(effectCutOver, "")
	}
	switch m.state {
	case Down:
		m.down(now, e)
	case Connected:
		m.connected(now, e)
	case Ready, Suspect:
		m.working(now, e)
	case Draining:
		m.draining(now, e)
	}
}

func (m *machine) down(now moment, e event) {
	switch e {
	case eventTimer:
		m.deadline, m.dialing = 0, true
		m.do(effectDial, "")
	case eventEnabled:
		m.enabled = true
		if !m.dialing && !m.closing {
			m.deadline = now
		}
	case eventDisabled:
		m.enabled, m.deadline = false, 0
	case eventDialFailed:
		m.dialing = false
		m.failures++
		m.redial(now)
	case eventDialed:
		m.dialing = false
		m.misses, m.echoAt, m.heard, m.lastEcho = 0, 0, now, now
		if !m.enabled {
			m.close(now, effectAbort, "disabled while dialing")
			return
		}
		m.signOn(now)
	}
}

// signOn asks to be let in; a dialect without sign-on is ready at once.
func (m *machine) signOn(now moment) {
	if !m.can.signOn || m.manners.signedOn {
		m.ready(now)
		return
	}
	m.become(Connected, now)
	if m.manners.waits {
		m.deadline = 0
		return
	}
	m.deadline = after(now, m.cfg.SignOnTimeout)
	m.send(payment.SignOn)
}

func (m *machine) ready(now moment) {
	m.become(Ready, now)
	m.failures, m.misses, m.echoAt = 0, 0, 0
	m.deadline = m.echoDue()
}

func (m *machine) connected(now moment, e event) {
	switch e {
	case eventSignOnAccepted:
		m.ready(now)
	case eventSignOnRefused:
		m.do(effectAlarm, "sign-on refused")
		m.close(now, effectAbort, "sign-on refused")
	case eventTimer:
		m.do(effectAlarm, "sign-on not answered")
		m.close(now, effectAbort, "sign-on not answered")
	case eventStanding:
		if m.deadline == 0 && !m.manners.waits { // it waited for another's sign-on
			m.signOn(now)
		}
	case eventPeerSignOff:
		m.close(now, effectFinish, "the peer signed off")
	case eventDisabled:
		m.enabled = false
		m.close(now, effectFinish, "disabled")
	}
}

func (m *machine) working(now moment, e event) {
	switch e {
	case eventTimer:
		m.checkEcho(now)
	case eventEchoAnswered:
		if m.state == Suspect {
			m.become(Ready, now)
		}
		m.misses, m.echoAt = 0, 0
		m.deadline = m.echoDue()
	case eventIdle:
		if m.state == Suspect {
			m.close(now, effectAbort, "no echo, and nothing awaited")
		}
	case eventSignOnRefused:
		m.do(effectAlarm, "sign-on refused")
		m.close(now, effectAbort, "sign-on refused")
	case eventPeerSignOff:
		m.drain(now, true)
	case eventDisabled:
		m.enabled = false
		says := m.can.signOff && !m.manners.stays
		if says {
			m.send(payment.SignOff)
		}
		m.drain(now, !says)
	}
}

// checkEcho sends an echo that is due, or judges one that is not answered. A
// peer that answers other things is slow with echoes, not dead.
func (m *machine) checkEcho(now moment) {
	if m.echoAt != 0 && m.heard > m.echoAt {
		m.echoAt, m.misses = 0, 0
		if m.state == Suspect {
			m.become(Ready, now)
		}
	}
	if m.echoAt == 0 {
		if due := m.echoDue(); due == 0 || now < due {
			m.deadline = due
			return
		}
		m.sendEcho(now)
		return
	}
	m.misses++
	switch {
	case m.misses >= 2*m.cfg.EchoMisses:
		m.close(now, effectAbort, "no echo")
	case m.misses >= m.cfg.EchoMisses && m.state == Ready:
		m.become(Suspect, now)
		m.do(effectAlarm, "no echo: no new work")
		m.sendEcho(now)
	default:
		m.sendEcho(now)
	}
}

func (m *machine) sendEcho(now moment) {
	m.echoAt, m.lastEcho = now, now
	m.deadline = after(now, m.cfg.EchoTimeout)
	m.send(payment.Echo)
}

// echoDue is when the next echo leaves: after silence, or after a longer while
// under load, to measure the round trip.
func (m *machine) echoDue() moment {
	if !m.can.echo {
		return 0
	}
	return min(after(m.heard, m.cfg.EchoEvery), after(m.lastEcho, m.cfg.EchoUnderLoad))
}

// drain stops new work and lets pending work finish by its own deadlines.
func (m *machine) drain(now moment, left bool) {
	m.become(Draining, now)
	m.idle, m.left = false, left
	m.deadline = after(now, m.cfg.DrainTimeout)
}

func (m *machine) draining(now moment, e event) {
	switch e {
	case eventIdle:
		m.idle = true
	case eventSignOffAnswered, eventPeerSignOff:
		m.left = true // either way both sides know
	case eventDisabled:
		m.enabled = false
	case eventEnabled:
		m.enabled = true
		m.signOn(now)
		return
	case eventPeerSignOn:
		if m.enabled {
			m.signOn(now)
			return
		}
	case eventTimer:
		m.close(now, effectFinish, "drained: time is over")
		return
	}
	if m.idle && m.left {
		m.close(now, effectFinish, "drained")
	}
}

// close gives the connection up. The next dial waits until the shell reports
// the loss, so that a connection never has two sockets.
func (m *machine) close(now moment, kind effectKind, reason string) {
	m.become(Down, now)
	m.closing, m.deadline, m.echoAt = true, 0, 0
	m.do(kind, reason)
}

func (m *machine) lost(now moment) {
	if m.state == Down && !m.closing {
		return
	}
	m.become(Down, now)
	m.closing, m.echoAt = false, 0
	m.failures++
	m.redial(now)
}

func (m *machine) redial(now moment) {
	m.deadline = 0
	switch {
	case !m.enabled:
	case m.cfg.Mode == ModeAccept: // the peer comes back when it likes
		m.deadline = after(now, m.cfg.BackoffShortest)
	default:
		m.deadline = after(now, backoff(m.failures, m.cfg.BackoffShortest, m.cfg.BackoffLongest, m.random()))
	}
}
