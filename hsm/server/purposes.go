package server

import (
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"authswitch/hsm/audit"
	"authswitch/hsm/wire"
)

// purpose is what limits the opening of stored cards for one purpose.
type purpose struct {
	limit *rate.Limiter
	says  string
}

// purposes are by their number. Each has a limit of its own: who has taken over
// a node gets at the stored cards no faster than the node's work does.
func purposes(c *Config) [wire.PurposeReseal + 1]purpose {
	perSecond := func(n int, name, setting string) purpose {
		return purpose{rate.NewLimiter(rate.Limit(n), max(n, wire.MaxCards)), fmt.Sprintf("%d a second are the limit for %s (limits.%s)", n, name, setting)}
	}
	return [...]purpose{
		wire.PurposeReveal: {
			rate.NewLimiter(rate.Every(time.Minute/time.Duration(c.RevealsPerMinute)), c.RevealsPerMinute),
			fmt.Sprintf("%d a minute are the limit", c.RevealsPerMinute),
		},
		wire.PurposeOutbox:  perSecond(c.OutboxPerSecond, "outbox", "outbox_per_second"),
		wire.PurposeCapture: perSecond(c.CapturesPerSecond, "capture", "captures_per_second"),
		wire.PurposeReseal:  perSecond(c.ResealsPerSecond, "reseal", "reseals_per_second"),
	}
}

// within holds a request to the limit of its purpose, and writes down that it
// was refused.
func (s *Server) within(r *Request, p wire.Purpose, cards []sealedCard) error {
	of := &s.purposes[p]
	if of.limit.AllowN(s.deps.Now(), len(cards)) {
		return nil
	}
	operation := "card." + p.String()
	if p != wire.PurposeReveal {
		// Many a second, by their nature: counted, not each on disk.
		s.refusals.note(r.Peer, operation, objects(cards), of.says)
	} else if err := s.record(r, operation, objects(cards), of.says, audit.Refused); err != nil {
		return err
	}
	return &Refusal{wire.StatusLimited, of.says}
}
