package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Keys is the other half of a key exchange: the security module that opens and
// makes keys, and the journal that keeps them.
type Keys interface {
	// Take keeps a key that the peer sent, pending.
	Take(k payment.OfferedKey) (*payment.Key, error)
	// Make makes a key for the peer and keeps it, pending.
	Make(usage payment.KeyUsage) (payment.OfferedKey, *payment.Key, error)
	// Settle ends an exchange: the key becomes active, is forgotten, or stays
	// pending because nobody knows whether the peer took it.
	Settle(k *payment.Key, r payment.KeyResult) error
	// Wanted are the keys that the link needs and has no active one of, or one of
	// which it is not known whether the peer took it; with all, every key it needs.
	Wanted(all bool) []payment.KeyUsage
}

// Errors of an exchange that starts here.
var (
	ErrNoExchange = errors.New("the link exchanges no keys of its own accord")
	ErrKeyRefused = errors.New("the peer refused the key")
	ErrKeyUnknown = errors.New("the peer did not answer: it is not known whether it took the key")
)

// A link without a key it needs, or with one in doubt, looks every wantedEvery
// whether it is ready, and asks for keys; again after wantedAgain.
const (
	wantedEvery = 100 * time.Millisecond
	wantedAgain = 5 * time.Second
)

// maxExchanges bounds the exchanges that wait.
const maxExchanges = 16

// exchanges carries out key exchanges, one after the other: each is a
// conversation of the security module, the journal and the peer.
type exchanges struct {
	link  *Link
	keys  Keys
	rule  iso8583.KeyExchangeRule
	jobs  chan exchangeJob
	heard chan keyAnswer  // to the exchange under way
	tried payment.Instant // when keys that are wanted were last asked for
}

// exchangeJob is a key of the peer's, or the wish for new ones.
type exchangeJob struct {
	station *station
	life    uint32
	message *iso8583.Message // the peer's 0800, nil for ours
	usages  []payment.KeyUsage
	done    chan error // nil: nobody waits
}

// keyAnswer is the peer's 0810 to our key exchange.
type keyAnswer struct {
	accepted bool
	code     payment.ResponseCode
	offered  payment.OfferedKey
}

func newExchanges(l *Link) *exchanges {
	return &exchanges{
		link: l, keys: l.deps.Keys, rule: l.dialect.Security().KeyExchange,
		jobs: make(chan exchangeJob, maxExchanges), heard: make(chan keyAnswer, 1),
	}
}

// secure sets up what a link with MACs or key exchange has besides.
func (l *Link) secure() {
	if l.deps.Guard != nil && l.dialect.HasMAC() {
		l.core.macKey = l.deps.Guard.MACKey
		l.core.carriesMAC = func(frame []byte) bool {
			_, _, ok := l.dialect.MACSpan(frame)
			return ok
		}
		l.verifier = newVerifier(l)
		l.protecting = make(chan protectJob, maxExchanges)
	}
	if l.deps.Keys != nil && l.dialect.Security().KeyExchange.Possible() {
		l.exchanges = newExchanges(l)
		l.core.keyMessage = l.exchanges.offered
		l.core.keyAnswer = l.exchanges.answered
	}
}

// run carries out exchanges until the context ends, and asks for keys that are
// wanted.
func (x *exchanges) run(ctx context.Context) {
	tick := time.NewTicker(wantedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-x.jobs:
			err := x.carryOut(ctx, &j)
			if j.done != nil {
				j.done <- err
			} else if err != nil && !errors.Is(err, ErrNoExchange) {
				x.link.deps.Log.Error("key exchange failed", "error", err)
			}
		case <-tick.C:
			if now := x.link.deps.Now(); x.rule.Initiate != "" && now-x.tried >= payment.Instant(wantedAgain) && x.link.Ready() {
				if wanted := x.keys.Wanted(false); len(wanted) > 0 {
					x.tried = now
					x.want(wanted)
				}
			}
		}
	}
}

