// Package outbox sends what is owed to acquirers: reversals and advices until
// they are acknowledged, an operation's request once. What is owed, and since
// when, stands in the journal; this package only carries it.
//
// One Worker per link. It never decides that something is no longer owed: it
// claims an attempt (one commit, before the first byte), sends it, and reports
// the answer, from which the journal decides. It must not run under a
// gateway's deadline. Started by cmd.
package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/payment"
)

// Journal is where what is owed stands.
type Journal interface {
	Due(link payment.LinkName, now payment.Instant, limit int, dst []payment.Owed) []payment.Owed
	Claim(link payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error)
	Acknowledge(link payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) (payment.State, error)
	// Original is the payment with the intent of the attempt that a message is
	// about; attempt 0 is the last.
	Original(id payment.ID, attempt uint8) (payment.Payment, error)
}

// Operations is the journal's side of captures, refunds and the like. Answer is
// the one for what ClaimOnline claimed, and for all that names its payment.
type Operations interface {
	ClaimOnline(c *payment.Claim) (payment.Owed, error)
	Answer(a *payment.Acknowledgement) error
}

// Sender is the link.
type Sender interface {
	ReserveOwed(s *payment.Slot, o *payment.Owed, rrn payment.RRN) error
	Exchange(s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error
	Release(s *payment.Slot)
}

// Opener gives the clear card number back for the time of one message.
type Opener interface {
	// Open opens the card of a payment. payment.ErrUnavailable: not now, because
	// the security module is away; what is owed waits.
	Open(c *card.Card, i *payment.Intent) error
	// Forget says that a payment owes nothing any more: a card that was held in
	// memory for it can go.
	Forget(id payment.ID)
}

// Protector writes the MAC of this node's own station key into a frame, where
// messages of its type have one.
type Protector interface {
	Protect(mti iso8583.MTI, frame []byte, by payment.Instant) error
}

// Config of one worker. The zero value is usable.
type Config struct {
	// Window is how many reversals are in flight at once on the link, from their
	// claim to their answer. Default 64: a commit and a round trip of 10 ms
	// together give some 6,000 a second.
	Window int
	// Poll is how often the journal is asked what is due, while anything is owed.
	// Default 25 ms; the question costs a lock and a heap's root.
	Poll time.Duration
}

// Deps are the parts a worker is built from.
type Deps struct {
	Link    payment.LinkName
	Dialect *iso8583.Dialect
	Journal Journal
	// Operations may be nil where only reversals are owed.
	Operations Operations
	Sender     Sender
	// Up says whether anything can leave now; nil: always. While it cannot, nothing
	// is taken up: a node without the link opens no card in vain, and leaves what is
	// owed to those that have it.
	Up    func() bool
	Vault Opener
	// Captures opens the cards of captures and refunds, for their own purpose and
	// limit; nil: Vault does.
	Captures Opener
	Zone     Protector // nil on a link without MACs
	Now      func() payment.Instant
	Log      *slog.Logger
	// Idle says that a link owes nothing: the channel is closed when it may owe
	// something again. nil while it owes. Without it the journal is asked at
	// each poll.
	Idle func(payment.LinkName) <-chan struct{}
	// Registerer takes the worker's metrics; it adds the labels that name the
	// link. nil: they are kept to itself.
	Registerer prometheus.Registerer
}

// Worker carries one link's outbox.
type Worker struct {
	cfg     Config
	deps    Deps
	plan    *Plan
	metrics *metrics
	places  window
}

// window has a place for each entry between its claim and its answer. What is
// no reversal has fewer, as on the link: who had no place there would have to
// come again, and is better off in line here.
type window struct {
	all    chan struct{}
	others chan struct{} // also taken by what is no reversal
}

func newWindow(n int) window {
	return window{all: make(chan struct{}, n), others: make(chan struct{}, payment.PriorityMerchant.Share(n))}
}

// enter waits for a place for an entry; false: stop came first.
func (w *window) enter(o *payment.Owed, stop <-chan struct{}) bool {
	if !o.IsReversal() && !take(w.others, stop) {
		return false
	}
	if take(w.all, stop) {
		return true
	}
	if !o.IsReversal() {
		<-w.others
	}
	return false
}

func (w *window) leave(o *payment.Owed) {
	<-w.all
	if !o.IsReversal() {
		<-w.others
	}
}

func take(places chan<- struct{}, stop <-chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

// New builds a worker; Run does the work.
func New(cfg Config, deps Deps) (*Worker, error) {
	if cfg.Window == 0 {
		cfg.Window = 64
	}
	if cfg.Poll == 0 {
		cfg.Poll = 25 * time.Millisecond
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, deps: deps, plan: NewPlan(senders * cfg.Window), metrics: m, places: newWindow(cfg.Window)}, nil
}

// senders work for each place in the window: while one waits for an answer, the
// other has its own journalled. With one each, the link stands idle for half of
// the time where commits take longer than the acquirer.
const senders = 2

// Run sends until the context ends, then waits for what is in flight.
func (w *Worker) Run(ctx context.Context) {
	work := make(chan payment.Owed, senders*w.cfg.Window)
	done := make(chan uint64, senders*w.cfg.Window)
	var running sync.WaitGroup
	for range senders * w.cfg.Window {
		running.Go(func() {
			c := &Carrier{Deps: &w.deps, metrics: w.metrics, places: &w.places, stop: ctx.Done(), frame: make([]byte, 0, frameBytes)}
			for o := range work {
				pause(c.Carry(&o), ctx.Done())
				done <- o.Seq
			}
		})
	}
	w.feed(ctx, work, done)
	close(work)
	running.Wait() // done has room for every sender's last answer
}

// feed hands due entries to the senders, each once at a time.
func (w *Worker) feed(ctx context.Context, work chan<- payment.Owed, done <-chan uint64) {
	tick := time.NewTicker(w.cfg.Poll)
	defer tick.Stop()
	var due []payment.Owed
	for {
		// What is with the senders is due until it is claimed, and stands first.
		due = due[:0]
		if w.deps.Up == nil || w.deps.Up() {
			due = w.deps.Journal.Due(w.deps.Link, w.deps.Now(), senders*w.cfg.Window, due)
		}
		for _, o := range w.plan.Pick(due) {
			work <- o // never blocks: Pick stays within its window
		}
		if !w.wait(ctx, tick.C, done) {
			return
		}
	}
}

// wait returns at the next poll, or before it when a quarter of the senders has
// nothing to do: the question locks the journal and is asked once for many. No
// more is to be done when it returns false.
func (w *Worker) wait(ctx context.Context, poll <-chan time.Time, done <-chan uint64) bool {
	if w.plan.Free() == senders*w.cfg.Window && !w.rest(ctx) {
		return false
	}
	for {
		select {
		case seq := <-done:
			w.plan.Done(seq)
			if 4*w.plan.Free() >= senders*w.cfg.Window {
				return ctx.Err() == nil
			}
		case <-poll:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// rest lasts as long as the link owes nothing: a poll of each link for nothing
// was most of what woke an idle node. No more is to be done when it returns
// false.
func (w *Worker) rest(ctx context.Context) bool {
	if w.deps.Idle == nil {
		return true
	}
	owes := w.deps.Idle(w.deps.Link)
	if owes == nil {
		return true
	}
	select {
	case <-owes:
		return true
	case <-ctx.Done():
		return false
	}
}

// Carrier makes one attempt at one entry after the other, as a straight line
// that waits only in Journal and Sender: each goroutine of a Worker has one, and
// a simulation drives one as it is.
type Carrier struct {
	*Deps
	metrics *metrics
	places  *window
	stop    <-chan struct{}
	slot    payment.Slot
	card    card.Card
	frame   []byte
	answer  iso8583.Message
}

// NewCarrier is a carrier without a worker. It is used by one caller at a time.
func NewCarrier(deps Deps) (*Carrier, error) {
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	places := newWindow(1)
	return &Carrier{Deps: &deps, metrics: m, places: &places, frame: make([]byte, 0, frameBytes)}, nil
}

// frameBytes is more than any message of what is owed takes. A frame that grew
// while it is packed would leave copies of a card number that nobody wipes.
const frameBytes = 4 << 10

// Carry makes one attempt at one entry, and says how long its caller and the
// entry should rest after it. Every failure leaves it owed: the claim has
// already set the time of the next attempt, and without a claim nothing has
// changed.
func (s *Carrier) Carry(o *payment.Owed) (rest time.Duration) {
	p, err := s.Journal.Original(o.ID, o.Attempt)
	if err != nil {
		s.metrics.failed.Inc()
		s.Log.Error("owed without a readable payment", "id", o.ID.String(), "link", s.Link, "error", err)
		return unreadablePause
	}
	if !o.Operation.IsZero() {
		return s.operate(o, &p)
	}
	if o.STAN == 0 && s.Dialect.SameSTAN() {
		o.STAN = p.Intent.STAN
	}
	// The card first: an attempt that is claimed is one that can leave, and no
	// place is held while the security module is asked.
	defer s.card.Wipe()
	if err := s.Vault.Open(&s.card, &p.Intent); err != nil {
		return s.unopened(o, err)
	}
	claimed, response, verdict, sent := s.attempt(o, &p.Intent)
	if !sent {
		// The link is down or full, or the journal busy. Nothing was sent: a pause
		// keeps an outage from becoming a busy loop.
		return unavailablePause
	}
	if response == nil {
		return 0 // no answer: the claim's due time brings the repeat
	}
	s.metrics.results[verdict].Inc()
	state, err := s.Journal.Acknowledge(s.Link, o.Seq, response, verdict)
	if err != nil {
		s.metrics.failed.Inc()
		s.Log.Warn("reversal's answer not journalled; it will be repeated", "id", o.ID.String(), "link", s.Link, "error", err)
		return 0
	}
	if state == payment.StateReversed {
		s.Vault.Forget(o.ID)
	}
	s.report(&claimed, response, verdict, state)
	return 0
}

// attempt claims an entry and sends it, inside one place of the window. Not
// sent: nothing was claimed either.
func (s *Carrier) attempt(o *payment.Owed, i *payment.Intent) (claimed payment.Owed, r *payment.Response, v payment.AdviceVerdict, sent bool) {
	if !s.places.enter(o, s.stop) {
		return claimed, nil, v, false
	}
	defer s.places.leave(o)
	s.slot = payment.Slot{Link: s.Link}
	if err := s.Sender.ReserveOwed(&s.slot, o, i.RRN); err != nil {
		return claimed, nil, v, false
	}
	claimed, err := s.claim(o)
	if err != nil {
		s.Sender.Release(&s.slot)
		s.metrics.failed.Inc()
		s.Log.Warn("what is owed is not claimed", "id", o.ID.String(), "link", s.Link, "error", err)
		return claimed, nil, v, false
	}
	r, v = s.transmit(&claimed, i)
	return claimed, r, v, true
}

// unopened says why an entry must wait. That the security module is away is not
// said for each: its own metrics and the age of what is owed tell.
func (s *Carrier) unopened(o *payment.Owed, err error) (rest time.Duration) {
	if errors.Is(err, payment.ErrUnavailable) {
		s.metrics.waiting.Inc()
		return unavailablePause
	}
	s.metrics.failed.Inc()
	s.Log.Error("owed: sealed card cannot be opened", "id", o.ID.String(), "link", s.Link, "error", err)
	return unreadablePause
}

// pause keeps a sender and its entry idle, but not past a stop.
func pause(d time.Duration, stop <-chan struct{}) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop:
	}
}

// Pauses of one sender when it cannot work; its entry stays with it meanwhile.
const (
	unreadablePause  = time.Second
	unavailablePause = 100 * time.Millisecond
)

// transmittedDE names a transmission among those of one trace number.
const transmittedDE = 7

// transmit packs a claimed entry, sends it and reads the answer. A nil response
// with AdviceRepeat means that no usable answer came.
func (s *Carrier) transmit(o *payment.Owed, i *payment.Intent) (*payment.Response, payment.AdviceVerdict) {
	frame, err := s.encode(o, i)
	if err != nil {
		s.Sender.Release(&s.slot)
		s.metrics.failed.Inc()
		s.Log.Error("what is owed cannot be encoded", "id", o.ID.String(), "link", s.Link, "kind", o.Kind.String(), "error", err)
		return nil, payment.AdviceNotSent
	}
	s.frame = frame
	defer clear(s.frame)
	if s.Zone != nil {
		if err := s.Zone.Protect(s.mti(o), s.frame, s.slot.SendBy); err != nil {
			s.Sender.Release(&s.slot)
			s.metrics.failed.Inc()
			s.Log.Error("what is owed cannot be authenticated; it is tried again", "id", o.ID.String(), "link", s.Link, "error", err)
			return nil, payment.AdviceNotSent
		}
	}
	defer s.answer.Wipe()
	s.metrics.transmitted(o.Tries)
	if err := s.Sender.Exchange(&s.slot, i, s.frame, &s.answer); err != nil {
		if errors.Is(err, payment.ErrNotSent) {
			s.metrics.notSent.Inc()
			return nil, payment.AdviceNotSent
		}
		s.metrics.unanswered.Inc()
		s.Log.Debug("what is owed is unanswered", "id", o.ID.String(), "link", s.Link, "tries", o.Tries, "error", err)
		return nil, payment.AdviceRepeat
	}
	var r payment.Response
	if err := s.decode(o, &r); err != nil {
		s.metrics.unanswered.Inc()
		s.Log.Warn("answer to what is owed cannot be read", "id", o.ID.String(), "link", s.Link, "error", err)
		return nil, payment.AdviceRepeat
	}
	if o.Tries > 1 && s.Dialect.AcknowledgesRepeat(&r) {
		r.Advice = payment.AdviceAcknowledged // "duplicate": an earlier transmission was processed
	}
	if r.Advice == payment.AdviceNotFound && !o.Approved && s.askedTooEarly(o) {
		s.metrics.unanswered.Inc()
		return nil, payment.AdviceRepeat
	}
	return &r, r.Advice
}

// askedTooEarly says whether an answer may be to what was asked while the
// original could still arrive behind its reversal, by this transmission or an
// earlier one: it may have come since. The claim says so: one made later is due
// again later. Where the peer puts its own time into DE 7, an answer does not say
// which transmission it is to, and every one would be too early for ever.
func (s *Carrier) askedTooEarly(o *payment.Owed) bool {
	if o.Due <= o.LifeOver {
		return true
	}
	at := s.answer.Bytes(transmittedDE)
	return len(at) > 0 && !s.Dialect.Correlation().PeerSetsTransmitted && string(at) != string(o.Transmitted.Append(nil))
}

func (s *Carrier) encode(o *payment.Owed, i *payment.Intent) ([]byte, error) {
	if o.IsReversal() {
		return s.Dialect.EncodeReversal(s.frame[:0], o, i, &s.card)
	}
	return s.Dialect.EncodeOperation(s.frame[:0], o, i, &s.card)
}

// mti is the type of the message that is owed, without its repeat bit.
func (s *Carrier) mti(o *payment.Owed) iso8583.MTI {
	if o.IsReversal() {
		return s.Dialect.ReversalMTI()
	}
	return iso8583.MTI(o.MTI)
}

func (s *Carrier) decode(o *payment.Owed, r *payment.Response) error {
	if o.IsReversal() {
		return s.Dialect.DecodeReversal(&s.answer, r)
	}
	return s.Dialect.DecodeAdvice(&s.answer, r)
}

// report logs what a person should see: the end of a reversal that had trouble,
// and every exception.
func (s *Carrier) report(o *payment.Owed, r *payment.Response, v payment.AdviceVerdict, state payment.State) {
	attributes := []any{"id", o.ID.String(), "link", s.Link, "stan", o.STAN.String(), "tries", o.Tries, "response_code", r.Code.String(), "state", state.String()}
	switch {
	case v == payment.AdviceExceptional || state == payment.StateException:
		s.Log.Error("reversal needs a person", attributes...)
	case v == payment.AdviceAcknowledged || state == payment.StateReversed:
		s.Log.Info("reversal acknowledged", attributes...)
	default:
		s.Log.Info("reversal to be repeated", attributes...)
	}
}
