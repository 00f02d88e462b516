package store

import (
	"authswitch/journal"
	"authswitch/payment"
)

// ClaimShare asks for so many of a link's connections, of all that its acquirer
// gives to all nodes together, and says how many this node has then: under its
// present session, whose end gives them back. signedOn counts where this node is
// the link's keeper.
func (s *Store) ClaimShare(link payment.LinkName, want, all int, signedOn bool) (int, error) {
	w := s.batch.waiter(journal.KindShare)
	w.body = journal.AppendShare(w.body, &journal.ShareClaim{Session: s.Session(), Link: link, Want: want, All: all, SignedOn: signedOn})
	err := s.batch.propose(w, s.cfg.CommitTimeout)
	granted := 0
	if err == nil {
		granted = w.result.Count
	}
	s.give(w, err)
	return granted, err
}

// Shares are a link's as this replica knows them.
func (s *Store) Shares(link payment.LinkName) (shares payment.Shares) {
	s.replica.withMachine(func(m *journal.Machine) { shares = m.Shares(link) })
	return shares
}

// Nodes are the nodes that have a session, by name.
func (s *Store) Nodes() (alive []payment.NodeID) {
	s.replica.withMachine(func(m *journal.Machine) {
		for _, n := range m.Sessions(nil) {
			if n.Session != 0 {
				alive = append(alive, n.Node)
			}
		}
	})
	return alive
}