// want asks for an exchange without waiting for it.
func (x *exchanges) want(usages []payment.KeyUsage) {
	select {
	case x.jobs <- exchangeJob{usages: usages}:
	default: // enough wait already
	}
}

// offered takes the peer's 0800 with a key. Under Link.mu: it only queues. false
// when no more can be queued: the peer is refused, and asks again.
func (x *exchanges) offered(st *station, m *iso8583.Message) bool {
	select {
	case x.jobs <- exchangeJob{station: st, life: st.life, message: own(m)}:
		return true
	default:
		return false
	}
}

// answered takes the peer's 0810. Under Link.mu.
func (x *exchanges) answered(n payment.NetworkMessage) {
	a := keyAnswer{accepted: n.Accepted, code: n.Code, offered: payment.OfferedKey{
		Usage: n.KeyUsage, Key: append([]byte(nil), n.Key...), Check: append([]byte(nil), n.Check...),
	}}
	select {
	case x.heard <- a:
	default:
	}
}

func (x *exchanges) carryOut(ctx context.Context, j *exchangeJob) error {
	if j.message != nil {
		defer j.message.Wipe()
		return x.receive(j)
	}
	if x.rule.Initiate == "" {
		return ErrNoExchange
	}
	var faults []error
	for _, usage := range j.usages {
		if err := x.initiate(ctx, usage); err != nil {
			faults = append(faults, fmt.Errorf("%s key: %w", usage, err))
		}
	}
	return errors.Join(faults...)
}

// receive takes the peer's key: imported, its check value right, durable as
// pending; then the peer's 0810; then it is active. A peer that never sees the
// 0810 keeps the old key, which goes on verifying through the overlap.
func (x *exchanges) receive(j *exchangeJob) error {
	l := x.link
	n, _ := l.dialect.DecodeNetwork(j.message)
	k, err := x.keys.Take(payment.OfferedKey{Usage: n.KeyUsage, Key: n.Key, Check: n.Check})
	code, check := l.codec.accept, []byte(nil)
	if err != nil {
		code = l.codec.unsupported
	} else {
		check = k.CheckValue
	}
	unsent := x.answer(j, code, check)
	switch {
	case err != nil:
		return fmt.Errorf("a key of the peer's: %w", err)
	case unsent != nil:
		return errors.Join(fmt.Errorf("a key of the peer's: %w", unsent), x.keys.Settle(k, payment.KeyNotTaken))
	}
	return x.keys.Settle(k, payment.KeyTaken)
}

// answer puts the 0810 to a key of the peer's on its way. Its MAC is made here
// and not by keepProtecting: under the new key, or after what is under the new
// key, the peer could not believe it, and would go on with the old one alone.
func (x *exchanges) answer(j *exchangeJob, code payment.ResponseCode, check []byte) error {
	l := x.link
	frame, err := l.dialect.EncodeKeyAnswer(nil, j.message, code, check)
	if err != nil {
		return err
	}
	if l.core.carriesMAC(frame) {
		if err := l.protect(frame); err != nil {
			return err
		}
	}
	err = errUnwritten
	l.do(func(moment) {
		if j.station.life == j.life && j.station.machine.state != Down {
			j.station.queue(l.core.framer, frame, noPlace)
			err = nil
		}
	})
	return err
}

// protect makes the MAC of a message of the link's own.
func (l *Link) protect(frame []byte) error {
	var m iso8583.Message
	if err := l.dialect.Unpack(&m, frame); err != nil {
		return err
	}
	return l.deps.Guard.Protect(m.MTI(), frame, l.deps.Now()+payment.Instant(checkFor))
}

