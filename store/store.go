// Package store is how the journal is replicated: hashicorp/raft around
// journal, two Pebbles beneath, and group commit. cmd starts one per node;
// switching, outbox, link and query use it through the interfaces they declare.
//
// It must not decide anything about a payment: what a command means is
// journal's. Nothing it answers leaves before the command is committed by a
// majority and applied here.
package store

import (
	"context"
	"io"
	"log/slog"

	"authswitch/payment"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Config of a node's store. Every zero value is usable but Node and Dir.
type Config struct {
	Node payment.NodeID `yaml:"node"`
	Dir  string         `yaml:"dir"`
}

// Deps is what the store takes from its surroundings.
type Deps struct {
	Now        func() payment.Instant
	Rand       io.Reader
	Log        *slog.Logger
	FS         vfs.FS // nil: the real disk
	Registerer prometheus.Registerer
	// Fail is called once, when this node must stop: a stalled disk, an entry
	// it does not understand, a state it cannot write.
	Fail func(error)
}

// Store is one node's replica.
type Store struct{}

// Start opens the store, joins or bootstraps its cluster, and begins a session.
func Start(ctx context.Context, cfg Config, deps Deps) (*Store, error) { return &Store{}, nil }

func (s *Store) Session() payment.Session { return 0 }
func (s *Store) Open(i *payment.Intent) (payment.Opened, error) {
	return payment.Opened{}, payment.ErrUnavailable
}
func (s *Store) Next(o *payment.Outcome, i *payment.Intent) (payment.Settled, error) {
	return payment.Settled{}, payment.ErrUnavailable
}
func (s *Store) Close(o *payment.Outcome) (payment.Settled, error) {
	return payment.Settled{}, payment.ErrUnavailable
}
func (s *Store) Reverse(o *payment.Outcome) (payment.Settled, error) {
	return payment.Settled{}, payment.ErrUnavailable
}
func (s *Store) Cancel(c *payment.Cancellation) (payment.Cancelled, error) {
	return payment.Cancelled{}, payment.ErrUnavailable
}
func (s *Store) Late(l *payment.Late) error { return payment.ErrUnavailable }
func (s *Store) Claim(link payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error) {
	return payment.Owed{}, payment.ErrUnavailable
}
func (s *Store) Acknowledge(link payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) (payment.State, error) {
	return 0, payment.ErrUnavailable
}
func (s *Store) Lease(ctx context.Context, link payment.LinkName) (payment.Numbers, error) {
	return payment.Numbers{}, payment.ErrUnavailable
}
func (s *Store) Await(id payment.ID, until payment.Instant) error { return payment.ErrUnavailable }
func (s *Store) Payment(id payment.ID) (payment.Payment, error) {
	return payment.Payment{}, payment.ErrUnavailable
}
func (s *Store) History(id payment.ID) ([]payment.Entry, error) { return nil, payment.ErrUnavailable }
func (s *Store) ByKey(m payment.MerchantID, key []byte) (payment.ID, error) {
	return payment.ID{}, payment.ErrUnavailable
}
func (s *Store) ByReference(m payment.MerchantID, reference []byte) ([]payment.ID, error) {
	return nil, payment.ErrUnavailable
}
func (s *Store) List(m payment.MerchantID, after payment.ID, limit int) ([]payment.ID, bool, error) {
	return nil, false, payment.ErrUnavailable
}
func (s *Store) Due(link payment.LinkName, now payment.Instant, limit int, dst []payment.Owed) []payment.Owed {
	return dst
}
func (s *Store) Owing(link payment.LinkName) (count int, oldest payment.Instant, exceptions int) {
	return 0, 0, 0
}
func (s *Store) Stop(ctx context.Context) error { return nil }
