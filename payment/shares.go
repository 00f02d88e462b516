package payment

// Share is how many of a link's connections a node's session may have.
type Share struct {
	Session     Session
	Connections int
}

// Shares are a link's, in the order in which they were first taken. The first
// session is the link's keeper: it alone signs on, signs off and exchanges keys
// where the acquirer has one state for all connections.
type Shares struct {
	Held     []Share
	SignedOn bool // as the keeper last said
}

// Of is how many connections a session has.
func (s *Shares) Of(session Session) int {
	for _, h := range s.Held {
		if h.Session == session {
			return h.Connections
		}
	}
	return 0
}

// Keeper is whose the link's common duties are, 0 when nobody has a share.
func (s *Shares) Keeper() Session {
	if len(s.Held) == 0 {
		return 0
	}
	return s.Held[0].Session
}

// Taken is how many connections are given out.
func (s *Shares) Taken() int {
	n := 0
	for _, h := range s.Held {
		n += h.Connections
	}
	return n
}