// initiate starts an exchange of one key.
func (x *exchanges) initiate(ctx context.Context, usage payment.KeyUsage) error {
	request := payment.NetworkRequest{Function: payment.KeyExchange, KeyUsage: usage.String()}
	var made *payment.Key
	if x.rule.Sends() {
		offered, k, err := x.keys.Make(usage)
		if err != nil {
			return err
		}
		request.Key, request.Check, made = offered.Key, offered.Check, k
	}
	a, err := x.ask(ctx, request)
	switch {
	case errors.Is(err, payment.ErrNotSent):
		return x.settle(made, payment.KeyNotTaken, err)
	case err != nil:
		return x.settle(made, payment.KeyInDoubt, err)
	case !a.accepted:
		return x.settle(made, payment.KeyNotTaken, fmt.Errorf("%w: %s", ErrKeyRefused, a.code))
	case made != nil:
		return x.settle(made, payment.KeyTaken, nil)
	case len(a.offered.Key) == 0:
		return nil // the peer sends it with an 0800 of its own
	}
	k, err := x.keys.Take(a.offered)
	if err != nil {
		return err
	}
	return x.settle(k, payment.KeyTaken, nil)
}

// settle settles a key, if there is one, and keeps the reason.
func (x *exchanges) settle(k *payment.Key, r payment.KeyResult, why error) error {
	if k == nil {
		return why
	}
	return errors.Join(why, x.keys.Settle(k, r))
}

// ask sends our 0800 on a connection that is ready and waits for its 0810.
func (x *exchanges) ask(ctx context.Context, n payment.NetworkRequest) (keyAnswer, error) {
	l := x.link
	select {
	case <-x.heard: // of an exchange that was given up
	default:
	}
	sent := false
	l.do(func(now moment) {
		for _, st := range l.core.stations {
			if st.accepting() {
				sent = l.core.askWith(st, n)
				return
			}
		}
	})
	if !sent {
		return keyAnswer{}, errUnwritten
	}
	timer := time.NewTimer(l.cfg.SignOnTimeout)
	defer timer.Stop()
	select {
	case a := <-x.heard:
		return a, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return keyAnswer{}, ErrKeyUnknown
}

// ExchangeKeys starts an exchange of the link's PIN and MAC keys and waits for
// its end.
func (l *Link) ExchangeKeys(ctx context.Context, usages ...payment.KeyUsage) error {
	if l.exchanges == nil {
		return ErrNoExchange
	}
	j := exchangeJob{usages: usages, done: make(chan error, 1)}
	select {
	case l.exchanges.jobs <- j:
	case <-ctx.Done():
		return fmt.Errorf("link %s: exchanging keys: %w", l.cfg.Name, ctx.Err())
	}
	select {
	case err := <-j.done:
		return err
	case <-l.ending:
		return fmt.Errorf("link %s: exchanging keys: %w", l.cfg.Name, payment.ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("link %s: exchanging keys: %w", l.cfg.Name, ctx.Err())
	}
}

// KeyUsages are the keys that an exchange gives the link.
func (l *Link) KeyUsages() []payment.KeyUsage {
	if l.exchanges == nil {
		return nil
	}
	return l.exchanges.keys.Wanted(true)
}

// WantKeys asks for an exchange and does not wait for it.
func (l *Link) WantKeys(usages ...payment.KeyUsage) {
	if l.exchanges != nil {
		l.exchanges.want(usages)
	}
}

// Ready says whether a connection is signed on: what is owed can leave.
func (l *Link) Ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.state() == Ready
}

// protectJob is a message of the link's own that must leave with a MAC.
type protectJob struct {
	station *station
	life    uint32
	frame   []byte
}

// keepProtecting gives the link's own messages their MACs: packing happens under
// the lock, where nothing may wait for the security module.
func (l *Link) keepProtecting(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-l.protecting:
			if err := l.protect(j.frame); err != nil {
				l.deps.Log.Error("a network message has no MAC and does not leave", "error", err)
				continue
			}
			l.do(func(moment) {
				if j.station.life == j.life {
					j.station.queue(l.core.framer, j.frame, noPlace)
				}
			})
		}
	}
}
