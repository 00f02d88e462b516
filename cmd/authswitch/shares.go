package main

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"authswitch/link"
	"authswitch/payment"
)

// sharesPoll is how often a node looks at its share of a link: a lock and a map.
const sharesPoll = 100 * time.Millisecond

// keepShare keeps this node's share of a link whose connections, or whose sign-on,
// are for all nodes together.
func (n *node) keepShare(ctx context.Context, l *link.Link) {
	tick := time.NewTicker(sharesPoll)
	defer tick.Stop()
	for {
		if err := n.share(l); err != nil && !errors.Is(err, payment.ErrUnavailable) {
			n.log.Warn("the link's share is not claimed; it is asked for again", "link", string(l.Name()), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// share takes one look. What a node gives back is closed first; what it takes is
// claimed first: never are more connections up than the acquirer gives.
func (n *node) share(l *link.Link) error {
	cfg, session := l.Config(), n.store.Session()
	if !n.store.MayWrite(session) {
		n.loseShare(l)
		return nil
	}
	shares := n.store.Shares(l.Name())
	mine, all := shares.Of(session), cfg.ConnectionsInAll
	if all == 0 {
		all = cfg.Connections * max(len(n.store.Nodes()), 1)
	}
	want := wantedShare(n.store.Nodes(), n.cfg.Node.ID, l.Name(), mine, all, cfg.Connections)
	if l.Status().Hold == link.HoldSignedOff || n.shedBy.Load() != nil {
		want = 0 // the others take it before it is missed
	}
	keeper := mine > 0 && shares.Keeper() == session
	l.Stand(link.Standing{Connections: min(mine, want), Keeper: keeper, SignedOn: shares.SignedOn, Others: shares.Taken() > mine})
	signedOn := keeper && l.Ready()
	switch {
	case want > mine && shares.Taken() < all:
	case want < mine && l.Sockets() <= want:
	case keeper && signedOn != shares.SignedOn && want >= mine:
	default:
		return nil
	}
	_, err := n.store.ClaimShare(l.Name(), want, all, signedOn)
	return err
}

// wantedShare is how many of a link's connections a node should have: as many as
// the others, and those that are left over where the link's name says, so that the
// first node has not all of them. A node that has one keeps it.
func wantedShare(nodes []payment.NodeID, own payment.NodeID, name payment.LinkName, mine, all, most int) int {
	at := slices.Index(nodes, own)
	if at < 0 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // a hash does not fail
	count := len(nodes)
	want := all / count
	if (at+int(h.Sum32()%uint32(count)))%count < all%count {
		want++
	}
	return min(max(want, min(mine, 1)), most)
}

// loseShare drops a link's connections at once: this node's share is over, or will
// be before it could end them politely.
func (n *node) loseShare(l *link.Link) {
	if l.Sockets() > 0 {
		l.Cut()
	}
	l.Stand(link.Standing{Others: true})
}

// loseShares is loseShare of all links that have one: the session is lost.
func (n *node) loseShares() {
	set := n.linkSet.Load()
	if set == nil || n.mesh == nil {
		return
	}
	for _, name := range set.Names() {
		if l := set.Link(name); shared(l) {
			n.loseShare(l)
		}
	}
}

// giveSharesBack ends this node's shares, whose connections are closed: another
// node need not wait for the end of the session.
func (n *node) giveSharesBack() {
	for _, l := range n.links {
		if n.mesh == nil || !shared(l) || l.Sockets() > 0 {
			continue
		}
		if _, err := n.store.ClaimShare(l.Name(), 0, 0, false); err != nil {
			n.log.Info("a link's share ends with the session", "link", string(l.Name()), "error", err)
		}
	}
}

func shared(l *link.Link) bool {
	cfg := l.Config()
	return cfg.Shared()
}

// keeps says whether this node asks for a link's keys: its keeper where the nodes
// share it, else whoever leads.
func (n *node) keeps(c *link.Config) func() bool {
	if n.mesh == nil || !c.Shared() {
		return n.store.Leads
	}
	name := c.Name
	return func() bool {
		shares := n.store.Shares(name)
		return shares.Keeper() == n.store.Session()
	}
}

// absent says what is wrong with a link that is down here: nothing, where it is
// another node's share.
func (n *node) absent(l *link.Link) bool {
	if n.mesh == nil || !shared(l) {
		return true
	}
	shares := n.store.Shares(l.Name())
	return shares.Of(n.store.Session()) > 0 || !n.handover.Elsewhere(l.Name())
}

// stateOf is a link's state as gateways and operators see it: a link that is down
// here and another node's share is elsewhere.
func (n *node) stateOf(l *link.Link, s link.State) string {
	if s == link.Down && !n.absent(l) {
		return "elsewhere"
	}
	return s.String()
}
