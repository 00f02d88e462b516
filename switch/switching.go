// Package switching takes one payment step from a gateway's request to the
// answer it gets: seal, route, number, encode, make durable, exchange, decode,
// make durable again. (The folder is named switch, which is a keyword.)
//
// It owns the order of these steps and nothing else: how a card is sealed, a
// route chosen, a message packed, a socket written or an entry replicated is
// the business of the packages behind the small interfaces below. It must not
// read a clock other than the one it is given, start a goroutine on the path
// of an authorization, or run a reversal under a caller's deadline. Called by
// api; cmd plugs in store, link and vault.
package switching

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/payment"
	"authswitch/routing"
)

// Journal decides, durably. Each method is one commit on a quorum and returns
// what stands in the journal after it, whatever was proposed.
type Journal interface {
	Open(i *payment.Intent) (payment.Opened, error)
	Next(o *payment.Outcome, i *payment.Intent) (payment.Settled, error)
	Close(o *payment.Outcome) (payment.Settled, error)
	Reverse(o *payment.Outcome) (payment.Settled, error)
}

// Canceller is the journal's side of a gateway's reversal.
type Canceller interface {
	Cancel(c *payment.Cancellation) (payment.Cancelled, error)
	Late(l *payment.Late) error
}

// Records reads what was decided before.
type Records interface {
	Payment(id payment.ID) (payment.Payment, error)
	ByKey(merchant payment.MerchantID, key []byte) (payment.ID, error)
	// Await returns when the payment is decided, or payment.ErrPending at the
	// deadline.
	Await(id payment.ID, until payment.Instant) error
}

// Exchanger has the links. A slot that was reserved ends in exactly one of
// Exchange and Release.
type Exchanger interface {
	Reserve(s *payment.Slot, id payment.ID, attempt uint8) error
	Exchange(s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error
	Release(s *payment.Slot)
}

// Sealer protects card data before it is made durable. Seal's error means that
// there is no key to seal with: nothing can be taken on.
type Sealer interface {
	Seal(dst []byte, c *card.Card, merchant payment.MerchantID, id payment.ID) ([]byte, error)
	BlindIndex(p *card.PAN) [32]byte
	Fingerprint(a *payment.Authorization, index [32]byte) [32]byte
	// Hold keeps a card in memory for a while, because its payment is about to be
	// reversed: what is sealed opens only while the security module is there.
	Hold(c *card.Card, id payment.ID)
}

// Zone is what a link's keys are used for before a request leaves it. What fails
// here has no byte sent and nothing durable.
type Zone interface {
	// TranslatePIN fills a.Card.PIN with the block as the link's acquirer takes it.
	TranslatePIN(a *payment.Authorization, by payment.Instant) error
	// Protect writes the MAC into a frame, where messages of its type have one.
	Protect(mti iso8583.MTI, frame []byte, by payment.Instant) error
	// PINAnswered takes the answer to a request that carried a PIN.
	PINAnswered(r *payment.Response)
}

// Lane is what the switch must know of a link.
type Lane struct {
	Name    payment.LinkName
	Dialect *iso8583.Dialect
	// KeepsNoHold: the acquirer keeps no hold after 06, 22 and 96, so another
	// route may be tried after them (docs/authorization-cycle.md, step 9).
	KeepsNoHold bool
	// RefundsFinal: the acquirer does not reverse refunds, whatever the dialect's
	// others do. One without an answer is a person's.
	RefundsFinal bool
	// Zone is nil on a link without MAC and PIN: then the security module is not
	// asked for anything.
	Zone Zone
}

// Deps are the parts a Switch is built from.
type Deps struct {
	Journal    Journal
	Canceller  Canceller
	Records    Records
	Operations Operations
	Moves      Moves
	Cards      StoredCards
	Links      PaymentLinks // of payments by link; nil where there are none
	Opener     Opener
	CardScope  func(payment.MerchantID) string // of the cards that a merchant shares with others, "" for none; nil: nobody shares
	Exchanger  Exchanger
	// Elsewhere says whether another live node has a link that this one does not
	// have now; nil: this node is alone.
	Elsewhere  func(payment.LinkName) bool
	Sealer     Sealer
	Table      *atomic.Pointer[routing.Table]
	Lanes      []Lane
	Node       payment.NodeID
	Session    func() payment.Session
	Now        func() payment.Instant
	Mint       func() payment.ID
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Switch is safe for concurrent use. It holds no lock on the path of an
// authorization.
type Switch struct {
	Deps
	lanes   map[payment.LinkName]*lane
	works   sync.Pool
	metrics *metrics
}

type lane struct {
	Lane
	metrics *laneMetrics
}

// ErrUnknownLane means that a route names a link the switch was not given.
var ErrUnknownLane = fmt.Errorf("%w: route to an unknown link", payment.ErrUnavailable)

// New builds a Switch. Every link that the routing table can name must be
// among the lanes.
func New(d Deps) (*Switch, error) {
	s := &Switch{
		Deps:  d,
		lanes: make(map[payment.LinkName]*lane, len(d.Lanes)),
	}
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, fmt.Errorf("switching: register metrics: %w", err)
	}
	s.metrics = m
	for _, l := range d.Lanes {
		s.lanes[l.Name] = &lane{Lane: l, metrics: m.lane(l.Name)}
	}
	s.works.New = func() any { return &work{frame: make([]byte, 0, frameRoom)} }
	return s, nil
}

// frameRoom is more than any frame needs: one that grew would leave its first
// memory behind, with a card number in it.
const frameRoom = 8 << 10

// work is the memory of one authorization, reused.
type work struct {
	routes  routing.Routes
	next    int // index of the next route to try
	query   routing.Query
	slot    payment.Slot
	answer  iso8583.Message
	frame   []byte // wiped after the exchange: it holds the clear card number
	sealed  []byte
	network [24]byte // of a stored card
	outcome payment.Outcome
	stages  stages
}

// take gives a clean work.
func (s *Switch) take() *work {
	w, _ := s.works.Get().(*work)
	return w
}

// give wipes what held card data and returns the work to the pool.
func (s *Switch) give(w *work) {
	clear(w.frame[:cap(w.frame)])
	w.answer.Wipe()
	w.query = routing.Query{}
	w.outcome = payment.Outcome{}
	s.works.Put(w)
}

// elapsedMS is the whole milliseconds between two instants, never negative: a
// clock that steps back shows 0.
func elapsedMS(from, to payment.Instant) uint32 {
	if to <= from {
		return 0
	}
	return uint32(time.Duration(to-from) / time.Millisecond)
}
