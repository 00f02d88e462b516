package link

// Scope is what the acquirer keeps one state for: signed on or not.
type Scope string

// The scopes.
const (
	ScopeConnection  Scope = "connection"  // each connection signs on
	ScopeStation     Scope = "station"     // one sign-on for all connections of a node
	ScopeInstitution Scope = "institution" // one for all connections of all nodes: the link's keeper's
)

// Standing is what a link must know of the other nodes that have it. Without a
// word of it a link has all its connections, and is its own keeper.
type Standing struct {
	Connections int  // that this node may have; others of its own are ended
	Keeper      bool // this node signs on for all
	SignedOn    bool // the keeper has
	Others      bool // other nodes have connections
}

// Stand tells the link how it stands. Connections above what it may have are
// drained; Sockets says how many are left.
func (l *Link) Stand(s Standing) {
	l.do(func(now moment) { l.core.stand(now, s) })
}

// Sockets is how many connections are up, or not yet gone.
func (l *Link) Sockets() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.sockets()
}

func (c *core) stand(now moment, s Standing) {
	c.standing = s
	for _, st := range c.stations {
		switch m := &st.machine; {
		case !c.wanted(st) && m.enabled:
			c.event(now, st, eventDisabled)
		case c.wanted(st) && !m.enabled:
			c.event(now, st, eventEnabled)
		case m.state == Connected:
			c.event(now, st, eventStanding)
		}
	}
}

// wanted says whether a connection is to be up: no operator keeps it down, and
// this node may have so many.
func (c *core) wanted(st *station) bool {
	return c.hold != HoldSignedOff && int(st.index) < c.standing.Connections
}

// manners are what a connection leaves to others.
type manners struct {
	signedOn bool // somebody signed on for it
	waits    bool // somebody else will
	stays    bool // others remain: no sign-off
}

// mannersOf is how a connection must behave towards an acquirer that has one
// state for more than it.
func (c *core) mannersOf(st *station) (m manners) {
	if c.cfg.StateScope != ScopeStation && c.cfg.StateScope != ScopeInstitution {
		return m
	}
	for _, other := range c.stations {
		if other != st && (other.machine.state == Ready || other.machine.state == Suspect) {
			m.signedOn, m.stays = true, true
		}
	}
	if c.cfg.StateScope == ScopeInstitution {
		m.stays = m.stays || c.standing.Others
		if !c.standing.Keeper {
			m.signedOn = m.signedOn || c.standing.SignedOn
			m.waits = !m.signedOn
		}
	}
	return m
}
